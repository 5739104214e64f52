"""Parts of the live study that need no live run."""

import pytest

from controller.errors import UsageError
from experiments import bench_live
from experiments.live_study import checks_of, run_study


def test_steadiness_alone_is_measured_without_a_live_run(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.steadiness.changes_per_hour", lambda _policy: [1.0, 2.5])
    study = run_study(tmp_path, lambda line: None, ["steadiness"])
    (check,) = checks_of(study)
    assert check.holds
    assert check.measured.startswith("1.75")
    assert (study.faults, study.parity, study.router) == ((), None, None)


def test_router_alone_is_measured_beside_its_bars(tmp_path, monkeypatch):
    found = {"router_added_ms_p50": 2.5, "router_throughput_share": 0.95}
    monkeypatch.setattr(bench_live, "router_added", lambda: found)
    study = run_study(tmp_path, lambda line: None, ["router"])
    assert [check.holds for check in checks_of(study)] == [False, True]


def test_part_that_is_none_is_refused(tmp_path):
    with pytest.raises(UsageError, match="steadiness"):
        run_study(tmp_path, lambda line: None, ["flaps"])
