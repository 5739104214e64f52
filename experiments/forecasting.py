"""Fits the quantile forecaster on the training days of a trace.

It learns log(largest rate over the horizon / rate now) from inputs made of recent arrivals (`controller.forecast`).
They come from the kernel that decides, on *drawn* counts, since a policy sees counts; the target is the rate they
were drawn from, since capacity is bought for the rate. The rate is also scaled up and down, so that one fit serves
slower and busier services.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from controller.arrays import F64, HISTORY_TICKS, I64
from controller.errors import TraceError
from controller.forecast import INPUTS, LEVELS, forecast_inputs, growth_of
from controller.rule_arrays import RATE_TICKS, ForecastArrays
from experiments.quantile_fit import coverage, pinball
from experiments.train_config import ForecastConfig

_SHORT_HISTORIES = (2, 6, 12, 30, 60, 90, 180, 270)
_SHORT_EVERY = 4  # one sample in so many is of a run that has only begun
_BLOCK = 4096  # histories gathered at a time
_FLOOR_PER_TICK = 0.5  # as the kernel's pseudo-count: keeps the logarithm of an empty stretch finite


@dataclass(frozen=True, eq=False)
class RateSeries:
    """Rate of one trace, tick by tick."""

    per_tick: F64  # (ticks,) requests expected in a tick
    valid: NDArray[np.bool_]  # (ticks,) False where the source recorded nothing
    dispersion: float = 1.0  # variance / mean of the counts of a tick, >= 1


@dataclass(frozen=True)
class FitReport:
    """How good a fit is on days it has not seen; lists run over the levels."""

    levels: tuple[float, ...]
    pinball: tuple[float, ...]
    pinball_persistence: tuple[float, ...]  # of the rate now times the training quantiles of growth
    coverage: tuple[float, ...]  # share of targets at or below the forecast; should be the level
    train_samples: int
    validation_samples: int
    seconds: float

    def plain(self) -> dict[str, JsonValue]:
        """As JSON values, without the time it took: equal runs give equal policy files."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        del values["seconds"]
        return values


@dataclass(frozen=True, eq=False)
class ForecastFit:
    """A fitted forecaster; its numbers are exact in float32, so a policy file keeps them."""

    arrays: ForecastArrays
    report: FitReport


def fit_forecaster(
    train: Sequence[RateSeries], validation: Sequence[RateSeries], horizon_ticks: int, config: ForecastConfig
) -> ForecastFit:
    """Fits the forecaster.

    Args:
        train: Series to learn from.
        validation: Series to report on.
        horizon_ticks: Ticks ahead, the next one included, >= 1.
        config: Settings.

    Returns:
        Network and report; equal arguments give equal networks.

    Raises:
        TraceError: The series hold no stretch as long as the horizon.
    """
    from experiments.quantile_net import fit_quantile_net

    began_s = time.monotonic()
    inputs, targets = samples(train, horizon_ticks, config)
    seen, held = samples(validation, horizon_ticks, config)
    told = inputs[:1, -1]
    fitted = fit_quantile_net(inputs[:, :-1], targets[:, None], told, config.fit)
    arrays = _of_one_horizon(fitted.arrays(), float(told[0]))
    found = growth_of(arrays, seen)
    still = np.broadcast_to(np.quantile(targets, LEVELS), found.shape)
    report = FitReport(
        levels=LEVELS,
        pinball=_plain(pinball(found, held)),
        pinball_persistence=_plain(pinball(still, held)),
        coverage=_plain(coverage(found, held)),
        train_samples=len(inputs),
        validation_samples=len(seen),
        seconds=round(time.monotonic() - began_s, 1),
    )
    return ForecastFit(arrays, report)


def _plain(values: F64) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _of_one_horizon(arrays: ForecastArrays, told: float) -> ForecastArrays:
    """The same network with the horizon that it was fitted for built in: at another it would be asked the unknown."""
    bias = (arrays.b1 + told * arrays.w1[-1]).astype(np.float32).astype(np.float64)
    weight = arrays.w1.copy()
    weight[-1] = 0.0
    return arrays._replace(w1=weight, b1=bias)


def samples(series: Sequence[RateSeries], horizon_ticks: int, config: ForecastConfig) -> tuple[F64, F64]:
    """Inputs (S, F) from drawn counts and growth of the rate (S,), from every series at every rate factor."""
    found = [
        _samples_of(one, factor, horizon_ticks, config, np.random.default_rng([config.seed, 0xF0CA, row, column]))
        for row, one in enumerate(series)
        for column, factor in enumerate(config.thinnings)
    ]
    inputs = np.concatenate([features for features, _ in found]) if found else np.empty((0, 0))
    if not len(inputs):
        raise TraceError(f"trace: expected recorded stretches of {RATE_TICKS + horizon_ticks} ticks to learn from")
    return inputs, np.concatenate([growth for _, growth in found])


def _samples_of(
    series: RateSeries, factor: float, horizon_ticks: int, config: ForecastConfig, rng: np.random.Generator
) -> tuple[F64, F64]:
    per_tick = series.per_tick * factor
    counts = drawn_counts(per_tick, series.dispersion, rng)
    last = len(per_tick) - horizon_ticks
    # `at` counts the ticks that are over: ages 0.. are at - 1, at - 2, ...
    at = np.arange(RATE_TICKS, last + 1, config.stride_ticks)
    gaps = np.concatenate([[0], np.cumsum(~series.valid)])
    at = at[gaps[at + horizon_ticks] == gaps[at - RATE_TICKS]]
    known = shortened(np.minimum(at, HISTORY_TICKS), rng)
    inputs = inputs_at(counts, at, known, horizon_ticks)
    ahead = (
        np.lib.stride_tricks.sliding_window_view(per_tick, horizon_ticks)[at].max(axis=1) if len(at) else per_tick[:0]
    )
    now = _mean_before(counts, at, RATE_TICKS)
    return inputs, np.log((ahead + _FLOOR_PER_TICK) / (now + _FLOOR_PER_TICK))


def inputs_at(counts: F64, at: I64, known: I64, horizon_ticks: int) -> F64:
    """The network's inputs, (S, F), at moments of one series.

    Args:
        counts: (ticks,) of the series.
        at: (S,) ticks that are over at each moment.
        known: (S,) how many of the newest of them are known.
        horizon_ticks: Ticks ahead that are forecast.
    """
    found = [np.empty((0, len(INPUTS)))]
    for first in range(0, len(at), _BLOCK):
        block = slice(first, first + _BLOCK)
        by_tick = at[block, None] - HISTORY_TICKS + np.arange(HISTORY_TICKS)[None, :]
        found.append(forecast_inputs(counts[np.maximum(by_tick, 0)], horizon_ticks, known[block]))
    return np.concatenate(found)


def shortened(known: I64, rng: np.random.Generator) -> I64:
    """How many ticks are known at each moment, one in four times only few: a run that has only begun."""
    short = np.arange(len(known)) % _SHORT_EVERY == 0
    found = known.copy()
    found[short] = np.minimum(known[short], rng.choice(_SHORT_HISTORIES, short.sum()))
    return found


def _mean_before(counts: F64, at: I64, ticks: int) -> F64:
    total = np.concatenate([[0.0], np.cumsum(counts)])
    return np.asarray((total[at] - total[at - ticks]) / ticks)


def drawn_counts(per_tick: F64, dispersion: float, rng: np.random.Generator) -> F64:
    """Counts per tick; over-dispersed ones are negative binomial, whose variance is mean x dispersion."""
    if dispersion > 1.0:
        # Gamma-mixed Poisson: the mixing variance is mean x (dispersion - 1).
        shape = per_tick / (dispersion - 1.0)
        per_tick = np.where(per_tick > 0, rng.standard_gamma(shape) * (dispersion - 1.0), 0.0)
    return rng.poisson(per_tick).astype(np.float64)
