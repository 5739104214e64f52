"""Work space of a thread for one tick of one env; nothing in it outlives the tick.

J is the number of copies of requests that a tick can have, L the number of requests; O * R are the lanes of
`envs.kernels.lanes`; other axes as in `state`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from controller.arrays import CASCADE_STEPS, F64, I64, Bool
from envs.kernels.state import I32, PATHS, Sizes

AUTO, FAST, EVENT = range(3)
"""Which kernel serves the requests of a tick; AUTO takes the event kernel where a class hedges or has a cascade."""

KERNELS = ("auto", "fast", "event")
"""Their names in a scenario."""


UNSEEN, WAITING, RUNNING, LOOSE, GONE = range(5)
"""Stages of a copy within a tick of the event kernel; a LOOSE one neither waits nor is in service."""


class Events(NamedTuple):
    """Work space of the event kernel: J copies of requests, carried ones first, then arrivals, then duplicates.

    A queue and a batch are lists of copies; a batch is named by its first copy, which holds what concerns all of it.
    """

    arrival_s: F64  # (J,)
    since_s: F64  # (J,) when it joined its queue
    identity: I64  # (J,)
    klass: I32  # (J,)
    attempt: I32  # (J,)
    option: I32  # (J,)
    lane: I32  # (J,) of the queue it waits in, or of the credit that its batch is on
    stage: I32  # (J,) UNSEEN, WAITING, RUNNING, LOOSE or GONE
    twin: I32  # (J,) the request's other copy, -1 for none
    steps: I32  # (J,) bits of the cascade's steps that were answered, and marks of groups
    ring: I32  # (J,) next copy of its group, in a circle; -1 for none
    place: I32  # (J,) of its request in `order`
    next: I32  # (J,) in its queue or batch
    before: I32  # (J,) in its queue
    batch: I32  # (J,) first copy of its batch
    left: I32  # (J,) of a batch: copies whose answer somebody still waits for
    credit: I32  # (J,) of a batch: i * K + k, or M * K + e for a serverless environment
    sent_s: F64  # (J,) of a batch
    finish_s: F64  # (J,) of a batch
    slot: I32  # (J,) in the held table, -1 while it has none
    copy_of: I32  # (Q,) copy of a held slot, at the start of the tick
    order: I64  # (J,) copies by arrival, one for every request
    work: I64  # (J,)
    num_copies: I64  # (1,)
    num_groups: I64  # (1,) formed in this tick or carried into it
    open_group: I32  # (C * R,) collage that requests of a class and router join, -1 for none
    heap_size: I64  # (1,)
    heap_s: F64  # (2 * J + O * R + C + 2,) events to come
    heap_code: I64  # (2 * J + O * R + C + 2,) what they concern, times NUM_KINDS, plus their kind
    credit_s: F64  # (M * K + 2 * O * R,) per lane a heap of the times at which its credits are free
    credit_of: I64  # (M * K + 2 * O * R,) the credits themselves
    credit_batch: I32  # (M * K + E,) batch that runs on it, -1 for none
    credit_lane: I32  # (M * K,) lane whose credit it is, -1 where it takes no more batches
    first_credit: I64  # (O * R,) where a lane's heap begins
    num_credits: I64  # (O * R,)
    head: I32  # (O * R,) of its queue
    tail: I32  # (O * R,)
    waiting: I64  # (O * R,)
    class_waiting: I64  # (O * R, C)
    timer_s: F64  # (O * R,) pending end of a batch wait, inf for none
    busy_s: F64  # (O * R,) credit-seconds of batches sent in this tick
    expiry_at: I64  # (C,) place of the next copy whose deadline is watched
    expiry_s: F64  # (C,)
    hedge_at: I64  # (C,) place of the next copy that may be hedged
    hedge_s: F64  # (C,) pending moment of it, inf for none


class Scratch(NamedTuple):
    """Work space of one thread; nothing in it outlives a tick."""

    arrival_s: F64  # (L,) unsorted arrivals of the tick
    draw: F64  # (L,) uniform draws of them; before that, gaps between them
    identity: I64  # (L,)
    klass: I32  # (L,)
    lane: I32  # (L,) that it is sent to, -1 for none
    seg_arrival_s: F64  # (L,) the same by lane, carried requests first
    seg_key: I64  # (L,) id, attempt and class in one number, see `requests.key_of`
    seg_gone: Bool  # (L,)
    seg_start: I64  # (O * R + 1,)
    seg_fill: I64  # (O * R,)
    is_serverless: Bool  # (O * R,)
    lane_option: I64  # (O * R,) the same in every tick; likewise the next
    lane_router: I64  # (O * R,)
    num_lanes: I64  # (O,) of the option, in use in this tick
    over_arrival_s: F64  # (L,) requests sent to serverless, by the option they go to
    over_id: I64  # (L,)
    over_class: I32  # (L,)
    over_attempt: I32  # (L,)
    over_option: I32  # (L,)
    over_order: I64  # (L,)
    over_work: I64  # (L,)
    heap_s: F64  # (M * K + 2,)
    heap_credit: I64  # (M * K + 2,)
    class_next: I64  # (C,)
    class_expiry_s: F64  # (C,)
    class_waiting: I64  # (C,)
    queue_limit: I64  # (C,) of one lane; likewise the next
    shed_limit: I64  # (C,)
    route_share: F64  # (C, O) running sums
    route_option: I64  # (C, O)
    route_length: I64  # (C,)
    step_first: I64  # (C, S) where the options of a cascade's step begin in the route
    step_options: I64  # (C, S) how many there are
    step_share: F64  # (C, O) running sums within each step
    step_network_s: F64  # (C, S) of a step's options, by share
    collage_option: I64  # (C, P) options of the class's collage
    collage_share: F64  # (C, P) running sums
    collage_options: I64  # (C,) how many there are
    flow_option: I64  # (C, W, O) options of each operator of a workflow; no entries for classes with one operator
    flow_share: F64  # (C, W, O) running sums
    flow_options: I64  # (C, W) how many there are
    member_start: I64  # (O + 1,)
    member: I64  # (M,) instance slots by option
    idle_s: F64  # (E,)
    idle_env: I64  # (E,)
    answers: I64  # (O, C) given in this tick
    paths: I64  # (PATHS or more, C) answers given by cascades and workflows in this tick
    surplus: F64  # (C,) what measured rows say of them, less what was expected
    call_usd: F64  # (O,) charges of serverless calls in this tick
    kernel: int  # AUTO, FAST or EVENT


def new_events(shape: tuple[int, int, int], sizes: Sizes, most_arrivals: int, most_copies: int = 4) -> Events:
    """Work space of the event kernel for up to `most_copies` of a request; else as for `new_scratch`.

    Without workflows these are four at most: the request, a duplicate, and two passes of a group of its own.
    """
    (v, p, c), (m, k, e, q, r) = shape, sizes
    lanes, j = v * p * r, most_copies * (most_arrivals + q) + 1
    times = ("arrival_s", "since_s", "sent_s", "finish_s")
    numbers = (
        "klass",
        "attempt",
        "option",
        "lane",
        "stage",
        "twin",
        "steps",
        "ring",
        "place",
        "next",
        "before",
        "batch",
        "left",
        "credit",
        "slot",
    )
    copies: dict[str, Any] = {name: np.zeros(j) for name in times}
    copies |= {name: np.zeros(j, np.int32) for name in numbers}
    return Events(
        **copies,
        identity=np.zeros(j, np.int64),
        copy_of=np.zeros(q, np.int32),
        order=np.zeros(j, np.int64),
        num_copies=np.zeros(1, np.int64),
        num_groups=np.zeros(1, np.int64),
        open_group=np.zeros(c * r, np.int32),
        heap_size=np.zeros(1, np.int64),
        work=np.zeros(j, np.int64),
        heap_s=np.zeros(2 * j + lanes + c + 2),
        heap_code=np.zeros(2 * j + lanes + c + 2, np.int64),
        credit_s=np.zeros(m * k + 2 * lanes),
        credit_of=np.zeros(m * k + 2 * lanes, np.int64),
        credit_batch=np.zeros(m * k + e, np.int32),
        credit_lane=np.zeros(m * k, np.int32),
        first_credit=np.zeros(lanes, np.int64),
        num_credits=np.zeros(lanes, np.int64),
        head=np.zeros(lanes, np.int32),
        tail=np.zeros(lanes, np.int32),
        waiting=np.zeros(lanes, np.int64),
        class_waiting=np.zeros((lanes, c), np.int64),
        timer_s=np.zeros(lanes),
        busy_s=np.zeros(lanes),
        expiry_at=np.zeros(c, np.int64),
        expiry_s=np.zeros(c),
        hedge_at=np.zeros(c, np.int64),
        hedge_s=np.zeros(c),
    )


def new_scratch(
    shape: tuple[int, int, int],
    sizes: Sizes,
    most_arrivals: int,
    kernel: int = AUTO,
    num_operators: int = 1,
    num_answers: int = 1,
) -> Scratch:
    """Work space for ticks of up to `most_arrivals` arrivals; `shape` is (V, P, C), W and A as in a workload."""
    (v, p, c), (m, k, e, q, r) = shape, sizes
    o, lanes, length = v * p, v * p * r, most_arrivals + q + 1
    return Scratch(
        arrival_s=np.zeros(length),
        draw=np.zeros(length),
        identity=np.zeros(length, np.int64),
        klass=np.zeros(length, np.int32),
        lane=np.zeros(length, np.int32),
        seg_arrival_s=np.zeros(length),
        seg_key=np.zeros(length, np.int64),
        seg_gone=np.zeros(length, np.bool_),
        seg_start=np.zeros(lanes + 1, np.int64),
        seg_fill=np.zeros(lanes, np.int64),
        is_serverless=np.zeros(lanes, np.bool_),
        lane_option=np.repeat(np.arange(o), r),
        lane_router=np.tile(np.arange(r), o),
        num_lanes=np.ones(o, np.int64),
        over_arrival_s=np.zeros(length),
        over_id=np.zeros(length, np.int64),
        over_class=np.zeros(length, np.int32),
        over_attempt=np.zeros(length, np.int32),
        over_option=np.zeros(length, np.int32),
        over_order=np.zeros(length, np.int64),
        over_work=np.zeros(length, np.int64),
        heap_s=np.zeros(m * k + e + 2),
        heap_credit=np.zeros(m * k + e + 2, np.int64),
        class_next=np.zeros(c, np.int64),
        class_expiry_s=np.zeros(c),
        class_waiting=np.zeros(c, np.int64),
        queue_limit=np.zeros(c, np.int64),
        shed_limit=np.zeros(c, np.int64),
        route_share=np.zeros((c, o)),
        route_option=np.zeros((c, o), np.int64),
        route_length=np.zeros(c, np.int64),
        step_first=np.zeros((c, CASCADE_STEPS), np.int64),
        step_options=np.zeros((c, CASCADE_STEPS), np.int64),
        step_share=np.zeros((c, o)),
        step_network_s=np.zeros((c, CASCADE_STEPS)),
        collage_option=np.zeros((c, p), np.int64),
        collage_share=np.zeros((c, p)),
        collage_options=np.zeros(c, np.int64),
        flow_option=np.zeros((c, num_operators, o), np.int64),
        flow_share=np.zeros((c, num_operators, o)),
        flow_options=np.zeros((c, num_operators), np.int64),
        member_start=np.zeros(o + 1, np.int64),
        member=np.zeros(m, np.int64),
        idle_s=np.zeros(e + 1),
        idle_env=np.zeros(e + 1, np.int64),
        answers=np.zeros((o, c), np.int64),
        paths=np.zeros((max(PATHS, num_answers), c), np.int64),
        surplus=np.zeros(c),
        call_usd=np.zeros(o),
        kernel=kernel,
    )
