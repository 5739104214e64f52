"""Cool-downs: after a pool scaled in it is left alone for a while.

A scale-in is seen, not remembered from a decision: a pool has fewer replicas than at the last observation, for another
reason than the provider. So the memory is the same whoever decided in between, and a journal gives it back. Every
function takes None in place of the strict guard and then compiles to nothing.
"""

from __future__ import annotations

import numpy as np

from controller.arrays import ON_DEMAND, CatalogArrays, LimitArrays, ObservationArrays, StrictGuard
from controller.kernels.compiled import inner

_ROUNDING_S = 1e-6


@inner
def watch_pools(strict: StrictGuard | None, obs: ObservationArrays, n: int) -> None:
    """Notes what env n's pools hold and which were scaled in; a clock that went back, or tick 0, is a new run."""
    if strict is None:
        return
    memory = strict.memory
    is_new = obs.tick[n] == 0 or not obs.time_s[n] >= memory.seen_s[n]
    for p in range(memory.alive.shape[1]):
        alive = 0
        for v in range(obs.ready.shape[1]):
            alive += obs.ready[n, v, p] + obs.starting[n, v, p] + obs.doomed[n, v, p]
        if is_new:
            memory.scaled_in_s[n, p] = -np.inf
        elif memory.alive[n, p] - max(0, obs.preempted[n, p]) - max(0, obs.launch_failed[n, p]) > alive:
            memory.scaled_in_s[n, p] = obs.time_s[n]
        memory.alive[n, p] = alive
    memory.seen_s[n] = obs.time_s[n]


@inner
def may_launch(
    strict: StrictGuard | None, cat: CatalogArrays, limits: LimitArrays, obs: ObservationArrays, n: int, p: int
) -> bool:
    """Whether no launch cool-down holds a pool.

    None does while replicas are under notice, taken back or refused in any pool, nor one on demand while the on-demand
    floor is not met.
    """
    if strict is None:
        return True
    since_s = obs.time_s[n] - strict.memory.scaled_in_s[n, p]
    if since_s >= strict.limits.launch_cool_down_s[p] - _ROUNDING_S:
        return True
    on_demand = 0
    for other in range(obs.available.shape[1]):
        if not obs.available[n, other] or obs.preempted[n, other] > 0:
            return True
        for v in range(obs.doomed.shape[1]):
            if obs.doomed[n, v, other] > 0:
                return True
            if cat.market[other] == ON_DEMAND:
                on_demand += obs.ready[n, v, other] + obs.starting[n, v, other]
    return bool(cat.market[p] == ON_DEMAND and on_demand < limits.on_demand_floor)


@inner
def may_scale_in(strict: StrictGuard | None, obs: ObservationArrays, n: int, p: int) -> bool:
    """Whether no cool-down holds a pool."""
    if strict is None:
        return True
    since_s = obs.time_s[n] - strict.memory.scaled_in_s[n, p]
    return bool(since_s >= strict.limits.cool_down_s[p] - _ROUNDING_S)
