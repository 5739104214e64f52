"""Per-request steps shared by both kernels: answers, held requests, queues, heaps, service draws."""

from __future__ import annotations

import math

import numpy as np

from controller.arrays import (
    EGRESS,
    F64,
    I64,
    LATENCY_BUCKETS,
    SERVERLESS_USE,
    SHAPE_CELLS,
    CatalogArrays,
    ObservationArrays,
    WorkloadArrays,
)
from envs.kernels.compiled import inlined, kernel, place, unsigned
from envs.kernels.scratch import Scratch
from envs.kernels.state import SimState

_MANTISSA_SHIFT = np.int64(49)
_FIRST_BUCKET = np.int64((1023 - 10) << 3)  # bits of 2**-10 s, exponent and three mantissa bits


@inlined
def bucket_of(latency_s: float) -> int:
    """Log bucket of a latency: exponent and top three mantissa bits, read from the number itself."""
    bucket = (np.float64(latency_s).view(np.int64) >> _MANTISSA_SHIFT) - _FIRST_BUCKET
    return max(0, min(int(bucket), LATENCY_BUCKETS - 1))


@inlined
def draw(table: F64, uniform: float) -> float:
    """Value of a quantile table at `uniform`, relative to its mean."""
    x = uniform * SHAPE_CELLS
    cell = np.uint64(x)
    low = table[cell]
    return low + (table[cell + np.uint64(1)] - low) * (x - np.float64(cell))


# A request that is sorted by option is two numbers: when it arrived, and id, attempt and class in one key.


@inlined
def key_of(identity: int, attempt: int, klass: int) -> int:
    """Key of a request; ids below 2**47, attempts and classes below 256."""
    return (identity << 16) | (attempt << 8) | klass


@inlined
def class_of(key: int) -> int:
    """Class of a request by its key, unsigned."""
    return unsigned(key) & unsigned(255)


@inlined
def attempt_of(key: int) -> int:
    """Attempt of a request by its key."""
    return (key >> 8) & 255


@inlined
def id_of(key: int) -> int:
    """Id of a request by its key."""
    return key >> 16


@inlined
def replace_top(heap_s: F64, heap_credit: I64, size: int, time_s: float, credit: int) -> None:
    """Puts (time, credit) where the earliest entry was. Entries are 1..size; heap_s[size + 1] must be inf."""
    one, last = unsigned(1), unsigned(size)
    at = one
    child = at + one
    # Down to a leaf and from there up, mostly not at all: a test on the way down would be mispredicted at every level.
    while child <= last:
        child += unsigned(heap_s[child + one] < heap_s[child])
        heap_s[at] = heap_s[child]
        heap_credit[at] = heap_credit[child]
        at = child
        child = at + at
    while at > one and heap_s[at >> one] >= time_s:
        heap_s[at] = heap_s[at >> one]
        heap_credit[at] = heap_credit[at >> one]
        at >>= one
    heap_s[at] = time_s
    heap_credit[at] = credit


@inlined
def push(heap_s: F64, heap_credit: I64, size: int, time_s: float, credit: int) -> int:
    """Adds (time, credit); returns the new size and restores the sentinel behind it."""
    size += 1
    one, at = unsigned(1), unsigned(size)
    while at > one and heap_s[at >> one] > time_s:
        heap_s[at] = heap_s[at >> one]
        heap_credit[at] = heap_credit[at >> one]
        at >>= one
    heap_s[at] = time_s
    heap_credit[at] = credit
    heap_s[size + 1] = np.inf
    return size


@inlined
def pop(heap_s: F64, heap_credit: I64, size: int) -> int:
    """Removes the earliest entry; returns the new size. Read heap_s[1] and heap_credit[1] before."""
    last_s, last_credit = heap_s[size], heap_credit[size]
    heap_s[size] = np.inf
    size -= 1
    if size > 0:
        replace_top(heap_s, heap_credit, size, last_s, last_credit)
    return size


@kernel
def sort_by_time(times_s: F64, order: I64, work: I64, length: int) -> None:
    """Stable merge sort of indices 0..length - 1 by time, into `order`; runs already in order cost one pass."""
    for index in range(length):
        order[index] = index
    width = 1
    while width < length:
        low = 0
        while low < length:
            middle, high = min(low + width, length), min(low + 2 * width, length)
            if middle < high and times_s[order[middle]] < times_s[order[middle - 1]]:
                left, right = low, middle
                for at in range(low, high):
                    if right >= high or (left < middle and times_s[order[left]] <= times_s[order[right]]):
                        work[at] = order[left]
                        left += 1
                    else:
                        work[at] = order[right]
                        right += 1
                for at in range(low, high):
                    order[at] = work[at]
            low = high
        width *= 2


@inlined
def answer(
    answers: I64,
    latency: I64,
    missed: I64,
    klass: int,
    latency_s: float,
    slo_s: float,
    deadline_s: float,
    tick_start_s: float,
) -> None:
    """Counts one answer. A deadline before the tick's start was booked as missed when it passed."""
    answers[klass] += 1
    latency[klass, bucket_of(latency_s)] += 1
    if latency_s > slo_s and deadline_s > tick_start_s:
        missed[klass] += 1


@inlined
def clear_answers(sc: Scratch) -> None:
    """Begins the tick's counts of answers and calls."""
    for klass in range(sc.surplus.shape[0]):
        sc.surplus[klass] = 0.0
    for option in range(sc.answers.shape[0]):
        sc.call_usd[option] = 0.0
        for klass in range(sc.answers.shape[1]):
            sc.answers[option, klass] = 0


@inlined
def book_answers(cat: CatalogArrays, wl: WorkloadArrays, obs: ObservationArrays, sc: Scratch) -> None:
    """Books the tick's answers and calls, option by option, so that sums do not depend on the order in time."""
    num_pools = cat.market.shape[0]
    answers, call_usd, num_classes = sc.answers, sc.call_usd, sc.answers.shape[1]
    for option in range(answers.shape[0]):
        if call_usd[option] > 0.0:
            obs.spend_usd[SERVERLESS_USE] += call_usd[option]
        for klass in range(num_classes):
            count = answers[option, klass]
            if count > 0:
                v, p = place(option, num_pools)
                obs.answered[klass] += count
                obs.accuracy_sum[klass] += count * cat.accuracy[v]
                obs.spend_usd[EGRESS] += count * wl.egress_usd[klass, v, p]


@inlined
def hold(st: SimState, arrival_s: float, identity: int, klass: int, attempt: int) -> int:
    """Stores a request across ticks; returns its slot. The caller keeps enough slots free."""
    slot = st.held.free[0]
    st.held.free[0] = st.held.next[slot]
    st.held.taken[0] += 1
    st.held.arrival_s[slot] = arrival_s
    st.held.id[slot] = identity
    st.held.klass[slot] = klass
    st.held.attempt[slot] = attempt
    st.held.next[slot] = -1
    st.held.twin[slot] = -1
    st.held.steps[slot] = 0
    return slot


@inlined
def let_go(st: SimState, slot: int) -> int:
    """Gives a slot of the held table back; returns the next slot of its list."""
    following = st.held.next[slot]
    st.held.next[slot] = st.held.free[0]
    st.held.free[0] = slot
    st.held.taken[0] -= 1
    return following


@kernel
def leave_held_group(st: SimState, slot: int) -> None:
    """Takes a held copy out of the ring of its group."""
    before = slot
    while st.held.twin[before] >> 1 != slot:
        before = st.held.twin[before] >> 1
    st.held.twin[before] = st.held.twin[slot]


@kernel
def enqueue(st: SimState, lane: int, slot: int) -> None:
    """Inserts a held request into a lane's queue, in order of arrival."""
    st.held.next[slot] = -1
    tail = st.queue.tail[lane]
    if tail < 0:
        st.queue.head[lane] = slot
        st.queue.tail[lane] = slot
    elif st.held.arrival_s[tail] <= st.held.arrival_s[slot]:
        st.held.next[tail] = slot
        st.queue.tail[lane] = slot
    else:
        before, at = -1, st.queue.head[lane]
        while st.held.arrival_s[at] <= st.held.arrival_s[slot]:
            before, at = at, st.held.next[at]
        st.held.next[slot] = at
        if before < 0:
            st.queue.head[lane] = slot
        else:
            st.held.next[before] = slot
    st.queue.length[lane] += 1


@inlined
def most_waiting(cat: CatalogArrays, st: SimState) -> int:
    """Copies that may wait at the end of a tick: the held table less what the fleet can have in service."""
    most_on_one = 0
    for v in range(cat.usable.shape[0]):
        for p in range(cat.usable.shape[1]):
            most_on_one = max(most_on_one, cat.concurrency[v, p] * cat.batch_max[v, p])
    return st.held.next.shape[0] - st.fleet.used[0] * most_on_one - st.containers.flight.shape[0]


@inlined
def call_span_s(start_s: float, finish_s: float, end_s: float) -> float:
    """Seconds of a carried call within the tick, cut to 2**-30 s: their sum is exact in any order of environments."""
    return math.floor((min(finish_s, end_s) - start_s) * 2.0**30) * 2.0**-30


@kernel
def settle_flights(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    st: SimState,
    obs: ObservationArrays,
    sc: Scratch,
    start_s: float,
    end_s: float,
) -> None:
    """Answers what finishes within the tick, among batches sent in earlier ticks, and books credit time in service."""
    num_pools = cat.market.shape[0]
    for i in range(st.fleet.used[0]):
        if st.fleet.state[i] == 0:
            continue
        option = st.fleet.flight_option[i]
        if option < 0:
            continue
        v, p = place(option, num_pools)
        for k in range(cat.concurrency[v, p]):
            slot = st.fleet.credit_flight[i, k]
            if slot < 0:
                continue
            finish_s = st.fleet.credit_free_s[i, k]
            obs.busy_s[v, p] += min(finish_s, end_s) - start_s
            if finish_s > end_s:
                continue
            _answer_list(wl, st, obs, sc, slot, finish_s, start_s, option, v, p)
            st.fleet.credit_flight[i, k] = -1
    for e in range(st.containers.used[0]):
        slot = st.containers.flight[e]
        if slot >= 0:
            option = st.containers.option[e]
            v, p = place(option, num_pools)
            finish_s = st.containers.free_s[e]
            obs.busy_s[v, p] += call_span_s(start_s, finish_s, end_s)
            if finish_s <= end_s:
                _answer_list(wl, st, obs, sc, slot, finish_s, start_s, option, v, p)
                st.containers.flight[e] = -1


@kernel
def _answer_list(
    wl: WorkloadArrays,
    st: SimState,
    obs: ObservationArrays,
    sc: Scratch,
    slot: int,
    finish_s: float,
    start_s: float,
    option: int,
    v: int,
    p: int,
) -> None:
    while slot >= 0:
        klass = st.held.klass[slot]
        arrival_s = st.held.arrival_s[slot]
        latency_s = finish_s - arrival_s + wl.network_s[klass, v, p]
        slo_s = wl.slo_s[klass]
        answer(sc.answers[option], obs.latency, obs.missed, klass, latency_s, slo_s, arrival_s + slo_s, start_s)
        slot = let_go(st, slot)


@kernel
def miss_in_service(wl: WorkloadArrays, st: SimState, obs: ObservationArrays, start_s: float, end_s: float) -> None:
    """Books deadlines that passed while the request was in service; it is answered late and stays billed."""
    for i in range(st.fleet.used[0]):
        if st.fleet.flight_option[i] >= 0:
            for k in range(st.fleet.credit_flight.shape[1]):
                _miss_list(wl, st, obs, st.fleet.credit_flight[i, k], start_s, end_s)
    for e in range(st.containers.used[0]):
        _miss_list(wl, st, obs, st.containers.flight[e], start_s, end_s)


@inlined
def _miss_list(
    wl: WorkloadArrays, st: SimState, obs: ObservationArrays, slot: int, start_s: float, end_s: float
) -> None:
    while slot >= 0:
        klass = st.held.klass[slot]
        deadline_s = st.held.arrival_s[slot] + wl.slo_s[klass]
        if start_s < deadline_s <= end_s:
            obs.missed[klass] += 1
        slot = st.held.next[slot]
