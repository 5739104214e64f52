"""Compiles a scenario's limits into the arrays that the guard takes."""

from __future__ import annotations

import numpy as np

from controller.arrays import (
    F64,
    I64,
    ControlArrays,
    GuardMemory,
    LimitArrays,
    StrictLimits,
)
from controller.catalog import Catalog
from controller.limits import Limits
from controller.plan import DEGRADE


def compile_limits(limits: Limits, catalog: Catalog, speed: float) -> LimitArrays:
    """The limits that need no past, in catalog order; money per hour grows by `speed`, as prices do."""
    quota: I64 = np.array([p.quota for p in catalog.pools], np.int64)
    launch, drain = (np.full_like(quota, n) for n in (limits.max_launch_per_tick, limits.max_drain_per_tick))
    for p, pool in enumerate(catalog.pools):
        own = limits.pools.get(pool.name)
        if own is not None and own.max_launch_per_tick is not None:
            launch[p] = own.max_launch_per_tick
        if own is not None and own.max_drain_per_tick is not None:
            drain[p] = own.max_drain_per_tick
    return LimitArrays(
        pool_min=np.array([limits.least(p) for p in catalog.pools], np.int64),
        pool_max=np.array([limits.most(p) for p in catalog.pools], np.int64),
        on_demand_floor=limits.on_demand_floor,
        max_launch=launch,
        max_drain=drain,
        budget_usd_per_hour=np.inf if limits.budget_usd_per_hour is None else limits.budget_usd_per_hour * speed,
        sheds_by_value=limits.shed == "value_first",
    )


def compile_strict_limits(
    limits: Limits, catalog: Catalog, speed: float, control: ControlArrays
) -> StrictLimits | None:
    """The limits that need the past or the control loop's spans; None where none is set."""
    cool_down_s = _by_pool(limits, catalog, "cool_down_s") / speed
    launch_cool_down_s = _by_pool(limits, catalog, "launch_cool_down_s") / speed
    steps = limits.steps
    if steps is None and not cool_down_s.any() and not launch_cool_down_s.any():
        return None
    return StrictLimits(
        cool_down_s=cool_down_s,
        launch_cool_down_s=launch_cool_down_s,
        budget_usd_per_day=np.inf if limits.budget_usd_per_day is None else limits.budget_usd_per_day,
        degrade=None if steps is None else np.array([DEGRADE.index(step) for step in steps], np.int64),
        control=control,
    )


def new_memory(num_envs: int, num_pools: int) -> GuardMemory:
    """Memory of a guard that has seen nothing."""
    return GuardMemory(
        alive=np.full((num_envs, num_pools), -1, np.int64),
        scaled_in_s=np.full((num_envs, num_pools), -np.inf),
        seen_s=np.full(num_envs, -np.inf),
    )


def _by_pool(limits: Limits, catalog: Catalog, field: str) -> F64:
    """A span of every pool: its own, else that of all, seconds."""
    spans = [getattr(limits.pools.get(p.name), field, None) for p in catalog.pools]
    return np.array([getattr(limits, field) if span is None else span for span in spans], np.float64)
