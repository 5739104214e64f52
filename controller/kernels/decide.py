"""The whole decision path in one compiled call, for training; `controller.loop` calls the same pieces."""

from __future__ import annotations

from controller.arrays import (
    F64,
    ActionArrays,
    CatalogArrays,
    ControlArrays,
    LimitArrays,
    ObservationArrays,
    PlanArrays,
    WorkloadArrays,
)
from controller.kernels.calls import bound_calls
from controller.kernels.compiled import kernel
from controller.kernels.guard import guard_one
from controller.kernels.mpc import mpc_one
from controller.kernels.reconcile import reconcile_one
from controller.kernels.shedding import shed_by_value
from controller.kernels.split import split_one
from controller.rule_arrays import ForecastArrays, MpcArrays, MpcState


@kernel
def settle(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    limits: LimitArrays,
    ctl: ControlArrays,
    obs: ObservationArrays,
    plan: PlanArrays,
    actions: ActionArrays,
    shares: F64,
    lo: int,
    hi: int,
) -> None:
    """Any policy's plans to actions and shares, envs lo..hi-1: guard (in place), reconcile, split, bounds."""
    for n in range(lo, hi):
        guard_one(cat, wl, limits, obs, plan, n)
        reconcile_one(cat, wl, ctl, obs, plan, n, actions)
        split_one(cat, wl, ctl, obs, plan, actions, n, shares)
        bound_calls(limits.strict, cat, wl, limits, obs, plan, n, shares)
        shed_by_value(cat, wl, limits, ctl, obs, plan, actions, n, shares)


@kernel
def decide_mpc(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    limits: LimitArrays,
    ctl: ControlArrays,
    settings: MpcArrays,
    forecast: ForecastArrays,
    knobs: F64,
    dial: F64,
    rule_state: MpcState,
    obs: ObservationArrays,
    plan: PlanArrays,
    actions: ActionArrays,
    shares: F64,
    lo: int,
    hi: int,
) -> None:
    """The `mpc` rule under `knobs` and `dial`, then `settle`, envs lo..hi-1."""
    for n in range(lo, hi):
        mpc_one(cat, wl, limits, ctl, settings, forecast, knobs, dial, rule_state, obs, plan, n)
        guard_one(cat, wl, limits, obs, plan, n)
        reconcile_one(cat, wl, ctl, obs, plan, n, actions)
        split_one(cat, wl, ctl, obs, plan, actions, n, shares)
        bound_calls(limits.strict, cat, wl, limits, obs, plan, n, shares)
        shed_by_value(cat, wl, limits, ctl, obs, plan, actions, n, shares)
