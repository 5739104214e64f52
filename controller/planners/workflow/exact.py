"""The exact planner: branch and bound over variants and, per operator, all its options."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from controller.arrays import Bool
from controller.errors import UsageError, mismatch
from controller.planners.workflow.compiled import Instance, Placement, evaluate
from controller.planners.workflow.options import Search, every_option

MAX_WORKERS = 14
"""Sets of workers are enumerated."""

PROVED = 1e-9
"""$ per hour by which a placement must be cheaper to be looked for."""


@dataclass(frozen=True)
class Proved:
    """A placement with what is known of its distance to the optimum.

    Attributes:
        placement: The cheapest found; None where there is none.
        total_usd_per_hour: Its cost; infinite without one.
        bound_usd_per_hour: No placement costs less.
        nodes: Partial placements looked at.
        solve_s: Wall-clock time.
    """

    placement: Placement | None
    total_usd_per_hour: float
    bound_usd_per_hour: float
    nodes: int
    solve_s: float

    @property
    def gap(self) -> float:
        """Relative distance to the bound; 0 where the optimum is proved, or that nothing is feasible."""
        if self.total_usd_per_hour <= self.bound_usd_per_hour:
            return 0.0
        if self.placement is None:
            return float("inf")
        return (self.total_usd_per_hour - self.bound_usd_per_hour) / self.total_usd_per_hour


def plan_exact(instance: Instance, limit_s: float = 60.0, start: Placement | None = None) -> Proved:
    """The cheapest placement, proved so unless time runs out.

    Args:
        instance: The problem.
        limit_s: Wall-clock limit; what was found until then is returned with the bound reached.
        start: A feasible placement to beat.

    Raises:
        UsageError: There are more workers than sets can be enumerated of.
    """
    if len(instance.tier) > MAX_WORKERS:
        raise UsageError(mismatch("workers", f"at most {MAX_WORKERS} for the exact planner", len(instance.tier)))
    return _Search(instance, limit_s).run(start)


class _Search:
    """One run of the branch and bound."""

    def __init__(self, instance: Instance, limit_s: float) -> None:
        self._instance = instance
        self._began_s = time.perf_counter()
        self._limit_s = limit_s
        self._options = [
            [every_option(instance, v, m) for m in range(len(operator.variants))]
            for v, operator in enumerate(instance.operators)
        ]
        self._best: Placement | None = None
        self._best_usd = np.inf
        self._nodes = 0
        self._ran_out = False

    def run(self, start: Placement | None) -> Proved:
        """Looks at every choice of variants, by rising bound."""
        if start is not None:
            cost = evaluate(self._instance, start)
            if not cost.faults:
                self._best, self._best_usd = start, cost.total_usd_per_hour
        taken = np.zeros(len(self._instance.tier), np.bool_)
        operators = range(self._instance.num_operators)
        searches = [Search(self._instance, self._options, variants) for variants in self._instance.combinations()]
        bounds = sorted((search.rest(taken, operators), i) for i, search in enumerate(searches))
        bound = np.inf
        for least_usd, i in bounds:
            if least_usd >= self._best_usd - PROVED:
                break
            if not self._ran_out:
                self._descend(searches[i], {}, taken, 0.0)
            if self._ran_out:
                bound = min(bound, least_usd)
        return Proved(
            placement=self._best,
            total_usd_per_hour=self._best_usd,
            bound_usd_per_hour=min(bound, self._best_usd),
            nodes=self._nodes,
            solve_s=time.perf_counter() - self._began_s,
        )

    def _descend(self, search: Search, chosen: dict[int, int], taken: Bool, usd: float) -> None:
        """Extends a placement of the first operators, cheapest option first."""
        self._nodes += 1
        self._ran_out = self._ran_out or time.perf_counter() - self._began_s > self._limit_s
        v, last = len(chosen), self._instance.num_operators
        if self._ran_out:
            return
        if v == last:
            self._best, self._best_usd = Placement(search.variants, search.load_rps(chosen)), usd
            return
        least = search.rest(taken, range(v + 1, last))
        fitting, cost = search.extensions(chosen, taken, v)
        for k, added in zip(fitting.tolist(), cost.tolist(), strict=True):
            if usd + added + least >= self._best_usd - PROVED:
                return
            now = taken | search.of[v].used[k]
            if usd + added + search.rest(now, range(v + 1, last)) < self._best_usd - PROVED:
                self._descend(search, {**chosen, v: k}, now, usd + added)
