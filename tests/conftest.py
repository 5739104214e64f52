"""What every test gets: numeric errors raise, and the public traces are there or the test says why it is skipped."""

import atexit
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# The same examples on every machine, and no deadline: a slow machine breaks no law. A failure prints what repeats it.
settings.register_profile("provisor", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("provisor")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the stored journals of tests/golden")


@pytest.fixture(autouse=True)
def numeric_errors_raise() -> Iterator[None]:
    """Division by zero, overflow and invalid operations are failures; underflow to zero is harmless rounding."""
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        yield


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends the process where all is told, without taking the interpreter apart.

    Ray, torch and LLVM have threads of their own in it, and one of them was seen to crash while it was taken apart.
    """
    session_status = getattr(config, "exit_status", None)
    is_worker = hasattr(config, "workerinput")  # one of several processes, which has its results to hand over
    if session_status is not None and not is_worker:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(session_status))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.exit_status = exitstatus


MOST_KERNELS = ("test_compiled_runs.py", "test_event_kernel.py")
"""Files that compile what takes longest, each something else."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks a test that asks for the public traces, so that `-m "not data"` finds it, and orders the files.

    Those that compile for minutes what most others need go first: with two processes each compiles one of them, and
    neither compiles the same meanwhile.
    """
    for item in items:
        if "data_dir" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.data)
    items.sort(key=lambda item: item.path.name not in MOST_KERNELS)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The directory of public traces, prices and profiles; a test that asks for it is marked `data`."""
    named = os.environ.get("PROVISOR_DATA", "")
    if not named:
        pytest.skip("PROVISOR_DATA names no directory of public traces")
    directory = Path(named)
    # A name that leads nowhere is a mistake of whoever set it, and skipping would hide it.
    assert directory.is_dir(), f"PROVISOR_DATA: expected a directory, got {named!r}"
    return directory
