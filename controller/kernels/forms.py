"""Rival forms of a learned policy's action: what a network may say instead of knobs, and what the rule makes of it.

`residual` adds to the rule's capacity by pool, `direct` replaces it by option, and `per_option` scores the options that
the rule chooses from. Machines are rounded, held and given up by the rule in all of them. Zero is the rule itself, bit
for bit, in all but `direct`.
"""

from __future__ import annotations

import numpy as np

from controller.arrays import (
    F64,
    I64,
    SERVERLESS,
    CatalogArrays,
    ControlArrays,
    LimitArrays,
    ObservationArrays,
    PlanArrays,
    WorkloadArrays,
)
from controller.forms import DIRECT, PER_OPTION, RESIDUAL
from controller.kernels.compiled import kernel, merged
from controller.kernels.local import floats
from controller.kernels.mpc import dial_log_odds, knob, overflow_and_hold, propose_one
from controller.kernels.placing import place_one
from controller.rule_arrays import ForecastArrays, MpcArrays, MpcState

REACH = 0.5
"""A residual of 1 is half of the capacity needed in all, in one pool."""

SHARE_LOGIT = 3.0
"""A direct share is weighed by exp(SHARE_LOGIT a)."""

CHEAPER = 2.0
"""And by how cheap its option is, to this power, so that a network that says nothing begins with a cheap fleet."""

TOTAL = 1.0
"""The direct total is exp(TOTAL a) times the rate now and the rule's headroom."""

DIAL = 0.35
"""And with the dial to this power: it moves the rule's quantile, which a direct action does not look at."""

SCORE = 1.0
"""A score multiplies the price that its option is chosen by with exp(SCORE a)."""


@kernel
def scored_prices(usd: F64, acted: F64, n: int, out: F64) -> None:
    """Writes prices under env n's scores, (V, P); a score of 0 leaves its price untouched."""
    num_pools = usd.shape[1]
    for v in range(usd.shape[0]):
        for p in range(num_pools):
            score = knob(acted, n, v * num_pools + p)
            out[v, p] = usd[v, p] if score == 0.0 else usd[v, p] * np.exp(SCORE * score)


@kernel
def add_residuals(market: I64, rps: F64, acted: F64, n: int, total_rps: float, mix: F64, capacity: F64) -> None:
    """Adds env n's residuals to a capacity, by pool, never below nothing.

    A pool's part is divided among its variants as the rule's capacity is: in that pool, or in all where it has none
    there. Serverless pools have no capacity to add to.

    Args:
        market: (P,).
        rps: (V, P) of one replica, 0 where unusable.
        acted: (N, P or more) in [-1, 1].
        n: Env.
        total_rps: Capacity needed in all.
        mix: (V,) work space.
        capacity: (V, P) requests/s, changed.
    """
    num_variants, num_pools = rps.shape
    for v in range(num_variants):
        mix[v] = 0.0
        for p in range(num_pools):
            mix[v] += capacity[v, p]
    for p in range(num_pools):
        part = knob(acted, n, p)
        if part == 0.0 or market[p] == SERVERLESS:
            continue
        own, fitting = 0.0, 0.0
        for v in range(num_variants):
            own += capacity[v, p]
            fitting += mix[v] if rps[v, p] > 0.0 else 0.0
        added_rps = max(part * REACH * total_rps, -own)
        for v in range(num_variants):
            if own > 0.0:
                capacity[v, p] += added_rps * capacity[v, p] / own
            elif fitting > 0.0 and rps[v, p] > 0.0:
                capacity[v, p] += added_rps * mix[v] / fitting
            capacity[v, p] = max(0.0, capacity[v, p])


@kernel
def direct_capacity(usd: F64, acted: F64, n: int, demand_rps: float, capacity: F64) -> float:
    """Writes the capacity that env n's action names, (V, P) requests/s; returns its total.

    Args:
        usd: (V, P) per request, infinite for what is no machine.
        acted: (N, 1 + V P) in [-1, 1]: the total, then a share of every option.
        n: Env.
        demand_rps: Capacity at a total of 0.
        capacity: (V, P), written.
    """
    num_variants, num_pools = usd.shape
    least_usd, weight = np.inf, 0.0
    for v in range(num_variants):
        for p in range(num_pools):
            least_usd = min(least_usd, usd[v, p])
    for v in range(num_variants):
        for p in range(num_pools):
            capacity[v, p] = 0.0
            if usd[v, p] < np.inf:
                cheap = (least_usd / usd[v, p]) ** CHEAPER if usd[v, p] > 0.0 else 1.0
                capacity[v, p] = cheap * np.exp(SHARE_LOGIT * knob(acted, n, 1 + v * num_pools + p))
                weight += capacity[v, p]
    total_rps = demand_rps * np.exp(TOTAL * knob(acted, n, 0))
    for v in range(num_variants):
        for p in range(num_pools):
            capacity[v, p] *= total_rps / weight if weight > 0.0 else 0.0
    return total_rps


@merged
def form_one(
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
    forms: I64,
    acted: F64,
    n: int,
) -> None:
    """Writes env n's plan under an action of its form; other arguments as of `mpc_one`.

    Args:
        cat: Catalog.
        wl: Workload.
        limits: Limits.
        ctl: Control spans.
        settings: The rule's settings.
        forecast: Forecaster.
        knobs: (N, K).
        dial: (N,).
        state: State of the rule, updated.
        obs: Observation.
        plan: Plan, written.
        forms: (N,) form of each env's action, a place in `controller.forms.FORMS`.
        acted: (N, A) in [-1, 1].
        n: Env.
    """
    weights, capacity = floats(wl.share.shape[0]), floats(cat.usable.shape)
    usd = settings.usd
    if forms[n] == PER_OPTION:
        usd = floats(cat.usable.shape)
        scored_prices(settings.usd, acted, n, usd)
    rps, total_rps = propose_one(
        cat, wl, limits, ctl, settings, forecast, knobs, dial, state, obs, plan, n, usd, weights, capacity
    )
    if forms[n] == RESIDUAL:
        add_residuals(cat.market, settings.rps, acted, n, total_rps, floats(cat.accuracy.shape[0]), capacity)
    elif forms[n] == DIRECT:
        waiting, headroom = 0, 0.0
        for c in range(wl.share.shape[0]):
            waiting += max(0, obs.waiting[n, c])
            headroom += weights[c] * settings.headroom[c]
        demand_rps = rps * headroom * np.exp(DIAL * dial_log_odds(dial, n))
        total_rps = direct_capacity(settings.usd, acted, n, demand_rps + waiting / settings.backlog_s, capacity)
    fraction = floats(wl.share.shape[0])
    scale_in_s = overflow_and_hold(cat, wl, ctl, settings, knobs, dial, obs, n, fraction)
    place_one(
        cat, wl, limits, ctl, settings, state, obs, plan, n, capacity, weights, rps, total_rps, fraction, scale_in_s
    )


@kernel
def plan_forms(
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
    forms: I64,
    acted: F64,
    lo: int,
    hi: int,
) -> None:
    """`form_one` for envs lo..hi-1."""
    for n in range(lo, hi):
        form_one(cat, wl, limits, ctl, settings, forecast, knobs, dial, state, obs, plan, forms, acted, n)
