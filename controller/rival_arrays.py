"""Array forms of the rival schemes' settings and of their state, as the compiled kernels take them.

One tuple serves every scheme, so that all are one compiled path; a number that a scheme has no setting for holds a
value that changes nothing. Axes as in `controller.arrays`, and G groups of replicas that are scaled together (as many
as variants), L decisions remembered.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from controller.arrays import F64, I64, Bool

SCHEMES = (
    "reactive",
    "util_aware",
    "exascale",
    "mixed",
    "paragon",
    "paragon_plus",
    "mark",
    "infaas",
    "ray_serve",
    "hpa",
    "spothedge",
    "tributary",
    "ribbon",
)
"""Rival schemes by the number their kernel takes."""

(
    REACTIVE,
    UTIL_AWARE,
    EXASCALE,
    MIXED,
    PARAGON,
    PARAGON_PLUS,
    MARK,
    INFAAS,
    RAY_SERVE,
    HPA,
    SPOTHEDGE,
    TRIBUTARY,
    RIBBON,
) = range(len(SCHEMES))

AGGREGATIONS = ("mean", "max", "min")
"""How an autoscaler sums up its look-back window, by number."""

MIX_OPTIONS = 3
"""Ranked pools that a static pool is mixed from."""


class AutoscalerArrays(NamedTuple):
    """Settings of what scales groups of replicas; see `controller.policies.autoscalers`. Spans at the run's speed."""

    target: float  # ongoing requests of a replica, or the busy share; requests/s over capacity for `spothedge`
    min_replicas: int
    max_replicas: int
    up_delay_s: float
    down_delay_s: float
    to_zero_delay_s: float
    up_factor: float
    down_factor: float
    look_back_ticks: int
    aggregation: int  # into `AGGREGATIONS`
    tolerance: float
    up_window_ticks: int
    down_window_ticks: int
    up_percent: float
    up_replicas: int
    up_period_ticks: int
    down_percent: float
    down_replicas: int
    down_period_ticks: int


class RivalArrays(NamedTuple):
    """Settings of a scheme as numbers; see `controller.policies.rules` and its neighbours."""

    variant: I64  # (C,) fixed variant of the class
    pools: I64  # (C, V, P) own machine pools of a variant in the order they are filled; -1 after the last
    spot_pools: I64  # (C, V, P) the same for the spot part
    pool_max: I64  # (P,)
    batch_size: I64  # (V, P) largest batch that fits the SLOs
    rps: F64  # (V, P) of one replica always busy with such batches; 0 where unusable
    usd: F64  # (V, P) per request at that; infinite where unusable and for serverless
    near_floor: Bool  # (C, V) variants next to the class's floor: what classes share machines by
    group_rps: F64  # (G,) capacity that counts as one replica of a group
    prior_rps: float
    spot_share: float
    over_provision: float
    spot_spread: float
    on_demand_floor: float
    adaptive_variant: bool
    replica_band: float
    accuracy_margin: float
    repay_s: float
    overflow_fraction: float
    class_overflow: F64  # (C,) what it is multiplied by for each class
    miss_budget: float
    overflow_slack: float
    headroom: float
    class_headroom: F64  # (C,) what a class's demand is multiplied by
    cooldown_ticks: int
    high_utilisation: float
    low_utilisation: float
    target_utilisation: float
    window_ticks: int
    ahead_ticks: int
    strict_slo_s: float
    burstiness: float
    calm_headroom: float
    interval_ticks: int
    launch_overhead: float  # share of a new machine's rent that its launch costs more
    avoid_s: float
    min_zones: int
    confidence_z: float
    loss_window_s: float
    prior_losses_per_s: float
    prior_s: float
    capacity_share: F64  # (MIX_OPTIONS,) of a static pool, sums to 1
    autoscaler: AutoscalerArrays


class RivalState(NamedTuple):
    """What a scheme remembers per env."""

    target: I64  # (N, V, P) replicas last planned
    calm_ticks: I64  # (N, V, P) ticks since the wanted number last reached `target`
    wanted: I64  # (N, V, P) largest number wanted during those ticks
    need_rps: F64  # (N, C) demand that is held; likewise the two below
    need_calm_ticks: I64  # (N, C)
    need_wanted_rps: F64  # (N, C)
    trusted: Bool  # (N, P) a replica became ready there since the pool was last unavailable
    is_open: Bool  # (N, P) spot capacity is planned there
    choice: I64  # (N, C) option v * P + p that a class runs on; -1 before the first
    decisions: I64  # (N,) made since the reset; slot (decisions - 1 - k) % L holds what is k decisions old
    group_target: I64  # (N, G) replicas; -1 before the first
    group_planned_rps: F64  # (N, G) capacity of all machines last planned for the target
    group_since_s: F64  # (N, G) when the target was first called wrong; NaN where it is not
    group_direction: I64  # (N, G) 1 for too small, -1 for too large
    ongoing: F64  # (N, G, L) requests in service and queued
    targets: I64  # (N, G, L) replicas decided
    advised: I64  # (N, G, L) replicas that the metric alone called for
    avoided_until_s: F64  # (N, P) a spot pool is avoided until then
    exposed_s: F64  # (N, P) replica-seconds seen on a spot pool
    losses: F64  # (N, P) replicas lost there


def new_rival_state(num_envs: int, shape: tuple[int, int, int], remembered: int) -> RivalState:
    """State of a scheme that has not decided yet; `shape` is (V, P, C), `remembered` is L."""
    num_variants, num_pools, num_classes = shape
    option, by_class, pool = (num_envs, num_variants, num_pools), (num_envs, num_classes), (num_envs, num_pools)
    group = (num_envs, num_variants)
    past = (*group, remembered)
    return RivalState(
        target=np.zeros(option, np.int64),
        calm_ticks=np.zeros(option, np.int64),
        wanted=np.zeros(option, np.int64),
        need_rps=np.zeros(by_class),
        need_calm_ticks=np.zeros(by_class, np.int64),
        need_wanted_rps=np.zeros(by_class),
        trusted=np.ones(pool, np.bool_),
        is_open=np.ones(pool, np.bool_),
        choice=np.full(by_class, -1),
        decisions=np.zeros(num_envs, np.int64),
        group_target=np.full(group, -1),
        group_planned_rps=np.zeros(group),
        group_since_s=np.full(group, np.nan),
        group_direction=np.zeros(group, np.int64),
        ongoing=np.zeros(past),
        targets=np.zeros(past, np.int64),
        advised=np.zeros(past, np.int64),
        avoided_until_s=np.full(pool, -np.inf),
        exposed_s=np.zeros(pool),
        losses=np.zeros(pool),
    )
