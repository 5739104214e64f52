"""Forecasts without a network: the rate stays, repeats its last season, or follows a damped trend and season.

Each makes a point forecast of the growth, and adds the quantiles of its own errors on the training part of the same
trace at the same draw: more than a rule that meets a trace for the first time would know.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np

from controller.arrays import F64, I64
from controller.forecast import LEVELS
from controller.rule_arrays import RATE_TICKS
from experiments.forecast_samples import FLOOR_PER_TICK, JUDGED_TICKS, Moments, largest_ahead, mean_before
from experiments.quantile_fit import pinball

_Key = tuple[str, float, float]
_PEAK_TICKS = 3  # a season's peak is the largest mean of so many ticks: one noisy tick is none
DAY_TICKS = 8640


class Classical(ABC):
    """A point forecast with one of several settings per trace and draw, and the quantiles of its errors."""

    def __init__(self) -> None:
        self._chosen: dict[_Key, tuple[int, F64]] = {}
        self.seconds = 0.0

    @abstractmethod
    def points(self, moments: Moments, horizon_ticks: int) -> F64:
        """Growth forecast under each setting, (S, G)."""

    def fit(self, moments: Sequence[Moments]) -> None:
        """Chooses the setting with the least pinball loss for every series and draw, and keeps its errors."""
        began_s = time.monotonic()
        for one in moments:
            errors = one.judged[:, None] - self.points(one, JUDGED_TICKS)
            quantiles = np.quantile(errors, LEVELS, axis=0)  # (Q, G)
            losses = [
                pinball(np.broadcast_to(quantiles[:, g], (len(errors), len(LEVELS))), errors[:, g]).mean()
                for g in range(errors.shape[1])
            ]
            best = int(np.argmin(losses))
            self._chosen[_key(one)] = best, quantiles[:, best]
        self.seconds = time.monotonic() - began_s

    def quantiles(self, moments: Moments, horizon_ticks: int) -> F64:
        """Quantiles of growth, (S, Q)."""
        best, errors = self._chosen[_key(moments)]
        return np.asarray(self.points(moments, horizon_ticks)[:, [best]] + errors[None, :])


def _key(moments: Moments) -> _Key:
    return moments.series.name, moments.draw.mean_rps, moments.draw.dispersion


class Persistence(Classical):
    """The rate stays as it is."""

    def points(self, moments: Moments, horizon_ticks: int) -> F64:
        """No growth, (S, 1)."""
        return np.zeros((len(moments.at), 1))


class SeasonalNaive(Classical):
    """What followed one season ago follows again.

    Args:
        lags: Seasons in ticks to choose from; one is chosen for every series and draw by its training part. What lies
            before the trace's begin counts as no growth.
    """

    def __init__(self, lags: Sequence[int]) -> None:
        super().__init__()
        self.lags = tuple(lags)

    def points(self, moments: Moments, horizon_ticks: int) -> F64:
        """Growth to the peak that followed one season ago, (S, G)."""
        counts, at = moments.counts, moments.at
        total = np.concatenate([[0.0], np.cumsum(counts)])
        means = (total[_PEAK_TICKS:] - total[:-_PEAK_TICKS]) / _PEAK_TICKS
        peaks = largest_ahead(means, horizon_ticks - _PEAK_TICKS + 1)
        now = mean_before(counts, at, RATE_TICKS)
        found = np.zeros((len(at), len(self.lags)))
        for g, lag in enumerate(self.lags):
            then = at - max(lag, horizon_ticks)  # nothing of what is still to come
            is_known = then >= 0
            ahead = peaks[then[is_known]]
            found[is_known, g] = np.log((ahead + FLOOR_PER_TICK) / (now[is_known] + FLOOR_PER_TICK))
        return found


class HoltWinters(Classical):
    """Damped trend of the logarithm of counts, with and without an additive season.

    Args:
        seasons: Lengths in ticks to choose from.

    Source:
        Hyndman and Athanasopoulos, Forecasting: Principles and Practice (3rd ed.), sec. 8.2 and 8.3.
    """

    def __init__(self, seasons: Sequence[int]) -> None:
        super().__init__()
        self.settings = [
            (level, trend, damping, season, int(length))
            for level in (0.1, 0.3, 0.7)
            for trend in (0.0, 0.02, 0.1)
            for damping in (0.9, 0.98)
            for season, length in ((0.0, 1), *((0.1, length) for length in seasons))
        ]

    def points(self, moments: Moments, horizon_ticks: int) -> F64:
        """Growth to the largest forecast of the horizon, (S, G)."""
        logs = np.log(moments.counts + FLOOR_PER_TICK)
        now = np.log(mean_before(moments.counts, moments.at, RATE_TICKS) + FLOOR_PER_TICK)
        found = np.empty((len(moments.at), len(self.settings)))
        for g, (level, trend, damping, season, length) in enumerate(self.settings):
            found[:, g] = largest_forecast(logs, moments.at, horizon_ticks, level, trend, damping, season, length) - now
        return found


_njit: Callable[..., Any] = numba.njit


@_njit
def largest_forecast(
    values: F64, at: I64, horizon: int, alpha: float, beta: float, phi: float, gamma: float, period: int
) -> F64:
    """Largest forecast of the next `horizon` values at each moment, (S,), by Holt and Winters' damped recursion.

    Args:
        values: (T,) the series.
        at: (S,) rising; moment s has seen `values[: at[s]]`.
        horizon: Values ahead, >= 1.
        alpha: Smoothing of the level.
        beta: Smoothing of the trend.
        phi: Damping of the trend.
        gamma: Smoothing of the season; 0: none.
        period: Values in a season.
    """
    found = np.empty(len(at))
    seasons = np.zeros(period)
    level, trend, moment = values[0], 0.0, 0
    for t in range(len(values)):
        place = t % period
        before = level
        level = alpha * (values[t] - seasons[place]) + (1.0 - alpha) * (level + phi * trend)
        trend = beta * (level - before) + (1.0 - beta) * phi * trend
        if gamma > 0.0:
            seasons[place] = gamma * (values[t] - level) + (1.0 - gamma) * seasons[place]
        while moment < len(at) and at[moment] == t + 1:
            largest, damped, factor = -np.inf, 0.0, 1.0
            for ahead in range(1, horizon + 1):
                factor *= phi
                damped += factor
                largest = max(largest, level + damped * trend + seasons[(t + ahead) % period])
            found[moment] = largest
            moment += 1
    return found
