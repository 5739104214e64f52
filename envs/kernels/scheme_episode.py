"""Several ticks of the whole loop in one call, for rival schemes; apart, because editing one compiles it anew."""

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
from controller.kernels.decide import settle
from controller.kernels.rules import scheme
from controller.rival_arrays import RivalArrays, RivalState
from envs.kernels.fleet import apply_one
from envs.kernels.rows import observation_row, state_row, totals_row
from envs.kernels.scratch import Scratch
from envs.kernels.state import SimState, SupplyArrays, TotalArrays
from envs.kernels.tick import advance_one
from envs.kernels.window import open_window


@cached(_nrt=False, nogil=True)
def run_scheme(
    kind: int,
    cat: CatalogArrays,
    wl: WorkloadArrays,
    limits: LimitArrays,
    ctl: ControlArrays,
    supply: SupplyArrays,
    settings: RivalArrays,
    rule_state: RivalState,
    st: SimState,
    obs: ObservationArrays,
    tot: TotalArrays,
    plan: PlanArrays,
    actions: ActionArrays,
    shares: F64,
    an: AnswerArrays,
    sc: Scratch,
    ticks: int,
    lo: int,
    hi: int,
) -> None:
    """Runs `ticks` ticks of a rival scheme in envs lo..hi-1, one env after the other."""
    for n in range(lo, hi):
        for _ in range(ticks):
            scheme(kind, cat, wl, limits, ctl, settings, rule_state, obs, plan, n, n + 1)
            settle(cat, wl, limits, ctl, obs, plan, actions, shares, n, n + 1)
            window, state, totals = observation_row(obs, n), state_row(st, n), totals_row(tot, n)
            open_window(state, window)
            apply_one(cat, supply, state, window, totals, n, actions, plan, shares, ctl.retry_after_s)
            advance_one(cat, wl, ctl, supply, state, window, totals, an, sc, None)
