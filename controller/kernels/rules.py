"""Rival schemes as one compiled path: a demand that is the scheme's own, and levers that all share.

A scheme says how much capacity each class needs (`rival_demand`, `rival_autoscalers`) and by what rule it picks pools
(`rival_placing`, `rival_spot`); variants, spot, over-provision, on-demand floor and overflow follow its settings. With
a fixed variant every option is rounded up and cooled down by itself, as the schemes were published; with a mix of
variants replicas stand in for each other, so it is the demand that is held. Sources and readings are in
`controller.policies.rules` and its neighbours.
"""

from __future__ import annotations

import numpy as np

from controller.arrays import (
    F64,
    SPOT,
    CatalogArrays,
    ControlArrays,
    LimitArrays,
    ObservationArrays,
    PlanArrays,
    WorkloadArrays,
)
from controller.kernels.cascade import clear_cascade
from controller.kernels.compiled import inner, kernel
from controller.kernels.local import floats, integers
from controller.kernels.placing import class_slack
from controller.kernels.provision import probe_pools, rank_falling
from controller.kernels.rates import class_weights
from controller.kernels.rival_autoscalers import note_planned, scale_groups
from controller.kernels.rival_demand import burstiness, demand_of_class, hold_demand, utilisation
from controller.kernels.rival_placing import Bought, choose_option, class_mix, place
from controller.kernels.rival_pools import SLACK_REPLICAS
from controller.kernels.rival_spot import watch_spot
from controller.kernels.rounding import whole_replicas
from controller.kernels.spending import share_let_wait
from controller.plan import Reason
from controller.rival_arrays import (
    HPA,
    INFAAS,
    MARK,
    PARAGON,
    PARAGON_PLUS,
    RAY_SERVE,
    RIBBON,
    SPOTHEDGE,
    UTIL_AWARE,
    RivalArrays,
    RivalState,
)

ANY_PRICE = 1e9
"""Spread of prices within which every pool is tried again."""

_FOLLOW = int(Reason.FOLLOW_DEMAND)
_HOLD = int(Reason.HOLD_SCALE_IN)
_OVERFLOW = int(Reason.OVERFLOW)


@kernel
def _cool_down(state: RivalState, n: int, v: int, p: int, wanted: int, cooldown_ticks: int) -> bool:
    """Follows `wanted` up at once, and down to the most wanted since once it stayed below for `cooldown_ticks`.

    Returns:
        Whether more is held than wanted.
    """
    if wanted >= state.target[n, v, p]:
        state.target[n, v, p] = wanted
        state.calm_ticks[n, v, p] = 0
        state.wanted[n, v, p] = 0
        return False
    state.calm_ticks[n, v, p] += 1
    state.wanted[n, v, p] = max(state.wanted[n, v, p], wanted)
    if state.calm_ticks[n, v, p] >= cooldown_ticks:
        state.target[n, v, p] = state.wanted[n, v, p]
        state.calm_ticks[n, v, p] = 0
        state.wanted[n, v, p] = 0
    return state.target[n, v, p] > wanted


@inner
def _need(
    kind: int,
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    settings: RivalArrays,
    state: RivalState,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
    is_bursty: bool,
    need_rps: F64,
) -> None:
    """Writes the capacity that each class is planned, (C,) requests/s, and chooses its option where that is open."""
    num_classes = wl.share.shape[0]
    if kind in (RAY_SERVE, HPA, SPOTHEDGE):
        weights = floats(num_classes)
        class_weights(wl, obs, n, weights)
        scale_groups(kind, cat, wl, ctl, settings, state, obs, n, weights, need_rps)
        return
    cooldown_ticks = settings.cooldown_ticks
    if kind == MARK:
        if state.decisions[n] % settings.interval_ticks != 0:
            for c in range(num_classes):
                need_rps[c] = state.need_rps[n, c]
            return
        cooldown_ticks //= settings.interval_ticks
    for c in range(num_classes):
        need_rps[c] = demand_of_class(kind, cat, wl, ctl, settings, state, obs, n, c, is_bursty)
        before = state.need_rps[n, c]
        if settings.adaptive_variant or kind == INFAAS:
            if hold_demand(
                state.need_rps, state.need_calm_ticks, state.need_wanted_rps, n, c, need_rps[c], cooldown_ticks
            ):
                plan.reasons[n] |= _HOLD
            need_rps[c] = state.need_rps[n, c]
        elif kind == MARK:
            state.need_rps[n, c] = need_rps[c]
        if kind == INFAAS and (need_rps[c] != before or state.choice[n, c] < 0):
            state.choice[n, c] = choose_option(cat, wl, settings, state, n, c, need_rps[c])


@inner
def _round_each(
    kind: int,
    cat: CatalogArrays,
    ctl: ControlArrays,
    settings: RivalArrays,
    state: RivalState,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
    demand: F64,
) -> None:
    """Rounds every option up by itself and holds it for the cool-down; `util_aware` moves it outside its band only."""
    num_variants, num_pools = demand.shape
    for v in range(num_variants):
        for p in range(num_pools):
            rps = settings.rps[v, p]
            plan.replicas[n, v, p] = 0
            if rps <= 0.0 or (demand[v, p] <= 0.0 and state.target[n, v, p] <= 0):
                continue
            wanted = int(np.ceil(min(demand[v, p] / rps - SLACK_REPLICAS, 1e9)))
            if kind == UTIL_AWARE:
                busy = utilisation(cat, ctl, obs, n, v, p)
                if state.target[n, v, p] > 0 and settings.low_utilisation <= busy <= settings.high_utilisation:
                    wanted = state.target[n, v, p]
            cooldown_ticks = 0 if kind == INFAAS else settings.cooldown_ticks
            if _cool_down(state, n, v, p, max(0, wanted), cooldown_ticks):
                plan.reasons[n] |= _HOLD
            plan.replicas[n, v, p] = state.target[n, v, p]


@inner
def _route(
    kind: int,
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    settings: RivalArrays,
    state: RivalState,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
    c: int,
    is_bursty: bool,
) -> None:
    """Overflow of one class; the `paragon` schemes overflow while load is bursty, and relaxed classes wait first."""
    if settings.adaptive_variant:
        slack_s = class_slack(
            wl.allowed, cat.market, cat.service_s, wl.network_s, settings.batch_size, plan.replicas, wl.slo_s, n, c
        )
    else:
        v, p = settings.variant[c], settings.pools[c, settings.variant[c], 0]
        if kind == INFAAS:
            v, p = state.choice[n, c] // cat.market.shape[0], state.choice[n, c] % cat.market.shape[0]
        slack_s = max(0.0, wl.slo_s[c] - cat.service_s[v, p, max(1, plan.batch_size[n, v, p])] - wl.network_s[c, v, p])
    plan.overflow_after_s[n, c] = settings.overflow_slack * slack_s
    let_wait = share_let_wait(cat, wl, ctl, obs, n, c, settings.miss_budget, 0.0)
    plan.overflow_fraction[n, c] = settings.overflow_fraction * settings.class_overflow[c] * (1.0 - let_wait)
    if kind in (PARAGON, PARAGON_PLUS):
        if wl.slo_s[c] > settings.strict_slo_s:
            plan.overflow_after_s[n, c] = slack_s
        if not is_bursty:
            plan.overflow_fraction[n, c] = 0.0
    if plan.overflow_fraction[n, c] > 0.0:
        plan.reasons[n] |= _OVERFLOW
    plan.hedge_after_s[n, c] = np.inf
    clear_cascade(plan, n, c)
    plan.shed_limit[n, c] = wl.queue_limit[c]


@inner
def _keep_to_own(
    wl: WorkloadArrays, settings: RivalArrays, obs: ObservationArrays, plan: PlanArrays, n: int, c: int
) -> None:
    """Sends a class to the replicas of its fixed variant alone, by capacity, as a deployment of its own would."""
    _, num_variants, num_pools = wl.allowed.shape
    plan.fixed_shares[n] = True
    total = 0.0
    for v in range(num_variants):
        for p in range(num_pools):
            plan.shares[n, c, v, p] = 0.0
            if v == settings.variant[c] and wl.allowed[c, v, p]:
                plan.shares[n, c, v, p] = (obs.ready[n, v, p] + obs.doomed[n, v, p]) * settings.rps[v, p]
                total += plan.shares[n, c, v, p]
    for p in range(num_pools):
        if total > 0.0:
            plan.shares[n, c, settings.variant[c], p] /= total


@inner
def scheme_one(
    kind: int,
    cat: CatalogArrays,
    wl: WorkloadArrays,
    limits: LimitArrays,
    ctl: ControlArrays,
    settings: RivalArrays,
    state: RivalState,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
) -> None:
    """Writes env n's plan of the scheme `kind` (`controller.rival_arrays.SCHEMES`)."""
    num_classes, num_variants, num_pools = wl.allowed.shape
    plan.reasons[n] = _FOLLOW
    plan.fixed_shares[n] = False
    for v in range(num_variants):
        for p in range(num_pools):
            plan.batch_size[n, v, p] = settings.batch_size[v, p]
            plan.batch_wait_s[n, v, p] = 0.0
    is_paragon = kind in (PARAGON, PARAGON_PLUS)
    is_bursty = is_paragon and burstiness(obs, n, settings.window_ticks) > settings.burstiness
    lost = floats(num_pools)
    watch_spot(kind, cat, ctl, settings, state, obs, n, lost)
    need_rps = floats(num_classes)
    _need(kind, cat, wl, ctl, settings, state, obs, plan, n, is_bursty, need_rps)
    bought = Bought(floats(num_variants), floats(num_variants), floats(num_variants))
    demand = floats((num_variants, num_pools))
    mix = floats(num_variants)
    total = 0.0
    for c in range(num_classes):
        total += need_rps[c]
        class_mix(kind, cat, wl, ctl, settings, state, obs, n, c, need_rps, mix)
        for v in range(num_variants):
            if mix[v] > 0.0:
                place(kind, cat, settings, state, obs, n, c, v, mix[v] * need_rps[c], lost, bought, demand)
    if settings.adaptive_variant:
        ranked = integers(num_variants)
        rank_falling(cat.accuracy, ranked)
        whole_replicas(
            wl.allowed, settings.rps, settings.usd, cat.market, limits.pool_max, state.is_open, obs.ready, obs.starting,
            n, demand, settings.replica_band, ranked, plan.replicas,
        )  # fmt: skip
    else:
        _round_each(kind, cat, ctl, settings, state, obs, plan, n, demand)
    if kind not in (SPOTHEDGE, RIBBON):
        may_hold = integers(num_pools)
        for p in range(num_pools):
            may_hold[p] = 0 if cat.market[p] == SPOT and settings.spot_share <= 0.0 else limits.pool_max[p]
        probe_pools(
            wl.allowed, settings.rps, settings.usd, cat.market, may_hold, obs.available, n,
            state.is_open, ANY_PRICE, plan.replicas,
        )  # fmt: skip
    if kind in (RAY_SERVE, HPA):
        note_planned(cat, settings, state, n, plan.replicas)
    for c in range(num_classes):
        _route(kind, cat, wl, ctl, settings, state, obs, plan, n, c, is_bursty)
        if (kind in (RAY_SERVE, HPA)) and not settings.adaptive_variant:
            _keep_to_own(wl, settings, obs, plan, n, c)
    plan.need_rps[n] = total
    state.decisions[n] += 1


@kernel
def scheme(
    kind: int,
    cat: CatalogArrays,
    wl: WorkloadArrays,
    limits: LimitArrays,
    ctl: ControlArrays,
    settings: RivalArrays,
    state: RivalState,
    obs: ObservationArrays,
    plan: PlanArrays,
    lo: int,
    hi: int,
) -> None:
    """`scheme_one` for envs lo..hi-1."""
    for n in range(lo, hi):
        scheme_one(kind, cat, wl, limits, ctl, settings, state, obs, plan, n)
