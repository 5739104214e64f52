"""Steps from the fleet that exists to the plan: make before break, and swaps only while the rest covers need or plan.

Towards a class that is short and that serverless cannot answer they go on though the fleet as a whole is short too.

Replicas under a preemption notice do not count as existing, so they are replaced at once; draining ones do not count
either.
"""

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
from controller.kernels.compiled import inner, kernel
from controller.kernels.counts import swapped_away
from controller.kernels.local import floats, integers
from controller.kernels.rates import peak_rate, planned_rps
from controller.plan import Reason
from controller.rule_arrays import RATE_TICKS

SWAP_HEADROOM = 1.1
"""A swap leaves ready capacity for this multiple of the largest arrival rate of the last minute."""

_UNAVAILABLE = int(Reason.POOL_UNAVAILABLE)
_PREEMPTION = int(Reason.COVER_PREEMPTION)


@inner
def _spare_capacity(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
    spare: F64,
) -> None:
    """Ready machine capacity beyond the need, requests/s: per class over what it may use, last over all.

    All together need no more than is planned: a fleet that is planned short would never be turned.
    """
    num_classes, num_variants, num_pools = wl.allowed.shape
    spare[num_classes] = 0.0
    planned = 0.0
    for v in range(num_variants):
        for p in range(num_pools):
            if cat.market[p] != SERVERLESS:
                planned += plan.replicas[n, v, p] * planned_rps(cat, plan, n, v, p)
    for c in range(num_classes):
        need = SWAP_HEADROOM * peak_rate(ctl, obs, n, c, RATE_TICKS)
        spare[c] = -need
        spare[num_classes] -= need
    spare[num_classes] = max(float(spare[num_classes]), -planned)
    for v in range(num_variants):
        for p in range(num_pools):
            if cat.market[p] == SERVERLESS or obs.ready[n, v, p] <= 0:
                continue
            capacity = obs.ready[n, v, p] * planned_rps(cat, plan, n, v, p)
            spare[num_classes] += capacity
            for c in range(num_classes):
                if wl.allowed[c, v, p]:
                    spare[c] += capacity


@inner
def _is_relieved(wl: WorkloadArrays, c: int, v: int, target: int, p: int, spare: F64) -> bool:
    """Whether a class that is short, and that serverless cannot answer, gains by a swap and loses nothing by it."""
    is_short = wl.spare_rps[c] > 0.0 and spare[c] < wl.spare_rps[c]
    return is_short and wl.allowed[c, target, p] and not wl.allowed[c, v, p]


@inner
def _may_lose(wl: WorkloadArrays, v: int, target: int, p: int, spare: F64) -> float:
    """Capacity that option (v, p) may lose to `target` without any class that uses it falling below its need.

    Nor may all together, but where the swap relieves a class: refused, it would go without for as long as demand lasts.
    """
    num_classes = wl.allowed.shape[0]
    relieves, least = False, np.inf
    for c in range(num_classes):
        if wl.allowed[c, v, p]:
            least = min(least, float(spare[c]))
        elif _is_relieved(wl, c, v, target, p, spare):
            relieves = True
    return least if relieves else min(least, float(spare[num_classes]))


@inner
def _swap_in_pool(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    plan: PlanArrays,
    n: int,
    p: int,
    surplus: I64,
    deficit: I64,
    spare: F64,
    actions: ActionArrays,
) -> bool:
    """Turns ready surplus into deficit of the same pool while the need stays covered; returns whether any is turned."""
    num_classes, num_variants, _ = wl.allowed.shape
    is_any = False
    for source in range(num_variants):
        rps = planned_rps(cat, plan, n, source, p)
        for target in range(num_variants):
            count = min(surplus[source, p], deficit[target, p])
            if count <= 0:
                continue
            if rps > 0.0:
                may_lose = _may_lose(wl, source, target, p, spare) / rps
                count = min(count, int(min(float(count), max(0.0, np.floor(may_lose)))))
            if count <= 0:
                continue
            actions.swap[n, p, source, target] = count
            is_any = True
            surplus[source, p] -= count
            deficit[target, p] -= count
            spare[num_classes] -= count * rps
            for c in range(num_classes):
                if wl.allowed[c, source, p]:
                    spare[c] -= count * rps
    return is_any


@inner
def reconcile_one(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
    actions: ActionArrays,
) -> None:
    """Writes the actions of env n; a satisfied plan gives none.

    Replicas that start as one variant while another lacks some in the same pool are kept, and swapped once they are
    ready. Ready replicas are drained only as far as what remains ready still holds the planned capacity, unless nothing
    is on its way.
    """
    num_classes, num_variants, num_pools = wl.allowed.shape
    surplus = integers((num_variants, num_pools))
    early = integers((num_variants, num_pools))
    deficit = integers((num_variants, num_pools))
    doomed = 0
    on_its_way = False
    has_swaps = False
    for p in range(num_pools):
        for v in range(num_variants):
            actions.launch[n, v, p] = 0
            actions.drain[n, v, p] = 0
            actions.stop[n, v, p] = 0
            for target in range(num_variants):
                actions.swap[n, p, v, target] = 0
            doomed += obs.doomed[n, v, p]
            over = obs.ready[n, v, p] + obs.starting[n, v, p] - plan.replicas[n, v, p]
            if over > 0:
                early[v, p] = min(over, obs.starting[n, v, p])
                surplus[v, p] = over - early[v, p]
                has_swaps = True
            elif over < 0:
                deficit[v, p] = -over
    if has_swaps:
        spare = floats(num_classes + 1)
        _spare_capacity(cat, wl, ctl, obs, plan, n, spare)
        for p in range(num_pools):
            if cat.market[p] != SERVERLESS and _swap_in_pool(cat, wl, plan, n, p, surplus, deficit, spare, actions):
                on_its_way = True
    for p in range(num_pools):
        if cat.market[p] == SERVERLESS:
            continue
        for source in range(num_variants):
            for target in range(num_variants):
                kept = min(early[source, p], deficit[target, p])
                if kept > 0:
                    early[source, p] -= kept
                    deficit[target, p] -= kept
                    on_its_way = True
    for p in range(num_pools):
        room = cat.quota[p]
        for v in range(num_variants):
            room -= obs.ready[n, v, p] + obs.starting[n, v, p] + obs.doomed[n, v, p] + obs.draining[n, v, p]
            room += early[v, p]
        for v in range(num_variants):
            actions.stop[n, v, p] = early[v, p]
            if deficit[v, p] <= 0:
                on_its_way = on_its_way or (obs.starting[n, v, p] > early[v, p])
                continue
            on_its_way = True
            if not obs.available[n, p]:
                plan.reasons[n] |= _UNAVAILABLE
                continue
            launched = max(0, min(deficit[v, p], room))
            actions.launch[n, v, p] = launched
            room -= launched
            if launched > 0 and doomed > 0:
                plan.reasons[n] |= _PREEMPTION
    _drain(cat, obs, plan, n, surplus, on_its_way, actions)


@inner
def _drain(
    cat: CatalogArrays,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
    surplus: I64,
    on_its_way: bool,
    actions: ActionArrays,
) -> None:
    """Drains ready surplus; while replacements are on their way only what exceeds the planned capacity.

    Of each accuracy and above: what a weak variant has too much stands in for no better one that is still to come.
    """
    num_variants, num_pools = surplus.shape
    spare = floats(num_variants)
    for v in range(num_variants):
        for p in range(num_pools):
            if cat.market[p] == SERVERLESS:
                continue
            leaving = swapped_away(actions, n, v, p)
            over = (obs.ready[n, v, p] - leaving - plan.replicas[n, v, p]) * planned_rps(cat, plan, n, v, p)
            for level in range(num_variants):
                if cat.accuracy[v] >= cat.accuracy[level]:
                    spare[level] += over
    for p in range(num_pools):
        for v in range(num_variants):
            count = surplus[v, p]
            if count <= 0:
                continue
            if cat.market[p] != SERVERLESS and on_its_way:
                rps = planned_rps(cat, plan, n, v, p)
                if rps > 0.0:
                    least = np.inf
                    for level in range(num_variants):
                        if cat.accuracy[v] >= cat.accuracy[level]:
                            least = min(least, spare[level])
                    count = min(count, int(max(0.0, np.floor(least / rps + 1e-9))))
                for level in range(num_variants):
                    if cat.accuracy[v] >= cat.accuracy[level]:
                        spare[level] -= count * rps
            actions.drain[n, v, p] = count


@kernel
def reconcile(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    obs: ObservationArrays,
    plan: PlanArrays,
    actions: ActionArrays,
    lo: int,
    hi: int,
) -> None:
    """`reconcile_one` for envs lo..hi-1."""
    for n in range(lo, hi):
        reconcile_one(cat, wl, ctl, obs, plan, n, actions)
