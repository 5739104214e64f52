"""Sheds by value: while more is asked for than the machines serve, the less valuable classes wait in shorter queues.

A queue is one FIFO for all classes, so a request of any class waits for all that is ahead of it. A class that always
fills its part of a queue, K requests, is answered at the rate x that more valuable ones leave it; by Little's law each
of its requests waits K / x, and so does everything else in that FIFO. K = x times half the least slack among the class
and the more valuable ones therefore keeps the wait of all at half that slack, and leaves them the other half for
chance. No limit goes below one request, so that no machine is idle while somebody asks for it.
"""

from __future__ import annotations

import numpy as np

from controller.arrays import (
    F64,
    I64,
    SERVERLESS,
    ActionArrays,
    Bool,
    CatalogArrays,
    ControlArrays,
    LimitArrays,
    ObservationArrays,
    PlanArrays,
    WorkloadArrays,
)
from controller.kernels.compiled import inner
from controller.kernels.counts import staying_replicas
from controller.kernels.local import flags, floats, integers
from controller.kernels.provision import rank_falling
from controller.kernels.rates import peak_rate, planned_rps
from controller.plan import Reason
from controller.rule_arrays import RATE_TICKS

SLACK_SHARE = 0.5
"""Part of the least slack that a queue may take under overload."""

MOST_OF_LEFT = 0.9
"""Part of what is left of an option that a class takes while it finds room elsewhere: its own wait grows without bound
towards all of it.
"""

CHANCE = 1.27
"""Standard deviations by which chance alone lifts the busiest of six ticks: the mean of the largest of six normals."""

_BY_VALUE = int(Reason.SHED_BY_VALUE)
_SERVERLESS_BUDGET = int(Reason.SERVERLESS_BUDGET)
_ROUNDING = 1e-9


@inner
def likely_peak(ctl: ControlArrays, obs: ObservationArrays, n: int, c: int) -> float:
    """Arrival rate of a class in the busiest tick of the last minute, less what chance adds to it, requests/s."""
    most = peak_rate(ctl, obs, n, c, RATE_TICKS) * ctl.tick_s
    return max(0.0, most - CHANCE * np.sqrt(most)) / ctl.tick_s


@inner
def _slack_s(cat: CatalogArrays, wl: WorkloadArrays, plan: PlanArrays, n: int, c: int, o: int) -> float:
    """Seconds that a request of a class may wait for an option."""
    v, p = o // cat.market.shape[0], o % cat.market.shape[0]
    return max(0.0, wl.slo_s[c] - cat.service_s[v, p, plan.batch_size[n, v, p]] - wl.network_s[c, v, p])


@inner
def _demand_of_machines(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
    order: I64,
    shares: F64,
    demand: F64,
) -> None:
    """Writes each class's rate, (C,), without what serverless takes: its share, and overflow within the quotas."""
    num_variants, num_pools = cat.usable.shape
    free = floats(num_pools)  # environments
    for p in range(num_pools):
        free[p] = cat.quota[p]
    for i in range(order.shape[0]):
        c = order[i]
        rps, sent = likely_peak(ctl, obs, n, c), 0.0
        for v in range(num_variants):
            for p in range(num_pools):
                if cat.market[p] == SERVERLESS and shares[n, c, v, p] > 0.0:
                    sent += shares[n, c, v, p]
                    free[p] -= rps * shares[n, c, v, p] * cat.service_s[v, p, 1]
        if wl.num_operators[c] == 1:
            rps *= max(0.0, 1.0 - sent)
        option = wl.overflow_option[c]
        if option >= 0 and plan.overflow_fraction[n, c] > 0.0:
            v, p = option // num_pools, option % num_pools
            taken = min(rps * plan.overflow_fraction[n, c], max(0.0, free[p]) / cat.service_s[v, p, 1])
            free[p] -= taken * cat.service_s[v, p, 1]
            rps -= taken
        demand[c] = rps


@inner
def _hold(cat: CatalogArrays, wl: WorkloadArrays, plan: PlanArrays, n: int, c: int, shares: F64) -> None:
    """Lets a class without a machine that serves wait for one: as many as a replica answers within its slack."""
    num_pools = cat.market.shape[0]
    held = 0.0
    for o in range(cat.usable.size):
        v, p = o // num_pools, o % num_pools
        if shares[n, c, v, p] > 0.0:
            if cat.market[p] == SERVERLESS:
                return
            held = max(held, _slack_s(cat, wl, plan, n, c, o) * planned_rps(cat, plan, n, v, p))
    held = min(held, float(wl.queue_limit[c]))
    if not plan.reasons[n] & _SERVERLESS_BUDGET and held > plan.shed_limit[n, c]:
        plan.shed_limit[n, c] = int(held)


@inner
def _make_room(may_use: Bool, is_movable: Bool, order: I64, i: int, missing: float, left: F64, flow: F64) -> None:
    """Moves more valuable classes off the options of the i-th, as far as it misses room, to where it may not go."""
    c = order[i]
    for j in range(i):
        k = order[j]
        if not is_movable[k]:
            continue
        for o in range(left.shape[0]):
            if not may_use[c, o]:
                continue
            for q in range(left.shape[0]):
                if may_use[k, q] and not may_use[c, q]:
                    room = MOST_OF_LEFT * (flow[k, q] + left[q]) - flow[k, q]
                    moved = max(0.0, min(missing, flow[k, o], room))
                    flow[k, o] -= moved
                    flow[k, q] += moved
                    left[o] += moved
                    left[q] -= moved
                    missing -= moved


@inner
def _place(may_use: Bool, demand: float, left: F64, flow: F64) -> None:
    """Puts a class where the split has it, as far as there is room, and the rest where most is left; all (O,)."""
    total, placed = 0.0, 0.0
    for o in range(left.shape[0]):
        if may_use[o]:
            total += left[o]
    most = MOST_OF_LEFT if demand <= MOST_OF_LEFT * total else 1.0
    if total > 0.0 and most == 1.0 and demand < total:
        most = demand / total
    for o in range(left.shape[0]):
        flow[o] = min(flow[o], most * left[o]) if may_use[o] else 0.0
        placed += flow[o]
    spare, missing = most * total - placed, min(demand, total) - placed
    for o in range(left.shape[0]):
        if may_use[o]:
            if spare > 0.0:
                flow[o] += max(0.0, missing) * (most * left[o] - flow[o]) / spare
            left[o] = max(0.0, left[o] - flow[o])


@inner
def _limit(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    plan: PlanArrays,
    n: int,
    order: I64,
    is_short: Bool,
    may_use: Bool,
    flow: F64,
    shares: F64,
) -> None:
    """Sets the limits of the classes that are short, and lets them overflow before they are refused."""
    num_pools = cat.market.shape[0]
    wait_s = floats(cat.usable.size)
    wait_s[:] = np.inf
    for i in range(order.shape[0]):
        c = order[i]
        room, least_s = np.inf, np.inf
        for o in range(wait_s.shape[0]):
            if may_use[c, o] and shares[n, c, o // num_pools, o % num_pools] > 0.0:
                wait_s[o] = min(wait_s[o], SLACK_SHARE * _slack_s(cat, wl, plan, n, c, o))
                room, least_s = min(room, flow[c, o] * wait_s[o]), min(least_s, wait_s[o])
        if is_short[c]:
            plan.shed_limit[n, c] = min(plan.shed_limit[n, c], max(1, int(min(room + _ROUNDING, 1e9))))
            if plan.overflow_fraction[n, c] > 0.0:
                plan.overflow_after_s[n, c] = min(plan.overflow_after_s[n, c], 0.5 * least_s)


@inner
def _sum_of(values: F64) -> float:
    total = 0.0
    for value in values:
        total += value
    return total


@inner
def shed_by_value(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    limits: LimitArrays,
    ctl: ControlArrays,
    obs: ObservationArrays,
    plan: PlanArrays,
    actions: ActionArrays,
    n: int,
    shares: F64,
) -> None:
    """Limits the queues of the classes for which env n's machines have no room, least valuable first, if so declared.

    Classes take the capacity that serves in order of value, at the rate of their busiest tick of the last minute. Where
    all find room nothing changes. Else the split follows what each was given, a class that was given less than it asks
    for has its queue limited as the module says, and what stands alone, cascades, workflows of several operators and
    splits that the policy fixed, is counted but not moved. A class that waits for its first machine is held.
    """
    if not limits.sheds_by_value:
        return
    num_classes, num_variants, num_pools = wl.allowed.shape
    left = floats(num_variants * num_pools)
    for o in range(left.shape[0]):
        v, p = o // num_pools, o % num_pools
        if cat.market[p] != SERVERLESS and cat.cells[v] <= 1:
            left[o] = staying_replicas(obs, actions, n, v, p) * planned_rps(cat, plan, n, v, p)
    order, demand = integers(num_classes), floats(num_classes)
    rank_falling(wl.value_usd, order)
    _demand_of_machines(cat, wl, ctl, obs, plan, n, order, shares, demand)
    flow, load = floats((num_classes, left.shape[0])), floats(left.shape[0])
    kept = floats(num_classes)  # share of a class that goes to machines that serve
    may_use, is_movable = flags(flow.shape), flags(num_classes)
    for c in range(num_classes):
        is_alone = wl.num_operators[c] > 1 or plan.cascade_variant[n, c, 0] >= 0
        is_movable[c] = not is_alone and not plan.fixed_shares[n]
        for o in range(left.shape[0]):
            may_use[c, o] = wl.allowed[c, o // num_pools, o % num_pools] and left[o] > 0.0
            if may_use[c, o]:
                kept[c] += shares[n, c, o // num_pools, o % num_pools]
        if kept[c] <= 0.0:
            is_movable[c] = False
            demand[c] = 0.0
            _hold(cat, wl, plan, n, c, shares)
            continue
        for o in range(left.shape[0]):
            if may_use[c, o]:
                flow[c, o] = demand[c] * shares[n, c, o // num_pools, o % num_pools] / min(kept[c], 1.0)
                load[o] += flow[c, o]
    fits = True
    for o in range(left.shape[0]):
        fits = fits and load[o] <= left[o] * (1.0 + _ROUNDING)
    if fits:
        return
    is_short, has_short = flags(num_classes), False
    for i in range(num_classes):
        c = order[i]
        if demand[c] <= 0.0:
            continue
        if is_movable[c]:
            room = 0.0
            for o in range(left.shape[0]):
                if may_use[c, o]:
                    room += left[o]
            if demand[c] > room:
                _make_room(may_use, is_movable, order, i, demand[c] - room, left, flow)
            _place(may_use[c], demand[c], left, flow[c])
        else:
            for o in range(left.shape[0]):
                flow[c, o] = min(flow[c, o], left[o])
                left[o] -= flow[c, o]
        is_short[c] = _sum_of(flow[c]) < demand[c] * (1.0 - _ROUNDING)
        has_short = has_short or is_short[c]
    if not has_short:
        return
    plan.reasons[n] |= _BY_VALUE
    for c in range(num_classes):
        total = _sum_of(flow[c])
        if is_movable[c] and total > 0.0:
            for o in range(left.shape[0]):
                if may_use[c, o]:
                    shares[n, c, o // num_pools, o % num_pools] = kept[c] * flow[c, o] / total
    _limit(cat, wl, plan, n, order, is_short, may_use, flow, shares)
