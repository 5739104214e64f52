"""The fast kernel: lanes are independent within a tick, so each is one pass over its own arrivals.

With one router a lane is an option, and else what one of several has of it (`envs.kernels.lanes`).

No event calendar: a batch leaves at max(earliest free credit, min(arrival of its last member, oldest + wait)), and
everything that leaves before the next arrival is sent before that arrival is looked at. So queue lengths at an
arrival are exact, and predicted waits, shedding and overflow are decided as a router would. Starts never decrease,
which is what makes one pass enough.
"""

from __future__ import annotations

import numpy as np

from controller import routing
from controller.arrays import F64, CatalogArrays, ObservationArrays, WorkloadArrays
from controller.kernels.random import uniform
from controller.keyed_random import OVERFLOW, SERVICE
from envs.kernels.compiled import inlined, kernel, merged, unsigned
from envs.kernels.lanes import limit_of_lane, load_credits
from envs.kernels.requests import answer, attempt_of, class_of, draw, hold, id_of, replace_top
from envs.kernels.scratch import Scratch
from envs.kernels.state import SimState

_predicted_wait_s = inlined(routing.predicted_wait_s)
_overflows = inlined(routing.overflows)
_is_shed = inlined(routing.is_shed)

_UNKNOWN_S = -np.inf


@kernel
def _expire(
    wl: WorkloadArrays, obs: ObservationArrays, sc: Scratch, head: int, appended: int, at_s: float, num_waiting: int
) -> tuple[int, float]:
    """Drops queued requests whose deadline has passed; returns (requests still waiting, next deadline)."""
    next_expiry_s = np.inf
    for klass in range(wl.slo_s.shape[0]):
        if sc.class_expiry_s[klass] <= at_s:
            place = max(unsigned(sc.class_next[klass]), head)
            sc.class_expiry_s[klass] = np.inf
            while place < appended:
                if class_of(sc.seg_key[place]) == unsigned(klass) and not sc.seg_gone[place]:
                    deadline_s = sc.seg_arrival_s[place] + wl.slo_s[klass]
                    if deadline_s > at_s:
                        sc.class_expiry_s[klass] = deadline_s
                        break
                    sc.seg_gone[place] = True
                    num_waiting -= 1
                    sc.class_waiting[klass] -= 1
                    obs.missed[klass] += 1
                    obs.failed[klass] += 1
                place += unsigned(1)
            sc.class_next[klass] = place
        next_expiry_s = min(next_expiry_s, sc.class_expiry_s[klass])
    return num_waiting, next_expiry_s


@inlined
def store_credits(st: SimState, sc: Scratch, size: int) -> None:
    """Writes the heap's moments back to the instances."""
    credits_per_instance = unsigned(st.fleet.credit_free_s.shape[1])
    for at in range(1, size + 1):
        credit = unsigned(sc.heap_credit[at])
        st.fleet.credit_free_s[credit // credits_per_instance, credit % credits_per_instance] = sc.heap_s[at]


@inlined
def _fly(st: SimState, option: int, credit: int, flight: int, start_s: float) -> None:
    """Notes a batch that is still in service when the tick ends."""
    credits_per_instance = unsigned(st.fleet.credit_free_s.shape[1])
    i, k = unsigned(credit) // credits_per_instance, unsigned(credit) % credits_per_instance
    st.fleet.credit_flight[i, k] = flight
    st.fleet.credit_start_s[i, k] = start_s
    st.fleet.flight_option[i] = option


@merged
def serve_machines(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    st: SimState,
    obs: ObservationArrays,
    sc: Scratch,
    lane: int,
    start_s: float,
    end_s: float,
    num_over: int,
    most: int,
) -> int:
    """Serves one lane of an option of a machine pool for one tick.

    Its requests stand in the segment arrays from the lane's seg_start, carried ones first; requests sent to serverless
    are appended to the overflow arrays. At most `most` may wait at the end of the tick, over all lanes.

    Returns:
        The new length of the overflow arrays.
    """
    num_pools, option = cat.market.shape[0], sc.lane_option[lane]
    v, p = option // num_pools, option % num_pools
    one = unsigned(1)
    first = unsigned(sc.seg_start[lane])
    end = first + unsigned(sc.seg_fill[lane])
    batch = min(max(st.rules.batch_size[option], 1), cat.batch_max[v, p])
    batch_wait_s = st.rules.batch_wait_s[option]
    goes_alone = batch == 1 or batch_wait_s <= 0.0
    mean_s = cat.service_s[v, p]
    single_s, item_s = mean_s[1], mean_s[batch] / batch
    table = cat.shapes[cat.service_shape[v, p]]
    service_key, overflow_key = st.clock.keys[SERVICE], st.clock.keys[OVERFLOW]
    heap_s, heap_credit = sc.heap_s, sc.heap_credit
    arrivals, gone, keys = sc.seg_arrival_s, sc.seg_gone, sc.seg_key
    # Arrays in locals: read from their tuples inside the loop they would be looked up again for every request.
    answers, latency, missed, shed = sc.answers[option], obs.latency, obs.missed, obs.shed
    class_waiting, class_expiry_s, class_next = sc.class_waiting, sc.class_expiry_s, sc.class_next
    slos_s, network_s = wl.slo_s, wl.network_s[:, v, p]
    drop_at_deadline, overflow_option = wl.drop_at_deadline, wl.overflow_option
    overflow_fraction, overflow_after_s = st.rules.overflow_fraction, st.rules.overflow_after_s
    queue_limit, shed_limit = sc.queue_limit, sc.shed_limit
    heap_s[1] = np.inf
    size = load_credits(cat, st, sc, lane, heap_s, heap_credit)
    for klass in range(wl.slo_s.shape[0]):
        queue_limit[klass] = limit_of_lane(wl.queue_limit[klass], sc.num_lanes[option])
        shed_limit[klass] = limit_of_lane(st.rules.shed_limit[klass], sc.num_lanes[option])
        class_expiry_s[klass] = np.inf
        class_next[klass] = first
        class_waiting[klass] = 0

    # What no request of this tick can meet is not looked for: overflow, and queue limits until so many wait at all.
    may_overflow, least_limit = False, np.int64(end - first) + 1
    for klass in range(wl.slo_s.shape[0]):
        may_overflow = may_overflow or (overflow_fraction[klass] > 0.0 and overflow_option[klass] >= 0)
        least_limit = min(least_limit, shed_limit[klass], queue_limit[klass])
    is_crowded = False

    head, num_waiting, next_expiry_s = first, 0, np.inf
    full_s = last_start_s = start_s
    leave_s = np.inf  # when the next batch leaves; found anew only where something changed it
    busy_s = 0.0
    place = first
    while True:
        is_last = place == end
        now_s = end_s if is_last else arrivals[place]
        while leave_s <= now_s and now_s >= start_s:
            if leave_s == _UNKNOWN_S:
                while gone[head]:
                    head += one
                if batch == 1:
                    leave_s = max(heap_s[1], arrivals[head])
                elif num_waiting >= batch:
                    leave_s = max(heap_s[1], full_s)
                else:
                    leave_s = max(heap_s[1], arrivals[head] + batch_wait_s)
                leave_s = max(leave_s, last_start_s)
                continue
            if is_last and leave_s >= now_s:
                break
            if leave_s >= next_expiry_s:
                num_waiting, next_expiry_s = _expire(wl, obs, sc, head, place, leave_s, num_waiting)
                leave_s = _UNKNOWN_S if num_waiting > 0 else np.inf
                continue
            count = min(batch, num_waiting)
            coin = uniform(service_key, id_of(keys[head]), attempt_of(keys[head]))
            service_s = mean_s[unsigned(count)] * draw(table, coin)
            finish_s = leave_s + service_s
            flight = -1
            sent = 0
            while sent < count:
                if not gone[head]:
                    klass = class_of(keys[head])
                    if is_crowded:
                        class_waiting[klass] -= 1
                    sent += 1
                    arrival_s = arrivals[head]
                    if finish_s <= end_s:
                        slo_s = slos_s[klass]
                        latency_s = finish_s - arrival_s + network_s[klass]
                        answer(answers, latency, missed, klass, latency_s, slo_s, arrival_s + slo_s, start_s)
                    else:
                        slot = hold(st, arrival_s, id_of(keys[head]), klass, attempt_of(keys[head]))
                        st.held.next[slot] = flight
                        flight = slot
                head += one
            num_waiting -= count
            if flight >= 0:
                _fly(st, option, heap_credit[1], flight, leave_s)
            busy_s += min(finish_s, end_s) - leave_s
            replace_top(heap_s, heap_credit, size, finish_s, heap_credit[1])
            full_s = last_start_s = leave_s
            leave_s = _UNKNOWN_S if num_waiting > 0 else np.inf
        if is_last:
            break
        klass = class_of(keys[place])
        if num_waiting == 0 and goes_alone and heap_s[1] <= now_s and start_s <= now_s < end_s:
            # Nobody waits and a credit is free: in service at once, without the queue. Most requests take this way.
            if least_limit <= 0 and _is_shed(0, shed_limit[klass], queue_limit[klass]):
                gone[place] = True
                shed[klass] += 1
                missed[klass] += 1
            else:
                coin = uniform(service_key, id_of(keys[place]), attempt_of(keys[place]))
                finish_s = now_s + single_s * draw(table, coin)
                if finish_s <= end_s:
                    slo_s = slos_s[klass]
                    latency_s = finish_s - now_s + network_s[klass]
                    answer(answers, latency, missed, klass, latency_s, slo_s, now_s + slo_s, start_s)
                else:
                    flight = hold(st, now_s, id_of(keys[place]), klass, attempt_of(keys[place]))
                    _fly(st, option, heap_credit[1], flight, now_s)
                busy_s += min(finish_s, end_s) - now_s
                replace_top(heap_s, heap_credit, size, finish_s, heap_credit[1])
                full_s = last_start_s = now_s
                head = place + one
            place += one
            continue
        if now_s >= next_expiry_s:
            num_waiting, next_expiry_s = _expire(wl, obs, sc, head, place, now_s, num_waiting)
            leave_s = _UNKNOWN_S if num_waiting > 0 else np.inf
        gone[place] = False
        if not is_crowded and num_waiting >= least_limit:
            is_crowded = True
            _count_waiting(sc, head, place)
        if now_s >= start_s:  # carried requests were admitted in an earlier tick
            if is_crowded and _is_shed(class_waiting[klass], shed_limit[klass], queue_limit[klass]):
                gone[place] = True
                shed[klass] += 1
                missed[klass] += 1
                place += one
                continue
            fraction = overflow_fraction[klass] if may_overflow else 0.0
            if fraction > 0.0 and overflow_option[klass] >= 0:
                in_use = size if heap_s[1] > now_s else count_busy(heap_s, size, now_s)
                wait_s, after_s = _predicted_wait_s(num_waiting, in_use, size, item_s), overflow_after_s[klass]
                # The first test spares most requests the draw.
                if wait_s > after_s and _overflows(
                    wait_s, after_s, fraction, uniform(overflow_key, id_of(keys[place]), 0)
                ):
                    gone[place] = True
                    sc.over_arrival_s[num_over] = now_s
                    sc.over_id[num_over] = id_of(keys[place])
                    sc.over_class[num_over] = klass
                    sc.over_attempt[num_over] = attempt_of(keys[place])
                    sc.over_option[num_over] = overflow_option[klass]
                    num_over += 1
                    place += one
                    continue
        num_waiting += 1
        if is_crowded:
            class_waiting[klass] += 1
        if num_waiting == batch:
            full_s = max(now_s, start_s)
        if num_waiting == 1 or num_waiting == batch:
            leave_s = _UNKNOWN_S
        if drop_at_deadline[klass] and class_expiry_s[klass] == np.inf:
            class_next[klass] = place
            class_expiry_s[klass] = now_s + slos_s[klass]
            next_expiry_s = min(next_expiry_s, class_expiry_s[klass])
        place += one

    _expire(wl, obs, sc, head, end, end_s, num_waiting)
    obs.busy_s[v, p] += busy_s
    store_credits(st, sc, size)
    _carry(wl, st, obs, sc, lane, head, end, start_s, end_s, most)
    return num_over


@kernel
def _count_waiting(sc: Scratch, head: int, end: int) -> None:
    """Counts the waiting requests at `head` up to `end` by class; the counts are kept from here on."""
    for klass in range(sc.class_waiting.shape[0]):
        sc.class_waiting[klass] = 0
    for place in range(head, end):
        if not sc.seg_gone[place]:
            sc.class_waiting[class_of(sc.seg_key[place])] += 1


@kernel
def count_busy(heap_s: F64, size: int, now_s: float) -> int:
    """Credits of a heap that are in use."""
    busy = 0
    for at in range(1, size + 1):
        busy += heap_s[at] > now_s
    return busy


@inlined
def _carry(
    wl: WorkloadArrays,
    st: SimState,
    obs: ObservationArrays,
    sc: Scratch,
    lane: int,
    head: int,
    end: int,
    start_s: float,
    end_s: float,
    most: int,
) -> None:
    """Puts what still waits into the lane's queue, up to `most` requests over all lanes."""
    num_waiting = obs.waiting.sum()
    for place in range(head, end):
        if sc.seg_gone[place]:
            continue
        key = sc.seg_key[place]
        klass = class_of(key)
        deadline_s = sc.seg_arrival_s[place] + wl.slo_s[klass]
        if start_s < deadline_s <= end_s:  # only a class that is not dropped at its deadline gets here late
            obs.missed[klass] += 1
        if num_waiting >= most:
            obs.shed[klass] += 1
            if deadline_s > end_s:
                obs.missed[klass] += 1
            continue
        slot = hold(st, sc.seg_arrival_s[place], id_of(key), klass, attempt_of(key))
        tail = st.queue.tail[lane]
        if tail < 0:
            st.queue.head[lane] = slot
        else:
            st.held.next[tail] = slot
        st.queue.tail[lane] = slot
        st.queue.length[lane] += 1
        obs.waiting[klass] += 1
        num_waiting += 1
