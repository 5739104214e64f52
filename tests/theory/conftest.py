"""Holds the suite to the number of checks that its false alarm rate was worked out for."""

from collections.abc import Iterator

import pytest

from tests.theory import estimates


@pytest.fixture(scope="package", autouse=True)
def family_of_checks() -> Iterator[None]:
    """More checks than FAMILY would fail by chance more often than the suite says."""
    yield
    assert len(estimates.checks) <= estimates.FAMILY, f"{len(estimates.checks)} checks share FALSE_ALARM"
