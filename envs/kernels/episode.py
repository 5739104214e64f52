"""Several ticks of the whole loop in one call, which training and tuning run instead of the Python loop."""

from __future__ import annotations

from controller.arrays import (
    F64,
    ActionArrays,
    AnswerArrays,
    CatalogArrays,
    ControlArrays,
    LimitArrays,
    ObservationArrays,
    PlanArrays,
    WorkloadArrays,
)
from controller.kernels.compiled import cached
from controller.kernels.decide import decide_mpc
from controller.rule_arrays import ForecastArrays, MpcArrays, MpcState
from envs.kernels.fleet import apply_one
from envs.kernels.rows import observation_row, state_row, totals_row
from envs.kernels.scratch import Scratch
from envs.kernels.state import SimState, SupplyArrays, TotalArrays
from envs.kernels.tick import advance_one
from envs.kernels.window import open_window


@cached(_nrt=False, nogil=True)
def run_mpc(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    limits: LimitArrays,
    ctl: ControlArrays,
    supply: SupplyArrays,
    settings: MpcArrays,
    forecast: ForecastArrays,
    knobs: F64,
    dial: F64,
    rule_state: MpcState,
    st: SimState,
    obs: ObservationArrays,
    tot: TotalArrays,
    plan: PlanArrays,
    actions: ActionArrays,
    shares: F64,
    an: AnswerArrays,
    sc: Scratch,
    told: F64,
    ticks: int,
    lo: int,
    hi: int,
) -> None:
    """Runs `ticks` ticks of the `mpc` rule under fixed knobs in envs lo..hi-1, one env after the other.

    `told`, (T, N, 2) with T >= `ticks`, is what the rule is told in each of them; with T = 0 it is what it was.
    """
    for n in range(lo, hi):
        for tick in range(ticks):
            if told.shape[0] > 0:
                rule_state.told[n, 0], rule_state.told[n, 1] = told[tick, n, 0], told[tick, n, 1]
            decide_mpc(
                cat, wl, limits, ctl, settings, forecast, knobs, dial, rule_state, obs, plan, actions, shares, n, n + 1
            )
            window, state, totals = observation_row(obs, n), state_row(st, n), totals_row(tot, n)
            open_window(state, window)
            apply_one(cat, supply, state, window, totals, n, actions, plan, shares, ctl.retry_after_s)
            advance_one(cat, wl, ctl, supply, state, window, totals, an, sc, None)
