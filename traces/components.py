"""Parts a generated load is made of; each gives a factor (or, `Timer`, an addition) on the base rate over time.

Every component is a frozen value with its parameters in its fields, draws only from the generator it is handed, and
knows nothing of the others; `generator` composes them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from traces.trace import DAY_S

HOUR_S = 3_600.0
Floats = NDArray[np.float64]


class Component(Protocol):
    """A part of a generated load."""

    def factor(self, at_s: Floats, bin_seconds: float, rng: np.random.Generator) -> Floats:
        """Factor on the base rate at the bin centres `at_s` (seconds from the begin), shape of `at_s`, >= 0."""
        ...


@dataclass(frozen=True)
class Diurnal:
    """Smooth day: a cosine, or 24 hourly values joined by straight lines around the clock."""

    amplitude: float = 0.5  # (peak - trough) / (peak + trough) of the cosine, in [0, 1]
    peak_hour: float = 15.0
    hourly: tuple[float, ...] = ()  # 24 relative rates, from 00:00; replaces the cosine

    def factor(self, at_s: Floats, bin_seconds: float, rng: np.random.Generator) -> Floats:
        """See `Component.factor`."""
        if not self.hourly:
            angle = 2 * math.pi * (at_s - self.peak_hour * HOUR_S) / DAY_S
            return np.asarray(1 + self.amplitude * np.cos(angle), dtype=np.float64)
        values = np.array(self.hourly) / np.mean(self.hourly)
        # A value stands for the middle of its hour.
        return np.asarray(np.interp(at_s / HOUR_S, np.arange(24) + 0.5, values, period=24.0), dtype=np.float64)


@dataclass(frozen=True)
class Bursts:
    """Plateaus: a ramp up, a level, a ramp down; heights and lengths lognormal within limits.

    Begins lie on a grid of slots, each used with the probability that gives `per_day`, weighed by `slot_weights` taken
    round and round; with `slot_s` None they fall anywhere. `hours` instead limits them to times of day, each used with
    probability `per_day / len(hours)`.
    """

    per_day: float = 12.0
    height: float = 4.0  # median of level / base
    height_sigma: float = 0.2  # of its logarithm
    height_max: float = 5.0
    length_s: float = 500.0  # median of ramp up plus level
    length_sigma: float = 0.4
    length_max_s: float = 1_600.0
    rise_s: float = 20.0
    fall_s: float = 100.0
    slot_s: float | None = None
    slot_offset_s: float = 0.0
    slot_weights: tuple[float, ...] = (1.0,)
    hours: tuple[float, ...] = ()

    def factor(self, at_s: Floats, bin_seconds: float, rng: np.random.Generator) -> Floats:
        """See `Component.factor`; where two bursts meet the higher one counts."""
        begins = self._begins(float(at_s[-1]) + bin_seconds / 2, rng)
        heights = np.minimum(
            self.height * np.exp(self.height_sigma * rng.standard_normal(begins.size)), self.height_max
        )
        lengths = np.minimum(
            self.length_s * np.exp(self.length_sigma * rng.standard_normal(begins.size)), self.length_max_s
        )
        factor = np.ones_like(at_s)
        for begin, height, length in zip(begins, np.maximum(heights, 1.0), lengths, strict=True):
            first = max(0, int(begin / bin_seconds) - 1)
            last = int((begin + length + self.fall_s) / bin_seconds) + 2
            since = at_s[first:last] - begin
            up = np.clip(since / max(self.rise_s, 1e-9), 0, 1)
            down = np.clip(1 - (since - length) / max(self.fall_s, 1e-9), 0, 1)
            factor[first:last] = np.maximum(factor[first:last], 1 + (height - 1) * np.minimum(up, down))
        return factor

    def _begins(self, end_s: float, rng: np.random.Generator) -> Floats:
        if self.hours:
            days = math.ceil(end_s / DAY_S)
            grid = (np.arange(days)[:, None] * DAY_S + np.array(sorted(self.hours)) * HOUR_S).ravel()
            grid = grid + rng.uniform(-0.25, 0.25, grid.size) * HOUR_S  # events do not begin on the second
            used = rng.random(grid.size) < self.per_day / len(self.hours)
            return np.asarray(grid[used & (grid < end_s)], dtype=np.float64)
        if self.slot_s is None:
            return np.sort(rng.uniform(0, end_s, rng.poisson(self.per_day * end_s / DAY_S)))
        grid = np.arange(self.slot_offset_s, end_s, self.slot_s)
        weights = np.resize(np.array(self.slot_weights) / np.mean(self.slot_weights), grid.size)
        used = rng.random(grid.size) < weights * self.per_day * self.slot_s / DAY_S
        return np.asarray(grid[used], dtype=np.float64)


@dataclass(frozen=True)
class FlashCrowd:
    """A crowd that comes within minutes and leaves over hours; one in every `every_days` days, at any time in them."""

    every_days: float = 2.0
    height: float = 6.0  # peak / base
    rise_s: float = 180.0  # linear
    decay_s: float = 3_600.0  # exponential

    def factor(self, at_s: Floats, bin_seconds: float, rng: np.random.Generator) -> Floats:
        """See `Component.factor`."""
        span_s = self.every_days * DAY_S
        factor = np.ones_like(at_s)
        for index in range(math.ceil((float(at_s[-1]) + bin_seconds / 2) / span_s)):
            since = at_s - (index + rng.random()) * span_s
            shape = np.where(
                since < self.rise_s, since / self.rise_s, np.exp(-(since - self.rise_s).clip(0) / self.decay_s)
            )
            factor += (self.height - 1) * np.where(since > 0, shape, 0.0)
        return factor


@dataclass(frozen=True)
class RegimeChange:
    """Levels that hold for days and then change at once; lengths exponential, levels lognormal of median 1."""

    mean_days: float = 3.0
    sigma: float = 0.35  # of the logarithm of a level

    def factor(self, at_s: Floats, bin_seconds: float, rng: np.random.Generator) -> Floats:
        """See `Component.factor`."""
        edges, levels = [0.0], [float(np.exp(self.sigma * rng.standard_normal()))]
        while edges[-1] <= at_s[-1]:
            edges.append(edges[-1] + float(rng.exponential(self.mean_days * DAY_S)))
            levels.append(float(np.exp(self.sigma * rng.standard_normal())))
        return np.array(levels)[np.searchsorted(edges, at_s, side="right") - 1]


@dataclass(frozen=True)
class OnOff:
    """Alternates between full load and `floor`; lengths of both exponential."""

    mean_on_s: float = 1_800.0
    mean_off_s: float = 1_800.0
    floor: float = 0.1  # of the load while off

    def factor(self, at_s: Floats, bin_seconds: float, rng: np.random.Generator) -> Floats:
        """See `Component.factor`."""
        edges, on = [0.0], rng.random() < self.mean_on_s / (self.mean_on_s + self.mean_off_s)
        first = on
        while edges[-1] <= at_s[-1]:
            edges.append(edges[-1] + float(rng.exponential(self.mean_on_s if on else self.mean_off_s)))
            on = not on
        odd = (np.searchsorted(edges, at_s, side="right") - 1) % 2 == 1
        return np.where(odd ^ first, 1.0, self.floor)


@dataclass(frozen=True)
class DayLevel:
    """A level per day, lognormal of median 1: match days and rest days."""

    sigma: float = 0.4

    def factor(self, at_s: Floats, bin_seconds: float, rng: np.random.Generator) -> Floats:
        """See `Component.factor`."""
        days = (at_s // DAY_S).astype(np.int64)
        levels = np.exp(self.sigma * rng.standard_normal(int(days[-1]) + 1))
        return np.asarray(levels[days], dtype=np.float64)


@dataclass(frozen=True)
class Noise:
    """Lognormal noise of mean 1 that forgets over `tau_s`, on top of the Poisson law of the counts."""

    sigma: float = 0.07  # of the logarithm
    tau_s: float = 180.0

    def factor(self, at_s: Floats, bin_seconds: float, rng: np.random.Generator) -> Floats:
        """See `Component.factor`; drawn at knots half a `tau_s` apart and joined by straight lines."""
        step = max(self.tau_s / 2, bin_seconds)
        knots = int((float(at_s[-1]) + bin_seconds) / step) + 2
        keep = math.exp(-step / self.tau_s)
        shocks = rng.standard_normal(knots)
        level, values = float(shocks[0]), np.empty(knots)
        for i, shock in enumerate(shocks.tolist()):
            level = keep * level + math.sqrt(1 - keep * keep) * shock if i else level
            values[i] = level
        # Between knots a straight line varies less; its variance averages 2/3 + keep/3 of theirs.
        log = self.sigma / math.sqrt((2 + keep) / 3) * np.interp(at_s, np.arange(knots) * step, values)
        return np.asarray(np.exp(log - self.sigma**2 / 2), dtype=np.float64)


@dataclass(frozen=True)
class Timer:
    """A job by the clock: its share of the load comes in `width_s` at the begin of each period."""

    share: float  # of the mean load, in [0, 1]
    period_s: float
    width_s: float
    jitter: float = 0.0  # spread of a run's size: sigma of its logarithm
    phase_s: float = 0.0

    def addition(self, at_s: Floats, bin_seconds: float, rng: np.random.Generator) -> Floats:
        """Addition in units of the base rate: 0 outside the runs; its mean over long times is `share`."""
        since = at_s - self.phase_s
        run = np.floor(since / self.period_s).astype(np.int64)
        run -= run.min()
        sizes = np.exp(self.jitter * rng.standard_normal(int(run.max()) + 1) - self.jitter**2 / 2)
        # A run narrower than a bin still fills one: its requests are then spread over that bin.
        width = max(self.width_s, bin_seconds)
        inside = np.mod(since, self.period_s) < width
        return np.where(inside, self.share * self.period_s / width * sizes[run], 0.0)
