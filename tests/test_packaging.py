"""What is installed is this project, complete, and its command answers at once."""

import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from controller import identity
from controller.config import read_yaml
from controller.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
HELP_CPU_S = 0.5
HEAVY = ("numba", "torch", "ray", "stable_baselines3", "matplotlib", "scipy", "numpy", "pydantic")
YAML_FILES = sorted(
    path.relative_to(ROOT) for name in identity.OWN_PACKAGES for path in (ROOT / name).rglob("*.y*ml") if path.is_file()
)


def test_each_package_name_resolves_to_this_project(tmp_path: Path) -> None:
    script = "import importlib, sys\nfor n in sys.argv[1:]: print(importlib.import_module(n).__file__)"
    done = subprocess.run(
        [sys.executable, "-c", script, *identity.OWN_PACKAGES], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert [Path(line) for line in done.stdout.splitlines()] == [
        ROOT / name / "__init__.py" for name in identity.OWN_PACKAGES
    ]


def test_own_packages_are_those_that_ship() -> None:
    assert set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == set(identity.OWN_PACKAGES)


def test_check_at_start_accepts_this_installation() -> None:
    identity.require_own_packages()


def test_check_at_start_names_a_package_of_another_distribution(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "envs", raising=False)
    with pytest.raises(UsageError, match="envs: expected "):
        identity.require_own_packages()


def test_help_is_quick_and_imports_nothing_heavy(tmp_path: Path) -> None:
    command = Path(sysconfig.get_path("scripts")) / "provisor"
    script = (
        "import os, runpy, sys\n"
        "sys.argv = ['provisor', '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(command)!r}, run_name='__main__')\n"
        "except SystemExit as done:\n"
        "    assert not done.code\n"
        "used = os.times()\n"
        f"print('LOADED', sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)\n"
        "print('CPU', used.user + used.system, file=sys.stderr)\n"
    )
    # The least of three: another process on the same core adds to each by chance.
    cpu_s = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=os.environ, check=True
        )
        loaded, cpu = done.stderr.splitlines()[-2:]
        assert loaded == "LOADED []"
        assert "Verbs" in done.stdout
        cpu_s.append(float(cpu.removeprefix("CPU ")))
    assert min(cpu_s) < HELP_CPU_S


@pytest.mark.parametrize("path", YAML_FILES, ids=str)
def test_shipped_yaml_is_read_strictly(path: Path) -> None:
    assert isinstance(read_yaml(ROOT / path), dict)


def test_every_pin_is_exact() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if line.count("==") != 1 or "@" in line or " " in line] == []


def test_every_dependency_is_pinned() -> None:
    pinned = {normal(line.partition("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    extras = PROJECT["project"]["optional-dependencies"]
    asked = {normal(asked) for asked in [*PROJECT["project"]["dependencies"], *extras["test"], *extras["dev"]]}
    assert asked - pinned - {"provisor"} == set()


def normal(requirement: str) -> str:
    """Name of a requirement without extras and range, as package indexes compare names."""
    name = requirement
    for sign in "[<>=!~ ;":
        name = name.partition(sign)[0]
    return name.lower().replace("_", "-").replace(".", "-")


@pytest.mark.slow
def test_wheel_holds_every_module_and_data_file(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    source = {
        path.relative_to(ROOT).as_posix()
        for name in identity.OWN_PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.suffix in {".py", ".yaml", ".yml", ".npz", ".csv", ".json"} and "__pycache__" not in path.parts
    }
    assert source - held == set()
    assert not {name for name in held if name.startswith("tests/")}
