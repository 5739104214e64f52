"""Keeps what serverless calls may cost within what the budgets leave beside the planned fleet."""

from __future__ import annotations

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
    StrictGuard,
    WorkloadArrays,
)
from controller.bill import serverless_usd
from controller.kernels.compiled import inner
from controller.kernels.local import flags, floats, integers
from controller.kernels.money import DAY, HOUR, costs_of, measure
from controller.kernels.provision import rank_falling
from controller.kernels.rates import peak_rate
from controller.plan import Reason
from controller.rule_arrays import RATE_TICKS

_SERVERLESS_BUDGET = int(Reason.SERVERLESS_BUDGET)
_serverless_usd = inner(serverless_usd)


@inner
def call_usd(cat: CatalogArrays, v: int, p: int) -> float:
    """One call that finds a warm environment, of mean duration."""
    return _serverless_usd(
        cat.service_s[v, p, 1], cat.billing_step_s[p], cat.memory_gb[p], cat.usd_per_gb_s[p], cat.usd_per_request[p]
    )


@inner
def worst_tick_usd(cat: CatalogArrays, control: ControlArrays, v: int, p: int) -> float:
    """What one option's calls of a tick can cost at its quota: every environment busy, and the last calls cold."""
    last = cat.shapes.shape[1] - 1
    longest_s = cat.service_s[v, p, 1] * cat.shapes[cat.service_shape[v, p], last]
    longest_s += cat.cold_start_s[v, p] * cat.shapes[cat.cold_shape[v, p], last]
    calls = control.tick_s / cat.service_s[v, p, 1] + 1.0
    by_duration = (control.tick_s + longest_s + calls * cat.billing_step_s[p]) * cat.memory_gb[p] * cat.usd_per_gb_s[p]
    return cat.quota[p] * (by_duration + calls * cat.usd_per_request[p])


@inner
def _send_to_machines(
    cat: CatalogArrays, wl: WorkloadArrays, obs: ObservationArrays, plan: PlanArrays, n: int, c: int, shares: F64
) -> None:
    """Moves a class's serverless shares to machines: those it has, else where a replica starts or is planned.

    There its requests wait until their deadline, one at a time. A class without any machine option keeps its shares.
    """
    _, num_variants, num_pools = wl.allowed.shape
    kept, best, most = 0.0, -1, -1
    for v in range(num_variants):
        for p in range(num_pools):
            if cat.market[p] == SERVERLESS or not wl.allowed[c, v, p]:
                continue
            kept += shares[n, c, v, p]
            count = obs.starting[n, v, p] + plan.replicas[n, v, p]
            if count > most:
                best, most = v * num_pools + p, count
    if best < 0:
        return
    for v in range(num_variants):
        for p in range(num_pools):
            if wl.collage[c, v, p]:
                continue
            if cat.market[p] == SERVERLESS:
                shares[n, c, v, p] = 0.0
            elif kept > 0.0:
                shares[n, c, v, p] /= kept
    if kept <= 0.0:
        shares[n, c, best // num_pools, best % num_pools] = 1.0
        plan.shed_limit[n, c] = 1


@inner
def _takes_overflow(wl: WorkloadArrays, plan: PlanArrays, n: int, c: int, option: int) -> bool:
    """Whether a class's requests may overflow to an option: where they arrive, or at a later step of its cascade."""
    if plan.overflow_fraction[n, c] <= 0.0:
        return False
    takes = wl.overflow_option[c] == option
    for step in range(1, plan.cascade_variant.shape[2]):
        v = plan.cascade_variant[n, c, step]
        takes = takes or (v >= 0 and wl.step_overflow[c, v] == option)
    return takes


@inner
def _overflow_usd(cat: CatalogArrays, wl: WorkloadArrays, plan: PlanArrays, n: int, c: int, sent: float) -> float:
    """Of a request that overflows wherever it may: on arrival, unless it was sent, and at every later step."""
    num_pools = cat.market.shape[0]
    option, usd = wl.overflow_option[c], 0.0
    if option >= 0:
        usd = max(0.0, 1.0 - sent) * call_usd(cat, option // num_pools, option % num_pools)
    for step in range(1, plan.cascade_variant.shape[2]):
        v = plan.cascade_variant[n, c, step]
        option = wl.step_overflow[c, v] if v >= 0 else -1
        if option >= 0:
            usd += call_usd(cat, option // num_pools, option % num_pools)
    return usd


@inner
def _bound_class(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    control: ControlArrays,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
    c: int,
    shares: F64,
    room: F64,
    is_counted: Bool,
) -> None:
    """Lets a class call as far as `room` goes, and takes that off it: $/hour at `HOUR`, $ in all at `DAY`."""
    _, num_variants, num_pools = wl.allowed.shape
    rps = peak_rate(control, obs, n, c, RATE_TICKS)
    takes, may_overflow = flags(cat.usable.shape), False
    sent, sent_usd, worst_usd = 0.0, 0.0, 0.0
    for v in range(num_variants):
        for p in range(num_pools):
            if cat.market[p] != SERVERLESS:
                continue
            share = shares[n, c, v, p]
            sent += share
            if share > 0.0:
                sent_usd += rps * share * call_usd(cat, v, p) * 3600.0
            takes[v, p] = _takes_overflow(wl, plan, n, c, v * num_pools + p)
            may_overflow = may_overflow or takes[v, p]
            if (share > 0.0 or takes[v, p]) and not is_counted[v, p]:
                worst_usd += worst_tick_usd(cat, control, v, p)
    if sent <= 0.0 and not may_overflow:
        return
    is_open = worst_usd <= room[DAY]
    if sent > 0.0 and not (is_open and sent_usd <= room[HOUR]):
        _send_to_machines(cat, wl, obs, plan, n, c, shares)
        plan.reasons[n] |= _SERVERLESS_BUDGET
        sent, sent_usd = 0.0, 0.0
    room[HOUR] -= sent_usd
    if may_overflow:
        full_usd = rps * _overflow_usd(cat, wl, plan, n, c, sent) * 3600.0
        fraction = plan.overflow_fraction[n, c]
        if not is_open:
            fraction = 0.0
        elif full_usd * fraction > room[HOUR]:
            fraction = max(0.0, room[HOUR] / full_usd)
        if fraction < plan.overflow_fraction[n, c]:
            plan.overflow_fraction[n, c] = fraction
            plan.reasons[n] |= _SERVERLESS_BUDGET
        room[HOUR] -= full_usd * fraction
    if is_open:
        room[DAY] -= worst_usd
        for v in range(num_variants):
            for p in range(num_pools):
                if takes[v, p] or (cat.market[p] == SERVERLESS and shares[n, c, v, p] > 0.0):
                    is_counted[v, p] = True


@inner
def bound_calls(
    strict: StrictGuard | None,
    cat: CatalogArrays,
    wl: WorkloadArrays,
    limits: LimitArrays,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
    shares: F64,
) -> None:
    """Bounds env n's overflow and serverless shares by what its plan leaves of the budgets; most valuable class first.

    Per hour: every request counts as if it overflowed whenever it may, at the rate of the busiest tick of the last
    minute and the price of a warm call. Per day: an option is called only while what is left pays for the worst tick
    that its quota allows, so that the day's budget is not exceeded by calls, whatever arrives. Workflows of several
    operators are left as they are: the way of their messages is not a matter of shares alone.
    """
    if strict is not None:
        _bound(strict.limits.degrade, strict, cat, wl, limits, obs, plan, n, shares)


@inner
def _bound(
    degrade: I64 | None,
    strict: StrictGuard,
    cat: CatalogArrays,
    wl: WorkloadArrays,
    limits: LimitArrays,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
    shares: F64,
) -> None:
    if degrade is None:
        return
    num_classes = wl.allowed.shape[0]
    room = floats(2)
    costs = costs_of(cat, limits, obs, n, floats((2, cat.market.shape[0])), integers(cat.usable.shape))
    measure(costs, plan.replicas[n], room)
    per_hour = max(0.0, -max(room[HOUR], room[DAY]))
    room[HOUR], room[DAY] = per_hour, -room[DAY] * costs.left_h
    order = integers(num_classes)
    rank_falling(wl.value_usd, order)
    is_counted = flags(cat.usable.shape)
    for c in order:
        if wl.num_operators[c] == 1:
            _bound_class(cat, wl, strict.limits.control, obs, plan, n, c, shares, room, is_counted)
