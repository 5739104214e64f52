"""Collages: requests in a group whose stragglers one redundant pass answers.

Every request is sent on its own when it arrives. Besides, a router gathers the unanswered requests of a class, and one
pass of a cheap model over a collage of them is sent when the group is full, or when its oldest request straggles. A
request that is a straggler when the pass has ended, or becomes one later, is answered from the collage, unless its own
answer was there first; the other of the two is withdrawn. A collage that nobody needs any more is withdrawn, and one
whose replica is lost is not sent again. Where two workers make the pass, the one that ends first counts and the other
is withdrawn.

In the table of copies a collage is a copy beside those of its requests, and its second pass another; a ring links them.
"""

from __future__ import annotations

import numpy as np

from controller import redundancy, routing
from controller.arrays import CatalogArrays, ObservationArrays, WorkloadArrays
from controller.kernels.random import uniform
from controller.keyed_random import HEDGE
from controller.redundancy import COLLAGE_ATTEMPT, SECOND_PASS_ATTEMPT
from envs.kernels.arrivals import collage_option
from envs.kernels.compiled import inlined, kernel, merged
from envs.kernels.copies import join_queue, unlink_all
from envs.kernels.dispatch import LOOSE_DUE, plan_event, send, withdraw
from envs.kernels.lanes import lane_of, num_routers, router_of
from envs.kernels.requests import answer
from envs.kernels.scratch import GONE, LOOSE, Events, Scratch
from envs.kernels.state import BY_COLLAGE, COLLAGE, PASSES, THERE, SimState

_straggles_at_s = inlined(redundancy.straggles_at_s)
_collage_is_full = inlined(redundancy.collage_is_full)
_pick_other = inlined(routing.pick_other)


@inlined
def _group_place(st: SimState, ev: Events, copy: int) -> int:
    """Where the open group of a request's class and router is noted."""
    return ev.klass[copy] * num_routers(st) + router_of(st, ev.identity[copy])


@merged
def begin_groups(cat: CatalogArrays, st: SimState, ev: Events, carried: int, start_s: float, end_s: float) -> None:
    """Takes up the groups that were carried into the tick."""
    for copy in range(carried):
        if ev.steps[copy] & COLLAGE == 0 or ev.stage[copy] == GONE:
            continue
        if ev.ring[copy] < 0 or _num_requests(ev, copy) == 0:
            drop_passes(cat, st, ev, copy, start_s, end_s)
        elif ev.stage[copy] == LOOSE:
            if ev.steps[copy] & THERE == 0:
                ev.open_group[_group_place(st, ev, copy)] = copy
                ev.left[copy] = _num_requests(ev, copy)
            _watch(st, ev, copy, start_s, end_s)


@kernel
def join_group(
    cat: CatalogArrays, st: SimState, sc: Scratch, ev: Events, copy: int, now_s: float, end_s: float
) -> None:
    """A request that was sent on its own joins the open group of its class and router, or opens one."""
    klass = ev.klass[copy]
    if sc.collage_options[klass] == 0:
        return
    place = _group_place(st, ev, copy)
    group = ev.open_group[place]
    if group < 0:
        group = ev.num_copies[0]
        ev.num_copies[0] += 1
        ev.num_groups[0] += 1
        ev.arrival_s[group], ev.identity[group], ev.klass[group] = now_s, ev.identity[copy], klass
        ev.attempt[group], ev.option[group] = COLLAGE_ATTEMPT, -1
        ev.twin[group], ev.slot[group], ev.ring[group] = -1, -1, group
        ev.stage[group], ev.steps[group], ev.left[group] = LOOSE, COLLAGE, 0
        ev.open_group[place] = group
    ev.ring[copy], ev.ring[group] = ev.ring[group], copy
    ev.left[group] += 1
    if _collage_is_full(ev.left[group], cat.cells[st.rules.collage_variant[klass]]):
        _close(cat, st, sc, ev, group, now_s, end_s)
    elif ev.left[group] == 1:
        _watch(st, ev, group, now_s, end_s)


@kernel
def depart(cat: CatalogArrays, st: SimState, ev: Events, copy: int, now_s: float, end_s: float) -> None:
    """A request that is answered or given up leaves its group, whose collage goes with the last one."""
    before, at, collage, num_left = copy, ev.ring[copy], -1, 0
    while at != copy:
        if ev.steps[at] & COLLAGE:
            collage = at
        else:
            num_left += 1
        before, at = at, ev.ring[at]
    ev.ring[before] = ev.ring[copy]
    ev.ring[copy] = -1
    if collage < 0:
        return
    if num_left == 0:
        drop_passes(cat, st, ev, collage, now_s, end_s)
    elif ev.open_group[_group_place(st, ev, collage)] == collage:
        ev.left[collage] = num_left


@kernel
def drop_passes(cat: CatalogArrays, st: SimState, ev: Events, collage: int, now_s: float, end_s: float) -> None:
    """Takes back a collage that no request needs, and the pass that a second worker makes of it."""
    other = _other_pass(ev, collage)
    if other >= 0:
        _drop_collage(cat, st, ev, other, now_s, end_s)
    _drop_collage(cat, st, ev, collage, now_s, end_s)


@kernel
def _other_pass(ev: Events, collage: int) -> int:
    """The pass that another worker makes of the same collage; -1 for none."""
    at = ev.ring[collage]
    while at >= 0 and at != collage:
        if ev.steps[at] & COLLAGE:
            return at
        at = ev.ring[at]
    return -1


@kernel
def _drop_collage(cat: CatalogArrays, st: SimState, ev: Events, collage: int, now_s: float, end_s: float) -> None:
    """Takes a pass out of its group and back."""
    if ev.ring[collage] >= 0:
        before = collage
        while ev.ring[before] != collage:
            before = ev.ring[before]
        ev.ring[before] = ev.ring[collage]
        ev.ring[collage] = -1
    place = _group_place(st, ev, collage)
    if ev.open_group[place] == collage:
        ev.open_group[place] = -1
    if ev.stage[collage] == LOOSE:
        ev.stage[collage] = GONE
    elif ev.stage[collage] != GONE:
        withdraw(cat, st, ev, collage, now_s, end_s)


@kernel
def finish_collage(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    st: SimState,
    obs: ObservationArrays,
    sc: Scratch,
    ev: Events,
    collage: int,
    now_s: float,
    start_s: float,
    end_s: float,
) -> None:
    """The pass of a collage has ended: it answers the stragglers, and waits for others of its group to become some.

    What another worker makes of the same collage is withdrawn.
    """
    other = _other_pass(ev, collage)
    if other >= 0:
        _drop_collage(cat, st, ev, other, now_s, end_s)
    ev.stage[collage] = LOOSE
    ev.steps[collage] |= THERE
    _answer_stragglers(cat, wl, st, obs, sc, ev, collage, now_s, start_s, end_s)


@merged
def group_due(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    st: SimState,
    obs: ObservationArrays,
    sc: Scratch,
    ev: Events,
    collage: int,
    now_s: float,
    start_s: float,
    end_s: float,
) -> None:
    """A request of a group has become a straggler, unless it was answered meanwhile."""
    if ev.stage[collage] != LOOSE or ev.finish_s[collage] != now_s:
        return
    if ev.steps[collage] & THERE:
        _answer_stragglers(cat, wl, st, obs, sc, ev, collage, now_s, start_s, end_s)
    elif _next_straggler_s(st, ev, collage) <= now_s:
        _close(cat, st, sc, ev, collage, now_s, end_s)
    else:
        _watch(st, ev, collage, now_s, end_s)


@kernel
def _num_requests(ev: Events, collage: int) -> int:
    count, at = 0, ev.ring[collage]
    while at != collage:
        count += ev.steps[at] & COLLAGE == 0
        at = ev.ring[at]
    return count


@kernel
def _next_straggler_s(st: SimState, ev: Events, collage: int) -> float:
    """When the oldest request of a group straggles."""
    oldest_s, at = np.inf, ev.ring[collage]
    while at != collage:
        oldest_s = min(oldest_s, ev.arrival_s[at])
        at = ev.ring[at]
    return _straggles_at_s(oldest_s, st.rules.collage_after_s[ev.klass[collage]])


@kernel
def _watch(st: SimState, ev: Events, collage: int, now_s: float, end_s: float) -> None:
    """Plans to look again when the oldest request of a group straggles."""
    at_s = max(_next_straggler_s(st, ev, collage), now_s)
    ev.finish_s[collage] = at_s
    if at_s < end_s:
        plan_event(ev, at_s, LOOSE_DUE, collage)


@kernel
def _close(cat: CatalogArrays, st: SimState, sc: Scratch, ev: Events, collage: int, now_s: float, end_s: float) -> None:
    """Sends the collage of a group, which nobody joins from now on, to one worker or to two."""
    klass = ev.klass[collage]
    ev.open_group[_group_place(st, ev, collage)] = -1
    option = collage_option(st, sc, klass, ev.identity[collage])
    if option < 0:  # its class has no collage any more
        unlink_all(ev, collage)
        ev.stage[collage] = GONE
        return
    lane = lane_of(st, sc, option, ev.identity[collage])
    ev.option[collage], ev.lane[collage] = option, lane
    second = _second_pass(st, sc, ev, collage) if st.rules.collage_passes[klass] > 1 else -1
    st.held.redundant[klass, PASSES] += 1 if second < 0 else 2
    join_queue(ev, collage, now_s)
    send(cat, st, ev, lane, now_s, end_s)
    if second >= 0:
        join_queue(ev, second, now_s)
        send(cat, st, ev, ev.lane[second], now_s, end_s)


@kernel
def _second_pass(st: SimState, sc: Scratch, ev: Events, collage: int) -> int:
    """Makes the copy of a collage for a second worker, at another option where there is one."""
    klass, identity = ev.klass[collage], ev.identity[collage]
    second = ev.num_copies[0]
    ev.num_copies[0] += 1
    first, count = -1, sc.collage_options[klass]
    for at in range(count):
        if sc.collage_option[klass, at] == ev.option[collage]:
            first = at
    coin = uniform(st.clock.keys[HEDGE], identity, SECOND_PASS_ATTEMPT)
    option = sc.collage_option[klass, _pick_other(sc.collage_share[klass, :count], first, coin)]
    ev.arrival_s[second], ev.identity[second], ev.klass[second] = ev.arrival_s[collage], identity, klass
    ev.attempt[second], ev.option[second] = SECOND_PASS_ATTEMPT, option
    ev.lane[second] = lane_of(st, sc, option, identity)
    ev.twin[second], ev.slot[second], ev.steps[second], ev.left[second] = -1, -1, COLLAGE, 0
    ev.ring[second], ev.ring[collage] = ev.ring[collage], second
    return second


@kernel
def _answer_stragglers(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    st: SimState,
    obs: ObservationArrays,
    sc: Scratch,
    ev: Events,
    collage: int,
    now_s: float,
    start_s: float,
    end_s: float,
) -> None:
    klass, option = ev.klass[collage], ev.option[collage]
    v, p = option // cat.market.shape[0], option % cat.market.shape[0]
    after_s, slo_s = st.rules.collage_after_s[klass], wl.slo_s[klass]
    before, at = collage, ev.ring[collage]
    while at != collage:
        following, arrival_s = ev.ring[at], ev.arrival_s[at]
        if _straggles_at_s(arrival_s, after_s) <= now_s:
            latency_s = now_s - arrival_s + wl.network_s[klass, v, p]
            answer(sc.answers[option], obs.latency, obs.missed, klass, latency_s, slo_s, arrival_s + slo_s, start_s)
            st.held.redundant[klass, BY_COLLAGE] += 1
            ev.ring[before], ev.ring[at] = following, -1
            withdraw(cat, st, ev, at, now_s, end_s)
        else:
            before = at
        at = following
    if ev.ring[collage] == collage:
        _drop_collage(cat, st, ev, collage, now_s, end_s)
    else:
        _watch(st, ev, collage, now_s, end_s)
