"""Demand to replicas: the cheapest mix of variants of the needed accuracy, on the cheapest pools, in whole replicas.

Helpers take single arrays, not tuples of them: a call with a whole catalog costs more than what they do.
"""

from __future__ import annotations

import numpy as np

from controller.arrays import F64, I64, ON_DEMAND, SERVERLESS, SPOT, Bool
from controller.kernels.compiled import kernel

SLACK_REPLICAS = 1e-6
"""A demand this little above a whole number of replicas is not rounded up."""

STICKY = 0.5
"""An option keeps its replicas while this many fewer, or this many and one more, than wanted."""


@kernel
def best_pools(
    allowed: Bool, market: I64, usd: F64, available: Bool, n: int, c: int, v: int, needs_available: bool
) -> tuple[int, float, float]:
    """Cheapest machine pools for a class and variant.

    Args:
        allowed: (C, V, P).
        market: (P,).
        usd: (V, P) per request, infinite for what is no machine.
        available: (N, P).
        n: Env.
        c: Class.
        v: Variant.
        needs_available: Whether unavailable pools are left out.

    Returns:
        On-demand pool (-1 for none), its cost, and the cost of the cheapest spot pool; $ per request, infinite for
        none.
    """
    pool, on_demand_usd, spot_usd = -1, np.inf, np.inf
    for p in range(market.shape[0]):
        if not allowed[c, v, p] or not usd[v, p] < np.inf or (needs_available and not available[n, p]):
            continue
        if market[p] == ON_DEMAND:
            if usd[v, p] < on_demand_usd:
                pool, on_demand_usd = p, usd[v, p]
        elif usd[v, p] < spot_usd:
            spot_usd = usd[v, p]
    return pool, on_demand_usd, spot_usd


@kernel
def unit_cost(on_demand_usd: float, spot_usd: float, spot_share: float, over_provision: float) -> float:
    """Cost of a unit of capacity bought in the given mix of markets; of the one that exists where there is only one."""
    if spot_usd == np.inf:
        return on_demand_usd
    if on_demand_usd == np.inf:
        return spot_usd * over_provision
    return (1.0 - spot_share) * on_demand_usd + spot_share * min(spot_usd * over_provision, on_demand_usd)


@kernel
def cheapest_mix(accuracy: F64, cost: F64, target: float, mix: F64) -> float:
    """Writes the cheapest mixture of variants whose mean accuracy is at least `target`; all 0 where none is offered.

    One or two variants are enough: this is a point on the lower convex hull of (accuracy, cost).

    Args:
        accuracy: (V,).
        cost: (V,) per request; infinite for a variant that is not offered.
        target: Wanted mean; above the best variant's accuracy it means the best variant.
        mix: (V,), written.

    Returns:
        Mean accuracy of the mixture, 0 where nothing is offered.
    """
    num_variants = accuracy.shape[0]
    top = -1
    for v in range(num_variants):
        mix[v] = 0.0
        if cost[v] < np.inf and (
            top < 0 or accuracy[v] > accuracy[top] or (accuracy[v] == accuracy[top] and cost[v] < cost[top])
        ):
            top = v
    if top < 0:
        return 0.0
    if target >= accuracy[top]:
        mix[top] = 1.0
        return accuracy[top]
    low, high, part, least = top, top, 0.0, cost[top]
    for a in range(num_variants):
        if not cost[a] < np.inf:
            continue
        if accuracy[a] >= target:
            if cost[a] < least:
                low, high, part, least = a, a, 0.0, cost[a]
            continue
        for b in range(num_variants):
            if accuracy[b] > target and cost[b] < np.inf:
                share = (target - accuracy[a]) / (accuracy[b] - accuracy[a])
                mixed = (1.0 - share) * cost[a] + share * cost[b]
                if mixed < least:
                    low, high, part, least = a, b, share, mixed
    mix[low] += 1.0 - part
    mix[high] += part
    return (1.0 - part) * accuracy[low] + part * accuracy[high]


@kernel
def allot(
    allowed: Bool,
    market: I64,
    usd: F64,
    available: Bool,
    n: int,
    c: int,
    v: int,
    rps: float,
    base_part: float,
    spot_share: float,
    over_provision: float,
    spot_spread: float,
    capacity: F64,
) -> bool:
    """Adds the capacity for `rps` of class c on variant v to `capacity`, (V, P).

    `base_part` of it is bought on demand in any case, `spot_share` of the rest on spot: over-provisioned, and spread
    evenly over the available spot pools that cost at most (1 + `spot_spread`) times the cheapest. Spot dearer than
    on-demand is not bought. The other arguments are those of `best_pools`.

    Returns:
        Whether every pool of the variant is unavailable, so that the cheapest was taken all the same.
    """
    is_blocked = False
    pool, on_demand_usd, spot_usd = best_pools(allowed, market, usd, available, n, c, v, True)
    if pool < 0 and spot_usd == np.inf:
        is_blocked = True
        pool, on_demand_usd, spot_usd = best_pools(allowed, market, usd, available, n, c, v, False)
    if pool >= 0 and (spot_usd == np.inf or spot_usd * over_provision >= on_demand_usd):
        capacity[v, pool] += rps
        return is_blocked
    on_spot = rps
    if pool >= 0:
        on_spot = rps * (1.0 - base_part) * spot_share
        capacity[v, pool] += rps - on_spot
    if on_spot <= 0.0 or spot_usd == np.inf:
        return is_blocked
    most_usd = spot_usd * (1.0 + spot_spread) * (1.0 + 1e-12)
    num_chosen = 0
    for write in range(2):
        for p in range(market.shape[0]):
            is_open = market[p] == SPOT and allowed[c, v, p] and (is_blocked or available[n, p])
            if not is_open or not usd[v, p] <= most_usd:
                continue
            if write == 0:
                num_chosen += 1
            else:
                capacity[v, p] += on_spot * over_provision / num_chosen
    return is_blocked


@kernel
def _sticky(wanted: float, existing: int) -> int:
    """Whole replicas for a wanted number: what exists where it is near enough, else rounded up."""
    if wanted - STICKY <= existing <= wanted + 1.0 + STICKY:
        return existing
    return max(0, int(np.ceil(min(wanted - SLACK_REPLICAS, 1e9))))


@kernel
def whole_replicas(
    allowed: Bool,
    rps: F64,
    market: I64,
    pool_max: I64,
    available: Bool,
    ready: I64,
    starting: I64,
    n: int,
    capacity: F64,
    ranked: I64,
    replicas: I64,
) -> None:
    """Rounds `capacity`, (V, P) requests/s, to whole replicas in `replicas[n]`; serverless gets none.

    From the most accurate variant down, what a replica more can do beyond its demand is carried on, and taken off the
    demand of less accurate variants if every class may use it; a lack is carried on as well. So existing replicas can
    be kept wherever they are near what is wanted, and still only one replica in all is rounded up. Survivors in pools
    that take no launches now are used before anything is launched elsewhere.

    Args:
        allowed: (C, V, P).
        rps: (V, P) of one replica.
        market: (P,).
        pool_max: (P,).
        available: (N, P).
        ready: (N, V, P).
        starting: (N, V, P).
        n: Env.
        capacity: (V, P) wanted.
        ranked: (V,) variants by falling accuracy.
        replicas: (N, V, P), row n is written.
    """
    num_variants, num_pools = rps.shape
    carried = 0.0
    used = np.zeros(num_pools, np.int64)
    last_v, last_p = -1, -1
    for i in range(num_variants):
        v = ranked[i]
        total = 0.0
        for p in range(num_pools):
            replicas[n, v, p] = 0
            total += capacity[v, p]
        for p in range(num_pools):
            existing = ready[n, v, p] + starting[n, v, p]
            is_closed = market[p] != SERVERLESS and not available[n, p] and rps[v, p] > 0.0 and capacity[v, p] <= 0.0
            if is_closed and existing > 0 and total > carried:
                count = min(existing, int(np.ceil(min((total - carried) / rps[v, p] - SLACK_REPLICAS, 1e9))))
                count = max(0, min(count, pool_max[p] - used[p]))
                replicas[n, v, p] = count
                used[p] += count
                carried += count * rps[v, p]
        for p in range(num_pools):
            is_machine = market[p] != SERVERLESS and rps[v, p] > 0.0
            if not is_machine or (capacity[v, p] <= 0.0 and (carried >= 0.0 or not available[n, p])):
                continue
            wanted = capacity[v, p] - carried
            count = _sticky(wanted / rps[v, p], ready[n, v, p] + starting[n, v, p])
            count = max(0, min(count, pool_max[p] - used[p]))
            used[p] += count
            replicas[n, v, p] = count
            carried = count * rps[v, p] - wanted
            if used[p] < pool_max[p]:
                last_v, last_p = v, p
        if carried > 0.0 and not _suits_all(allowed, market, v):
            carried = 0.0
    if last_v >= 0 and carried < 0.0:
        count = int(np.ceil(min(-carried / rps[last_v, last_p] - SLACK_REPLICAS, 1e9)))
        replicas[n, last_v, last_p] += max(0, min(count, pool_max[last_p] - used[last_p]))


@kernel
def _suits_all(allowed: Bool, market: I64, v: int) -> bool:
    """Whether every class may use variant v on some machine pool."""
    for c in range(allowed.shape[0]):
        found = False
        for p in range(market.shape[0]):
            found = found or (allowed[c, v, p] and market[p] != SERVERLESS)
        if not found:
            return False
    return True


@kernel
def open_pools(available: Bool, ready: I64, n: int, trusted: Bool, is_open: Bool) -> None:
    """Writes which pools capacity is planned in: those available where a replica became ready since they last were not.

    A pool is available again some time after its last refusal, without anyone knowing whether it really is; planning
    a fleet there at once would turn the plan over at every retry.
    """
    for p in range(available.shape[1]):
        serving = 0
        for v in range(ready.shape[1]):
            serving += ready[n, v, p]
        if not available[n, p]:
            trusted[n, p] = False
        elif serving > 0:
            trusted[n, p] = True
        is_open[n, p] = available[n, p] and trusted[n, p]


@kernel
def probe_pools(
    allowed: Bool,
    rps: F64,
    usd: F64,
    market: I64,
    pool_max: I64,
    available: Bool,
    n: int,
    is_open: Bool,
    spot_spread: float,
    replicas: I64,
) -> None:
    """Plans one replica in each pool that may be back, of the most planned variant for which its price is good."""
    num_variants, num_pools = rps.shape
    for p in range(num_pools):
        if market[p] == SERVERLESS or is_open[n, p] or not available[n, p] or pool_max[p] < 1:
            continue
        best, most, planned = -1, 0, 0
        for v in range(num_variants):
            planned += replicas[n, v, p]
            suits = False
            for c in range(allowed.shape[0]):
                suits = suits or allowed[c, v, p]
            if not suits or not usd[v, p] <= usd[v].min() * (1.0 + spot_spread):
                continue
            count = 0
            for other in range(num_pools):
                count += replicas[n, v, other]
            if count > most:
                best, most = v, count
        if planned == 0 and best >= 0:
            replicas[n, best, p] = 1


@kernel
def rank_variants(accuracy: F64, ranked: I64) -> None:
    """Writes variant indices by falling accuracy, catalog order among equals."""
    for v in range(accuracy.shape[0]):
        at = v
        while at > 0 and accuracy[ranked[at - 1]] < accuracy[v]:
            ranked[at] = ranked[at - 1]
            at -= 1
        ranked[at] = v


@kernel
def hold_machines(
    market: I64, ready: I64, starting: I64, n: int, keep: float, held: F64, ranked: I64, replicas: I64
) -> bool:
    """Holds existing machines that the plan no longer needs, fewer every tick; returns whether any is held.

    Per pool, what is held above the plan shrinks by the factor `keep` a tick. Held machines keep their variant, most
    accurate first.

    Args:
        market: (P,).
        ready: (N, V, P).
        starting: (N, V, P).
        n: Env.
        keep: Factor per tick in [0, 1].
        held: (N, P) machines held so far, updated.
        ranked: (V,) variants by falling accuracy.
        replicas: (N, V, P) planned so far, raised in place.
    """
    num_variants, num_pools = replicas.shape[1], replicas.shape[2]
    has_held = False
    for p in range(num_pools):
        if market[p] == SERVERLESS:
            continue
        planned, existing = 0, 0
        for v in range(num_variants):
            planned += replicas[n, v, p]
            existing += ready[n, v, p] + starting[n, v, p]
        level = planned + max(0.0, min(held[n, p], float(existing)) - planned) * keep
        held[n, p] = level
        extra = int(np.floor(level + 0.5)) - planned
        for i in range(num_variants):
            if extra <= 0:
                break
            v = ranked[i]
            kept = min(extra, ready[n, v, p] + starting[n, v, p] - replicas[n, v, p])
            if kept > 0:
                replicas[n, v, p] += kept
                extra -= kept
                has_held = True
    return has_held
