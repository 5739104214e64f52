"""Brings a plan within the budgets of an hour and of the day, by the steps that the limits declare.

Capacity moves to cheaper pools, or to smaller variants on the pool it has, as far as that saves money; then it is cut,
what only the least valuable classes use first. What was declared comes first, in its order; a plan that is still over
budget after the last step is cut in any case, at the end below minima and floor too.
"""

from __future__ import annotations

import numpy as np

from controller.arrays import (
    F64,
    I64,
    ON_DEMAND,
    SERVERLESS,
    CatalogArrays,
    ControlArrays,
    LimitArrays,
    ObservationArrays,
    PlanArrays,
    WorkloadArrays,
)
from controller.kernels.compiled import inner
from controller.kernels.counts import count_in_pool, count_on_demand
from controller.kernels.money import DAY, HOUR, hourly_usd, measure
from controller.kernels.rates import peak_rate, planned_rps
from controller.plan import DEGRADE, Reason
from controller.rule_arrays import RATE_TICKS

_CHEAPER_POOL, _SMALLER_VARIANT, _SHED = (DEGRADE.index(s) for s in ("cheaper_pool", "smaller_variant", "shed"))
_BUDGET = int(Reason.BUDGET)
_DAY_BUDGET = int(Reason.DAY_BUDGET)
_MOVED = int(Reason.CHEAPER_POOL)
_SHRUNK = int(Reason.SMALLER_VARIANT)
_SHEDDING = int(Reason.SHED)


@inner
def _is_over(over: F64) -> bool:
    return bool(over[HOUR] > 0.0 or over[DAY] > 0.0)


@inner
def _serves_as_many(wl: WorkloadArrays, v: int, p: int, u: int, q: int) -> bool:
    """Whether every class that may use option (v, p), one at least, may use (u, q) for the same operator."""
    is_used = False
    for c in range(wl.allowed.shape[0]):
        if wl.allowed[c, v, p]:
            is_used = True
            if not wl.allowed[c, u, q] or wl.operator[c, u] != wl.operator[c, v]:
                return False
    return is_used


@inner
def _saving(cat: CatalogArrays, wl: WorkloadArrays, plan: PlanArrays, n: int, v: int, p: int, u: int, q: int) -> float:
    """Share of its cost that capacity of (v, p) saves on (u, q); 0 where it may not go there."""
    rps, other_rps = planned_rps(cat, plan, n, v, p), planned_rps(cat, plan, n, u, q)
    usd, other_usd = hourly_usd(cat, p), hourly_usd(cat, q)
    if rps <= 0.0 or other_rps <= 0.0 or usd <= 0.0 or not _serves_as_many(wl, v, p, u, q):
        return 0.0
    return max(0.0, 1.0 - (other_usd / other_rps) / (usd / rps))


@inner
def _try_move(
    cat: CatalogArrays,
    limits: LimitArrays,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
    source: tuple[int, int],
    target: tuple[int, int],
    most: int,
    over: F64,
) -> int:
    """Moves capacity of up to `most` replicas, as much as the excess asks for; returns how many moved, 0 for none.

    A move has to make what is over budget less so, and to leave within a budget what was within it. As a part of a
    replica has to be bought whole, few may save nothing where more do; so it is tried with twice as many.
    """
    (v, p), (u, q) = source, target
    ratio = planned_rps(cat, plan, n, v, p) / planned_rps(cat, plan, n, u, q)
    hour, day = over[HOUR], over[DAY]
    each = hourly_usd(cat, p) - hourly_usd(cat, q) * ratio
    count = max(1, min(most, int(min(np.ceil(max(hour, day) / each), 1e9))))
    while True:
        bought = int(np.ceil(count * ratio - 1e-6))
        plan.replicas[n, v, p] -= count
        plan.replicas[n, u, q] += bought
        measure(cat, limits, obs, plan, n, over)
        is_cheaper = over[HOUR] < hour if hour > 0.0 else over[HOUR] <= 0.0
        if is_cheaper and (over[DAY] < day if day > 0.0 else over[DAY] <= 0.0):
            return count
        plan.replicas[n, v, p] += count
        plan.replicas[n, u, q] -= bought
        over[HOUR], over[DAY] = hour, day
        if count >= most:
            return 0
        count = min(most, 2 * count)


@inner
def _most_moved(
    cat: CatalogArrays,
    limits: LimitArrays,
    plan: PlanArrays,
    n: int,
    source: tuple[int, int],
    target: tuple[int, int],
    ceiling: I64,
) -> int:
    """Replicas that may move without a minimum, the on-demand floor or the target's ceiling being crossed."""
    (v, p), (u, q) = source, target
    ratio = planned_rps(cat, plan, n, v, p) / planned_rps(cat, plan, n, u, q)
    most = plan.replicas[n, v, p]
    spare = count_in_pool(plan.replicas, n, p) - limits.pool_min[p]
    above_floor = count_on_demand(cat.market, plan.replicas, n) - limits.on_demand_floor
    if p == q:
        # The pool loses as many as the smaller variant is faster.
        if cat.market[p] == ON_DEMAND:
            spare = min(spare, above_floor)
        return max(0, min(most, int(np.floor(spare / (1.0 - ratio) + 1e-9)) if spare > 0 else 0))
    if cat.market[p] == ON_DEMAND:
        spare = min(spare, above_floor)
    room = ceiling[q] - count_in_pool(plan.replicas, n, q)
    return max(0, min(most, spare, int(np.floor(max(0, room) / ratio + 1e-9))))


@inner
def _replace_dear(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    limits: LimitArrays,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
    ceiling: I64,
    by_pool: bool,
    over: F64,
) -> bool:
    """Moves capacity to cheaper pools, or to smaller variants in its pool, most saving first; whether any moved."""
    num_variants, num_pools = cat.usable.shape
    is_spent = np.zeros((num_variants, num_pools, max(num_variants, num_pools)), np.bool_)
    has_moved = False
    while _is_over(over):
        best, found = 0.0, (-1, -1, -1)
        for v in range(num_variants):
            for p in range(num_pools):
                if plan.replicas[n, v, p] <= 0 or cat.market[p] == SERVERLESS:
                    continue
                for k in range(num_pools if by_pool else num_variants):
                    u, q = (v, k) if by_pool else (k, p)
                    if is_spent[v, p, k] or (u == v and q == p) or cat.market[q] == SERVERLESS:
                        continue
                    if by_pool and not obs.available[n, q]:
                        continue
                    if not by_pool and cat.accuracy[u] > cat.accuracy[v]:
                        continue
                    saving = _saving(cat, wl, plan, n, v, p, u, q)
                    if saving > best + 1e-12:
                        best, found = saving, (v, p, k)
        v, p, k = found
        if v < 0:
            break
        source, target = (v, p), ((v, k) if by_pool else (k, p))
        most = _most_moved(cat, limits, plan, n, source, target, ceiling)
        moved = _try_move(cat, limits, obs, plan, n, source, target, most, over) if most > 0 else 0
        has_moved = has_moved or moved > 0
        is_spent[v, p, k] = moved == 0 or moved == most
    return has_moved


@inner
def _cut_least_valuable(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    limits: LimitArrays,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
    spare_minima: bool,
    over: F64,
) -> bool:
    """Cuts until the plan fits, what only the least valuable classes use first, of that the dearest per capacity.

    Returns:
        Whether anything was cut.
    """
    num_variants, num_pools = cat.usable.shape
    has_cut = False
    while _is_over(over):
        best, best_worth, best_cost, best_most = (-1, -1), np.inf, -1.0, 0
        above_floor = count_on_demand(cat.market, plan.replicas, n) - limits.on_demand_floor
        for p in range(num_pools):
            usd = hourly_usd(cat, p)
            spare = count_in_pool(plan.replicas, n, p) - limits.pool_min[p]
            if cat.market[p] == ON_DEMAND:
                spare = min(spare, above_floor)
            for v in range(num_variants):
                most = min(plan.replicas[n, v, p], spare) if spare_minima else plan.replicas[n, v, p]
                if most <= 0 or usd <= 0.0:
                    continue
                worth = -1.0
                for c in range(wl.allowed.shape[0]):
                    if wl.allowed[c, v, p] or wl.collage[c, v, p]:
                        worth = max(worth, wl.value_usd[c])
                cost = usd / max(planned_rps(cat, plan, n, v, p), 1e-12)
                if worth < best_worth or (worth == best_worth and cost > best_cost):
                    best, best_worth, best_cost, best_most = (v, p), worth, cost, most
        v, p = best
        if v < 0:
            break
        # Never more than the excess asks for: one that is to be launched saves more than its rental of the day.
        needed = np.floor(max(over[HOUR], over[DAY]) / hourly_usd(cat, p))
        if plan.replicas[n, v, p] > obs.ready[n, v, p] + obs.starting[n, v, p]:
            needed = 1.0 if over[DAY] > 0.0 else needed
        plan.replicas[n, v, p] -= max(1, min(best_most, int(min(needed, 1e9))))
        has_cut = True
        measure(cat, limits, obs, plan, n, over)
    return has_cut


@inner
def set_shed_limits(
    cat: CatalogArrays, wl: WorkloadArrays, control: ControlArrays, obs: ObservationArrays, plan: PlanArrays, n: int
) -> None:
    """Limits the queues of the classes for which the planned machines have no room, least valuable first.

    Classes take capacity in order of value, at the rate of their busiest tick of the last minute. One that finds room
    for a share of its requests keeps that share of its queue limit, at least one request.
    """
    num_classes, num_variants, num_pools = wl.allowed.shape
    is_served = np.zeros(num_classes, np.bool_)
    taken_rps = 0.0
    for _ in range(num_classes):
        c = -1
        for other in range(num_classes):
            if not is_served[other] and (c < 0 or wl.value_usd[other] > wl.value_usd[c]):
                c = other
        is_served[c] = True
        capacity_rps = 0.0
        for v in range(num_variants):
            for p in range(num_pools):
                if wl.allowed[c, v, p] and cat.market[p] != SERVERLESS:
                    capacity_rps += plan.replicas[n, v, p] * planned_rps(cat, plan, n, v, p)
        rps, left_rps = peak_rate(control, obs, n, c, RATE_TICKS), max(0.0, capacity_rps - taken_rps)
        if rps > left_rps:
            limit = max(1, int(left_rps / rps * wl.queue_limit[c]))
            plan.shed_limit[n, c] = min(plan.shed_limit[n, c], limit)
        taken_rps += min(rps, left_rps)


@inner
def degrade_one(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    limits: LimitArrays,
    degrade: I64,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
    ceiling: I64,
) -> None:
    """Changes env n's plan until it is within both budgets, or there is nothing of it left.

    Args:
        cat: Catalog.
        wl: Workload.
        limits: With strict limits.
        degrade: (D,) steps, places in `controller.plan.DEGRADE`.
        obs: Observation.
        plan: Plan, valid and below every pool's ceiling; changed in place.
        n: Env.
        ceiling: (P,) replicas that each pool may have after this tick.
    """
    over = np.empty(2)
    measure(cat, limits, obs, plan, n, over)
    if not _is_over(over):
        return
    if over[HOUR] > 0.0:
        plan.reasons[n] |= _BUDGET
    if over[DAY] > 0.0:
        plan.reasons[n] |= _DAY_BUDGET
    has_cut = sheds = False
    for step in degrade:
        if step == _SHED:
            sheds = True
            has_cut = _cut_least_valuable(cat, wl, limits, obs, plan, n, True, over) or has_cut
        elif _replace_dear(cat, wl, limits, obs, plan, n, ceiling, step == _CHEAPER_POOL, over):
            plan.reasons[n] |= _MOVED if step == _CHEAPER_POOL else _SHRUNK
    for spare_minima in (True, False):
        has_cut = _cut_least_valuable(cat, wl, limits, obs, plan, n, spare_minima, over) or has_cut
    if has_cut and sheds:
        plan.reasons[n] |= _SHEDDING
        set_shed_limits(cat, wl, limits.strict.limits.control, obs, plan, n)  # type: ignore[union-attr]  # as above
