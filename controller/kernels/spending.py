"""Permitted misses let happen: while a class may still miss some today, not every long wait is worth a serverless call.

A fixed share of long waits sent to serverless spends too much on quiet days and keeps no promise on busy ones, for how
many there will be is not known. What was missed so far today is.
"""

from __future__ import annotations

import numpy as np

from controller.arrays import SERVERLESS, CatalogArrays, ControlArrays, ObservationArrays, WorkloadArrays
from controller.kernels.compiled import inner, kernel
from controller.kernels.rates import mean_rate
from controller.rule_arrays import RATE_TICKS

SPEND_TICKS = 3
"""Ticks of arrivals that could all be missed before the count of misses shows it."""


@kernel
def share_let_wait(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    obs: ObservationArrays,
    n: int,
    c: int,
    budget: float,
    value_of_miss: float,
) -> float:
    """Share of a class's long waits that is not sent to serverless, 0..1.

    Even if all arrivals of the next ticks were missed, the day would stay within `budget`, a share of the misses that
    the promise permits among the arrivals so far. A class without a machine, ready or starting, is never let wait.

    Args:
        cat: Catalog.
        wl: Workload.
        ctl: Control spans.
        obs: Observation.
        n: Env.
        c: Class.
        budget: Share of the permitted misses, 0..1; 0 lets none happen knowingly.
        value_of_miss: Log of how many times a miss is worth its usual value; the odds of a permitted one fall by it.
    """
    if budget <= 0.0:
        return 0.0
    odds = (1.0 - wl.attainment_target[c]) / max(wl.attainment_target[c], 1e-9) * np.exp(-value_of_miss)
    left = budget * odds / (1.0 + odds) * obs.day_arrivals[n, c] - max(0, obs.day_missed[n, c])
    rps = mean_rate(ctl, obs, n, c, RATE_TICKS * ctl.tick_s)
    if not left > 0.0 or rps < 0.0 or not _has_machine(cat, wl, obs, n, c):
        return 0.0
    return min(1.0, left / max(1.0, rps * SPEND_TICKS * ctl.tick_s))


@kernel
def has_spent(wl: WorkloadArrays, obs: ObservationArrays, n: int, c: int) -> bool:
    """Whether more of a class was missed today than its promise permits among the arrivals so far."""
    return obs.day_missed[n, c] > (1.0 - wl.attainment_target[c]) * max(0, obs.day_arrivals[n, c])


@inner
def _has_machine(cat: CatalogArrays, wl: WorkloadArrays, obs: ObservationArrays, n: int, c: int) -> bool:
    for v in range(cat.usable.shape[0]):
        for p in range(cat.usable.shape[1]):
            if wl.allowed[c, v, p] and cat.market[p] != SERVERLESS and obs.ready[n, v, p] + obs.starting[n, v, p] > 0:
                return True
    return False
