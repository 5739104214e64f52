"""Tuned settings are run again on the days they were tuned on: what another decision path made of them is seen."""

import json
from pathlib import Path

import pytest

from controller.errors import ConfigError
from experiments.benchmark_cells import CellResult, run_cell
from experiments.fanout import open_workers
from experiments.search_plan import StopRule
from experiments.study import run_study
from experiments.study_again import FoundAgain, KeptStudy, cells_of, found_again, kept_study
from experiments.study_config import study_config
from experiments.study_summary import commit_study
from experiments.world_ref import named_days


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a short study on two days."""
    folder = tmp_path_factory.mktemp("study")
    config = study_config("reactive", named_days(["tiny"], days=(2, 3)))
    with open_workers(1) as workers:
        result = run_study(config, StopRule(trials=3), folder / "run", workers)
    return commit_study(result, folder)[0]


@pytest.fixture(scope="module")
def study(settings: Path) -> KeptStudy:
    return kept_study(settings, "tiny")


@pytest.fixture(scope="module")
def finished(study: KeptStudy) -> dict[str, CellResult]:
    """Its days, run as the cells of a benchmark are."""
    return {key: run_cell(cell) for key, cell in cells_of([study]).items()}


def dearer(finished: dict[str, CellResult], factor: float) -> dict[str, CellResult]:
    """The same days at another price."""
    changed = {}
    for key, result in finished.items():
        days = [day.model_copy(update={"cost_usd": factor * day.cost_usd}) for day in result.days]
        changed[key] = result.model_copy(update={"days": tuple(days)})
    return changed


def test_the_same_code_comes_to_the_same_value(study: KeptStudy, finished: dict[str, CellResult]) -> None:
    assert len(finished) == 2
    assert study.value == json.loads(study.path.with_suffix(".json").read_text())["value"]["best"]
    found = found_again(study, finished)
    assert found == FoundAgain(study.path, study.value, study.value)
    assert found.holds


def test_code_under_which_settings_cost_otherwise_is_found_out(
    study: KeptStudy, finished: dict[str, CellResult]
) -> None:
    found = found_again(study, dearer(finished, 1.01))
    assert found.now == pytest.approx(1.01 * study.value)
    assert not found.holds
    assert found_again(study, dearer(finished, 1.004)).holds


def test_each_study_gets_its_own_days(study: KeptStudy, finished: dict[str, CellResult], tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(study.path.read_text())
    summary = json.loads(study.path.with_suffix(".json").read_text())
    # One day, on which what counts as 1 costs half as much.
    halved = [{**world, "reference_usd": 0.5 * world["reference_usd"]} for world in summary["worlds"][:1]]
    path.with_suffix(".json").write_text(json.dumps({**summary, "worlds": halved}))
    other = kept_study(path, "tiny")
    assert cells_of([study, other]).keys() == finished.keys()
    assert found_again(other, finished).now == pytest.approx(2.0 * other.value)


def test_a_day_that_a_benchmark_cannot_name_is_refused(study: KeptStudy, tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    summary = json.loads(study.path.with_suffix(".json").read_text())
    scaled = [{**world, "choice": {"scale": 2.0}} for world in summary["worlds"]]
    path.with_suffix(".json").write_text(json.dumps({**summary, "worlds": scaled}))
    with pytest.raises(ConfigError, match=r"worlds\[0\]\.choice: expected nothing, got .*2\.0"):
        kept_study(path, "tiny")


@pytest.mark.parametrize(("now", "holds"), [(0.8, True), (0.8039, True), (0.7961, True), (0.8041, False), (0.7, False)])
def test_a_difference_counts_in_both_directions(now: float, holds: bool) -> None:
    assert FoundAgain(Path("mpc.yaml"), 0.8, now).holds == holds


def test_a_scenario_is_found_wherever_its_study_was_made(study: KeptStudy, tmp_path: Path) -> None:
    summary = json.loads(study.path.with_suffix(".json").read_text())
    elsewhere = [{**world, "scenario": "elsewhere/tiny.yaml"} for world in summary["worlds"]]
    path = tmp_path / "other.yaml"
    path.with_suffix(".json").write_text(json.dumps({**summary, "worlds": elsewhere}))
    assert kept_study(path, "tiny").cells == study.cells
