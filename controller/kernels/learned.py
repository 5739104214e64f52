"""The learned policy in one call: what the network sees, what it says, and the rule under it.

Each call from Python unpacks some hundred arrays, which takes as long as the work itself, so it is done once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from controller.arrays import (
    F64,
    Bool,
    CatalogArrays,
    ControlArrays,
    LimitArrays,
    ObservationArrays,
    PlanArrays,
    WorkloadArrays,
)
from controller.kernels.compiled import kernel
from controller.kernels.encode import encode_one
from controller.kernels.mpc import mpc_one
from controller.kernels.network import NetworkArrays, forward
from controller.rule_arrays import ForecastArrays, MpcArrays, MpcState


@kernel
def look(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    settings: MpcArrays,
    forecast: ForecastArrays,
    net: NetworkArrays,
    is_due: Bool,
    knobs: F64,
    dial: F64,
    state: MpcState,
    obs: ObservationArrays,
    plan: PlanArrays,
    seen: NDArray[np.float32],
    own: F64,
    lo: int,
    hi: int,
) -> None:
    """What the network says in those of envs lo..hi-1 that are due.

    Args:
        cat: Catalog.
        wl: Workload.
        ctl: Control spans.
        settings: The rule's settings.
        forecast: Forecaster.
        net: The network.
        is_due: (N,).
        knobs: (N, K) of the last plan.
        dial: (N,).
        state: Of the rule.
        obs: Observation.
        plan: The last plan.
        seen: (N, D) work space.
        own: (N, K), written where due.
        lo: First env.
        hi: One after the last.
    """
    for n in range(lo, hi):
        if is_due[n]:
            encode_one(cat, wl, ctl, settings, forecast, knobs, dial, state, obs, plan, n, seen)
            forward(net, seen, n, own)


@kernel
def look_and_plan(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    limits: LimitArrays,
    ctl: ControlArrays,
    settings: MpcArrays,
    forecast: ForecastArrays,
    net: NetworkArrays,
    is_due: Bool,
    knobs: F64,
    dial: F64,
    state: MpcState,
    obs: ObservationArrays,
    plan: PlanArrays,
    seen: NDArray[np.float32],
    own: F64,
    lo: int,
    hi: int,
) -> None:
    """`look`, then the rule's plan under what the network said last, envs lo..hi-1."""
    for n in range(lo, hi):
        look(cat, wl, ctl, settings, forecast, net, is_due, knobs, dial, state, obs, plan, seen, own, n, n + 1)
        for k in range(knobs.shape[1]):
            knobs[n, k] = own[n, k]
        mpc_one(cat, wl, limits, ctl, settings, forecast, knobs, dial, state, obs, plan, n)
