"""The scenario of a calibration holds the measured arrivals and finds its catalog; files are written whole or not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.errors import ConfigError, UsageError
from controller.scenario import Scenario, load_scenario
from experiments.calibrated import calibrated_scenario, require_new, write_whole
from experiments.calibration import GAP_CV, RATE, Fit
from experiments.fitting import Estimate
from experiments.journal_samples import Source


def fit(what: str, value: float, se: float) -> Fit:
    return Fit(what, "all classes", Estimate(value, se, 500), before=1.0, samples=500, held=0, needed=30)


def written(scenario: Scenario, *fits: Fit, catalog: str = "new.yaml", path: str = "scenario.yaml") -> dict[str, Any]:
    source = Source("run/journal.jsonl", "0" * 64, 50, True, scenario)
    return yaml.safe_load(calibrated_scenario(list(fits), [source], Path(catalog), Path(path)))


def test_the_scenario_has_the_measured_rate_at_speed_one(make_scenario: Callable[..., Scenario]) -> None:
    made = written(make_scenario(speed=20.0), fit(RATE, 41.23456, 0.5))
    assert (made["mean_rps"], made["speed"]) == (41.235, 1.0)


def test_what_was_measured_at_a_runs_speed_is_not_in_the_scenario_at_speed_one(
    make_scenario: Callable[..., Scenario],
) -> None:
    made = written(make_scenario(speed=20.0, measured={"start_s": 1.4, "swap_s": 1.3}), fit(RATE, 41.23456, 0.5))
    assert made["speed"] == 1.0
    assert "measured" not in made


@pytest.mark.parametrize(
    ("cv", "se", "arrivals"),
    [
        (1.19, 0.1, {"kind": "poisson"}),
        (1.21, 0.1, {"kind": "gamma", "cv": 1.21}),
        (0.7, 0.1, {"kind": "gamma", "cv": 0.7}),
    ],
)
def test_a_cv_within_two_standard_errors_of_one_is_that_of_poisson_arrivals(
    make_scenario: Callable[..., Scenario], cv: float, se: float, arrivals: dict[str, Any]
) -> None:
    before = make_scenario(arrivals={"kind": "gamma", "cv": 3.0, "smooth_s": 7.0})
    assert written(before, fit(GAP_CV, cv, se))["arrivals"] == arrivals | {"smooth_s": 7.0}


@pytest.mark.parametrize(
    "fits",
    [(), (Fit(GAP_CV, "all classes", None, 1.0, 3, 0, 200),), (fit(GAP_CV, 0.0, 0.0),)],
    ids=["none", "few", "0"],
)
def test_arrivals_that_were_not_measured_stay(make_scenario: Callable[..., Scenario], fits: tuple[Fit, ...]) -> None:
    before = make_scenario(arrivals={"kind": "gamma", "cv": 3.0})
    assert written(before, *fits)["arrivals"]["cv"] == 3.0


def test_arrivals_that_no_scenario_takes_are_refused(make_scenario: Callable[..., Scenario]) -> None:
    with pytest.raises(ConfigError, match=r"(?s)calibrated scenario.*arrivals.*cv: expected a number <= 20"):
        written(make_scenario(), fit(GAP_CV, 30.0, 0.1))


@pytest.mark.parametrize(
    ("catalog", "path"),
    [
        ("new.yaml", "scenario.yaml"),
        ("catalogs/new.yaml", "scenarios/s.yaml"),
        ("new", "s.yaml"),
        ("new", "deep/down/s.yaml"),
    ],
)
def test_the_scenario_finds_its_catalog_from_where_it_lies(
    make_scenario: Callable[..., Scenario], tmp_path: Path, catalog: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = written(make_scenario(), catalog=str(tmp_path / catalog), path=str(tmp_path / path))
    write_whole(tmp_path / catalog, "anything")
    write_whole(tmp_path / path, yaml.safe_dump(made))
    assert Path(load_scenario(tmp_path / path).catalog).resolve() == tmp_path / catalog


# Files


def test_a_file_is_replaced_only_where_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "there.yaml"
    require_new(path, "--out", is_forced=False)
    path.touch()
    require_new(path, "--out", is_forced=True)
    with pytest.raises(UsageError, match=r"--out: .*there\.yaml' \(--force replaces it\)"):
        require_new(path, "--out", is_forced=False)


def test_a_folder_is_never_replaced(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        require_new(tmp_path, "--out", is_forced=True)
    assert str(caught.value) == f"--out: expected a file that does not exist yet, got '{tmp_path}'"


def test_a_file_is_written_with_the_folders_above_it_and_nothing_beside(tmp_path: Path) -> None:
    write_whole(tmp_path / "a" / "b.yaml", "text")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.yaml"]
    assert (tmp_path / "a" / "b.yaml").read_text() == "text"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file/b\.yaml: expected a file that can be written, got: "):
        write_whole(tmp_path / "file" / "b.yaml", "text")
