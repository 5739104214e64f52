"""Rates over time, and the model by which requests fall inside them: what simulator and load generator need of a trace.

Two ideas are needed to read it. A trace's counts are averaged to a *rate* on a regular grid, so that one recorded
second is not replayed as the truth but as a sample of it. Request times are then drawn by a *time-changed renewal
process*: gaps of mean 1 (exponential, or Gamma with a given coefficient of variation) laid on the cumulative rate.
The simulator draws with the same law in its kernels; `sample_arrivals` is the plain reference of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from controller.errors import TraceError, mismatch
from traces.trace import Trace

SMOOTH_AT_LEAST_S = 5.0  # counts of 1-s bins are samples of a rate; five of them tell a burst's edge from noise

_STREAM = 0xA221


@dataclass(frozen=True)
class ArrivalModel:
    """How requests fall inside a bin.

    Measured variance/mean of 1-s counts within a minute is 1.1 on the Twitter and Azure conversation traces and 1.3 on
    NASA's, so Poisson is the default; rate-weighted CVs of ServeGen's services run from 2.2 to 12.
    """

    kind: Literal["poisson", "gamma"] = "poisson"
    cv: float = 1.0  # coefficient of variation of the gaps; 1 is Poisson

    def __post_init__(self) -> None:
        if self.kind not in ("poisson", "gamma"):
            raise TraceError(mismatch("arrivals.kind", "poisson or gamma", self.kind))
        if not (math.isfinite(self.cv) and self.cv > 0):
            raise TraceError(mismatch("arrivals.cv", "a number > 0", self.cv))
        if self.kind == "poisson" and self.cv != 1.0:
            raise TraceError(mismatch("arrivals.cv", "1 for poisson (use gamma for another)", self.cv))

    @property
    def shape(self) -> float:
        """Shape of the Gamma law of the gaps, 1 / cv^2; its scale is cv^2, so the mean gap is 1."""
        return 1.0 / (self.cv * self.cv)


@dataclass(frozen=True, eq=False)
class Intensity:
    """Rates on a regular grid, one row per class (or one for the total)."""

    name: str
    rate_rps: NDArray[np.float64]  # (R, bins) requests/s, >= 0
    bin_s: float
    valid: NDArray[np.bool_]  # (bins,) False where the rate was filled in over a gap
    row_names: tuple[str, ...] = ("total",)
    arrivals: ArrivalModel = field(default_factory=ArrivalModel)

    def __post_init__(self) -> None:
        rows, bins = self.rate_rps.shape if self.rate_rps.ndim == 2 else (0, 0)
        if bins == 0 or not np.isfinite(self.rate_rps).all() or (self.rate_rps < 0).any():
            raise TraceError(f"{self.name}: rate_rps: expected rows x bins of finite numbers >= 0, not empty")
        if not (math.isfinite(self.bin_s) and self.bin_s > 0):
            raise TraceError(mismatch(f"{self.name}: bin_s", "a number > 0", self.bin_s))
        if self.valid.shape != (bins,) or len(self.row_names) != rows:
            shapes = f"{self.valid.shape} and {len(self.row_names)} names"
            raise TraceError(mismatch(f"{self.name}: valid, row_names", f"({bins},) flags and {rows} names", shapes))

    @property
    def duration_s(self) -> float:
        """Time covered, seconds."""
        return float(self.rate_rps.shape[1] * self.bin_s)

    @property
    def mean_rps(self) -> float:
        """Requests/s of all rows together over valid bins; over all bins where none is valid."""
        rate = self.rate_rps.sum(axis=0)
        return float(rate[self.valid].mean() if self.valid.any() else rate.mean())

    def cumulative(self) -> NDArray[np.float64]:
        """Requests expected before each bin edge, shape (R, bins + 1); column 0 is 0."""
        edges = np.zeros((self.rate_rps.shape[0], self.rate_rps.shape[1] + 1))
        np.cumsum(self.rate_rps * self.bin_s, axis=1, out=edges[:, 1:])
        return edges

    def scaled(self, factor: float) -> Intensity:
        """The same shape at `factor` (> 0) times the rate."""
        if not (math.isfinite(factor) and factor > 0):
            raise TraceError(mismatch(f"{self.name}: scale", "a number > 0", factor))
        return replace(self, rate_rps=self.rate_rps * factor)

    def total(self) -> Intensity:
        """All rows added."""
        return replace(self, rate_rps=self.rate_rps.sum(axis=0, keepdims=True), row_names=("total",))

    def divided(self, shares: dict[str, float]) -> Intensity:
        """One total row divided among classes by fixed shares, which sum to 1."""
        if self.rate_rps.shape[0] != 1:
            raise TraceError(mismatch(f"{self.name}: rows", "one row to divide", self.row_names))
        values = np.array(list(shares.values()), dtype=float)
        if not values.size or (values < 0).any() or abs(values.sum() - 1) > 1e-6:
            raise TraceError(mismatch("shares", "numbers >= 0 that sum to 1", shares))
        return replace(self, rate_rps=values[:, None] * self.rate_rps, row_names=tuple(shares))

    def slice_time(self, start_s: float, end_s: float) -> Intensity:
        """The bins from `start_s` up to `end_s`, each rounded to a bin edge."""
        first, last = round(start_s / self.bin_s), round(end_s / self.bin_s)
        if not 0 <= first < last <= self.rate_rps.shape[1]:
            raise TraceError(
                mismatch(f"{self.name}: time", f"a span inside 0..{self.duration_s:g} s", (start_s, end_s))
            )
        return replace(self, rate_rps=self.rate_rps[:, first:last], valid=self.valid[first:last])


def intensity_of(
    trace: Trace,
    *,
    bin_s: float | None = None,
    smooth_s: float | None = None,
    arrivals: ArrivalModel | None = None,
) -> Intensity:
    """Rates of a trace on a regular grid.

    Gaps are filled by a straight line between their neighbours and stay marked in `valid`. A bin's rate is the mean
    over a window centred on it (cut at the ends of the trace), so any width works, finer or wider than the trace's.

    Args:
        trace: Counts, one row per class.
        bin_s: Grid step in seconds; None: the trace's. A trailing part shorter than a step is dropped.
        smooth_s: Width of the centred window; None: the wider of the trace's bin and 5 s; 0: none. Never less than a
            grid step is averaged.
        arrivals: Law of the gaps between requests; None: Poisson.

    Returns:
        The intensity, one row per row of the trace.
    """
    step = trace.bin_seconds if bin_s is None else float(bin_s)
    smooth = max(trace.bin_seconds, SMOOTH_AT_LEAST_S) if smooth_s is None else float(smooth_s)
    if not (math.isfinite(step) and 0 < step <= trace.duration_s * (1 + 1e-9)):
        raise TraceError(mismatch(f"{trace.name}: bin_s", f"a number in (0, {trace.duration_s:g}]", bin_s))
    if not (math.isfinite(smooth) and smooth >= 0):
        raise TraceError(mismatch(f"{trace.name}: smooth_s", "a number >= 0", smooth_s))
    bins = int(trace.duration_s / step + 1e-9)
    edges_s = np.arange(trace.num_bins + 1) * trace.bin_seconds
    centres_s = (np.arange(bins) + 0.5) * step
    half = max(smooth, step) / 2
    low = np.maximum(centres_s - half, 0.0)
    high = np.minimum(centres_s + half, trace.duration_s)
    rate = np.empty((trace.num_rows, bins))
    for row, counts in enumerate(_filled(trace)):
        cumulative = np.concatenate([[0.0], np.cumsum(counts)])
        between = np.interp(high, edges_s, cumulative) - np.interp(low, edges_s, cumulative)
        rate[row] = np.maximum(between, 0.0) / (high - low)
    lost_s = np.concatenate([[0.0], np.cumsum(~trace.mask * trace.bin_seconds)])
    starts_s = np.arange(bins) * step
    lost_in_bin = np.interp(starts_s + step, edges_s, lost_s) - np.interp(starts_s, edges_s, lost_s)
    names = trace.row_names if trace.num_rows > 1 else ("total",)
    return Intensity(trace.name, rate, step, lost_in_bin < 1e-6 * step, names, arrivals or ArrivalModel())


def sample_arrivals(
    intensity: Intensity, start_s: float, end_s: float, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Request times drawn from an intensity.

    Each row has its own stream of the seed, so adding a class leaves the requests of the others where they were.

    Args:
        intensity: Rates and the law of the gaps.
        start_s: Begin of the span, seconds from bin 0.
        end_s: End of the span (not included).
        seed: Equal seeds draw equal requests.

    Returns:
        Times in seconds from bin 0, increasing, float64 (n,), and the row of each, int64 (n,).
    """
    if not 0 <= start_s < end_s <= intensity.duration_s * (1 + 1e-9):
        span = f"a span inside 0..{intensity.duration_s:g} s"
        raise TraceError(mismatch(f"{intensity.name}: time", span, (start_s, end_s)))
    edges_s = np.arange(intensity.rate_rps.shape[1] + 1) * intensity.bin_s
    times, rows = [], []
    for row, expected in enumerate(intensity.cumulative()):
        first, last = np.interp([start_s, end_s], edges_s, expected)
        rng = np.random.default_rng(np.random.SeedSequence([seed, _STREAM, row]))
        marks = first + _renewals(last - first, intensity.arrivals, rng)
        # Interpolation inverts the cumulative rate; where it is flat no mark falls, so the inverse is unique there.
        times.append(np.interp(marks, expected, edges_s))
        rows.append(np.full(marks.size, row, np.int64))
    at, of = np.concatenate(times), np.concatenate(rows)
    order = np.argsort(at, kind="stable")
    return at[order], of[order]


def _renewals(total: float, arrivals: ArrivalModel, rng: np.random.Generator) -> NDArray[np.float64]:
    """Points below `total` of a renewal process with gaps of mean 1, drawn in blocks until the span is full."""
    blocks: list[NDArray[np.float64]] = []
    reached = 0.0
    while reached < total:
        size = int((total - reached) * 1.05 + 4 * arrivals.cv * math.sqrt(total - reached) + 16)
        gaps = (
            rng.standard_exponential(size)
            if arrivals.kind == "poisson"
            else rng.standard_gamma(arrivals.shape, size) / arrivals.shape
        )
        points = reached + np.cumsum(gaps)
        blocks.append(points)
        reached = float(points[-1])
    marks = np.concatenate(blocks) if blocks else np.empty(0)
    return marks[marks < total]


def _filled(trace: Trace) -> NDArray[np.float64]:
    """Counts with gaps filled by straight lines; beyond the first and last recorded bin by the nearest."""
    counts = trace.counts.astype(float)
    if trace.mask.all():
        return counts
    at = np.arange(trace.num_bins)
    for row in counts:
        row[~trace.mask] = np.interp(at[~trace.mask], at[trace.mask], row[trace.mask])
    return counts
