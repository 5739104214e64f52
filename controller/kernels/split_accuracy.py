"""Who gets which of the options that serve: accuracy for classes that are owed it, load in proportion to capacity."""

from __future__ import annotations

import numpy as np

from controller.arrays import (
    F64,
    I64,
    Bool,
    CatalogArrays,
    ControlArrays,
    ObservationArrays,
    PlanArrays,
    WorkloadArrays,
)
from controller.kernels.compiled import inner
from controller.kernels.local import flags, floats
from controller.kernels.rates import planned_rps

MOST_UTILISATION = 1.0
"""Up to this share of its capacity an option may be loaded above the common utilisation to repay accuracy.

All of it: a class that is owed accuracy mostly has time to wait, and a request answered by a variant below its floor
has to be made up for by many above it.
"""

PATIENCE = 0.9
"""Share of the time that a class's requests may wait up to which an option's queue is filled with them.

A class with time to wait queues where it is answered well, rather than go at once to what answers it badly: what one
request lacks of its floor has to be made up for by several on dear machines. The share counts in full for a time of
many ticks only: what a queue does within a tick nobody steers.
"""

FILL_TICKS = 3.0
"""Ticks in which a queue is filled or worked off to that: a few, so that it neither swings nor stays unused."""


@inner
def find_waits(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
    serving: F64,
    order: I64,
    num_options: int,
    wait_s: F64,
    usd: F64,
    left_s: F64,
) -> None:
    """Writes what the options that serve ask of a request.

    Args:
        cat: Catalog.
        wl: Workload.
        obs: Observation.
        plan: Plan.
        n: Env.
        serving: (V, P) requests/s of what serves.
        order: (O,) options, v * P + p.
        num_options: How many of them.
        wait_s: (O,) time that the requests queued now take, written.
        usd: (O,) $ per request at full use, written.
        left_s: (C, O) longest wait there with which a class is answered in time, written.
    """
    num_pools = serving.shape[1]
    for i in range(num_options):
        v, p = order[i] // num_pools, order[i] % num_pools
        wait_s[i] = max(0, obs.queue[n, v, p]) / serving[v, p]
        usd[i] = cat.price_usd_per_s[p] / planned_rps(cat, plan, n, v, p)
        batch = max(1, min(plan.batch_size[n, v, p], cat.batch_max[v, p]))
        for c in range(wl.slo_s.shape[0]):
            left_s[c, i] = max(0.0, wl.slo_s[c] - wl.network_s[c, v, p] - cat.service_s[v, p, batch])


@inner
def borne_wait(plan: PlanArrays, n: int, c: int, left_s: float, tick_s: float) -> float:
    """Wait up to which a class fills a queue, s: `PATIENCE` of what overflow and its SLO leave."""
    if plan.overflow_fraction[n, c] > 0.0:
        left_s = min(left_s, plan.overflow_after_s[n, c])
    return PATIENCE * left_s * left_s / (left_s + tick_s)


@inner
def leave_queues(
    wl: WorkloadArrays,
    n: int,
    serving: F64,
    pending: Bool,
    order: I64,
    num_options: int,
    wait_s: F64,
    left_s: F64,
    shares: F64,
) -> None:
    """Moves classes off options whose queue they would not get through in time, to the others by capacity."""
    num_classes, _, num_pools = wl.allowed.shape
    for c in range(num_classes):
        if not pending[c]:
            continue
        late, capacity = 0.0, 0.0
        for i in range(num_options):
            v, p = order[i] // num_pools, order[i] % num_pools
            if wait_s[i] > left_s[c, i]:
                late += shares[n, c, v, p]
            elif wl.allowed[c, v, p]:
                capacity += serving[v, p]
        if late <= 0.0 or capacity <= 0.0:
            continue
        for i in range(num_options):
            v, p = order[i] // num_pools, order[i] % num_pools
            if wait_s[i] > left_s[c, i]:
                shares[n, c, v, p] = 0.0
            elif wl.allowed[c, v, p]:
                shares[n, c, v, p] += late * serving[v, p] / capacity


@inner
def most_owed(pending: Bool, done: Bool, owed: F64) -> int:
    """The class to come that is owed the highest accuracy; -1 for none."""
    c = -1
    for other in range(owed.shape[0]):
        if pending[other] and not done[other] and (c < 0 or owed[other] > owed[c]):
            c = other
    return c


@inner
def own_capacity(wl: WorkloadArrays, serving: F64, c: int) -> float:
    """Requests/s of all options that serve and that a class may use."""
    capacity = 0.0
    for v in range(serving.shape[0]):
        for p in range(serving.shape[1]):
            if wl.allowed[c, v, p]:
                capacity += serving[v, p]
    return capacity


@inner
def fill_from_the_top(
    wl: WorkloadArrays,
    n: int,
    serving: F64,
    total_capacity: float,
    slack: float,
    weights: F64,
    pooled_weight: float,
    owed: F64,
    pending: Bool,
    order: I64,
    num_options: int,
    shares: F64,
) -> None:
    """Classes by owed accuracy, highest first, take load from the most accurate option down.

    Each option has room for load in proportion to its capacity; `slack` >= 1 is how many times as much it could bear.
    """
    num_classes, _, num_pools = wl.allowed.shape
    room = floats(num_options)
    own_room = floats(num_classes)  # of all options that the class may use, loaded as far as they may be
    for i in range(num_options):
        v, p = order[i] // num_pools, order[i] % num_pools
        room[i] = serving[v, p] / total_capacity
        for c in range(num_classes):
            if wl.allowed[c, v, p]:
                own_room[c] += room[i] * slack
    done = flags(num_classes)
    for _ in range(num_classes):
        c = most_owed(pending, done, owed)
        if c < 0:
            return
        done[c] = True
        weight = weights[c] / pooled_weight
        left = weight
        for i in range(num_options):
            v, p = order[i] // num_pools, order[i] % num_pools
            if left <= 0.0:
                break
            if not wl.allowed[c, v, p]:
                continue
            kept = 0.0  # for classes still to come that have nowhere else to go
            for other in range(num_classes):
                if pending[other] and not done[other] and wl.allowed[other, v, p]:
                    kept += max(0.0, weights[other] / pooled_weight - (own_room[other] - room[i] * slack))
            taken = max(0.0, min(left, room[i] - kept))
            room[i] -= taken
            left -= taken
            for other in range(num_classes):
                if wl.allowed[other, v, p]:
                    own_room[other] -= taken
            shares[n, c, v, p] = taken / weight
        if left > 0.0:
            capacity = own_capacity(wl, serving, c)
            for i in range(num_options):
                v, p = order[i] // num_pools, order[i] % num_pools
                if wl.allowed[c, v, p]:
                    shares[n, c, v, p] += left / weight * serving[v, p] / capacity


@inner
def even_out(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    n: int,
    serving: F64,
    owed: F64,
    pending: Bool,
    order: I64,
    num_options: int,
    shares: F64,
) -> None:
    """Moves all classes towards an even mixture, as far as the short ones need it and the others can spare."""
    num_classes, _, num_pools = wl.allowed.shape
    wanted, spare = 0.0, 1.0
    for c in range(num_classes):
        if not pending[c]:
            continue
        mean, even, capacity = 0.0, 0.0, 0.0
        for i in range(num_options):
            v, p = order[i] // num_pools, order[i] % num_pools
            mean += shares[n, c, v, p] * cat.accuracy[v]
            if wl.allowed[c, v, p]:
                even += serving[v, p] * cat.accuracy[v]
                capacity += serving[v, p]
        even /= capacity
        if mean < owed[c]:
            wanted = max(wanted, 1.0 if even <= owed[c] else (owed[c] - mean) / (even - mean))
        if mean > even:
            spare = min(spare, (mean - owed[c]) / (mean - even))
    part = max(0.0, min(wanted, spare))
    if part <= 0.0:
        return
    for c in range(num_classes):
        if not pending[c]:
            continue
        capacity = own_capacity(wl, serving, c)
        for i in range(num_options):
            v, p = order[i] // num_pools, order[i] % num_pools
            even_share = serving[v, p] / capacity if wl.allowed[c, v, p] else 0.0
            shares[n, c, v, p] = (1.0 - part) * shares[n, c, v, p] + part * even_share


@inner
def shares_accuracy(accuracy: F64, allowed: Bool, floor: F64, hurried: int, patient: int) -> bool:
    """Whether a class has no variant that keeps its floor but those that keep a patient class's floor as well."""
    num_variants, num_pools = allowed.shape[1:]
    for v in range(num_variants):
        if floor[hurried] <= accuracy[v] < floor[patient]:
            for p in range(num_pools):
                if allowed[hurried, v, p]:
                    return False
    return True


@inner
def load_accurate(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    plan: PlanArrays,
    n: int,
    serving: F64,
    weights: F64,
    demand_rps: float,
    owed: F64,
    pending: Bool,
    order: I64,
    num_options: int,
    wait_s: F64,
    usd: F64,
    left_s: F64,
    shares: F64,
) -> None:
    """Moves classes that are short of accuracy, the one owed most first, onto more accurate options that have room.

    From a class's least accurate option a request goes where more accuracy costs least: what answers it far above its
    floor is mostly needed by another class. There is room for what an option serves, and for what fills its queue
    within `FILL_TICKS` as far as the class bears to wait, and those that cannot leave the queue for serverless, and a
    class in a hurry whose floor nothing else keeps: behind a long queue it would be answered badly all day.
    """
    num_classes, _, num_pools = wl.allowed.shape
    fill_s = FILL_TICKS * ctl.tick_s
    load = floats(num_options)
    for i in range(num_options):
        v, p = order[i] // num_pools, order[i] % num_pools
        for c in range(num_classes):
            load[i] += shares[n, c, v, p] * weights[c] * demand_rps
    done = flags(num_classes)
    for _ in range(num_classes):
        c = most_owed(pending, done, owed)
        if c < 0:
            return
        done[c] = True
        short = owed[c]
        for i in range(num_options):
            v, p = order[i] // num_pools, order[i] % num_pools
            short -= shares[n, c, v, p] * cat.accuracy[v]
        class_rps = max(weights[c] * demand_rps, 1e-9)
        low = num_options - 1
        while short > 1e-9 and low > 0:
            from_v, from_p = order[low] // num_pools, order[low] % num_pools
            best, least_usd, room = -1, np.inf, 0.0
            for i in range(low):
                v, p = order[i] // num_pools, order[i] % num_pools
                gain = cat.accuracy[v] - cat.accuracy[from_v]
                if gain <= 0.0 or not wl.allowed[c, v, p]:
                    continue
                more_s = borne_wait(plan, n, c, left_s[c, i], ctl.tick_s)
                for other in range(num_classes):
                    is_hurried = left_s[other, i] < ctl.tick_s <= left_s[c, i] and pending[other]
                    is_left_room = wl.spare_rps[other] > 0.0 or (
                        is_hurried
                        and cat.accuracy[v] >= wl.accuracy_floor[other]
                        and shares_accuracy(cat.accuracy, wl.allowed, wl.accuracy_floor, other, c)
                    )
                    if is_left_room and wl.allowed[other, v, p]:
                        more_s = min(more_s, borne_wait(plan, n, other, left_s[other, i], ctl.tick_s))
                more_s -= wait_s[i]
                free = (MOST_UTILISATION + max(-1.0, more_s / fill_s)) * serving[v, p] - load[i]
                price = (usd[i] - usd[low]) / gain
                if free > 1e-9 and price < least_usd:
                    best, least_usd, room = i, price, free
            moved = 0.0
            if best >= 0:
                to_v, to_p = order[best] // num_pools, order[best] % num_pools
                gain = cat.accuracy[to_v] - cat.accuracy[from_v]
                moved = min(shares[n, c, from_v, from_p], room / class_rps, short / gain)
                shares[n, c, from_v, from_p] -= moved
                shares[n, c, to_v, to_p] += moved
                load[low] -= moved * class_rps
                load[best] += moved * class_rps
                short -= moved * gain
            if best < 0 or shares[n, c, from_v, from_p] <= 1e-12 or moved <= 1e-12:
                low -= 1
