"""Hard limits of a scenario: what no plan may cross, whatever the policy says.

The models here are what a scenario file states; `controller.compile_limits` turns them into arrays, and
`controller.kernels.guard` enforces them.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from controller.catalog import Catalog, Market, ResourcePool
from controller.config import StrictModel
from controller.errors import ScenarioError, mismatch
from controller.plan import DEGRADE

HOURS_PER_DAY = 24.0

_NEW_IN_POOL = ("max_launch_per_tick", "max_drain_per_tick", "cool_down_s", "launch_cool_down_s")
_NEW = ("cool_down_s", "launch_cool_down_s", "budget_usd_per_day", "degrade", "shed")


class PoolLimit(StrictModel):
    """Limits of one pool. The minimum of an on-demand pool is its on-demand floor."""

    min: int = Field(default=0, ge=0, description="replicas planned at least, on demand the pool's floor")
    max: int | None = Field(default=None, ge=0, description="replicas planned at most; the quota binds as well")
    max_launch_per_tick: int | None = Field(default=None, ge=1, description="in place of the limit of all pools")
    max_drain_per_tick: int | None = Field(default=None, ge=1, description="in place of the limit of all pools")
    cool_down_s: float | None = Field(
        default=None, ge=0, le=86400, description="in place of the cool-down of all pools, seconds"
    )
    launch_cool_down_s: float | None = Field(
        default=None, ge=0, le=86400, description="in place of the launch cool-down of all pools, seconds"
    )

    @model_serializer(mode="wrap")
    def _without_what_is_not_set(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Journals and run headers hold whole scenarios: those without these limits are as before there were any.
        fields: dict[str, Any] = serialize(self)
        return {k: v for k, v in fields.items() if k not in _NEW_IN_POOL or v is not None}


class Limits(StrictModel):
    """Hard limits for the guard."""

    pools: dict[str, PoolLimit] = Field(default_factory=dict)
    on_demand_floor: int = Field(default=0, ge=0, description="replicas planned at least over all on-demand pools")
    max_launch_per_tick: int = Field(default=1000, ge=1, description="replicas that each pool may add in one tick")
    max_drain_per_tick: int = Field(default=1000, ge=1, description="replicas that each pool may give up in one tick")
    cool_down_s: float = Field(
        default=0.0, ge=0, le=86400, description="after a pool scaled in it does not scale in again for this long"
    )
    launch_cool_down_s: float = Field(
        default=0.0,
        ge=0,
        le=86400,
        description="after a pool scaled in it launches nothing for this long, but to meet a minimum, and in place of "
        "replicas that are under notice, taken back or refused",
    )
    budget_usd_per_hour: float | None = Field(
        default=None,
        gt=0,
        description="rental of the planned fleet; with `degrade` or a daily budget also what serverless calls may cost",
    )
    budget_usd_per_day: float | None = Field(
        default=None,
        gt=0,
        description="everything billed in a day of the run; what is left, less what giving up the fleet would still "
        "cost, has to pay for the plan until midnight",
    )
    degrade: tuple[Literal["cheaper_pool", "smaller_variant", "shed"], ...] | None = Field(
        default=None,
        description="what is done to a plan over budget, in this order, before it is cut; unset: all three in this "
        "order where there is a daily budget, else plain cuts to the hourly one",
    )
    shed: Literal["value_first"] | None = Field(
        default=None,
        description="`value_first`: while more is asked for than the machines serve, queues of less valuable classes "
        "shrink so that more valuable ones keep their promise; unset: each class's own limit as the policy sets it",
    )

    @field_validator("degrade")
    @classmethod
    def _each_once(cls, steps: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if steps is not None and len(set(steps)) < len(steps):
            raise ValueError(mismatch("", "each step once", list(steps)))
        return steps

    @model_serializer(mode="wrap")
    def _without_what_is_not_set(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # As for a pool's limits.
        fields: dict[str, Any] = serialize(self)
        return {k: v for k, v in fields.items() if k not in _NEW or (v is not None and v != 0.0)}

    @property
    def steps(self) -> tuple[str, ...] | None:
        """Degradation in force; None where an hourly budget alone is kept by plain cuts."""
        if self.degrade is None and self.budget_usd_per_day is not None:
            return DEGRADE
        has_budget = self.budget_usd_per_hour is not None or self.budget_usd_per_day is not None
        return self.degrade if has_budget else None

    def most(self, pool: ResourcePool) -> int:
        """Replicas that a pool may have."""
        limit = self.pools.get(pool.name)
        return pool.quota if limit is None or limit.max is None else min(pool.quota, limit.max)

    def least(self, pool: ResourcePool) -> int:
        """Replicas that a pool must have."""
        return self.pools[pool.name].min if pool.name in self.pools else 0


def check_limits(limits: Limits, catalog: Catalog, max_instances: int) -> None:
    """Checks that limits fit a catalog and each other.

    Raises:
        ScenarioError: A limit names an unknown pool, or limits contradict each other; both are named.
    """
    pools = {p.name: p for p in catalog.pools}
    for name, limit in limits.pools.items():
        if name not in pools:
            raise ScenarioError(f"limits.pools: expected one of {sorted(pools)}, got '{name}'")
        most = limits.most(pools[name])
        if limit.min > most:
            raise ScenarioError(f"limits.pools.{name}: expected min <= max and quota ({most}), got min {limit.min}")
    minima = sum(limits.least(p) for p in catalog.pools if p.market is not Market.SERVERLESS)
    least = max(minima, limits.on_demand_floor)
    if least > max_instances:
        raise ScenarioError(
            f"limits.pools: expected minima of at most {max_instances} instances (simulator.max_instances), got {least}"
        )
    on_demand = [p for p in catalog.pools if p.market is Market.ON_DEMAND]
    room = sum(limits.most(p) for p in on_demand)
    if limits.on_demand_floor > room:
        raise ScenarioError(
            f"limits.on_demand_floor: expected at most {room} (quota of on-demand pools), got {limits.on_demand_floor}"
        )
    if limits.degrade is not None and limits.steps is None:
        raise ScenarioError(
            f"limits.degrade: expected limits.budget_usd_per_hour or limits.budget_usd_per_day beside it, "
            f"got {list(limits.degrade)} without a budget"
        )
    least_usd = _least_usd_per_hour(limits, catalog, on_demand)
    if limits.budget_usd_per_hour is not None and least_usd > limits.budget_usd_per_hour:
        raise ScenarioError(
            f"limits.budget_usd_per_hour: expected at least {least_usd:.4g} (on-demand floor and pool minima), "
            f"got {limits.budget_usd_per_hour}"
        )
    if limits.budget_usd_per_day is not None and HOURS_PER_DAY * least_usd > limits.budget_usd_per_day:
        raise ScenarioError(
            f"limits.budget_usd_per_day: expected at least {HOURS_PER_DAY * least_usd:.4g} (24 hours of on-demand "
            f"floor and pool minima), got {limits.budget_usd_per_day}"
        )


def _least_usd_per_hour(limits: Limits, catalog: Catalog, on_demand: list[ResourcePool]) -> float:
    """Rental of the minima and of what the on-demand floor needs beyond them, where it is cheapest."""
    price = {p.name: _usd_per_hour(p) for p in catalog.pools}
    least_usd = sum(limits.least(p) * price[p.name] for p in catalog.pools)
    left = limits.on_demand_floor - sum(limits.least(p) for p in on_demand)
    for pool in sorted(on_demand, key=lambda p: price[p.name]):
        taken = max(0, min(left, limits.most(pool) - limits.least(pool)))
        least_usd += taken * price[pool.name]
        left -= taken
    return least_usd


def _usd_per_hour(pool: ResourcePool) -> float:
    if pool.market is Market.SERVERLESS:
        reserved = pool.provisioned_usd_per_gb_s
        return 0.0 if reserved is None else pool.memory_gb.value * reserved.value * 3600.0
    return 0.0 if pool.price_usd_per_hour is None else pool.price_usd_per_hour.value
