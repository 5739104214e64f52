"""Splits each class's traffic over the options that serve: equal utilisation first, accuracy where it is owed."""

from __future__ import annotations

import numpy as np

from controller.arrays import (
    F64,
    I64,
    SERVERLESS,
    ActionArrays,
    CatalogArrays,
    ControlArrays,
    ObservationArrays,
    PlanArrays,
    WorkloadArrays,
)
from controller.batching import PATIENT_S
from controller.kernels.collage import collage_split
from controller.kernels.compiled import inner, kernel
from controller.kernels.counts import staying_replicas
from controller.kernels.local import flags, floats, integers
from controller.kernels.provision import ACCURACY_EPS, rank_falling, weakest_from
from controller.kernels.rates import CREDIT_MARGIN, CREDIT_PART, SPLIT_MARGIN, class_weights, history_sum, planned_rps
from controller.kernels.split_accuracy import (
    MOST_UTILISATION,
    even_out,
    fill_from_the_top,
    find_waits,
    leave_queues,
    load_accurate,
    own_capacity,
)
from controller.kernels.workflow import workflow_split
from controller.rule_arrays import RATE_TICKS

REPAY_TICKS = 360
"""A class's accuracy debt is repaid over this many ticks (one hour at the default tick), or over what is left of the
day, by the way its traffic is split.
"""

MOST_SPARE = 0.6
"""Share of what serves that is kept spare for classes that cannot overflow, at most."""

LEAST_LEFT_S = 60.0
"""A debt near the end of the day is spread over at least this long."""


@inner
def _owed_accuracy(
    cat: CatalogArrays, wl: WorkloadArrays, obs: ObservationArrays, n: int, c: int, answers: float
) -> float:
    """Mean accuracy that the next `answers` answers of a class need so that its day's mean is just above the floor."""
    is_highest = True
    for other in range(wl.accuracy_floor.shape[0]):
        is_highest = is_highest and wl.accuracy_floor[other] <= wl.accuracy_floor[c]
    margin = SPLIT_MARGIN
    if is_highest:
        credit = CREDIT_MARGIN * wl.slo_s[c] / (wl.slo_s[c] + PATIENT_S)
        floor = wl.accuracy_floor[c]
        above = weakest_from(wl.allowed, cat.market, cat.accuracy, c, floor + ACCURACY_EPS, 1.0) - floor
        margin = max(margin, min(credit, CREDIT_PART * above))
    floor = wl.accuracy_floor[c] + margin
    debt = floor * obs.day_answered[n, c] - obs.day_accuracy_sum[n, c]
    if not (debt > -1e18 and debt < 1e18):
        return floor
    return min(1.0, max(0.0, floor + debt / max(answers, 1.0)))


@inner
def _waiting_option(
    cat: CatalogArrays, wl: WorkloadArrays, obs: ObservationArrays, plan: PlanArrays, n: int, c: int, only: int
) -> int:
    """Where requests of a class go while no option of it serves: v * P + p, of the variant `only` unless it is -1.

    The cheapest serverless option, which wakes from zero; without one, the option with most starting, else most planned
    replicas.
    """
    num_variants, num_pools = cat.usable.shape
    best, best_cost = -1, np.inf
    for v in range(num_variants):
        for p in range(num_pools):
            if not wl.allowed[c, v, p] or cat.market[p] != SERVERLESS or (only >= 0 and v != only):
                continue
            cost = cat.usd_per_request[p] + cat.usd_per_gb_s[p] * cat.memory_gb[p] * cat.service_s[v, p, 1]
            if best < 0 or cost < best_cost:
                best, best_cost = v * num_pools + p, cost
    if best >= 0:
        return best
    most_starting, most_planned = -1, -1
    for v in range(num_variants):
        for p in range(num_pools):
            if not wl.allowed[c, v, p] or (only >= 0 and v != only):
                continue
            starting, planned = obs.starting[n, v, p], plan.replicas[n, v, p]
            if starting > most_starting or (starting == most_starting and planned > most_planned):
                best, most_starting, most_planned = v * num_pools + p, starting, planned
    return best


@inner
def _fixed_split(wl: WorkloadArrays, plan: PlanArrays, n: int, c: int, serving: F64, shares: F64) -> bool:
    """The plan's own shares, renormalised over what serves; False where nothing of them does."""
    num_variants, num_pools = serving.shape
    total = 0.0
    for v in range(num_variants):
        for p in range(num_pools):
            share = plan.shares[n, c, v, p]
            if wl.allowed[c, v, p] and serving[v, p] > 0.0 and share > 0.0 and share < np.inf:
                shares[n, c, v, p] = share
                total += share
    if not (total > 0.0 and total < np.inf):
        total = np.inf
    for v in range(num_variants):
        for p in range(num_pools):
            if wl.allowed[c, v, p]:
                shares[n, c, v, p] /= total
    return total < np.inf


@inner
def _cascade_split(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
    c: int,
    serving: F64,
    shares: F64,
) -> bool:
    """Shares of a class with a cascade; False where none of its variants has an option.

    A request goes to the variant of its step, whose shares alone count there: in proportion to capacity. So each
    variant that serves gets the same in all. One that does not is skipped, unless no later one serves either: then its
    requests wait where they would if the class had no other variant. So do those of every step where none serves: an
    answer that is not sure enough can still be handed on. Other classes do not make room for cascades.
    """
    _, num_variants, num_pools = wl.allowed.shape
    steps = plan.cascade_variant[n, c]
    last, num_shared = -1, 0
    for step in range(steps.shape[0]):
        for p in range(num_pools):
            if steps[step] >= 0 and wl.allowed[c, steps[step], p] and serving[steps[step], p] > 0.0:
                last = step
    for step in range(steps.shape[0]):
        v = steps[step]
        if v < 0:
            continue
        capacity = 0.0
        for p in range(num_pools):
            if wl.allowed[c, v, p]:
                capacity += serving[v, p]
        for p in range(num_pools):
            if wl.allowed[c, v, p] and capacity > 0.0:
                shares[n, c, v, p] = serving[v, p] / capacity
        if capacity <= 0.0 and step > last:
            option = _waiting_option(cat, wl, obs, plan, n, c, v)
            if option < 0:
                continue
            shares[n, c, v, option % num_pools] = 1.0
        num_shared += capacity > 0.0 or step > last
    if num_shared == 0:
        return False
    for v in range(num_variants):
        for p in range(num_pools):
            shares[n, c, v, p] /= num_shared
    return True


@inner
def _sort_options(cat: CatalogArrays, serving: F64, order: I64) -> int:
    """Writes serving options (v * P + p) by falling accuracy, catalog order within a variant; returns how many."""
    num_variants, num_pools = serving.shape
    ranked = integers(num_variants)
    rank_falling(cat.accuracy, ranked)
    count = 0
    for i in range(num_variants):
        v = ranked[i]
        for p in range(num_pools):
            if serving[v, p] > 0.0:
                order[count] = v * num_pools + p
                count += 1
    return count


@inner
def _keep_spare(wl: WorkloadArrays, serving: F64) -> None:
    """Takes from what serves what a class that cannot overflow needs spare there, up to `MOST_SPARE`.

    An option has one queue, and who can wait would fill it to where who cannot is late.
    """
    num_classes, num_variants, num_pools = wl.allowed.shape
    kept = floats(serving.shape)
    for c in range(num_classes):
        capacity = own_capacity(wl, serving, c) if wl.spare_rps[c] > 0.0 else 0.0
        if capacity <= 0.0:
            continue
        for v in range(num_variants):
            for p in range(num_pools):
                if wl.allowed[c, v, p]:
                    kept[v, p] = max(kept[v, p], wl.spare_rps[c] / capacity)
    for v in range(num_variants):
        for p in range(num_pools):
            if kept[v, p] > 0.0:
                serving[v, p] *= 1.0 - min(kept[v, p], MOST_SPARE)


@inner
def split_one(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    obs: ObservationArrays,
    plan: PlanArrays,
    actions: ActionArrays,
    n: int,
    shares: F64,
) -> None:
    """Writes `shares[n]`, (C, V, P): where each arriving request of a class goes. Every class sums to 1.

    Every serving option gets load in proportion to its capacity. Classes take that load in order of the accuracy they
    are owed, highest first, from the most accurate option down; as far as this leaves a class below what it is owed
    while another is above, both move towards an even mixture. A class that is still short moves onto more accurate
    options that have room, or whose queue is shorter than it bears to wait in. A class with a cascade has shares of its
    variants instead; the shares of a class's collages stand beside those of its requests and sum to 1 for themselves.
    """
    num_classes, num_variants, num_pools = wl.allowed.shape
    serving = floats((num_variants, num_pools))
    for v in range(num_variants):
        for p in range(num_pools):
            replicas = staying_replicas(obs, actions, n, v, p)
            if replicas <= 0 or cat.cells[v] > 1 or (cat.market[p] == SERVERLESS and plan.replicas[n, v, p] <= 0):
                continue
            serving[v, p] = replicas * planned_rps(cat, plan, n, v, p)
    _keep_spare(wl, serving)
    total_capacity = 0.0
    for v in range(num_variants):
        for p in range(num_pools):
            total_capacity += serving[v, p]
    weights = floats(num_classes)
    class_weights(wl, obs, n, weights)
    demand_rps = 0.0
    for c in range(num_classes):
        demand_rps += history_sum(obs, n, c, RATE_TICKS)
    demand_rps /= RATE_TICKS * ctl.tick_s
    left_s = ctl.day_s - obs.time_s[n] % ctl.day_s
    repay_s = min(REPAY_TICKS * ctl.tick_s, max(left_s, LEAST_LEFT_S))
    owed = floats(num_classes)
    pending = flags(num_classes)
    pooled_weight = 0.0
    for c in range(num_classes):
        owed[c] = _owed_accuracy(cat, wl, obs, n, c, weights[c] * demand_rps * repay_s)
        capacity = own_capacity(wl, serving, c)
        for v in range(num_variants):
            for p in range(num_pools):
                shares[n, c, v, p] = 0.0
        if wl.num_operators[c] > 1:
            workflow_split(wl, obs, plan, n, c, serving, shares)
            continue
        collage_split(cat, wl, obs, plan, actions, n, c, shares)
        if plan.fixed_shares[n] and _fixed_split(wl, plan, n, c, serving, shares):
            continue
        if plan.cascade_variant[n, c, 0] >= 0 and _cascade_split(cat, wl, obs, plan, n, c, serving, shares):
            continue
        if capacity <= 0.0:
            option = _waiting_option(cat, wl, obs, plan, n, c, -1)
            if option >= 0:
                shares[n, c, option // num_pools, option % num_pools] = 1.0
            continue
        pending[c] = True
        pooled_weight += weights[c]
    if pooled_weight <= 0.0:
        return
    order = integers(num_variants * num_pools)
    num_options = _sort_options(cat, serving, order)
    # How many times its even load an option could bear.
    slack = max(1.0, MOST_UTILISATION * total_capacity / max(demand_rps, 1e-9))
    fill_from_the_top(
        wl, n, serving, total_capacity, slack, weights, pooled_weight, owed, pending, order, num_options, shares
    )
    if num_classes > 1:
        even_out(cat, wl, n, serving, owed, pending, order, num_options, shares)
    wait_s, usd, left_s = floats(num_options), floats(num_options), floats((num_classes, num_options))
    find_waits(cat, wl, obs, plan, n, serving, order, num_options, wait_s, usd, left_s)
    load_accurate(
        cat, wl, ctl, plan, n, serving, weights, demand_rps, owed, pending, order, num_options,
        wait_s, usd, left_s, shares,
    )  # fmt: skip
    leave_queues(wl, n, serving, pending, order, num_options, wait_s, left_s, shares)


@kernel
def split(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    obs: ObservationArrays,
    plan: PlanArrays,
    actions: ActionArrays,
    shares: F64,
    lo: int,
    hi: int,
) -> None:
    """`split_one` for envs lo..hi-1."""
    for n in range(lo, hi):
        split_one(cat, wl, ctl, obs, plan, actions, n, shares)
