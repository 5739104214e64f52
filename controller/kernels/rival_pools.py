"""Filling pools with a rival's demand: in order of price, evenly over spot pools, or machine by machine."""

from __future__ import annotations

import numpy as np

from controller.arrays import F64, SPOT, CatalogArrays, ObservationArrays
from controller.kernels.compiled import inner
from controller.kernels.local import flags, floats
from controller.kernels.rival_spot import surviving_rps
from controller.rival_arrays import RivalArrays, RivalState

SLACK_REPLICAS = 1e-6
"""A demand this little above a whole number of replicas is not rounded up."""


@inner
def room(settings: RivalArrays, v: int, p: int, demand: F64) -> float:
    """Replicas of variant v that pool p can hold beside what other variants have there."""
    left = float(settings.pool_max[p])
    for other in range(demand.shape[0]):
        if other != v and settings.rps[other, p] > 0.0:
            left -= np.ceil(demand[other, p] / settings.rps[other, p] - SLACK_REPLICAS)
    return left


@inner
def fill(settings: RivalArrays, v: int, p: int, most: float, rate: float, demand: F64) -> float:
    """Adds demand to an option as far as `most` replicas of it go; returns what is left."""
    rps = settings.rps[v, p]
    if rps <= 0.0 or rate <= 0.0:
        return rate
    taken = min(rate, max(0.0, most * rps - demand[v, p]))
    demand[v, p] += taken
    return rate - taken


@inner
def fill_in_order(
    settings: RivalArrays, obs: ObservationArrays, n: int, c: int, v: int, rate: float, demand: F64
) -> float:
    """Adds demand to the variant's own pools, each up to its room, those that refuse last.

    Returns:
        What no pool has room for.
    """
    for is_last in (False, True):
        for i in range(demand.shape[1]):
            p = settings.pools[c, v, i]
            if p >= 0 and (is_last or obs.available[n, p]):
                rate = fill(settings, v, p, room(settings, v, p, demand), rate, demand)
    return rate


@inner
def _is_used(settings: RivalArrays, state: RivalState, n: int, c: int, v: int, p: int) -> bool:
    """Whether a spot pool is open and, over-provisioned, cheaper than the variant's first own pool."""
    own = settings.pools[c, v, 0]
    if p < 0 or not state.is_open[n, p]:
        return False
    return own == p or own < 0 or settings.usd[v, p] * settings.over_provision < settings.usd[v, own]


@inner
def _spot_limit_usd(settings: RivalArrays, state: RivalState, n: int, c: int, v: int) -> float:
    """Largest price at which a spot pool shares the load; 0 where no pool is used."""
    least = np.inf
    for i in range(settings.spot_pools.shape[2]):
        p = settings.spot_pools[c, v, i]
        if _is_used(settings, state, n, c, v, p):
            least = min(least, settings.usd[v, p])
    return least * (1.0 + settings.spot_spread) * (1.0 + 1e-12) if least < np.inf else 0.0


@inner
def keep_survivors(
    settings: RivalArrays, state: RivalState, obs: ObservationArrays, n: int, c: int, v: int, rate: float, demand: F64
) -> float:
    """Takes what stands in spot pools that take no more; returns what is left of the demand."""
    for i in range(demand.shape[1]):
        p = settings.spot_pools[c, v, i]
        if p >= 0 and not state.is_open[n, p]:
            rate = fill(settings, v, p, float(obs.ready[n, v, p] + obs.starting[n, v, p]), rate, demand)
    return rate


@inner
def place_on_spot(
    settings: RivalArrays, state: RivalState, obs: ObservationArrays, n: int, c: int, v: int, rate: float, demand: F64
) -> float:
    """Places demand on spot, evenly over pools of a good price, then wherever there is room; returns what is left."""
    if rate <= 0.0:
        return 0.0
    left = keep_survivors(settings, state, obs, n, c, v, rate * settings.over_provision, demand)
    limit_usd = _spot_limit_usd(settings, state, n, c, v)
    num_chosen = 0
    for i in range(demand.shape[1]):
        p = settings.spot_pools[c, v, i]
        num_chosen += _is_used(settings, state, n, c, v, p) and settings.usd[v, p] <= limit_usd
    share = left / max(1, num_chosen)
    for only_chosen in (True, False):
        for i in range(demand.shape[1]):
            p = settings.spot_pools[c, v, i]
            if not _is_used(settings, state, n, c, v, p) or (only_chosen and settings.usd[v, p] > limit_usd):
                continue
            part = min(left, share) if only_chosen else left
            left += fill(settings, v, p, room(settings, v, p, demand), part, demand) - part
    return max(0.0, left) / settings.over_provision


@inner
def spread_over_zones(
    cat: CatalogArrays, settings: RivalArrays, state: RivalState, n: int, c: int, v: int, need: float, demand: F64
) -> None:
    """Adds whole spot replicas, each where least capacity stands in its zone, until `need` stands on spot."""
    limit_usd = _spot_limit_usd(settings, state, n, c, v)
    num_pools = demand.shape[1]
    total = 0.0
    for p in range(num_pools):
        if cat.market[p] == SPOT:
            total += demand[v, p]
    while total < need * (1.0 - SLACK_REPLICAS):
        best, least_rps, least_usd = -1, np.inf, np.inf
        for i in range(num_pools):
            p = settings.spot_pools[c, v, i]
            if not _is_used(settings, state, n, c, v, p) or settings.usd[v, p] > limit_usd:
                continue
            rps = settings.rps[v, p]
            if np.ceil(demand[v, p] / rps - SLACK_REPLICAS) + 1.0 > room(settings, v, p, demand):
                continue
            in_zone = 0.0
            for q in range(num_pools):
                if q == p or (cat.market[q] == SPOT and cat.zone[q] == cat.zone[p] and cat.zone[p] >= 0):
                    in_zone += demand[v, q]
            if in_zone < least_rps or (in_zone == least_rps and settings.usd[v, p] < least_usd):
                best, least_rps, least_usd = p, in_zone, settings.usd[v, p]
        if best < 0:
            return
        demand[v, best] += settings.rps[v, best]
        total += settings.rps[v, best]


@inner
def buy_greedily(
    cat: CatalogArrays,
    settings: RivalArrays,
    state: RivalState,
    obs: ObservationArrays,
    n: int,
    c: int,
    v: int,
    need: float,
    with_spot: bool,
    lost: F64,
    demand: F64,
) -> None:
    """Adds whole machines one by one, always that of the least rent per request of the need it meets.

    The rent of a machine that does not exist yet is raised by `launch_overhead`; of what a machine can do only what is
    still needed counts, less what it puts at risk (`surviving_rps`).
    """
    num_pools = demand.shape[1]
    capacity = floats(num_pools)
    candidate = flags(num_pools)
    for i in range(num_pools):
        p = settings.pools[c, v, i]
        if p >= 0:
            candidate[p] = True
            capacity[p] = demand[v, p]
        p = settings.spot_pools[c, v, i]
        if with_spot and p >= 0:
            candidate[p] = state.is_open[n, p]
            capacity[p] = demand[v, p]
    held = surviving_rps(capacity, lost, cat.zone, settings.confidence_z)
    while held < need * (1.0 - SLACK_REPLICAS):
        best, best_held, least_usd = -1, held, np.inf
        for p in range(num_pools):
            rps = settings.rps[v, p]
            if not candidate[p] or rps <= 0.0:
                continue
            count = np.ceil(demand[v, p] / rps - SLACK_REPLICAS)
            if count + 1.0 > room(settings, v, p, demand):
                continue
            capacity[p] += rps
            would_hold = surviving_rps(capacity, lost, cat.zone, settings.confidence_z)
            capacity[p] -= rps
            gain = min(would_hold, need) - held
            exists = count < obs.ready[n, v, p] + obs.starting[n, v, p]
            rent = cat.price_usd_per_s[p] * (1.0 if exists else 1.0 + settings.launch_overhead)
            if gain > 1e-9 and rent / gain < least_usd:
                best, best_held, least_usd = p, would_hold, rent / gain
        if best < 0:
            return
        capacity[best] += settings.rps[v, best]
        demand[v, best] += settings.rps[v, best]
        held = best_held
