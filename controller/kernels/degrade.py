"""Brings a plan within the budgets of an hour and of the day, by the steps that the limits declare.

Capacity moves to cheaper pools, or to smaller variants on the pool it has, as far as that saves money; then it is cut,
what only the least valuable classes use first. What was declared comes first, in its order; a plan that is still over
budget after the last step is cut in any case. Minima and floor are spared as long as the budgets pay for them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from controller.arrays import (
    F64,
    I64,
    ON_DEMAND,
    SERVERLESS,
    Bool,
    CatalogArrays,
    ControlArrays,
    LimitArrays,
    ObservationArrays,
    PlanArrays,
    WorkloadArrays,
)
from controller.kernels.compiled import inner
from controller.kernels.local import flags, floats, integers
from controller.kernels.money import DAY, HOUR, Costs, costs_of, measure
from controller.kernels.provision import rank_falling
from controller.kernels.rates import peak_rate, planned_rps
from controller.plan import DEGRADE, Reason
from controller.rule_arrays import RATE_TICKS

_CHEAPER_POOL, _SMALLER_VARIANT, _SHED = (DEGRADE.index(s) for s in ("cheaper_pool", "smaller_variant", "shed"))
_CUT = len(DEGRADE)  # comes after the last step in any case
_BUDGET = int(Reason.BUDGET)
_DAY_BUDGET = int(Reason.DAY_BUDGET)
_MOVED = int(Reason.CHEAPER_POOL)
_SHRUNK = int(Reason.SMALLER_VARIANT)
_SHEDDING = int(Reason.SHED)


class Room(NamedTuple):
    """How far one env's plan may be changed; work space of one call."""

    rps: F64  # (V, P) of one replica at the plan's batches
    is_machine: Bool  # (P,)
    is_on_demand: Bool  # (P,)
    ceiling: I64  # (P,)
    pool_min: I64  # (P,) 0 where minima are not spared
    on_demand_floor: int  # likewise
    worth_usd: F64  # (V, P) value of the most valuable class that uses it; -1 for none


@inner
def _is_over(over: F64) -> bool:
    return bool(over[HOUR] > 0.0 or over[DAY] > 0.0)


@inner
def _spare(room: Room, replicas: I64, p: int) -> int:
    """Replicas that a pool may lose."""
    in_pool, on_demand = 0, 0
    for v in range(replicas.shape[0]):
        in_pool += replicas[v, p]
    spare = in_pool - room.pool_min[p]
    if room.is_on_demand[p] and room.on_demand_floor > 0:
        for q in range(replicas.shape[1]):
            if room.is_on_demand[q]:
                for v in range(replicas.shape[0]):
                    on_demand += replicas[v, q]
        spare = min(spare, on_demand - room.on_demand_floor)
    return spare


@inner
def _most_moved(room: Room, replicas: I64, source: tuple[int, int], target: tuple[int, int]) -> int:
    """Replicas that may move without a minimum, the on-demand floor or the target's ceiling being crossed."""
    (v, p), (u, q) = source, target
    ratio = room.rps[v, p] / room.rps[u, q]
    spare = _spare(room, replicas, p)
    if spare <= 0:
        return 0
    if p == q:  # the pool loses as many as the smaller variant is faster
        return min(replicas[v, p], int(np.floor(spare / (1.0 - ratio) + 1e-9)))
    free = room.ceiling[q]
    for other in range(replicas.shape[0]):
        free -= replicas[other, q]
    return max(0, min(replicas[v, p], spare, int(np.floor(max(0, free) / ratio + 1e-9))))


@inner
def _try_move(
    costs: Costs, room: Room, replicas: I64, source: tuple[int, int], target: tuple[int, int], most: int, over: F64
) -> int:
    """Moves capacity of up to `most` replicas, as much as the excess asks for; returns how many moved, 0 for none.

    A move has to make what is over budget less so, and to leave within a budget what was within it. As a part of a
    replica has to be bought whole, few may save nothing where more do; so it is tried with all as well.
    """
    (v, p), (u, q) = source, target
    ratio = room.rps[v, p] / room.rps[u, q]
    hour, day = over[HOUR], over[DAY]
    each = costs.usd[p] - costs.usd[q] * ratio
    count = max(1, min(most, int(min(np.ceil(max(hour, day) / each), 1e9))))
    while True:
        bought = int(np.ceil(count * ratio - 1e-6))
        replicas[v, p] -= count
        replicas[u, q] += bought
        measure(costs, replicas, over)
        is_cheaper = over[HOUR] < hour if hour > 0.0 else over[HOUR] <= 0.0
        if is_cheaper and (over[DAY] < day if day > 0.0 else over[DAY] <= 0.0):
            return count
        replicas[v, p] += count
        replicas[u, q] -= bought
        over[HOUR], over[DAY] = hour, day
        if count >= most:
            return 0
        count = most


@inner
def _find_savings(
    allowed: Bool,
    operator: I64,
    accuracy: F64,
    available: Bool,
    n: int,
    costs: Costs,
    room: Room,
    by_pool: bool,
    saving: F64,
) -> None:
    """Writes the share of its cost that capacity saves elsewhere, (V, P, pool or variant to go to); 0 for no way there.

    It may go where every class that may use the option, one at least, may use the other for the same operator: to pools
    that are available, or to variants that are no more accurate.
    """
    num_variants, num_pools = room.rps.shape
    saving[:, :, :] = 0.0
    for v in range(num_variants):
        for p in range(num_pools):
            if not room.is_machine[p] or room.rps[v, p] <= 0.0 or costs.usd[p] <= 0.0:
                continue
            for k in range(saving.shape[2]):
                u, q = (v, k) if by_pool else (k, p)
                is_open = available[n, q] if by_pool else accuracy[u] <= accuracy[v]
                if not is_open or not room.is_machine[q] or room.rps[u, q] <= 0.0:
                    continue
                is_used, serves_all = False, True
                for c in range(allowed.shape[0]):
                    if allowed[c, v, p]:
                        is_used = True
                        serves_all = serves_all and allowed[c, u, q] and operator[c, u] == operator[c, v]
                if is_used and serves_all:
                    share = costs.usd[q] / room.rps[u, q] / (costs.usd[p] / room.rps[v, p])
                    saving[v, p, k] = max(0.0, 1.0 - share)


@inner
def _replace_dear(costs: Costs, room: Room, replicas: I64, saving: F64, by_pool: bool, over: F64) -> bool:
    """Moves capacity to cheaper pools, or to smaller variants in its pool, most saving first; whether any moved."""
    has_moved = False
    while _is_over(over):
        best, v, p, k = 1e-12, -1, -1, -1
        for i in range(replicas.shape[0]):
            for j in range(replicas.shape[1]):
                if replicas[i, j] > 0:
                    for m in range(saving.shape[2]):
                        if saving[i, j, m] > best:
                            best, v, p, k = saving[i, j, m], i, j, m
        if v < 0:
            break
        source, target = (v, p), ((v, k) if by_pool else (k, p))
        most = _most_moved(room, replicas, source, target)
        moved = _try_move(costs, room, replicas, source, target, most, over) if most > 0 else 0
        has_moved = has_moved or moved > 0
        if moved == 0 or moved == most:
            saving[v, p, k] = 0.0
    return has_moved


@inner
def _cut_least_valuable(costs: Costs, room: Room, replicas: I64, over: F64) -> bool:
    """Cuts until the plan fits, what only the least valuable classes use first, of that the dearest per capacity.

    Returns:
        Whether anything was cut.
    """
    has_cut = False
    while _is_over(over):
        v, p, worth, dearest, most = -1, -1, np.inf, -1.0, 0
        for j in range(replicas.shape[1]):
            spare = _spare(room, replicas, j)
            for i in range(replicas.shape[0]):
                may_go = min(replicas[i, j], spare)
                if may_go <= 0 or costs.usd[j] <= 0.0:
                    continue
                usd = costs.usd[j] / max(room.rps[i, j], 1e-12)
                if room.worth_usd[i, j] < worth or (room.worth_usd[i, j] == worth and usd > dearest):
                    v, p, worth, dearest, most = i, j, room.worth_usd[i, j], usd, may_go
        if v < 0:
            break
        # Never more than the excess asks for. One that is to be launched also saves what giving it up would cost.
        usd_of_day = costs.usd[p]
        launched = replicas[v, p] - costs.have[v, p]
        if launched > 0:
            most = min(most, launched)
            usd_of_day += costs.leaving_usd[p] / costs.left_h
        needed = np.floor(max(over[HOUR] / costs.usd[p], over[DAY] / usd_of_day))
        replicas[v, p] -= max(1, min(most, int(min(needed, 1e9))))
        has_cut = True
        measure(costs, replicas, over)
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
    order = integers(num_classes)
    rank_falling(wl.value_usd, order)
    taken_rps = 0.0
    for c in order:
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
def _room_of(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    limits: LimitArrays,
    plan: PlanArrays,
    n: int,
    ceiling: I64,
    spare_minima: bool,
    by_option: F64,
    by_pool: Bool,
    pool_min: I64,
) -> Room:
    """The room of env n, in work space of the caller's: (2, V, P), (2, P) and (P,), all zero before."""
    num_variants, num_pools = cat.usable.shape
    rps, worth_usd, is_machine, is_on_demand = by_option[0], by_option[1], by_pool[0], by_pool[1]
    for p in range(num_pools):
        is_machine[p] = cat.market[p] != SERVERLESS
        is_on_demand[p] = cat.market[p] == ON_DEMAND
        if spare_minima:
            pool_min[p] = limits.pool_min[p]
        for v in range(num_variants):
            rps[v, p] = planned_rps(cat, plan, n, v, p)
            worth_usd[v, p] = -1.0
            for c in range(wl.allowed.shape[0]):
                if wl.allowed[c, v, p] or wl.collage[c, v, p]:
                    worth_usd[v, p] = max(worth_usd[v, p], wl.value_usd[c])
    return Room(
        rps,
        is_machine,
        is_on_demand,
        ceiling,
        pool_min,
        limits.on_demand_floor if spare_minima else 0,
        worth_usd,
    )


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
    spare_minima: bool,
) -> bool:
    """Changes env n's plan until it is within both budgets, or may not be cut any further.

    Args:
        cat: Catalog.
        wl: Workload.
        limits: With strict limits.
        degrade: (D,) steps, places in `controller.plan.DEGRADE`.
        obs: Observation.
        plan: Plan, valid and below every pool's ceiling; changed in place.
        n: Env.
        ceiling: (P,) replicas that each pool may have after this tick.
        spare_minima: Whether minima and on-demand floor are left.

    Returns:
        Whether it fits; where minima bind nothing, else there is nothing left of it.
    """
    over, replicas = floats(2), plan.replicas[n]
    num_variants, num_pools = cat.usable.shape
    costs = costs_of(cat, limits, obs, n, floats((2, num_pools)), integers(cat.usable.shape))
    measure(costs, replicas, over)
    if not _is_over(over):
        return True
    if over[HOUR] > 0.0:
        plan.reasons[n] |= _BUDGET
    if over[DAY] > 0.0:
        plan.reasons[n] |= _DAY_BUDGET
    by_option, of_pool = floats((2, num_variants, num_pools)), flags((2, num_pools))
    room = _room_of(cat, wl, limits, plan, n, ceiling, spare_minima, by_option, of_pool, integers(num_pools))
    to_pools, to_variants = (
        floats((num_variants, num_pools, num_pools)),
        floats((num_variants, num_pools, num_variants)),
    )
    has_cut = sheds = False
    for i in range(degrade.shape[0] + 1):
        step = degrade[i] if i < degrade.shape[0] else _CUT
        if step in (_SHED, _CUT):
            sheds = sheds or step == _SHED
            has_cut = _cut_least_valuable(costs, room, replicas, over) or has_cut
        elif _is_over(over):
            by_pool = step == _CHEAPER_POOL
            saving = to_pools if by_pool else to_variants
            _find_savings(wl.allowed, wl.operator, cat.accuracy, obs.available, n, costs, room, by_pool, saving)
            if _replace_dear(costs, room, replicas, saving, by_pool, over):
                plan.reasons[n] |= _MOVED if by_pool else _SHRUNK
    fits = not _is_over(over)
    if has_cut and sheds and (fits or not spare_minima):
        plan.reasons[n] |= _SHEDDING
        set_shed_limits(cat, wl, limits.strict.limits.control, obs, plan, n)  # type: ignore[union-attr]  # as `costs_of`
    return fits
