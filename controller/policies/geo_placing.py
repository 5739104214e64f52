"""`a2`: models and data versions over regions, placed anew as the regions' rates move."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from controller.arrays import F64, ObservationArrays
from controller.compile import Setting
from controller.planners.geo.compiled import GeoInstance, GeoPlan, compile_geo, evaluate_geo
from controller.planners.geo.plan import class_name, plan_of, variant_name
from controller.planners.geo.problem import GeoProblem, load_geo_problem
from controller.planners.geo.program import GeoProgram
from controller.planners.geo.rounding import plan_rounded
from controller.planners.workflow.plan import slug
from controller.policies.placing import Placing, PlacingSettings, Wanted
from controller.ports import Policy

_LEAST, _MOST = 0.5, 4.0
"""Between which a proposer's need is taken, over the rate seen."""


class GeoPlacingSettings(PlacingSettings):
    """`a2`: joint model and data adaptation after A² (RTSS 2021), by the fast planner, in the control loop.

    The problem's regions are the scenario's classes and its sites the pools, by name. Source: the abstract alone is
    known to us; periods, bounds and hysteresis are ours.
    """

    proposer: str | None = Field(
        default=None,
        description="policy that proposes how much to plan for, a policy file for instance, whose knobs were learned: "
        "its need stands in place of `headroom`, and the placement of it is ours",
    )


class GeoPlacingPolicy(Placing[GeoPlacingSettings]):
    """`a2`; see `GeoPlacingSettings`.

    Args:
        setting: What is decided for.
        settings: When to plan anew.
        name: Name in tables.
        problem: In place of the file that the settings name.
    """

    kind = "a2"
    Settings: ClassVar[type[GeoPlacingSettings]] = GeoPlacingSettings

    def __init__(
        self,
        setting: Setting,
        settings: GeoPlacingSettings,
        name: str | None = None,
        problem: GeoProblem | None = None,
    ) -> None:
        self._problem = load_geo_problem(settings.problem) if problem is None else problem
        self._proposer: Policy | None = None
        if settings.proposer is not None:
            from controller.policies.registry import make_policy  # its table names this module

            self._proposer = make_policy(settings.proposer, setting)
        super().__init__(setting, settings, name)

    def reset(self, num_envs: int) -> None:
        """Forgets all state, the proposer's included."""
        super().reset(num_envs)
        if self._proposer is not None:
            self._proposer.reset(num_envs)

    def need_factors(self, observation: ObservationArrays) -> F64:
        """The proposer's need over the rate seen, or the headroom."""
        if self._proposer is None:
            return super().need_factors(observation)
        need = self._proposer.decide(observation).need_rps
        seen = np.array([self._seen_rps(observation, n).sum() for n in range(len(need))])
        return np.asarray(np.clip(need / np.maximum(seen, 1e-9), _LEAST, _MOST), np.float64)

    def on_the_way(self, observation: ObservationArrays, n: int, before: Wanted, wanted: Wanted) -> Wanted | None:
        """Both fleets, with requests where they went before, until the new one is ready.

        Where a limit has no room for both, nothing waits: the guard would trim the new one, which would never be ready.
        """
        setting, limits = self.setting, self.setting.limits
        both = np.maximum(before.replicas, wanted.replicas)
        machines = both.sum(axis=0)
        usd_per_hour = float(machines @ setting.catalog.price_usd_per_s) * 3600.0
        has_room = bool((machines <= limits.pool_max).all()) and usd_per_hour <= limits.budget_usd_per_hour
        if not has_room or (observation.ready[n] >= wanted.replicas).all():
            return None
        return before._replace(replicas=both)

    def fresh(self, n: int, rate_rps: F64) -> Wanted | None:
        """The fast planner's plan."""
        del n
        instance = self._at(rate_rps)
        rounded = plan_rounded(instance)
        return None if rounded is None else self._wanted(instance, rounded.plan)

    def adjusted(self, n: int, held: Wanted, rate_rps: F64) -> Wanted | None:
        """The cheapest rates on the instances that stand; all of them are paid."""
        del n
        instance = self._at(rate_rps)
        rows = [self.setting.variant_names.index(variant_name(variant)) for variant in instance.problem.variants]
        pools = [self.setting.pool_names.index(slug(site.name)) for site in instance.problem.sites]
        # What an instance holds is a variant, so both are in the order of variants.
        stands = held.replicas[np.ix_(rows, pools)].T.astype(np.float64)
        found = GeoProgram(instance, least=stands, most=stands).solve_relaxed()
        if found is None:
            return None
        wanted = self._wanted(instance, GeoPlan(found[2], stands.astype(np.int64)))
        return wanted._replace(replicas=held.replicas)

    def _at(self, rate_rps: F64) -> GeoInstance:
        names = self.setting.class_names
        regions = tuple(
            region.model_copy(update={"rate_rps": float(rate_rps[names.index(class_name(region.name))])})
            for region in self._problem.regions
        )
        return compile_geo(self._problem.model_copy(update={"regions": regions, "instance_serves": "variant"}))

    def _wanted(self, instance: GeoInstance, plan: GeoPlan) -> Wanted:
        made = plan_of(instance, plan, self.setting)
        return Wanted(made.replicas[0], made.shares[0], evaluate_geo(instance, plan).total_usd_per_hour)
