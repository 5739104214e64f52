"""A check holds or falls short, and the command says so by its exit code."""

import json
from pathlib import Path

import pytest

from controller import cli
from experiments import record, simulator_checks
from experiments.checks import Check, at_least, at_most, show_checks, write_checks


def test_a_value_on_its_bar_holds() -> None:
    assert at_least("speed", 20e6, 20e6, " M/s", scale=1e6) == Check("speed", "20 M/s", ">= 20 M/s", holds=True)
    assert at_most("start", 2.0, 2.0, " s").holds


def test_a_value_beyond_its_bar_falls_short() -> None:
    assert not at_least("speed", 19e6, 20e6).holds
    assert not at_most("start", 2.01, 2.0).holds


def test_the_table_counts_what_holds(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = [at_most("start", 1.5, 2.0, " s"), at_most("memory", 300, 256, " KiB")]
    assert not show_checks("toy", found)
    text = capsys.readouterr().out
    assert "FALLS SHORT" in text
    assert "1 of 2 hold" in text
    write_checks(found, tmp_path / "a" / "checks.json")
    assert [row["holds"] for row in json.loads((tmp_path / "a" / "checks.json").read_text())] == [True, False]


@pytest.mark.parametrize(("holds", "words", "code"), [(True, ["--check"], 0), (False, ["--check"], 1), (False, [], 0)])
def test_the_exit_code_is_the_verdict_where_it_was_asked_for(
    holds: bool, words: list[str], code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(simulator_checks, "checks", lambda say: iter([Check("x", "1", "2", holds)]))
    monkeypatch.setattr(record, "read_record", lambda: ("kept", [Check("y", "1", "1", True)]))
    assert cli.main(["experiment", "simulator", "--out", str(tmp_path), *words]) == code


def test_without_a_comparison_with_live_runs_the_check_falls_short(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(simulator_checks, "checks", lambda say: iter([Check("x", "1", "2", True)]))
    monkeypatch.setattr(record, "read_record", lambda: None)
    assert cli.main(["experiment", "simulator", "--out", str(tmp_path), "--check"]) == 1
    assert "never measured" in capsys.readouterr().out


def test_a_comparison_is_kept_with_commit_and_date(tmp_path: Path) -> None:
    path = tmp_path / "records" / "kept.json"
    assert record.read_record(path) is None
    record.write_record([at_most("busy: p50", 0.2, 0.1)], {"repeats": 3}, path)
    title, found = record.read_record(path) or ("", [])
    assert found == [at_most("busy: p50", 0.2, 0.1)]
    assert "as measured on 20" in title


@pytest.mark.slow
def test_a_suite_counts_its_tests_and_a_failure_falls_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "test_good.py").write_text("def test_a(): pass\ndef test_b(): pass\n")
    (tmp_path / "test_bad.py").write_text("def test_c(): assert False\n")
    monkeypatch.setattr(simulator_checks, "_ROOT", tmp_path)
    assert simulator_checks._suite("x", ("test_good.py",)) == Check("x", "2 passed", "all pass, none skipped", True)
    assert not simulator_checks._suite("x", ("test_good.py", "test_bad.py")).holds
    assert not simulator_checks._suite("x", ("test_none.py",)).holds
