"""The verbs `profile` and `calibrate`: what they write loads and runs, what is wrong is one line and exit code 2."""

import itertools
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from controller import cli
from controller.catalog import load_catalog
from controller.catalog_entry import CatalogEntry
from controller.compile import compile_scenario
from controller.config import load_yaml
from controller.scenario import load_scenario
from experiments import profiling
from experiments.calibrated import document_of
from experiments.catalog_figures import to_yaml
from tests.tiny import tiny_catalog
from tests.unit.experiments.live_journals import (
    SMALL_OD,
    Window,
    add_arrivals,
    each_window,
    gamma_s,
    live_journal,
)

MODEL = """
print("loading weights")

def parity(batch):
    print("a batch of", len(batch))
    return [row[0] % 2 for row in batch]

def broken(batch):
    raise RuntimeError("no weights")
"""


@pytest.fixture
def catalog_file(tmp_path: Path) -> str:
    """The tiny catalog with batches of up to four, as a file."""
    path = tmp_path / "tiny.yaml"
    path.write_text(to_yaml(document_of(tiny_catalog(batch_max=4)), "# tiny"))
    return str(path)


@pytest.fixture
def labelled(tmp_path: Path) -> str:
    """Eight inputs; the model is right on six."""
    inputs = np.arange(8).reshape(8, 1)
    np.savez(tmp_path / "test.npz", inputs=inputs, labels=[0, 1, 0, 1, 0, 1, 9, 9])
    return str(tmp_path / "test.npz")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """References to models of a module in the current folder; loading in fresh processes is made up."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != ""])
    monkeypatch.setattr("serving.replica.one_thread", lambda: None)
    loads = profiling.Loads(profiling.Estimate(1.5, 0.1, 3), None)
    monkeypatch.setattr(profiling, "load_in_fresh_processes", lambda reference, repeats: loads)
    name = f"own_model_{next(_numbers)}"
    (tmp_path / f"{name}.py").write_text(MODEL)
    return lambda attribute: f"{name}:{attribute}"


_numbers = itertools.count()


def profile(*words: str) -> int:
    """Few repeats of two sizes."""
    return cli.main(["profile", *words, "--batches", "1,4", "--repeats", "5", "--warmup", "1"])


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error, where nothing else was printed."""
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    return line


# profile


def test_profile_prints_an_entry_and_nothing_that_the_model_prints(
    model: Callable[[str], str], labelled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert profile(model("parity"), "--input", labelled) == 0
    shown = capsys.readouterr()
    (tmp_path / "entry.yaml").write_text(shown.out)
    entry = load_yaml(tmp_path / "entry.yaml", CatalogEntry)
    assert (entry.variants[0].name, entry.variants[0].accuracy.value) == ("parity", 0.75)
    assert sorted(entry.profiles[0].service_by_batch_s) == [1, 4]
    assert "accuracy: 75.00%" in shown.err


def test_profile_into_a_catalog_writes_one_that_loads(
    model: Callable[[str], str], catalog_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--into", catalog_file, "--name", "medium", "--pool", "spot-a", "--out", "mine.yaml"]
    assert profile(model("parity"), *words) == 0
    shown = capsys.readouterr().out
    assert "wrote mine.yaml" in shown
    profiles = {(p.variant, p.pool): p for p in load_catalog("mine.yaml").profiles}
    measured = profiles["medium", "spot-a"]
    assert measured.load_s.value == 1.5
    (row,) = [line for line in shown.splitlines() if line.strip("│ ").startswith("4 ")]
    mean_ms = float(row.split("│")[2].split("±")[0])
    assert measured.service_s(4) == pytest.approx(mean_ms / 1e3, rel=1e-3)
    assert profiles["medium", "od"] == tiny_catalog(batch_max=4).profiles[4]


def test_profile_replaces_a_file_only_when_forced(
    model: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "entry.yaml"
    path.write_text("mine")
    assert profile(model("parity"), "--out", str(path)) == 2
    assert "--out: expected a file that does not exist yet" in refused(capsys)
    assert path.read_text() == "mine"
    assert profile(model("parity"), "--out", str(path), "--force") == 0
    assert load_yaml(path, CatalogEntry).profiles[0].variant == "parity"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--input", "none.npz"], "--input: expected a readable NPZ file"),
        (["--name", "My Model"], "--name: expected a name of"),
        (["--into", "nowhere", "--pool", "od"], "catalog: expected one of ["),
        (["--into", "CATALOG"], "--pool: expected a machine pool of catalog 'tiny'"),
        (["--into", "CATALOG", "--pool", "fn"], "--pool: expected a machine pool of catalog 'tiny'"),
        (["--into", "CATALOG", "--pool", "od", "--name", "new"], "--name: expected a variant of catalog 'tiny'"),
    ],
)
def test_profile_refuses_before_it_measures(
    model: Callable[[str], str],
    catalog_file: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    text: str,
) -> None:
    monkeypatch.delattr(profiling, "time_batches")
    assert profile(model("parity"), *[catalog_file if word == "CATALOG" else word for word in words]) == 2
    assert text in refused(capsys)


def test_profile_of_a_model_that_raises_exits_2(
    model: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert profile(model("broken")) == 2
    assert "model: expected outputs for a batch of " in refused(capsys)


@pytest.mark.slow
def test_the_installed_command_profiles_a_model_of_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "my_models.py").write_text("class Echo:\n    def __call__(self, batch):\n        return batch\n")
    command = Path(sysconfig.get_path("scripts")) / "provisor"
    words = ["my_models:Echo", "--batches", "1,2", "--repeats", "3", "--loads", "2", "--warmup", "1"]
    words += ["--into", "demo", "--name", "digits-large", "--pool", "c5-large", "--out", "mine.yaml"]
    done = subprocess.run([command, "profile", *words], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    catalog = load_catalog(tmp_path / "mine.yaml")
    (measured,) = [p for p in catalog.profiles if (p.variant, p.pool) == ("digits-large", "c5-large")]
    assert measured.service_s(1) == measured.service_by_batch_s[1].value < 0.1
    assert "mean of 2 fresh processes" in measured.load_s.measured


# calibrate


def serve(window: Window, rng: np.random.Generator) -> None:
    window.serve(SMALL_OD, 1, gamma_s(rng, 0.08, 0.1, 3))


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of 60 windows: 0.08 s for a small request on od, 40 requests/s of which the gaps have CV 2."""
    windows = each_window(60, serve)
    add_arrivals(windows, np.random.default_rng(1), rate_rps=40.0, cv=2.0)
    return str(live_journal(tmp_path_factory.mktemp("run") / "journal.jsonl", windows))


def test_calibrate_writes_a_catalog_and_a_scenario_that_simulates(
    journal: str, catalog_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, scenario = tmp_path / "new" / "catalog.yaml", tmp_path / "new" / "scenario.yaml"
    words = ["calibrate", journal, "--catalog", catalog_file, "--out", str(out), "--scenario-out", str(scenario)]
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    assert "small on od, batch 1" in shown
    assert f"wrote {out}\nwrote {scenario}\n" in shown
    setting = compile_scenario(load_scenario(scenario))
    assert setting.catalog.service_s[0, 0, 1] == pytest.approx(0.08, abs=3 * 0.1 * 0.08 / 144**0.5)
    assert (setting.scenario.arrivals.kind, setting.scenario.speed) == ("gamma", 1.0)
    assert setting.scenario.arrivals.cv == pytest.approx(2.0, rel=0.2)
    words = ["simulate", str(scenario), "--policy", "reactive", "--ticks", "3", "--out", str(tmp_path / "run")]
    assert cli.main(words) == 0
    assert (tmp_path / "run" / "journal.jsonl.gz").is_file()


def test_calibrate_replaces_files_only_when_forced(
    journal: str, catalog_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, scenario = tmp_path / "c.yaml", tmp_path / "s.yaml"
    scenario.write_text("mine")
    words = ["calibrate", journal, "--catalog", catalog_file, "--out", str(out), "--scenario-out", str(scenario)]
    assert cli.main(words) == 2
    assert "--scenario-out: expected a file that does not exist yet" in refused(capsys)
    assert scenario.read_text() == "mine"
    assert not out.exists()
    assert cli.main([*words, "--force"]) == 0
    assert yaml.safe_load(scenario.read_text())["catalog"] == "./c.yaml"


def test_calibrate_writes_catalog_and_scenario_into_two_files(
    journal: str, catalog_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "one.yaml")
    beside = str(tmp_path / "." / "one.yaml")
    words = ["calibrate", journal, "--catalog", catalog_file, "--out", path, "--scenario-out", beside]
    assert cli.main(words) == 2
    assert "--scenario-out: expected another file than --out" in refused(capsys)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["JOURNAL", "JOURNAL"], "JOURNAL: expected each journal once"),
        (["none.jsonl"], "none.jsonl: expected a readable journal"),
        (["JOURNAL", "--catalog", "demo"], "of catalog 'demo'"),
        (["JOURNAL", "--catalog", "nowhere"], "catalog: expected one of ["),
    ],
)
def test_calibrate_refuses_what_it_cannot_use(
    journal: str,
    catalog_file: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    text: str,
) -> None:
    out = tmp_path / "c.yaml"
    given: list[Any] = [journal if word == "JOURNAL" else word for word in words]
    assert cli.main(["calibrate", "--catalog", catalog_file, "--out", str(out), *given]) == 2
    assert text in refused(capsys)
    assert not out.exists()


def test_calibrate_warns_of_a_cut_journal(
    journal: str, catalog_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(Path(journal).read_bytes()[:-40])
    assert cli.main(["calibrate", str(cut), "--catalog", catalog_file, "--out", str(tmp_path / "c.yaml")]) == 0
    assert "warning: " in capsys.readouterr().err
    assert "cut.jsonl, 59 windows" in (tmp_path / "c.yaml").read_text()
