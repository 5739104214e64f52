"""Statistics of a comparison: interquartile means over training seeds, bootstrap intervals over days.

Two ideas are needed to read it. The unit is the *day*, and days of one trace are a *stratum*: days are drawn anew in
blocks within their trace and never across traces, and what is reported is the mean over traces of each trace's mean,
so a long trace counts no more than a short one. And a learned policy has a second source of chance, its training seed:
seeds are drawn anew too, the same for all traces, since one training made the policy that met them all.

Intervals are percentile intervals of the circular block bootstrap, corrected for few days. A resampled mean of n days
in blocks of b varies too little by the factor (n - b)/n, so deviations are stretched by sqrt(n/(n - b)); the percentile
is moved outwards from the normal to Student's t at the degrees of freedom at hand (Hesterberg, "What Teachers Should
Know About the Bootstrap", The American Statistician 69(4), 2015, sec. 4.3, the expanded percentile interval); and
because the resamples of very few days are too coarse to reach that percentile, each side is at least as far out as t
standard errors. With one day, or one block, in a stratum nothing is known of the spread and the interval is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controller.arrays import F64
from controller.errors import UsageError, mismatch

LEVEL = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """An estimate with its two-sided interval; NaN where it cannot be known."""

    estimate: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside; False where the interval is unknown."""
        return self.low > 0.0 or self.high < 0.0


def interquartile_mean(values: F64, axis: int = -1) -> F64:
    """Mean of the middle half; a value on the edge of a quartile counts by the part of it that lies inside.

    Args:
        values: At least one along `axis`.
        axis: Axis that is averaged away.

    Source:
        The robust aggregate of Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
        NeurIPS 2021; theirs drops whole values, which agrees where the number of values is divisible by four.

    Example:
        >>> float(interquartile_mean(np.array([9.0, 1.0, 2.0, 3.0])))
        2.5
    """
    ordered = np.sort(np.moveaxis(np.asarray(values, np.float64), axis, -1), axis=-1)
    count = ordered.shape[-1]
    below = np.arange(count, dtype=np.float64)
    inside = np.minimum(below + 1.0, 0.75 * count) - np.maximum(below, 0.25 * count)
    weights = np.maximum(inside, 0.0) / (0.5 * count)
    # A weight of zero must not meet an infinite or missing value.
    return np.asarray((np.where(weights > 0.0, ordered, 0.0) * weights).sum(axis=-1))


def relative_difference(own: F64, reference: F64) -> F64:
    """Each day's part in the relative difference of total costs.

    Its mean over days is r = sum(own) / sum(reference) - 1, and its spread is that of this ratio: the value of a day is
    r + (own - (1 + r) reference) / mean(reference), the ratio's linear form. So a policy that costs the same share more
    on every day, dear or cheap, has the same value on all of them.

    Args:
        own: (..., D), such as costs of S seeds on D days.
        reference: (D,) of the same days under the same requests.

    Raises:
        UsageError: The days are not the same number, or the reference costs nothing.

    Source:
        Cochran, Sampling Techniques, 3rd ed., sec. 6.3 (ratio estimate).
    """
    if own.shape[-1:] != reference.shape:
        raise UsageError(mismatch("days", f"{reference.shape[0]} of them, as in the reference", own.shape[-1]))
    mean = float(reference.mean())
    if mean <= 0.0:
        raise UsageError(mismatch("reference", "a mean cost > 0", mean))
    ratio = own.mean(axis=-1, keepdims=True) / mean
    return np.asarray(ratio - 1.0 + (own - ratio * reference) / mean)


def mean_over_traces(strata: Sequence[F64]) -> float:
    """The statistic: days are averaged in each trace, then traces, and of the seeds the interquartile mean is taken.

    Args:
        strata: One array (S seeds, D days) per trace; S the same in all, D at the trace's own.
    """
    _check(strata)
    return float(interquartile_mean(np.mean([one.mean(axis=1) for one in strata], axis=0)))


def block_length(days: int) -> int:
    """Days per block: the cube root of their number, rounded down, so 1 below 8 days and 2 below 27."""
    return max(1, int(np.floor(days ** (1.0 / 3.0) + 1e-9)))


def bootstrap(
    strata: Sequence[F64], *, block: int | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Mean over traces with its 95 % interval over days and, where there are several, over training seeds.

    Args:
        strata: One array (S seeds, D days in calendar order) per trace; S the same in all. A rule has S = 1.
        block: Days per block in every trace; None: `block_length` of each. At most half of the days are taken.
        resamples: Number of resamples.
        seed: Equal arguments give equal intervals.

    Raises:
        UsageError: There is nothing to resample, or the numbers of seeds differ.
    """
    _check(strata)
    estimate = mean_over_traces(strata)
    if not np.isfinite(estimate) or min(one.shape[1] for one in strata) < 2:
        return Interval(estimate, float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    num_seeds, num_traces = strata[0].shape[0], len(strata)
    by_seed = np.zeros((resamples, num_seeds))
    variances, degrees = [], []
    for values in strata:
        days = values.shape[1]
        length = min(block_length(days) if block is None else block, days // 2)
        drawn = day_weights(rng, days, length, resamples)
        stretched = 1.0 / days + np.sqrt(days / (days - length)) * (drawn - 1.0 / days)
        part = stretched @ values.T / num_traces  # (R, S)
        by_seed += part
        variances.append(float(part.mean(axis=1).var()))
        degrees.append(days / length - 1.0)
    resampled = interquartile_mean(by_seed)
    if num_seeds > 1:
        picked = rng.integers(0, num_seeds, (resamples, num_seeds))
        moved = interquartile_mean(np.take_along_axis(by_seed, picked, axis=1)) - resampled
        moved *= np.sqrt(num_seeds / (num_seeds - 1.0))
        resampled = resampled + moved
        variances.append(float(moved.var()))
        degrees.append(num_seeds - 1.0)
    return _interval(estimate, resampled, _degrees_of_freedom(variances, degrees))


def day_weights(rng: np.random.Generator, days: int, block: int, resamples: int) -> F64:
    """Weight of each day in each resample, (R, D), rows of sum 1: circular blocks until `days` are drawn."""
    blocks = -(-days // block)
    first = rng.integers(0, days, (resamples, blocks))
    drawn = ((first[:, :, None] + np.arange(block)) % days).reshape(resamples, -1)[:, :days]
    cells = (np.arange(resamples)[:, None] * days + drawn).ravel()
    return np.bincount(cells, minlength=resamples * days).reshape(resamples, days) / days


def _interval(estimate: float, resampled: F64, degrees: float) -> Interval:
    from scipy.special import ndtr, stdtrit

    tail = (1.0 - LEVEL) / 2.0
    t = float(stdtrit(degrees, 1.0 - tail))
    expanded = float(ndtr(-t))
    low, high = np.quantile(resampled, [expanded, 1.0 - expanded])
    reach = t * float(resampled.std())
    return Interval(estimate, min(float(low), estimate - reach), max(float(high), estimate + reach))


def _degrees_of_freedom(variances: Sequence[float], degrees: Sequence[float]) -> float:
    """Welch-Satterthwaite: of a sum whose parts have these variances, each known from so many degrees of freedom."""
    total = sum(variances)
    if total <= 0.0:
        return float(sum(degrees))
    return float(total**2 / sum(v**2 / d for v, d in zip(variances, degrees, strict=True)))


def _check(strata: Sequence[F64]) -> None:
    if not strata or any(one.ndim != 2 or not one.size for one in strata):
        raise UsageError(mismatch("strata", "(seeds, days) of at least one trace", [one.shape for one in strata]))
    if len({one.shape[0] for one in strata}) > 1:
        raise UsageError(mismatch("strata", "the same seeds in every trace", [one.shape[0] for one in strata]))
