"""One tick of one env: arrivals, routing, service, rent, edge events, observation."""

from __future__ import annotations

import math

import numpy as np

from controller import routing
from controller.arrays import (
    F64,
    HISTORY_TICKS,
    I64,
    SERVERLESS,
    ActionArrays,
    CatalogArrays,
    ControlArrays,
    ObservationArrays,
    PlanArrays,
    WorkloadArrays,
)
from controller.kernels.random import uniform
from controller.keyed_random import CLASS, GAP, OPTION
from envs.kernels.compiled import entry, inlined, kernel
from envs.kernels.fast import serve_machines, serve_serverless
from envs.kernels.fleet import apply_one, count_fleet, edge, rent
from envs.kernels.requests import draw, enqueue, let_go, miss_in_service, settle_flights, sort_by_time
from envs.kernels.rows import observation_row, state_row, totals_row
from envs.kernels.state import DOOMED, SERVING, STARTING, Scratch, SimState, SupplyArrays, TotalArrays

_pick_option = inlined(routing.pick_option)


@inlined
def _gap(gaps: F64, is_poisson: bool, key: np.uint64, identity: int) -> float:
    u = uniform(key, identity, 0)
    if is_poisson:
        return -math.log(1.0 - u)
    return draw(gaps, u)


@kernel
def _arrive(
    wl: WorkloadArrays,
    supply: SupplyArrays,
    st: SimState,
    obs: ObservationArrays,
    sc: Scratch,
    start_s: float,
    end_s: float,
) -> int:
    """Draws the tick's arrivals, a renewal process time-changed by the trace's rate; returns their number."""
    rates, rate_bin_s = supply.rate_rps[st.clock.trace[0]], supply.rate_bin_s
    gaps, is_poisson = supply.gaps, supply.is_poisson
    bins = rates.shape[0]
    gap_key, class_key = st.clock.keys[GAP], st.clock.keys[CLASS]
    shares = wl.share
    last_class = shares.shape[0] - 1
    arrival_s, identities, classes, arrivals = sc.arrival_s, sc.identity, sc.klass, obs.arrivals
    most = arrival_s.shape[0] - st.held.next.shape[0] - 1
    gap_left, identity = st.clock.gap_left[0], st.clock.next_request[0]
    offset_s = st.clock.start_s[0]
    now_s, count = start_s, 0
    while now_s < end_s:
        position = int((offset_s + now_s) / rate_bin_s + 1e-9)
        until_s = min((position + 1) * rate_bin_s - offset_s, end_s)
        rate = rates[min(max(position, 0), bins - 1)]
        mass = rate * (until_s - now_s)
        while rate > 0.0 and gap_left <= mass and count < most:
            now_s += gap_left / rate
            mass -= gap_left
            u = uniform(class_key, identity, 0)
            klass = 0
            while klass < last_class and u >= shares[klass]:
                u -= shares[klass]
                klass += 1
            arrival_s[count] = min(now_s, until_s)
            identities[count] = identity
            classes[count] = klass
            arrivals[klass] += 1
            count += 1
            identity += 1
            gap_left = _gap(gaps, is_poisson, gap_key, identity)
        gap_left -= mass
        now_s = until_s
    st.clock.gap_left[0], st.clock.next_request[0] = max(gap_left, 0.0), identity
    return count


@kernel
def _routes(st: SimState, sc: Scratch) -> None:
    """Compacts the shares of each class into running sums over the options it uses."""
    for klass in range(st.rules.shares.shape[0]):
        total, length = 0.0, 0
        for option in range(st.rules.shares.shape[1]):
            share = st.rules.shares[klass, option]
            if share > 0.0:
                total += share
                sc.route_share[klass, length] = total
                sc.route_option[klass, length] = option
                length += 1
        sc.route_length[klass] = length


@inlined
def _route(share: F64, option: I64, length: I64, klass: int, u: float) -> int:
    picked = _pick_option(share[klass, : length[klass]], u)
    return option[klass, picked] if picked >= 0 else -1


@kernel
def _members(st: SimState, sc: Scratch) -> None:
    """Groups the instances by option; marks which options serve or will."""
    num_options = st.queue.head.shape[0]
    for option in range(num_options + 1):
        sc.member_start[option] = 0
    for i in range(st.fleet.used[0]):
        if st.fleet.state[i] == SERVING or st.fleet.state[i] == DOOMED:
            sc.member_start[st.fleet.option[i] + 1] += 1
    for option in range(num_options):
        sc.member_start[option + 1] += sc.member_start[option]
        sc.seg_fill[option] = sc.member_start[option]
    for i in range(st.fleet.used[0]):
        if st.fleet.state[i] == SERVING or st.fleet.state[i] == DOOMED:
            option = st.fleet.option[i]
            sc.member[sc.seg_fill[option]] = i
            sc.seg_fill[option] += 1


@kernel
def _reroute(st: SimState, sc: Scratch) -> None:
    """Moves queued requests from options that neither serve nor start to where the shares send their class."""
    num_options = st.queue.head.shape[0]
    for option in range(num_options):
        if st.queue.length[option] == 0 or sc.member_start[option + 1] > sc.member_start[option]:
            continue
        is_starting = False
        for i in range(st.fleet.used[0]):
            is_starting = is_starting or (st.fleet.state[i] == STARTING and st.fleet.option[i] == option)
        if is_starting:
            continue
        slot = st.queue.head[option]
        st.queue.head[option] = st.queue.tail[option] = -1
        st.queue.length[option] = 0
        while slot >= 0:
            following = st.held.next[slot]
            to = _route(
                sc.route_share,
                sc.route_option,
                sc.route_length,
                st.held.klass[slot],
                uniform(st.clock.keys[OPTION], st.held.id[slot], st.clock.tick[0] + 1),
            )
            enqueue(st, option if to < 0 else to, slot)
            slot = following


@kernel
def _segments(cat: CatalogArrays, st: SimState, sc: Scratch, count: int) -> int:
    """Sorts requests by option, those of serverless options into the overflow arrays; returns the number of those."""
    num_options = st.queue.head.shape[0]
    num_pools = cat.market.shape[0]
    option_key = st.clock.keys[OPTION]
    share, route_option, route_length = sc.route_share, sc.route_option, sc.route_length
    arrival_s, identities, classes, options = sc.arrival_s, sc.identity, sc.klass, sc.option
    seg_start, seg_fill, seg_arrival_s, seg_id = sc.seg_start, sc.seg_fill, sc.seg_arrival_s, sc.seg_id
    seg_class, seg_attempt, market = sc.seg_class, sc.seg_attempt, cat.market
    for option in range(num_options):
        seg_fill[option] = st.queue.length[option]
    for index in range(count):
        option = _route(share, route_option, route_length, classes[index], uniform(option_key, identities[index], 0))
        options[index] = option
        if option >= 0:
            seg_fill[option] += 1
    sc.seg_start[0] = 0
    for option in range(num_options):
        sc.seg_start[option + 1] = sc.seg_start[option] + sc.seg_fill[option]
        sc.seg_fill[option] = 0
    num_over = 0
    for option in range(num_options):
        slot = st.queue.head[option]
        is_serverless = cat.market[option % num_pools] == SERVERLESS
        while slot >= 0:
            if is_serverless:
                sc.over_arrival_s[num_over] = st.held.arrival_s[slot]
                sc.over_id[num_over], sc.over_class[num_over] = st.held.id[slot], st.held.klass[slot]
                sc.over_attempt[num_over], sc.over_option[num_over] = st.held.attempt[slot], option
                num_over += 1
            else:
                at = sc.seg_start[option] + sc.seg_fill[option]
                sc.seg_arrival_s[at] = st.held.arrival_s[slot]
                sc.seg_id[at], sc.seg_class[at] = st.held.id[slot], st.held.klass[slot]
                sc.seg_attempt[at] = st.held.attempt[slot]
                sc.seg_gone[at] = False
                sc.seg_fill[option] += 1
            slot = let_go(st, slot)
        st.queue.head[option] = st.queue.tail[option] = -1
        st.queue.length[option] = 0
    for index in range(count):
        option = options[index]
        if option < 0:
            continue
        if market[option % num_pools] == SERVERLESS:
            sc.over_arrival_s[num_over] = arrival_s[index]
            sc.over_id[num_over], sc.over_class[num_over] = identities[index], classes[index]
            sc.over_attempt[num_over], sc.over_option[num_over] = 0, option
            num_over += 1
            continue
        at = seg_start[option] + seg_fill[option]
        seg_arrival_s[at] = arrival_s[index]
        seg_id[at], seg_class[at], seg_attempt[at] = identities[index], classes[index], 0
        seg_fill[option] += 1
    return num_over


@kernel
def _refuse_unrouted(obs: ObservationArrays, sc: Scratch, count: int) -> None:
    for index in range(count):
        if sc.option[index] < 0:
            obs.shed[sc.klass[index]] += 1
            obs.missed[sc.klass[index]] += 1


@kernel
def clear_window(obs: ObservationArrays) -> None:
    """Zeroes everything that belongs to one window."""
    for klass in range(obs.arrivals.shape[0]):
        obs.arrivals[klass] = 0
        obs.answered[klass] = 0
        obs.missed[klass] = 0
        obs.shed[klass] = 0
        obs.failed[klass] = 0
        obs.accuracy_sum[klass] = 0.0
        obs.waiting[klass] = 0
        for bucket in range(obs.latency.shape[1]):
            obs.latency[klass, bucket] = 0
    for p in range(obs.invocations.shape[0]):
        obs.invocations[p] = 0
        obs.cold_starts[p] = 0
        obs.throttled[p] = 0
        obs.preempted[p] = 0
        obs.launch_failed[p] = 0
        for v in range(obs.busy_s.shape[0]):
            obs.busy_s[v, p] = 0.0
    for term in range(obs.spend_usd.shape[0]):
        obs.spend_usd[term] = 0.0


@kernel
def close_window(ctl: ControlArrays, st: SimState, obs: ObservationArrays, tot: TotalArrays) -> None:
    """Advances day sums, totals and the history ring by the window that just ended."""
    start_s = st.clock.now_s[0] - ctl.tick_s
    if start_s > 0.0 and int(start_s / ctl.day_s + 1e-9) != int((start_s - ctl.tick_s) / ctl.day_s + 1e-9):
        for klass in range(obs.arrivals.shape[0]):
            obs.day_arrivals[klass] = 0
            obs.day_answered[klass] = 0
            obs.day_missed[klass] = 0
            obs.day_accuracy_sum[klass] = 0.0
        for term in range(obs.spend_usd.shape[0]):
            obs.day_spend_usd[term] = 0.0
    slot = (st.clock.tick[0] - 1) % HISTORY_TICKS
    for klass in range(obs.arrivals.shape[0]):
        obs.history[klass, slot] = obs.arrivals[klass]
        obs.day_arrivals[klass] += obs.arrivals[klass]
        obs.day_answered[klass] += obs.answered[klass]
        obs.day_missed[klass] += obs.missed[klass]
        obs.day_accuracy_sum[klass] += obs.accuracy_sum[klass]
        tot.arrivals[klass] += obs.arrivals[klass]
        tot.answered[klass] += obs.answered[klass]
        tot.missed[klass] += obs.missed[klass]
        tot.shed[klass] += obs.shed[klass]
        tot.failed[klass] += obs.failed[klass]
        tot.accuracy_sum[klass] += obs.accuracy_sum[klass]
        for bucket in range(obs.latency.shape[1]):
            tot.latency[klass, bucket] += obs.latency[klass, bucket]
    for term in range(obs.spend_usd.shape[0]):
        obs.day_spend_usd[term] += obs.spend_usd[term]
        tot.spend_usd[term] += obs.spend_usd[term]
    for p in range(obs.preempted.shape[0]):
        tot.preempted[p] += obs.preempted[p]
        tot.invocations[p] += obs.invocations[p]
        tot.cold_starts[p] += obs.cold_starts[p]
        tot.throttled[p] += obs.throttled[p]


@kernel
def advance_one(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    supply: SupplyArrays,
    st: SimState,
    obs: ObservationArrays,
    tot: TotalArrays,
    sc: Scratch,
) -> None:
    """One tick of one env. Charges booked between edges (releases at `apply`) are kept in the window that follows."""
    start_s = st.clock.now_s[0]
    end_s = (st.clock.tick[0] + 1) * ctl.tick_s
    num_options = st.queue.head.shape[0]
    settle_flights(cat, wl, st, obs, start_s, end_s)
    count = _arrive(wl, supply, st, obs, sc, start_s, end_s)
    _routes(st, sc)
    _members(st, sc)
    _reroute(st, sc)
    num_over = _segments(cat, st, sc, count)
    _refuse_unrouted(obs, sc, count)
    for option in range(num_options):
        if sc.seg_fill[option] > 0:
            num_over = serve_machines(cat, wl, st, obs, sc, option, start_s, end_s, num_over)
    _serve_overflow(cat, wl, st, obs, sc, start_s, end_s, num_over)
    miss_in_service(wl, st, obs, start_s, end_s)
    rent(cat, st, obs, tot, start_s, end_s)
    st.clock.now_s[0] = end_s
    st.clock.tick[0] += 1
    edge(cat, wl, supply, st, obs, tot, ctl.retry_after_s)
    close_window(ctl, st, obs, tot)
    count_fleet(cat, st, obs)
    obs.time_s[0] = end_s
    obs.tick[0] = st.clock.tick[0]


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
    for option in range(st.queue.head.shape[0]):
        if cat.market[option % cat.market.shape[0]] != SERVERLESS:
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
    sc: Scratch,
    lo: int,
    hi: int,
) -> None:
    """One tick of envs lo..hi - 1."""
    for n in range(lo, hi):
        advance_one(cat, wl, ctl, supply, state_row(st, n), observation_row(obs, n), totals_row(tot, n), sc)


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
        row = observation_row(obs, n)
        clear_window(row)
        apply_one(cat, supply, state_row(st, n), row, totals_row(tot, n), n, actions, plan, shares, ctl.retry_after_s)


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
    """The edge before the first tick: takes what spot zones do not offer and writes the first observation."""
    for n in range(lo, hi):
        state, row = state_row(st, n), observation_row(obs, n)
        state.clock.gap_left[0] = _gap(supply.gaps, supply.is_poisson, state.clock.keys[GAP], 0)
        edge(cat, wl, supply, state, row, totals_row(tot, n), ctl.retry_after_s)
        count_fleet(cat, state, row)
