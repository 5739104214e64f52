"""One tick of one env: arrivals, routing, service, rent, edge events, observation."""

from __future__ import annotations

from controller.arrays import (
    F64,
    SERVERLESS,
    ActionArrays,
    AnswerArrays,
    CatalogArrays,
    ControlArrays,
    ObservationArrays,
    PlanArrays,
    WorkloadArrays,
)
from controller.keyed_random import GAP
from envs.kernels.arrivals import arrive, gap, members, reroute, routes, segments
from envs.kernels.compiled import entry, inlined, kernel, place
from envs.kernels.event import needs_events, serve_events
from envs.kernels.fast import serve_machines
from envs.kernels.fleet import apply_one, count_fleet, rent
from envs.kernels.lanes import deal_credits
from envs.kernels.market import edge
from envs.kernels.requests import (
    book_answers,
    clear_answers,
    miss_in_service,
    most_waiting,
    settle_flights,
    sort_by_time,
)
from envs.kernels.rows import observation_row, state_row, totals_row
from envs.kernels.scratch import Events, Scratch
from envs.kernels.serverless import serve_serverless
from envs.kernels.state import SimState, SupplyArrays, TotalArrays
from envs.kernels.window import close_window, open_window


@kernel
def advance_one(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    supply: SupplyArrays,
    st: SimState,
    obs: ObservationArrays,
    tot: TotalArrays,
    an: AnswerArrays,
    sc: Scratch,
    ev: Events | None,
) -> None:
    """One tick of one env. Charges booked between edges (releases at `apply`) are kept in the window that follows.

    Without work space for events (None) the event kernel is not even compiled; its caller knows that none is needed.
    """
    open_window(st, obs)
    start_s = st.clock.now_s[0]
    end_s = (st.clock.tick[0] + 1) * ctl.tick_s
    clear_answers(sc)
    routes(wl, st, sc)
    members(st, sc)
    reroute(wl, st, sc)
    deal_credits(cat, st, sc)
    count = arrive(wl, supply, st, obs, sc, start_s, end_s)
    if ev is None:
        _serve_apart(cat, wl, st, obs, sc, count, start_s, end_s)
    elif needs_events(wl, st, sc):
        serve_events(cat, wl, st, obs, an, sc, ev, count, start_s, end_s)
    else:
        _serve_apart(cat, wl, st, obs, sc, count, start_s, end_s)
    book_answers(cat, wl, obs, sc)
    for klass in range(tot.right.shape[0]):
        tot.right[klass] += obs.accuracy_sum[klass] + sc.surplus[klass]
    rent(cat, st, obs, tot, start_s, end_s)
    st.clock.now_s[0] = end_s
    st.clock.tick[0] += 1
    edge(cat, wl, supply, st, obs, tot, ctl.retry_after_s)
    close_window(ctl, st, obs, tot)
    count_fleet(cat, st, obs)
    obs.time_s[0] = end_s
    obs.tick[0] = st.clock.tick[0]


@inlined
def _serve_apart(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    st: SimState,
    obs: ObservationArrays,
    sc: Scratch,
    count: int,
    start_s: float,
    end_s: float,
) -> None:
    """The fast kernel: one lane after the other, serverless ones last because the others send to them."""
    settle_flights(cat, wl, st, obs, sc, start_s, end_s)
    num_over = segments(cat, st, sc, count)
    most = most_waiting(cat, st)
    for lane in range(st.queue.head.shape[0]):
        if sc.seg_fill[lane] > 0:
            num_over = serve_machines(cat, wl, st, obs, sc, lane, start_s, end_s, num_over, most)
    _serve_overflow(cat, wl, st, obs, sc, start_s, end_s, num_over)
    miss_in_service(wl, st, obs, start_s, end_s)


@kernel
def _serve_overflow(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    st: SimState,
    obs: ObservationArrays,
    sc: Scratch,
    start_s: float,
    end_s: float,
    num_over: int,
) -> None:
    sort_by_time(sc.over_arrival_s, sc.over_order, sc.over_work, num_over)
    num_pools = cat.market.shape[0]
    for option in range(st.containers.alive.shape[0]):
        if cat.market[place(option, num_pools)[1]] != SERVERLESS:
            continue
        is_used = st.containers.alive[option] > 0
        for index in range(num_over):
            if is_used:
                break
            is_used = sc.over_option[index] == option
        if is_used:
            serve_serverless(cat, wl, st, obs, sc, option, start_s, end_s, num_over)


@entry
def advance(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    supply: SupplyArrays,
    st: SimState,
    obs: ObservationArrays,
    tot: TotalArrays,
    an: AnswerArrays,
    sc: Scratch,
    ev: Events | None,
    lo: int,
    hi: int,
) -> None:
    """One tick of envs lo..hi - 1."""
    for n in range(lo, hi):
        advance_one(cat, wl, ctl, supply, state_row(st, n), observation_row(obs, n), totals_row(tot, n), an, sc, ev)


@entry
def apply(
    cat: CatalogArrays,
    ctl: ControlArrays,
    supply: SupplyArrays,
    st: SimState,
    obs: ObservationArrays,
    tot: TotalArrays,
    actions: ActionArrays,
    plan: PlanArrays,
    shares: F64,
    lo: int,
    hi: int,
) -> None:
    """Opens the next window and applies actions to envs lo..hi - 1."""
    for n in range(lo, hi):
        state, row = state_row(st, n), observation_row(obs, n)
        open_window(state, row)
        apply_one(cat, supply, state, row, totals_row(tot, n), n, actions, plan, shares, ctl.retry_after_s)


@entry
def open_market(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    supply: SupplyArrays,
    st: SimState,
    obs: ObservationArrays,
    tot: TotalArrays,
    lo: int,
    hi: int,
) -> None:
    """The edge before the first tick: takes what spot zones do not offer, unbilled; writes the first observation."""
    for n in range(lo, hi):
        state, row = state_row(st, n), observation_row(obs, n)
        state.clock.gap_left[0] = gap(supply.gaps, supply.is_poisson, state.clock.keys[GAP], 0)
        edge(cat, wl, supply, state, row, totals_row(tot, n), ctl.retry_after_s)
        for p in range(tot.instance_s.shape[1]):
            tot.instance_s[n, p] = 0.0
        for term in range(row.spend_usd.shape[0]):
            row.spend_usd[term] = 0.0
        count_fleet(cat, state, row)
