"""What a live run of the modes came to: sums by mode, their table, and the values beside their bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from controller.errors import RunError
from experiments.checks import Check, at_least, at_most
from experiments.collage.study import COLLAGE, NONE

if TYPE_CHECKING:
    from serving.tally import Tally

_RATIO_BAR = 1.5


@dataclass(frozen=True)
class LiveRow:
    """One mode.

    Attributes:
        mode: Redundancy.
        requests: Sent.
        lost: Without an answer.
        twice: Answers that the router gave beyond one for each that the client got.
        late: Share of answers after T.
        p50_s: Of the client's latencies; likewise below.
        p99_s: Of these.
        most_s: Of these.
        extra: Copies and passes beyond the first, per request.
        busy_s: That replicas worked, per request; what was cancelled as far as it ran.
        by_collage: Share of answers that the collage gave.
        right: Share of answers that are right.
    """

    mode: str
    requests: int
    lost: int
    twice: int
    late: float
    p50_s: float
    p99_s: float
    most_s: float
    extra: float
    busy_s: float
    by_collage: float
    right: float


@dataclass(frozen=True)
class LiveFound:
    """What a live run came to.

    Attributes:
        rows: By mode.
        pass_ratio: Time of a pass over that of a request.
        cells: Of the collage.
        stretch: Of the measured latencies.
    """

    rows: tuple[LiveRow, ...]
    pass_ratio: float
    cells: int
    stretch: float = 1.0


def live_checks(found: LiveFound) -> Iterator[Check]:
    """Latency beside its bar, and that everybody is answered once."""
    rows = {row.mode: row for row in found.rows}
    ratio = rows[NONE].p99_s / rows[COLLAGE].p99_s
    what = f"live, {rows[COLLAGE].requests} requests: client p99 without redundancy over the collage's"
    yield at_least(what, ratio, _RATIO_BAR, "×")
    requests = sum(row.requests for row in found.rows)
    yield at_most(f"live, {requests} requests of all modes: lost", sum(row.lost for row in found.rows), 0)
    yield at_most(f"live, {requests} requests of all modes: answered twice", sum(row.twice for row in found.rows), 0)


LIVE_TITLES = (
    "mode",
    "requests",
    "lost",
    "twice",
    "after T",
    "p50",
    "p99",
    "most",
    "extra",
    "busy, s",
    "by collage",
    "right",
)


def live_lines(found: LiveFound) -> list[list[str]]:
    """Of the table."""
    return [
        [
            row.mode,
            str(row.requests),
            str(row.lost),
            str(row.twice),
            f"{row.late:.2%}",
            *(f"{x:.3f}" for x in (row.p50_s, row.p99_s, row.most_s)),
            f"{row.extra:.1%}",
            f"{row.busy_s:.3f}",
            f"{row.by_collage:.2%}",
            f"{row.right:.2%}",
        ]
        for row in found.rows
    ]


def row_of(mode: str, parts: Sequence[tuple[Any, Any]], after_s: float) -> LiveRow:
    """Of a mode.

    Args:
        mode: Redundancy.
        parts: What the client saw and what the router counted, by turn.
        after_s: T.

    Raises:
        RunError: Nothing was answered.
    """
    latency_s = np.concatenate([record.latency_s for record, _ in parts])
    right = np.concatenate([record.is_right for record, _ in parts])
    got = latency_s[np.isfinite(latency_s)]
    if not got.size:
        raise RunError(f"live: expected answers under {mode}, got none")
    tallies: list[Tally] = [tally for _, tally in parts]
    answered = sum(int(tally.answered.sum()) for tally in tallies)
    sent_again = sum(tally.hedged + tally.passes for tally in tallies)
    busy_s = sum(float(tally.busy_s.sum()) for tally in tallies)
    by_collage = sum(tally.from_collage for tally in tallies)
    count = len(latency_s)
    p50_s, p99_s, most_s = (float(x) for x in np.quantile(got, (0.5, 0.99, 1.0)))
    return LiveRow(
        mode,
        count,
        count - len(got),
        answered - len(got),
        float((got > after_s).mean()),
        p50_s,
        p99_s,
        most_s,
        sent_again / count,
        busy_s / count,
        by_collage / answered,
        float((right == 1).sum() / len(got)),
    )
