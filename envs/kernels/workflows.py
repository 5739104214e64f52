"""Workflows: requests that several operators serve, some of them side by side, until the last one answers.

What is under way for a request are messages, which are its copies in the table, linked in a ring. A message is on its
way to an option, there and waiting for those of the other inputs of its operator, or queued or in service like any
request. When an operator ends, its output becomes one message for each operator that it feeds; when the last input of
an operator is there, its messages become one. Every way takes and costs what its link says.

A request whose deadline passes while nothing of it is in service fails; else what is in service ends, and nothing
follows unless it was the last operator. Whatever an operator's option refuses, the request is refused whole.
"""

from __future__ import annotations

from controller import routing
from controller.arrays import EGRESS, SERVERLESS, CatalogArrays, ObservationArrays, WorkloadArrays
from controller.redundancy import STEP_ATTEMPTS
from envs.kernels.compiled import inlined, kernel, merged
from envs.kernels.copies import join_queue, leave_queue
from envs.kernels.dispatch import LOOSE_DUE, call, plan_event, send, withdraw
from envs.kernels.flows import has_workflow, operator_option
from envs.kernels.lanes import lane_of, limit_of_lane
from envs.kernels.requests import answer
from envs.kernels.scratch import GONE, LOOSE, RUNNING, UNSEEN, WAITING, Events, Scratch
from envs.kernels.state import STEP_BITS, THERE, SimState

_is_shed = inlined(routing.is_shed)


@inlined
def _operator(wl: WorkloadArrays, klass: int, option: int) -> int:
    return wl.operator[klass, option // wl.allowed.shape[2]]


@merged
def begin_workflow(
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
    """A request arrives: it is refused, or sent to every operator without inputs."""
    klass, identity, num_pools = ev.klass[copy], ev.identity[copy], cat.market.shape[0]
    num_begin = 0
    for operator in range(wl.num_operators[klass]):
        if wl.num_inputs[klass, operator] > 0:
            continue
        num_begin += 1
        option = operator_option(st, sc, klass, operator, identity)
        is_shed = option < 0
        if not is_shed and cat.market[option % num_pools] != SERVERLESS:
            shed_limit = limit_of_lane(st.rules.shed_limit[klass], sc.num_lanes[option])
            queue_limit = limit_of_lane(wl.queue_limit[klass], sc.num_lanes[option])
            waiting = ev.class_waiting[lane_of(st, sc, option, identity), klass]
            is_shed = _is_shed(waiting, shed_limit, queue_limit)
        if is_shed:
            obs.shed[klass] += 1
            obs.missed[klass] += 1
            return
    ev.ring[copy] = copy
    ev.stage[copy] = UNSEEN
    ev.num_groups[0] += 1
    for back in range(wl.num_operators[klass]):
        operator = wl.num_operators[klass] - 1 - back
        if wl.num_inputs[klass, operator] > 0 or ev.ring[copy] < 0:
            continue
        num_begin -= 1
        message = copy if num_begin == 0 else _another(ev, copy)
        option = operator_option(st, sc, klass, operator, identity)
        v, p = option // num_pools, option % num_pools
        way_s, usd = wl.network_s[klass, v, p], wl.egress_usd[klass, v, p]
        _travel(cat, wl, st, obs, sc, ev, message, option, way_s, usd, now_s, start_s, end_s)


@kernel
def _another(ev: Events, copy: int) -> int:
    """Makes another message of a request; returns it."""
    message = ev.num_copies[0]
    ev.num_copies[0] += 1
    ev.arrival_s[message], ev.identity[message] = ev.arrival_s[copy], ev.identity[copy]
    ev.klass[message], ev.steps[message], ev.place[message] = ev.klass[copy], ev.steps[copy], ev.place[copy]
    ev.twin[message], ev.slot[message] = -1, -1
    ev.ring[message], ev.ring[copy] = ev.ring[copy], message
    return message


@kernel
def _travel(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    st: SimState,
    obs: ObservationArrays,
    sc: Scratch,
    ev: Events,
    message: int,
    option: int,
    way_s: float,
    usd: float,
    now_s: float,
    start_s: float,
    end_s: float,
) -> None:
    """Puts a message on its way to an option."""
    obs.spend_usd[EGRESS] += usd
    ev.option[message], ev.stage[message] = option, LOOSE
    ev.finish_s[message] = now_s + way_s
    if way_s <= 0.0:
        message_there(cat, wl, st, obs, sc, ev, message, now_s, start_s, end_s)
    elif ev.finish_s[message] < end_s:
        plan_event(ev, ev.finish_s[message], LOOSE_DUE, message)


@kernel
def message_there(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    st: SimState,
    obs: ObservationArrays,
    sc: Scratch,
    ev: Events,
    message: int,
    now_s: float,
    start_s: float,
    end_s: float,
) -> None:
    """A message is there: its operator begins if it was the last of its inputs."""
    if ev.stage[message] != LOOSE or ev.steps[message] & THERE:  # its request was given up on the way
        return
    klass, option = ev.klass[message], ev.option[message]
    operator, num_there = _operator(wl, klass, option), 1
    ev.steps[message] |= THERE
    at = ev.ring[message]
    while at != message:
        num_there += _waits_for(wl, ev, at, klass, operator)
        at = ev.ring[at]
    if num_there < wl.num_inputs[klass, operator]:
        return
    at = ev.ring[message]
    while at != message:
        following = ev.ring[at]
        if _waits_for(wl, ev, at, klass, operator):
            ev.steps[message] |= ev.steps[at]
            _leave(ev, at)
        at = following
    ev.steps[message] &= ~THERE
    ev.attempt[message] = STEP_ATTEMPTS * operator
    if cat.market[option % cat.market.shape[0]] != SERVERLESS:
        ev.lane[message] = lane_of(st, sc, option, ev.identity[message])
        join_queue(ev, message, now_s)
        send(cat, st, ev, ev.lane[message], now_s, end_s)
        return
    call(cat, wl, st, obs, sc, ev, message, now_s, start_s, end_s)
    if ev.stage[message] == GONE:
        drop_request(cat, st, ev, message, now_s, end_s)


@inlined
def _waits_for(wl: WorkloadArrays, ev: Events, copy: int, klass: int, operator: int) -> bool:
    """Whether a message is there and waits for the other inputs of an operator."""
    is_there = ev.stage[copy] == LOOSE and ev.steps[copy] & THERE != 0
    return is_there and _operator(wl, klass, ev.option[copy]) == operator


@kernel
def _leave(ev: Events, copy: int) -> bool:
    """Takes a message out of its request; returns whether it was the last one."""
    before = copy
    while ev.ring[before] != copy:
        before = ev.ring[before]
    ev.ring[before] = ev.ring[copy]
    ev.ring[copy] = -1
    ev.stage[copy] = GONE
    if before == copy:
        return True
    if ev.order[ev.place[copy]] == copy:  # the request is watched by another of its messages from now on
        ev.order[ev.place[copy]] = before
    return False


@kernel
def drop_request(cat: CatalogArrays, st: SimState, ev: Events, copy: int, now_s: float, end_s: float) -> None:
    """Takes all messages of a request back."""
    at = copy
    while ev.ring[at] >= 0:
        following = ev.ring[at]
        ev.ring[at] = -1
        if ev.stage[at] == WAITING or ev.stage[at] == RUNNING:
            withdraw(cat, st, ev, at, now_s, end_s)
        ev.stage[at] = GONE
        at = following


@merged
def finish_operator(
    wl: WorkloadArrays,
    obs: ObservationArrays,
    sc: Scratch,
    ev: Events,
    copy: int,
    v: int,
    p: int,
    now_s: float,
    start_s: float,
) -> bool:
    """An operator has ended: the last one answers the request.

    Returns:
        Whether its output goes on; the copy is UNSEEN until it does.
    """
    klass = ev.klass[copy]
    operator, deadline_s = wl.operator[klass, v], ev.arrival_s[copy] + wl.slo_s[klass]
    ev.steps[copy] |= wl.rank_bits[klass, v]
    is_last = True
    for other in range(wl.num_operators[klass]):
        is_last = is_last and not wl.feeds[klass, operator, other]
    if is_last:
        obs.spend_usd[EGRESS] += wl.egress_usd[klass, v, p]
        latency_s = now_s - ev.arrival_s[copy] + wl.network_s[klass, v, p]
        path = ev.steps[copy] & STEP_BITS
        answer(sc.paths[path], obs.latency, obs.missed, klass, latency_s, wl.slo_s[klass], deadline_s, start_s)
        _leave(ev, copy)
        return False
    if deadline_s <= now_s and wl.drop_at_deadline[klass]:
        if _leave(ev, copy):
            obs.failed[klass] += 1
            obs.missed[klass] += deadline_s > start_s
        return False
    ev.stage[copy] = UNSEEN
    return True


@merged
def pass_on(
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
    """Sends the output of an operator to all that it feeds, to the first of them by the copy itself."""
    klass, num_pools = ev.klass[copy], cat.market.shape[0]
    v, p = ev.option[copy] // num_pools, ev.option[copy] % num_pools
    operator, num_left = wl.operator[klass, v], 0
    for other in range(wl.num_operators[klass]):
        num_left += wl.feeds[klass, operator, other]
    for back in range(wl.num_operators[klass]):
        other = wl.num_operators[klass] - 1 - back
        if not wl.feeds[klass, operator, other] or ev.ring[copy] < 0:
            continue
        num_left -= 1
        option = operator_option(st, sc, klass, other, ev.identity[copy])
        if option < 0:
            obs.shed[klass] += 1
            obs.missed[klass] += ev.arrival_s[copy] + wl.slo_s[klass] > start_s
            drop_request(cat, st, ev, copy, now_s, end_s)
            return
        message, q = copy if num_left == 0 else _another(ev, copy), option % num_pools
        way_s, usd = wl.hop_s[v, p, q], wl.hop_usd[v, p, q]
        _travel(cat, wl, st, obs, sc, ev, message, option, way_s, usd, now_s, start_s, end_s)


@kernel
def pass_workflow_deadline(wl: WorkloadArrays, obs: ObservationArrays, ev: Events, copy: int) -> None:
    """The deadline of a request passes: only what is in service ends."""
    klass = ev.klass[copy]
    if not wl.drop_at_deadline[klass]:
        return
    is_served, at = ev.stage[copy] == RUNNING, ev.ring[copy]
    while at != copy:
        is_served = is_served or ev.stage[at] == RUNNING
        at = ev.ring[at]
    at = ev.ring[copy]
    while at != copy:
        following = ev.ring[at]
        _drop_unserved(ev, at)
        at = following
    _drop_unserved(ev, copy)
    if not is_served:
        obs.missed[klass] += 1
        obs.failed[klass] += 1


@inlined
def _drop_unserved(ev: Events, copy: int) -> None:
    if ev.stage[copy] != RUNNING:
        if ev.stage[copy] == WAITING:
            leave_queue(ev, copy)
        _leave(ev, copy)


@merged
def begin_messages(
    cat: CatalogArrays, wl: WorkloadArrays, st: SimState, ev: Events, carried: int, start_s: float, end_s: float
) -> None:
    """Takes up the messages that were carried into the tick; what is left of requests that failed goes."""
    for copy in range(carried):
        if not has_workflow(wl, ev.klass[copy]):
            continue
        if ev.ring[copy] < 0:
            if ev.stage[copy] == WAITING or ev.stage[copy] == RUNNING:
                withdraw(cat, st, ev, copy, start_s, end_s)
            ev.stage[copy] = GONE
        elif ev.stage[copy] == LOOSE and ev.steps[copy] & THERE == 0 and ev.finish_s[copy] < end_s:
            plan_event(ev, ev.finish_s[copy], LOOSE_DUE, copy)
