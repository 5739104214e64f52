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
from controller.kernels.compiled import inner, kernel, merged
from controller.kernels.filling import fill_pools, whole_prices
from controller.kernels.forecast import NUM_INPUTS, forecast_one, told_rate
from controller.kernels.local import floats
from controller.kernels.placing import place_one
from controller.kernels.provision import accuracy_price, cheapest_mix, open_pools, size_for_mean, weakest_from
from controller.kernels.quantiles import quantile_at
from controller.kernels.rates import FLOOR_MARGIN, class_weights, mean_rate
from controller.kernels.spending import share_let_wait
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
"""A fraction nearer than this to 0 or 1 is shifted as one this far from it, so that its knob has an effect."""

ALONE_OVER_PROVISION = 1.3
"""Least over-provision of spot for a class that serverless cannot answer: what a preemption takes comes back late."""

LEAST_LEFT_S = 60.0
"""An accuracy debt near the end of the day is spread over at least this long."""

RESERVE = 0.8
"""A debt above this share of what `repaying_accuracy` could repay by the end of the day is repaid at that accuracy."""

LEAST_RISE = 0.25
"""A variant repays a debt if it is above the floor by at least this share of what the most accurate one is.

One nearer would hardly repay anything, and one beyond the next costs many times as much: on a GPU, bought to the quota
in the last hour, it drove out the machines that had kept the floor.
"""

_FOLLOW = int(Reason.FOLLOW_DEMAND)
_DEBT = int(Reason.ACCURACY_DEBT)
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
    """A fraction moved by `log_odds`; exactly itself for a shift of 0, and near itself for one near 0.

    One at an edge moves by as much as one next to it would, so that a policy that hardly says anything is hardly
    anything but the rule: a share of spot that falls by a fiftieth at once buys a whole machine on demand.
    """
    if log_odds == 0.0:
        return fraction
    inner = min(1.0 - EDGE, max(EDGE, fraction))
    moved = 1.0 / (1.0 + (1.0 - inner) / inner * np.exp(-log_odds))
    return moved if inner == fraction else min(1.0, max(0.0, fraction + (moved - inner)))


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


@kernel
def repaying_accuracy(allowed: Bool, market: I64, accuracy: F64, floor: F64, c: int, most: float) -> float:
    """Accuracy of the least accurate variant on machines that is `LEAST_RISE` above a class's floor; else `most`.

    Args:
        allowed: (C, V, P).
        market: (P,).
        accuracy: (V,).
        floor: (C,).
        c: Class.
        most: Accuracy of its most accurate variant.
    """
    return weakest_from(allowed, market, accuracy, c, floor[c] + LEAST_RISE * (most - floor[c]), most)


@inner
def needed_accuracy(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    obs: ObservationArrays,
    n: int,
    c: int,
    rps: float,
    margin: float,
    repay_s: float,
    most: float,
) -> float:
    """Mean accuracy that a class's answers need from now on to keep its floor on the day's mean, and `margin` more.

    The debt so far is spread over `repay_s`, or over what is left of the day where that is less. A debt that the next
    variant well above the floor could only just repay by the end of the day asks for that variant at once, and none
    asks for more. The debt is that towards just above the floor, which the split of traffic keeps: a margin that was
    owed as well would be owed for ever.
    """
    wanted = wl.accuracy_floor[c] + margin
    answered = float(obs.day_answered[n, c])
    debt = (wl.accuracy_floor[c] + FLOOR_MARGIN) * answered - obs.day_accuracy_sum[n, c]
    if not (debt > -1e18 and debt < 1e18) or answered <= 0.0:
        return wanted
    elapsed_s = obs.time_s[n] % ctl.day_s
    left_s = max(ctl.day_s - elapsed_s, LEAST_LEFT_S)
    per_s = max(answered / elapsed_s if elapsed_s > 0.0 else rps, 1e-9)
    needed = wanted + debt / (per_s * min(left_s, max(repay_s, LEAST_LEFT_S)))
    if debt <= 0.0:
        return needed
    repaying = max(wanted, repaying_accuracy(wl.allowed, cat.market, cat.accuracy, wl.accuracy_floor, c, most))
    return repaying if debt > RESERVE * (repaying - wanted) * per_s * left_s else min(needed, repaying)


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


@inner
def overflow_and_hold(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    settings: MpcArrays,
    knobs: F64,
    dial: F64,
    obs: ObservationArrays,
    n: int,
    fraction: F64,
) -> float:
    """Writes each class's share of long waits that goes to serverless, (C,); returns the scale-in time constant, s."""
    value_of_miss = dial_log_odds(dial, n)
    log_odds = LOGIT * knob(knobs, n, OVERFLOW_FRACTION) + value_of_miss
    for c in range(fraction.shape[0]):
        let_wait = share_let_wait(cat, wl, ctl, obs, n, c, settings.miss_budget, value_of_miss)
        fraction[c] = shifted(settings.overflow_fraction[c], log_odds) * (1.0 - let_wait)
    return scaled(settings.scale_in_s, SLOW_FACTOR * knob(knobs, n, SCALE_IN))


@merged
def propose_one(
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
    usd: F64,
    weights: F64,
    capacity: F64,
) -> tuple[float, float]:
    """Writes what the rule would buy for env n before it is rounded to machines, and what batches its plan has.

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
        plan: Plan; reasons, batches and shares are written.
        n: Env.
        usd: (V, P) $ per request that options are chosen by: those of the settings, or others in their place.
        weights: (C,) share of each class in the demand, written.
        capacity: (V, P) requests/s wanted of each option, zeros before, written.

    Returns:
        The rate now and the capacity that is needed in all, requests/s.
    """
    num_classes, num_variants, num_pools = wl.allowed.shape
    value_of_miss = dial_log_odds(dial, n)
    turned = scaled(1.0, FACTOR * knob(knobs, n, HEADROOM))
    spot_share = shifted(settings.spot_share, LOGIT * knob(knobs, n, SPOT_SHARE))
    over_provision = max(1.0, scaled(settings.over_provision, OVER_FACTOR * knob(knobs, n, OVER_PROVISION)))
    base_part = shifted(settings.on_demand_floor, LOGIT * knob(knobs, n, ON_DEMAND_SHARE))
    tilt = settings.accuracy_tilt * knob(knobs, n, ACCURACY_TILT)

    plan.reasons[n] = _FOLLOW
    plan.fixed_shares[n] = False
    for v in range(num_variants):
        for p in range(num_pools):
            plan.batch_size[n, v, p] = settings.batch_size[v, p]
            plan.batch_wait_s[n, v, p] = 0.0
    rps = forecast_one(ctl, forecast, obs, n, settings.prior_rps, floats(NUM_INPUTS), state.growth[n])
    rps = told_rate(state.told, n, rps, state.growth[n])
    log_odds = np.log(settings.quantile / (1.0 - settings.quantile)) + value_of_miss
    grown = rps * np.exp(min(5.0, quantile_at(forecast.levels, state.growth[n], log_odds)))
    class_weights(wl, obs, n, weights)

    is_open = state.is_open
    open_pools(obs.available, obs.ready, n, state.trusted, is_open)
    cost = floats(num_variants)
    mix = floats(num_variants)
    used, taken = floats(num_pools), floats(num_pools)
    total_rps, need = 0.0, floats(num_classes)
    for c in range(num_classes):
        demand_rps = weights[c] * grown + wl.spare_rps[c]
        need[c] = demand_rps * settings.headroom[c] * turned + max(0, obs.waiting[n, c]) / settings.backlog_s
        planned_rps = state.need_rps[n, c]
        need[c] = held(
            planned_rps, need[c], planned_rps * (1.0 - settings.need_band), need[c] * (1.0 + 0.5 * settings.need_band)
        )
        state.need_rps[n, c] = need[c]
        total_rps += need[c]
    prices, filled_rps = floats((num_variants, num_pools)), floats(num_variants)
    for c in range(num_classes):
        whole_prices(usd, settings.rps, settings.near_floor, need, c, prices, filled_rps)
        least, most = accuracy_span(wl.allowed, cat.market, cat.accuracy, c)
        target = needed_accuracy(
            cat, wl, ctl, obs, n, c, weights[c] * rps, settings.accuracy_margin, settings.repay_s, most
        )
        if target > wl.accuracy_floor[c] + 2.0 * settings.accuracy_margin + 1e-9:
            plan.reasons[n] |= _DEBT
        if target < most:
            target = target + tilt * settings.tilt_weight[c] * (most - least)
        aimed = state.target_accuracy[n, c]
        repaying = repaying_accuracy(wl.allowed, cat.market, cat.accuracy, wl.accuracy_floor, c, most)
        if target != repaying:  # a variant that repays is asked for itself; half a band more would be a dearer one
            target = held(aimed, target, aimed - settings.accuracy_band, target + 0.5 * settings.accuracy_band)
        target = min(most, max(least, target))
        state.target_accuracy[n, c] = target
        covered = over_provision if wl.spare_rps[c] <= 0.0 else max(over_provision, ALONE_OVER_PROVISION)
        has_machines = False
        for v in range(num_variants):
            cost[v], _ = fill_pools(
                wl.allowed, cat.market, prices, filled_rps, settings.rps, limits.pool_max, is_open, n, c, v, need[c],
                base_part, spot_share, covered, settings.spot_spread, used, taken,
            )  # fmt: skip
            has_machines = has_machines or cost[v] < np.inf
        state.accuracy_usd[n, c] = accuracy_price(cat.accuracy, cost, wl.accuracy_floor[c], mix)
        if has_machines:
            cheapest_mix(cat.accuracy, cost, target, mix)
            steady_rps = mean_rate(ctl, obs, n, c, settings.steady_s)
            if steady_rps >= 0.0:
                size_for_mean(cat.accuracy, mix, steady_rps / max(need[c], 1e-9))
            for v in range(num_variants):
                if mix[v] > 0.0:
                    _, is_blocked = fill_pools(
                        wl.allowed, cat.market, prices, filled_rps, settings.rps, limits.pool_max, is_open, n, c, v,
                        mix[v] * need[c], base_part, spot_share, covered, settings.spot_spread, used, taken,
                    )  # fmt: skip
                    for p in range(num_pools):
                        if taken[p] > 0.0:
                            capacity[v, p] += taken[p]
                            used[p] += np.ceil(taken[p] / settings.rps[v, p] - 1e-6)  # no machine runs two variants
                    if is_blocked:
                        plan.reasons[n] |= _UNAVAILABLE
    return rps, total_rps


@inner
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
    """Writes env n's plan; arguments as of `propose_one`."""
    weights, capacity = floats(wl.share.shape[0]), floats(cat.usable.shape)
    rps, total_rps = propose_one(
        cat, wl, limits, ctl, settings, forecast, knobs, dial, state, obs, plan, n, settings.usd, weights, capacity
    )
    fraction = floats(wl.share.shape[0])
    scale_in_s = overflow_and_hold(cat, wl, ctl, settings, knobs, dial, obs, n, fraction)
    place_one(
        cat, wl, limits, ctl, settings, state, obs, plan, n, capacity, weights, rps, total_rps, fraction, scale_in_s
    )


@kernel
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
