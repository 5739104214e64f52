"""What a run was asked for, from its journal: arrivals by class as a trace like any other.

Two ideas are needed to read it. A live router counts arrivals in ten bins per tick (a second at the default tick), and
the journal takes them over tick by tick, so what was captured survives a kill with the lines before it; a simulated
run, or a journal from before there were such counts, has those of whole ticks. And a trace is in control time: at speed
X a bin of b live seconds is b X seconds long, as in the trace that such a run replays, and `rate_factor` brings its
rate back to what the machines met.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from controller.errors import TraceError
from controller.journal import Journal, JournalTick
from controller.measurements import ArrivalBins
from traces.trace import Trace

_SLIP_TICKS: Final = 3
"""A reading that lies this many ticks off the journal's clock is of a router that started anew."""


@dataclass(frozen=True)
class Capture:
    """Arrivals of a run.

    Attributes:
        trace: A row per request class, from the run's begin; bins that nobody counted are marked.
        rate_factor: Live requests/s per request/s of the trace: the run's speed.
        ticks: Windows that the journal holds.
        is_fine: Whether the router's own bins were there, or only whole ticks.
    """

    trace: Trace
    rate_factor: float
    ticks: int
    is_fine: bool


def read_capture(journal: Journal) -> Capture:
    """The arrivals that a journal holds.

    Raises:
        TraceError: It holds none, or no window at all.
        JournalError: A line is damaged.
    """
    scenario: dict[str, Any] = journal.header.scenario
    classes = tuple(str(one["name"]) for one in scenario["workload"]["classes"])
    tick_s, speed = float(scenario["control"]["tick_s"]), float(scenario["speed"])
    counts: list[NDArray[np.int64]] = []
    chunks: list[tuple[int, ArrivalBins]] = []
    known: list[bool] = []
    has_measured = False
    for tick in journal.ticks():
        if not tick.observation.tick[0]:
            continue  # what is seen before the first window
        counts.append(tick.observation.arrivals[0].copy())
        has_measured = has_measured or tick.measured is not None
        known.append(_is_counted(tick))
        if tick.measured is not None and tick.measured.arrivals is not None:
            chunks.append((len(counts), tick.measured.arrivals))
    if not counts:
        raise TraceError(f"{journal.path}: expected at least one window of arrivals, got none")
    valid = np.array(known) if has_measured else np.ones(len(counts), np.bool_)
    if not np.any(counts):
        raise TraceError(f"{journal.path}: expected requests, got none in {len(counts)} windows")
    if chunks:
        per_tick = max(1, round(tick_s / speed / chunks[0][1].bin_s))
        arrived, valid = _placed(chunks, len(counts), per_tick, len(classes))
    else:
        per_tick, arrived = 1, np.stack(counts, axis=1)
    name = journal.path.name.removesuffix(".gz").removesuffix(".jsonl")
    trace = Trace(
        name=name,
        counts=arrived,
        bin_seconds=tick_s / per_tick,
        row_names=classes,
        valid=valid,
        source=f"captured: {journal.header.kind} run of '{scenario['name']}'",
    )
    return Capture(trace, speed, len(counts), bool(chunks))


def _is_counted(tick: JournalTick) -> bool:
    """Whether the window was counted: a live line without measurements repeats the one before it."""
    return tick.measured is not None


def _placed(
    chunks: list[tuple[int, ArrivalBins]], ticks: int, per_tick: int, num_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Counts (C, bins) and which bins are known, on the journal's clock.

    Args:
        chunks: Windows closed so far, and the bins read then.
        ticks: Windows in all.
        per_tick: Bins of a window.
        num_classes: C.
    """
    counts = np.zeros((num_classes, ticks * per_tick), np.int64)
    valid = np.zeros(ticks * per_tick, np.bool_)
    shift: int | None = None
    read_to = 0
    for windows, chunk in chunks:
        here = windows * per_tick
        is_new = shift is None or abs(chunk.end + shift - here) > _SLIP_TICKS * per_tick
        if is_new or shift is None:
            shift = here - chunk.end
            # A router that started anew tells nothing of the time before it did.
            read_to = max(read_to, here - per_tick) if valid.any() else max(0, here - per_tick)
        for number, *arrived in chunk.bins:
            at = number + shift
            if 0 <= at < counts.shape[1]:
                counts[:, at] += np.array(arrived, np.int64)
        upto = min(counts.shape[1], max(read_to, chunk.end + shift))
        if not chunk.lost:
            valid[read_to:upto] = True
        read_to = upto
    return counts, valid
