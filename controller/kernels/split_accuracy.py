"""Who gets which of the options that serve: accuracy for classes that are owed it, load in proportion to capacity."""

from __future__ import annotations

import numpy as np

from controller.arrays import F64, I64, Bool, CatalogArrays, WorkloadArrays
from controller.kernels.compiled import inner

MOST_UTILISATION = 1.0
"""Up to this share of its capacity an option may be loaded above the common utilisation to repay accuracy.

All of it: a class that is owed accuracy mostly has time to wait, and a request answered by a variant below its floor
has to be made up for by many above it.
"""


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
    room = np.empty(num_options)
    own_room = np.zeros(num_classes)  # of all options that the class may use, loaded as far as they may be
    for i in range(num_options):
        v, p = order[i] // num_pools, order[i] % num_pools
        room[i] = serving[v, p] / total_capacity
        for c in range(num_classes):
            if wl.allowed[c, v, p]:
                own_room[c] += room[i] * slack
    done = np.zeros(num_classes, np.bool_)
    for _ in range(num_classes):
        c = -1
        for other in range(num_classes):
            if pending[other] and not done[other] and (c < 0 or owed[other] > owed[c]):
                c = other
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
def load_accurate(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    n: int,
    serving: F64,
    weights: F64,
    demand_rps: float,
    owed: F64,
    pending: Bool,
    order: I64,
    num_options: int,
    shares: F64,
) -> None:
    """Moves a class that is short of accuracy from its least accurate options to more accurate ones that have room."""
    num_classes, _, num_pools = wl.allowed.shape
    load = np.zeros(num_options)
    for i in range(num_options):
        v, p = order[i] // num_pools, order[i] % num_pools
        for c in range(num_classes):
            load[i] += shares[n, c, v, p] * weights[c] * demand_rps
    for c in range(num_classes):
        if not pending[c]:
            continue
        short = owed[c]
        for i in range(num_options):
            v, p = order[i] // num_pools, order[i] % num_pools
            short -= shares[n, c, v, p] * cat.accuracy[v]
        class_rps = max(weights[c] * demand_rps, 1e-9)
        low, high = num_options - 1, 0
        while short > 1e-9 and high < low:
            from_v, from_p = order[low] // num_pools, order[low] % num_pools
            to_v, to_p = order[high] // num_pools, order[high] % num_pools
            gain = cat.accuracy[to_v] - cat.accuracy[from_v]
            room = MOST_UTILISATION * serving[to_v, to_p] - load[high]
            if gain <= 0.0:
                break
            if not wl.allowed[c, to_v, to_p] or room <= 1e-9:
                high += 1
            elif shares[n, c, from_v, from_p] <= 1e-12:
                low -= 1
            else:
                moved = min(shares[n, c, from_v, from_p], room / class_rps, short / gain)
                shares[n, c, from_v, from_p] -= moved
                shares[n, c, to_v, to_p] += moved
                load[low] -= moved * class_rps
                load[high] += moved * class_rps
                short -= moved * gain
                if moved <= 1e-12:
                    high += 1
