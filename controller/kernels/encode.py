"""Encodes an observation for a policy, field by field as `controller.observation` declares them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from controller.arrays import (
    F64,
    ON_DEMAND,
    SERVERLESS,
    SERVERLESS_USE,
    SPOT,
    CatalogArrays,
    ControlArrays,
    ObservationArrays,
    PlanArrays,
    WorkloadArrays,
)
from controller.kernels.compiled import inner, kernel
from controller.kernels.forecast import NUM_FEATURES, NUM_INPUTS, forecast_one
from controller.kernels.local import floats
from controller.kernels.mpc import accuracy_span, dial_log_odds, knob, needed_accuracy
from controller.kernels.quantiles import quantile_at
from controller.kernels.rates import class_weights, planned_rps
from controller.rule_arrays import NUM_KNOBS, ForecastArrays, MpcArrays, MpcState

CLIP = 5.0
LEAST_SHARE = 0.01
"""Ratios to the rate now use at least this share of the scenario's mean rate, so silence gives finite ones."""

F32 = NDArray[np.float32]


@kernel
def _put(out: F32, n: int, at: int, value: float) -> int:
    """Writes one number, clipped, 0 for NaN; returns the next place."""
    out[n, at] = 0.0 if value != value else min(CLIP, max(-CLIP, value))
    return at + 1


@kernel
def _log(ratio: float) -> float:
    """Log of a ratio, from -5 for nothing."""
    return np.log(max(ratio, 0.00673794699))


@kernel
def _ratio(part: float, whole: float) -> float:
    """The ratio of a part to a whole, 0 where the whole is nothing."""
    return part / whole if whole > 0.0 else 0.0


@inner
def _put_demand(
    ctl: ControlArrays,
    settings: MpcArrays,
    forecast: ForecastArrays,
    obs: ObservationArrays,
    n: int,
    growth: F64,
    out: F32,
) -> tuple[int, float, float]:
    """Writes arrivals, level and growth; returns the next place, the rate now and the rule's own growth factor."""
    inputs = floats(NUM_INPUTS)
    rps = forecast_one(ctl, forecast, obs, n, settings.prior_rps, inputs, growth)
    at = 0
    for i in range(NUM_FEATURES):
        at = _put(out, n, at, inputs[i])
    at = _put(out, n, at, _log(_ratio(rps, settings.prior_rps)))
    for level in (0.5, 0.8, 0.95, 0.99):
        at = _put(out, n, at, 2.0 * quantile_at(forecast.levels, growth, np.log(level / (1.0 - level))))
    own = quantile_at(forecast.levels, growth, np.log(settings.quantile / (1.0 - settings.quantile)))
    at = _put(out, n, at, 2.0 * own)
    return at, max(rps, LEAST_SHARE * settings.prior_rps, 1e-9), np.exp(min(5.0, own))


@inner
def _put_promises(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    settings: MpcArrays,
    obs: ObservationArrays,
    n: int,
    rps: float,
    weights: F64,
    at: int,
    out: F32,
) -> tuple[int, float]:
    """Writes misses to floor height; returns the next place and what the untouched rule aims at above the floors."""
    num_classes = wl.share.shape[0]
    worst = floats(6)
    worst[:] = -np.inf
    mean = floats(6)
    arrived, shed, answered, served, height = 0.0, 0.0, 0.0, 0.0, 0.0
    tightest, slack_mean = np.inf, 0.0
    for c in range(num_classes):
        least, most = accuracy_span(wl.allowed, cat.market, cat.accuracy, c)
        span = max(most - least, 1e-3)
        fastest = np.inf
        for v in range(cat.usable.shape[0]):
            for p in range(cat.usable.shape[1]):
                if wl.allowed[c, v, p]:
                    fastest = min(fastest, cat.service_s[v, p, 1] + wl.network_s[c, v, p])
        slack = 1.0 - fastest / wl.slo_s[c]
        tightest = min(tightest, slack)
        slack_mean += wl.share[c] * slack
        height += wl.share[c] * (wl.accuracy_floor[c] - least) / span
        arrived += obs.arrivals[n, c]
        shed += obs.shed[n, c]
        answered += obs.answered[n, c]
        served += (obs.accuracy_sum[n, c] - wl.accuracy_floor[c] * obs.answered[n, c]) / span
        rate = weights[c] * rps
        needed = needed_accuracy(cat, wl, ctl, obs, n, c, rate, settings.accuracy_margin, settings.repay_s, most)
        needed = min(most, max(least, needed))
        debt = 0.0
        if obs.day_answered[n, c] > 0:
            debt = wl.accuracy_floor[c] - obs.day_accuracy_sum[n, c] / obs.day_answered[n, c]
        allowed_misses = obs.day_arrivals[n, c] * (1.0 - wl.attainment_target[c])
        numbers = (
            _ratio(float(obs.missed[n, c]), max(float(obs.arrivals[n, c]), 1.0)),
            _ratio(float(obs.day_missed[n, c]), max(allowed_misses, 1.0)) - 1.0,
            _ratio(float(obs.waiting[n, c]), max(rate * wl.slo_s[c], 1.0)),
            (needed - wl.accuracy_floor[c]) / span,
            debt / span,
            0.0,
        )
        for i in range(6):
            worst[i] = max(worst[i], numbers[i])
            mean[i] += weights[c] * numbers[i]
    at = _put(out, n, at, 5.0 * worst[0])
    at = _put(out, n, at, 5.0 * mean[0])
    at = _put(out, n, at, 0.5 * worst[1])
    at = _put(out, n, at, 0.5 * mean[1])
    at = _put(out, n, at, worst[2])
    at = _put(out, n, at, mean[2])
    at = _put(out, n, at, 5.0 * _ratio(shed, arrived))
    at = _put(out, n, at, tightest)
    at = _put(out, n, at, slack_mean)
    at = _put(out, n, at, 2.0 * worst[3])
    at = _put(out, n, at, 2.0 * mean[3])
    at = _put(out, n, at, 5.0 * worst[4])
    at = _put(out, n, at, 5.0 * mean[4])
    at = _put(out, n, at, _ratio(served, answered))
    at = _put(out, n, at, height)
    return at, mean[3]


@inner
def _put_capacity(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
    rps: float,
    at: int,
    out: F32,
) -> tuple[int, float, int]:
    """Writes ready to disturbed; returns the next place, ready machine requests/s and the number of machines."""
    num_variants, num_pools = cat.usable.shape
    ready, starting, doomed, draining, planned = floats(3), 0.0, 0.0, 0.0, 0.0
    busy_s, credit_s, machines, warm_rps = 0.0, 0.0, 0, 0.0
    for p in range(num_pools):
        fastest = 0.0
        for v in range(num_variants):
            if cat.cells[v] > 1:  # serves no request of its own
                continue
            rate = planned_rps(cat, plan, n, v, p)
            if cat.market[p] == SERVERLESS:
                fastest = max(fastest, rate)
                continue
            ready[0] += obs.ready[n, v, p] * rate
            ready[1 if cat.market[p] == ON_DEMAND else 2] += obs.ready[n, v, p] * rate
            starting += obs.starting[n, v, p] * rate
            doomed += obs.doomed[n, v, p] * rate
            draining += obs.draining[n, v, p] * rate
            planned += plan.replicas[n, v, p] * rate
            serving = obs.ready[n, v, p] + obs.doomed[n, v, p]
            busy_s += obs.busy_s[n, v, p]
            credit_s += serving * cat.concurrency[v, p] * ctl.tick_s
            machines += serving + obs.starting[n, v, p]
        warm_rps += obs.warm[n, p] * fastest
    for i in range(3):
        at = _put(out, n, at, _log(ready[i] / rps))
    at = _put(out, n, at, starting / rps)
    at = _put(out, n, at, doomed / rps)
    at = _put(out, n, at, draining / rps)
    at = _put(out, n, at, _log(planned / rps))
    at = _put(out, n, at, 2.0 * _ratio(busy_s, credit_s) - 1.0)
    arrived, invoked, cold, throttled, disturbed, refused = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for c in range(wl.share.shape[0]):
        arrived += obs.arrivals[n, c]
    spot, spot_open, on_demand, on_demand_open = 0, 0, 0, 0
    for p in range(num_pools):
        invoked += obs.invocations[n, p]
        cold += obs.cold_starts[n, p]
        throttled += obs.throttled[n, p]
        disturbed += obs.preempted[n, p]
        refused += obs.launch_failed[n, p]
        if cat.market[p] == SPOT:
            spot += 1
            spot_open += 1 if obs.available[n, p] else 0
        elif cat.market[p] == ON_DEMAND:
            on_demand += 1
            on_demand_open += 1 if obs.available[n, p] else 0
    at = _put(out, n, at, 5.0 * _ratio(invoked, arrived))
    at = _put(out, n, at, _ratio(cold, invoked))
    at = _put(out, n, at, 5.0 * _ratio(throttled, arrived))
    at = _put(out, n, at, warm_rps / rps)
    at = _put(out, n, at, _ratio(float(spot_open - spot), float(spot)))
    at = _put(out, n, at, _ratio(float(on_demand_open - on_demand), float(on_demand)))
    at = _put(out, n, at, 5.0 * disturbed / max(machines, 1))
    at = _put(out, n, at, 5.0 * refused / max(machines, 1))
    return at, ready[0], machines


@inner
def _put_money(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    settings: MpcArrays,
    state: MpcState,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
    rps: float,
    weights: F64,
    at: int,
    out: F32,
) -> int:
    """Writes prices, delays, spend and the price of accuracy."""
    num_variants, num_pools = cat.usable.shape
    cheapest = floats(3)  # $ per request by market, cheapest variant
    cheapest[:] = np.inf
    least_usd, most_usd, least_accuracy, most_accuracy = np.inf, np.inf, np.inf, -np.inf
    boot_s, swap_s = np.inf, np.inf
    reference_usd_per_s = 0.0
    for c in range(wl.share.shape[0]):
        floor_usd = np.inf
        for v in range(num_variants):
            for p in range(num_pools):
                if not wl.allowed[c, v, p]:
                    continue
                if cat.market[p] == SERVERLESS:
                    usd = cat.usd_per_request[p] + cat.usd_per_gb_s[p] * cat.memory_gb[p] * cat.service_s[v, p, 1]
                else:
                    usd = cat.price_usd_per_s[p] / max(planned_rps(cat, plan, n, v, p), 1e-12)
                    boot_s = min(boot_s, cat.launch_s[p] + cat.load_s[v, p])
                    swap_s = min(swap_s, cat.swap_s[v, p])
                    if cat.accuracy[v] < least_accuracy or (cat.accuracy[v] == least_accuracy and usd < least_usd):
                        least_accuracy, least_usd = cat.accuracy[v], usd
                    if cat.accuracy[v] > most_accuracy or (cat.accuracy[v] == most_accuracy and usd < most_usd):
                        most_accuracy, most_usd = cat.accuracy[v], usd
                    if cat.market[p] == ON_DEMAND and cat.accuracy[v] >= wl.accuracy_floor[c]:
                        floor_usd = min(floor_usd, usd)
                cheapest[cat.market[p]] = min(cheapest[cat.market[p]], usd)
        if floor_usd < np.inf:
            reference_usd_per_s += wl.share[c] * rps * floor_usd
    for market in (SPOT, SERVERLESS):
        known = cheapest[market] < np.inf and cheapest[ON_DEMAND] < np.inf and cheapest[ON_DEMAND] > 0.0
        at = _put(out, n, at, _log(cheapest[market] / cheapest[ON_DEMAND]) if known else 0.0)
    has_machines = most_accuracy > -np.inf and least_usd > 0.0
    at = _put(out, n, at, 0.5 * _log(most_usd / least_usd) if has_machines else 0.0)
    at = _put(out, n, at, boot_s / ctl.horizon_s if boot_s < np.inf else 0.0)
    at = _put(out, n, at, swap_s / ctl.horizon_s if swap_s < np.inf else 0.0)
    spent = 0.0
    for term in range(obs.spend_usd.shape[1]):
        spent += obs.spend_usd[n, term]
    at = _put(out, n, at, _log(_ratio(spent, reference_usd_per_s * ctl.tick_s)))
    at = _put(out, n, at, _ratio(obs.spend_usd[n, SERVERLESS_USE], spent))
    price, known, owed_usd = 0.0, 0.0, 0.0
    for c in range(wl.share.shape[0]):
        if wl.floor_each[c]:  # kept by the choice of variants: nothing is ever owed
            continue
        usual = settings.accuracy_usd[c]
        owed_usd += usual * (wl.accuracy_floor[c] * obs.day_answered[n, c] - obs.day_accuracy_sum[n, c])
        if usual > 0.0 and state.accuracy_usd[n, c] > 0.0:
            price += weights[c] * settings.tilt_weight[c] * _log(state.accuracy_usd[n, c] / usual)
            known += weights[c] * settings.tilt_weight[c]
    at = _put(out, n, at, _ratio(price, known))
    return _put(out, n, at, _ratio(owed_usd, reference_usd_per_s * 3600.0))


@inner
def encode_one(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    settings: MpcArrays,
    forecast: ForecastArrays,
    knobs: F64,
    dial: F64,
    state: MpcState,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
    out: F32,
) -> int:
    """Writes `out[n]`, (OBSERVATION_SIZE,), and returns how many numbers were written.

    Args:
        cat: Catalog.
        wl: Workload.
        ctl: Control spans.
        settings: Settings of the rule.
        forecast: Its forecaster.
        knobs: (N, K) last knobs.
        dial: (N,) value of a miss relative to the rule's own.
        state: State of the rule.
        obs: Observation.
        plan: The last plan.
        n: Env.
        out: (N, OBSERVATION_SIZE).
    """
    growth = floats(forecast.levels.shape[0])
    at, rps, own_growth = _put_demand(ctl, settings, forecast, obs, n, growth, out)
    weights = floats(wl.share.shape[0])
    class_weights(wl, obs, n, weights)
    at, aim = _put_promises(cat, wl, ctl, settings, obs, n, rps, weights, at, out)
    at, ready_rps, machines = _put_capacity(cat, wl, ctl, obs, plan, n, rps, at, out)
    at = _put_money(cat, wl, ctl, settings, state, obs, plan, n, rps, weights, at, out)
    headroom = 0.0
    for c in range(weights.shape[0]):
        headroom += weights[c] * settings.headroom[c]
    wanted = rps * own_growth * headroom
    at = _put(out, n, at, _log(wanted / max(ready_rps, LEAST_SHARE * wanted)))
    at = _put(out, n, at, 2.0 * aim)
    held = 0.0
    for p in range(cat.market.shape[0]):
        planned = 0
        for v in range(cat.usable.shape[0]):
            planned += plan.replicas[n, v, p]
        if cat.market[p] != SERVERLESS and state.held[n, p] < np.inf:
            held += max(0.0, state.held[n, p] - planned)
    at = _put(out, n, at, held / max(machines, 1))
    for k in range(NUM_KNOBS):
        at = _put(out, n, at, knob(knobs, n, k))
    return _put(out, n, at, dial_log_odds(dial, n))


@kernel
def encode(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    settings: MpcArrays,
    forecast: ForecastArrays,
    knobs: F64,
    dial: F64,
    state: MpcState,
    obs: ObservationArrays,
    plan: PlanArrays,
    out: F32,
    lo: int,
    hi: int,
) -> None:
    """`encode_one` for envs lo..hi-1."""
    for n in range(lo, hi):
        encode_one(cat, wl, ctl, settings, forecast, knobs, dial, state, obs, plan, n, out)
