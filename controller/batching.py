"""Batch sizes of a rule, what a replica does with them, and who shares it; worked out once for a scenario."""

from __future__ import annotations

import numpy as np

from controller.arrays import F64, I64, ON_DEMAND, SERVERLESS, Bool, CatalogArrays, WorkloadArrays
from controller.bill import serverless_usd

USUAL_BATCH_SLACK = 0.5
"""Share of an SLO that batches take where no rule's settings say it."""

LARGEST_LACK = 0.5
"""Overflow may be less accurate than the floor by this share of what the best variant on machines is above it."""


def largest_batches(cat: CatalogArrays, wl: WorkloadArrays, batch_slack: float) -> I64:
    """Largest batch of each option that suits every class that may use it.

    A batch suits a class if two in a row (the one in service on arrival, then its own) take at most `batch_slack` of
    the SLO, network time taken off. Batches leave as soon as a credit is free, so a large limit costs nothing while
    load is low.

    Args:
        cat: Catalog.
        wl: Workload.
        batch_slack: Share of the SLO, in (0, 1].

    Returns:
        (V, P), at least 1.
    """
    budget_s = np.where(wl.allowed, batch_slack * (wl.slo_s[:, None, None] - wl.network_s), np.inf).min(axis=0)
    sizes = np.arange(cat.service_s.shape[2])
    fits = (2 * cat.service_s <= budget_s[:, :, None]) & (sizes >= 1) & (sizes <= cat.batch_max[:, :, None])
    return np.asarray(np.maximum(np.where(fits, sizes, 1).max(axis=2), 1), np.int64)


def capacity_rps(cat: CatalogArrays, batch_size: I64) -> F64:
    """Requests/s of one replica always busy with batches of the given size, (V, P); 0 where unusable."""
    size = np.minimum(batch_size, np.maximum(cat.batch_max, 1))
    seconds = np.take_along_axis(cat.service_s, size[:, :, None], axis=2)[:, :, 0]
    rps = np.zeros(cat.usable.shape)
    usable = cat.usable & np.isfinite(seconds) & (seconds > 0)
    rps[usable] = (cat.concurrency * batch_size)[usable] / seconds[usable]
    return rps


def machine_usd(cat: CatalogArrays, rps: F64) -> F64:
    """Rent per request of a machine that is always busy, $, (V, P); infinite where unusable and for serverless."""
    usd = np.full(rps.shape, np.inf)
    machines = (rps > 0) & (cat.market != SERVERLESS)
    usd[machines] = np.broadcast_to(cat.price_usd_per_s, rps.shape)[machines] / rps[machines]
    return usd


PATIENT_S = 10.0
"""SLO of a class whose part of a setting lies half-way, by its logarithm, between one in a hurry and one with time."""


def by_patience(wl: WorkloadArrays, patient: float) -> F64:
    """What a setting is multiplied by for each class, (C,): 1 in a hurry, `patient` with all the time to wait."""
    return np.asarray(patient ** (wl.slo_s / (wl.slo_s + PATIENT_S)), np.float64)


def near_floor(cat: CatalogArrays, wl: WorkloadArrays) -> Bool:
    """Which variants a class is likely to be served by, (C, V): those on machines next to its floor, on either side.

    Classes whose floors lie between the same variants share machines; others hardly do.
    """
    on_machines = (wl.allowed & (cat.market != SERVERLESS)).any(axis=2)
    floors = wl.accuracy_floor[:, None]
    below = np.where(on_machines & (cat.accuracy <= floors), cat.accuracy, -np.inf)
    above = np.where(on_machines & (cat.accuracy >= floors), cat.accuracy, np.inf)
    is_next = (below == below.max(axis=1, keepdims=True)) | (above == above.min(axis=1, keepdims=True))
    return np.asarray(on_machines & is_next, np.bool_)


def accuracy_usd(cat: CatalogArrays, wl: WorkloadArrays, usd: F64) -> F64:
    """What a unit of mean accuracy costs a class at its floor, $ per request, (C,), at usual prices.

    Usually some spot pools are open: a variant is priced half-way (in logarithms) between its cheapest machine of all
    and its cheapest one on demand. 0 where accuracy costs nothing there, or a class has no machines.

    Args:
        cat: Catalog.
        wl: Workload.
        usd: (V, P) as `machine_usd` gives it.
    """
    from controller.kernels.provision import accuracy_price

    num_classes, num_variants, _ = wl.allowed.shape
    found = np.zeros(num_classes)
    for c in range(num_classes):
        allowed = np.where(wl.allowed[c], usd, np.inf)
        least = allowed.min(axis=1)
        own = np.where(cat.market == ON_DEMAND, allowed, np.inf).min(axis=1)
        usual = least.copy()
        has_own = np.isfinite(own)
        usual[has_own] = np.sqrt(least[has_own] * own[has_own])
        found[c] = accuracy_price(cat.accuracy, usual, float(wl.accuracy_floor[c]), np.empty(num_variants))
    return found


def step_overflow_options(cat: CatalogArrays, wl: WorkloadArrays) -> I64:
    """The serverless option of each variant that takes what overflows at a later step of a cascade.

    That of the cheapest call: a step's variant is not to be chosen.

    Args:
        cat: Compiled.
        wl: Compiled; `allowed` says which calls there are.

    Returns:
        v * P + p, shape (C, V); -1 for none.
    """
    num_classes, num_variants, num_pools = wl.allowed.shape
    found = np.full((num_classes, num_variants), -1)
    for c, v in np.argwhere((wl.allowed & (cat.market == SERVERLESS)).any(axis=2)).tolist():
        pools = np.flatnonzero(wl.allowed[c, v] & (cat.market == SERVERLESS)).tolist()
        found[c, v] = v * num_pools + min(pools, key=lambda p: _call_usd(cat, v, p) + float(wl.egress_usd[c, v, p]))
    return found


LEAST_MISSES = 1e-4
"""A promise beyond 99.99 % asks for no more spare capacity than that one."""

LEAST_SLACK = 0.1
"""A class that its machines leave less time to wait than this share of its SLO is planned for as if they left it."""


def spare_rps(cat: CatalogArrays, wl: WorkloadArrays) -> F64:
    """Capacity beyond the demand with which a class that cannot overflow seldom waits too long, requests/s, (C,).

    In a queue M/M/c the share that waits longer than t is at most exp(-spare t), whatever the load and the number of
    servers (Erlang C is a probability; Kleinrock, Queueing Systems I, 1975, section 3.5). So the share that the class
    may miss asks for spare = ln(1 / share) / t; t is what its SLO leaves on the cheapest machine that keeps its floor.
    0 for a class that serverless can answer, which need not wait, and for one of several operators.
    """
    found = np.zeros(len(wl.slo_s))
    usd = machine_usd(cat, capacity_rps(cat, largest_batches(cat, wl, USUAL_BATCH_SLACK)))
    for c in np.flatnonzero(~overflows(cat, wl) & (wl.num_operators == 1)):
        keeps = wl.allowed[c] & np.isfinite(usd) & (cat.accuracy >= wl.accuracy_floor[c])[:, None]
        if not keeps.any():
            continue
        v, p = np.unravel_index(int(np.where(keeps, usd, np.inf).argmin()), usd.shape)
        slack_s = float(wl.slo_s[c] - wl.network_s[c, v, p] - cat.service_s[v, p, 1])
        allowed = max(1.0 - float(wl.attainment_target[c]), LEAST_MISSES)
        found[c] = np.log(1.0 / allowed) / max(slack_s, LEAST_SLACK * float(wl.slo_s[c]))
    return found


def overflows(cat: CatalogArrays, wl: WorkloadArrays) -> Bool:
    """Which classes serverless can answer in time, (C,)."""
    return np.asarray((wl.allowed & (cat.market == SERVERLESS)).any(axis=(1, 2)), np.bool_)


def overflow_options(cat: CatalogArrays, wl: WorkloadArrays) -> I64:
    """The serverless option that takes a class's overflow, v * P + p, (C,); -1 for none, or for several operators.

    That of the cheapest call, where accuracy below a floor on the mean costs what it takes to make up for it on
    machines (`accuracy_usd`), and accuracy above it saves as much if machines have a variant below to use it for. A
    variant may be below by at most half of what the best one on machines is above: of what overflows all at once, most
    must be made up for by the end of the day. Where nothing meets that, the most accurate.
    """
    num_classes, _, num_pools = wl.allowed.shape
    found = np.full(num_classes, -1)
    is_serverless = cat.market == SERVERLESS
    price = accuracy_usd(cat, wl, machine_usd(cat, capacity_rps(cat, largest_batches(cat, wl, USUAL_BATCH_SLACK))))
    for c in range(num_classes):
        options = np.argwhere(wl.allowed[c] & is_serverless)
        if wl.num_operators[c] > 1 or not len(options):
            continue
        on_machines = (wl.allowed[c] & ~is_serverless).any(axis=1)
        most = np.max(cat.accuracy, where=on_machines, initial=0.0)
        has_use_of_more = (on_machines & (cat.accuracy < wl.accuracy_floor[c])).any()
        least = wl.accuracy_floor[c] - max(0.0, LARGEST_LACK * (most - wl.accuracy_floor[c]))
        keys = []
        for v, p in options.tolist():
            call_usd = _call_usd(cat, v, p)
            lack = wl.accuracy_floor[c] - cat.accuracy[v]
            usd = call_usd + wl.egress_usd[c, v, p] + (price[c] * lack if lack > 0.0 or has_use_of_more else 0.0)
            is_below = cat.accuracy[v] < least
            keys.append((is_below, -cat.accuracy[v] if is_below else usd, call_usd, v * num_pools + p))
        found[c] = min(keys)[-1]
    return found


def _call_usd(cat: CatalogArrays, v: int, p: int) -> float:
    """Of a call of the usual length."""
    return serverless_usd(
        cat.service_s[v, p, 1], cat.billing_step_s[p], cat.memory_gb[p], cat.usd_per_gb_s[p], cat.usd_per_request[p]
    )
