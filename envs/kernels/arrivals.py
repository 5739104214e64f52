"""What a tick serves: its arrivals, the option and lane each is assigned to, and who serves there."""

from __future__ import annotations

import math

import numpy as np

from controller import redundancy, routing
from controller.arrays import F64, I64, SERVERLESS, Bool, CatalogArrays, ObservationArrays, WorkloadArrays
from controller.kernels.random import uniform
from controller.keyed_random import CLASS, GAP, HEDGE, OPTION
from envs.kernels.compiled import inlined, kernel, place, unsigned
from envs.kernels.flows import has_workflow, operator_option, workflow_routes
from envs.kernels.lanes import choose_lanes, num_routers
from envs.kernels.requests import draw, enqueue, key_of, let_go
from envs.kernels.scratch import Scratch
from envs.kernels.state import COLLAGE, DOOMED, SERVING, STARTING, SimState, SupplyArrays
from envs.kernels.steps import step_of, step_route, step_routes

_pick_option = inlined(routing.pick_option)
_next_step = inlined(redundancy.next_step)

GAP_BLOCK = 64
"""Gaps drawn at a time; what a tick leaves of them is drawn again in the next."""


_CELL_BITS = 7
_CENTRES = 1.0 + (np.arange(1 << _CELL_BITS) + 0.5) / (1 << _CELL_BITS)
_INVERSE = 1.0 / _CENTRES
_LOGARITHM = np.log(_CENTRES)
_MANTISSA = np.uint64((1 << 52) - 1)
_ONE_BITS = np.uint64(1023 << 52)
_EXPONENT_SHIFT, _CELL_SHIFT = np.uint64(52), np.uint64(52 - _CELL_BITS)
_LN_2 = math.log(2.0)


@inlined
def minus_logarithm(x: float) -> float:
    """-ln x of a normal number in (0, 1], at least 0 and within 1e-14.

    Written out because a call of the mathematical library, or a series with a division, takes as long as all else about
    an arrival. With c the centre of the mantissa's cell and r = mantissa / c - 1, |r| <= 2**-8:
    ln x = exponent ln 2 + ln c + r - r^2 / 2 + r^3 / 3 - r^4 / 4 + r^5 / 5 - ...
    """
    bits = np.float64(x).view(np.uint64)
    mantissa_bits = np.uint64(bits & _MANTISSA)
    cell = np.uint64(mantissa_bits >> _CELL_SHIFT)
    r = np.uint64(mantissa_bits | _ONE_BITS).view(np.float64) * _INVERSE[cell] - 1.0
    square = r * r
    series = (r - 0.5 * square) + square * (r * (1 / 3) - square * (0.25 - 0.2 * r))
    whole = (np.int64(bits >> _EXPONENT_SHIFT) - 1023) * _LN_2 + _LOGARITHM[cell]
    return max(0.0, -(whole + series))


@inlined
def gap(gaps: F64, is_poisson: bool, key: np.uint64, identity: int) -> float:
    """Gap before an arrival, in units of the mean."""
    u = uniform(key, identity, 0)
    if is_poisson:
        return minus_logarithm(1.0 - u)
    return draw(gaps, u)


@kernel
def arrive(
    wl: WorkloadArrays,
    supply: SupplyArrays,
    st: SimState,
    obs: ObservationArrays,
    sc: Scratch,
    start_s: float,
    end_s: float,
) -> int:
    """Draws the tick's arrivals, a renewal process time-changed by the trace's rate, with class, option and router.

    Counts them by lane; refuses those whose class has no option. Needs `routes` and `deal_credits`.

    Returns:
        Their number.
    """
    rates, rate_bin_s = supply.rate_rps[st.clock.trace[0]], supply.rate_bin_s
    bins = rates.shape[0]
    gaps, arrival_s = sc.draw, sc.arrival_s
    most = arrival_s.shape[0] - st.held.next.shape[0] - 1
    gap_left, first = st.clock.gap_left[0], st.clock.next_request[0]
    offset_s = st.clock.start_s[0]
    now_s, count, drawn = start_s, 0, 0
    while now_s < end_s:
        position = int((offset_s + now_s) / rate_bin_s + 1e-9)
        until_s = min((position + 1) * rate_bin_s - offset_s, end_s)
        rate = rates[min(max(position, 0), bins - 1)]
        mass = rate * (until_s - now_s)
        while rate > 0.0 and gap_left <= mass and count < most:
            now_s += gap_left / rate
            mass -= gap_left
            arrival_s[unsigned(count)] = min(now_s, until_s)
            count += 1
            if count > drawn:
                _draw_gaps(supply, st, gaps, first + drawn + 1)
                drawn += GAP_BLOCK
            gap_left = gaps[unsigned(count - 1) % unsigned(GAP_BLOCK)]
        gap_left -= mass
        now_s = until_s
    st.clock.gap_left[0], st.clock.next_request[0] = max(gap_left, 0.0), first + count
    _classify(wl, st, obs, sc, first, count)
    _choose_options(st, obs, sc, count)
    if st.queue.head.shape[0] > st.rules.shares.shape[1]:
        choose_lanes(st, sc, count)
    return count


# Each loop over requests below does one simple thing, so that the compiler takes eight requests at a time.


@inlined
def _draw_gaps(supply: SupplyArrays, st: SimState, gaps: F64, identity: int) -> None:
    """Gaps before `GAP_BLOCK` requests from `identity` on."""
    key, table, start = st.clock.keys[GAP], supply.gaps, unsigned(identity)
    if supply.is_poisson:
        for i in range(unsigned(GAP_BLOCK)):
            gaps[i] = minus_logarithm(1.0 - uniform(key, start + i, 0))
    else:
        for i in range(unsigned(GAP_BLOCK)):
            gaps[i] = draw(table, uniform(key, start + i, 0))


@inlined
def _classify(wl: WorkloadArrays, st: SimState, obs: ObservationArrays, sc: Scratch, first: int, count: int) -> None:
    """Draws the class of every arrival and counts them by class."""
    key, start, shares, length = st.clock.keys[CLASS], unsigned(first), wl.share, unsigned(count)
    draws, identities, classes = sc.draw, sc.identity, sc.klass
    num_classes = shares.shape[0]
    for i in range(length):
        identities[i] = np.int64(start + i)
        classes[i] = 0
    edge, later = 0.0, count
    if num_classes > 1:
        for i in range(length):
            draws[i] = uniform(key, start + i, 0)
    for klass in range(num_classes - 1):
        edge += shares[klass]
        above = 0
        for i in range(length):
            is_above = draws[i] >= edge
            classes[i] += is_above
            above += is_above
        obs.arrivals[klass] += later - above
        later = above
    obs.arrivals[num_classes - 1] += later


@inlined
def _choose_options(st: SimState, obs: ObservationArrays, sc: Scratch, count: int) -> None:
    """Draws the option of every arrival by the shares of its class, as `routing.pick_option` does, and counts them.

    It is the lane already where there is one router.
    """
    key, start, length = st.clock.keys[OPTION], unsigned(sc.identity[0]), unsigned(count)
    draws, classes, options, seg_fill = sc.draw, sc.klass, sc.lane, sc.seg_fill
    share, route_option = sc.route_share, sc.route_option
    num_classes, width = share.shape[0], sc.route_length[0]
    for lane in range(seg_fill.shape[0]):
        seg_fill[lane] = 0
    for i in range(length):
        options[i] = 0
    if width > 1:
        for i in range(length):
            draws[i] = uniform(key, start + i, 0)
    for klass in range(num_classes):
        for at in range(width - 1):
            edge, total = share[klass, at], share[klass, width - 1]
            for i in range(length):
                options[i] += (classes[i] == klass) & (draws[i] * total >= edge)
    for i in range(length):
        klass = unsigned(classes[i])
        chosen = route_option[klass, unsigned(options[i])] if width > 0 else np.int64(-1)
        options[i] = chosen
        if chosen >= 0:
            seg_fill[unsigned(chosen)] += 1
        else:
            obs.shed[klass] += 1
            obs.missed[klass] += 1


@inlined
def is_collage(wl: WorkloadArrays, klass: int, option: int) -> bool:
    """Whether an option answers collages of a class, and no request by itself."""
    v, p = place(option, wl.collage.shape[2])
    return bool(wl.collage[klass, v, p])


@inlined
def _collage_routes(wl: WorkloadArrays, st: SimState, sc: Scratch, klass: int) -> None:
    """Running sums over the options of the class's collage that have a share."""
    v, num_pools, total, length = st.rules.collage_variant[klass], wl.collage.shape[2], 0.0, 0
    for p in range(num_pools if v >= 0 else 0):
        share = st.rules.shares[klass, v * num_pools + p]
        if share > 0.0 and wl.collage[klass, v, p]:
            total += share
            sc.collage_share[klass, length] = total
            sc.collage_option[klass, length] = v * num_pools + p
            length += 1
    sc.collage_options[klass] = length


@kernel
def routes(wl: WorkloadArrays, st: SimState, sc: Scratch) -> None:
    """Compacts the shares of each class into running sums over the options it uses."""
    num_classes, width = st.rules.shares.shape[0], 0
    for klass in range(num_classes):
        total, length = 0.0, 0
        _collage_routes(wl, st, sc, klass)
        for option in range(st.rules.shares.shape[1]):
            share = st.rules.shares[klass, option]
            if share > 0.0 and not is_collage(wl, klass, option):
                total += share
                sc.route_share[klass, length] = total
                sc.route_option[klass, length] = option
                length += 1
        sc.route_length[klass] = length
        width = max(width, length)
        if st.rules.cascade_variant[klass, 0] >= 0:
            step_routes(wl, st, sc, klass, length)
        if has_workflow(wl, klass):
            workflow_routes(wl, st, sc, klass)
    # All classes get the same width, so that a draw is as many steps for each of them.
    for klass in range(num_classes):
        length = sc.route_length[klass]
        for at in range(length, width):
            sc.route_share[klass, at] = sc.route_share[klass, length - 1] if length > 0 else 0.0
            sc.route_option[klass, at] = sc.route_option[klass, length - 1] if length > 0 else -1
        sc.route_length[klass] = width


@inlined
def route(share: F64, option: I64, length: I64, klass: int, u: float) -> int:
    """Option that the shares of a class draw; -1 where it has none."""
    picked = _pick_option(share[klass, : length[klass]], u)
    return option[klass, picked] if picked >= 0 else -1


@kernel
def collage_option(st: SimState, sc: Scratch, klass: int, identity: int) -> int:
    """Option that the shares draw for the collage of a group; -1 where it has none."""
    coin = uniform(st.clock.keys[HEDGE], identity, 0)
    picked = _pick_option(sc.collage_share[klass, : sc.collage_options[klass]], coin)
    return sc.collage_option[klass, picked] if picked >= 0 else -1


@kernel
def _route_again(wl: WorkloadArrays, st: SimState, sc: Scratch, slot: int, v: int) -> int:
    """Option that a request goes to from one of variant `v` that is gone; -1 where its class has none."""
    klass, identity = st.held.klass[slot], st.held.id[slot]
    if st.held.steps[slot] & COLLAGE:
        return collage_option(st, sc, klass, identity)
    if has_workflow(wl, klass):
        return operator_option(st, sc, klass, wl.operator[klass, v], identity)
    step = step_of(st, klass, v)
    if st.rules.cascade_variant[klass, 0] >= 0 and step >= 0:
        step = _next_step(step - 1, 0.0, np.inf, sc.step_options[klass])
        if step >= 0:
            return step_route(st, sc, klass, step, identity)
    coin = uniform(st.clock.keys[OPTION], identity, st.clock.tick[0] + 1)
    return route(sc.route_share, sc.route_option, sc.route_length, klass, coin)


@kernel
def members(st: SimState, sc: Scratch) -> None:
    """Groups the instances by option; marks which options serve or will."""
    num_options = st.rules.shares.shape[1]
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
def reroute(wl: WorkloadArrays, st: SimState, sc: Scratch) -> None:
    """Moves queued requests from options that neither serve nor start to where the shares send their class.

    They go to the first lane there; `deal_credits` gives them to their own.
    """
    routers = num_routers(st)
    for lane in range(st.queue.head.shape[0]):
        option = sc.lane_option[lane]
        if st.queue.length[lane] == 0 or sc.member_start[option + 1] > sc.member_start[option]:
            continue
        is_starting = False
        for i in range(st.fleet.used[0]):
            is_starting = is_starting or (st.fleet.state[i] == STARTING and st.fleet.option[i] == option)
        if is_starting:
            continue
        slot = st.queue.head[lane]
        st.queue.head[lane] = st.queue.tail[lane] = -1
        st.queue.length[lane] = 0
        while slot >= 0:
            following = st.held.next[slot]
            to = _route_again(wl, st, sc, slot, option // wl.allowed.shape[2])
            enqueue(st, lane if to < 0 else to * routers, slot)
            slot = following


@inlined
def _mark_serverless(cat: CatalogArrays, st: SimState, is_serverless: Bool) -> None:
    """Finds the lanes of serverless options."""
    num_variants, num_pools = cat.usable.shape
    routers, lane = num_routers(st), 0
    for _ in range(num_variants):
        for p in range(num_pools):
            for _ in range(routers):
                is_serverless[lane] = cat.market[p] == SERVERLESS
                lane += 1


@kernel
def segments(cat: CatalogArrays, st: SimState, sc: Scratch, count: int) -> int:
    """Sorts requests by lane, those of serverless options into the overflow arrays; returns the number of those."""
    num_lanes = st.queue.head.shape[0]
    arrival_s, identities, classes, lanes = sc.arrival_s, sc.identity, sc.klass, sc.lane
    seg_start, seg_fill, seg_arrival_s, seg_key = sc.seg_start, sc.seg_fill, sc.seg_arrival_s, sc.seg_key
    is_serverless = sc.is_serverless
    _mark_serverless(cat, st, is_serverless)
    sc.seg_start[0] = 0
    for lane in range(num_lanes):
        sc.seg_start[lane + 1] = sc.seg_start[lane] + sc.seg_fill[lane] + st.queue.length[lane]
        sc.seg_fill[lane] = 0
    num_over = 0
    for lane in range(num_lanes):
        slot = st.queue.head[lane]
        if slot < 0:
            continue
        while slot >= 0:
            if is_serverless[lane]:
                sc.over_arrival_s[num_over] = st.held.arrival_s[slot]
                sc.over_id[num_over], sc.over_class[num_over] = st.held.id[slot], st.held.klass[slot]
                sc.over_attempt[num_over], sc.over_option[num_over] = st.held.attempt[slot], sc.lane_option[lane]
                num_over += 1
            else:
                at = sc.seg_start[lane] + sc.seg_fill[lane]
                sc.seg_arrival_s[at] = st.held.arrival_s[slot]
                sc.seg_key[at] = key_of(st.held.id[slot], st.held.attempt[slot], st.held.klass[slot])
                sc.seg_gone[at] = False
                sc.seg_fill[lane] += 1
            slot = let_go(st, slot)
        st.queue.head[lane] = st.queue.tail[lane] = -1
        st.queue.length[lane] = 0
    for index in range(unsigned(count)):
        if lanes[index] < 0:
            continue
        lane = unsigned(lanes[index])
        if is_serverless[lane]:
            sc.over_arrival_s[num_over] = arrival_s[index]
            sc.over_id[num_over], sc.over_class[num_over] = identities[index], classes[index]
            sc.over_attempt[num_over], sc.over_option[num_over] = 0, sc.lane_option[lane]
            num_over += 1
            continue
        at = unsigned(seg_start[lane] + seg_fill[lane])
        seg_arrival_s[at] = arrival_s[index]
        seg_key[at] = key_of(identities[index], 0, classes[index])
        seg_fill[lane] += 1
    return num_over
