"""The event kernel: options are served together in order of time, which hedging, cascades, collages and workflows need.

One heap holds the events to come: a batch ends, a batch has waited long enough, a class has a request to hedge, a group
has a straggler, a message is there.
Arrivals are in order of time already and deadlines are watched class by class, so neither is in the heap. Where no
class has any of these, results equal the fast kernel's to the last bit: each lane keeps the same heap of
credits, draws are keyed by request and attempt, and sums are booked by lane and option.

A hedged request has two copies; the first answer wins and the other copy is withdrawn: it leaves its queue, or, where
nobody waits for the rest of its batch either, its batch is cancelled and frees the credit. A serverless call cannot be
taken back: it runs on and is billed.

A request of a cascade is one copy that goes from step to step. Where both steps start at once, they are its two copies:
the first one's answer withdraws the second if it is sure enough, and else leaves the request to it. What a request has
left open is found from the variant that answers and the cascade in force, so a decision may change the cascade of
requests that are under way.
"""

from __future__ import annotations

import numpy as np

from controller import routing
from controller.arrays import SERVERLESS, AnswerArrays, CatalogArrays, ObservationArrays, WorkloadArrays
from controller.kernels.random import uniform
from controller.keyed_random import OVERFLOW
from controller.redundancy import STEP_ATTEMPTS
from envs.kernels.compiled import inlined, kernel, merged
from envs.kernels.copies import bring_in, duplicate, join_queue, put_back
from envs.kernels.deadlines import expire
from envs.kernels.dispatch import (
    BATCH_ENDS,
    LOOSE_DUE,
    NUM_KINDS,
    WAIT_ENDS,
    call,
    plan_event,
    send,
    withdraw,
)
from envs.kernels.fast import count_busy
from envs.kernels.flows import has_workflow
from envs.kernels.groups import begin_groups, depart, finish_collage, group_due, join_group
from envs.kernels.hedges import hedge, watch_hedge
from envs.kernels.lanes import lane_of, limit_of_lane
from envs.kernels.requests import answer, pop
from envs.kernels.scratch import AUTO, EVENT, GONE, RUNNING, UNSEEN, Events, Scratch
from envs.kernels.serverless import find_environment
from envs.kernels.state import COLLAGE, SimState
from envs.kernels.steps import begin_steps, book_paths, finish_step, first_option, hands_over, step_of, step_route
from envs.kernels.workflows import (
    begin_messages,
    begin_workflow,
    drop_request,
    finish_operator,
    message_there,
    pass_on,
)

_predicted_wait_s = inlined(routing.predicted_wait_s)
_overflows = inlined(routing.overflows)
_is_shed = inlined(routing.is_shed)
_hedges_at_s = inlined(routing.hedges_at_s)
_pick_other = inlined(routing.pick_other)


@kernel
def needs_events(wl: WorkloadArrays, st: SimState, sc: Scratch) -> bool:
    """Whether this tick takes the event kernel."""
    if sc.kernel != AUTO:
        return sc.kernel == EVENT
    if st.held.pairs[0] > 0 or st.held.escalated[0] > 0:
        return True
    for klass in range(st.rules.hedge_after_s.shape[0]):
        if st.rules.hedge_after_s[klass] < np.inf or st.rules.cascade_variant[klass, 0] >= 0:
            return True
        if st.rules.collage_variant[klass] >= 0 or has_workflow(wl, klass):
            return True
    return False


@kernel
def serve_events(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    st: SimState,
    obs: ObservationArrays,
    an: AnswerArrays,
    sc: Scratch,
    ev: Events,
    count: int,
    start_s: float,
    end_s: float,
) -> None:
    """Serves one tick: what was carried into it and its `count` arrivals."""
    begin_steps(cat, st, an, sc)
    carried = bring_in(cat, st, obs, sc, ev, start_s, end_s)
    ev.num_copies[0] = carried + count
    for batch in ev.credit_batch:
        if batch >= 0 and ev.finish_s[batch] <= end_s:
            plan_event(ev, ev.finish_s[batch], BATCH_ENDS, batch)
    for klass in range(wl.slo_s.shape[0]):
        ev.expiry_at[klass] = ev.hedge_at[klass] = 0
        ev.expiry_s[klass], ev.hedge_s[klass] = -np.inf, np.inf
        watch_hedge(wl, st, ev, klass, carried, start_s, end_s)
    if ev.num_groups[0] > 0:
        begin_groups(cat, st, ev, carried, start_s, end_s)
    if wl.num_inputs.shape[1] > 1:
        begin_messages(cat, wl, st, ev, carried, start_s, end_s)
    next_expiry_s = expire(cat, wl, st, obs, ev, carried, start_s, end_s)
    for place in range(carried):
        if ev.stage[ev.order[place]] == UNSEEN:
            copy = ev.order[place]
            call(cat, wl, st, obs, sc, ev, copy, start_s, start_s, end_s)
            if ev.stage[copy] == GONE and has_workflow(wl, ev.klass[copy]):
                drop_request(cat, st, ev, copy, start_s, end_s)
            elif ev.stage[copy] == GONE and ev.ring[copy] >= 0:
                depart(cat, st, ev, copy, start_s, end_s)
    for lane in range(ev.head.shape[0]):
        send(cat, st, ev, lane, start_s, end_s)
    heap_s, heap_code, arrival_s = ev.heap_s, ev.heap_code, sc.arrival_s
    joined = 0
    while True:
        next_arrival_s = arrival_s[joined] if joined < count else np.inf
        is_event = heap_s[1] <= next_arrival_s
        now_s = heap_s[1] if is_event else next_arrival_s
        if next_expiry_s <= min(now_s, end_s):
            # What is withdrawn with a request that gives up frees a credit at that moment.
            next_expiry_s = expire(cat, wl, st, obs, ev, carried + joined, next_expiry_s, end_s)
            continue
        if now_s == np.inf:
            break
        if not is_event:
            copy = carried + joined
            klass = sc.klass[joined]
            _arrive(cat, wl, st, obs, sc, ev, joined, copy, now_s, start_s, end_s)
            joined += 1
            if ev.stage[copy] == GONE:
                continue
            if st.rules.cascade_concurrent[klass] and not has_workflow(wl, klass):
                _start_second(cat, wl, st, obs, sc, ev, copy, now_s, start_s, end_s)
            elif st.rules.collage_variant[klass] >= 0:
                join_group(cat, st, sc, ev, copy, now_s, end_s)
            if ev.expiry_s[klass] == np.inf:
                ev.expiry_at[klass] = copy
                ev.expiry_s[klass] = now_s + wl.slo_s[klass]
                next_expiry_s = min(next_expiry_s, ev.expiry_s[klass])
            if ev.hedge_s[klass] == np.inf and st.rules.hedge_after_s[klass] < np.inf:
                ev.hedge_at[klass] = copy
                watch_hedge(wl, st, ev, klass, carried + joined, start_s, end_s)
            continue
        what, kind = heap_code[1] // NUM_KINDS, heap_code[1] % NUM_KINDS
        ev.heap_size[0] = pop(heap_s, heap_code, ev.heap_size[0])
        if kind == BATCH_ENDS:
            _end_batch(cat, wl, st, obs, an, sc, ev, what, now_s, start_s, end_s)
        elif kind == WAIT_ENDS:
            ev.timer_s[what] = np.inf
            send(cat, st, ev, what, now_s, end_s)
        elif kind == LOOSE_DUE and ev.steps[what] & COLLAGE:
            group_due(cat, wl, st, obs, sc, ev, what, now_s, start_s, end_s)
        elif kind == LOOSE_DUE:
            message_there(cat, wl, st, obs, sc, ev, what, now_s, start_s, end_s)
        else:
            hedge(cat, wl, st, sc, ev, what, carried + joined, now_s, start_s, end_s)
    for option in range(st.containers.alive.shape[0]):
        if st.containers.alive[option] > 0 and cat.market[option % cat.market.shape[0]] == SERVERLESS:
            find_environment(cat, st, option, end_s)
    put_back(cat, wl, st, obs, sc, ev, start_s, end_s)
    book_paths(wl, st, obs, sc)


@merged
def _arrive(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    st: SimState,
    obs: ObservationArrays,
    sc: Scratch,
    ev: Events,
    index: int,
    copy: int,
    now_s: float,
    start_s: float,
    end_s: float,
) -> None:
    """A request arrives: it is refused, called on serverless, or queued."""
    klass, identity, lane = sc.klass[index], sc.identity[index], sc.lane[index]
    ev.arrival_s[copy], ev.identity[copy], ev.klass[copy] = now_s, identity, klass
    ev.attempt[copy], ev.option[copy], ev.twin[copy], ev.slot[copy] = 0, -1, -1, -1
    ev.stage[copy], ev.steps[copy], ev.ring[copy] = GONE, 0, -1
    ev.order[copy] = ev.place[copy] = copy
    if lane < 0:
        return
    if has_workflow(wl, klass):
        begin_workflow(cat, wl, st, obs, sc, ev, copy, now_s, start_s, end_s)
        return
    option = sc.lane_option[lane]
    if st.rules.cascade_variant[klass, 0] >= 0:
        option = first_option(st, sc, klass, identity, option)
        lane = lane_of(st, sc, option, identity)
    ev.option[copy], ev.lane[copy] = option, lane
    if cat.market[option % cat.market.shape[0]] == SERVERLESS:
        call(cat, wl, st, obs, sc, ev, copy, now_s, start_s, end_s)
        return
    shed_limit = limit_of_lane(st.rules.shed_limit[klass], sc.num_lanes[option])
    queue_limit = limit_of_lane(wl.queue_limit[klass], sc.num_lanes[option])
    if _is_shed(ev.class_waiting[lane, klass], shed_limit, queue_limit):
        obs.shed[klass] += 1
        obs.missed[klass] += 1
        return
    _wait_or_overflow(cat, wl, st, obs, sc, ev, copy, wl.overflow_option[klass], 0, now_s, start_s, end_s)


@merged
def _wait_or_overflow(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    st: SimState,
    obs: ObservationArrays,
    sc: Scratch,
    ev: Events,
    copy: int,
    overflow_option: int,
    step: int,
    now_s: float,
    start_s: float,
    end_s: float,
) -> None:
    """A copy joins the queue of its option; where that is long, it may be called at a serverless one instead."""
    klass, option, lane = ev.klass[copy], ev.option[copy], ev.lane[copy]
    fraction = st.rules.overflow_fraction[klass]
    if fraction > 0.0 and overflow_option >= 0:
        num_pools = cat.market.shape[0]
        v, p = option // num_pools, option % num_pools
        size, heap_s = ev.num_credits[lane], ev.credit_s[ev.first_credit[lane] :]
        in_use = size if heap_s[1] > now_s else count_busy(heap_s, size, now_s)
        batch = min(max(st.rules.batch_size[option], 1), cat.batch_max[v, p])
        wait_s = _predicted_wait_s(ev.waiting[lane], in_use, size, cat.service_s[v, p, batch] / batch)
        coin = uniform(st.clock.keys[OVERFLOW], ev.identity[copy], step)
        if _overflows(wait_s, st.rules.overflow_after_s[klass], fraction, coin):
            ev.option[copy] = overflow_option
            call(cat, wl, st, obs, sc, ev, copy, now_s, start_s, end_s)
            return
    join_queue(ev, copy, now_s)
    send(cat, st, ev, lane, now_s, end_s)


@merged
def _start_second(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    st: SimState,
    obs: ObservationArrays,
    sc: Scratch,
    ev: Events,
    copy: int,
    now_s: float,
    start_s: float,
    end_s: float,
) -> None:
    """Starts the second step of a request that has just begun the first, unless no option of it has a share."""
    klass, num_pools = ev.klass[copy], cat.market.shape[0]
    if step_of(st, klass, ev.option[copy] // num_pools) != 0 or sc.step_options[klass, 1] == 0:
        return
    option = step_route(st, sc, klass, 1, ev.identity[copy])
    lane = lane_of(st, sc, option, ev.identity[copy])
    twin = duplicate(ev, copy, option, lane, STEP_ATTEMPTS)
    if cat.market[option % num_pools] == SERVERLESS:
        call(cat, wl, st, obs, sc, ev, twin, now_s, start_s, end_s)
    else:
        takes = wl.step_overflow[klass, option // num_pools]
        _wait_or_overflow(cat, wl, st, obs, sc, ev, twin, takes, 1, now_s, start_s, end_s)


@merged
def _end_batch(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    st: SimState,
    obs: ObservationArrays,
    an: AnswerArrays,
    sc: Scratch,
    ev: Events,
    batch: int,
    now_s: float,
    start_s: float,
    end_s: float,
) -> None:
    """A batch ends: answers what is still awaited, withdraws the other copies, sends what waited for the credit.

    Copies whose answer is not final go on when all of the batch are seen: until then its list is needed.
    """
    credit = ev.credit[batch]
    if ev.credit_batch[credit] == batch:
        ev.credit_batch[credit] = -1
    if ev.left[batch] == 0:
        return
    ev.left[batch] = -1  # so that withdrawing a copy in it does not cancel it
    option, lane = ev.option[batch], ev.lane[batch]
    num_pools = cat.market.shape[0]
    v, p = option // num_pools, option % num_pools
    copy, num_open = batch, 0
    while copy >= 0:
        if ev.stage[copy] == RUNNING and ev.steps[copy] & COLLAGE:
            finish_collage(cat, wl, st, obs, sc, ev, copy, now_s, start_s, end_s)
        elif ev.stage[copy] == RUNNING and has_workflow(wl, ev.klass[copy]):
            num_open += finish_operator(wl, obs, sc, ev, copy, v, p, now_s, start_s)
        elif ev.stage[copy] == RUNNING:
            klass, arrival_s, twin = ev.klass[copy], ev.arrival_s[copy], ev.twin[copy]
            has_steps = st.rules.cascade_variant[klass, 0] >= 0 and ev.ring[copy] < 0
            step = step_of(st, klass, v) if has_steps else -1
            ev.stage[copy] = GONE
            if step >= 0 and twin >= 0 and hands_over(wl, st, obs, an, ev, copy, twin, step, v, p):
                twin = -1
            elif step >= 0:
                num_open += finish_step(wl, st, obs, an, sc, ev, copy, step, v, p, now_s, start_s)
            else:
                latency_s = now_s - arrival_s + wl.network_s[klass, v, p]
                slo_s = wl.slo_s[klass]
                answer(sc.answers[option], obs.latency, obs.missed, klass, latency_s, slo_s, arrival_s + slo_s, start_s)
            if twin >= 0:
                ev.twin[copy] = -1
                withdraw(cat, st, ev, twin, now_s, end_s)
            if ev.ring[copy] >= 0:
                depart(cat, st, ev, copy, now_s, end_s)
        copy = ev.next[copy]
    copy = batch if num_open > 0 else -1
    while copy >= 0:
        following = ev.next[copy]
        if ev.stage[copy] == UNSEEN and has_workflow(wl, ev.klass[copy]):
            pass_on(cat, wl, st, obs, sc, ev, copy, now_s, start_s, end_s)
        elif ev.stage[copy] == UNSEEN:
            _go_on(cat, wl, st, obs, sc, ev, copy, now_s, start_s, end_s)
        copy = following
    if cat.market[p] != SERVERLESS:
        send(cat, st, ev, lane, now_s, end_s)


@merged
def _go_on(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    st: SimState,
    obs: ObservationArrays,
    sc: Scratch,
    ev: Events,
    copy: int,
    now_s: float,
    start_s: float,
    end_s: float,
) -> None:
    """A copy goes to the next step of its cascade, unless its deadline has passed meanwhile."""
    klass, option = ev.klass[copy], ev.option[copy]
    deadline_s = ev.arrival_s[copy] + wl.slo_s[klass]
    if deadline_s <= now_s and wl.drop_at_deadline[klass]:
        ev.stage[copy] = GONE
        obs.failed[klass] += 1
        if deadline_s > start_s:
            obs.missed[klass] += 1
    elif cat.market[option % cat.market.shape[0]] == SERVERLESS:
        call(cat, wl, st, obs, sc, ev, copy, now_s, start_s, end_s)
    else:
        v = option // cat.market.shape[0]
        takes, step = wl.step_overflow[klass, v], step_of(st, klass, v)
        _wait_or_overflow(cat, wl, st, obs, sc, ev, copy, takes, step, now_s, start_s, end_s)
