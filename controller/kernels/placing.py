"""What follows once capacity is chosen: whole machines, what is held of the old ones, and how long requests wait."""

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
from controller.kernels.compiled import kernel, merged
from controller.kernels.local import integers
from controller.kernels.provision import hold_machines, probe_pools, rank_falling
from controller.kernels.rounding import whole_replicas
from controller.kernels.spending import has_spent
from controller.plan import Reason
from controller.rule_arrays import MpcArrays, MpcState

_PREEMPTION = int(Reason.COVER_PREEMPTION)
_HOLD = int(Reason.HOLD_SCALE_IN)
_OVERFLOW = int(Reason.OVERFLOW)

_ROOM_TO_OVERFLOW = 1.5
"""Queue limit at which a request waits long enough to be sent to serverless, in such waits: queues are uneven."""


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
def admitted_slack(
    wl: WorkloadArrays,
    obs: ObservationArrays,
    n: int,
    c: int,
    shed_slack: float,
    overflow_slack: float,
    fraction: float,
) -> float:
    """Slacks of work that a class may queue.

    A class that has spent today's misses is not refused before serverless could take it: refusals save money only
    while the day permits them.

    Args:
        wl: Workload.
        obs: Observation.
        n: Env.
        c: Class.
        shed_slack: Queue limit of the settings, in slacks.
        overflow_slack: Wait after which a request goes to serverless, in slacks; past 1 it would come too late.
        fraction: Share of such requests that goes there.
    """
    if fraction > 0.0 and overflow_slack < 1.0 and has_spent(wl, obs, n, c):
        return max(shed_slack, _ROOM_TO_OVERFLOW * overflow_slack)
    return shed_slack


@kernel
def serving_rps(market: I64, ready: I64, doomed: I64, rps: F64, n: int) -> float:
    """Capacity of the machines that serve, those under notice included, requests/s."""
    total = 0.0
    for v in range(rps.shape[0]):
        for p in range(rps.shape[1]):
            if market[p] != SERVERLESS:
                total += (ready[n, v, p] + doomed[n, v, p]) * rps[v, p]
    return total


@merged
def place_one(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    limits: LimitArrays,
    ctl: ControlArrays,
    settings: MpcArrays,
    state: MpcState,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
    capacity: F64,
    weights: F64,
    rps: float,
    total_rps: float,
    fraction: F64,
    scale_in_s: float,
) -> None:
    """Writes env n's plan for a capacity.

    Args:
        cat: Catalog.
        wl: Workload.
        limits: Limits; only pool maxima matter here, the guard enforces all.
        ctl: Control spans.
        settings: The rule's settings.
        state: State of the rule; `is_open` is read, `held` updated.
        obs: Observation.
        plan: Plan; its batches are read, all else is written but reasons, which are added to.
        n: Env.
        capacity: (V, P) requests/s wanted of each option.
        weights: (C,) share of each class in the demand.
        rps: Rate now.
        total_rps: Capacity needed in all, requests/s.
        fraction: (C,) share of the requests with a long wait that go to serverless.
        scale_in_s: Time constant with which machines too many are given up.
    """
    num_classes, num_variants, num_pools = wl.allowed.shape
    ranked = integers(num_variants)
    rank_falling(cat.accuracy, ranked)
    whole_replicas(
        wl.allowed, settings.rps, settings.usd, cat.market, limits.pool_max, state.is_open, obs.ready, obs.starting,
        n, capacity, settings.replica_band, ranked, plan.replicas,
    )  # fmt: skip
    probe_pools(
        wl.allowed, settings.rps, settings.usd, cat.market, limits.pool_max, obs.available, n,
        state.is_open, settings.spot_spread, plan.replicas,
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
        plan.overflow_fraction[n, c] = fraction[c]
        plan.hedge_after_s[n, c] = np.inf
        clear_cascade(plan, n, c)
        slacks = admitted_slack(wl, obs, n, c, settings.shed_slack[c], settings.overflow_slack, fraction[c])
        room = slacks * slack_s * weights[c] * max(ready_rps, rps)
        plan.shed_limit[n, c] = max(1, int(min(np.ceil(room), 1e9)))
        if fraction[c] > 0.0 and ready_rps < rps:
            plan.reasons[n] |= _OVERFLOW
    for p in range(num_pools):
        for v in range(num_variants):
            if obs.doomed[n, v, p] > 0:
                plan.reasons[n] |= _PREEMPTION
