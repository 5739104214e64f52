"""Published schemes: reactive, util_aware, exascale, mixed and paragon.

All plan a fixed variant per class on a fixed pool, with a part on spot if asked for, and differ in the demand they
plan for and in what they send to serverless. Sources and readings are in `controller.policies.rules`.
"""

from __future__ import annotations

import numpy as np

from controller.arrays import F64, CatalogArrays, ControlArrays, ObservationArrays, PlanArrays, WorkloadArrays
from controller.kernels.cascade import clear_cascade
from controller.kernels.compiled import inner, kernel
from controller.kernels.rates import history_sum, peak_rate, planned_rps
from controller.plan import Reason
from controller.rule_arrays import EXASCALE, MIXED, PARAGON, RATE_TICKS, UTIL_AWARE, RuleArrays, RuleState

_FOLLOW = int(Reason.FOLLOW_DEMAND)
_HOLD = int(Reason.HOLD_SCALE_IN)
_OVERFLOW = int(Reason.OVERFLOW)


@inner
def recent_rate(
    wl: WorkloadArrays, ctl: ControlArrays, obs: ObservationArrays, n: int, c: int, prior_rps: float
) -> float:
    """Rate of a class over the last minute, requests/s; ticks not seen yet count as the scenario's mean rate."""
    seen = min(RATE_TICKS, obs.tick[n], obs.history.shape[2])
    prior = prior_rps * wl.share[c] * (RATE_TICKS - seen)
    return (history_sum(obs, n, c, RATE_TICKS) / ctl.tick_s + prior) / RATE_TICKS


@inner
def line_forecast(
    ctl: ControlArrays, obs: ObservationArrays, n: int, c: int, window_ticks: int, ahead_ticks: int
) -> float:
    """Least-squares line through the last ticks read `ahead_ticks` ahead, requests/s; -1 with fewer than 3 ticks."""
    length = obs.history.shape[2]
    count = min(window_ticks, obs.tick[n], length)
    if count < 3:
        return -1.0
    middle = (count - 1) / 2.0
    total, moment, spread = 0.0, 0.0, 0.0
    for age in range(count):
        arrived = obs.history[n, c, (obs.tick[n] - 1 - age) % length]
        total += arrived
        moment += (middle - age) * arrived
        spread += (middle - age) * (middle - age)
    return (total / count + moment / spread * (middle + ahead_ticks)) / ctl.tick_s


@inner
def burstiness(obs: ObservationArrays, n: int, window_ticks: int) -> float:
    """Largest over median arrivals per tick, all classes, over the last `window_ticks`; 1 with fewer than 3 ticks."""
    length = obs.history.shape[2]
    count = min(window_ticks, obs.tick[n], length)
    if count < 3:
        return 1.0
    totals = np.zeros(count)
    for age in range(count):
        for c in range(obs.history.shape[1]):
            totals[age] += obs.history[n, c, (obs.tick[n] - 1 - age) % length]
    totals.sort()
    median = totals[count // 2]
    return totals[count - 1] / median if median > 0.0 else np.inf


@inner
def _utilisation(cat: CatalogArrays, ctl: ControlArrays, obs: ObservationArrays, n: int, v: int, p: int) -> float:
    """Busy share of an option's credits in the last window; 1 where it should serve and nothing does."""
    num_credits = (obs.ready[n, v, p] + obs.doomed[n, v, p]) * cat.concurrency[v, p]
    return obs.busy_s[n, v, p] / (num_credits * ctl.tick_s) if num_credits > 0 else 1.0


@kernel
def _cool_down(state: RuleState, n: int, v: int, p: int, wanted: int, cooldown_ticks: int) -> bool:
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
def _demand_of_class(
    kind: int,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    settings: RuleArrays,
    obs: ObservationArrays,
    n: int,
    c: int,
    is_bursty: bool,
) -> float:
    """Requests/s that the scheme plans capacity for, headroom included."""
    rate = recent_rate(wl, ctl, obs, n, c, settings.prior_rps)
    if kind == EXASCALE:
        ahead = line_forecast(ctl, obs, n, c, settings.window_ticks, settings.ahead_ticks)
        most = peak_rate(ctl, obs, n, c, settings.window_ticks)
        if ahead >= 0.0:
            rate = max(ahead, most)
    if kind == PARAGON and not is_bursty:
        return settings.headroom * settings.calm_headroom * rate
    if kind == UTIL_AWARE:
        return rate
    return settings.headroom * rate


@inner
def _route(
    kind: int,
    cat: CatalogArrays,
    wl: WorkloadArrays,
    settings: RuleArrays,
    plan: PlanArrays,
    n: int,
    c: int,
    is_bursty: bool,
) -> None:
    """Overflow of one class: none but for `mixed` (all) and `paragon` (while bursty; relaxed ones wait first)."""
    v, p = settings.variant[c], settings.pools[c, 0]
    taken_s = cat.service_s[v, p, max(1, plan.batch_size[n, v, p])] + wl.network_s[c, v, p]
    slack_s = max(0.0, wl.slo_s[c] - taken_s)
    plan.overflow_after_s[n, c] = settings.overflow_slack * slack_s
    plan.overflow_fraction[n, c] = 0.0
    if kind == MIXED:
        plan.overflow_fraction[n, c] = 1.0
    elif kind == PARAGON:
        if wl.slo_s[c] > settings.strict_slo_s:
            plan.overflow_after_s[n, c] = slack_s
        plan.overflow_fraction[n, c] = 1.0 if is_bursty else 0.0
    if plan.overflow_fraction[n, c] > 0.0:
        plan.reasons[n] |= _OVERFLOW
    plan.hedge_after_s[n, c] = np.inf
    clear_cascade(plan, n, c)
    plan.shed_limit[n, c] = wl.queue_limit[c]


@inner
def _fill(
    cat: CatalogArrays, settings: RuleArrays, plan: PlanArrays, n: int, v: int, p: int, rate: float, demand: F64
) -> float:
    """Adds demand to an option as far as its pool has room for whole replicas; returns what is left."""
    rps = planned_rps(cat, plan, n, v, p)
    if rps <= 0.0 or rate <= 0.0:
        return rate
    room = float(settings.pool_max[p])
    for other in range(demand.shape[0]):
        other_rps = planned_rps(cat, plan, n, other, p)
        if other != v and other_rps > 0.0:
            room -= np.ceil(demand[other, p] / other_rps - 1e-6)
    taken = min(rate, max(0.0, room * rps - demand[v, p]))
    demand[v, p] += taken
    return rate - taken


@inner
def scheme_one(
    kind: int,
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    settings: RuleArrays,
    state: RuleState,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
) -> None:
    """Writes env n's plan of the scheme `kind` (`controller.rule_arrays.SCHEMES`)."""
    num_classes, num_variants, num_pools = wl.allowed.shape
    plan.reasons[n] = _FOLLOW
    plan.fixed_shares[n] = False
    for v in range(num_variants):
        for p in range(num_pools):
            plan.batch_size[n, v, p] = settings.batch_size[v, p]
            plan.batch_wait_s[n, v, p] = 0.0
    is_bursty = kind == PARAGON and burstiness(obs, n, settings.window_ticks) > settings.burstiness
    demand = np.zeros((num_variants, num_pools))
    total = 0.0
    for c in range(num_classes):
        v = settings.variant[c]
        rate = _demand_of_class(kind, wl, ctl, settings, obs, n, c, is_bursty)
        total += rate
        left = settings.spot_share * rate
        for i in range(num_pools):
            p = settings.spot_pools[c, i]
            if p >= 0 and obs.available[n, p]:
                left = _fill(cat, settings, plan, n, v, p, left, demand)
        left += (1.0 - settings.spot_share) * rate
        for i in range(num_pools):
            p = settings.pools[c, i]
            if p >= 0:
                left = _fill(cat, settings, plan, n, v, p, left, demand)
        _route(kind, cat, wl, settings, plan, n, c, is_bursty)
    for v in range(num_variants):
        for p in range(num_pools):
            rps = planned_rps(cat, plan, n, v, p)
            plan.replicas[n, v, p] = 0
            if rps <= 0.0 or (demand[v, p] <= 0.0 and state.target[n, v, p] <= 0):
                continue
            wanted = int(np.ceil(min(demand[v, p] / rps - 1e-6, 1e9)))
            if kind == UTIL_AWARE:
                busy = _utilisation(cat, ctl, obs, n, v, p)
                wanted = state.target[n, v, p]
                if wanted <= 0 or busy > settings.high_utilisation or busy < settings.low_utilisation:
                    wanted = int(np.ceil(min(demand[v, p] / (settings.target_utilisation * rps) - 1e-6, 1e9)))
            if _cool_down(state, n, v, p, max(0, wanted), settings.cooldown_ticks):
                plan.reasons[n] |= _HOLD
            plan.replicas[n, v, p] = state.target[n, v, p]
    plan.need_rps[n] = total


@kernel
def scheme(
    kind: int,
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    settings: RuleArrays,
    state: RuleState,
    obs: ObservationArrays,
    plan: PlanArrays,
    lo: int,
    hi: int,
) -> None:
    """`scheme_one` for envs lo..hi-1."""
    for n in range(lo, hi):
        scheme_one(kind, cat, wl, ctl, settings, state, obs, plan, n)
