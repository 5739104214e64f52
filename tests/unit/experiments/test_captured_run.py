"""Captured traffic becomes all that a training needs, with days that share nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller import cli
from controller.arrays import empty_actions, empty_observation, empty_plan
from controller.errors import TraceError, UsageError
from controller.journal import Journal
from controller.journal_writer import JournalWriter
from controller.replay import make_header
from controller.scenario import load_scenario
from envs.world import build_world
from experiments.captured_run import _in_days, write_captured_run
from experiments.run_config import load_run
from experiments.train import training_worlds
from tests.tiny import tiny_setting
from traces.readers import read_trace
from traces.trace import Trace

SPEED = 20.0


def journal_of(path: Path, arrivals: list[tuple[int, int]], **changes: Any) -> Journal:
    setting = tiny_setting(**changes)
    with JournalWriter(path, make_header(setting, "mpc", "mpc", (), "simulated")) as journal:
        for tick, counts in enumerate([(0, 0), *arrivals]):
            seen = empty_observation(1, setting.shape)
            seen.tick[0], seen.arrivals[0] = tick, counts
            rest = empty_plan(1, setting.shape), empty_actions(1, setting.shape), np.zeros((1, 2, 3, 4))
            journal.write(seen, np.zeros((1, 0)), *rest)
    return Journal(path)


def test_short_capture_is_cut_into_parts_that_each_fill_a_day(tmp_path: Path) -> None:
    trace = Trace("t", np.arange(1, 101), 10.0)
    whole, splits, is_repeated = _in_days(trace)
    assert is_repeated
    assert splits == {"train": [1, 1], "validation": [2, 2], "test": [3, 3]}
    assert whole.days == 3
    days = [set(whole.slice_days(day, day).counts[0].tolist()) for day in (1, 2, 3)]
    # Sixty, twenty and twenty bins of the hundred, and no day holds one of another's.
    assert days == [set(range(1, 61)), set(range(61, 81)), set(range(81, 101))]


def test_unknown_bins_are_left_out_of_what_is_repeated() -> None:
    valid = np.ones(100, bool)
    valid[10:20] = False
    whole, _, _ = _in_days(Trace("t", np.arange(1, 101), 10.0, valid=valid))
    assert not set(range(11, 21)) & set(whole.counts[0].tolist())


@pytest.mark.parametrize(("days", "expected"), [(3, (1, 2, 3)), (10, (6, 8, 10))])
def test_whole_days_are_split_in_their_order(days: int, expected: tuple[int, int, int]) -> None:
    trace = Trace("t", np.ones(days * 24 + 5, np.int64), 3600.0)
    whole, splits, is_repeated = _in_days(trace)
    assert not is_repeated
    assert whole.days == days
    assert tuple(last for _, last in splits.values()) == expected


def test_what_was_measured_at_the_runs_speed_is_not_in_the_captured_scenario(tmp_path: Path) -> None:
    spans = {"start_s": 1.4, "swap_s": 1.3}
    journal = journal_of(tmp_path / "j.jsonl", [(6, 2)] * 40, speed=SPEED, measured=spans)
    write_captured_run(journal, tmp_path / "run")
    scenario = load_scenario(load_run(tmp_path / "run" / "run.yaml").scenario)
    assert (scenario.speed, scenario.measured) == (1.0, None)


def test_written_run_trains_on_the_captured_rate_and_mix(tmp_path: Path) -> None:
    journal = journal_of(tmp_path / "j.jsonl", [(6, 2)] * 40, speed=SPEED)
    done = write_captured_run(journal, tmp_path / "run")
    run = load_run(tmp_path / "run" / "run.yaml")
    assert [world.days for worlds in training_worlds(run) for world in worlds] == [(1,), (2,)]
    scenario = load_scenario(run.scenario)
    assert scenario.speed == 1.0
    assert [one.share for one in scenario.workload.classes] == [0.75, 0.25]
    # Eight requests in half a live second: the machines must meet the rate they met, whatever the speed.
    assert scenario.mean_rps == pytest.approx(16.0)
    world = build_world(scenario)
    assert world.setting.source.fingerprint == journal.header.catalog_fingerprint
    np.testing.assert_allclose(world.rate_rps[0, 100:200].mean(), 16.0, rtol=1e-3)
    assert done.is_repeated


def test_settings_of_another_run_are_taken_over(tmp_path: Path) -> None:
    like = tmp_path / "like.yaml"
    like.write_text("name: mine\nscenario: demo\ntrain: {steps: 77}\npolicies: [reactive]\n", encoding="utf-8")
    write_captured_run(journal_of(tmp_path / "j.jsonl", [(6, 2)] * 40), tmp_path / "run", str(like))
    run = load_run(tmp_path / "run" / "run.yaml")
    assert (run.name, run.train.steps, run.policies) == ("captured", 77, ("reactive",))
    assert run.scenario == str(tmp_path / "run" / "scenario.yaml")


def test_what_cannot_be_trained_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="capture: expected at least 30 bins, got 20"):
        write_captured_run(journal_of(tmp_path / "a.jsonl", [(6, 2)] * 20), tmp_path / "a")
    quiet_first = [(0, 0)] * 40 + [(1, 1)] * 20
    with pytest.raises(TraceError, match="expected requests in the first part of the capture"):
        write_captured_run(journal_of(tmp_path / "b.jsonl", quiet_first), tmp_path / "b")
    journal = journal_of(tmp_path / "c.jsonl", [(6, 2)] * 40)
    write_captured_run(journal, tmp_path / "c")
    with pytest.raises(UsageError, match="--force replaces it"):
        write_captured_run(journal, tmp_path / "c")


def test_verb_writes_a_trace_that_reads_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal_of(tmp_path / "j.jsonl", [(6, 2), (0, 3)])
    words = ["capture", str(tmp_path / "j.jsonl"), "--out", str(tmp_path / "arrivals.npz")]
    assert cli.main(words) == 0
    assert "11 requests of 2 classes in 2 ticks" in capsys.readouterr().out
    assert read_trace(tmp_path / "arrivals.npz").counts.tolist() == [[6, 0], [2, 3]]
    assert cli.main(words) == 2  # the file is there
    assert cli.main([*words, "--force"]) == 0
    assert cli.main(["capture", str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "x.npz")]) == 2
