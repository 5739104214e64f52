"""What the event kernel sends and takes back: batches, calls to serverless, and the events they cause."""

from __future__ import annotations

from controller.arrays import CatalogArrays, ObservationArrays, WorkloadArrays
from controller.kernels.random import uniform
from controller.keyed_random import SERVICE
from envs.kernels.compiled import kernel
from envs.kernels.copies import leave_queue
from envs.kernels.requests import draw, push, replace_top
from envs.kernels.scratch import GONE, RUNNING, WAITING, Events, Scratch
from envs.kernels.serverless import find_environment, place_call, refuse_call
from envs.kernels.state import SimState

BATCH_ENDS, WAIT_ENDS, HEDGE_DUE, LOOSE_DUE = range(4)
"""Kinds of events; they concern a batch, a lane, a class and a loose copy."""

NUM_KINDS = 4


@kernel
def plan_event(ev: Events, at_s: float, kind: int, what: int) -> None:
    """Adds an event."""
    ev.heap_size[0] = push(ev.heap_s, ev.heap_code, ev.heap_size[0], at_s, what * NUM_KINDS + kind)


@kernel
def start_batch(ev: Events, batch: int, count: int, credit: int, now_s: float, finish_s: float, end_s: float) -> None:
    """Notes a batch that runs from now on."""
    ev.left[batch] = count
    ev.credit[batch] = credit
    ev.sent_s[batch] = now_s
    ev.finish_s[batch] = finish_s
    ev.credit_batch[credit] = batch
    if finish_s <= end_s:
        plan_event(ev, finish_s, BATCH_ENDS, batch)


@kernel
def call(
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
    """Calls the copy's serverless option, which may refuse."""
    option, klass, arrival_s = ev.option[copy], ev.klass[copy], ev.arrival_s[copy]
    env, num_busy = find_environment(cat, st, option, now_s)
    env, finish_s = place_call(
        cat, st, obs, sc, option, env, num_busy, now_s, ev.identity[copy], ev.attempt[copy], end_s
    )
    if env < 0:
        ev.stage[copy] = GONE
        if ev.twin[copy] >= 0:
            ev.twin[ev.twin[copy]] = -1
        else:
            refuse_call(wl, obs, klass, arrival_s, start_s)
        return
    credit = st.fleet.state.shape[0] * st.fleet.credit_free_s.shape[1] + env
    start_batch(ev, copy, 1, credit, now_s, finish_s, end_s)
    ev.stage[copy], ev.batch[copy], ev.next[copy] = RUNNING, copy, -1


@kernel
def send(cat: CatalogArrays, st: SimState, ev: Events, lane: int, now_s: float, end_s: float) -> None:
    """Sends what may leave a lane's queue now: full batches, and others that have waited long enough."""
    heap_s, heap_credit = ev.credit_s[ev.first_credit[lane] :], ev.credit_of[ev.first_credit[lane] :]
    num_pools = cat.market.shape[0]
    while ev.waiting[lane] > 0 and heap_s[1] <= now_s < end_s:
        first = ev.head[lane]
        option = ev.option[first]
        v, p = option // num_pools, option % num_pools
        size = min(max(st.rules.batch_size[option], 1), cat.batch_max[v, p])
        if ev.waiting[lane] < size:
            due_s = ev.since_s[first] + st.rules.batch_wait_s[option]
            if now_s < due_s:
                if due_s < ev.timer_s[lane] and due_s < end_s:
                    ev.timer_s[lane] = due_s
                    plan_event(ev, due_s, WAIT_ENDS, lane)
                return
        count = min(size, ev.waiting[lane])
        service_s = cat.service_s[v, p, count] * draw(
            cat.shapes[cat.service_shape[v, p]],
            uniform(st.clock.keys[SERVICE], ev.identity[first], ev.attempt[first]),
        )
        finish_s = now_s + service_s
        ev.busy_s[lane] += min(finish_s, end_s) - now_s
        start_batch(ev, first, count, heap_credit[1], now_s, finish_s, end_s)
        replace_top(heap_s, heap_credit, ev.num_credits[lane], finish_s, heap_credit[1])
        copy = last = first
        for _ in range(count):
            ev.stage[copy] = RUNNING
            ev.batch[copy] = first
            ev.class_waiting[lane, ev.klass[copy]] -= 1
            last = copy
            copy = ev.next[copy]
        ev.next[last] = -1
        ev.head[lane] = copy
        if copy < 0:
            ev.tail[lane] = -1
        else:
            ev.before[copy] = -1
        ev.waiting[lane] -= count


@kernel
def withdraw(cat: CatalogArrays, st: SimState, ev: Events, copy: int, now_s: float, end_s: float) -> None:
    """Takes back a copy whose answer nobody waits for any more."""
    if ev.stage[copy] == WAITING:
        leave_queue(ev, copy)
        ev.stage[copy] = GONE
        return
    ev.stage[copy] = GONE
    batch = ev.batch[copy]
    ev.left[batch] -= 1
    credit = ev.credit[batch]
    if ev.left[batch] != 0 or ev.credit_batch[credit] != batch or credit >= st.fleet.credit_free_s.size:
        return
    lane = ev.lane[batch]
    ev.credit_batch[credit] = -1
    ev.busy_s[lane] -= min(ev.finish_s[batch], end_s) - now_s
    credits_per_instance = st.fleet.credit_free_s.shape[1]
    st.fleet.credit_free_s[credit // credits_per_instance, credit % credits_per_instance] = now_s
    heap_s, heap_credit = ev.credit_s[ev.first_credit[lane] :], ev.credit_of[ev.first_credit[lane] :]
    at = ev.num_credits[lane]
    while at > 0 and heap_credit[at] != credit:
        at -= 1
    if at == 0:  # the instance drains or swaps: its credit takes no more batches
        return
    while at > 1 and heap_s[at >> 1] > now_s:
        heap_s[at], heap_credit[at] = heap_s[at >> 1], heap_credit[at >> 1]
        at >>= 1
    heap_s[at], heap_credit[at] = now_s, credit
    send(cat, st, ev, lane, now_s, end_s)
