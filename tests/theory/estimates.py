"""Estimates with standard errors, and the one way in which they are held to theory.

Envs are independent copies of one queue, so the spread between them is all that is needed: an estimate is a mean or a
ratio over envs, its standard error comes from that spread, and the bound on its distance to theory from Student's t.
With right formulas and a right simulator, a run of the whole suite on fresh seeds fails by chance with a probability
of at most `FALSE_ALARM`, shared evenly by `FAMILY` checks (Bonferroni), however the checks depend on each other.
A check also fails where its standard error is too large for it to say anything.

Source: ratio estimates from independent replications, Law, Simulation Modeling and Analysis, 5th ed., ch. 9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student

from controller.latency import bucket_edges
from tests.theory.queues import Sums

FALSE_ALARM = 0.01
"""Probability that any check of the suite fails by chance."""

FAMILY = 330
"""Checks that share it; the suite fails where it makes more."""


@dataclass(frozen=True)
class Estimate:
    """A mean or ratio over independent envs.

    Attributes:
        value: The estimate.
        standard_error: Its standard error, > 0.
        degrees: Degrees of freedom of that, envs - 1.
    """

    value: float
    standard_error: float
    degrees: int

    def z(self, theory: float) -> float:
        """Distance to theory in standard errors."""
        return (self.value - theory) / self.standard_error

    @property
    def bound(self) -> float:
        """Distance that chance exceeds with probability FALSE_ALARM / FAMILY."""
        return float(student.ppf(1.0 - FALSE_ALARM / FAMILY / 2.0, self.degrees))


def mean_of(values: ArrayLike) -> Estimate:
    """Mean of one value per env, shape (N,)."""
    by_env = np.asarray(values, np.float64)
    return Estimate(float(by_env.mean()), float(by_env.std(ddof=1) / np.sqrt(len(by_env))), len(by_env) - 1)


def ratio_of(numerators: ArrayLike, denominators: ArrayLike) -> Estimate:
    """Ratio of two sums per env, both of shape (N,): sum over sum, its error from what each env is off the ratio."""
    above, below = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    ratio = float(above.sum() / below.sum())
    off = (above - ratio * below) / below.mean()
    return Estimate(ratio, float(off.std(ddof=1) / np.sqrt(len(off))), len(off) - 1)


checks: list[str] = []
"""What was held to theory since the session began; the suite compares its length with FAMILY."""


def hold(what: str, estimate: Estimate, theory: float, precision: float, formula_error: float = 0.0) -> None:
    """Fails where chance does not explain the distance of an estimate to theory, or where it is too imprecise to tell.

    Args:
        what: Name of the quantity, for messages.
        estimate: From the simulator.
        theory: From a formula.
        precision: Largest standard error, relative to theory.
        formula_error: Bound on how far the formula itself is off the world that was simulated, relative to theory;
            it is granted on top of chance, and counts against the precision.
    """
    checks.append(what)
    error, own_error = estimate.standard_error, formula_error * abs(theory)
    assert error > 0.0, f"{what}: simulated {estimate.value:.6g} in every env, expected envs that differ"
    line = f"{what}: simulated {estimate.value:.6g} +- {error:.2g}, theory {theory:.6g}, z {estimate.z(theory):+.2f}"
    print(line)
    assert error + own_error <= precision * abs(theory), f"{line}: expected a standard error of at most {precision:.2%}"
    assert abs(estimate.value - theory) < estimate.bound * error + own_error, f"{line}: bound {estimate.bound:.2f}"


def tail_precision(beyond: float) -> float:
    """Precision for the share beyond a quantile that knows the quantile within 2 %: a tail falls exponentially."""
    return 0.02 * math.log(1.0 / beyond)


def mean_wait(sums: Sums, pool: int, rate: float) -> Estimate:
    """Mean wait by Little's law: the ends of ticks look at a stationary queue at moments that do not depend on it."""
    return mean_of(sums.waiting[:, pool] / sums.ticks / rate)


def later_than(sums: Sums, bucket: int) -> Estimate:
    """Share of the answers of all classes with at least the latency at which a bucket begins, counted exactly."""
    histogram = sums.latency.sum(axis=1)
    return ratio_of(histogram[:, bucket:].sum(axis=1), histogram.sum(axis=1))


def bucket_near(at_s: float) -> tuple[int, float]:
    """Bucket that begins nearest to a time, and where it does, seconds."""
    edges = bucket_edges()
    bucket = int(np.argmin(np.abs(edges - at_s)))
    return bucket, float(edges[bucket])
