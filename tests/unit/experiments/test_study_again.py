"""Tuned settings are run again on the days they were tuned on: what another decision path made of them is seen."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from experiments.day_outcome import DayJob, DayOutcome, run_day
from experiments.objective import Outcome
from experiments.search_plan import StopRule
from experiments.study import run_study
from experiments.study_again import FoundAgain, kept_study, run_again
from experiments.study_config import study_config
from experiments.study_summary import commit_study
from experiments.world_ref import named_days

FLEET = "tests.tuned_policy:Fleet"


@dataclass
class Days:
    """Stand-in for days: every machine costs `usd`, and nothing is missed; without a price nothing can be run."""

    usd: float | None = 2.0
    count = 1

    def run(self, function: Callable[[DayJob], DayOutcome], items):
        assert function is run_day
        for index, job in enumerate(items):
            if self.usd is None:
                yield index, DayOutcome(None, 0.0, "refused")
                continue
            cost, answered = np.array([self.usd * int(job.settings["machines"])]), np.array([[1000, 1000]])
            yield index, DayOutcome(Outcome(cost, answered, 0 * answered, answered, answered * 0.9), 0.5)


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Of a short study on two days."""
    config = study_config(FLEET, named_days(["tiny"], days=(2, 3)), name="fleet")
    result = run_study(config, StopRule(trials=5), tmp_path / "run", Days())
    return commit_study(result, tmp_path)[0]


def test_the_same_code_comes_to_the_same_value(settings: Path) -> None:
    study = kept_study(settings, "tiny")
    assert study.value == json.loads(settings.with_suffix(".json").read_text())["value"]["best"]
    (found,) = run_again([study], Days())
    assert found == FoundAgain(settings, study.value, study.value)
    assert found.holds


def test_code_under_which_settings_cost_otherwise_is_found_out(settings: Path) -> None:
    study = kept_study(settings, "tiny")
    (found,) = run_again([study], Days(usd=2.02))
    assert found.now == pytest.approx(1.01 * study.value)
    assert not found.holds


def test_settings_that_cannot_be_run_any_more_are_found_out(settings: Path) -> None:
    (found,) = run_again([kept_study(settings, "tiny")], Days(usd=None))
    assert found.now == float("inf")
    assert not found.holds


def test_each_study_gets_its_own_days(settings: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(settings.read_text())
    summary = json.loads(settings.with_suffix(".json").read_text())
    # One day, on which what counts as 1 costs half as much.
    halved = [{**world, "reference_usd": 0.5 * world["reference_usd"]} for world in summary["worlds"][:1]]
    other.with_suffix(".json").write_text(json.dumps({**summary, "worlds": halved}))
    first, second = run_again([kept_study(one, "tiny") for one in (settings, other)], Days())
    assert (first.path, second.path) == (settings, other)
    assert second.now == pytest.approx(2.0 * first.now)
    assert (first.holds, second.holds) == (True, False)


@pytest.mark.parametrize(("now", "holds"), [(0.8, True), (0.8039, True), (0.7961, True), (0.8041, False), (0.7, False)])
def test_a_difference_counts_in_both_directions(now: float, holds: bool) -> None:
    assert FoundAgain(Path("mpc.yaml"), 0.8, now).holds == holds


def test_a_scenario_is_found_wherever_its_study_was_made(settings: Path) -> None:
    path = settings.with_suffix(".json")
    summary = json.loads(path.read_text())
    elsewhere = [{**world, "scenario": "elsewhere/tiny.yaml"} for world in summary["worlds"]]
    path.write_text(json.dumps({**summary, "worlds": elsewhere}))
    study = kept_study(settings, "tiny")
    assert [(job.world.scenario, job.world.day) for job in study.jobs] == [("tiny", 2), ("tiny", 3)]
