"""The command from end to end, on minutes instead of days."""

import csv
import json
from dataclasses import replace

import pytest

from controller import cli
from experiments.schemes import measurement
from experiments.schemes.constant_load import silent
from experiments.schemes.courses import COURSES, FLAT, SCHEMES
from experiments.schemes.measurement import Extent
from experiments.schemes.run import run_schemes

# Every course by its name, on generated load: what is tested is the way to the files.
SMALL = Extent(
    crossing_hours=0.02,
    level_hours=0.02,
    sweep_hours=0.05,
    choice_hours=0.02,
    courses=tuple(replace(FLAT, name=course.name, days=(4, 4), seeds=(0,), modern=course.modern) for course in COURSES),
    ticks=12,
    warm_up_s=20.0,
)


@pytest.mark.timeout(600)  # may be the first to compile the kernels
@pytest.mark.slow
def test_everything_is_measured_and_written(data_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PROVISOR_DATA", str(data_dir))
    told = []
    _, is_partial = run_schemes(tmp_path, told.append, SMALL)
    assert not is_partial
    assert any("paragon on twitter" in line for line in told)
    results = json.loads((tmp_path / "results.json").read_text())
    assert {row["scheme"] for row in results["days"]} >= set(SCHEMES)
    assert len(results["crossings"]) == 5 * 3 + 7
    with (tmp_path / "memory.csv").open(newline="") as stream:
        assert {row["sweep"] for row in csv.DictReader(stream)} == {"measured", "derived"}
    plots = {path.name for path in tmp_path.glob("*.png")}
    assert plots == {
        "machines_or_serverless.png",
        "break_even.png",
        "memory_measured.png",
        "memory_derived.png",
        "choice.png",
        "schemes.png",
    }
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == len(plots)
    assert "http" not in page.replace("http://www.w3.org", "")
    printed = capsys.readouterr().out
    assert "flat: dearest scheme over cheapest" in " ".join(printed.split())
    assert len(json.loads((tmp_path / "checks.json").read_text())) == 1 + 22 + 2 + 2 + 10 + 1


def test_without_the_data_the_command_says_so_and_measures_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("PROVISOR_DATA", raising=False)
    assert cli.main(["experiment", "schemes", "--check", "--out", str(tmp_path / "out")]) == 2
    assert "PROVISOR_DATA" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.timeout(600)  # as above
def test_an_interrupted_run_keeps_what_was_finished(data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("PROVISOR_DATA", str(data_dir))
    monkeypatch.setattr(measurement, "crossings", lambda setting, hours, say: [])

    def interrupted(setting, hours, say):
        raise KeyboardInterrupt

    monkeypatch.setattr(measurement, "levels", interrupted)
    holds, is_partial = run_schemes(tmp_path, silent, SMALL)
    assert is_partial
    assert not holds
    assert json.loads((tmp_path / "results.json").read_text())["is_partial"]
    assert "interrupted" in (tmp_path / "report.html").read_text()
