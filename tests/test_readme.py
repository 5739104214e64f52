"""The README's commands and code are those of the project."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from controller.cli import VERBS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_every_verb_the_readme_runs_exists() -> None:
    used = set(re.findall(r"^provisor (\w[\w-]*)", README, re.MULTILINE))
    assert used, "the README shows no command"
    assert used <= set(VERBS)


def test_every_make_target_the_readme_names_exists() -> None:
    targets = set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"`?make (\w[\w-]*)", README)) - {"it", "and"} <= targets


def test_every_file_the_readme_names_exists() -> None:
    for name in re.findall(r"(?:controller|envs|serving|traces|experiments)/[\w/]+\.(?:py|yaml)", README):
        assert (ROOT / name).is_file(), name


@pytest.mark.slow
@pytest.mark.timeout(900)  # may be the first to compile the kernels
@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=[f"block-{i}" for i in range(len(PYTHON_BLOCKS))])
def test_python_of_the_readme_runs(block: str) -> None:
    exec(compile(block, "README.md", "exec"), {})
