"""Autoscalers of groups of replicas: Ray Serve's, Kubernetes' and SkyServe's, each by its published arithmetic.

A group is what the autoscaler knows as one deployment: the replicas of a class's fixed variant, or all replicas where
variants are mixed. Replicas are counted in units of one capacity, so that a group may span machines of several sizes.
"""

from __future__ import annotations

import numpy as np

from controller.arrays import F64, I64, SERVERLESS, CatalogArrays, ControlArrays, ObservationArrays, WorkloadArrays
from controller.kernels.compiled import inner, kernel
from controller.kernels.rival_demand import recent_rate
from controller.rival_arrays import HPA, RAY_SERVE, AutoscalerArrays, RivalArrays, RivalState

DELAY_EPSILON_S = 1e-6
"""A delay counts as over this much early (`_DELAY_ELAPSED_EPS_S` of Ray 2.60)."""

ROUNDING = 1e-9
"""A number of replicas this little above a whole one is not rounded up."""


@kernel
def aggregate(samples: F64, count: int, newest: int, aggregation: int) -> float:
    """Mean, largest or least of the last `count` entries of a ring whose newest is at `newest`."""
    length = samples.shape[0]
    total, most, least = 0.0, -np.inf, np.inf
    for k in range(count):
        value = samples[(newest - k) % length]
        total += value
        most = max(most, value)
        least = min(least, value)
    return total / count if aggregation == 0 else (most if aggregation == 1 else least)


@kernel
def scaled_replicas(desired: float, current: float, up_factor: float, down_factor: float) -> float:
    """`_apply_scaling_factors` of Ray 2.60: a step towards `desired`, whole, at least one down where less is wanted."""
    if current == 0.0:
        return np.ceil(desired)
    delta = desired - current
    scaled = np.ceil(current + (up_factor if delta > 0.0 else down_factor) * delta)
    if np.ceil(desired) < current and scaled == current:
        scaled -= 1.0
    return scaled


@kernel
def delayed_target(
    desired: int,
    target: int,
    time_s: float,
    up_delay_s: float,
    down_delay_s: float,
    to_zero_delay_s: float,
    since_s: F64,
    direction: I64,
    n: int,
    g: int,
) -> int:
    """`_apply_delay_logic` of Ray 2.60: a target moves once the wish to move it one way has lasted for the delay.

    Args:
        desired: Replicas wanted now.
        target: Replicas decided so far.
        time_s: Now.
        up_delay_s: Delay of more replicas.
        down_delay_s: Delay of fewer; never to 0 but from 1.
        to_zero_delay_s: Delay of the last one.
        since_s: (N, G) when the present wish began, updated; NaN without one.
        direction: (N, G) of the wish, updated.
        n: Env.
        g: Group.

    Returns:
        The target from now on.
    """
    if desired == target:
        since_s[n, g], direction[n, g] = np.nan, 0
        return target
    wish = 1 if desired > target else -1
    if direction[n, g] != wish or since_s[n, g] != since_s[n, g]:
        since_s[n, g], direction[n, g] = time_s, wish
    delay_s = up_delay_s
    if wish < 0:
        delay_s = to_zero_delay_s if target == 1 else down_delay_s
        if target != 1:
            desired = max(1, desired)
    if time_s - since_s[n, g] + DELAY_EPSILON_S < delay_s:
        return target
    since_s[n, g], direction[n, g] = np.nan, 0
    return desired


@kernel
def hpa_replicas(
    busy: float, ready: float, starting: float, current: int, target_utilisation: float, tolerance: float
) -> int:
    """Replicas that the Kubernetes HorizontalPodAutoscaler's metric calls for (its `GetResourceReplicas`).

    Args:
        busy: Mean utilisation of the ready replicas.
        ready: Ready replicas.
        starting: Replicas that start; they count as idle where more are wanted, and not at all where fewer are.
        current: Replicas asked for so far.
        target_utilisation: Wanted utilisation.
        tolerance: A ratio this near to 1 changes nothing.
    """
    if ready <= 0.0:
        return current
    ratio = busy / target_utilisation
    if ratio <= 1.0 or starting <= 0.0:
        return current if abs(ratio - 1.0) <= tolerance else int(np.ceil(ratio * ready - ROUNDING))
    ratio *= ready / (ready + starting)
    if ratio - 1.0 <= tolerance:
        return current
    return max(current, int(np.ceil(ratio * (ready + starting) - ROUNDING)))


@kernel
def hpa_target(advised: I64, targets: I64, known: int, newest: int, current: int, scaler: AutoscalerArrays) -> int:
    """Stabilisation windows, then the policies that limit a change per period (the HPA's `behavior`).

    Args:
        advised: (L,) ring of `hpa_replicas`.
        targets: (L,) ring of what was decided, of which the newest is one older than that of `advised`.
        known: Entries of `advised` that are real, at least 1.
        newest: Slot of the newest.
        current: Replicas asked for so far.
        scaler: Settings.
    """
    length = advised.shape[0]
    least, most = advised[newest], advised[newest]
    for k in range(known):
        value = advised[(newest - k) % length]
        if k < scaler.up_window_ticks:
            least = min(least, value)
        if k < scaler.down_window_ticks:
            most = max(most, value)
    wanted = min(max(current, least), most)
    if wanted > current:
        before = targets[(newest - min(known - 1, scaler.up_period_ticks)) % length] if known > 1 else current
        by_percent = int(np.ceil(before * (1.0 + scaler.up_percent / 100.0) - ROUNDING))
        return min(wanted, max(current, by_percent, before + scaler.up_replicas))
    if wanted < current:
        before = targets[(newest - min(known - 1, scaler.down_period_ticks)) % length] if known > 1 else current
        by_percent = int(np.floor(before * (1.0 - scaler.down_percent / 100.0) + ROUNDING))
        return max(wanted, min(current, by_percent, before - scaler.down_replicas))
    return current


@inner
def _step(
    kind: int,
    scaler: AutoscalerArrays,
    state: RivalState,
    n: int,
    g: int,
    slot: int,
    time_s: float,
    rate_units: float,
    busy: float,
    count: int,
    running: float,
    starting: float,
) -> int:
    """New target of a group; `rate_units`, `running` and `starting` are in replicas, `count` is of whole machines."""
    target = state.group_target[n, g]
    length = state.ongoing.shape[2]
    known = min(state.decisions[n] + 1, length)
    if kind == HPA:
        state.advised[n, g, slot] = hpa_replicas(busy, running, starting, target, scaler.target, scaler.tolerance)
        target = hpa_target(state.advised[n, g], state.targets[n, g], known, slot, target, scaler)
        return max(scaler.min_replicas, min(scaler.max_replicas, target))
    if kind == RAY_SERVE:
        total = aggregate(state.ongoing[n, g], min(known, scaler.look_back_ticks), slot, scaler.aggregation)
        if count == 0:
            if total > 0.0:
                target = max(int(np.ceil(scaler.up_factor)), target)
            return max(scaler.min_replicas, min(scaler.max_replicas, target))
        wanted = running * (total / (scaler.target * count))
        desired = int(min(1e9, max(0.0, scaled_replicas(wanted, running, scaler.up_factor, scaler.down_factor))))
    else:
        desired = int(min(1e9, np.ceil(rate_units * scaler.target - ROUNDING)))
        desired = max(scaler.min_replicas, min(scaler.max_replicas, desired))
    target = delayed_target(
        desired, target, time_s, scaler.up_delay_s, scaler.down_delay_s, scaler.to_zero_delay_s,
        state.group_since_s, state.group_direction, n, g,
    )  # fmt: skip
    return max(scaler.min_replicas, min(scaler.max_replicas, target))


@inner
def note_planned(cat: CatalogArrays, settings: RivalArrays, state: RivalState, n: int, replicas: I64) -> None:
    """Notes the capacity that was planned for each group; `replicas` is the plan's, (N, V, P)."""
    num_variants, num_pools = cat.usable.shape
    for g in range(num_variants):
        state.group_planned_rps[n, g] = 0.0
        for v in range(num_variants):
            for p in range(num_pools):
                if cat.market[p] != SERVERLESS and (settings.adaptive_variant or v == g):
                    state.group_planned_rps[n, g] += replicas[n, v, p] * settings.rps[v, p]


@inner
def scale_groups(
    kind: int,
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    settings: RivalArrays,
    state: RivalState,
    obs: ObservationArrays,
    n: int,
    weights: F64,
    need_rps: F64,
) -> None:
    """Decides every group's target and writes what it comes to for each class, (C,) requests/s."""
    num_classes, num_variants, num_pools = wl.allowed.shape
    slot = state.decisions[n] % state.ongoing.shape[2]
    for g in range(num_variants):
        weight, share, rate = 0.0, 0.0, 0.0
        for c in range(num_classes):
            if g == (0 if settings.adaptive_variant else settings.variant[c]):
                weight += weights[c]
                share += wl.share[c]
                rate += recent_rate(wl, ctl, obs, n, c, settings.prior_rps)
        if weight <= 0.0:
            continue
        unit = settings.group_rps[g]
        count, running, starting, ongoing, busy_s, num_credits = 0, 0.0, 0.0, 0.0, 0.0, 0
        for v in range(num_variants):
            for p in range(num_pools):
                if cat.market[p] == SERVERLESS or not (settings.adaptive_variant or v == g):
                    continue
                serving = obs.ready[n, v, p] + obs.doomed[n, v, p]
                count += serving
                num_credits += serving * cat.concurrency[v, p]
                running += serving * settings.rps[v, p] / unit
                starting += obs.starting[n, v, p] * settings.rps[v, p] / unit
                ongoing += obs.queue[n, v, p] + obs.busy_s[n, v, p] / ctl.tick_s
                busy_s += obs.busy_s[n, v, p]
        if count == 0 and state.group_target[n, g] == 0:
            ongoing += rate  # what goes elsewhere, for want of a replica here, must wake it
        state.ongoing[n, g, slot] = ongoing
        # What was planned beyond the target, spare spot and rounding, is no part of what the target asks for.
        if state.group_planned_rps[n, g] > state.group_target[n, g] * unit >= 0.0:
            part = state.group_target[n, g] * unit / state.group_planned_rps[n, g]
            running *= part
            starting *= part
        if state.group_target[n, g] < 0:
            first = int(min(1e9, np.ceil(settings.prior_rps * share / unit - ROUNDING)))
            first = max(settings.autoscaler.min_replicas, min(settings.autoscaler.max_replicas, first))
            state.group_target[n, g] = first
        else:
            busy = busy_s / (num_credits * ctl.tick_s) if num_credits > 0 else 0.0
            state.group_target[n, g] = _step(
                kind, settings.autoscaler, state, n, g, slot, obs.time_s[n], rate / unit, busy, count, running, starting
            )
        if state.decisions[n] == 0:
            state.advised[n, g, slot] = state.group_target[n, g]
        state.targets[n, g, slot] = state.group_target[n, g]
        for c in range(num_classes):
            if g == (0 if settings.adaptive_variant else settings.variant[c]):
                need_rps[c] = state.group_target[n, g] * unit * weights[c] / weight
