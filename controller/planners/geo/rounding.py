"""The fast geo planner: the linear relaxation, rounded, with a proved ratio."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from controller.arrays import F64, Bool
from controller.planners.geo.compiled import ROUNDING, GeoInstance, GeoPlan, evaluate_geo
from controller.planners.geo.program import GeoProgram, whole_instances
from controller.planners.geo.rivals import single_axis

POLISH_REACH = 2
"""Instances that the last program may add to a pair or take from it."""

POLISH_GAP, POLISH_NODES, POLISH_S = 1e-5, 50, 20.0
"""Relative distance to its bound and nodes at which the last program stops; the seconds only end a huge one."""

MAX_ROUNDS = 40
"""Linear programs solved in one dive at most."""


@dataclass(frozen=True)
class Rounded:
    """A rounded plan and what is proved of it.

    Attributes:
        plan: The plan.
        total_usd_per_hour: Its cost.
        bound_usd_per_hour: Optimum of the relaxation: no plan costs less.
        proved_ratio: Most that rounding up can cost over the bound, known before any rounding from the relaxation.
        num_open: Pairs of site and model that the relaxation uses.
        solve_s: Time of a core; other load on the machine does not count.
    """

    plan: GeoPlan
    total_usd_per_hour: float
    bound_usd_per_hour: float
    proved_ratio: float
    num_open: int
    solve_s: float

    @property
    def ratio(self) -> float:
        """Cost over the bound."""
        return self.total_usd_per_hour / self.bound_usd_per_hour


def plan_rounded(instance: GeoInstance, allowed: Bool | None = None) -> Rounded | None:
    """A plan within a proved ratio of the optimum; None where there is none.

    Relax the whole numbers of instances, solve to a vertex, round every count up and keep the rates. Then the rates are
    routed anew on those instances, and two dives (fix the count nearest to a whole number, solve again) look for better
    ones; plans that adapt models or data alone are rounded up beside, as they are plans, too. Last, a program with
    whole numbers for the pairs alone that all these plans open, few whatever the problem's size, looks near their
    counts. The cheapest plan is kept.

    Ratio. Let K be the pairs of a site and what an instance holds (a model, or a variant where the problem says so)
    with x* > 0 in the vertex, p their prices, n = sum of x*, and R the number of regions. Rounding up keeps every row
    satisfied, as rates do not change and capacity only grows. It adds less than one instance per open pair, so

        cost < LP + sum of p over open pairs <= LP + K max(p),
        cost / OPT <= cost / LP < 1 + K max(p) / LP <= 1 + (K / n) max(p) / min(p) = 1 + O(K / n),

    because LP >= sum of p x* >= n min(p), over the open pairs. And K <= 2R, whatever the numbers of sites and variants:
    where p > 0 an optimal x* is the load of its pair, so x can be put into the cost, and the program left has 2R rows
    (demand and accuracy of every region); a vertex of it has at most 2R positive rates, and an open pair needs one. An
    open pair with x* >= k is rounded up by a factor below 1 + 1/k, so with ten instances or more in every open pair the
    ratio is below 1.1. Later steps only ever replace the plan by a cheaper one.

    Args:
        instance: The problem.
        allowed: (R, I, V) what may be used; None: all that is usable.
    """
    began_s = time.process_time()
    relaxed = GeoProgram(instance, allowed).solve_relaxed()
    if relaxed is None:
        return None
    bound, count, rates = relaxed
    is_open = count > ROUNDING
    best = GeoPlan(rates, whole_instances(instance, rates))
    usd = evaluate_geo(instance, best).total_usd_per_hour
    candidates = [_routed(instance, allowed, best.instances.astype(np.float64))]
    candidates += [_dive(instance, allowed, count, prefers_down) for prefers_down in (False, True)]
    usable = instance.usable if allowed is None else instance.usable & allowed
    candidates += [_rounded_up(instance, usable & mask) for mask in single_axis(instance)]
    opened = [best, *(plan for plan in candidates if plan is not None)]
    for plan in (*opened, _polished(instance, allowed, opened)):
        if plan is None:
            continue
        cost = evaluate_geo(instance, plan)
        if not cost.faults and cost.total_usd_per_hour < usd:
            best, usd = plan, cost.total_usd_per_hour
    opening = float((is_open * instance.usd_per_hour[:, None]).sum())
    return Rounded(
        plan=best,
        total_usd_per_hour=usd,
        bound_usd_per_hour=bound,
        proved_ratio=1.0 + opening / bound,
        num_open=int(is_open.sum()),
        solve_s=time.process_time() - began_s,
    )


def _routed(instance: GeoInstance, allowed: Bool | None, count: F64) -> GeoPlan | None:
    """The cheapest rates on given instances; instances that they leave idle are given back."""
    found = GeoProgram(instance, allowed, least=np.zeros_like(count), most=count).solve_relaxed()
    return None if found is None else GeoPlan(found[2], whole_instances(instance, found[2]))


def _rounded_up(instance: GeoInstance, allowed: Bool) -> GeoPlan | None:
    """The relaxation's rates with its counts rounded up."""
    relaxed = GeoProgram(instance, allowed).solve_relaxed()
    return None if relaxed is None else GeoPlan(relaxed[2], whole_instances(instance, relaxed[2]))


def _polished(instance: GeoInstance, allowed: Bool | None, plans: list[GeoPlan]) -> GeoPlan | None:
    """The best plan on the pairs that some plan opens, each count at most `POLISH_REACH` beyond theirs."""
    counts = np.stack([plan.instances for plan in plans])
    least, most = counts.min(axis=0) - POLISH_REACH, counts.max(axis=0) + POLISH_REACH
    is_open = counts.max(axis=0) > 0
    bounds = (np.where(is_open, np.maximum(least, 0), 0.0), np.where(is_open, most, 0.0))
    on_open = is_open[:, instance.model]  # (I, V)
    within = np.broadcast_to(on_open, instance.usable.shape) & (True if allowed is None else allowed)
    return GeoProgram(instance, within, *bounds).solve_whole(POLISH_GAP, POLISH_S, POLISH_NODES).plan


def _dive(instance: GeoInstance, allowed: Bool | None, count: F64, prefers_down: bool) -> GeoPlan | None:
    """Fixes one count after the other at a whole number and solves again, until all are whole.

    Args:
        instance: The problem.
        allowed: As for `plan_rounded`.
        count: (I, M) of the relaxation.
        prefers_down: The smallest part is rounded down first, so that pairs hardly used are closed; otherwise the count
            nearest to a whole number is fixed there.
    """
    least, most = np.zeros_like(count), np.full_like(count, np.inf)
    rates: F64 | None = None
    for _ in range(MAX_ROUNDS):
        part = count - np.floor(count)
        is_whole = (part < ROUNDING) | (part > 1.0 - ROUNDING)
        if is_whole.all():
            break
        distance = np.where(is_whole, np.inf, part if prefers_down else np.minimum(part, 1.0 - part))
        at = np.unravel_index(int(np.argmin(distance)), count.shape)
        down = float(np.floor(count[at]))
        goes_down = prefers_down or part[at] < 1.0 / 2.0
        for value in (down, down + 1.0) if goes_down else (down + 1.0, down):
            bounds = least.copy(), most.copy()
            bounds[0][at] = bounds[1][at] = value
            found = GeoProgram(instance, allowed, *bounds).solve_relaxed()
            if found is not None:
                (least, most), (_, count, rates) = bounds, found
                break
        else:
            return None
    return None if rates is None else GeoPlan(rates, whole_instances(instance, rates))
