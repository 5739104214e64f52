"""What a plan costs, and what the budgets leave."""

from __future__ import annotations

import numpy as np

from controller.arrays import (
    F64,
    I64,
    SERVERLESS,
    SPOT,
    CatalogArrays,
    ControlArrays,
    LimitArrays,
    ObservationArrays,
    PlanArrays,
    StrictGuard,
)
from controller.kernels.compiled import inner

ROUNDING_USD_PER_HOUR = 1e-9
"""A plan this little above the budget counts as within it."""

HOUR, DAY = range(2)
"""Places of the two budgets in what `measure` writes."""

_EDGE = 1e-3
"""Share of a tick by which a moment may miss midnight and still be midnight."""


@inner
def hourly_usd(cat: CatalogArrays, p: int) -> float:
    """Rental of one instance, or of one provisioned environment, for an hour."""
    if cat.market[p] == SERVERLESS:
        return cat.memory_gb[p] * cat.provisioned_usd_per_gb_s[p] * 3600.0
    return cat.price_usd_per_s[p] * 3600.0


@inner
def plan_usd_per_hour(cat: CatalogArrays, plan: PlanArrays, n: int) -> float:
    """Rental of the planned fleet."""
    total = 0.0
    for p in range(cat.market.shape[0]):
        replicas = 0
        for v in range(cat.usable.shape[0]):
            replicas += plan.replicas[n, v, p]
        total += replicas * hourly_usd(cat, p)
    return total


@inner
def wind_down_s(cat: CatalogArrays, control: ControlArrays, p: int) -> float:
    """Longest for which an instance is still billed if its fleet is given up at the next decision.

    Until that decision; until what it serves is done, within a tick, or until its notice ends; and what the minimum or
    the release lag adds.
    """
    leaving_s = control.tick_s
    if cat.market[p] == SPOT:
        leaving_s = max(leaving_s, cat.notice_s[p])
    return control.tick_s + leaving_s + max(cat.min_billing_s[p], cat.release_lag_s[p])


@inner
def measure(
    cat: CatalogArrays, limits: LimitArrays, obs: ObservationArrays, plan: PlanArrays, n: int, over: F64
) -> float:
    """Writes by how much a plan is over each budget, $/hour.

    Over the day's budget is what the plan, kept until midnight, lacks: the day's spend so far, the plan's rental, and
    what it would cost to give up all that exists and all that it launches.

    Args:
        cat: Catalog.
        limits: With strict limits.
        obs: Observation; spends that are no finite number count as none.
        plan: Plan.
        n: Env.
        over: (2,) at `HOUR` and `DAY`, written; -inf where there is no such budget.

    Returns:
        Hours until midnight, at least one tick.
    """
    strict = limits.strict.limits  # type: ignore[union-attr]  # no other limits are measured
    control = strict.control
    elapsed_s = obs.time_s[n] % control.day_s
    if elapsed_s > control.day_s - _EDGE * control.tick_s:
        elapsed_s = 0.0
    spent_usd = 0.0
    if elapsed_s > (1.0 - _EDGE) * control.tick_s:  # before, the day's sums are those of the day before
        for term in range(obs.day_spend_usd.shape[1]):
            usd = obs.day_spend_usd[n, term]
            if usd > -np.inf and usd < np.inf:
                spent_usd += usd
    left_h = max(control.day_s - elapsed_s, control.tick_s) / 3600.0
    rental = plan_usd_per_hour(cat, plan, n)
    committed_usd = 0.0
    for p in range(cat.market.shape[0]):
        count = 0
        for v in range(cat.usable.shape[0]):
            have = obs.ready[n, v, p] + obs.starting[n, v, p]
            count += max(have, plan.replicas[n, v, p]) + obs.doomed[n, v, p] + obs.draining[n, v, p]
        committed_usd += count * hourly_usd(cat, p) * wind_down_s(cat, control, p) / 3600.0
    over[HOUR] = rental - limits.budget_usd_per_hour - ROUNDING_USD_PER_HOUR
    over[DAY] = rental - (strict.budget_usd_per_day - spent_usd - committed_usd) / left_h - ROUNDING_USD_PER_HOUR
    return left_h


@inner
def room_usd_per_hour(
    strict: StrictGuard | None,
    cat: CatalogArrays,
    limits: LimitArrays,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
) -> float:
    """Rental that the budgets leave beyond the plan's, for replicas that exist."""
    if strict is None:
        return limits.budget_usd_per_hour + ROUNDING_USD_PER_HOUR - plan_usd_per_hour(cat, plan, n)
    return _room(strict.limits.degrade, cat, limits, obs, plan, n)


@inner
def _room(
    degrade: I64 | None, cat: CatalogArrays, limits: LimitArrays, obs: ObservationArrays, plan: PlanArrays, n: int
) -> float:
    if degrade is None:
        return limits.budget_usd_per_hour + ROUNDING_USD_PER_HOUR - plan_usd_per_hour(cat, plan, n)
    over = np.empty(2)
    measure(cat, limits, obs, plan, n, over)
    return -max(over[HOUR], over[DAY])
