"""The strong rule: capacity for a quantile of the largest demand to come, as accurate as is owed, for least money.

Knobs and the dial move the rule's settings; at zero (knobs) and one (dial) they leave them untouched, bit for bit.
"""

from __future__ import annotations

import numpy as np

from controller.arrays import (
    F64,
    I64,
    SERVERLESS,
    Bool,
    CatalogArrays,
    ControlArrays,
    LimitArrays,
    ObservationArrays,
    PlanArrays,
    WorkloadArrays,
)
from controller.kernels.cascade import clear_cascade
from controller.kernels.compiled import allocating, allocating_inner, inner, kernel
from controller.kernels.filling import fill_pools, whole_prices
from controller.kernels.forecast import NUM_INPUTS, forecast_one, told_rate
from controller.kernels.provision import (
    cheapest_mix,
    hold_machines,
    open_pools,
    probe_pools,
    rank_variants,
    whole_replicas,
)
from controller.kernels.quantiles import quantile_at
from controller.kernels.rates import FLOOR_MARGIN, class_weights
from controller.plan import Reason
from controller.rule_arrays import (
    ACCURACY_TILT,
    HEADROOM,
    ON_DEMAND_SHARE,
    OVER_PROVISION,
    OVERFLOW_FRACTION,
    SCALE_IN,
    SPOT_SHARE,
    ForecastArrays,
    MpcArrays,
    MpcState,
)

FACTOR = 0.7
"""A knob a multiplies a setting by exp(FACTOR a): 0.5 to 2."""

SLOW_FACTOR = 1.4
"""The same for the time constant of scale-in: 0.25 to 4."""

OVER_FACTOR = 0.35
"""The same for over-provision: 0.7 to 1.4, never below 1 in all."""

LOGIT = 2.5
"""A knob a shifts a fraction by LOGIT a in log-odds."""

EDGE = 0.02
"""A fraction at 0 or 1 is moved in by this before a shift, so that its knob has an effect."""

LEAST_LEFT_S = 60.0
"""An accuracy debt near the end of the day is spread over at least this long."""

RESERVE = 0.5
"""A debt above this share of what the best variant could repay by the end of the day is repaid at full accuracy."""

_FOLLOW = int(Reason.FOLLOW_DEMAND)
_PREEMPTION = int(Reason.COVER_PREEMPTION)
_HOLD = int(Reason.HOLD_SCALE_IN)
_DEBT = int(Reason.ACCURACY_DEBT)
_OVERFLOW = int(Reason.OVERFLOW)
_UNAVAILABLE = int(Reason.POOL_UNAVAILABLE)


@kernel
def knob(knobs: F64, n: int, k: int) -> float:
    """One knob, clipped to [-1, 1]; 0 for NaN."""
    value = knobs[n, k]
    if value != value:
        return 0.0
    return min(1.0, max(-1.0, value))


@kernel
def shifted(fraction: float, log_odds: float) -> float:
    """A fraction moved by `log_odds`; exactly itself for a shift of 0."""
    if log_odds == 0.0:
        return fraction
    inner = min(1.0 - EDGE, max(EDGE, fraction))
    return 1.0 / (1.0 + (1.0 - inner) / inner * np.exp(-log_odds))


@kernel
def scaled(value: float, exponent: float) -> float:
    """A value times exp(exponent); exactly itself for an exponent of 0."""
    if exponent == 0.0:
        return value
    return value * np.exp(exponent)


@kernel
def dial_log_odds(dial: F64, n: int) -> float:
    """Log of how many times a miss is worth its usual value, within +-5; 0 for anything that is no positive number."""
    if not (dial[n] > 0.0 and dial[n] < np.inf) or dial[n] == 1.0:
        return 0.0
    return min(5.0, max(-5.0, np.log(dial[n])))


@inner
def needed_accuracy(
    wl: WorkloadArrays,
    ctl: ControlArrays,
    obs: ObservationArrays,
    n: int,
    c: int,
    rps: float,
    margin: float,
    repay_s: float,
    best: float,
) -> float:
    """Mean accuracy that a class's answers need from now on to keep its floor on the day's mean, and `margin` more.

    The debt so far is spread over `repay_s`, or over what is left of the day where that is less. A debt that the best
    variant could only just repay by the end of the day asks for the best variant at once. The debt is that towards
    just above the floor, which the split of traffic keeps: a margin that was owed as well would be owed for ever.
    """
    wanted = wl.accuracy_floor[c] + margin
    answered = float(obs.day_answered[n, c])
    debt = (wl.accuracy_floor[c] + FLOOR_MARGIN) * answered - obs.day_accuracy_sum[n, c]
    if not (debt > -1e18 and debt < 1e18) or answered <= 0.0:
        return wanted
    elapsed_s = obs.time_s[n] % ctl.day_s
    left_s = max(ctl.day_s - elapsed_s, LEAST_LEFT_S)
    per_s = max(answered / elapsed_s if elapsed_s > 0.0 else rps, 1e-9)
    if debt > RESERVE * max(best - wanted, 0.0) * per_s * left_s:
        return max(wanted, best)
    return wanted + debt / (per_s * min(left_s, max(repay_s, LEAST_LEFT_S)))


@kernel
def held(before: float, wanted: float, lowest: float, chosen: float) -> float:
    """What was planned for `before`, where it covers `wanted` and is no higher than `lowest` allows; else `chosen`.

    Args:
        before: What the last plan was made for.
        wanted: What is needed now.
        lowest: The least need that `before` is still held for.
        chosen: What to plan for where it is not held: `wanted` and half the band.
    """
    return before if lowest <= wanted <= before else chosen


@kernel
def accuracy_span(allowed: Bool, market: I64, accuracy: F64, c: int) -> tuple[float, float]:
    """Accuracy of the least and most accurate variant that a class may use on a machine, or on anything without one."""
    for machines_only in (True, False):
        least, most = np.inf, -np.inf
        for v in range(accuracy.shape[0]):
            for p in range(market.shape[0]):
                if allowed[c, v, p] and (market[p] != SERVERLESS or not machines_only):
                    least = min(least, accuracy[v])
                    most = max(most, accuracy[v])
                    break
        if most > -np.inf:
            return least, most
    return 0.0, 0.0


@kernel
def class_slack(
    allowed: Bool,
    market: I64,
    service_s: F64,
    network_s: F64,
    batch_size: I64,
    replicas: I64,
    slo_s: F64,
    n: int,
    c: int,
) -> float:
    """Seconds that a request may wait: its SLO less the slowest service among the planned machine options.

    Where none is planned, the fastest option that the class may use counts.
    """
    slowest_s, fastest_s = -1.0, np.inf
    for v in range(allowed.shape[1]):
        for p in range(allowed.shape[2]):
            if not allowed[c, v, p]:
                continue
            taken_s = service_s[v, p, batch_size[v, p]] + network_s[c, v, p]
            fastest_s = min(fastest_s, taken_s)
            if replicas[n, v, p] > 0 and market[p] != SERVERLESS:
                slowest_s = max(slowest_s, taken_s)
    taken_s = slowest_s if slowest_s >= 0.0 else fastest_s
    return max(0.0, slo_s[c] - taken_s) if taken_s < np.inf else 0.0


@kernel
def serving_rps(market: I64, ready: I64, doomed: I64, rps: F64, n: int) -> float:
    """Capacity of the machines that serve, those under notice included, requests/s."""
    total = 0.0
    for v in range(rps.shape[0]):
        for p in range(rps.shape[1]):
            if market[p] != SERVERLESS:
                total += (ready[n, v, p] + doomed[n, v, p]) * rps[v, p]
    return total


@allocating_inner
def mpc_one(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    limits: LimitArrays,
    ctl: ControlArrays,
    settings: MpcArrays,
    forecast: ForecastArrays,
    knobs: F64,
    dial: F64,
    state: MpcState,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
) -> None:
    """Writes env n's plan.

    Args:
        cat: Catalog.
        wl: Workload.
        limits: Limits; only pool maxima matter here, the guard enforces all.
        ctl: Control spans.
        settings: The rule's settings.
        forecast: Forecaster.
        knobs: (N, K) in [-1, 1]; zeros leave the rule as it is.
        dial: (N,) value of a miss relative to the rule's own; 1 leaves it as it is.
        state: State of the rule, updated.
        obs: Observation.
        plan: Plan, written.
        n: Env.
    """
    num_classes, num_variants, num_pools = wl.allowed.shape
    value_of_miss = dial_log_odds(dial, n)
    headroom = scaled(settings.headroom, FACTOR * knob(knobs, n, HEADROOM))
    spot_share = shifted(settings.spot_share, LOGIT * knob(knobs, n, SPOT_SHARE))
    over_provision = max(1.0, scaled(settings.over_provision, OVER_FACTOR * knob(knobs, n, OVER_PROVISION)))
    base_part = shifted(settings.on_demand_floor, LOGIT * knob(knobs, n, ON_DEMAND_SHARE))
    fraction = shifted(settings.overflow_fraction, LOGIT * knob(knobs, n, OVERFLOW_FRACTION) + value_of_miss)
    scale_in_s = scaled(settings.scale_in_s, SLOW_FACTOR * knob(knobs, n, SCALE_IN))
    tilt = settings.accuracy_tilt * knob(knobs, n, ACCURACY_TILT)

    plan.reasons[n] = _FOLLOW
    plan.fixed_shares[n] = False
    for v in range(num_variants):
        for p in range(num_pools):
            plan.batch_size[n, v, p] = settings.batch_size[v, p]
            plan.batch_wait_s[n, v, p] = 0.0
    rps = forecast_one(ctl, forecast, obs, n, settings.prior_rps, np.empty(NUM_INPUTS), state.growth[n])
    rps = told_rate(state.told, n, rps, state.growth[n])
    log_odds = np.log(settings.quantile / (1.0 - settings.quantile)) + value_of_miss
    grown = rps * np.exp(min(5.0, quantile_at(forecast.levels, state.growth[n], log_odds)))
    weights = np.empty(num_classes)
    class_weights(wl, obs, n, weights)

    is_open = state.is_open
    open_pools(obs.available, obs.ready, n, state.trusted, is_open)
    capacity = np.zeros((num_variants, num_pools))
    cost = np.empty(num_variants)
    mix = np.empty(num_variants)
    used, taken = np.zeros(num_pools), np.empty(num_pools)
    total_rps, need = 0.0, np.empty(num_classes)
    for c in range(num_classes):
        need[c] = weights[c] * grown * headroom + max(0, obs.waiting[n, c]) / settings.backlog_s
        planned_rps = state.need_rps[n, c]
        need[c] = held(
            planned_rps, need[c], planned_rps * (1.0 - settings.need_band), need[c] * (1.0 + 0.5 * settings.need_band)
        )
        state.need_rps[n, c] = need[c]
        total_rps += need[c]
    prices = np.empty((num_variants, num_pools))
    for c in range(num_classes):
        whole_prices(settings.usd, settings.rps, settings.near_floor, need, c, prices)
        least, most = accuracy_span(wl.allowed, cat.market, cat.accuracy, c)
        target = needed_accuracy(wl, ctl, obs, n, c, weights[c] * rps, settings.accuracy_margin, settings.repay_s, most)
        if target > wl.accuracy_floor[c] + 2.0 * settings.accuracy_margin + 1e-9:
            plan.reasons[n] |= _DEBT
        if target < most:
            target = target + tilt * (most - least)
        aimed = state.target_accuracy[n, c]
        target = held(aimed, target, aimed - settings.accuracy_band, target + 0.5 * settings.accuracy_band)
        target = min(most, max(least, target))
        state.target_accuracy[n, c] = target
        has_machines = False
        for v in range(num_variants):
            cost[v], _ = fill_pools(
                wl.allowed, cat.market, prices, settings.rps, limits.pool_max, is_open, n, c, v, need[c],
                base_part, spot_share, over_provision, settings.spot_spread, used, taken,
            )  # fmt: skip
            has_machines = has_machines or cost[v] < np.inf
        if has_machines:
            cheapest_mix(cat.accuracy, cost, target, mix)
            for v in range(num_variants):
                if mix[v] > 0.0:
                    _, is_blocked = fill_pools(
                        wl.allowed, cat.market, prices, settings.rps, limits.pool_max, is_open, n, c, v,
                        mix[v] * need[c], base_part, spot_share, over_provision, settings.spot_spread, used, taken,
                    )  # fmt: skip
                    for p in range(num_pools):
                        if taken[p] > 0.0:
                            capacity[v, p] += taken[p]
                            used[p] += np.ceil(taken[p] / settings.rps[v, p] - 1e-6)  # no machine runs two variants
                    if is_blocked:
                        plan.reasons[n] |= _UNAVAILABLE
    ranked = np.empty(num_variants, np.int64)
    rank_variants(cat.accuracy, ranked)
    whole_replicas(
        wl.allowed, settings.rps, cat.market, limits.pool_max, is_open, obs.ready, obs.starting, n,
        capacity, ranked, plan.replicas,
    )  # fmt: skip
    probe_pools(
        wl.allowed, settings.rps, settings.usd, cat.market, limits.pool_max, obs.available, n,
        is_open, settings.spot_spread, plan.replicas,
    )  # fmt: skip
    keep = np.exp(-ctl.tick_s / scale_in_s) if scale_in_s > 0.0 else 0.0
    if hold_machines(cat.market, obs.ready, obs.starting, n, keep, state.held, ranked, plan.replicas):
        plan.reasons[n] |= _HOLD
    plan.need_rps[n] = total_rps
    ready_rps = serving_rps(cat.market, obs.ready, obs.doomed, settings.rps, n)
    for c in range(num_classes):
        slack_s = class_slack(
            wl.allowed, cat.market, cat.service_s, wl.network_s, settings.batch_size, plan.replicas, wl.slo_s, n, c
        )
        plan.overflow_after_s[n, c] = settings.overflow_slack * slack_s
        plan.overflow_fraction[n, c] = fraction
        plan.hedge_after_s[n, c] = np.inf
        clear_cascade(plan, n, c)
        room = settings.shed_slack * slack_s * weights[c] * max(ready_rps, rps)
        plan.shed_limit[n, c] = max(1, int(min(np.ceil(room), 1e9)))
    for p in range(num_pools):
        for v in range(num_variants):
            if obs.doomed[n, v, p] > 0:
                plan.reasons[n] |= _PREEMPTION
    if fraction > 0.0 and ready_rps < rps:
        plan.reasons[n] |= _OVERFLOW


@allocating
def mpc(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    limits: LimitArrays,
    ctl: ControlArrays,
    settings: MpcArrays,
    forecast: ForecastArrays,
    knobs: F64,
    dial: F64,
    state: MpcState,
    obs: ObservationArrays,
    plan: PlanArrays,
    lo: int,
    hi: int,
) -> None:
    """`mpc_one` for envs lo..hi-1."""
    for n in range(lo, hi):
        mpc_one(cat, wl, limits, ctl, settings, forecast, knobs, dial, state, obs, plan, n)
