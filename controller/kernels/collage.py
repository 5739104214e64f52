"""Collages in a plan: whether one can be followed, none, and where a group's pass goes."""

from __future__ import annotations

import numpy as np

from controller.arrays import F64, ActionArrays, CatalogArrays, ObservationArrays, PlanArrays, WorkloadArrays
from controller.kernels.compiled import inner
from controller.kernels.counts import staying_replicas
from controller.kernels.rates import planned_rps


@inner
def has_valid_collage(wl: WorkloadArrays, plan: PlanArrays, n: int, c: int) -> bool:
    """Whether a class's collage is none, or a variant that may answer it as one before the deadline.

    A class has one kind of redundancy at a time: a duplicate or a further step of a request beside its cell of a
    collage would leave three to choose from. A duplicate that replaces the first copy does not.
    """
    v, after_s = plan.collage_variant[n, c], plan.collage_after_s[n, c]
    if v == -1:
        return after_s == np.inf
    if v < 0 or v >= wl.collage.shape[1] or not (0.0 <= after_s < wl.slo_s[c]):
        return False
    if plan.collage_passes[n, c] < 1 or plan.collage_passes[n, c] > 2:
        return False
    if plan.hedge_after_s[n, c] < np.inf and not plan.hedge_replaces[n, c]:
        return False
    if plan.cascade_variant[n, c, 0] >= 0:
        return False
    may_answer = False
    for p in range(wl.collage.shape[2]):
        may_answer = may_answer or wl.collage[c, v, p]
    return may_answer


@inner
def clear_collage(plan: PlanArrays, n: int, c: int) -> None:
    """Leaves a class without a collage."""
    plan.collage_variant[n, c] = -1
    plan.collage_after_s[n, c] = np.inf
    plan.collage_passes[n, c] = 1


@inner
def collage_split(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    obs: ObservationArrays,
    plan: PlanArrays,
    actions: ActionArrays,
    n: int,
    c: int,
    shares: F64,
) -> None:
    """Shares of a class's collages over the options of their variant that serve, by capacity; they sum to 1 or 0.

    They stand beside the shares of the class's requests, which no collage takes.
    """
    v = plan.collage_variant[n, c]
    if v < 0:
        return
    capacity = 0.0
    for p in range(wl.collage.shape[2]):
        if wl.collage[c, v, p]:
            capacity += staying_replicas(obs, actions, n, v, p) * planned_rps(cat, plan, n, v, p)
    for p in range(wl.collage.shape[2]):
        if wl.collage[c, v, p] and capacity > 0.0:
            replicas = staying_replicas(obs, actions, n, v, p)
            shares[n, c, v, p] = replicas * planned_rps(cat, plan, n, v, p) / capacity
