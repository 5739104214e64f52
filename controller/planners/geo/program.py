"""The geo problem as a mixed-integer program: rates served as columns, instances as whole numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controller.arrays import F64, I64, Bool
from controller.linear_program import Program, Solution
from controller.planners.geo.compiled import ROUNDING, GeoInstance, GeoPlan, busy_instances, evaluate_geo


@dataclass(frozen=True)
class GeoSolved:
    """A plan with what is known of its distance to the optimum.

    Attributes:
        plan: None where there is none.
        total_usd_per_hour: Its cost; infinite without one.
        bound_usd_per_hour: No plan costs less; infinite where there is none.
        solve_s: Wall-clock time.
    """

    plan: GeoPlan | None
    total_usd_per_hour: float
    bound_usd_per_hour: float
    solve_s: float

    @property
    def gap(self) -> float:
        """Relative distance to the bound; 0 where the optimum, or that there is none, is proved."""
        if self.total_usd_per_hour <= self.bound_usd_per_hour:
            return 0.0
        return 1.0 if self.plan is None else 1.0 - self.bound_usd_per_hour / self.total_usd_per_hour


class GeoProgram:
    """The program of an instance, whose instance counts can be bounded.

    Args:
        instance: The problem.
        allowed: (R, I, V) what may be used of what is usable; None: all.
        least: (I, M) of instances; None: 0.
        most: (I, M) of instances; None: any number.
    """

    def __init__(
        self,
        instance: GeoInstance,
        allowed: Bool | None = None,
        least: F64 | None = None,
        most: F64 | None = None,
    ) -> None:
        self.instance = instance
        usable = instance.usable if allowed is None else instance.usable & allowed
        self._where = np.nonzero(usable)
        r, i, v = self._where
        self.is_servable = bool(usable.any(axis=(1, 2)).all())
        num_regions, shape = len(instance.rate_rps), (len(instance.usd_per_hour), len(instance.models))
        self._program = program = Program()
        self._served = program.add_columns(instance.egress_usd_per_hour[usable])
        self._count = program.add_columns(
            np.broadcast_to(instance.usd_per_hour[:, None], shape),
            np.zeros(shape) if least is None else least,
            np.full(shape, np.inf) if most is None else most,
            integer=True,
        )
        demand = program.add_rows(instance.rate_rps, instance.rate_rps)
        accuracy = program.add_rows(np.zeros(num_regions), np.inf)
        capacity = program.add_rows(np.full(shape, -np.inf), np.zeros(shape))
        program.add_entries(demand[r], self._served, 1.0)
        program.add_entries(accuracy[r], self._served, instance.accuracy[v] - instance.accuracy_floor[r])
        # In instances' worth of planned time, so that coefficients of rows are alike.
        busy = instance.service_s[i, v] / instance.problem.utilisation
        program.add_entries(capacity[i, instance.model[v]], self._served, busy)
        program.add_entries(capacity, self._count, -1.0)

    def solve_whole(self, gap: float = 1e-6, limit_s: float = 30.0, most_nodes: int | None = None) -> GeoSolved:
        """The best plan, with its gap proved.

        Args:
            gap: Relative distance to the bound at which the search may stop.
            limit_s: Wall-clock limit.
            most_nodes: Nodes of the search at which it stops, too.
        """
        if not self.is_servable:
            return GeoSolved(None, np.inf, np.inf, 0.0)
        found = self._program.solve_mixed(gap, limit_s, most_nodes)
        if found.values is None:
            # Without a solution, either none exists or time ran out.
            return GeoSolved(None, np.inf, np.inf if found.status == "infeasible" else -np.inf, found.solve_s)
        plan = self._plan(found)
        total = evaluate_geo(self.instance, plan).total_usd_per_hour
        return GeoSolved(plan, total, found.objective * (1.0 - found.gap), found.solve_s)

    def solve_relaxed(self) -> tuple[float, F64, F64] | None:
        """Optimum of the linear relaxation at a vertex: $ per hour, instances (I, M) and rates (R, I, V)."""
        if not self.is_servable:
            return None
        found = self._program.solve_relaxed()
        if found.status != "optimal" or found.values is None:
            return None
        return found.objective, found.values[self._count], self._rates(found)

    def _rates(self, found: Solution) -> F64:
        values = np.zeros(self.instance.usable.shape)
        if found.values is not None:
            values[self._where] = np.maximum(found.values[self._served], 0.0)
        return values

    def _plan(self, found: Solution) -> GeoPlan:
        served = self._rates(found)
        return GeoPlan(served, whole_instances(self.instance, served))


def whole_instances(instance: GeoInstance, served_rps: F64) -> I64:
    """Fewest whole instances that serve given rates, (I, M)."""
    return np.ceil(busy_instances(instance, served_rps) - ROUNDING).astype(np.int64)
