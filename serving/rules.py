"""What a router knows: fixed tables from the scenario, and the rules that each decision renews.

An option is a (variant, pool) pair; routers number it `variant * num_pools + pool`, and every array here is flat over
options.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import numpy as np

from controller.arrays import (
    CASCADE_STEPS,
    F64,
    I64,
    SERVERLESS,
    SHAPE_CELLS,
    AnswerArrays,
    Bool,
    PlanArrays,
)
from controller.compile import Setting
from controller.errors import UsageError, mismatch
from controller.measurements import BINS_PER_TICK
from controller.workload import ClassTier


@dataclass(frozen=True)
class RouterTables:
    """The part of a setting that routing reads. Axes: C classes, O options, V variants, P pools."""

    variant_names: tuple[str, ...]
    pool_names: tuple[str, ...]
    class_names: tuple[str, ...]
    operators: tuple[str, ...]  # by class
    accuracy: F64  # (V,)
    accuracy_floor: F64  # (C,)
    slo_s: F64  # (C,)
    drop_at_deadline: Bool  # (C,)
    queue_limit: I64  # (C,)
    allowed: Bool  # (C, O) of requests by themselves
    may_answer: Bool  # (C, O) the same without tiers: what audits them, and answers in place of one that was demoted
    collage: Bool  # (C, O) of passes over collages
    cells: I64  # (V,) requests that one pass answers
    network_s: F64  # (C, O)
    egress_usd: F64  # (C, O)
    service_s: F64  # (O, B+1) mean seconds of one batch
    service_shape: I64  # (O,) row of `shapes`
    batch_max: I64  # (O,)
    concurrency: I64  # (O,)
    is_serverless: Bool  # (O,)
    emulated_speed: F64  # (O,) service speed of the local stand-in against the profile
    overflow_option: I64  # (C,) serverless option of requests that overflow; -1 for none
    step_overflow: I64  # (C, V) likewise at a later step of a cascade, by its variant
    cold_start_s: F64  # (O,)
    cold_shape: I64  # (O,)
    shapes: F64  # (D, SHAPE_CELLS + 1)
    answers: AnswerArrays  # measured, for what answers of cascades are worth
    tiers: tuple[ClassTier | None, ...]  # by class; None for one that promises no tolerance
    credit_usd_per_s: F64  # (O,) rent of a machine by credit; 0 for serverless
    bin_s: float = 1.0  # of the bins that arrivals are counted in

    @property
    def num_pools(self) -> int:
        """P."""
        return len(self.pool_names)

    @property
    def num_options(self) -> int:
        """O = V x P."""
        return len(self.variant_names) * len(self.pool_names)

    def option_name(self, option: int) -> str:
        """`variant@pool`."""
        variant, pool = divmod(option, self.num_pools)
        return f"{self.variant_names[variant]}@{self.pool_names[pool]}"

    def named(self, counts: I64, options: Container[int] | None = None) -> dict[str, int]:
        """Counts (O,) by `variant@pool`, those above 0; of `options` alone, where there are any given."""
        above = [int(o) for o in np.flatnonzero(counts > 0)]
        return {self.option_name(o): int(counts[o]) for o in above if options is None or o in options}

    def service_draw_s(self, option: int, batch: int, uniform: float) -> float:
        """Seconds of one batch at a quantile of the option's service distribution."""
        mean_s = float(self.service_s[option, batch]) / float(self.emulated_speed[option])
        return mean_s * quantile_of(self.shapes[self.service_shape[option]], uniform)

    def cold_draw_s(self, option: int, uniform: float) -> float:
        """Seconds of a cold start at a quantile of its distribution."""
        return float(self.cold_start_s[option]) * quantile_of(self.shapes[self.cold_shape[option]], uniform)

    def item_s(self, option: int, batch: int) -> float:
        """Mean profiled seconds per item of one credit at a batch size."""
        return float(self.service_s[option, batch]) / batch / float(self.emulated_speed[option])


def quantile_of(table: F64, uniform: float) -> float:
    """Value of a quantile table (even grid of probabilities) at `uniform` in [0, 1), linear between grid points."""
    at = uniform * SHAPE_CELLS
    cell = int(at)
    low, high = float(table[cell]), float(table[cell + 1])
    return low + (high - low) * (at - cell)


def router_tables(setting: Setting) -> RouterTables:
    """Tables of a compiled scenario.

    Raises:
        UsageError: A class has a workflow of several operators, which routers do not serve yet.
    """
    for name, count in zip(setting.class_names, setting.workload.num_operators, strict=True):
        if count > 1:
            raise UsageError(mismatch(f"workload.classes[{name}].workflow", "one operator in a live run", int(count)))
    num_variants, num_pools, num_classes = setting.shape
    num_options = num_variants * num_pools
    catalog, workload = setting.catalog, setting.workload
    workflows = {w.name: w for w in setting.scenario.workload.workflows}
    speed = np.array([p.emulated_speed for p in setting.source.pools])
    may_answer = workload.allowed if setting.tiers is None else setting.tiers.may_answer
    return RouterTables(
        variant_names=setting.variant_names,
        pool_names=setting.pool_names,
        class_names=setting.class_names,
        operators=tuple(workflows[c.workflow].operators[0] for c in setting.scenario.workload.classes),
        accuracy=catalog.accuracy,
        accuracy_floor=workload.accuracy_floor,
        slo_s=workload.slo_s,
        drop_at_deadline=workload.drop_at_deadline,
        queue_limit=workload.queue_limit,
        allowed=workload.allowed.reshape(num_classes, num_options),
        may_answer=may_answer.reshape(num_classes, num_options),
        collage=workload.collage.reshape(num_classes, num_options),
        cells=catalog.cells,
        network_s=workload.network_s.reshape(num_classes, num_options),
        egress_usd=workload.egress_usd.reshape(num_classes, num_options),
        service_s=catalog.service_s.reshape(num_options, -1),
        service_shape=catalog.service_shape.reshape(num_options),
        batch_max=catalog.batch_max.reshape(num_options),
        concurrency=catalog.concurrency.reshape(num_options),
        is_serverless=np.tile(catalog.market == SERVERLESS, num_variants),
        emulated_speed=np.tile(speed, num_variants),
        overflow_option=workload.overflow_option,
        step_overflow=workload.step_overflow,
        cold_start_s=catalog.cold_start_s.reshape(num_options),
        cold_shape=catalog.cold_shape.reshape(num_options),
        shapes=catalog.shapes,
        answers=setting.answers,
        tiers=tuple(c.tier for c in setting.scenario.workload.classes),
        credit_usd_per_s=(catalog.price_usd_per_s / np.maximum(catalog.concurrency, 1)).reshape(num_options),
        bin_s=setting.control.tick_s / BINS_PER_TICK,
    )


@dataclass(frozen=True)
class Demotion:
    """A tier whose contract is known to be broken; its class is answered by the best version alone."""

    request_class: int
    reason: str


@dataclass(frozen=True)
class Rules:
    """What one decision tells the routers."""

    sequence: int
    shares: F64  # (C, O) of traffic
    overflow_after_s: F64  # (C,)
    overflow_fraction: F64  # (C,)
    hedge_after_s: F64  # (C,)
    hedge_replaces: Bool  # (C,) the duplicate takes the place of the first copy
    cascade_variant: I64  # (C, CASCADE_STEPS); -1 is no further step
    cascade_threshold: F64  # (C, CASCADE_STEPS - 1)
    cascade_concurrent: Bool  # (C,)
    collage_variant: I64  # (C,) -1 for none
    collage_after_s: F64  # (C,)
    collage_passes: I64  # (C,)
    shed_limit: I64  # (C,)
    batch_size: I64  # (O,)
    batch_wait_s: F64  # (O,)
    serving: I64  # (O,) replicas that take requests, those under notice included
    target: I64  # (O,) replicas that exist or are wanted
    provisioned: I64  # (O,) serverless environments reserved
    demotions: tuple[Demotion, ...] = ()  # that a router told of, so that one started anew knows of them


def rules_of(plan: PlanArrays, shares: F64, serving: I64, target: I64, tables: RouterTables, sequence: int) -> Rules:
    """Rules of env 0 of a plan.

    Args:
        plan: What was decided.
        shares: Split of traffic, (1, C, V, P).
        serving: Replicas that take requests, (V, P).
        target: Replicas that exist or are wanted, (V, P).
        tables: Of the same setting.
        sequence: Number of the decision; a router ignores rules older than what it has.
    """
    flat = tables.num_options
    is_serverless = tables.is_serverless
    num_classes = len(tables.class_names)
    by_class = np.array(shares[0], np.float64).reshape(num_classes, flat)
    planned = np.array(plan.replicas[0], np.int64).reshape(flat)
    return Rules(
        sequence=sequence,
        shares=by_class,
        overflow_after_s=np.array(plan.overflow_after_s[0], np.float64),
        overflow_fraction=np.array(plan.overflow_fraction[0], np.float64),
        hedge_after_s=np.array(plan.hedge_after_s[0], np.float64),
        hedge_replaces=np.array(plan.hedge_replaces[0], np.bool_),
        cascade_variant=np.array(plan.cascade_variant[0], np.int64),
        cascade_threshold=np.array(plan.cascade_threshold[0], np.float64),
        cascade_concurrent=np.array(plan.cascade_concurrent[0], np.bool_),
        collage_variant=np.array(plan.collage_variant[0], np.int64),
        collage_after_s=np.array(plan.collage_after_s[0], np.float64),
        collage_passes=np.array(plan.collage_passes[0], np.int64),
        shed_limit=np.array(plan.shed_limit[0], np.int64),
        batch_size=np.clip(np.array(plan.batch_size[0], np.int64).reshape(flat), 1, np.maximum(tables.batch_max, 1)),
        batch_wait_s=np.array(plan.batch_wait_s[0], np.float64).reshape(flat),
        serving=np.array(serving, np.int64).reshape(flat),
        target=np.array(target, np.int64).reshape(flat),
        provisioned=np.where(is_serverless, planned, 0),
    )


def initial_rules(tables: RouterTables) -> Rules:
    """Rules before the first decision: nothing serves, no overflow or redundancy, queues as the classes allow."""
    num_classes, flat = len(tables.class_names), tables.num_options
    zeros = np.zeros(flat, np.int64)
    return Rules(
        sequence=-1,
        shares=np.zeros((num_classes, flat)),
        overflow_after_s=np.zeros(num_classes),
        overflow_fraction=np.zeros(num_classes),
        hedge_after_s=np.full(num_classes, np.inf),
        hedge_replaces=np.zeros(num_classes, np.bool_),
        cascade_variant=np.full((num_classes, CASCADE_STEPS), -1, np.int64),
        cascade_threshold=np.zeros((num_classes, CASCADE_STEPS - 1)),
        cascade_concurrent=np.zeros(num_classes, np.bool_),
        collage_variant=np.full(num_classes, -1, np.int64),
        collage_after_s=np.full(num_classes, np.inf),
        collage_passes=np.ones(num_classes, np.int64),
        shed_limit=tables.queue_limit.copy(),
        batch_size=np.ones(flat, np.int64),
        batch_wait_s=np.zeros(flat),
        serving=zeros,
        target=zeros,
        provisioned=zeros,
    )
