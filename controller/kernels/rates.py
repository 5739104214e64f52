"""Arrival rates and capacities that several decisions share."""

from __future__ import annotations

import numpy as np

from controller.arrays import F64, CatalogArrays, ControlArrays, ObservationArrays, PlanArrays, WorkloadArrays
from controller.kernels.compiled import inner
from controller.rule_arrays import RATE_TICKS

FLOOR_MARGIN = 1e-4
"""Plans owe accuracy towards this far above a floor on the day's mean, so that a day does not end just below it."""

SPLIT_MARGIN = 5e-4
"""Traffic is split for this far above a floor: loading accurate machines higher costs less than renting more."""

CREDIT_MARGIN = 3e-3
"""The same for the class with the highest floor, for which accuracy is dearest: what its machines can do and need not
is credit, and so much fewer of them are rented later. As far as it has time to wait: full machines have queues.
"""

CREDIT_PART = 0.2
"""And no more than this part of what the next variant has above the floor: a credit of nearly all of it is owed all
day, and takes that variant from a class that needs it to keep its own floor.
"""

PRIOR_REQUESTS = 30.0
"""Weight of the workload's class shares in the estimate of the present mix, in requests."""


@inner
def history_sum(obs: ObservationArrays, n: int, c: int, num_ticks: int) -> float:
    """Arrivals of a class over the last `num_ticks` ticks (fewer where the run is younger)."""
    length = obs.history.shape[2]
    known = min(num_ticks, obs.tick[n], length)
    at = (obs.tick[n] - 1) % length
    total = 0.0
    for _ in range(known):
        arrived = obs.history[n, c, at]
        if arrived > 0.0 and arrived < np.inf:
            total += arrived
        at -= 1
        if at < 0:
            at = length - 1
    return total


@inner
def class_weights(wl: WorkloadArrays, obs: ObservationArrays, n: int, weights: F64) -> None:
    """Present share of each class: the last minute's counts with the workload's shares as prior. Sums to 1."""
    total = 0.0
    for c in range(wl.share.shape[0]):
        weights[c] = history_sum(obs, n, c, RATE_TICKS) + PRIOR_REQUESTS * wl.share[c]
        total += weights[c]
    for c in range(wl.share.shape[0]):
        weights[c] /= total


@inner
def peak_rate(ctl: ControlArrays, obs: ObservationArrays, n: int, c: int, num_ticks: int) -> float:
    """Largest arrival rate of one tick among the last `num_ticks`, requests/s."""
    length = obs.history.shape[2]
    known = min(num_ticks, obs.tick[n], length)
    most = 0.0
    for k in range(known):
        arrived = obs.history[n, c, (obs.tick[n] - 1 - k) % length]
        if arrived > most and arrived < np.inf:
            most = arrived
    return most / ctl.tick_s


@inner
def mean_rate(ctl: ControlArrays, obs: ObservationArrays, n: int, c: int, span_s: float) -> float:
    """Mean arrival rate of a class over a span, or as far back as the run goes; -1 in its first minute."""
    num_ticks = min(obs.history.shape[2], max(1, int(span_s / ctl.tick_s + 0.5)))
    known = min(num_ticks, obs.tick[n])
    if known < RATE_TICKS:
        return -1.0
    return history_sum(obs, n, c, num_ticks) / (known * ctl.tick_s)


@inner
def replica_rps(cat: CatalogArrays, v: int, p: int, batch: int) -> float:
    """Requests/s of one replica that is always busy with batches of `batch` items; 0 where unusable."""
    if not cat.usable[v, p]:
        return 0.0
    size = max(1, min(batch, cat.batch_max[v, p]))
    seconds = cat.service_s[v, p, size]
    if not (seconds > 0.0 and seconds < np.inf):
        return 0.0
    return cat.concurrency[v, p] * size / seconds


@inner
def planned_rps(cat: CatalogArrays, plan: PlanArrays, n: int, v: int, p: int) -> float:
    """Requests/s of one replica at the plan's batch size."""
    return replica_rps(cat, v, p, plan.batch_size[n, v, p])
