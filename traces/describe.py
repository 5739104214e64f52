"""Statistics of a trace, as values, as text and as a picture.

Symbols: *peak* is the busiest minute (or bin, if wider), because one bin's count is mostly chance; *dispersion* is
variance / mean of 1-s counts within a minute, 1 for Poisson; a *burst* minute is above 1.8 times the median of the two
hours around it. All are taken over recorded bins only, rows added.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from controller.errors import TraceError, mismatch
from traces.trace import Trace

LAGS_S = (60.0, 600.0, 3_600.0, 86_400.0)
BURST_FACTOR = 1.8  # the day's swing stays below it within two hours; the plateaus of public traces begin at 2

_MINUTE_S = 60.0
_BASE_HALF_S = 3_600.0
_LONGEST_GAPS = 5
_BLOCK = 20_000


@dataclass(frozen=True)
class Gap:
    """A run of unrecorded bins."""

    begin_s: float  # from the begin of the trace
    length_s: float


@dataclass(frozen=True)
class Description:
    """Statistics of one trace; None where it is too short or its bins too wide to tell."""

    name: str
    source: str
    start: str | None
    fingerprint: str
    rows: int
    bins: int
    bin_seconds: float
    duration_s: float
    days: int  # whole days
    requests: float  # over recorded bins
    mean_rps: float
    median_rps: float  # of minutes (or bins, if wider), as the next three
    p99_rps: float
    peak_rps: float
    peak_to_mean: float
    peak_to_median: float | None
    bin_peak_rps: float  # of single bins
    dispersion: float | None
    autocorrelation: dict[str, float]  # by lag in seconds, of minutes (or bins, if wider)
    burst_minutes_share: float | None
    burst_requests_share: float | None
    gap_share: float  # of bins
    gaps: int
    longest_gaps: tuple[Gap, ...]
    row_mean_rps: dict[str, float]  # by row, busiest first; empty for one row

    def as_json(self) -> str:
        """All fields as one JSON object."""
        return json.dumps(asdict(self), indent=2)

    def as_text(self) -> str:
        """A few aligned lines for a screen."""
        lags = ", ".join(f"{float(lag):g} s {value:.2f}" for lag, value in self.autocorrelation.items())
        lines = [
            ("trace", self.name + (f" ({self.source})" if self.source else "")),
            ("begins", self.start or "not recorded"),
            (
                "length",
                f"{self.duration_s / 86_400:.2f} days, {self.bins} bins of {self.bin_seconds:g} s, {self.rows} row(s)",
            ),
            ("requests", f"{self.requests:,.0f}"),
            (
                "rate",
                (
                    f"mean {self.mean_rps:.4g} /s, median {self.median_rps:.4g}, "
                    f"p99 {self.p99_rps:.4g}, peak {self.peak_rps:.4g}"
                ),
            ),
            ("peak/mean", f"{self.peak_to_mean:.2f}, peak/median {_shown(self.peak_to_median)}"),
            ("dispersion", f"{_shown(self.dispersion)} (variance/mean of 1-s counts in a minute, median)"),
            ("autocorrelation", lags or "too short"),
            (
                "bursts",
                f"{_percent(self.burst_minutes_share)} of minutes, {_percent(self.burst_requests_share)} of requests",
            ),
            ("gaps", f"{self.gaps}, {100 * self.gap_share:.2f} % of bins"),
        ]
        lines += [("", f"{gap.length_s:g} s from {gap.begin_s:g} s") for gap in self.longest_gaps]
        busiest = list(self.row_mean_rps.items())[:10]
        lines += [("rows" if i == 0 else "", f"{name}: {rate:.4g} /s") for i, (name, rate) in enumerate(busiest)]
        if len(self.row_mean_rps) > len(busiest):
            lines.append(("", f"... and {len(self.row_mean_rps) - len(busiest)} more"))
        return "\n".join(f"{label:<16}{value}" for label, value in lines)


def describe(trace: Trace) -> Description:
    """Statistics of a trace, its rows added as they are."""
    total = trace.summed(equal_mean=False)
    wide = _widened(total)
    rates = wide.rate_rps()[0]
    recorded = rates[wide.mask]
    bins = total.rate_rps()[0][total.mask]
    mean, median, peak = total.mean_rps, float(np.median(recorded)), float(recorded.max())
    burst_minutes, burst_requests = _bursts(rates, wide.mask, wide.bin_seconds)
    gaps = _gaps(trace)
    row_means = trace.row_mean_rps
    busiest = np.argsort(-row_means, kind="stable") if trace.num_rows > 1 else np.empty(0, np.int64)
    return Description(
        name=trace.name,
        source=trace.source,
        start=trace.start,
        fingerprint=trace.fingerprint(),
        rows=trace.num_rows,
        bins=trace.num_bins,
        bin_seconds=trace.bin_seconds,
        duration_s=trace.duration_s,
        days=trace.days,
        requests=float(total.counts[:, total.mask].sum()),
        mean_rps=mean,
        median_rps=median,
        p99_rps=float(np.percentile(recorded, 99)),
        peak_rps=peak,
        peak_to_mean=peak / mean if mean > 0 else 0.0,
        peak_to_median=peak / median if median > 0 else None,
        bin_peak_rps=float(bins.max()),
        dispersion=_dispersion(total),
        autocorrelation=_autocorrelation(rates, wide.mask, wide.bin_seconds),
        burst_minutes_share=burst_minutes,
        burst_requests_share=burst_requests,
        gap_share=float((~trace.mask).mean()),
        gaps=len(gaps),
        longest_gaps=tuple(sorted(gaps, key=lambda gap: -gap.length_s)[:_LONGEST_GAPS]),
        row_mean_rps={trace.row_names[i]: float(row_means[i]) for i in busiest},
    )


def plot(trace: Trace, path: str | Path) -> Path:
    """Draws the rate over days, with gaps shaded, into a PNG.

    Raises:
        TraceError: The name does not end in `.png`, or its directory does not exist.
    """
    target = Path(path)
    if target.suffix != ".png":
        raise TraceError(mismatch("plot", "a name that ends in .png", str(path)))
    if not target.parent.is_dir():
        raise TraceError(f"{target}: expected an existing directory {target.parent}")
    # The object interface needs no display and leaves no global state, unlike pyplot.
    from matplotlib.figure import Figure

    wide = _widened(trace.summed(equal_mean=False))
    rates = np.where(wide.mask, wide.rate_rps()[0], np.nan)
    at_days = (np.arange(wide.num_bins) + 0.5) * wide.bin_seconds / 86_400
    figure = Figure(figsize=(11, 3.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(at_days, rates, linewidth=0.6)
    for gap in _gaps(trace):
        begin = gap.begin_s / 86_400
        axes.axvspan(begin, begin + gap.length_s / 86_400, color="0.85", zorder=0)
    axes.set(xlabel="days", ylabel="requests/s", title=trace.name, xlim=(0, trace.duration_s / 86_400))
    axes.set_ylim(bottom=0)
    try:
        figure.savefig(target, dpi=120)
    except OSError as error:
        raise TraceError(f"{target}: cannot be written ({error.strerror or error})") from None
    return target


def _widened(trace: Trace) -> Trace:
    """The trace in minutes where its bins divide one, it is that long and a minute was recorded whole."""
    size = _MINUTE_S / trace.bin_seconds
    if size <= 1 or abs(size - round(size)) > 1e-9 or trace.duration_s < _MINUTE_S:
        return trace
    has_whole_minute = trace.valid_windows(_MINUTE_S, _MINUTE_S).size > 0
    return trace.rebinned(_MINUTE_S) if has_whole_minute else trace


def _dispersion(trace: Trace) -> float | None:
    """Median over minutes of the variance / mean of their 1-s counts; None where bins are wider or nothing arrived."""
    if trace.bin_seconds > 1 or trace.duration_s < _MINUTE_S:
        return None
    seconds = trace if trace.bin_seconds == 1 else trace.rebinned(1.0)
    minutes = seconds.num_bins // 60
    counts = seconds.counts[0, : minutes * 60].reshape(minutes, 60).astype(float)
    counts = counts[seconds.mask[: minutes * 60].reshape(minutes, 60).all(axis=1)]
    counts = counts[counts.sum(axis=1) > 0]
    return float(np.median(counts.var(axis=1, ddof=1) / counts.mean(axis=1))) if len(counts) else None


def _autocorrelation(rates: NDArray[np.float64], valid: NDArray[np.bool_], bin_seconds: float) -> dict[str, float]:
    """Correlation of recorded pairs a lag apart, for the lags that are a bin or more and leave two lags of trace."""
    found = {}
    for lag_s in LAGS_S:
        lag = round(lag_s / bin_seconds)
        if lag < 1 or 2 * lag > rates.size:
            continue
        both = valid[:-lag] & valid[lag:]
        first, second = rates[:-lag][both], rates[lag:][both]
        if first.size > 1 and first.std() > 0 and second.std() > 0:
            found[f"{lag_s:g}"] = float(np.corrcoef(first, second)[0, 1])
    return found


def _bursts(
    rates: NDArray[np.float64], valid: NDArray[np.bool_], bin_seconds: float
) -> tuple[float | None, float | None]:
    """Shares of minutes and of requests above `BURST_FACTOR` times the running median; None for wider bins."""
    half = round(_BASE_HALF_S / bin_seconds)
    if not _MINUTE_S / 2 <= bin_seconds <= _MINUTE_S or rates.size < 2 * half:
        return None, None
    padded = np.pad(np.where(valid, rates, np.nan), half, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
    # A window around a recorded bin holds that bin at least, so no median is empty. In blocks, for memory.
    at = np.flatnonzero(valid)
    blocks = np.array_split(at, math.ceil(at.size / _BLOCK))
    base = np.concatenate([np.nanmedian(windows[block], axis=1) for block in blocks])
    recorded = rates[valid]
    in_burst = recorded > BURST_FACTOR * base
    total = recorded.sum()
    return float(in_burst.mean()), float(recorded[in_burst].sum() / total) if total > 0 else None


def _gaps(trace: Trace) -> list[Gap]:
    edges = np.diff(np.concatenate([[0], (~trace.mask).astype(np.int8), [0]]))
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    width = trace.bin_seconds
    return [Gap(float(b) * width, float(e - b) * width) for b, e in zip(begins, ends, strict=True)]


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.1f} %"
