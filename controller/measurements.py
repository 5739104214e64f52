"""What a live run measured in one window and no decision reads: single service times, gaps, and spans of replicas.

A journal line of a live run carries them beside the observation, so that a catalog can be fitted to the run afterwards.
They are kept small: of many durations alike, a journal holds a few, evenly chosen, and how many there were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, Literal, NamedTuple, cast, get_args

MOST_SERVICES: Final = 16
"""Single service times journalled per window, option and batch size."""

MOST_GAPS: Final = 32
"""Single gaps between arrivals journalled per window."""

_DIGITS = 6  # microseconds; the clocks of a live run are no better

BINS_PER_TICK: Final = 10
"""Bins in which a router counts arrivals: of a second where a tick has ten, whatever the speed."""

SpanKind = Literal["launch", "load", "swap"]


class ServiceSample(NamedTuple):
    """Batches of one size that one option finished in the window; the credit was held this long for each."""

    option: int  # variant * P + pool
    batch: int
    is_cold: bool  # serverless: the cold start is part of the time
    num_batches: int  # finished in the window
    single_s: tuple[float, ...]  # some of them


class Span(NamedTuple):
    """A launch (asked for to booted), a load (booted to serving) or a swap (asked for to serving) that ended."""

    kind: SpanKind
    option: int
    seconds: float


class ArrivalBins(NamedTuple):
    """Arrivals by class in short bins of the router's clock; bins without any are left out.

    A reading holds the bins that were closed since the one before it, by an arrival in a later one; so each is told of
    once, mostly a bin later than it ended.
    """

    bin_s: float  # seconds of the run
    end: int  # number of the bin of the reading itself
    lost: int  # bins with arrivals that were forgotten before they were read
    bins: tuple[tuple[int, ...], ...]  # number of the bin, then the count of each class


class WindowMeasurements(NamedTuple):
    """All that was measured in one window."""

    services: tuple[ServiceSample, ...] = ()
    num_gaps: int = 0  # arrivals but the first of the run
    gaps_s: tuple[float, ...] = ()  # some gaps between arrivals of any class
    spans: tuple[Span, ...] = ()
    arrivals: ArrivalBins | None = None

    def as_json(self) -> dict[str, Any]:
        """Short plain values; what is empty is left out."""
        value: dict[str, Any] = {}
        if self.services:
            value["services"] = [
                [s.option, s.batch, int(s.is_cold), s.num_batches, _short(s.single_s)] for s in self.services
            ]
        if self.num_gaps:
            value["gaps"] = [self.num_gaps, _short(self.gaps_s)]
        if self.spans:
            value["spans"] = [[s.kind, s.option, round(s.seconds, _DIGITS)] for s in self.spans]
        if self.arrivals is not None:
            arrived = self.arrivals
            value["arrivals"] = [arrived.bin_s, arrived.end, arrived.lost, [list(row) for row in arrived.bins]]
        return value


def read_measurements(value: Mapping[str, Any], num_options: int) -> WindowMeasurements:
    """What `as_json` made.

    Args:
        value: Of one journal line.
        num_options: V x P of the journal.

    Raises:
        ValueError: An option, a kind or a duration that cannot be; TypeError or KeyError for values of another form.
    """
    services = []
    for option, batch, is_cold, count, single_s in value.get("services", ()):
        seconds = tuple(_duration(x) for x in single_s)
        if batch < 1 or count < len(seconds):
            raise ValueError(f"services: a batch of {batch}, {len(seconds)} of {count}")
        services.append(ServiceSample(_option(option, num_options), int(batch), bool(is_cold), int(count), seconds))
    num_gaps, gaps_s = value.get("gaps", (0, ()))
    spans = []
    for kind, option, seconds in value.get("spans", ()):
        if kind not in get_args(SpanKind):
            raise ValueError(f"spans: kind {kind!r}")
        spans.append(Span(cast("SpanKind", kind), _option(option, num_options), _duration(seconds)))
    arrivals = None if "arrivals" not in value else _bins(*value["arrivals"])
    gaps = tuple(_duration(x) for x in gaps_s)
    return WindowMeasurements(tuple(services), int(num_gaps), gaps, tuple(spans), arrivals)


def _bins(bin_s: float, end: int, lost: int, rows: Sequence[Sequence[int]]) -> ArrivalBins:
    bins = tuple(tuple(int(count) for count in row) for row in rows)
    if not bin_s > 0 or lost < 0 or len({len(row) for row in bins}) > 1:
        raise ValueError(f"arrivals: bins of {bin_s} s, {lost} lost")
    if any(min(row) < 0 or row[0] >= end for row in bins) or any(a[0] >= b[0] for a, b in pairwise(bins)):
        raise ValueError("arrivals: counts >= 0 in rising bins before the end")
    return ArrivalBins(float(bin_s), int(end), int(lost), bins)


def evenly(values: Sequence[float], most: int) -> tuple[float, ...]:
    """At most `most` of the values, evenly spaced in their order."""
    if len(values) <= most:
        return tuple(values)
    return tuple(values[i * len(values) // most] for i in range(most))


def _option(value: Any, num_options: int) -> int:
    if not 0 <= value < num_options:
        raise ValueError(f"option {value} of {num_options}")
    return int(value)


def _duration(value: Any) -> float:
    if not 0 <= value < float("inf"):
        raise ValueError(f"duration {value}")
    return float(value)


def _short(seconds: Sequence[float]) -> list[float]:
    return [round(x, _DIGITS) for x in seconds]
