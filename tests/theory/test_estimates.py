"""The helper that holds estimates to theory: it must let chance pass, and nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.theory import estimates
from tests.theory.estimates import hold, mean_of, ratio_of


@pytest.fixture(autouse=True)
def not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held here is not part of the family."""
    monkeypatch.setattr(estimates, "checks", [])


def test_a_mean_and_its_standard_error_by_hand() -> None:
    estimate = mean_of([1.0, 2.0, 3.0, 6.0])  # squares of the distances to 3: 4 + 1 + 0 + 9 = 14
    assert (estimate.value, estimate.degrees) == (3.0, 3)
    assert estimate.standard_error == pytest.approx(math.sqrt(14.0 / 3.0 / 4.0))
    assert estimate.z(1.0) == pytest.approx(2.0 / estimate.standard_error)


def test_a_ratio_and_its_standard_error_by_hand() -> None:
    estimate = ratio_of([1.0, 3.0], [2.0, 2.0])
    assert estimate.value == 1.0
    assert estimate.standard_error == pytest.approx(0.5)  # (-1, 1) / 2: deviation 0.7071, over the root of 2
    assert ratio_of([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]).standard_error == pytest.approx(0.0)  # proportional: exact


def test_a_ratio_covers_its_true_value_as_often_as_it_says() -> None:
    # Skewed sums with a common part; two standard errors must be exceeded in about 4.6 % (t with 63 degrees: 5.0 %).
    rng = np.random.default_rng(3)
    below = rng.gamma(8.0, 1.0, (4_000, 64))
    above = 0.3 * below + rng.gamma(4.0, 1.0, (4_000, 64)) - 4.0
    outside = np.mean([abs(ratio_of(a, b).z(0.3)) > 2.0 for a, b in zip(above, below, strict=True)])
    assert outside == pytest.approx(0.05, abs=4.0 * math.sqrt(0.05 * 0.95 / 4_000))


def test_the_family_is_held_to_its_false_alarm_rate() -> None:
    assert mean_of(np.arange(64.0)).bound == pytest.approx(4.50, abs=0.01)  # t of 63 degrees at 1 - 0.01 / 330 / 2
    values = np.random.default_rng(5).standard_normal((50_000, 64))
    z = values.mean(axis=1) / (values.std(axis=1, ddof=1) / 8.0)
    exceeded = int((np.abs(z) >= mean_of(values[0]).bound).sum())
    assert exceeded <= 7  # 2 expected; eight or more have a chance of 0.1 %


def test_an_estimate_that_is_off_fails_and_one_that_is_near_passes() -> None:
    values = 10.0 + np.random.default_rng(1).standard_normal(64)
    error = mean_of(values).standard_error
    near, off = float(values.mean()) + 4.0 * error, float(values.mean()) + 5.0 * error
    hold("near", mean_of(values), near, precision=0.02)
    with pytest.raises(AssertionError, match=r"off: simulated .* z -5\.00: bound 4\.5"):
        hold("off", mean_of(values), off, precision=0.02)
    hold("off by the formula", mean_of(values), off, precision=0.05, formula_error=0.01)


def test_an_imprecise_estimate_fails_whatever_its_value() -> None:
    values = 10.0 + np.random.default_rng(1).standard_normal(64)
    with pytest.raises(AssertionError, match="expected a standard error of at most"):
        hold("vague", mean_of(values), float(values.mean()), precision=0.01)
    with pytest.raises(AssertionError, match="expected a standard error of at most"):
        hold("vague formula", mean_of(values), float(values.mean()), precision=0.02, formula_error=0.02)
    with pytest.raises(AssertionError, match="expected envs that differ"):
        hold("constant", mean_of(np.ones(64)), 1.0, precision=0.02)


def test_checks_are_counted() -> None:
    hold("counted", mean_of([0.9, 1.0, 1.1]), 1.0, precision=0.1)
    assert estimates.checks == ["counted"]
