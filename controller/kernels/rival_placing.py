"""Where a rival's demand is placed: variants by accuracy owed, spot and on-demand pools by the scheme's own rule.

Demand is gathered in `demand`, (V, P) requests/s, class by class; what `bought` holds per variant is cumulative over
classes, so that what one class's last replica can do beyond its need serves the next.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from controller.arrays import F64, SPOT, CatalogArrays, ControlArrays, ObservationArrays, WorkloadArrays
from controller.kernels.compiled import inner
from controller.kernels.filling import fill_pools, whole_prices
from controller.kernels.local import floats
from controller.kernels.mpc import accuracy_span, needed_accuracy
from controller.kernels.provision import cheapest_mix
from controller.kernels.rival_pools import (
    SLACK_REPLICAS,
    buy_greedily,
    fill,
    fill_in_order,
    keep_survivors,
    place_on_spot,
    room,
    spread_over_zones,
)
from controller.rival_arrays import INFAAS, MARK, RIBBON, SPOTHEDGE, TRIBUTARY, RivalArrays, RivalState


class Bought(NamedTuple):
    """What was placed so far this tick, per variant."""

    need_rps: F64  # (V,) to be covered by whole machines
    spot_rps: F64  # (V,) to be served by spot; entry 0 stands for all where variants are mixed, likewise below
    cover_rps: F64  # (V,) bought on demand for spot that is not ready


@inner
def class_mix(
    kind: int,
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    settings: RivalArrays,
    state: RivalState,
    obs: ObservationArrays,
    n: int,
    c: int,
    need_rps: F64,
    mix: F64,
) -> None:
    """Writes the share of a class's demand on each variant, (V,): the fixed one, or the cheapest accurate mix."""
    num_variants = mix.shape[0]
    for v in range(num_variants):
        mix[v] = 0.0
    if not settings.adaptive_variant:
        v = state.choice[n, c] // wl.allowed.shape[2] if kind == INFAAS else settings.variant[c]
        mix[v] = 1.0
        return
    least, most = accuracy_span(wl.allowed, cat.market, cat.accuracy, c)
    target = wl.accuracy_floor[c] + settings.accuracy_margin
    if kind != RIBBON:
        target = needed_accuracy(cat, wl, ctl, obs, n, c, need_rps[c], settings.accuracy_margin, settings.repay_s, most)
    target = min(most, max(least, target))
    prices, filled_rps = floats(settings.usd.shape), floats(num_variants)
    whole_prices(settings.usd, settings.rps, settings.near_floor, need_rps, c, prices, filled_rps)
    cost, used, taken = floats(num_variants), floats(wl.allowed.shape[2]), floats(wl.allowed.shape[2])
    for v in range(num_variants):
        cost[v], _ = fill_pools(
            wl.allowed, cat.market, prices, filled_rps, settings.rps, settings.pool_max, state.is_open, n, c, v,
            need_rps[c], settings.on_demand_floor, settings.spot_share, settings.over_provision, settings.spot_spread,
            used, taken,
        )  # fmt: skip
    cheapest_mix(cat.accuracy, cost, target, mix)


@inner
def choose_option(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    settings: RivalArrays,
    state: RivalState,
    n: int,
    c: int,
    rps: float,
) -> int:
    """Variant and hardware that serve `rps` of a class for least rent in whole machines, v * P + p.

    The present choice is kept where nothing is cheaper: it is replicated, else up- or downgraded. Pools that refuse are
    left out while there is another; where no pool has room, the present or the fixed choice stays.
    """
    num_variants, num_pools = cat.usable.shape
    best, least_usd = -1, np.inf
    for attempt in range(2):
        for v in range(num_variants):
            if cat.accuracy[v] < wl.accuracy_floor[c]:
                continue
            for i in range(num_pools):
                p = settings.pools[c, v, i]
                if p < 0 or settings.rps[v, p] <= 0.0 or (attempt == 0 and not state.is_open[n, p]):
                    continue
                count = max(1.0, np.ceil(rps / settings.rps[v, p] - SLACK_REPLICAS))
                usd = count * cat.price_usd_per_s[p]
                is_present = state.choice[n, c] == v * num_pools + p
                if count <= settings.pool_max[p] and (usd < least_usd or (is_present and usd <= least_usd)):
                    best, least_usd = v * num_pools + p, usd
        if best >= 0:
            return best
    if state.choice[n, c] >= 0:
        return state.choice[n, c]
    return settings.variant[c] * num_pools + settings.pools[c, settings.variant[c], 0]


@inner
def _cover(
    cat: CatalogArrays, settings: RivalArrays, obs: ObservationArrays, n: int, v: int, part: float, bought: Bought
) -> float:
    """Demand on variant v to be bought on demand for as long as the spot machines for `part` more are not ready."""
    group = 0 if settings.adaptive_variant else v
    bought.spot_rps[group] += part
    ready_rps = 0.0
    for other in range(cat.usable.shape[0]):
        for p in range(cat.usable.shape[1]):
            if cat.market[p] == SPOT and (settings.adaptive_variant or other == v):
                ready_rps += obs.ready[n, other, p] * settings.rps[other, p]
    lacking = max(0.0, bought.spot_rps[group] * settings.over_provision - ready_rps)
    cover = max(0.0, min(bought.spot_rps[group], lacking) - bought.cover_rps[group])
    bought.cover_rps[group] += cover
    return cover


@inner
def place(
    kind: int,
    cat: CatalogArrays,
    settings: RivalArrays,
    state: RivalState,
    obs: ObservationArrays,
    n: int,
    c: int,
    v: int,
    rate: float,
    lost: F64,
    bought: Bought,
    demand: F64,
) -> None:
    """Adds the demand of a class on variant v to `demand`, by the scheme's rule for pools and markets."""
    part = (1.0 - settings.on_demand_floor) * settings.spot_share * rate
    own = rate - part
    if kind == TRIBUTARY:
        fill_in_order(settings, obs, n, c, v, own, demand)
        bought.need_rps[v] += own + part * settings.over_provision
        if part > 0.0:
            buy_greedily(cat, settings, state, obs, n, c, v, bought.need_rps[v], True, lost, demand)
        return
    if kind == SPOTHEDGE and part > 0.0:
        bought.need_rps[v] += part * settings.over_provision
        on_spot = 0.0
        for p in range(demand.shape[1]):
            if cat.market[p] == SPOT:
                on_spot += demand[v, p]
        keep_survivors(settings, state, obs, n, c, v, bought.need_rps[v] - on_spot, demand)
        spread_over_zones(cat, settings, state, n, c, v, bought.need_rps[v], demand)
        own += _cover(cat, settings, obs, n, v, part, bought)
    else:
        own += place_on_spot(settings, state, obs, n, c, v, part, demand)
    if kind == MARK:
        bought.need_rps[v] += own
        buy_greedily(cat, settings, state, obs, n, c, v, bought.need_rps[v], False, lost, demand)
        return
    if kind == RIBBON:
        planned = own
        for k in range(min(settings.capacity_share.shape[0], demand.shape[1])):
            p = settings.pools[c, v, k]
            share = settings.capacity_share[k] * planned
            if p >= 0:
                own += fill(settings, v, p, room(settings, v, p, demand), share, demand) - share
    elif kind == INFAAS and not settings.adaptive_variant:
        p = state.choice[n, c] % demand.shape[1]
        own = fill(settings, v, p, room(settings, v, p, demand), own, demand)
    fill_in_order(settings, obs, n, c, v, own, demand)
