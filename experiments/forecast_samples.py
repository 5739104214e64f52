"""Moments to forecast at, drawn from rate series: what is known then (counts), and how far the rate will rise.

A policy sees counts, and capacity is bought for the rate, so what is looked back on is drawn and what is looked for is
not. Every series is drawn at several mean rates and burstinesses, since a forecaster that saw one noise only would take
another service's noise for change.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controller.arrays import F64, HISTORY_TICKS, I64
from controller.errors import TraceError
from controller.rule_arrays import RATE_TICKS
from experiments.forecast_traces import TICK_S, Part, PartSeries
from experiments.forecasting import drawn_counts, shortened

HORIZONS_TICKS = (6, 12, 18, 30, 60)
"""Horizons learned, 60 to 600 s."""

JUDGED_TICKS = 18
"""Horizon that candidates are judged at: 180 s, a machine's launch and load."""

FLOOR_PER_TICK = 0.5  # the kernel's pseudo-count: keeps the logarithm of an empty stretch finite
_STREAM = 0xF07E


@dataclass(frozen=True)
class Draw:
    """At what rate and burstiness a series is drawn."""

    mean_rps: float
    dispersion: float = 1.0  # variance / mean of the counts of a tick; 1 is Poisson


DRAWS = (Draw(5.0), Draw(50.0), Draw(500.0), Draw(50.0, 9.0))
"""A small, a usual and a large service, and a usual one whose requests come in clumps."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of one series under one draw."""

    series: PartSeries
    draw: Draw
    counts: F64  # (ticks,) of the whole series; those behind a moment are never looked at
    at: I64  # (S,) ticks that are over at each moment: the ages 0.. are at - 1, at - 2, ...
    known: I64  # (S,) how many ticks of the past are known
    growth: F64  # (S, H) log(largest rate over the horizon / rate now), by `HORIZONS_TICKS`

    @property
    def judged(self) -> F64:
        """Growth over the judged horizon, (S,)."""
        return self.growth[:, HORIZONS_TICKS.index(JUDGED_TICKS)]


def moments_of(series: PartSeries, draw: Draw, most: int, seed: int) -> Moments:
    """At most `most` moments of a series, evenly spaced; none that looks back on or forward to an unrecorded tick."""
    per_tick = series.per_tick * draw.mean_rps * TICK_S
    key = f"{series.name} {series.part} {draw.mean_rps:g} {draw.dispersion:g}"
    rng = np.random.default_rng([seed, _STREAM, zlib.crc32(key.encode())])
    counts = drawn_counts(per_tick, draw.dispersion, rng)
    longest = HORIZONS_TICKS[-1]
    at = np.arange(max(series.first, HISTORY_TICKS), min(series.last, len(per_tick)) - longest + 1)
    gaps = np.concatenate([[0], np.cumsum(~series.valid)])
    at = at[gaps[at + longest] == gaps[at - HISTORY_TICKS]]
    # A stride that shares no factor with minutes: a trace of minute steps is met at every age of its step.
    stride = max(1, -(-len(at) // most))
    stride += 1 - stride % 2 if stride > 1 else 0
    stride += 2 if stride % 3 == 0 or stride % 5 == 0 else 0
    at = at[::stride]
    now = mean_before(counts, at, RATE_TICKS)
    ahead = np.stack([largest_ahead(per_tick, horizon)[at] for horizon in HORIZONS_TICKS], axis=1)
    known = np.full(len(at), HISTORY_TICKS, np.int64)
    if series.part == "train":
        known = shortened(known, rng)
    growth = np.log((ahead + FLOOR_PER_TICK) / (now[:, None] + FLOOR_PER_TICK))
    return Moments(series, draw, counts, at, known, growth)


def all_moments(
    series: Sequence[PartSeries], part: Part, most: int, seed: int, draws: Sequence[Draw] = DRAWS
) -> list[Moments]:
    """Moments of every series of a part under every draw.

    Raises:
        TraceError: No series of the part is long enough.
    """
    found = [
        moments_of(one, draw, most // 4 if one.is_row else most, seed)
        for one in series
        if one.part == part
        for draw in draws
    ]
    found = [one for one in found if len(one.at)]
    if not found:
        raise TraceError(f"{part}: expected recorded stretches of {HISTORY_TICKS + HORIZONS_TICKS[-1]} ticks, got none")
    return found


def mean_before(counts: F64, at: I64, ticks: int) -> F64:
    """Mean of the last `ticks` counts at each moment."""
    total = np.concatenate([[0.0], np.cumsum(counts)])
    return np.asarray((total[at] - total[at - ticks]) / ticks)


def largest_ahead(values: F64, ticks: int) -> F64:
    """Largest of `values[i : i + ticks]` for every i; shorter at the end."""
    found, width = values, 1
    while width < ticks:
        # Windows of `width` that begin `step` apart overlap or touch, so their larger is that of a wider window.
        step = min(width, ticks - width)
        found = np.maximum(found, np.append(found[step:], np.full(min(step, len(found)), -np.inf)))
        width += step
    return found
