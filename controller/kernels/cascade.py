"""Cascades in a plan: whether one can be followed, and none."""

from __future__ import annotations

from controller.arrays import PlanArrays, WorkloadArrays
from controller.kernels.compiled import inner


@inner
def has_valid_cascade(wl: WorkloadArrays, plan: PlanArrays, n: int, c: int) -> bool:
    """Whether a class's cascade is none, or distinct variants that may answer it, without a gap or a NaN threshold.

    Two steps can start at once, no other number.
    """
    ended, num_steps = False, 0
    for step in range(plan.cascade_variant.shape[2]):
        v = plan.cascade_variant[n, c, step]
        if v == -1:
            ended = True
            continue
        num_steps += 1
        if ended or v < 0 or v >= wl.allowed.shape[1]:
            return False
        for earlier in range(step):
            if plan.cascade_variant[n, c, earlier] == v:
                return False
        allowed = False
        for p in range(wl.allowed.shape[2]):
            allowed = allowed or wl.allowed[c, v, p]
        if not allowed:
            return False
    for step in range(plan.cascade_threshold.shape[2]):
        if plan.cascade_threshold[n, c, step] != plan.cascade_threshold[n, c, step]:
            return False
    return num_steps == 2 or not plan.cascade_concurrent[n, c]


@inner
def clear_cascade(plan: PlanArrays, n: int, c: int) -> None:
    """Leaves a class without a cascade."""
    for step in range(plan.cascade_variant.shape[2]):
        plan.cascade_variant[n, c, step] = -1
    for step in range(plan.cascade_threshold.shape[2]):
        plan.cascade_threshold[n, c, step] = 0.0
    plan.cascade_concurrent[n, c] = False
