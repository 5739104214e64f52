"""What a plan costs, and what the budgets leave."""

from __future__ import annotations

from typing import NamedTuple

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
from controller.kernels.local import floats, integers

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


class Costs(NamedTuple):
    """What one env's fleet costs, in a few arrays: functions that take whole catalogs are slow to call in a loop."""

    usd: F64  # (P,) rental of one replica, $/h
    leaving_usd: F64  # (P,) what giving one up costs at most, $
    have: I64  # (V, P) ready and starting
    hour_usd: float  # rental that the hourly budget pays for; inf for none
    day_usd: float  # what the day's budget leaves for rental until midnight and for giving up `have` or more, $
    left_h: float  # until midnight, at least one tick


@inner
def costs_of(cat: CatalogArrays, limits: LimitArrays, obs: ObservationArrays, n: int, rents: F64, have: I64) -> Costs:
    """Costs and budgets of env n, for limits that have strict ones. Spends that are no finite number count as none.

    Args:
        cat: Catalog.
        limits: Limits.
        obs: Observation.
        n: Env.
        rents: (2, P), written: the result's `usd` and `leaving_usd`.
        have: (V, P), written: the result's.
    """
    strict = limits.strict.limits  # type: ignore[union-attr]  # no other limits are asked about
    control = strict.control
    num_variants, num_pools = cat.usable.shape
    elapsed_s = obs.time_s[n] % control.day_s
    if elapsed_s > control.day_s - _EDGE * control.tick_s:
        elapsed_s = 0.0
    day_usd = strict.budget_usd_per_day
    if elapsed_s > (1.0 - _EDGE) * control.tick_s:  # before, the day's sums are those of the day before
        for term in range(obs.day_spend_usd.shape[1]):
            spent_usd = obs.day_spend_usd[n, term]
            if spent_usd > -np.inf and spent_usd < np.inf:
                day_usd -= spent_usd
    usd, leaving_usd = rents[0], rents[1]
    for p in range(num_pools):
        usd[p] = hourly_usd(cat, p)
        leaving_usd[p] = usd[p] * wind_down_s(cat, control, p) / 3600.0
        for v in range(num_variants):
            have[v, p] = obs.ready[n, v, p] + obs.starting[n, v, p]
            day_usd -= (obs.doomed[n, v, p] + obs.draining[n, v, p]) * leaving_usd[p]
    left_h = max(control.day_s - elapsed_s, control.tick_s) / 3600.0
    return Costs(usd, leaving_usd, have, limits.budget_usd_per_hour, day_usd, left_h)


@inner
def measure(costs: Costs, replicas: I64, over: F64) -> None:
    """Writes by how much a plan is over each budget, $/hour.

    Over the day's budget is what the plan, kept until midnight, lacks: its rental, and what it would cost to give up
    all that exists and all that it launches.

    Args:
        costs: Costs and budgets.
        replicas: (V, P) planned.
        over: (2,) at `HOUR` and `DAY`, written; -inf where there is no such budget.
    """
    rental, leaving_usd = 0.0, 0.0
    for p in range(replicas.shape[1]):
        planned, most = 0, 0
        for v in range(replicas.shape[0]):
            planned += replicas[v, p]
            most += max(costs.have[v, p], replicas[v, p])
        rental += planned * costs.usd[p]
        leaving_usd += most * costs.leaving_usd[p]
    over[HOUR] = rental - costs.hour_usd - ROUNDING_USD_PER_HOUR
    over[DAY] = rental - (costs.day_usd - leaving_usd) / costs.left_h - ROUNDING_USD_PER_HOUR


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
    over = floats(2)
    costs = costs_of(cat, limits, obs, n, floats((2, cat.market.shape[0])), integers(cat.usable.shape))
    measure(costs, plan.replicas[n], over)
    return -max(over[HOUR], over[DAY])
