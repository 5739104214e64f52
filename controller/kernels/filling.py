"""Demand of a class on a variant to requests/s by pool: cheapest first, no more than a pool has room for.

A pool's quota is a handful of machines for some and hundreds for others, so what a variant costs depends on how much of
it is wanted: the cheapest pool may serve the first requests alone. And machines are rented whole: one that could do ten
times what is wanted costs ten times as much per request. Helpers take single arrays, as in `provision`.
"""

from __future__ import annotations

import numpy as np

from controller.arrays import F64, I64, ON_DEMAND, SERVERLESS, SPOT, Bool
from controller.kernels.compiled import kernel

_LEAST_RPS = 1e-9
"""Demand below this is none; prices are then those of the first request."""

LEAST_FILLED = 0.5
"""A part that is to be bought on demand and fills less than this of the smallest machine is bought on spot as well.

Rounded up to a machine, each small part of each variant would be one more than is needed.
"""


@kernel
def _is_choice(allowed: Bool, usd: F64, available: Bool, is_blocked: bool, n: int, c: int, v: int, p: int) -> bool:
    """Whether machines of the pool may serve the class with the variant now."""
    return allowed[c, v, p] and usd[v, p] < np.inf and (is_blocked or available[n, p])


@kernel
def whole_prices(usd: F64, rps: F64, near_floor: Bool, need: F64, c: int, prices: F64, filled_rps: F64) -> None:
    """Writes what a request of a class costs on each option when machines are rented whole, (V, P), $.

    A machine is filled by the class itself and by those that its variant suits as well; where that is less than it can
    do, its rent is divided among less.

    Args:
        usd: (V, P) on a machine that is always busy, infinite for what is no machine.
        rps: (V, P) of one replica.
        near_floor: (C, V) variants that a class is likely to be served by.
        need: (C,) requests/s to plan for.
        c: Class.
        prices: (V, P), written.
        filled_rps: (V,) requests/s that machines of a variant are filled by, written.
    """
    for v in range(usd.shape[0]):
        filled_rps[v] = max(need[c], _LEAST_RPS)
        for other in range(need.shape[0]):
            if other != c and near_floor[other, v]:
                filled_rps[v] += need[other]
        for p in range(usd.shape[1]):
            prices[v, p] = usd[v, p] * max(1.0, rps[v, p] / filled_rps[v])


@kernel
def _cheapest(
    allowed: Bool,
    market: I64,
    usd: F64,
    available: Bool,
    is_blocked: bool,
    n: int,
    c: int,
    v: int,
    wanted: int,
) -> float:
    """$ per request of the cheapest pool of a market, infinite for none."""
    least = np.inf
    for p in range(market.shape[0]):
        if market[p] == wanted and _is_choice(allowed, usd, available, is_blocked, n, c, v, p):
            least = min(least, usd[v, p])
    return least


@kernel
def fill_pools(
    allowed: Bool,
    market: I64,
    usd: F64,
    filled_rps: F64,
    rps: F64,
    pool_max: I64,
    available: Bool,
    n: int,
    c: int,
    v: int,
    need_rps: float,
    base_part: float,
    spot_share: float,
    over_provision: float,
    spot_spread: float,
    used: F64,
    taken: F64,
) -> tuple[float, bool]:
    """Writes what each pool would serve, `taken` (P,) requests/s of capacity.

    `base_part` of the demand is bought on demand in any case, `spot_share` of the rest on spot: over-provisioned, and
    spread evenly over the open spot pools that cost at most (1 + `spot_spread`) times the cheapest; where these are
    full, likewise over the cheapest of the rest and those near it. A part on demand that is the smaller one and hardly
    worth a machine (`LEAST_FILLED`) goes to spot. Spot that costs more than on-demand, over-provision included, is not
    bought. What no pool has room for stands at the cheapest one, at the price of the dearest.

    Args:
        allowed: (C, V, P).
        market: (P,).
        usd: (V, P) per request (`whole_prices`), infinite for what is no machine.
        filled_rps: (V,) requests/s that these prices share a machine's rent by.
        rps: (V, P) of one replica.
        pool_max: (P,).
        available: (N, P); where no pool of the variant is, all count.
        n: Env.
        c: Class.
        v: Variant.
        need_rps: Demand.
        base_part: Share bought on demand.
        spot_share: Share of the rest on spot.
        over_provision: Spot capacity per demand.
        spot_spread: See above.
        used: (P,) machines of each pool that are taken already, whole or in part.
        taken: (P,), written.

    Returns:
        Cost in $ per request, infinite where no machine may serve; and whether no pool of the variant is available.
    """
    num_pools = market.shape[0]
    for p in range(num_pools):
        taken[p] = 0.0
    need_rps = max(need_rps, _LEAST_RPS)
    is_blocked = False
    own_usd = _cheapest(allowed, market, usd, available, False, n, c, v, ON_DEMAND)
    spot_usd = _cheapest(allowed, market, usd, available, False, n, c, v, SPOT)
    if own_usd == np.inf and spot_usd == np.inf:
        is_blocked = True
        own_usd = _cheapest(allowed, market, usd, available, True, n, c, v, ON_DEMAND)
        spot_usd = _cheapest(allowed, market, usd, available, True, n, c, v, SPOT)
        if own_usd == np.inf and spot_usd == np.inf:
            return np.inf, True
    on_spot = 0.0
    if own_usd == np.inf:
        on_spot = need_rps
    elif spot_usd * over_provision < own_usd:
        on_spot = need_rps * (1.0 - base_part) * spot_share
        smallest_rps = np.inf
        for p in range(num_pools):
            if market[p] == ON_DEMAND and _is_choice(allowed, usd, available, is_blocked, n, c, v, p):
                smallest_rps = min(smallest_rps, rps[v, p])
        if need_rps - on_spot < min(on_spot, LEAST_FILLED * smallest_rps):
            on_spot = need_rps
    own = need_rps - on_spot
    dearest = 0.0
    if on_spot > 0.0:
        left = on_spot * over_provision
        for _ in range(num_pools):
            next_usd = np.inf
            for p in range(num_pools):
                if (
                    market[p] == SPOT
                    and _room(rps, pool_max, used, taken, v, p) > 0.0
                    and _is_choice(allowed, usd, available, is_blocked, n, c, v, p)
                ):
                    next_usd = min(next_usd, usd[v, p])
            if left <= 0.0 or not next_usd * over_provision < own_usd:
                break
            most_usd = next_usd * (1.0 + spot_spread) * (1.0 + 1e-12)
            left = _spread(
                allowed,
                market,
                usd,
                rps,
                pool_max,
                available,
                is_blocked,
                n,
                c,
                v,
                left,
                most_usd,
                used,
                taken,
            )
        own += left / over_provision
    if own > 0.0:
        own = _in_order(
            allowed, market, usd, filled_rps, rps, pool_max, available, is_blocked, n, c, v, own, used, taken
        )
    total, cheapest = 0.0, -1
    for p in range(num_pools):
        if market[p] == SERVERLESS or not _is_choice(allowed, usd, available, is_blocked, n, c, v, p):
            continue
        total += taken[p] * usd[v, p]
        if taken[p] > 0.0:
            dearest = max(dearest, usd[v, p])
        if cheapest < 0 or usd[v, p] < usd[v, cheapest]:
            cheapest = p
    if own > 0.0:
        total += own * max(dearest, usd[v, cheapest])
        taken[cheapest] += own
    return total / need_rps, is_blocked


@kernel
def _room(rps: F64, pool_max: I64, used: F64, taken: F64, v: int, p: int) -> float:
    """Requests/s that the pool can still take with variant v."""
    return max(0.0, (pool_max[p] - used[p]) * rps[v, p] - taken[p])


@kernel
def _spread(
    allowed: Bool,
    market: I64,
    usd: F64,
    rps: F64,
    pool_max: I64,
    available: Bool,
    is_blocked: bool,
    n: int,
    c: int,
    v: int,
    left: float,
    most_usd: float,
    used: F64,
    taken: F64,
) -> float:
    """Spreads demand evenly over the spot pools up to a price, as far as they have room; returns what is left."""
    for _ in range(market.shape[0]):
        count = 0
        for p in range(market.shape[0]):
            if market[p] == SPOT and usd[v, p] <= most_usd and _room(rps, pool_max, used, taken, v, p) > 0.0:
                count += 1 if _is_choice(allowed, usd, available, is_blocked, n, c, v, p) else 0
        if count == 0:
            return left
        part, rest = left / count, 0.0
        for p in range(market.shape[0]):
            room = _room(rps, pool_max, used, taken, v, p)
            if (
                market[p] == SPOT
                and usd[v, p] <= most_usd
                and room > 0.0
                and _is_choice(allowed, usd, available, is_blocked, n, c, v, p)
            ):
                taken[p] += min(part, room)
                rest += max(0.0, part - room)
        left = rest
        if left <= _LEAST_RPS:
            return 0.0
    return left


@kernel
def _in_order(
    allowed: Bool,
    market: I64,
    usd: F64,
    filled_rps: F64,
    rps: F64,
    pool_max: I64,
    available: Bool,
    is_blocked: bool,
    n: int,
    c: int,
    v: int,
    left: float,
    used: F64,
    taken: F64,
) -> float:
    """Fills the on-demand pools, the cheapest for what is left first; returns what no pool has room for."""
    for _ in range(market.shape[0]):
        best, least_usd = -1, np.inf
        for p in range(market.shape[0]):
            if (
                market[p] == ON_DEMAND
                and _room(rps, pool_max, used, taken, v, p) > 0.0
                and _is_choice(allowed, usd, available, is_blocked, n, c, v, p)
            ):
                # A machine of it is rented whole for what is left, not for what the prices were made for.
                price = usd[v, p] * max(1.0, rps[v, p] / left) / max(1.0, rps[v, p] / filled_rps[v])
                if price < least_usd:
                    best, least_usd = p, price
        if best < 0:
            return left
        part = min(left, _room(rps, pool_max, used, taken, v, best))
        taken[best] += part
        left -= part
        if left <= _LEAST_RPS:
            return 0.0
    return left
