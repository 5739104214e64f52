"""The array form of every type on the decision path, with the env axis N in front.

Axes: N envs, V variants, P pools, C request classes (catalog order), T bill terms, B latency buckets, H history
ticks. These tuples are what the compiled kernels take; dataclasses and texts elsewhere are views built from them.
Counts are int64, money and time float64. numba is not imported here: a NamedTuple of numpy arrays is a type it
compiles against.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

ON_DEMAND, SPOT, SERVERLESS = 0, 1, 2
MARKETS = ("on_demand", "spot", "serverless")

BILL_TERMS = ("compute", "idle", "start_up", "serverless", "egress", "preemption_waste")
COMPUTE, IDLE, START_UP, SERVERLESS_USE, EGRESS, PREEMPTION_WASTE = range(6)

SHAPE_CELLS = 512
"""Cells of each quantile table; a draw is one lookup and one linear interpolation."""

HISTORY_TICKS = 360
"""Ticks of arrivals kept for forecasts: one hour at the default tick of 10 s."""

RANK_BITS = 10
"""Bits that tell which variants answered the operators of a workflow."""

CASCADE_STEPS = 3
"""Variants that a cascade can try in turn."""

LATENCY_BUCKETS = 160
"""Log buckets: 8 per octave from 2**-10 s (0.98 ms) to 2**10 s; first and last take what lies outside."""


class CatalogArrays(NamedTuple):
    """The catalog, compiled for one workload."""

    accuracy: F64  # (V,) share of right answers
    cells: I64  # (V,) requests that one pass answers; above 1 for collages only
    usable: Bool  # (V, P) a profile exists
    service_s: F64  # (V, P, B+1) mean seconds of one batch by size; index 0 unused; B = largest batch in the catalog
    service_shape: I64  # (V, P) row of `shapes`
    batch_max: I64  # (V, P)
    concurrency: I64  # (V, P) credits of one replica
    load_s: F64  # (V, P) weights into a fresh instance, after launch
    swap_s: F64  # (V, P) this variant onto a running instance of the pool
    cold_start_s: F64  # (V, P) mean, serverless only
    cold_shape: I64  # (V, P) row of `shapes`
    market: I64  # (P,) ON_DEMAND, SPOT or SERVERLESS
    price_usd_per_s: F64  # (P,) of one instance; 0 for serverless
    launch_s: F64  # (P,) mean request-to-running
    launch_shape: I64  # (P,) row of `shapes`
    min_billing_s: F64  # (P,)
    release_lag_s: F64  # (P,) billed this long after the last use
    quota: I64  # (P,) instances, or concurrent executions for serverless
    notice_s: F64  # (P,) warning before a preemption
    zone: I64  # (P,) row of the spot availability; -1 for none
    keep_alive_s: F64  # (P,) serverless: idle environments are kept this long
    memory_gb: F64  # (P,)
    usd_per_gb_s: F64  # (P,) serverless
    usd_per_request: F64  # (P,) serverless
    provisioned_usd_per_gb_s: F64  # (P,) serverless, reserved
    provisioned_compute_usd_per_gb_s: F64  # (P,) serverless, used while reserved
    billing_step_s: F64  # (P,) serverless durations are rounded up to this
    shapes: F64  # (D, SHAPE_CELLS + 1) quantile tables with mean 1


class WorkloadArrays(NamedTuple):
    """Request classes, compiled against a catalog."""

    share: F64  # (C,) sums to 1
    slo_s: F64  # (C,)
    attainment_target: F64  # (C,)
    accuracy_floor: F64  # (C,)
    floor_each: Bool  # (C,) the floor forbids variants below it, instead of binding the day's mean
    value_usd: F64  # (C,)
    queue_limit: I64  # (C,)
    drop_at_deadline: Bool  # (C,)
    allowed: Bool  # (C, V, P) usable, right operator, allowed by an `each` floor, fits the SLO when idle; no collage
    collage: Bool  # (C, V, P) the same of collages, on machines
    network_s: F64  # (C, V, P) added to every latency: both directions, delay and bytes; with several operators the way
    # of the request to those that begin and of the answer from the last one
    egress_usd: F64  # (C, V, P) per request, of the same ways
    overflow_option: I64  # (C,) v * P + p of the serverless option that takes overflow; -1 for none
    step_overflow: I64  # (C, V) likewise of a later step of a cascade, by its variant
    spare_rps: F64  # (C,) requests/s beyond the demand that a class needs which serverless cannot answer (`batching`)
    num_operators: I64  # (C,) of the class's workflow; W is the most of them
    operator: I64  # (C, V) that a variant serves; -1 for none
    feeds: Bool  # (C, W, W) whether an operator's output goes to another
    num_inputs: I64  # (C, W) operators that feed one
    rank_bits: I64  # (C, V) mark of a variant among those of its operator
    answer_accuracy: F64  # (C, A) by the marks of the variants that took part; one operator: not used
    hop_s: F64  # (V, P, P) of a variant's output from one pool to another
    hop_usd: F64  # (V, P, P)


class AnswerArrays(NamedTuple):
    """Answers measured request by request; R = 0 rows where the catalog has none."""

    confidence: F64  # (R, V) 0..1; NaN for a variant that was not measured, likewise below
    right: F64  # (R, V) 1 for a right answer, 0 for a wrong one, or a grade between


class LimitArrays(NamedTuple):
    """Hard limits that no plan may cross."""

    pool_min: I64  # (P,)
    pool_max: I64  # (P,) never above the quota
    on_demand_floor: int  # instances over all on-demand pools
    max_launch: I64  # (P,) per tick
    max_drain: I64  # (P,) per tick
    budget_usd_per_hour: float  # rental of the planned fleet; inf for none
    strict: StrictGuard | None = None  # limits that few scenarios set; `controller.compile.limits_for` fills it in
    sheds_by_value: bool = False  # under overload the queues of less valuable classes shrink


class StrictLimits(NamedTuple):
    """Hard limits that need the past or the control loop's spans; a scenario without them does not pay for them."""

    cool_down_s: F64  # (P,) after a scale-in of the pool no other for this long; 0 for none, likewise below
    launch_cool_down_s: F64  # (P,) after a scale-in nothing is launched for this long
    budget_usd_per_day: float  # everything billed since the day began; inf for none
    degrade: I64 | None  # (D,) steps of `controller.plan.DEGRADE`; None: budgets hold rental alone, by plain cuts
    control: ControlArrays


class GuardMemory(NamedTuple):
    """What the strict guard remembers: a function of the observations alone, whoever decided in between."""

    alive: I64  # (N, P) replicas at the last observation, those under notice included; -1 before the first
    scaled_in_s: F64  # (N, P) when a pool was last seen scaled in; -inf for never
    seen_s: F64  # (N,) time of the last observation


class StrictGuard(NamedTuple):
    """Strict limits and what they remember."""

    limits: StrictLimits
    memory: GuardMemory


class ControlArrays(NamedTuple):
    """Spans of the control loop, seconds; all divided by `--speed` in one place (`Scenario.at_speed`)."""

    tick_s: float
    ticks_per_decision: int
    horizon_s: float  # forecast horizon: the slowest launch + load a plan must cover
    retry_after_s: float  # a pool whose launch failed, or that was preempted, counts as unavailable this long
    day_s: float  # length of the accuracy and attainment day


class ObservationArrays(NamedTuple):
    """One window of facts at the end of a tick, all causal and knowable live."""

    time_s: F64  # (N,) since the start of the run
    tick: I64  # (N,) ticks completed
    arrivals: I64  # (N, C) in this window
    history: F64  # (N, C, H) arrivals per tick; slot (tick - 1 - k) % H holds the window k ticks ago
    answered: I64  # (N, C) answers sent in this window, late ones included
    missed: I64  # (N, C) deadlines that passed unanswered, plus refused and shed requests
    shed: I64  # (N, C) refused by a queue limit, a shed limit or a full serverless limit
    failed: I64  # (N, C) dropped at the deadline or lost
    accuracy_sum: F64  # (N, C) sum of the answering variants' accuracy
    day_arrivals: I64  # (N, C) since the day began; likewise below
    day_answered: I64  # (N, C)
    day_missed: I64  # (N, C)
    day_accuracy_sum: F64  # (N, C)
    latency: I64  # (N, C, B) histogram of answers in this window
    waiting: I64  # (N, C) queued now
    queue: I64  # (N, V, P) queued now, by option
    busy_s: F64  # (N, V, P) credit-seconds in service in this window
    ready: I64  # (N, V, P) serving and not under notice (serverless: provisioned and warm)
    starting: I64  # (N, V, P) launching, loading or swapping
    draining: I64  # (N, V, P) finishing accepted requests
    doomed: I64  # (N, V, P) serving under a preemption notice
    warm: I64  # (N, P) serverless environments alive
    invocations: I64  # (N, P) serverless, in this window; likewise below
    cold_starts: I64  # (N, P)
    throttled: I64  # (N, P)
    available: Bool  # (N, P) no failed launch or preemption within `retry_after_s`
    preempted: I64  # (N, P) instances taken back in this window
    launch_failed: I64  # (N, P) launches refused in this window
    spend_usd: F64  # (N, T) in this window
    day_spend_usd: F64  # (N, T)
    demoted: Bool  # (N, C) the tier broke its contract, so the best version answers alone


class PlanArrays(NamedTuple):
    """Desired state, never deltas."""

    replicas: I64  # (N, V, P); serverless: provisioned concurrency
    overflow_after_s: F64  # (N, C) predicted wait above which a request may go to serverless
    overflow_fraction: F64  # (N, C) probability of going
    hedge_after_s: F64  # (N, C) 0 replicates at once, inf is off
    hedge_replaces: Bool  # (N, C) the first copy is withdrawn when its duplicate is sent
    cascade_variant: I64  # (N, C, CASCADE_STEPS) variants tried in turn; -1 is no further step, first of all no cascade
    cascade_threshold: F64  # (N, C, CASCADE_STEPS - 1) the answer of a step is final from this confidence on
    cascade_concurrent: Bool  # (N, C) both of two steps start at once
    collage_variant: I64  # (N, C) whose pass answers a group of stragglers; -1 for none
    collage_after_s: F64  # (N, C) age from which a request is a straggler; inf where there is no collage
    collage_passes: I64  # (N, C) 1 or 2 workers that make a group's pass, of which the first counts
    shed_limit: I64  # (N, C) queued requests of the class in one option at which further ones are refused
    batch_size: I64  # (N, V, P)
    batch_wait_s: F64  # (N, V, P)
    shares: F64  # (N, C, V, P) used only where `fixed_shares`
    fixed_shares: Bool  # (N,)
    need_rps: F64  # (N,) capacity the plan was made for, requests/s
    reasons: I64  # (N,) bit set of `controller.plan.Reason`


class ActionArrays(NamedTuple):
    """One step from the fleet that exists to the plan."""

    launch: I64  # (N, V, P)
    swap: I64  # (N, P, V, V) from, to
    drain: I64  # (N, V, P) serving replicas
    stop: I64  # (N, V, P) replicas that are still starting


def empty_observation(num_envs: int, shape: tuple[int, int, int]) -> ObservationArrays:
    """Zeroed observation; `shape` is (V, P, C). Every pool starts available."""
    n, (v, p, c) = num_envs, shape
    wide = {"history": (n, c, HISTORY_TICKS), "latency": (n, c, LATENCY_BUCKETS)}
    by_class = {"arrivals", "answered", "missed", "shed", "failed", "accuracy_sum", "waiting"}
    by_class |= {"day_arrivals", "day_answered", "day_missed", "day_accuracy_sum"}
    by_option = {"queue", "busy_s", "ready", "starting", "draining", "doomed"}
    floats = {"time_s", "history", "accuracy_sum", "day_accuracy_sum", "busy_s", "spend_usd", "day_spend_usd"}
    arrays: dict[str, NDArray[np.generic]] = {}
    for name in ObservationArrays._fields:
        if name in wide:
            size: tuple[int, ...] = wide[name]
        elif name in {"time_s", "tick"}:
            size = (n,)
        elif name in by_class:
            size = (n, c)
        elif name in by_option:
            size = (n, v, p)
        elif name in {"spend_usd", "day_spend_usd"}:
            size = (n, len(BILL_TERMS))
        else:
            size = (n, p)
        arrays[name] = np.zeros(size, np.float64 if name in floats else np.int64)
    arrays["available"] = np.ones((n, p), np.bool_)
    arrays["demoted"] = np.zeros((n, c), np.bool_)
    return ObservationArrays(**arrays)  # type: ignore[arg-type]  # the loop fills every field with its declared dtype


def empty_plan(num_envs: int, shape: tuple[int, int, int]) -> PlanArrays:
    """A plan for nothing: no replicas, overflow, hedge, cascade or shedding, batches of one; `shape` is (V, P, C)."""
    n, (v, p, c) = num_envs, shape
    return PlanArrays(
        replicas=np.zeros((n, v, p), np.int64),
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
        shed_limit=np.full((n, c), np.iinfo(np.int64).max),
        batch_size=np.ones((n, v, p), np.int64),
        batch_wait_s=np.zeros((n, v, p)),
        shares=np.zeros((n, c, v, p)),
        fixed_shares=np.zeros(n, np.bool_),
        need_rps=np.zeros(n),
        reasons=np.zeros(n, np.int64),
    )


def empty_actions(num_envs: int, shape: tuple[int, int, int]) -> ActionArrays:
    """No action; `shape` is (V, P, C)."""
    n, (v, p, _) = num_envs, shape
    return ActionArrays(
        launch=np.zeros((n, v, p), np.int64),
        swap=np.zeros((n, p, v, v), np.int64),
        drain=np.zeros((n, v, p), np.int64),
        stop=np.zeros((n, v, p), np.int64),
    )
