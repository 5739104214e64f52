"""The latency study: every mode of redundancy on the same draws, by size of group, kind of draws and pass ratio."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller.arrays import F64
from experiments.collage.draws import BLOCK_GROUPS, Draws, Kind, draw
from experiments.collage.modes import Outcome, collage, resend, unaided
from experiments.collage.replay import Rules, replay

NONE, RESEND, RESEND_TUNED = "none", "re-send at T", "re-send, tuned"
RESEND_WITHDRAWN = "re-send, tuned, first withdrawn"
HEDGE, REPLICATE = "hedge after p95", "replication"
COLLAGE, COLLAGE_TWO, COLLAGE_RESENT = "collage", "collage, two workers", "collage, late ones re-sent"

LEVELS = (0.5, 0.99, 0.999)
CURVE_LEVELS = tuple(float(x) for x in (*np.linspace(0.0, 0.98, 50), *(1.0 - np.logspace(-1.7, -3.7, 31))))
"""At which the curves of the plots are kept."""

_CANDIDATES = 25


@dataclass(frozen=True)
class Extent:
    """How much is studied.

    Attributes:
        groups: Of each size and kind, to report on; as many others to tune on.
        sizes: Requests of a group.
        ratios: Time of a pass over that of a request.
        after_s: T, the age from which a request straggles.
        seed: Of the draws.
        replayed: Groups of each mode that are replayed event by event.
    """

    groups: int = 60_000
    sizes: tuple[int, ...] = (9, 16, 25)
    ratios: tuple[float, ...] = (1.0, 1.5, 2.0, 2.5, 3.0)
    after_s: float = 0.25
    seed: int = 0
    replayed: int = 1_000


@dataclass(frozen=True)
class Figures:
    """Of times, seconds."""

    p50_s: float
    p99_s: float
    p999_s: float
    mean_s: float
    deviation_s: float


@dataclass(frozen=True)
class Row:
    """One mode on one kind of draws.

    Attributes:
        k: Requests of a group.
        kind: Of draws.
        mode: Redundancy.
        ratio: Of the pass, 1 where there is none.
        after_s: Age at which the mode acts; None where it never does.
        group: Until all answers of a group are there.
        request: Until an answer.
        extra: Requests and passes beyond the first, per request.
        servers: Workers held, per request.
        busy_s: That workers ran, per request.
        by_collage: Share of answers that the collage gave.
        bad_stretch: Share of groups that take more than twice T, in the stretch of `BLOCK_GROUPS` groups that one in a
            hundred stretches exceeds.
        curve_s: The groups' time at `CURVE_LEVELS`.
    """

    k: int
    kind: Kind
    mode: str
    ratio: float
    after_s: float | None
    group: Figures
    request: Figures
    extra: float
    servers: float
    busy_s: float
    by_collage: float
    bad_stretch: float
    curve_s: tuple[float, ...]


def run_study(latency_s: F64, extent: Extent, say: Callable[[str], None]) -> list[Row]:
    """All rows.

    Args:
        latency_s: The measured latencies, in the file's order.
        extent: How much.
        say: Prints a line of progress.
    """
    rows = []
    for kind in Kind:
        for k in extent.sizes:
            tuning, reported = drawn(latency_s, kind, k, extent)
            rows += [
                _row(k, kind, mode, ratio, after_s, done, 2.0 * extent.after_s)
                for mode, ratio, after_s, done in _modes(tuning, reported, k, extent)
            ]
        say(f"{kind.value}: {len(extent.sizes)} sizes of {extent.groups} groups")
    return rows


def drawn(latency_s: F64, kind: Kind, k: int, extent: Extent) -> tuple[Draws, Draws]:
    """Draws to tune on, and others to report on."""
    streams = np.random.SeedSequence([extent.seed, list(Kind).index(kind), k]).spawn(2)
    tuning, reported = (draw(latency_s, kind, k, extent.groups, np.random.default_rng(one)) for one in streams)
    return tuning, reported


def tuned_after_s(draws: Draws, most_extra: float, *, is_withdrawn: bool = False) -> float:
    """Age at which re-sending gives the least p99 of groups.

    Args:
        draws: To tune on.
        most_extra: Requests that may be sent again, per request.
        is_withdrawn: The first one is given up then.
    """
    levels = np.linspace(1.0 - most_extra, 0.9995, _CANDIDATES)
    candidates = np.quantile(draws.own, levels, method="higher")
    p99_s = [
        np.quantile(resend(draws, float(after_s), is_withdrawn=is_withdrawn).answer_s.max(axis=1), 0.99)
        for after_s in candidates
    ]
    return float(candidates[int(np.argmin(p99_s))])


def _modes(
    tuning: Draws, reported: Draws, k: int, extent: Extent
) -> Iterator[tuple[str, float, float | None, Outcome]]:
    """Mode, pass ratio, its age and what became of the draws to report on."""
    at_s = extent.after_s
    yield NONE, 1.0, None, unaided(reported)
    yield RESEND, 1.0, at_s, resend(reported, at_s)
    tuned_s = tuned_after_s(tuning, 1.0 / k)
    yield RESEND_TUNED, 1.0, tuned_s, resend(reported, tuned_s)
    tuned_s = tuned_after_s(tuning, 1.0 / k, is_withdrawn=True)
    yield RESEND_WITHDRAWN, 1.0, tuned_s, resend(reported, tuned_s, is_withdrawn=True)
    p95_s = float(np.quantile(tuning.own, 0.95))
    yield HEDGE, 1.0, p95_s, resend(reported, p95_s)
    yield REPLICATE, 1.0, 0.0, resend(reported, 0.0)
    for ratio in extent.ratios:
        yield COLLAGE, ratio, at_s, collage(reported, at_s, ratio)
        yield COLLAGE_TWO, ratio, at_s, collage(reported, at_s, ratio, passes=2)
        yield COLLAGE_RESENT, ratio, at_s, collage(reported, at_s, ratio, is_resent=True)


def _row(k: int, kind: Kind, mode: str, ratio: float, after_s: float | None, done: Outcome, late_s: float) -> Row:
    group_s = done.answer_s.max(axis=1)
    return Row(
        k,
        kind,
        mode,
        ratio,
        after_s,
        figures(group_s),
        figures(done.answer_s.ravel()),
        done.extra,
        done.servers,
        done.busy_s,
        float(done.by_collage.mean()),
        bad_stretch(group_s > late_s),
        tuple(float(x) for x in np.quantile(group_s, CURVE_LEVELS)),
    )


def figures(times_s: F64) -> Figures:
    """Of times, shape (N,)."""
    p50_s, p99_s, p999_s = (float(x) for x in np.quantile(times_s, LEVELS))
    return Figures(p50_s, p99_s, p999_s, float(times_s.mean()), float(times_s.std()))


def bad_stretch(is_late: NDArray[np.bool_]) -> float:
    """Share of late groups in the stretch that one in a hundred exceeds; of all where they make no whole stretch."""
    whole = len(is_late) // BLOCK_GROUPS * BLOCK_GROUPS
    if whole == 0:
        return float(is_late.mean())
    return float(np.quantile(is_late[:whole].reshape(-1, BLOCK_GROUPS).mean(axis=1), 0.99))


def find(rows: Sequence[Row], k: int, mode: str, ratio: float = 1.0, kind: Kind = Kind.INDEPENDENT) -> Row:
    """The row of a mode."""
    return next(row for row in rows if (row.k, row.mode, row.ratio, row.kind) == (k, mode, ratio, kind))


@dataclass(frozen=True)
class Agreement:
    """Of the array formulas with the replay.

    Attributes:
        groups: Compared.
        most_s: Largest difference of an answer's age.
        busy: Largest difference of the workers' time in a mode, relative.
        differently: Answers that one has from the collage and the other not.
        extra: Difference of requests and passes sent, over all modes.
    """

    groups: int
    most_s: float
    busy: float
    differently: int
    extra: int


def agreement(latency_s: F64, extent: Extent) -> Agreement:
    """Replays the collage modes at every size and ratio on draws to report on."""
    groups, most_s, busy, differently, extra = 0, 0.0, 0.0, 0, 0
    for k in extent.sizes:
        _, reported = drawn(latency_s, Kind.INDEPENDENT, k, extent)
        draws = Draws(*(part[: extent.replayed] for part in reported))
        for ratio in extent.ratios:
            for passes, is_resent in ((1, False), (2, False), (1, True)):
                done = collage(draws, extent.after_s, ratio, passes=passes, is_resent=is_resent)
                rules = Rules(k, extent.after_s, passes, is_resent)
                answer_s, by_collage, sent, busy_s = _replayed(draws, ratio, rules)
                groups += len(answer_s)
                most_s = max(most_s, float(np.abs(answer_s - done.answer_s).max()))
                busy = max(busy, abs(busy_s / answer_s.size / done.busy_s - 1.0))
                differently += int((by_collage != done.by_collage).sum())
                extra += abs(sent - round(done.extra * answer_s.size))
    return Agreement(groups, most_s, busy, differently, extra)


def _replayed(draws: Draws, ratio: float, rules: Rules) -> tuple[F64, NDArray[np.bool_], int, float]:
    """Ages of answers, which are the collage's, what was sent beyond the first, and the workers' seconds."""
    ages, from_collage, sent, busy_s = [], [], 0, 0.0
    for own, copies, passes in zip(draws.own, draws.copies, ratio * draws.passes, strict=True):
        done = replay([0.0] * len(own), own.tolist(), copies.tolist(), iter(passes.tolist()), rules)
        ages.append(done.answer_s)
        from_collage.append(done.by_collage)
        sent += done.sent_again + rules.passes * done.collages
        busy_s += done.busy_s
    return np.array(ages), np.array(from_collage), sent, busy_s


@dataclass(frozen=True)
class Sparse:
    """Requests that arrive one by one, so that groups are often sent before they are full.

    Attributes:
        rate_rps: Poisson.
        per_pass: Requests for each pass that was sent, of which only those that waited then are in it.
        request: Until an answer.
        extra: Passes per request.
        by_collage: Share of answers that the collage gave.
    """

    rate_rps: float
    per_pass: float
    request: Figures
    extra: float
    by_collage: float


def sparse(latency_s: F64, k: int, rate_rps: float, extent: Extent) -> Sparse:
    """Replays one stream of arrivals.

    Args:
        latency_s: The measured latencies.
        k: Cells of the collage.
        rate_rps: Of arrivals.
        extent: Says how many, and T.
    """
    count = extent.replayed * k
    rng = np.random.default_rng([extent.seed, k, 7])
    arrival_s = np.cumsum(rng.exponential(1.0 / rate_rps, count)).tolist()
    own_s, passes_s = (rng.choice(latency_s, count).tolist() for _ in range(2))
    done = replay(arrival_s, own_s, [0.0] * count, iter(passes_s), Rules(k, extent.after_s))
    return Sparse(
        rate_rps,
        count / max(1, done.collages),
        figures(np.array(done.answer_s)),
        done.collages / count,
        float(np.mean(done.by_collage)),
    )
