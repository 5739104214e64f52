"""When redundancy pays: the way of least expected cost for a class, from what its workers' latency was measured to be.

Latencies are taken as independent, with survival S(t), the share that takes longer than t. A request is answered at
the first of what was sent for it, so with T the age at which a mode acts, r the pass ratio and k the requests of a
group, the share without an answer at age t is S(t) before T and from T on

    none          S(t)
    re-send       S(T) S(t - T)            the first copy is withdrawn
    hedge         S(t) S(t - T)            T = 0: full replication
    collage       S(t) S(t / r)            of two workers S(t) S(t / r)^2

and the misses are that share at the SLO. What is withdrawn stops, so the expected seconds that workers run for a
request are areas under these curves: the first one runs for the area of the share without an answer; a duplicate for
the same from T on; a pass, shared by k, for the area of S(t / r) (1 - (1 - S(t))^k), until it is there or none of the
group waits for it, and two of them for twice that of their first. With L the latency of a request and L' that of a
pass (of the first of two) at ratio 1, each of S, the collage answers the share P(L > max(T, r L')), and each of these
answers costs the accuracy that a collage has less:

    cost = price of a second x seconds + value of a miss x misses + value of a wrong answer x those more

Not in it: waiting for a free worker, and slowness that workers share, for which copies must go where it is not shared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from controller.arrays import F64
from controller.errors import InputError, mismatch

_STEPS = 4000


class Mode(StrEnum):
    """A way to be redundant."""

    NONE = "none"
    RESEND = "re-send"
    HEDGE = "hedge"
    REPLICATE = "replicate"
    COLLAGE = "collage"


@dataclass(frozen=True)
class CollageOffer:
    """A collage that a catalog has.

    Attributes:
        cells: Requests of a pass.
        pass_ratio: Time of a pass over that of a request, > 0.
        accuracy_loss: Share of answers right that it has less than the single answer, in [0, 1].
    """

    cells: int
    pass_ratio: float
    accuracy_loss: float


@dataclass(frozen=True)
class Stakes:
    """What counts for a class.

    Attributes:
        slo_s: Later answers are misses.
        usd_per_s: Of a worker that runs.
        usd_per_miss: What a miss is worth.
        usd_per_wrong: What a wrong answer is worth.
    """

    slo_s: float
    usd_per_s: float
    usd_per_miss: float
    usd_per_wrong: float = 0.0


@dataclass(frozen=True)
class Way:
    """What a mode is expected to do to a request.

    Attributes:
        mode: Redundancy.
        after_s: Age at which it acts, as the plan's `hedge_after_s` or `collage_after_s`; infinite for none.
        offer: The collage.
        missed: Share of requests without an answer at the SLO.
        busy_s: Seconds that workers run.
        by_collage: Share answered from the collage.
        cost_usd: All of it.
        passes: Workers that make a pass.
        late: Share without an own answer at the age at which it acts.
        busy_ratio: Seconds that workers run, over those without redundancy.
    """

    mode: Mode
    after_s: float
    offer: CollageOffer | None
    missed: float
    busy_s: float
    by_collage: float
    cost_usd: float
    passes: int = 1
    late: float = 0.0
    busy_ratio: float = 1.0


def best_way(
    latency_s: F64, stakes: Stakes, offers: Sequence[CollageOffer] = (), ages_s: Sequence[float] | None = None
) -> Way:
    """The way of least expected cost; of equals the one that does least.

    Args:
        latency_s: Measured latencies, shape (L,), > 0, in any order.
        stakes: What counts.
        offers: Collages that there are.
        ages_s: At which a mode may act; None: quantiles of the latencies, below the SLO.

    Raises:
        InputError: A value is outside what is allowed.
    """
    return min(ways(latency_s, stakes, offers, ages_s), key=lambda way: way.cost_usd)


def ways(
    latency_s: F64, stakes: Stakes, offers: Sequence[CollageOffer] = (), ages_s: Sequence[float] | None = None
) -> list[Way]:
    """Every way, by how much it does: none first. Arguments and errors are `best_way`'s."""
    _check(latency_s, stakes, offers)
    ordered = np.sort(latency_s)
    if ages_s is None:
        ages_s = [float(x) for x in np.quantile(ordered, (0.5, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99))]
    chosen = sorted({age_s for age_s in ages_s if 0.0 < age_s < stakes.slo_s})
    return list(_ways(ordered, stakes, offers, chosen))


def survival(ordered_s: F64, at_s: F64) -> F64:
    """Share of latencies above each age.

    Args:
        ordered_s: Latencies, ascending, shape (L,).
        at_s: Ages, any shape.
    """
    return 1.0 - np.searchsorted(ordered_s, at_s, side="right") / len(ordered_s)


def _ways(ordered: F64, stakes: Stakes, offers: Sequence[CollageOffer], ages_s: Sequence[float]) -> Iterator[Way]:
    """Every way; `ordered` latencies, ascending."""
    # Beyond the longest latency none is without an answer, whatever the mode.
    edges = np.linspace(0.0, float(ordered[-1]), _STEPS + 1)
    at, step = (edges[1:] + edges[:-1]) / 2.0, float(edges[1])
    own = survival(ordered, at)
    own_at_slo = float(survival(ordered, np.array(stakes.slo_s)))

    def way(
        mode: Mode,
        after_s: float,
        missed: float,
        busy_s: float,
        by_collage: float = 0.0,
        offer: CollageOffer | None = None,
        passes: int = 1,
    ) -> Way:
        wrong = by_collage * (0.0 if offer is None else offer.accuracy_loss)
        cost = stakes.usd_per_s * busy_s + stakes.usd_per_miss * missed + stakes.usd_per_wrong * wrong
        late = float(survival(ordered, np.array(after_s)))
        return Way(mode, after_s, offer, missed, busy_s, by_collage, cost, passes, late, busy_s / own_s)

    own_s = float(own.sum()) * step
    yield way(Mode.NONE, float("inf"), own_at_slo, own_s)
    for after_s in reversed(ages_s):
        late = float(survival(ordered, np.array(after_s)))
        # A copy in its place may take longer than the longest latency from its own beginning on.
        again_s = late * float(ordered.mean())
        missed = late * float(survival(ordered, np.array(stakes.slo_s - after_s)))
        yield way(Mode.RESEND, after_s, missed, float(own[at < after_s].sum()) * step + again_s)
    for after_s in (*reversed(ages_s), 0.0):
        again = np.where(at >= after_s, survival(ordered, at - after_s), 1.0)
        open_ = own * again
        copy_s = float(open_[at >= after_s].sum()) * step
        late = float(survival(ordered, np.array(max(0.0, stakes.slo_s - after_s))))
        mode = Mode.HEDGE if after_s else Mode.REPLICATE
        yield way(mode, after_s, own_at_slo * late, float(open_.sum()) * step + copy_s)
    for offer in offers:
        ratio = offer.pass_ratio
        for passes in (1, 2):
            not_there = survival(ordered, at / ratio) ** passes
            # Chance that the first of the passes is the one of each latency.
            longer = 1.0 - np.arange(len(ordered) + 1) / len(ordered)
            chance = longer[:-1] ** passes - longer[1:] ** passes
            waited = not_there * (1.0 - (1.0 - own) ** offer.cells)
            pass_s = passes * float(waited.sum()) * step / offer.cells
            missed = own_at_slo * float(survival(ordered, np.array(stakes.slo_s / ratio))) ** passes
            for after_s in reversed(ages_s):
                busy_s = float((own * np.where(at >= after_s, not_there, 1.0)).sum()) * step + pass_s
                by_collage = float(survival(ordered, np.maximum(ratio * ordered, after_s)) @ chance)
                yield way(Mode.COLLAGE, after_s, missed, busy_s, by_collage, offer, passes)


def _check(latency_s: F64, stakes: Stakes, offers: Sequence[CollageOffer]) -> None:
    if latency_s.ndim != 1 or not len(latency_s) or not (latency_s > 0.0).all():
        raise InputError(mismatch("latency_s", "one or more numbers > 0", latency_s))
    if not stakes.slo_s > 0.0:
        raise InputError(mismatch("slo_s", "a number > 0", stakes.slo_s))
    for name in ("usd_per_s", "usd_per_miss", "usd_per_wrong"):
        if not getattr(stakes, name) >= 0.0:
            raise InputError(mismatch(name, "a number >= 0", getattr(stakes, name)))
    for i, offer in enumerate(offers):
        if offer.cells < 1 or not offer.pass_ratio > 0.0 or not 0.0 <= offer.accuracy_loss <= 1.0:
            raise InputError(mismatch(f"offers[{i}]", "cells >= 1, pass_ratio > 0 and accuracy_loss in 0..1", offer))
