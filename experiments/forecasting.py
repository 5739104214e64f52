"""Fits the quantile forecaster on the training days of a trace.

It learns log(largest rate over the horizon / rate now) from features of recent arrivals (`controller.forecast`).
Features come from the kernel that decides, on *drawn* counts, since a policy sees counts; the target is the rate they
were drawn from, since capacity is bought for the rate. The rate is also scaled up and down, so that one fit serves
slower and busier services.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from controller.arrays import F64, HISTORY_TICKS, I64
from controller.errors import TraceError
from controller.forecast import LEVELS, growth_of
from controller.rule_arrays import RATE_TICKS, ForecastArrays
from experiments.train_config import ForecastConfig

if TYPE_CHECKING:
    import torch

_SHORT_HISTORIES = (6, 12, 30, 90, 180)
_SHORT_EVERY = 4  # one sample in so many is of a run that has only begun
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
    import torch

    began_s = time.monotonic()
    torch.set_num_threads(1)  # layers this small lose more by sharing than they gain
    inputs, targets = samples(train, horizon_ticks, config)
    seen, held = samples(validation, horizon_ticks, config)
    spread = inputs.std(axis=0)
    scale = _float32(np.divide(1.0, spread, out=np.ones_like(spread), where=spread > 1e-3))
    generator = torch.Generator().manual_seed(config.seed)
    rows = torch.from_numpy((inputs * scale).astype(np.float32))
    wanted = torch.from_numpy(targets.astype(np.float32))[:, None]
    levels = torch.tensor(LEVELS)
    weights = _first_weights(rows.shape[1], config.hidden, np.quantile(targets, LEVELS), generator)
    # Biases of the levels are far from each other; Adam's steps are of one size, so all converge.
    optimizer = torch.optim.Adam(weights, lr=config.learning_rate)
    batches = max(1, len(rows) // config.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs * batches)
    for _ in range(config.epochs):
        order = torch.randperm(len(rows), generator=generator)
        for batch in torch.tensor_split(order, batches):
            optimizer.zero_grad()
            error = wanted[batch] - _quantiles(rows[batch], weights)
            loss = torch.maximum(levels * error, (levels - 1.0) * error).mean()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            schedule.step()
    w1, b1, w2, b2 = (_float32(weight.detach().numpy()) for weight in weights)
    arrays = ForecastArrays(feature_scale=scale, w1=w1, b1=b1, w2=w2, b2=b2, levels=np.array(LEVELS))
    found = growth_of(arrays, seen)
    still = np.broadcast_to(np.quantile(targets, LEVELS), found.shape)
    report = FitReport(
        levels=LEVELS,
        pinball=_pinball(found, held),
        pinball_persistence=_pinball(still, held),
        coverage=tuple(float(share) for share in (held[:, None] <= found).mean(axis=0)),
        train_samples=len(inputs),
        validation_samples=len(seen),
        seconds=round(time.monotonic() - began_s, 1),
    )
    return ForecastFit(arrays, report)


def samples(series: Sequence[RateSeries], horizon_ticks: int, config: ForecastConfig) -> tuple[F64, F64]:
    """Features (S, F) of drawn counts and growth of the rate (S,), from every series at every rate factor."""
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
    from controller.kernels.forecast import NUM_FEATURES, features_of_each

    per_tick = series.per_tick * factor
    counts = _drawn(per_tick, series.dispersion, rng)
    last = len(per_tick) - horizon_ticks
    # `at` counts the ticks that are over: ages 0.. are at - 1, at - 2, ...
    at = np.arange(RATE_TICKS, last + 1, config.stride_ticks)
    gaps = np.concatenate([[0], np.cumsum(~series.valid)])
    at = at[gaps[at + horizon_ticks] == gaps[at - RATE_TICKS]]
    known = np.minimum(at, HISTORY_TICKS)
    short = np.arange(len(at)) % _SHORT_EVERY == 0
    known[short] = np.minimum(known[short], rng.choice(_SHORT_HISTORIES, short.sum()))
    features = np.empty((len(at), NUM_FEATURES))
    for length in np.unique(known):
        chosen = np.flatnonzero(known == length)
        ages = at[chosen, None] - 1 - np.arange(length)[None, :]
        block = np.empty((len(chosen), NUM_FEATURES))
        features_of_each(np.ascontiguousarray(counts[ages]), int(length), block)
        features[chosen] = block
    ahead = (
        np.lib.stride_tricks.sliding_window_view(per_tick, horizon_ticks)[at].max(axis=1) if len(at) else per_tick[:0]
    )
    now = _mean_before(counts, at, RATE_TICKS)
    return features, np.log((ahead + _FLOOR_PER_TICK) / (now + _FLOOR_PER_TICK))


def _mean_before(counts: F64, at: I64, ticks: int) -> F64:
    total = np.concatenate([[0.0], np.cumsum(counts)])
    return np.asarray((total[at] - total[at - ticks]) / ticks)


def _drawn(per_tick: F64, dispersion: float, rng: np.random.Generator) -> F64:
    """Counts per tick; over-dispersed ones are negative binomial, whose variance is mean x dispersion."""
    if dispersion > 1.0:
        # Gamma-mixed Poisson: the mixing variance is mean x (dispersion - 1).
        shape = per_tick / (dispersion - 1.0)
        per_tick = np.where(per_tick > 0, rng.standard_gamma(shape) * (dispersion - 1.0), 0.0)
    return rng.poisson(per_tick).astype(np.float64)


def _first_weights(features: int, hidden: int, quantiles: F64, generator: torch.Generator) -> list[torch.Tensor]:
    """Small weights around the unconditional quantiles, so that training begins at persistence."""
    import torch

    steps = np.maximum(np.diff(quantiles), 1e-3)
    # Inverse of softplus, in which increments between levels are written.
    raw = np.concatenate([quantiles[:1], np.log(np.expm1(steps))])
    first = torch.randn(features, hidden, generator=generator) / features**0.5
    second = torch.randn(hidden, len(quantiles), generator=generator) * 0.01
    start = [first, torch.zeros(hidden), second, torch.from_numpy(raw.astype(np.float32))]
    return [weight.requires_grad_() for weight in start]


def _quantiles(rows: torch.Tensor, weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """The kernel's `growth_quantiles` in torch."""
    import torch

    w1, b1, w2, b2 = weights
    raw = torch.tanh(rows @ w1 + b1) @ w2 + b2
    return torch.cat([raw[:, :1], raw[:, :1] + torch.cumsum(torch.nn.functional.softplus(raw[:, 1:]), dim=1)], dim=1)


def _pinball(found: F64, held: F64) -> tuple[float, ...]:
    error = held[:, None] - found
    levels = np.array(LEVELS)
    return tuple(float(loss) for loss in np.maximum(levels * error, (levels - 1.0) * error).mean(axis=0))


def _float32(values: F64) -> F64:
    """Rounded to float32, held in float64."""
    return np.ascontiguousarray(values, np.float32).astype(np.float64)
