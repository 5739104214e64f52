"""Distribution against distribution: statistics of independent replications, their z-scores and what they resolve.

Under the hypothesis that both sides run the same system, a statistic of one replication has the same distribution on
both sides, so the difference of means over replications has the standard error

    se = sd * sqrt(1 / R_theirs + 1 / R_ours),

with sd over the replications of our side, which are cheap and therefore many. Nothing is assumed of the requests within
a replication, which are correlated. A z-score beyond `CRITICAL` is a false alarm with probability `FAMILY_ALARM` at
most, over all rows of all scenarios together (Bonferroni), if all seeds were drawn anew.

The reverse also holds: `resolution` is the difference that a row would notice half of the time, and it has a limit of
its own, so that no row passes for want of data.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

from controller.arrays import F64, I64
from controller.latency import bucket_edges
from tests.peer import ciw_side, our_side
from tests.peer.replications import Replications
from tests.peer.scenarios import NEVER_S, PeerScenario

FAMILY_ALARM = 0.01
"""Probability that a comparison of two equal systems raises any alarm."""

MOST_ROWS = 200
"""Rows of all scenarios, at most; a test counts them."""

CRITICAL = float(stats.norm.isf(FAMILY_ALARM / 2 / MOST_ROWS))

OUR_REPLICATIONS = 480

RELATIVE, SHARE, SHAPE = "%", "points", "z"
"""Units of a row: relative to the value, percentage points of the arrivals, or a test of the whole histogram."""

LIMITS = {RELATIVE: 15.0, SHARE: 3.0}
"""Largest resolution allowed in a unit."""

SHAPE_CUTS = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
"""Shares of answers at which buckets are grouped for the test of the histogram, as near as buckets allow."""


@dataclass(frozen=True)
class Row:
    """One statistic of one class on both sides.

    Attributes:
        what: Its name, with the class where there are several.
        unit: Of `resolution`.
        ours: Mean over our replications; seconds, requests or percent of arrivals.
        theirs: Mean over Ciw's.
        z: Difference in standard errors; for the histogram, the normal quantile of the same probability.
        resolution: `CRITICAL` standard errors in the row's unit.
    """

    what: str
    unit: str
    ours: float
    theirs: float
    z: float
    resolution: float


def bucket_means_s() -> F64:
    """Middle of each bucket, seconds, shape (B,)."""
    edges_s = bucket_edges()
    return (edges_s[1:] + edges_s[:-1]) / 2


def quantiles_s(latency: I64, probability: float) -> F64:
    """Quantile of each histogram, linear inside a bucket as in `controller.latency.quantile`, shape (R,)."""
    up_to = np.cumsum(latency, axis=1)
    rank = probability * up_to[:, -1]
    at = np.argmax(up_to >= rank[:, None], axis=1)
    each = np.arange(len(latency))
    count = latency[each, at]
    edges_s = bucket_edges()
    return edges_s[at] + (edges_s[at + 1] - edges_s[at]) * (rank - up_to[each, at] + count) / count


def statistics(scenario: PeerScenario, found: Replications) -> Iterator[tuple[str, str, F64]]:
    """(name, unit, value in each replication) of every statistic but the histogram's."""
    yield "busy seconds", RELATIVE, found.busy_s
    for k, klass in enumerate(scenario.classes):
        of = "" if len(scenario.classes) == 1 else f", class {k}"
        latency, arrivals = found.latency[:, k], found.arrivals[:, k]
        yield f"mean{of}", RELATIVE, latency @ bucket_means_s() / latency.sum(axis=1)
        for probability in (0.5, 0.95, 0.99):
            yield f"p{100 * probability:g}{of}", RELATIVE, quantiles_s(latency, probability)
        # Little's law makes this the mean response by another route: rate times mean, answered or not.
        yield f"in system{of}", RELATIVE, found.in_system[:, k]
        yield f"arrivals{of}", RELATIVE, arrivals.astype(float)
        yield f"answered{of}", SHARE, 100 * found.answered[:, k] / arrivals
        if klass.slo_s < NEVER_S:
            yield f"missed{of}", SHARE, 100 * found.missed[:, k] / arrivals
        if klass.drops:
            yield f"failed{of}", SHARE, 100 * found.failed[:, k] / arrivals
        if scenario.refuses:
            yield f"shed{of}", SHARE, 100 * found.shed[:, k] / arrivals


def shape_row(what: str, ours: I64, theirs: I64) -> Row:
    """Two-sample test of the shares of answers in groups of buckets (Hotelling's T² over replications).

    Args:
        what: Name of the row.
        ours: Histograms, shape (R_ours, B).
        theirs: Shape (R_theirs, B).
    """
    mass = np.cumsum(ours.sum(axis=0) / ours.sum())
    ends = sorted({int(np.argmax(mass >= cut)) + 1 for cut in SHAPE_CUTS} | {0})
    ends = [end for end in ends if end == 0 or mass[end - 1] < 1.0]

    def shares(histograms: I64) -> F64:
        groups = np.add.reduceat(histograms, ends, axis=1)[:, 1:]
        return groups / histograms.sum(axis=1, keepdims=True)

    mine, other = shares(ours), shares(theirs)
    size, num = mine.shape[1], len(mine)
    gap = mine.mean(axis=0) - other.mean(axis=0)
    scale = 1 / len(other) + 1 / num
    t2 = float(gap @ np.linalg.solve(np.cov(mine, rowvar=False), gap)) / scale
    probability = float(stats.f.sf(t2 * (num - size) / (size * (num - 1)), size, num - size))
    return Row(what, SHAPE, np.nan, np.nan, float(stats.norm.isf(max(probability, 1e-300) / 2)), 0.0)


def rows(scenario: PeerScenario, ours: Replications, theirs: Replications) -> list[Row]:
    """All rows of a comparison."""
    found = []
    for (what, unit, mine), (_, _, other) in zip(statistics(scenario, ours), statistics(scenario, theirs), strict=True):
        se = float(mine.std(ddof=1)) * np.sqrt(1 / len(mine) + 1 / len(other))
        a, b = float(mine.mean()), float(other.mean())
        resolution = CRITICAL * se * (100 / abs(a) if unit == RELATIVE else 1.0)
        found.append(Row(what, unit, a, b, (a - b) / se, resolution))
    for k in range(len(scenario.classes)):
        of = "" if len(scenario.classes) == 1 else f", class {k}"
        found.append(shape_row(f"histogram{of}", ours.latency[:, k], theirs.latency[:, k]))
    return found


@functools.cache
def ours_of(scenario: PeerScenario) -> Replications:
    """Our replications."""
    return our_side.run(scenario, list(range(OUR_REPLICATIONS)))


@functools.cache
def theirs_of(scenario: PeerScenario) -> Replications:
    """Ciw's replications."""
    return ciw_side.run(scenario, ciw_side.OwnDraws, list(range(scenario.replications)))


def compare(scenario: PeerScenario) -> list[Row]:
    """Runs both sides, once per process, and compares them."""
    return rows(scenario, ours_of(scenario), theirs_of(scenario))
