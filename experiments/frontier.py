"""Cost at equal attainment and equal accuracy, interpolated on a policy's own frontier.

A policy is run at several settings of its own dials: one moves its attainment, one, where it has such a setting, its
accuracy. That is a grid of points (I attainment settings, J accuracy settings), each run on the same days D under the
same requests.

What *equal* is. A `Target` holds a miss share and an accuracy per group, where the groups are either all requests
together (the default: what a reference policy itself came to) or each request class (its promise). A policy is at the
target where no group misses more and none is less accurate; of all such places on its frontier the cheapest counts. It
is nearly always the one where both are met exactly. Where a policy cannot be made worse, since it has no dial or the
dial ends, it is compared at what it delivers, and said to be `better` than asked.

Where it is read off. Misses and answers are pooled over the days and random seeds of one trace, because a target is
kept over days and not on each. First, at each attainment setting, the accuracy dial is put where the accuracy is right
(linear between neighbouring points in accuracy, log miss share and cost); then the attainment dial likewise (linear in
log miss share and cost). Or the attainment dial alone is put where both are right: a scheme without a dial of accuracy
may be more accurate with more capacity. The result is a set of weights of points.

What a day costs at that place, so that days can be compared in pairs: the same weights applied to the day's costs, plus
the price of what the day had above its part of the target, at the slope of the frontier there. These prices cancel over
the days at hand and only there: a resample of days in which the policy happens to miss more than the target is charged
for it, so intervals know that the dial was set on the very days that are reported. The part of a day in the target is
its requests where a promise is given, and what the reference itself missed on it where the reference is the target.

Nothing is extrapolated. A policy that falls short of the target by no more than `MISS_MARGIN` and `ACCURACY_MARGIN`
at its best point counts as equal at that point's cost; one that falls short by more is `not reachable`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from controller.arrays import F64
from controller.errors import UsageError, mismatch

MISS_MARGIN = 0.05
"""Misses may be this share (as a difference of logarithms) above the target where no point is at it."""

ACCURACY_MARGIN = 0.0002
"""Accuracy may be this much below the target where no point is at it."""

_SAME = 1e-9  # sums of equal numbers differ in the last bits
_BINDING = 0.02  # a slack of log misses below this is no improvement worth a word
_LEAST_MISSES = 0.5  # stands for none, whose logarithm is infinite

Status = Literal["equal", "better", "not reachable"]


@dataclass(frozen=True, eq=False)
class Sweep:
    """What a policy came to at every point of its dials; sums over the random seeds of a day."""

    cost_usd: F64  # (I, J, D) mean over random seeds
    requests: F64  # (I, J, D, C)
    missed: F64  # (I, J, D, C)
    answered: F64  # (I, J, D, C)
    accuracy_sum: F64  # (I, J, D, C)


@dataclass(frozen=True, eq=False)
class Target:
    """What every group must come to: all requests as one group, or one group per class."""

    miss_share: F64  # (G,)
    accuracy: F64  # (G,); -inf where nothing is asked
    miss_part: F64  # (G, D) part of the target's misses that falls on each day, of sum 1
    accuracy_part: F64  # (G, D) by how much each day moves the target's mean accuracy, of sum 0


@dataclass(frozen=True, eq=False)
class Place:
    """Where on its frontier a policy meets a target."""

    status: Status
    reason: str  # empty where it is equal
    weights: F64  # (I, J) of sum 1; NaN where it is not reachable
    miss_share: F64  # (G,) read off there; NaN where it is not reachable
    accuracy: F64  # (G,)
    usd_per_log_miss: F64  # (G,) change of the mean day's cost with the log of the target's miss share; 0 where it
    # does not bind
    usd_per_accuracy: F64  # (G,) and with the target's accuracy


@dataclass(frozen=True, eq=False)
class _Pick:
    """A place on a line, and how its position between two points answers to a slack that binds."""

    weights: F64  # (K,)
    motion: F64  # (S, K) change of the weights by unit of slack taken away; 0 where that slack does not bind


@dataclass(frozen=True, eq=False)
class _Spot:
    """A place on the grid that meets the target, by margins at least."""

    weights: F64  # (I, J)
    usd: float
    lacks: bool  # it meets the target by the margins alone
    usd_per_log_miss: F64  # (G,)
    usd_per_accuracy: F64  # (G,)


@dataclass(frozen=True, eq=False)
class _Grid:
    """Means over the days at every point of a sweep."""

    cost: F64  # (I, J)
    log_miss: F64  # (I, J, G)
    log_slack: F64  # (I, J, G) misses below the target
    slack: F64  # (I, J, G) accuracy above it; 1 where there is none or nothing is asked


@dataclass(frozen=True, eq=False)
class _Line:
    """Points in the order of one dial: slacks are >= 0 where the target is met."""

    slack: F64  # (K, S)
    margin: F64  # (S,)
    cost: F64  # (K,)


def pooled(sweep: Sweep, groups: int) -> tuple[F64, F64]:
    """Miss share and accuracy over all days, each (I, J, G).

    No miss counts as half a one, so that its logarithm is finite. Where nothing is answered the accuracy is infinite:
    no mean is broken.

    Args:
        sweep: The sweep.
        groups: 1: all classes together; the number of classes: each for itself.
    """
    requests, missed, answered, accuracy_sum = (one.sum(axis=2) for one in _grouped(sweep, groups))
    accuracy = np.full(answered.shape, np.inf)
    np.divide(accuracy_sum, answered, out=accuracy, where=answered > 0)
    return np.maximum(missed, _LEAST_MISSES) / np.maximum(requests, 1.0), accuracy


def own_target(sweep: Sweep, point: tuple[int, int]) -> Target:
    """What a reference policy itself came to at one of its points, all classes together."""
    miss_share, accuracy = pooled(sweep, 1)
    _, missed, answered, accuracy_sum = _grouped(sweep, 1)
    asked = np.where(np.isfinite(accuracy[point]), accuracy[point], -np.inf)
    return Target(miss_share[point], asked, _miss_part(missed)[point], _accuracy_part(answered, accuracy_sum)[point])


def promised_target(sweep: Sweep, attainment: F64, accuracy_floor: F64) -> Target:
    """What is promised to each class.

    Args:
        sweep: Any sweep of the days; its requests say how much of the misses allowed falls on each day.
        attainment: (C,) shares, below 1.
        accuracy_floor: (C,) means over a day.
    """
    requests = sweep.requests[0, 0]  # (D, C)
    allowed = np.maximum(1.0 - attainment, _LEAST_MISSES / np.maximum(requests.sum(axis=0), 1.0))
    part = _miss_part(requests)
    return Target(allowed, accuracy_floor.astype(np.float64), part, np.zeros(part.shape))


def place_at(sweep: Sweep, target: Target) -> Place:
    """The cheapest place of a frontier at which every group is at the target.

    Args:
        sweep: Points in the order of their dials.
        target: As many groups as the sweep has classes, or one.

    Raises:
        UsageError: The target has another number of groups.
    """
    groups = len(target.miss_share)
    miss_share, accuracy = pooled(sweep, groups)
    log_miss, cost = np.log(miss_share), sweep.cost_usd.mean(axis=2)
    slack = np.ones(accuracy.shape)
    np.subtract(accuracy, target.accuracy, out=slack, where=np.isfinite(accuracy) & np.isfinite(target.accuracy))
    grid = _Grid(cost, log_miss, np.log(target.miss_share) - log_miss, slack)
    rows = [_cheapest(_accuracy_line(grid, i)) for i in range(len(cost))]
    found = [*(_on_column(grid, j) for j in range(cost.shape[1])), _over_rows(grid, rows)]
    spots = [spot for spot in found if spot is not None]
    if not spots:
        return _unreachable(cost.shape, groups, _why_not(grid, rows))
    best = spots[-1]  # of equals the one that both dials were turned for
    for spot in spots:
        if (spot.lacks, spot.usd) < (best.lacks, best.usd - _SAME):
            best = spot
    found_log_miss = np.einsum("ij,ijg->g", best.weights, log_miss)
    found_accuracy = np.einsum("ij,ijg->g", best.weights, np.where(np.isfinite(accuracy), accuracy, 1.0))
    status, reason = _described(np.log(target.miss_share) - found_log_miss, found_accuracy - target.accuracy)
    return Place(
        status,
        reason,
        best.weights,
        np.exp(found_log_miss),
        found_accuracy,
        best.usd_per_log_miss,
        best.usd_per_accuracy,
    )


def _accuracy_line(grid: _Grid, i: int) -> _Line:
    return _Line(grid.slack[i], np.full(grid.slack.shape[-1], ACCURACY_MARGIN), grid.cost[i])


def _over_rows(grid: _Grid, rows: list[_Pick | None]) -> _Spot | None:
    """The attainment dial put where the misses are right, with the accuracy right at each of its values.

    Args:
        grid: The grid.
        rows: At each attainment setting where the accuracy is right; None: nowhere.
    """
    num_settings, groups = len(rows), grid.slack.shape[-1]
    mixed = np.stack([np.zeros(grid.cost.shape[1]) if row is None else row.weights for row in rows])  # (I, J)
    row_slack = np.einsum("ij,ijg->ig", mixed, grid.log_slack)
    row_cost = (mixed * grid.cost).sum(axis=1)
    best: tuple[slice, _Pick] | None = None
    for run in _runs([row is not None for row in rows]):
        along = _cheapest(_Line(row_slack[run], np.full(groups, MISS_MARGIN), row_cost[run]))
        if along is not None and (
            best is None or along.weights @ row_cost[run] < best[1].weights @ row_cost[best[0]] - _SAME
        ):
            best = run, along
    if best is None:
        return None
    at, motion = np.zeros(num_settings), np.zeros((groups, num_settings))
    at[best[0]], motion[:, best[0]] = best[1].weights, best[1].motion
    per_log_miss = -(motion @ row_cost)  # more misses allowed is slack given, not taken
    per_accuracy = np.zeros(groups)
    for i, row in enumerate(rows):
        if row is not None and at[i]:
            # A higher accuracy at this setting costs by itself, and by the misses that it brings.
            per_accuracy += at[i] * (row.motion @ grid.cost[i] - (row.motion @ grid.log_miss[i]) @ per_log_miss)
    return _spot(grid, at[:, None] * mixed, per_log_miss, per_accuracy)


def _on_column(grid: _Grid, j: int) -> _Spot | None:
    """The attainment dial alone put where misses and accuracy are right."""
    groups = grid.slack.shape[-1]
    slack = np.concatenate([grid.log_slack[:, j], grid.slack[:, j]], axis=1)
    pick = _cheapest(_Line(slack, np.repeat([MISS_MARGIN, ACCURACY_MARGIN], groups), grid.cost[:, j]))
    if pick is None:
        return None
    weights, price = np.zeros(grid.cost.shape), pick.motion @ grid.cost[:, j]
    weights[:, j] = pick.weights
    return _spot(grid, weights, -price[:groups], price[groups:])


def _spot(grid: _Grid, weights: F64, usd_per_log_miss: F64, usd_per_accuracy: F64) -> _Spot:
    least = min(float(np.einsum("ij,ijg->g", weights, one).min()) for one in (grid.log_slack, grid.slack))
    return _Spot(weights, float((weights * grid.cost).sum()), least < -_SAME, usd_per_log_miss, usd_per_accuracy)


def _why_not(grid: _Grid, rows: list[_Pick | None]) -> str:
    if all(row is None for row in rows):
        return f"its accuracy stays {-100 * float(grid.slack.min(axis=-1).max()):.2f} points below the target"
    reached = [row.weights @ -grid.log_slack[i] for i, row in enumerate(rows) if row is not None]
    times = float(np.exp(np.stack(reached).max(axis=1).min()))
    return f"at its best it misses {times:.3g} times what the target allows"


def daily_cost(sweep: Sweep, place: Place, target: Target) -> F64:
    """Cost of each day at a place, (D,), its mean that of the place; NaN where it is not reachable."""
    if place.status == "not reachable":
        return np.full(sweep.cost_usd.shape[2], np.nan)
    _, missed, answered, accuracy_sum = _grouped(sweep, len(target.miss_share))
    # Logarithms of misses are mixed, not misses, and so are the days' parts in them.
    above = np.einsum("ij,ijgd->gd", place.weights, _miss_part(missed)) - target.miss_part
    gained = np.einsum("ij,ijgd->gd", place.weights, _accuracy_part(answered, accuracy_sum)) - target.accuracy_part
    price = place.usd_per_log_miss @ above + place.usd_per_accuracy @ gained
    days = sweep.cost_usd.shape[2]
    return np.asarray(np.einsum("ij,ijd->d", place.weights, sweep.cost_usd) - days * price)


def _grouped(sweep: Sweep, groups: int) -> list[F64]:
    """Requests, misses, answers and sums of accuracy, each (I, J, D, G)."""
    counts = (sweep.requests, sweep.missed, sweep.answered, sweep.accuracy_sum)
    num_classes = sweep.requests.shape[-1]
    if groups not in (1, num_classes):
        raise UsageError(mismatch("target", f"1 group or {num_classes}", groups))
    return [one.sum(axis=-1, keepdims=True) if groups == 1 else one for one in counts]


def _miss_part(missed: F64) -> F64:
    """Part of each day in the misses of all days, (..., D, G) to (..., G, D); equal parts where there is none."""
    total = missed.sum(axis=-2, keepdims=True)
    part = np.where(total > 0, missed, 1.0) / np.where(total > 0, total, missed.shape[-2])
    return np.swapaxes(part, -1, -2)


def _accuracy_part(answered: F64, accuracy_sum: F64) -> F64:
    """By how much each day moves the mean accuracy of all days, (..., D, G) to (..., G, D)."""
    total = np.maximum(answered.sum(axis=-2, keepdims=True), 1.0)
    mean = accuracy_sum.sum(axis=-2, keepdims=True) / total
    return np.swapaxes((accuracy_sum - mean * answered) / total, -1, -2)


def _cheapest(line: _Line) -> _Pick | None:
    """The cheapest place on a line through points at which no slack is negative; None: there is none.

    Between neighbours all is linear, so the cheapest place is a point or one where a slack is zero.
    """
    count, num_slacks = line.slack.shape
    still = np.zeros((num_slacks, count))
    candidates = [_Pick(weights, still) for weights in np.eye(count)]
    for k in range(count - 1):
        before, after = line.slack[k], line.slack[k + 1]
        for s in np.flatnonzero(before * after < 0.0):
            weights, motion = np.zeros(count), still.copy()
            part = before[s] / (before[s] - after[s])
            weights[k : k + 2] = 1.0 - part, part
            motion[s, k : k + 2] = np.array([-1.0, 1.0]) / (after[s] - before[s])
            candidates.append(_Pick(weights, motion))
    best: _Pick | None = None
    for pick in candidates:
        if (pick.weights @ line.slack >= -_SAME).all() and (
            best is None or pick.weights @ line.cost < best.weights @ line.cost - _SAME
        ):
            best = pick
    if best is not None:
        return best
    shortfall = (-line.slack / line.margin).max(axis=1)  # (K,) in margins
    nearest = int(np.argmin(shortfall))
    return candidates[nearest] if shortfall[nearest] <= 1.0 + _SAME else None


def _runs(is_reached: list[bool]) -> list[slice]:
    """Neighbouring points that are all reached; across a gap nothing is interpolated."""
    runs: list[slice] = []
    first: int | None = None
    for k, reached in enumerate([*is_reached, False]):
        if reached and first is None:
            first = k
        elif not reached and first is not None:
            runs.append(slice(first, k))
            first = None
    return runs


def _described(log_slack: F64, accuracy_slack: F64) -> tuple[Status, str]:
    spare = [f"{100 * (1 - np.exp(-log_slack.min())):.0f} % fewer misses"] if log_slack.min() > _BINDING else []
    known = accuracy_slack[np.isfinite(accuracy_slack)]
    if known.size and known.min() > ACCURACY_MARGIN:
        spare.append(f"{100 * known.min():.2f} points more accurate")
    return ("better", f"nothing cheaper on its dials; {' and '.join(spare)}") if spare else ("equal", "")


def _unreachable(shape: tuple[int, ...], groups: int, reason: str) -> Place:
    nothing = np.full(groups, np.nan)
    return Place("not reachable", reason, np.full(shape, np.nan), nothing, nothing, nothing, nothing)
