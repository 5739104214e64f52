"""State of the simulated world as plain arrays, env axis N in front.

Because it is plain arrays, a snapshot is a copy and nothing depends on how envs are batched. Instances and held
requests live in slots of fixed tables; lists are linked by slot numbers (-1 ends a list).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controller.arrays import BILL_TERMS, CASCADE_STEPS, F64, I64, LATENCY_BUCKETS, RANK_BITS, Bool

FREE, STARTING, SERVING, DOOMED, DRAINING = range(5)
"""States of an instance slot. DOOMED serves under a preemption notice."""

STREAMS = 12
"""Streams of `controller.keyed_random`, one key per env and stream."""

MAX_ATTEMPTS = 4
"""A request that lost its replica is queued again at most this many times."""

PATHS = 1 << (CASCADE_STEPS + 1)
"""Ways to the answer of a cascade: a bit for each step that was answered, and one for an answer that stands although a
further step would have followed, had it an option.
"""

STEP_BITS = (1 << RANK_BITS) - 1
DUPLICATES, PASSES, BY_COLLAGE = range(3)
"""Counts of redundancy: copies sent beside or in place of the first, passes of collages, answers that these gave."""

GROUPED, COLLAGE, SERVED, THERE = (1 << bit for bit in range(RANK_BITS, RANK_BITS + 4))
"""Marks of a copy beside its steps: it is in a group; it is no request but the collage of its group; it is in service
at the end of the tick; what it waited for has come (the end of a collage's pass, or of a message's way).
"""

U64 = NDArray[np.uint64]
I8 = NDArray[np.int8]
I16 = NDArray[np.int16]
I32 = NDArray[np.int32]


class SupplyArrays(NamedTuple):
    """What arrives and what the market offers, on regular grids. R traces, Z zones."""

    rate_rps: F64  # (R, bins) intensity of all classes together
    rate_bin_s: float
    gaps: F64  # (SHAPE_CELLS + 1,) quantile table of a unit-mean gap; used where `is_poisson` is false
    is_poisson: bool
    spot_share: F64  # (Z, ticks) share of a pool's quota that the zone offers, 0..1
    spot_bin_s: float


class Clock(NamedTuple):
    """Time, randomness and the position in the trace."""

    seed: I64  # (N,)
    keys: U64  # (N, STREAMS)
    trace: I64  # (N,) row of `rate_rps`
    start_s: F64  # (N,) trace time at which the env began
    spot_start_s: F64  # (N,) market time at which the env began
    now_s: F64  # (N,) since the env began
    tick: I64  # (N,)
    next_request: I64  # (N,) id of the next arrival
    gap_left: F64  # (N,) intensity left until it, in unit gaps
    launches: I64  # (N,) counter that keys launch draws
    opened: I64  # (N,) ticks whose window was opened; a decision opens it, without one the tick does


class Fleet(NamedTuple):
    """Instances in M slots, each with K credits."""

    option: I64  # (N, M) v * P + p
    state: I64  # (N, M)
    launch_s: F64  # (N, M)
    ready_s: F64  # (N, M)
    kill_s: F64  # (N, M) inf without a notice
    flight_option: I64  # (N, M) option under which the batches in service were sent, -1 for none
    credit_free_s: F64  # (N, M, K) end of the batch in service
    credit_start_s: F64  # (N, M, K) its beginning
    credit_flight: I32  # (N, M, K) first held request of it
    unavailable_until_s: F64  # (N, P)
    used: I64  # (N,) slots from here on are free


class Containers(NamedTuple):
    """Serverless execution environments in E slots; O options."""

    option: I64  # (N, E) v * P + p, -1 unused
    free_s: F64  # (N, E)
    flight: I32  # (N, E)
    alive: I64  # (N, O) environments of the option
    provisioned: I64  # (N, O) reserved environments
    used: I64  # (N,) slots from here on are unused


class Held(NamedTuple):
    """Requests that live across ticks, in Q slots: queued, or in service."""

    arrival_s: F64  # (N, Q)
    id: I64  # (N, Q)
    klass: I8  # (N, Q)
    attempt: I16  # (N, Q); of a loose copy its option
    next: I32  # (N, Q)
    twin: I32  # (N, Q) 2 * slot of the request's other copy, plus 1 where that one is in service; -1 for none; twice
    # the next slot of its group where it is in one
    free: I32  # (N,) head of the free list
    taken: I32  # (N,) slots in use
    steps: I16  # (N, Q) steps of the cascade that were answered or variants that answered in the workflow; marks
    left_s: F64  # (N, Q) of a loose copy: until its message is there; no entries where no class has a workflow
    loose: I32  # (N,) first of the copies that neither wait nor are in service
    pairs: I32  # (N,) copies beyond one for each request
    escalated: I32  # (N,) copies beyond the first step of a cascade, at the end of the last tick
    redundant: I64  # (N, C, 3) what was sent beside the first copies so far, see DUPLICATES


class Queue(NamedTuple):
    """FIFO of each lane, as a list of held requests; R routers have R lanes of each option, see `envs.kernels.lanes`.

    What the edge of a tick puts back stands in the option's first lane until the next tick begins.
    """

    head: I32  # (N, O * R)
    tail: I32  # (N, O * R)
    length: I32  # (N, O * R)


class Rules(NamedTuple):
    """Plan and shares in force."""

    shares: F64  # (N, C, O)
    overflow_after_s: F64  # (N, C)
    overflow_fraction: F64  # (N, C)
    hedge_after_s: F64  # (N, C)
    hedge_replaces: Bool  # (N, C)
    cascade_variant: I64  # (N, C, S) S steps of a cascade
    cascade_threshold: F64  # (N, C, S - 1)
    cascade_concurrent: Bool  # (N, C)
    collage_variant: I64  # (N, C)
    collage_after_s: F64  # (N, C)
    collage_passes: I64  # (N, C)
    path_accuracy: (
        F64  # (N, C, PATHS) expected of an answer by its path; the first is negative where they are to be found
    )
    shed_limit: I64  # (N, C)
    batch_size: I64  # (N, O)
    batch_wait_s: F64  # (N, O)


class SimState(NamedTuple):
    """All that changes while a world runs. A kernel works on one env's row: the same tuple without the env axis."""

    clock: Clock
    fleet: Fleet
    containers: Containers
    held: Held
    queue: Queue
    rules: Rules


class TotalArrays(NamedTuple):
    """Sums since the last reset of an env."""

    arrivals: I64  # (N, C)
    answered: I64  # (N, C)
    missed: I64  # (N, C)
    shed: I64  # (N, C)
    failed: I64  # (N, C)
    accuracy_sum: F64  # (N, C)
    right: F64  # (N, C) as accuracy_sum, but an answer of a cascade counts what its request's measured row says of it
    latency: I64  # (N, C, B)
    spend_usd: F64  # (N, T)
    preempted: I64  # (N, P)
    launch_failed: I64  # (N, P)
    invocations: I64  # (N, P)
    cold_starts: I64  # (N, P)
    throttled: I64  # (N, P)
    instance_s: F64  # (N, P) instance-seconds billed


Sizes = tuple[int, int, int, int, int]
"""Of a simulator: instances M, credits K of each, serverless environments E, held requests Q, routers R."""


def new_state(num_envs: int, shape: tuple[int, int, int], sizes: Sizes, has_workflows: bool = False) -> SimState:
    """Empty state; `shape` is (V, P, C)."""
    n, (v, p, c), (m, k, e, q, r) = num_envs, shape, sizes
    o = v * p
    return SimState(
        Clock(
            seed=np.zeros(n, np.int64),
            keys=np.zeros((n, STREAMS), np.uint64),
            trace=np.zeros(n, np.int64),
            start_s=np.zeros(n),
            spot_start_s=np.zeros(n),
            now_s=np.zeros(n),
            tick=np.zeros(n, np.int64),
            next_request=np.zeros(n, np.int64),
            gap_left=np.zeros(n),
            launches=np.zeros(n, np.int64),
            opened=np.zeros(n, np.int64),
        ),
        Fleet(
            option=np.full((n, m), -1, np.int64),
            state=np.zeros((n, m), np.int64),
            launch_s=np.zeros((n, m)),
            ready_s=np.zeros((n, m)),
            kill_s=np.full((n, m), np.inf),
            flight_option=np.full((n, m), -1, np.int64),
            credit_free_s=np.zeros((n, m, k)),
            credit_start_s=np.zeros((n, m, k)),
            credit_flight=np.full((n, m, k), -1, np.int32),
            unavailable_until_s=np.full((n, p), -1.0),
            used=np.zeros(n, np.int64),
        ),
        Containers(
            option=np.full((n, e), -1, np.int64),
            free_s=np.zeros((n, e)),
            flight=np.full((n, e), -1, np.int32),
            alive=np.zeros((n, o), np.int64),
            provisioned=np.zeros((n, o), np.int64),
            used=np.zeros(n, np.int64),
        ),
        Held(
            arrival_s=np.zeros((n, q)),
            id=np.zeros((n, q), np.int64),
            klass=np.zeros((n, q), np.int8),
            attempt=np.zeros((n, q), np.int16),
            next=np.tile(np.append(np.arange(1, q), -1).astype(np.int32), (n, 1)),
            twin=np.full((n, q), -1, np.int32),
            free=np.zeros(n, np.int32),
            taken=np.zeros(n, np.int32),
            steps=np.zeros((n, q), np.int16),
            left_s=np.zeros((n, q if has_workflows else 0)),
            loose=np.full(n, -1, np.int32),
            pairs=np.zeros(n, np.int32),
            escalated=np.zeros(n, np.int32),
            redundant=np.zeros((n, c, 3), np.int64),
        ),
        Queue(
            head=np.full((n, o * r), -1, np.int32),
            tail=np.full((n, o * r), -1, np.int32),
            length=np.zeros((n, o * r), np.int32),
        ),
        Rules(
            shares=np.zeros((n, c, o)),
            overflow_after_s=np.zeros((n, c)),
            overflow_fraction=np.zeros((n, c)),
            hedge_after_s=np.full((n, c), np.inf),
            hedge_replaces=np.zeros((n, c), np.bool_),
            cascade_variant=np.full((n, c, CASCADE_STEPS), -1, np.int64),
            cascade_threshold=np.zeros((n, c, CASCADE_STEPS - 1)),
            cascade_concurrent=np.zeros((n, c), np.bool_),
            collage_variant=np.full((n, c), -1, np.int64),
            collage_after_s=np.full((n, c), np.inf),
            collage_passes=np.ones((n, c), np.int64),
            path_accuracy=np.full((n, c, PATHS), -1.0),
            shed_limit=np.full((n, c), np.iinfo(np.int64).max),
            batch_size=np.ones((n, o), np.int64),
            batch_wait_s=np.zeros((n, o)),
        ),
    )


def new_totals(num_envs: int, shape: tuple[int, int, int]) -> TotalArrays:
    """Zeroed sums; `shape` is (V, P, C)."""
    n, (_, p, c) = num_envs, shape
    by_class, by_pool = (n, c), (n, p)
    return TotalArrays(
        arrivals=np.zeros(by_class, np.int64),
        answered=np.zeros(by_class, np.int64),
        missed=np.zeros(by_class, np.int64),
        shed=np.zeros(by_class, np.int64),
        failed=np.zeros(by_class, np.int64),
        accuracy_sum=np.zeros(by_class),
        right=np.zeros(by_class),
        latency=np.zeros((n, c, LATENCY_BUCKETS), np.int64),
        spend_usd=np.zeros((n, len(BILL_TERMS))),
        preempted=np.zeros(by_pool, np.int64),
        launch_failed=np.zeros(by_pool, np.int64),
        invocations=np.zeros(by_pool, np.int64),
        cold_starts=np.zeros(by_pool, np.int64),
        throttled=np.zeros(by_pool, np.int64),
        instance_s=np.zeros(by_pool),
    )
