"""Statistics of measured durations: means with standard errors, empirical shapes, gaps, and how well a fit holds.

Two ideas are needed to read it. A duration is a mean and a *shape*, the quantiles of its ratio to that mean, because a
catalog keeps them apart. And a fit is judged on samples that it was not made from (`agreement`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage, optimize, stats

from controller.arrays import F64, Bool

_PROBABILITIES = (0.005, 0.01, 0.02, 0.03, *(n / 20 for n in range(1, 20)), 0.97, 0.98, 0.99, 0.995)
_BEYOND = 5
# Samples that must lie beyond a quantile for it to be told; nearer the ends only the mean of the rest is.
_LOCAL_GAPS = 201
# Gaps over which the rate counts as constant. Over fewer, bursts pass for changes of rate and the CV comes out too low:
# at 201, by less than its standard error up to a CV of 2 and 3000 gaps.
_LEAST_SE = 1e-4
# Of a mean, relative; a size measured without any spread must not rule a line alone.


class Estimate(NamedTuple):
    """A number with its standard error and the samples it rests on."""

    value: float
    se: float
    samples: int


class Agreement(NamedTuple):
    """Kolmogorov-Smirnov: the largest distance between two distribution functions, and how likely one so large is."""

    distance: float
    p: float


class Line(NamedTuple):
    """Seconds of a batch as intercept + slope x size, and how well it fits, in words."""

    intercept_s: float
    slope_s: float
    text: str


def mean_of(samples: Sequence[float] | F64) -> Estimate:
    """Mean of independent samples, at least two."""
    values = np.asarray(samples, np.float64)
    return Estimate(float(values.mean()), float(values.std(ddof=1) / math.sqrt(values.size)), values.size)


def shape_of(ratios: Sequence[float] | F64) -> dict[float, float]:
    """Quantile table of ratios to a mean (all > 0), as `controller.catalog.Distribution` takes it.

    The ends, at 0 and 1, are set so that the mean beyond the outermost quantile is kept: the extreme samples themselves
    would make the table longer the more samples there are.
    """
    values = np.sort(np.asarray(ratios, np.float64))
    told = [p for p in _PROBABILITIES if min(p, 1 - p) * values.size >= _BEYOND] or [0.5]
    quantiles = np.quantile(values, told)
    below, above = values[values <= quantiles[0]], values[values >= quantiles[-1]]
    low = min(max(2 * below.mean() - quantiles[0], values[0]), quantiles[0])
    high = min(max(2 * above.mean() - quantiles[-1], quantiles[-1]), values[-1])
    table = {0.0: low, **dict(zip(told, quantiles, strict=True)), 1.0: high}
    return {p: float(f"{v:.5g}") for p, v in table.items()}


def agreement(ratios: Sequence[float] | F64, table: Mapping[float, float]) -> Agreement | None:
    """How well ratios follow a quantile table; None where the table is a constant, which has no distribution."""
    probabilities = sorted(table)
    values = np.array([table[p] for p in probabilities])
    if values[-1] <= values[0] * (1 + 1e-6):
        return None

    def cdf(x: F64) -> F64:
        # Where the quantile function is flat, the last of its probabilities has been reached.
        last = np.append(values[1:] > values[:-1], True)
        return np.asarray(np.interp(x, values[last], np.array(probabilities)[last], left=0.0, right=1.0))

    return _agreement(ratios, cdf)


def gap_agreement(ratios: F64, cv: float) -> Agreement:
    """How well ratios of gaps to their mean follow the Gamma distribution with that CV (1: exponential)."""
    return _agreement(ratios, stats.gamma(1 / cv**2, scale=cv**2).cdf)


def _agreement(ratios: Sequence[float] | F64, cdf: Callable[[F64], F64]) -> Agreement:
    found = stats.kstest(np.asarray(ratios, np.float64), cdf)
    return Agreement(float(found.statistic), float(found.pvalue))


def line_through(means: Mapping[int, Estimate]) -> Line:
    """The line through means by batch size (at least two sizes), weighted by their standard errors.

    Neither part of it is negative, and the slope is above 0.
    """
    sizes = sorted(means)
    values = np.array([means[size].value for size in sizes])
    weights = 1 / np.maximum([means[size].se for size in sizes], _LEAST_SE * values)
    design = np.stack([np.ones(len(sizes)), np.asarray(sizes, np.float64)], axis=1)
    least_slope = 1e-6 * float(values.max())
    bounds = ([0.0, least_slope], [np.inf, np.inf])
    intercept_s, slope_s = optimize.lsq_linear(design * weights[:, None], values * weights, bounds=bounds).x
    worst = float(np.abs(design @ [intercept_s, slope_s] / values - 1).max())
    shown = ", ".join(map(str, sizes))
    text = f"least-squares line through the measured means of batches {shown}, off by at most {worst:.1%}"
    return Line(float(intercept_s), float(max(slope_s, least_slope)), text)


def local_ratios(gaps_s: Sequence[float] | F64) -> F64:
    """Gaps in order of time, each over the mean of those around it, so that a slowly changing rate drops out."""
    gaps = np.asarray(gaps_s, np.float64)
    around = ndimage.uniform_filter1d(gaps, min(_LOCAL_GAPS, gaps.size), mode="nearest")
    ratios: F64 = np.divide(gaps, around, out=np.ones_like(gaps), where=around > 0)
    return ratios


def cv_of(ratios: F64) -> Estimate:
    """Coefficient of variation of independent samples.

    Source: delta method on the first two moments; Kendall and Stuart, The Advanced Theory of Statistics 1, sec. 10.6.
    """
    mean, sd, count = float(ratios.mean()), float(ratios.std(ddof=1)), ratios.size
    if sd == 0:
        return Estimate(0.0, 0.0, count)
    third, fourth = (float(((ratios - mean) ** k).mean()) for k in (3, 4))
    cv = sd / mean
    variance = (fourth - sd**4) / (4 * sd**4) + cv**2 - third / (sd**2 * mean)
    return Estimate(cv, cv * math.sqrt(max(variance, 0.0) / count), count)


def cv_of_counts(counts: F64) -> Estimate:
    """CV of the gaps of a renewal process from its counts in equal windows, for want of the gaps themselves.

    Over windows much longer than a gap, variance / mean of the counts tends to the squared CV of the gaps; the variance
    is taken from differences of neighbouring windows, so that a slowly changing rate drops out.

    Args:
        counts: In order of time, at least three.

    Source: Cox and Lewis, The Statistical Analysis of Series of Events, sec. 4.5; the variance of the estimate, von
        Neumann, Annals of Mathematical Statistics 12 (1941).
    """
    variance = float((np.diff(counts) ** 2).mean()) / 2
    dispersion = variance / float(counts.mean())
    cv, n = math.sqrt(dispersion), counts.size - 1
    return Estimate(cv, cv / 2 * math.sqrt(max(3 * n - 1, 1)) / n, n)


def seconds_per_answer(answers: F64, busy_s: F64) -> list[Estimate | None]:
    """Credit-seconds of one answer by option, where a journal tells only their sums over each window.

    Non-negative least squares of the answers of a window on the credit-seconds in service. Requests in service at the
    edge of a window are noise to it.

    Args:
        answers: Of all options together, shape (ticks,).
        busy_s: Shape (ticks, options).

    Returns:
        None where an option served nothing or answered nothing, and for all where some were always in use alike.
    """
    served: Bool = np.asarray(busy_s.any(axis=0))
    used = busy_s[:, served]
    free = answers.size - used.shape[1]
    # Of options always in use alike, the fit gives all answers to one.
    if used.shape[1] == 0 or free < 1 or np.linalg.matrix_rank(used) < used.shape[1]:
        return [None] * served.size
    rates, _ = optimize.nnls(busy_s, answers)
    noise = float(((answers - busy_s @ rates) ** 2).sum()) / free
    ses = np.zeros(rates.size)
    ses[served] = np.sqrt(noise * np.diag(np.linalg.inv(used.T @ used)))
    # 1 / rate, to first order in its error.
    return [
        Estimate(1 / r, se / r**2, int((busy > 0).sum())) if r > 0 else None
        for r, se, busy in zip(rates, ses, busy_s.T, strict=True)
    ]
