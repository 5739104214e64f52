"""What every test gets: numeric errors raise, and the public traces are there or the test says why it is skipped."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def numeric_errors_raise() -> Iterator[None]:
    """Division by zero, overflow and invalid operations are failures; underflow to zero is harmless rounding."""
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The directory of public traces, prices and profiles; for tests marked `data`."""
    named = os.environ.get("PROVISOR_DATA", "")
    if not named:
        pytest.skip("PROVISOR_DATA names no directory of public traces")
    directory = Path(named)
    # A name that leads nowhere is a mistake of whoever set it, and skipping would hide it.
    assert directory.is_dir(), f"PROVISOR_DATA: expected a directory, got {named!r}"
    return directory
