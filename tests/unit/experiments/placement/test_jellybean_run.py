"""The workflow experiment from end to end, on a few targets and random instances."""

import json

import numpy as np
import pytest

from controller import cli
from controller.planners.workflow.compiled import Cost
from experiments.placement import jellybean_run, jellybean_study
from experiments.placement.jellybean_run import checks_of, run_jellybean
from experiments.placement.jellybean_study import (
    JellyBean,
    RandomRow,
    SimulatedRow,
    TargetRow,
    gaps,
    worst_over_baselines,
)
from experiments.placement.random_workflows import random_problem
from experiments.placement.replanning import Ran

DRIFTING = [Ran("held", 6.0, 0.75, 0.0, (0.56,)), Ran("anew", 6.5, 0.9998, 0.0, (0.56,), 10, 6, 8, 0.0368)]

HELD = 23
"""Rows of the check."""


@pytest.fixture(scope="module")
def ran(data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("jellybean")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROVISOR_DATA", str(data_dir))
        patch.setattr(jellybean_study, "TARGETS", (54.0, 56.0, 58.3))
        # Small ones: brute force of eight workers takes seconds.
        patch.setattr(jellybean_study, "random_problem", lambda seed: random_problem((9, 13)[seed]))
        # Kernels are not compiled here: the simulated hour has its own test.
        patch.setattr(jellybean_study, "measure_simulated", lambda *_: SimulatedRow(0.001, 0.999, 0.99))
        patch.setattr(jellybean_study, "measure_drifting", lambda _: DRIFTING)
        told = []
        holds = run_jellybean(folder, 2, told.append)
    return folder, holds, told


def test_every_value_meets_its_bar(ran):
    folder, holds, _ = ran
    checks = json.loads((folder / "checks.json").read_text())
    assert len(checks) == HELD
    # Seconds depend on the machine.
    assert all(check["holds"] for check in checks if not check["what"].startswith("seconds")), checks
    assert holds or any(check["what"].startswith("seconds") for check in checks if not check["holds"])


def test_results_page_and_plot_are_written(ran):
    folder, _, told = ran
    results = json.loads((folder / "results.json").read_text())
    assert [row["target"] for row in results["targets"]] == [54.0, 56.0, 58.3]
    assert len(results["randoms"]) == 2
    page = (folder / "report.html").read_text()
    assert page.count("<svg") == 1
    assert "http" not in page.replace("http://www.w3.org", "")
    assert (folder / "targets.png").stat().st_size > 10_000
    assert any("vehicle tracking" in line for line in told)
    assert any("8 workers started for 0.0368 $" in line for line in told)


def test_gaps_count_a_planner_that_finds_nothing_as_infinitely_off():
    rows = [
        RandomRow(seed=0, workers=4, operators=2, brute_force=2.0, exact=2.0, fast=2.1, published=None),
        RandomRow(seed=1, workers=4, operators=2, brute_force=1.0, exact=1.0, fast=1.0, published=1.5),
    ]
    np.testing.assert_allclose(gaps(rows, "fast"), [0.05, 0.0])
    np.testing.assert_allclose(gaps(rows, "published"), [np.inf, 0.5])


def test_a_planner_above_one_baseline_is_above_one():
    def row(fast, baselines):
        return TargetRow(target=56.0, exact=1.0, gap=0.0, fast=fast, published=1.0, baselines=baselines)

    assert worst_over_baselines([row(2.0, {"a": 4.0, "b": None})], "fast") == 0.5
    assert worst_over_baselines([row(2.0, {"a": 4.0, "b": 1.6})], "fast") == 1.25
    assert worst_over_baselines([row(None, {"a": 4.0})], "fast") == np.inf


def test_a_value_that_falls_short_is_told(ran, monkeypatch):
    monkeypatch.setattr(jellybean_run, "PUBLISHED_BAR", 7.5)
    folder, _, _ = ran
    kept = json.loads((folder / "results.json").read_text())
    found = JellyBean(
        authors=Cost(**{**kept["authors"], "faults": ()}),
        main=TargetRow(**kept["main"]),
        main_accuracy=kept["main_accuracy"],
        most_accurate=kept["most_accurate"],
        targets=tuple(TargetRow(**row) for row in kept["targets"]),
        randoms=tuple(RandomRow(**row) for row in kept["randoms"]),
        seconds={},
        simulated={},
        drifting=tuple(DRIFTING),
    )
    short = [check for check in checks_of(found) if not check.holds]
    assert [check.what for check in short] == ["published algorithm at 56.0"]


def test_without_the_data_the_command_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("PROVISOR_DATA", raising=False)
    assert cli.main(["experiment", "jellybean", "--check", "--out", str(tmp_path / "out")]) == 2
    assert "PROVISOR_DATA" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
