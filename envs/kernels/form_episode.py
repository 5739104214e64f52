"""`run_mpc` for rival forms of the action: several ticks of the whole loop in one call."""

from __future__ import annotations

from controller.arrays import (
    F64,
    I64,
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
from controller.kernels.decide import settle
from controller.kernels.forms import form_one
from controller.rule_arrays import ForecastArrays, MpcArrays, MpcState
from envs.kernels.fleet import apply_one
from envs.kernels.rows import observation_row, state_row, totals_row
from envs.kernels.scratch import Scratch
from envs.kernels.state import SimState, SupplyArrays, TotalArrays
from envs.kernels.tick import advance_one
from envs.kernels.window import open_window


@cached(_nrt=False, nogil=True)
def run_forms(
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
    forms: I64,
    acted: F64,
    ticks: int,
    lo: int,
    hi: int,
) -> None:
    """Runs `ticks` ticks under fixed actions in envs lo..hi-1, one env after the other."""
    for n in range(lo, hi):
        for _ in range(ticks):
            form_one(cat, wl, limits, ctl, settings, forecast, knobs, dial, rule_state, obs, plan, forms, acted, n)
            settle(cat, wl, limits, ctl, obs, plan, actions, shares, n, n + 1)
            window, state, totals = observation_row(obs, n), state_row(st, n), totals_row(tot, n)
            open_window(state, window)
            apply_one(cat, supply, state, window, totals, n, actions, plan, shares, ctl.retry_after_s)
            advance_one(cat, wl, ctl, supply, state, window, totals, an, sc, None)
