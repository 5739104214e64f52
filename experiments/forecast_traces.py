"""What a general forecaster learns from and is judged on: every public training trace, every generated preset, by part.

Two ideas are needed to read it. Rates are those that the simulator replays (`traces.intensity`), tick by tick, rows
added as a world adds them. And a part is a span of *decisions*: what a decision looks back on may lie before the part,
what it is judged by may not lie behind it, so no rate of a later part is ever seen by an earlier one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from controller.arrays import F64
from controller.errors import UsageError, mismatch
from traces.generator import generate
from traces.intensity import SMOOTH_AT_LEAST_S, intensity_of
from traces.readers import read_trace
from traces.trace import DAY_S, Trace

TICK_S = 10.0
Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")

_NASA_JOIN_S = 2_381_544.0  # where the file joins August to July 3.4 days later: no window spans it
_COMPRESSED = 60.0


@dataclass(frozen=True)
class Source:
    """A trace and its dated split.

    Attributes:
        name: Name in tables; the rows of a file are named `NAME:ROW`.
        file: Path below the directory of the public traces; empty for a preset.
        cuts_day: Days from the first bin at which training begins, validation begins, test begins and test ends.
        smooth_s: Least width of the window that rates are averaged over.
        compress: Time runs this many times faster than recorded.
        has_rows: Whether each row is a series of its own besides their sum.
        equal_mean: Whether rows are brought to equal means before they are added, as a world does; clients of one
            service are added as they are, since some have next to no requests in the training part.
        is_held_out: Whether networks never learn from it, so that it shows how they do on a trace of another kind.
    """

    name: str
    file: str
    cuts_day: tuple[float, float, float, float]
    smooth_s: float = SMOOTH_AT_LEAST_S
    compress: float = 1.0
    has_rows: bool = False
    equal_mean: bool = True
    is_held_out: bool = False


SOURCES = (
    Source("twitter", "twitter_2021_08/counts_1s_day01-17.npz", (0, 11, 13, 17)),
    Source("worldcup", "worldcup_1998/counts_60s_1998-05-01_06-26.npz", (40, 45, 49, 57)),
    Source("azure_functions", "azure_functions_2019/counts_60s_8func_day01-14.npz", (0, 9, 11, 14), has_rows=True),
    Source("azure_functions_d8", "azure_functions_2019/counts_60s_8func_day08-12.npz", (0, 3, 4, 5), has_rows=True),
    Source("faro", "faro_azure_top9/counts_60s_9func_day01-11.npz", (0, 8, 9, 11), has_rows=True),
    Source("servegen_small", "servegen/m-small.npz", (0, 9, 11, 14), equal_mean=False),
    Source("servegen_mid", "servegen/m-mid.npz", (0, 9, 11, 14), equal_mean=False),
    Source("servegen_large", "servegen/m-large.npz", (0, 9, 11, 14), equal_mean=False),
    # A request every 77 s: its README advises to compress time; a minute of the result is smoothed, or what is
    # replayed as rate would be the noise of single requests.
    Source("alibaba_genai", "alibaba_genai_2024/requests.csv.gz", (0, 16, 19, 24), smooth_s=60.0, compress=_COMPRESSED),
    Source("nasa", "nasa_1995/counts_1s.npz", (0, _NASA_JOIN_S / DAY_S, 44, 58), is_held_out=True),
)
"""Splits as the data's own index gives them; the World Cup's training begins with the matches, as it advises."""

PRESETS = (
    "twitter_like",
    "worldcup_like",
    "azure_like",
    "steady",
    "diurnal",
    "burst",
    "flash_crowd",
    "flash_crowds",
    "regime_change",
    "on_off",
)
"""Generated traces learned from and judged on; each part is a draw of its own."""

_PRESET_DAYS = 4.0
_PRESET_SEED: dict[Part, int] = {"train": 101, "validation": 202, "test": 303}


@dataclass(frozen=True, eq=False)
class PartSeries:
    """Rate of one trace tick by tick, and the span of it that belongs to one part."""

    trace: str  # name of the source, under which results are pooled
    name: str
    part: Part
    per_tick: F64  # (ticks,) requests expected in a tick, at a mean of 1 over the training part
    valid: NDArray[np.bool_]  # (ticks,) False where the source recorded nothing
    first: int  # first tick of the part
    last: int  # one after its last
    is_row: bool = False  # one row of a file whose sum is a series as well
    is_held_out: bool = False


def load_series(
    root: Path, *, sources: tuple[Source, ...] = SOURCES, presets: tuple[str, ...] = PRESETS
) -> list[PartSeries]:
    """Every series in its parts.

    Args:
        root: Directory of the public traces, the one that holds `requests/`.
        sources: Public traces to take.
        presets: Generated ones to take.

    Raises:
        UsageError: `root` holds no traces.
        TraceError: A file is missing or damaged.
    """
    if not (root / "requests").is_dir():
        raise UsageError(mismatch("PROVISOR_DATA", "the directory of the public traces, with `requests/` in it", root))
    return [one for source in sources for one in _of_source(root, source)] + [
        one for name in presets for one in _of_preset(name)
    ]


def _of_source(root: Path, source: Source) -> Iterator[PartSeries]:
    trace = read_trace(root / "requests" / source.file, bin_seconds=TICK_S)
    if source.compress != 1.0:
        # A bin that held a minute now holds a second.
        trace = Trace(trace.name, trace.counts, trace.bin_seconds / source.compress, trace.row_names, trace.valid)
    cuts_s = [day * DAY_S / source.compress for day in source.cuts_day]
    training = trace.slice_time(cuts_s[0], cuts_s[1])
    yield from _parts(source, source.name, trace.summed(source.equal_mean, training), cuts_s)
    if source.has_rows:
        for name, mean in zip(trace.row_names, training.row_mean_rps, strict=True):
            if mean > 0:
                yield from _parts(source, f"{source.name}:{name}", trace.row(name), cuts_s, is_row=True)


def _parts(source: Source, name: str, trace: Trace, cuts_s: list[float], is_row: bool = False) -> Iterator[PartSeries]:
    per_tick, valid = tick_rates_of(trace, source.smooth_s)
    if source.name == "nasa":
        valid[int(_NASA_JOIN_S / TICK_S)] = False
    edges = [min(len(per_tick), round(cut / TICK_S)) for cut in cuts_s]
    mean = per_tick[edges[0] : edges[1]][valid[edges[0] : edges[1]]].mean()
    for part, first, last in zip(PARTS, edges, edges[1:], strict=False):
        yield PartSeries(source.name, name, part, per_tick / mean, valid, first, last, is_row, source.is_held_out)


def _of_preset(name: str) -> Iterator[PartSeries]:
    for part in PARTS:
        per_tick, valid = tick_rates_of(generate(name, _PRESET_DAYS, _PRESET_SEED[part]), SMOOTH_AT_LEAST_S)
        label = f"generated {name}"
        yield PartSeries(label, label, part, per_tick / per_tick.mean(), valid, 0, len(per_tick))


def tick_rates_of(trace: Trace, smooth_s: float) -> tuple[F64, NDArray[np.bool_]]:
    """Requests expected per tick and whether all of a tick was recorded, as a world of one row replays the trace."""
    rates = intensity_of(trace, smooth_s=max(smooth_s, trace.bin_seconds))
    ticks = int(rates.duration_s / TICK_S + 1e-9)
    edges_s = np.arange(rates.rate_rps.shape[1] + 1) * rates.bin_s
    at_s = np.arange(ticks + 1) * TICK_S
    per_tick = np.diff(np.interp(at_s, edges_s, rates.cumulative().sum(axis=0)))
    lost_s = np.diff(np.interp(at_s, edges_s, np.concatenate([[0.0], np.cumsum(~rates.valid * rates.bin_s)])))
    return np.maximum(per_tick, 0.0), lost_s < 1e-6
