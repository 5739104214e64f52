"""What the kernels compile is what the router runs: both forms agree, and an edit starts a fresh cache."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from controller import keyed_random, redundancy, routing
from controller.kernel_cache import PACKAGES, source_hash, sources_of
from controller.kernels import random as kernel_random

ROOT = Path(__file__).resolve().parents[4]
counts = st.integers(0, 50)
times_s = st.floats(0, 100)
shares = st.lists(st.floats(0, 1), min_size=0, max_size=6)

COMPILED = {
    name: njit(getattr(routing, name))
    for name in ("predicted_wait_s", "overflows", "is_shed", "pick_option", "hedges_at_s", "may_retry")
}
COMPILED |= {name: njit(getattr(redundancy, name)) for name in ("next_step", "answer_row")}


@njit
def compiled_uniform(key: np.uint64, identity: int, attempt: int) -> float:
    return kernel_random.uniform(key, identity, attempt)


@given(counts, counts, counts, times_s)
def test_predicted_wait(queued: int, in_service: int, num_credits: int, item_s: float) -> None:
    plain = routing.predicted_wait_s(queued, in_service, num_credits, item_s)
    assert COMPILED["predicted_wait_s"](queued, in_service, num_credits, item_s) == plain


@given(times_s, times_s, st.floats(0, 1), st.floats(0, 1))
def test_overflow(wait_s: float, after_s: float, fraction: float, uniform: float) -> None:
    plain = routing.overflows(wait_s, after_s, fraction, uniform)
    assert COMPILED["overflows"](wait_s, after_s, fraction, uniform) == plain


@given(counts, counts, counts)
def test_shedding(waiting: int, shed_limit: int, queue_limit: int) -> None:
    assert COMPILED["is_shed"](waiting, shed_limit, queue_limit) == routing.is_shed(waiting, shed_limit, queue_limit)


@given(shares, st.floats(0, 1, exclude_max=True))
def test_option_choice(parts: list[float], uniform: float) -> None:
    cumulative = np.cumsum(np.array(parts, np.float64))
    plain = routing.pick_option(cumulative, uniform)
    assert COMPILED["pick_option"](cumulative, uniform) == plain
    assert type(plain) is int  # it reaches the journal


@given(times_s, times_s, times_s)
def test_hedging(arrival_s: float, after_s: float, deadline_s: float) -> None:
    assert COMPILED["hedges_at_s"](arrival_s, after_s, deadline_s) == routing.hedges_at_s(
        arrival_s, after_s, deadline_s
    )


@given(times_s, times_s, counts, counts)
def test_retries(now_s: float, deadline_s: float, attempt: int, most: int) -> None:
    assert COMPILED["may_retry"](now_s, deadline_s, attempt, most) == routing.may_retry(
        now_s, deadline_s, attempt, most
    )


@given(st.integers(-1, 2), st.floats(0, 1), st.floats(0, 1), st.lists(st.integers(0, 2), min_size=3, max_size=3))
def test_steps_of_a_cascade(step: int, confidence: float, threshold: float, options: list[int]) -> None:
    num_options = np.array(options)
    plain = redundancy.next_step(step, confidence, threshold, num_options)
    assert COMPILED["next_step"](step, confidence, threshold, num_options) == plain
    later = [k for k in range(step + 1, 3) if options[k] > 0]
    assert plain == (later[0] if later and confidence < threshold else -1)


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 10**6))
def test_rows_of_measured_answers(uniform: float, num_rows: int) -> None:
    plain = redundancy.answer_row(uniform, num_rows)
    assert COMPILED["answer_row"](uniform, num_rows) == plain
    assert 0 <= plain < num_rows


@given(st.integers(0, 2**62), st.integers(0, 20), st.integers(0, 2**40), st.integers(0, 10))
def test_keyed_draws(seed: int, stream: int, identity: int, attempt: int) -> None:
    key = keyed_random.stream_key(seed, stream)
    with np.errstate(over="ignore"):
        assert int(kernel_random.stream_key(seed, stream)) == key
        assert compiled_uniform(np.uint64(key), identity, attempt) == keyed_random.uniform(key, identity, attempt)


def test_keyed_draws_look_uniform() -> None:
    key = keyed_random.stream_key(7, keyed_random.SERVICE)
    draws = np.array([keyed_random.uniform(key, i, 0) for i in range(4000)])
    # standard deviation of the mean of 4000 uniform draws: 0.2887 / sqrt(4000) = 0.0046; four of them
    assert abs(draws.mean() - 0.5) < 0.018
    assert abs(np.corrcoef(draws[1:], draws[:-1])[0, 1]) < 0.065


ENTRY = "envs.kernels.episode"
"""Kernels that depend on nearly all others."""


@pytest.mark.parametrize(
    ("edited", "restarts"),
    [
        ("controller/kernels/rates.py", True),
        ("controller/routing.py", True),
        ("controller/redundancy.py", True),
        ("controller/rule_arrays.py", True),
        ("controller/bill.py", True),
        ("controller/keyed_random.py", True),
        ("controller/kernel_cache.py", True),
        ("envs/kernels/event.py", True),
        ("envs/kernels/compiled.py", True),
        ("controller/kernels/rules.py", False),
        ("controller/catalog.py", False),
        (None, False),
    ],
)
def test_an_edit_starts_a_fresh_cache_for_what_depends_on_the_file(
    edited: str | None, restarts: bool, tmp_path: Path
) -> None:
    for folder in ("controller", "controller/kernels", "envs", "envs/kernels"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for source in (ROOT / folder).glob("*.py"):
            shutil.copy(source, tmp_path / folder / source.name)
    before = hash_in(tmp_path)
    if edited is not None:
        with (tmp_path / edited).open("a") as file:
            file.write("\n# edited\n")
    assert (hash_in(tmp_path) != before) == restarts


def test_no_import_of_a_kernel_module_is_overlooked() -> None:
    for folder in ("controller/kernels", "envs/kernels"):
        for source in (ROOT / folder).glob("*.py"):
            module = f"{folder.replace('/', '.')}.{source.stem}".removesuffix(".__init__")
            found = set(sources_of(module))
            assert source in found
            for path in found:
                assert imported_files(path) <= found, f"{path.name} for {module}"


def test_kernels_are_kept_in_the_folder_of_their_sources(tmp_path: Path) -> None:
    code = (
        "from numba.core import config; before = config.CACHE_DIR;"
        "from controller.kernels.network import forward; from controller.kernels.random import stream_key;"
        "from controller.kernels.mpc import mpc_one; from envs.kernels.tick import advance_one;"
        "print(forward.stats.cache_path); print(stream_key.stats.cache_path); print(config.CACHE_DIR == before);"
        "print(mpc_one.stats.cache_path); print(advance_one.stats.cache_path)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        env={**os.environ, "PROVISOR_CACHE": str(tmp_path)},
    )
    forward, stream_key, is_put_back, *called_by_kernels_alone = done.stdout.split()
    assert (
        Path(forward).parent
        == tmp_path / "kernels" / f"controller.kernels.network-{source_hash('controller.kernels.network')}"
    )
    assert Path(stream_key).parent.name == f"controller.kernels.random-{source_hash('controller.kernels.random')}"
    assert is_put_back == "True"
    assert [Path(path).parent.name for path in called_by_kernels_alone] == [
        f"{module}-{source_hash(module)}" for module in ("controller.kernels.mpc", "envs.kernels.tick")
    ]


@pytest.mark.parametrize(("chosen", "level"), [(None, "1"), ("3", "3")])
def test_the_compiler_optimises_little_unless_told_otherwise(chosen: str | None, level: str) -> None:
    env = {name: value for name, value in os.environ.items() if name != "NUMBA_OPT"} | (
        {} if chosen is None else {"NUMBA_OPT": chosen}
    )
    code = (
        "import controller.kernel_cache as k; from numba.core import config;"
        "print(int(config.OPT), k.source_hash('controller.kernels.network'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True, env=env)
    found, kept_under = done.stdout.split()
    assert found == level
    is_another_level = chosen not in (None, os.environ.get("NUMBA_OPT"))
    assert (kept_under != source_hash("controller.kernels.network")) == is_another_level


def imported_files(path: Path) -> set[Path]:
    """Files of ours that a module imports by its syntax tree."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    candidates = {ROOT / name.replace(".", "/") for name in names}
    files = {one.with_suffix(".py") for one in candidates} | {one / "__init__.py" for one in candidates}
    return {one for one in files if one.is_file() and one.relative_to(ROOT).parts[0] in PACKAGES}


def hash_in(root: Path) -> str:
    code = (
        f"import sys; sys.path.insert(0, {str(root)!r});"
        f"import controller.kernel_cache as k; print(k.source_hash({ENTRY!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    return done.stdout.strip()
