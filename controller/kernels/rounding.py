"""Capacity to whole replicas: what exists is kept where it is near, and one replica in all is rounded up.

Helpers take single arrays, as in `provision`.
"""

from __future__ import annotations

import numpy as np

from controller.arrays import F64, I64, SERVERLESS, Bool
from controller.kernels.compiled import kernel
from controller.kernels.local import integers

SLACK_REPLICAS = 1e-6
"""A demand this little above a whole number of replicas is not rounded up."""

STICKY = 0.5
"""An option keeps its replicas while it has this many fewer than are wanted."""

STAYS = 0.8
"""What a replica costs that is there and would be given up, as a share of its rent: a launch is paid for, too."""


@kernel
def _sticky(wanted: float, existing: int, band: float) -> int:
    """Whole replicas for a wanted number: what exists where it is near enough, at most `band` more, else rounded up."""
    if wanted - STICKY <= existing <= wanted + band:
        return existing
    return max(0, int(np.ceil(min(wanted - SLACK_REPLICAS, 1e9))))


@kernel
def whole_replicas(
    allowed: Bool,
    rps: F64,
    usd: F64,
    market: I64,
    pool_max: I64,
    available: Bool,
    ready: I64,
    starting: I64,
    n: int,
    capacity: F64,
    band: float,
    ranked: I64,
    replicas: I64,
) -> None:
    """Rounds `capacity`, (V, P) requests/s, to whole replicas in `replicas[n]`; serverless gets none.

    From the most accurate variant down, what a replica more can do beyond its demand is carried on, and taken off the
    demand of less accurate variants if every class may use it; a lack is carried on as well, unless a class that may
    use the variant may use no weaker one. So existing replicas can be kept wherever they are near what is wanted, and
    still only one replica in all is rounded up: where it costs least, of a variant that is wanted, because a replica of
    a weaker one would take up traffic as far as it is fast, and cost accuracy that has to be repaid. Survivors in pools
    that take no launches now are used before anything is launched elsewhere.

    Args:
        allowed: (C, V, P).
        rps: (V, P) of one replica.
        usd: (V, P) $ per request on a replica that is always busy; infinite for what is no machine.
        market: (P,).
        pool_max: (P,).
        available: (N, P).
        ready: (N, V, P).
        starting: (N, V, P).
        n: Env.
        capacity: (V, P) wanted.
        band: Replicas that an option may have more than are wanted before any is given up.
        ranked: (V,) variants by falling accuracy.
        replicas: (N, V, P), row n is written.
    """
    num_variants, num_pools = rps.shape
    carried = 0.0
    used = integers(num_pools)
    last, spare = -1, -1  # the weakest variant that is wanted, and of all, that some pool has room for
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
            if market[p] == SERVERLESS or rps[v, p] <= 0.0:
                continue
            if capacity[v, p] > 0.0:
                wanted = capacity[v, p] - carried
                count = _sticky(wanted / rps[v, p], ready[n, v, p] + starting[n, v, p], band)
                count = max(0, min(count, pool_max[p] - used[p]))
                used[p] += count
                replicas[n, v, p] = count
                carried = count * rps[v, p] - wanted
            elif not available[n, p]:
                continue
            if used[p] < pool_max[p]:
                spare = v
                if total > 0.0:
                    last = v
        if carried > 0.0 and not _suits_all(allowed, market, v):
            carried = 0.0
        if carried < 0.0 and last == v and not _hands_down(allowed, market, ranked, i):
            _make_up(rps, usd, market, pool_max, available, ready, starting, n, v, -carried, capacity, used, replicas)
            carried = 0.0
    v = last if last >= 0 else spare
    if v >= 0 and carried < 0.0:
        _make_up(rps, usd, market, pool_max, available, ready, starting, n, v, -carried, capacity, used, replicas)


@kernel
def _make_up(
    rps: F64,
    usd: F64,
    market: I64,
    pool_max: I64,
    available: Bool,
    ready: I64,
    starting: I64,
    n: int,
    v: int,
    lack: float,
    capacity: F64,
    used: I64,
    replicas: I64,
) -> None:
    """Adds whole replicas of a variant for a lack, where they cost least for as much of it as there is room for.

    Pools that it is wanted in come first: others may be left out on purpose. A replica that exists and is not planned
    costs `STAYS` of its rent: it need not be launched.

    Args:
        rps: As for `whole_replicas`, like all that is not named here.
        v: Variant.
        lack: Requests/s, > 0.
        used: (P,) machines of each pool that are planned, raised.
    """
    for turn in range(2 * market.shape[0]):
        best, least, most = -1, np.inf, 0
        for p in range(market.shape[0]):
            is_wanted = capacity[v, p] > 0.0
            if market[p] == SERVERLESS or rps[v, p] <= 0.0 or used[p] >= pool_max[p]:
                continue
            if not is_wanted and (turn < market.shape[0] or not available[n, p]):
                continue
            count = int(np.ceil(min(lack / rps[v, p] - SLACK_REPLICAS, 1e9)))
            if count <= 0:
                return
            count = min(count, pool_max[p] - used[p])
            there = max(0, min(count, ready[n, v, p] + starting[n, v, p] - replicas[n, v, p]))
            rent = usd[v, p] * rps[v, p] * (count - (1.0 - STAYS) * there)
            price = rent / min(lack, count * rps[v, p])
            if price < least:
                best, least, most = p, price, count
        if best >= 0:
            replicas[n, v, best] += most
            used[best] += most
            lack -= most * rps[v, best]


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
def _hands_down(allowed: Bool, market: I64, ranked: I64, i: int) -> bool:
    """Whether every class that may use the i-th most accurate variant may use a less accurate one on a machine."""
    for c in range(allowed.shape[0]):
        is_used, goes_on = False, False
        for j in range(i, ranked.shape[0]):
            for p in range(market.shape[0]):
                if allowed[c, ranked[j], p] and market[p] != SERVERLESS:
                    if j == i:
                        is_used = True
                    else:
                        goes_on = True
        if is_used and not goes_on:
            return False
    return True
