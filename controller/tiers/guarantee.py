"""How much worse than the best version a rule can be, at a stated confidence: a bootstrap over calibration requests."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from controller.arrays import F64, I64

_TAIL = 5.0
# Resamples beyond the quantile, at least.
_FEW = 64
# Values up to which a multinomial draw is the faster one.
_PSEUDO = 2
# Requests of the worst kind that are added to those seen. A rule that was never seen to differ may differ all the same:
# with n requests and confidence 99.9 %, in up to 6.9 / n of them, where a bootstrap of what was seen says in none. Of
# two added ones a resample holds up to 8 at that confidence.


class Bound(NamedTuple):
    """Of one rule's mean degradation.

    Attributes:
        mean: As measured.
        upper: Not exceeded at the stated confidence.
        resamples: That it took until it was tight.
    """

    mean: float
    upper: float
    resamples: int


def upper_bound(
    degradation: F64,
    confidence: float,
    rng: np.random.Generator,
    worst: float = 1.0,
    tight: float = 2e-4,
    most: int = 20_000,
) -> Bound:
    """Upper bound of a mean.

    Args:
        degradation: (N,), of each request: error under the rule less what is allowed.
        confidence: Such as 0.999.
        rng: Draws resamples.
        worst: Largest degradation that a request can have.
        tight: Resamples are drawn until the bound's own standard error is below this.
        most: Resamples at most.
    """
    values, counts = np.unique(np.concatenate((degradation, np.full(_PSEUDO, worst))), return_counts=True)
    # Before so many resamples the quantile would be one of the last few, and its spread says nothing.
    chunk = min(most, math.ceil(_TAIL / (1.0 - confidence)))
    means: list[F64] = []
    while True:
        means.append(_resampled(values, counts, chunk, rng))
        drawn = chunk * len(means)
        upper, error = _quantile(np.concatenate(means), confidence)
        if drawn >= most or error < tight:
            return Bound(float(degradation.mean()), upper, drawn)


def _resampled(values: F64, counts: I64, size: int, rng: np.random.Generator) -> F64:
    """Means of so many resamples of values that occur so often."""
    total = int(counts.sum())
    if len(values) <= _FEW:
        # A resample is a multinomial draw of the values that occur, which are few where errors are 0 or 1.
        return np.asarray(rng.multinomial(total, counts / total, size=size) @ values / total)
    every = np.repeat(values, counts)
    return np.array([every[rng.integers(0, total, total)].mean() for _ in range(size)])


def _quantile(values: F64, confidence: float) -> tuple[float, float]:
    """A quantile and its standard error, from the order statistics around it."""
    ordered = np.sort(values)
    count = len(ordered)
    spread = np.sqrt(count * confidence * (1.0 - confidence))
    at = confidence * count
    low, mid, high = (int(np.clip(np.ceil(at + shift), 1, count)) - 1 for shift in (-spread, 0.0, spread))
    return float(ordered[mid]), float(ordered[high] - ordered[low]) / 2.0
