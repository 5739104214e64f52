"""Which points of a policy's dials a comparison at a target needs: those between which the target lies.

From its own point a policy is turned towards the target, one value of a dial at a time, until it meets the target
between two of them: what lies beyond is not run. Not every policy attains more with more capacity, or costs more, and
what it is compared at must not hang on that: where nothing turned to is at the target all values are run, and where a
policy has more than is asked and cannot give it back, its attainment is turned both ways for as long as that is cheaper
(and its accuracy up, where it is only just right).

As in a cross of all values, the two lines through the own point are run, and the rest is worked out from them
(`experiments.separable`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from experiments.dials import Points
from experiments.frontier import ACCURACY_MARGIN, Place, Sweep, Target, place_at, pooled

_SAME = 1e-9


@dataclass(frozen=True)
class Stretch:
    """Neighbouring values of both dials, the policy's own among them."""

    attainment: range
    accuracy: range

    def run(self, points: Points) -> list[int]:
        """Indices of the points that are run."""
        own = points.own
        return [
            k for k in self.all(points) if points.points[k].attainment == own[0] or points.points[k].accuracy == own[1]
        ]

    def all(self, points: Points) -> list[int]:
        """Indices of all its points, attainment first."""
        return [i * points.shape[1] + j for i in self.attainment for j in self.accuracy]

    def own(self, points: Points) -> tuple[int, int]:
        """Where in it the policy's own point is."""
        return points.own[0] - self.attainment.start, points.own[1] - self.accuracy.start


@dataclass(frozen=True)
class Needed:
    """How far the dials of one policy are turned for one target.

    Attributes:
        stretch: Values looked at so far.
        missing: Points of it that are not run yet; none: it is all that is needed.
    """

    stretch: Stretch
    missing: list[int]


def needed_points(
    points: Points, target: Target, is_run: Callable[[int], bool], swept: Callable[[Stretch], Sweep]
) -> Needed:
    """Turns the dials as far as the points that are run allow; the same whatever else is run.

    Args:
        points: Of the policy.
        target: Where it is to be read off.
        is_run: Whether a point is run.
        swept: The sweep over a stretch whose points are run.
    """
    stretch = own_stretch(points)
    while True:
        missing = [k for k in stretch.run(points) if not is_run(k)]
        if missing:
            return Needed(stretch, missing)
        further = _turned(points, stretch, swept(stretch), target)
        if further == stretch:
            return Needed(stretch, [])
        stretch = further


def own_stretch(points: Points) -> Stretch:
    """The policy's own point alone."""
    i, j = points.own
    return Stretch(range(i, i + 1), range(j, j + 1))


def _turned(points: Points, stretch: Stretch, sweep: Sweep, target: Target) -> Stretch:
    """The stretch with the next values towards the target; the same where none is needed or left."""
    place = place_at(sweep, target)
    if place.status == "not reachable":
        further = _towards_the_unreached(points, stretch, sweep, target)
        return Stretch(range(points.shape[0]), range(points.shape[1])) if further == stretch else further
    rows, columns = ([bool(line.any()) for line in at] for at in (place.weights > 0.0, place.weights.T > 0.0))
    spare_misses = float((np.log(target.miss_share) - np.log(place.miss_share)).min())
    up, more = -_sign(spare_misses) * _way_up(points), -_sign(_spare_accuracy(place, target))
    further = Stretch(
        _next(stretch.attainment, points.shape[0], up, rows), _next(stretch.accuracy, points.shape[1], more, columns)
    )
    if further != stretch or place.status == "equal":
        return further
    # Where the accuracy is only just right, a more accurate value may be the cheaper way to it.
    more = 1 if more == 0 else 0
    return Stretch(
        _beside(stretch.attainment, points.shape[0], rows), _next(stretch.accuracy, points.shape[1], more, columns)
    )


def _beside(values: range, count: int, is_at: Sequence[bool]) -> range:
    """The values with one more on each side on which the place lies at their edge."""
    return _next(_next(values, count, -1, is_at), count, 1, is_at)


def _towards_the_unreached(points: Points, stretch: Stretch, sweep: Sweep, target: Target) -> Stretch:
    """More accurate where nothing is accurate enough; else fewer misses."""
    _, accuracy = pooled(sweep, len(target.miss_share))
    spare = np.where(np.isfinite(accuracy) & np.isfinite(target.accuracy), accuracy - target.accuracy, 0.0)
    if (spare < -ACCURACY_MARGIN).any(axis=-1).all():
        return replace(stretch, accuracy=_wider(stretch.accuracy, points.shape[1], 1))
    return replace(stretch, attainment=_wider(stretch.attainment, points.shape[0], _way_up(points)))


def _way_up(points: Points) -> int:
    """Towards fewer misses."""
    return -1 if points.is_inverse else 1


def _next(values: range, count: int, way: int, is_at: Sequence[bool]) -> range:
    """One value more, where the place lies at the edge that has to be crossed."""
    return _wider(values, count, way) if way != 0 and is_at[-1 if way > 0 else 0] else values


def _wider(values: range, count: int, way: int) -> range:
    if way > 0:
        return range(values.start, min(values.stop + 1, count))
    return range(max(values.start - 1, 0), values.stop)


def _spare_accuracy(place: Place, target: Target) -> float:
    spare = place.accuracy - target.accuracy
    known = spare[np.isfinite(spare)]
    return float(known.min()) if known.size else 0.0


def _sign(value: float) -> int:
    """Of a spare: 0 where the target is met to the last bits."""
    return 0 if abs(value) <= _SAME else 1 if value > 0.0 else -1
