"""Hedges in the event kernel: when a request gets a second copy, and where it goes.

The duplicate runs beside the first copy, or in its place where the rule says that it replaces it: that is re-sending.
"""

from __future__ import annotations

import numpy as np

from controller import routing
from controller.arrays import SERVERLESS, CatalogArrays, WorkloadArrays
from controller.kernels.random import uniform
from controller.keyed_random import HEDGE
from envs.kernels.compiled import inlined, kernel, merged
from envs.kernels.copies import duplicate, join_queue
from envs.kernels.dispatch import HEDGE_DUE, plan_event, send, withdraw
from envs.kernels.flows import has_workflow
from envs.kernels.lanes import lane_of
from envs.kernels.scratch import GONE, Events, Scratch
from envs.kernels.state import COLLAGE, DUPLICATES, SimState
from envs.kernels.steps import step_of

_hedges_at_s = inlined(routing.hedges_at_s)
_pick_other = inlined(routing.pick_other)


@inlined
def _may_be_hedged(wl: WorkloadArrays, st: SimState, ev: Events, copy: int) -> bool:
    """Whether a copy is the only one of a request; where it has a cell of a collage too, its duplicate replaces it."""
    klass = ev.klass[copy]
    is_only = ev.stage[copy] != GONE and ev.twin[copy] < 0 and ev.steps[copy] & COLLAGE == 0
    return is_only and (ev.ring[copy] < 0 or (st.rules.hedge_replaces[klass] and not has_workflow(wl, klass)))


@kernel
def watch_hedge(
    wl: WorkloadArrays,
    st: SimState,
    ev: Events,
    klass: int,
    joined: int,
    since_s: float,
    end_s: float,
) -> None:
    """Plans the next hedge of a class: the first request from its place on whose moment is yet to come.

    A moment before `since_s` has been seen; so a change of the rule concerns requests whose new moment is to come.
    """
    ev.hedge_s[klass] = np.inf
    after_s, slo_s = st.rules.hedge_after_s[klass], wl.slo_s[klass]
    if _hedges_at_s(0.0, after_s, slo_s) == np.inf:
        ev.hedge_at[klass] = joined
        return
    place = ev.hedge_at[klass]
    while place < joined:
        copy = ev.order[place]
        at_s = ev.arrival_s[copy] + after_s
        if ev.klass[copy] == klass and at_s >= since_s and _may_be_hedged(wl, st, ev, copy):
            if at_s < end_s:
                ev.hedge_s[klass] = at_s
                plan_event(ev, at_s, HEDGE_DUE, klass)
            break
        place += 1
    ev.hedge_at[klass] = place


@merged
def hedge(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    st: SimState,
    sc: Scratch,
    ev: Events,
    klass: int,
    joined: int,
    now_s: float,
    start_s: float,
    end_s: float,
) -> None:
    """Sends a duplicate of the class's request whose moment has come, if it is not answered; plans the next one.

    A duplicate of a cascade's step goes to an option of the same variant.
    """
    copy = ev.order[ev.hedge_at[klass]]
    ev.hedge_at[klass] += 1
    watch_hedge(wl, st, ev, klass, joined, start_s, end_s)
    if not _may_be_hedged(wl, st, ev, copy):
        return
    attempt = ev.attempt[copy] + 1
    low, length, shares = 0, sc.route_length[klass], sc.route_share[klass]
    if st.rules.cascade_variant[klass, 0] >= 0:
        step = step_of(st, klass, ev.option[copy] // cat.market.shape[0])
        if step >= 0:
            low, length, shares = sc.step_first[klass, step], sc.step_options[klass, step], sc.step_share[klass]
    first = -1
    for index in range(length):
        if sc.route_option[klass, low + index] == ev.option[copy]:
            first = index
            break  # the last option stands there again, without a share, up to the width of all classes
    coin = uniform(st.clock.keys[HEDGE], ev.identity[copy], attempt)
    picked = _pick_other(shares[low : low + length], first, coin)
    if picked < 0:
        return
    option = sc.route_option[klass, low + picked]
    if cat.market[option % cat.market.shape[0]] == SERVERLESS:
        return
    lane = lane_of(st, sc, option, ev.identity[copy])
    twin = duplicate(ev, copy, option, lane, attempt)
    st.held.redundant[klass, DUPLICATES] += 1
    if st.rules.hedge_replaces[klass]:
        _take_place(ev, copy, twin)
        withdraw(cat, st, ev, copy, now_s, end_s)
    join_queue(ev, twin, now_s)
    send(cat, st, ev, lane, now_s, end_s)


@kernel
def _take_place(ev: Events, copy: int, twin: int) -> None:
    """Lets a duplicate stand for its request, in its group too, in place of the first copy."""
    ev.twin[copy] = ev.twin[twin] = -1
    ev.order[ev.place[copy]] = twin
    if ev.ring[copy] >= 0:
        before = copy
        while ev.ring[before] != copy:
            before = ev.ring[before]
        # Where its collage was lost and all others were answered, it is a ring by itself.
        ev.ring[twin] = ev.ring[copy] if before != copy else twin
        ev.ring[before] = twin
        ev.ring[copy] = -1
