"""Holds any plan inside the hard limits.

Order of rank, strongest first: validity, pool maximum, launch ramp and launch cool-down (which minima and floor
suspend), budgets, pool minimum and on-demand floor, drain ramp and cool-down. What a stronger limit leaves no room for,
a weaker one does not get this tick; so no limit is ever exceeded, and a second pass changes nothing where the budgets
pay for the minima.
"""

from __future__ import annotations

import numpy as np

from controller.arrays import (
    I64,
    ON_DEMAND,
    CatalogArrays,
    LimitArrays,
    ObservationArrays,
    PlanArrays,
    StrictGuard,
    WorkloadArrays,
)
from controller.kernels.cascade import clear_cascade, has_valid_cascade
from controller.kernels.collage import clear_collage, has_valid_collage
from controller.kernels.compiled import inner, kernel
from controller.kernels.cool_down import may_launch, may_scale_in, watch_pools
from controller.kernels.counts import count_in_pool, count_on_demand
from controller.kernels.degrade import degrade_one
from controller.kernels.local import flags, integers
from controller.kernels.money import ROUNDING_USD_PER_HOUR, hourly_usd, plan_usd_per_hour, room_usd_per_hour
from controller.kernels.rates import planned_rps
from controller.plan import Reason

_INVALID = int(Reason.INVALID_PLAN)
_POOL_MAX = int(Reason.POOL_MAX)
_POOL_MIN = int(Reason.POOL_MIN)
_FLOOR = int(Reason.ON_DEMAND_FLOOR)
_BUDGET = int(Reason.BUDGET)
_RAMP = int(Reason.RAMP)
_COOL_DOWN = int(Reason.COOL_DOWN)


@kernel
def _share_or(value: float, otherwise: float) -> float:
    """`value` clipped to [0, 1], `otherwise` for NaN."""
    if value != value:
        return otherwise
    return min(1.0, max(0.0, value))


@inner
def _sanitise(cat: CatalogArrays, wl: WorkloadArrays, limits: LimitArrays, plan: PlanArrays, n: int) -> None:
    """Replaces what is no number, negative, out of range or unusable."""
    num_classes, num_variants, num_pools = wl.allowed.shape
    invalid = False
    for v in range(num_variants):
        for p in range(num_pools):
            if plan.replicas[n, v, p] < 0 or (plan.replicas[n, v, p] > 0 and not cat.usable[v, p]):
                plan.replicas[n, v, p] = 0
                invalid = True
            if plan.replicas[n, v, p] > limits.pool_max[p]:
                plan.replicas[n, v, p] = limits.pool_max[p]
                plan.reasons[n] |= _POOL_MAX
            size = min(max(plan.batch_size[n, v, p], 1), max(cat.batch_max[v, p], 1))
            if size != plan.batch_size[n, v, p]:
                plan.batch_size[n, v, p] = size
                invalid = True
            if not (plan.batch_wait_s[n, v, p] >= 0.0 and plan.batch_wait_s[n, v, p] < np.inf):
                plan.batch_wait_s[n, v, p] = 0.0
                invalid = True
    for c in range(num_classes):
        if not (plan.overflow_after_s[n, c] >= 0.0):
            plan.overflow_after_s[n, c] = wl.slo_s[c] / 2.0
            invalid = True
        fraction = _share_or(plan.overflow_fraction[n, c], 1.0)
        if fraction != plan.overflow_fraction[n, c]:
            plan.overflow_fraction[n, c] = fraction
            invalid = True
        if not (plan.hedge_after_s[n, c] >= 0.0):
            plan.hedge_after_s[n, c] = np.inf
            invalid = True
        if not has_valid_cascade(wl, plan, n, c):
            clear_cascade(plan, n, c)
            invalid = True
        if wl.num_operators[c] > 1 and (plan.hedge_after_s[n, c] < np.inf or plan.cascade_variant[n, c, 0] >= 0):
            plan.hedge_after_s[n, c] = np.inf
            clear_cascade(plan, n, c)
            invalid = True
        if not has_valid_collage(wl, plan, n, c):
            clear_collage(plan, n, c)
            invalid = True
        if plan.shed_limit[n, c] < 1:
            plan.shed_limit[n, c] = wl.queue_limit[c]
            invalid = True
        if plan.fixed_shares[n]:
            for v in range(num_variants):
                for p in range(num_pools):
                    share = _share_or(plan.shares[n, c, v, p], 0.0)
                    if share != plan.shares[n, c, v, p]:
                        plan.shares[n, c, v, p] = share
                        invalid = True
    if not (plan.need_rps[n] >= 0.0 and plan.need_rps[n] < np.inf):
        plan.need_rps[n] = 0.0
        invalid = True
    if invalid:
        plan.reasons[n] |= _INVALID


@inner
def _cut_additions(plan: PlanArrays, obs: ObservationArrays, n: int, p: int, excess: int) -> int:
    """Takes `excess` off what the plan adds in a pool, last variant first; returns what could not be taken."""
    for i in range(plan.replicas.shape[1]):
        v = plan.replicas.shape[1] - 1 - i
        added = plan.replicas[n, v, p] - obs.ready[n, v, p] - obs.starting[n, v, p]
        taken = min(max(added, 0), excess, plan.replicas[n, v, p])
        plan.replicas[n, v, p] -= taken
        excess -= taken
    return excess


@inner
def _dearest_variant(cat: CatalogArrays, plan: PlanArrays, n: int, p: int) -> int:
    """Planned variant of a pool with least capacity per replica; -1 where nothing is planned."""
    found, least = -1, np.inf
    for v in range(cat.usable.shape[0]):
        if plan.replicas[n, v, p] > 0 and planned_rps(cat, plan, n, v, p) < least:
            found, least = v, planned_rps(cat, plan, n, v, p)
    return found


@inner
def _filler_variant(cat: CatalogArrays, wl: WorkloadArrays, plan: PlanArrays, n: int, p: int) -> int:
    """Variant to fill a minimum with: the one planned most anywhere, else that of most capacity; -1 for none."""
    found, most, fastest = -1, -1, -1.0
    for v in range(cat.usable.shape[0]):
        allowed = False
        for c in range(wl.allowed.shape[0]):
            allowed = allowed or wl.allowed[c, v, p]
        if not (cat.usable[v, p] and allowed):
            continue
        planned = 0
        for other in range(cat.market.shape[0]):
            planned += plan.replicas[n, v, other]
        rps = planned_rps(cat, plan, n, v, p)
        if planned > most or (planned == most and rps > fastest):
            found, most, fastest = v, planned, rps
    return found


@inner
def _raise_to_minima(
    cat: CatalogArrays, wl: WorkloadArrays, limits: LimitArrays, plan: PlanArrays, n: int, ceiling: I64
) -> None:
    """Raises pools to their minima and the on-demand pools together to their floor, cheapest pool first."""
    num_pools = cat.market.shape[0]
    for p in range(num_pools):
        lacking = min(limits.pool_min[p], ceiling[p]) - count_in_pool(plan.replicas, n, p)
        v = _filler_variant(cat, wl, plan, n, p) if lacking > 0 else -1
        if v >= 0:
            plan.replicas[n, v, p] += lacking
            plan.reasons[n] |= _POOL_MIN
    lacking = limits.on_demand_floor - count_on_demand(cat.market, plan.replicas, n)
    if lacking <= 0:
        return
    full = flags(num_pools)
    while lacking > 0:
        best = -1
        for p in range(num_pools):
            is_open = cat.market[p] == ON_DEMAND and not full[p]
            if is_open and (best < 0 or cat.price_usd_per_s[p] < cat.price_usd_per_s[best]):
                best = p
        if best < 0:
            return
        full[best] = True
        v = _filler_variant(cat, wl, plan, n, best)
        added = min(lacking, ceiling[best] - count_in_pool(plan.replicas, n, best))
        if v >= 0 and added > 0:
            plan.replicas[n, v, best] += added
            lacking -= added
            plan.reasons[n] |= _FLOOR


@inner
def _cut_to_budget(cat: CatalogArrays, limits: LimitArrays, plan: PlanArrays, n: int) -> None:
    """Removes what is dearest per capacity until the rental fits; minima are spared first, then given up as well."""
    budget = limits.budget_usd_per_hour + ROUNDING_USD_PER_HOUR
    if not (plan_usd_per_hour(cat, plan, n) > budget):
        return
    plan.reasons[n] |= _BUDGET
    for spare_minima in (True, False):
        while True:
            over = plan_usd_per_hour(cat, plan, n) - budget
            if not (over > 0.0):
                return
            best, best_cost, best_most = -1, -1.0, 0
            on_demand = count_on_demand(cat.market, plan.replicas, n)
            for p in range(cat.market.shape[0]):
                usd = hourly_usd(cat, p)
                v = _dearest_variant(cat, plan, n, p)
                if v < 0 or usd <= 0.0:
                    continue
                most = plan.replicas[n, v, p]
                if spare_minima:
                    most = min(most, count_in_pool(plan.replicas, n, p) - limits.pool_min[p])
                    if cat.market[p] == ON_DEMAND:
                        most = min(most, on_demand - limits.on_demand_floor)
                if most <= 0:
                    continue
                cost = usd / max(planned_rps(cat, plan, n, v, p), 1e-12)
                if cost > best_cost:
                    best, best_cost, best_most = v * cat.market.shape[0] + p, cost, most
            if best < 0:
                break
            v, p = best // cat.market.shape[0], best % cat.market.shape[0]
            needed = np.ceil(over / hourly_usd(cat, p))
            plan.replicas[n, v, p] -= max(1, min(best_most, int(min(needed, 1e9))))


@inner
def _meet_minima_and_budgets(
    strict: StrictGuard | None,
    cat: CatalogArrays,
    wl: WorkloadArrays,
    limits: LimitArrays,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
    ceiling: I64,
    lacks: bool,
) -> None:
    """Raises a plan that `lacks` a minimum or the floor, then makes it fit the budgets: plain cuts, or as declared."""
    if strict is None:
        _raise_and_cut(cat, wl, limits, plan, n, ceiling, lacks)
    else:
        _raise_and_degrade(strict.limits.degrade, cat, wl, limits, obs, plan, n, ceiling, lacks)


@inner
def _raise_and_cut(
    cat: CatalogArrays, wl: WorkloadArrays, limits: LimitArrays, plan: PlanArrays, n: int, ceiling: I64, lacks: bool
) -> None:
    if lacks:
        _raise_to_minima(cat, wl, limits, plan, n, ceiling)
    if limits.budget_usd_per_hour < np.inf:
        _cut_to_budget(cat, limits, plan, n)


@inner
def _copy(replicas: I64, to: I64) -> None:
    """Copies (V, P); an assignment of slices would allocate."""
    for v in range(to.shape[0]):
        for p in range(to.shape[1]):
            to[v, p] = replicas[v, p]


@inner
def _raise_and_degrade(
    degrade: I64 | None,
    cat: CatalogArrays,
    wl: WorkloadArrays,
    limits: LimitArrays,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
    ceiling: I64,
    lacks: bool,
) -> None:
    """As declared. Minima that budgets do not pay for bind nothing; what is left then may pay for them after all."""
    if degrade is None:
        _raise_and_cut(cat, wl, limits, plan, n, ceiling, lacks)
        return
    before = integers(cat.usable.shape)
    for spare_minima in (True, False, True):  # the third time from what the second one left
        if spare_minima:
            _copy(plan.replicas[n], before)
            if lacks:
                _raise_to_minima(cat, wl, limits, plan, n, ceiling)
        fits = degrade_one(cat, wl, limits, degrade, obs, plan, n, ceiling, spare_minima)
        if spare_minima:
            if fits:
                return
            _copy(before, plan.replicas[n])
        lacks = True


@inner
def _slow_drain(
    cat: CatalogArrays,
    limits: LimitArrays,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
    p: int,
    lacking: int,
    reason: int,
) -> None:
    """Keeps `lacking` replicas of a pool that the plan would drop too soon or too fast, as far as the budget allows."""
    for v in range(cat.usable.shape[0]):
        if lacking <= 0:
            return
        kept = min(lacking, obs.ready[n, v, p] + obs.starting[n, v, p] - plan.replicas[n, v, p])
        if kept <= 0 or not cat.usable[v, p]:
            continue
        usd = hourly_usd(cat, p)
        room = room_usd_per_hour(limits.strict, cat, limits, obs, plan, n)
        if usd > 0.0 and room < kept * usd:
            kept = int(max(0.0, np.floor(room / usd)))
        if kept > 0:
            plan.replicas[n, v, p] += kept
            lacking -= kept
            plan.reasons[n] |= reason


@inner
def _cut_pool(cat: CatalogArrays, obs: ObservationArrays, plan: PlanArrays, n: int, p: int, ceiling: int) -> None:
    """Cuts a pool to its ceiling: additions first, then the variant of least capacity."""
    excess = _cut_additions(plan, obs, n, p, count_in_pool(plan.replicas, n, p) - ceiling)
    while excess > 0:
        v = _dearest_variant(cat, plan, n, p)
        if v < 0:
            return
        taken = min(excess, plan.replicas[n, v, p])
        plan.replicas[n, v, p] -= taken
        excess -= taken


@inner
def guard_one(
    cat: CatalogArrays, wl: WorkloadArrays, limits: LimitArrays, obs: ObservationArrays, plan: PlanArrays, n: int
) -> None:
    """Changes env n's plan in place until it is valid and within every limit, and sets the reasons."""
    _sanitise(cat, wl, limits, plan, n)
    watch_pools(limits.strict, obs, n)
    num_variants, num_pools = cat.usable.shape
    have = integers(num_pools)
    ceiling = integers(num_pools)
    needs_minima = False
    on_demand = 0
    for p in range(num_pools):
        planned = 0
        for v in range(num_variants):
            have[p] += obs.ready[n, v, p] + obs.starting[n, v, p]
            planned += plan.replicas[n, v, p]
        ceiling[p] = max(0, min(limits.pool_max[p], cat.quota[p], have[p] + limits.max_launch[p]))
        if planned > ceiling[p]:
            plan.reasons[n] |= _POOL_MAX if planned > min(limits.pool_max[p], cat.quota[p]) else _RAMP
        if not may_launch(limits.strict, cat, limits, obs, n, p):
            most = min(ceiling[p], max(have[p], limits.pool_min[p]))
            if min(planned, ceiling[p]) > most:
                plan.reasons[n] |= _COOL_DOWN
            ceiling[p] = most
        if planned > ceiling[p]:
            _cut_pool(cat, obs, plan, n, p, ceiling[p])
            planned = ceiling[p]
        needs_minima = needs_minima or planned < limits.pool_min[p]
        if cat.market[p] == ON_DEMAND:
            on_demand += planned
    lacks = needs_minima or on_demand < limits.on_demand_floor
    _meet_minima_and_budgets(limits.strict, cat, wl, limits, obs, plan, n, ceiling, lacks)
    for p in range(num_pools):
        planned = 0
        for v in range(num_variants):
            planned += plan.replicas[n, v, p]
        most_drained, reason = limits.max_drain[p], _RAMP
        if most_drained > 0 and not may_scale_in(limits.strict, obs, n, p):
            most_drained, reason = 0, _COOL_DOWN
        lacking = min(have[p] - most_drained, ceiling[p]) - planned
        if lacking > 0:
            _slow_drain(cat, limits, obs, plan, n, p, lacking, reason)


@kernel
def guard(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    limits: LimitArrays,
    obs: ObservationArrays,
    plan: PlanArrays,
    lo: int,
    hi: int,
) -> None:
    """`guard_one` for envs lo..hi-1."""
    for n in range(lo, hi):
        guard_one(cat, wl, limits, obs, plan, n)
