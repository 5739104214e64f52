"""Copies of requests between two ticks: brought into the event kernel's table, and put back into the held table."""

from __future__ import annotations

import numpy as np

from controller.arrays import SERVERLESS, CatalogArrays, ObservationArrays, WorkloadArrays
from controller.redundancy import COLLAGE_ATTEMPT
from envs.kernels.compiled import kernel
from envs.kernels.flows import has_workflow
from envs.kernels.lanes import load_credits, num_routers
from envs.kernels.requests import call_span_s, hold, let_go, most_waiting, sort_by_time
from envs.kernels.scratch import GONE, LOOSE, RUNNING, UNSEEN, WAITING, Events, Scratch
from envs.kernels.state import COLLAGE, FREE, GROUPED, SERVED, STEP_BITS, SimState


@kernel
def bring_in(
    cat: CatalogArrays, st: SimState, obs: ObservationArrays, sc: Scratch, ev: Events, start_s: float, end_s: float
) -> int:
    """Moves every held copy into the table and books the credit time of what is in service; returns their number.

    Copies queued at a serverless option stay UNSEEN: their calls have yet to be made.
    """
    _clear(cat, st, sc, ev)
    num_pools = cat.market.shape[0]
    total, routers = 0, num_routers(st)
    for lane in range(ev.head.shape[0]):
        option = sc.lane_option[lane]
        slot = st.queue.head[lane]
        while slot >= 0:
            _copy(st, ev, total, slot, option, lane)
            if cat.market[option % num_pools] == SERVERLESS:
                ev.stage[total] = UNSEEN
            else:
                join_queue(ev, total, ev.arrival_s[total])
            total += 1
            slot = st.held.next[slot]
        st.queue.head[lane] = st.queue.tail[lane] = -1
        st.queue.length[lane] = 0
    credits_per_instance = st.fleet.credit_free_s.shape[1]
    for i in range(st.fleet.used[0]):
        option = st.fleet.flight_option[i]
        if st.fleet.state[i] == FREE or option < 0:
            continue
        v, p = option // num_pools, option % num_pools
        for k in range(cat.concurrency[v, p]):
            slot = st.fleet.credit_flight[i, k]
            if slot >= 0:
                finish_s = st.fleet.credit_free_s[i, k]
                obs.busy_s[v, p] += min(finish_s, end_s) - start_s
                sent_s = st.fleet.credit_start_s[i, k]
                credit = i * credits_per_instance + k
                lane = ev.credit_lane[credit] if ev.credit_lane[credit] >= 0 else option * routers
                total = _batch(st, ev, total, slot, option, lane, credit, sent_s, finish_s)
                st.fleet.credit_flight[i, k] = -1
    slot = st.held.loose[0]
    st.held.loose[0] = -1
    while slot >= 0:
        _copy(st, ev, total, slot, st.held.attempt[slot], -1)
        ev.attempt[total], ev.stage[total] = COLLAGE_ATTEMPT, LOOSE
        if st.held.left_s.shape[0] > 0:
            ev.finish_s[total] = start_s + st.held.left_s[slot]
        total += 1
        slot = st.held.next[slot]
    first_env = st.fleet.state.shape[0] * credits_per_instance
    for e in range(st.containers.used[0]):
        slot = st.containers.flight[e]
        if slot >= 0:
            option = st.containers.option[e]
            finish_s = st.containers.free_s[e]
            obs.busy_s[option // num_pools, option % num_pools] += call_span_s(start_s, finish_s, end_s)
            total = _batch(st, ev, total, slot, option, option * routers, first_env + e, start_s, finish_s)
            st.containers.flight[e] = -1
    for copy in range(total):
        twin = st.held.twin[ev.slot[copy]]
        other = ev.copy_of[twin >> 1] if twin >= 0 else -1
        is_grouped = ev.steps[copy] & GROUPED != 0
        ev.twin[copy], ev.ring[copy] = -1 if is_grouped else other, other if is_grouped else -1
        ev.steps[copy] &= ~(GROUPED | SERVED)
        ev.num_groups[0] += is_grouped
    for copy in range(total):
        let_go(st, ev.slot[copy])
        ev.slot[copy] = -1
    st.held.pairs[0] = 0
    sort_by_time(ev.arrival_s, ev.order, ev.work, total)
    for place in range(total):
        ev.place[ev.order[place]] = place
    return total


@kernel
def _clear(cat: CatalogArrays, st: SimState, sc: Scratch, ev: Events) -> None:
    """Empties queues and heap of events; fills the heaps of credits from the instances that serve."""
    ev.heap_size[0] = ev.num_groups[0] = 0
    for at in range(ev.open_group.shape[0]):
        ev.open_group[at] = -1
    ev.heap_s[1] = np.inf
    for credit in range(ev.credit_batch.shape[0]):
        ev.credit_batch[credit] = -1
    for credit in range(ev.credit_lane.shape[0]):
        ev.credit_lane[credit] = -1
    first = 0
    for lane in range(ev.head.shape[0]):
        ev.head[lane] = ev.tail[lane] = -1
        ev.waiting[lane] = 0
        ev.timer_s[lane] = np.inf
        ev.busy_s[lane] = 0.0
        for klass in range(ev.class_waiting.shape[1]):
            ev.class_waiting[lane, klass] = 0
        ev.first_credit[lane] = first
        ev.credit_s[first + 1] = np.inf
        size = 0
        if sc.lane_router[lane] < sc.num_lanes[sc.lane_option[lane]]:
            size = load_credits(cat, st, sc, lane, ev.credit_s[first:], ev.credit_of[first:])
        for at in range(first + 1, first + size + 1):
            ev.credit_lane[ev.credit_of[at]] = lane
        ev.num_credits[lane] = size
        first += size + 2


@kernel
def _copy(st: SimState, ev: Events, copy: int, slot: int, option: int, lane: int) -> None:
    ev.arrival_s[copy] = st.held.arrival_s[slot]
    ev.identity[copy] = st.held.id[slot]
    ev.klass[copy] = st.held.klass[slot]
    ev.attempt[copy] = st.held.attempt[slot]
    ev.steps[copy] = st.held.steps[slot]
    ev.option[copy] = option
    ev.lane[copy] = lane
    ev.slot[copy] = slot
    ev.copy_of[slot] = copy


@kernel
def _batch(
    st: SimState, ev: Events, total: int, slot: int, option: int, lane: int, credit: int, sent_s: float, finish_s: float
) -> int:
    """Brings in what is in service on one credit; returns the new number of copies."""
    first = total
    while slot >= 0:
        _copy(st, ev, total, slot, option, lane)
        ev.stage[total] = RUNNING
        ev.batch[total] = first
        slot = st.held.next[slot]
        ev.next[total] = total + 1 if slot >= 0 else -1
        total += 1
    ev.left[first] = total - first
    ev.credit[first] = credit
    ev.sent_s[first] = sent_s
    ev.finish_s[first] = finish_s
    ev.credit_batch[credit] = first
    return total


@kernel
def duplicate(ev: Events, copy: int, option: int, lane: int, attempt: int) -> int:
    """Makes the second copy of a request; returns it."""
    twin = ev.num_copies[0]
    ev.num_copies[0] += 1
    ev.arrival_s[twin], ev.identity[twin], ev.klass[twin] = ev.arrival_s[copy], ev.identity[copy], ev.klass[copy]
    ev.attempt[twin], ev.option[twin], ev.lane[twin], ev.slot[twin] = attempt, option, lane, -1
    ev.steps[twin], ev.place[twin] = ev.steps[copy], ev.place[copy]
    ev.twin[twin], ev.twin[copy], ev.ring[twin] = copy, twin, -1
    return twin


@kernel
def unlink_all(ev: Events, copy: int) -> None:
    """Ends the group of a copy; whoever is in it goes on alone."""
    at = copy
    while ev.ring[at] >= 0:
        following = ev.ring[at]
        ev.ring[at] = -1
        at = following


@kernel
def join_queue(ev: Events, copy: int, now_s: float) -> None:
    """Appends a copy to the queue of its lane."""
    lane = ev.lane[copy]
    tail = ev.tail[lane]
    ev.stage[copy] = WAITING
    ev.since_s[copy] = now_s
    ev.next[copy] = -1
    ev.before[copy] = tail
    if tail < 0:
        ev.head[lane] = copy
    else:
        ev.next[tail] = copy
    ev.tail[lane] = copy
    ev.waiting[lane] += 1
    ev.class_waiting[lane, ev.klass[copy]] += 1


@kernel
def leave_queue(ev: Events, copy: int) -> None:
    """Takes a waiting copy out of its queue."""
    lane = ev.lane[copy]
    before, following = ev.before[copy], ev.next[copy]
    if before < 0:
        ev.head[lane] = following
    else:
        ev.next[before] = following
    if following < 0:
        ev.tail[lane] = before
    else:
        ev.before[following] = before
    ev.waiting[lane] -= 1
    ev.class_waiting[lane, ev.klass[copy]] -= 1


@kernel
def put_back(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    st: SimState,
    obs: ObservationArrays,
    sc: Scratch,
    ev: Events,
    start_s: float,
    end_s: float,
) -> None:
    """Moves what waits or is in service at the end of the tick into the held table and books passed deadlines."""
    num_pools = cat.market.shape[0]
    credits_per_instance = st.fleet.credit_free_s.shape[1]
    st.held.escalated[0] = 0
    most, num_waiting = most_waiting(cat, st), 0
    for lane in range(ev.head.shape[0]):
        option = sc.lane_option[lane]
        obs.busy_s[option // num_pools, option % num_pools] += ev.busy_s[lane]
        first = ev.first_credit[lane]
        for at in range(first + 1, first + ev.num_credits[lane] + 1):
            i, k = ev.credit_of[at] // credits_per_instance, ev.credit_of[at] % credits_per_instance
            st.fleet.credit_free_s[i, k] = ev.credit_s[at]
        copy = ev.head[lane]
        while copy >= 0:
            if has_workflow(wl, ev.klass[copy]) and ev.ring[copy] < 0:  # its request was refused
                ev.stage[copy] = GONE
            elif num_waiting < most:
                slot = _keep(wl, st, obs, ev, copy, start_s, end_s)
                tail = st.queue.tail[lane]
                if tail < 0:
                    st.queue.head[lane] = slot
                else:
                    st.held.next[tail] = slot
                st.queue.tail[lane] = slot
                st.queue.length[lane] += 1
                num_waiting += 1
            else:
                _refuse(wl, obs, ev, copy, start_s)
            copy = ev.next[copy]
    if ev.num_groups[0] > 0:
        _keep_loose(wl, st, obs, ev, most - num_waiting, start_s, end_s)
    first_env = st.fleet.state.shape[0] * credits_per_instance
    for i in range(st.fleet.used[0]):
        for k in range(credits_per_instance):
            batch = ev.credit_batch[i * credits_per_instance + k]
            if batch >= 0:
                st.fleet.credit_flight[i, k] = _keep_batch(wl, st, obs, ev, batch, start_s, end_s)
                st.fleet.credit_start_s[i, k] = ev.sent_s[batch]
                st.fleet.flight_option[i] = ev.option[batch]
    for e in range(st.containers.used[0]):
        batch = ev.credit_batch[first_env + e]
        if batch >= 0:
            st.containers.flight[e] = _keep_batch(wl, st, obs, ev, batch, start_s, end_s)
    if ev.num_groups[0] > 0:
        _link_groups(wl, st, obs, ev, start_s, end_s)


@kernel
def _keep_loose(
    wl: WorkloadArrays, st: SimState, obs: ObservationArrays, ev: Events, room: int, start_s: float, end_s: float
) -> None:
    """Holds up to `room` of the copies that neither wait nor are in service."""
    for copy in range(ev.num_copies[0]):
        if ev.stage[copy] != LOOSE:
            continue
        if room <= 0:
            _refuse(wl, obs, ev, copy, start_s)
            continue
        room -= 1
        slot = _keep(wl, st, obs, ev, copy, start_s, end_s)
        st.held.attempt[slot] = ev.option[copy]
        if st.held.left_s.shape[0] > 0:
            st.held.left_s[slot] = max(ev.finish_s[copy] - end_s, 0.0)
        st.held.next[slot] = st.held.loose[0]
        st.held.loose[0] = slot


@kernel
def _link_groups(
    wl: WorkloadArrays, st: SimState, obs: ObservationArrays, ev: Events, start_s: float, end_s: float
) -> None:
    """Links the held copies of each group in a ring of slots; a copy that found no room is left out.

    What concerns a request of a workflow is booked with the first of its messages.
    """
    for copy in range(ev.num_copies[0]):
        slot = ev.slot[copy]
        if slot < 0 or ev.ring[copy] < 0:
            continue
        other = ev.ring[copy]
        while ev.slot[other] < 0:
            other = ev.ring[other]
        st.held.twin[slot] = 2 * ev.slot[other]
        st.held.steps[slot] |= GROUPED
        klass = ev.klass[copy]
        if not has_workflow(wl, klass):
            continue
        is_first, is_served, at = True, ev.stage[copy] == RUNNING, ev.ring[copy]
        while at != copy:
            is_first = is_first and at > copy
            is_served = is_served or ev.stage[at] == RUNNING
            at = ev.ring[at]
        if is_first:
            obs.missed[klass] += start_s < ev.arrival_s[copy] + wl.slo_s[klass] <= end_s
            obs.waiting[klass] += not is_served
        else:
            st.held.pairs[0] += 1


@kernel
def _keep_batch(
    wl: WorkloadArrays, st: SimState, obs: ObservationArrays, ev: Events, batch: int, start_s: float, end_s: float
) -> int:
    """Holds the copies of a batch that somebody still waits for; returns the first slot, -1 for none."""
    flight, copy = -1, batch
    while copy >= 0:
        if ev.stage[copy] == RUNNING:
            slot = _keep(wl, st, obs, ev, copy, start_s, end_s)
            st.held.next[slot] = flight
            flight = slot
        copy = ev.next[copy]
    return flight


@kernel
def _keep(
    wl: WorkloadArrays, st: SimState, obs: ObservationArrays, ev: Events, copy: int, start_s: float, end_s: float
) -> int:
    """Holds one copy, linked to its twin; what concerns the request is booked with one of the two."""
    klass, twin = ev.klass[copy], ev.twin[copy]
    slot = hold(st, ev.arrival_s[copy], ev.identity[copy], klass, ev.attempt[copy])
    st.held.steps[slot] = ev.steps[copy]
    st.held.escalated[0] += ev.steps[copy] & STEP_BITS != 0
    ev.slot[copy] = slot
    if ev.steps[copy] & COLLAGE:
        st.held.pairs[0] += 1
        return slot
    if has_workflow(wl, klass):
        st.held.steps[slot] |= SERVED if ev.stage[copy] == RUNNING else 0
        return slot
    speaks = True
    if twin >= 0:
        other = ev.slot[twin]
        if other >= 0:
            st.held.twin[slot] = 2 * other + (ev.stage[twin] == RUNNING)
            st.held.twin[other] = 2 * slot + (ev.stage[copy] == RUNNING)
            st.held.pairs[0] += 1
        speaks = other < 0 if ev.stage[twin] == ev.stage[copy] else ev.stage[copy] == RUNNING
    if speaks:
        if start_s < ev.arrival_s[copy] + wl.slo_s[klass] <= end_s:
            obs.missed[klass] += 1
        if ev.stage[copy] == WAITING:
            obs.waiting[klass] += 1
    return slot


@kernel
def _refuse(wl: WorkloadArrays, obs: ObservationArrays, ev: Events, copy: int, start_s: float) -> None:
    """Drops a copy for which the held table has no room; its twin goes on alone."""
    twin = ev.twin[copy]
    ev.stage[copy] = GONE
    if ev.steps[copy] & COLLAGE:
        return
    if has_workflow(wl, ev.klass[copy]):  # the other messages of the request go in the next tick
        if ev.ring[copy] < 0:
            return
        unlink_all(ev, copy)
    if twin >= 0:
        ev.twin[twin] = -1
        return
    klass = ev.klass[copy]
    obs.shed[klass] += 1
    if ev.arrival_s[copy] + wl.slo_s[klass] > start_s:
        obs.missed[klass] += 1
