"""`jellybean`: a workflow on tiered workers, placed anew as its rate or the workers' speeds drift."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from controller.arrays import F64, I64, Bool, ObservationArrays
from controller.compile import Setting
from controller.planners.workflow.compiled import ROUNDING, Instance, Placement, compile_problem, evaluate
from controller.planners.workflow.exact import plan_exact
from controller.planners.workflow.fast import plan_fast
from controller.planners.workflow.files import load_workflow_problem
from controller.planners.workflow.plan import plan_of, slug, variant_name
from controller.planners.workflow.problem import WorkflowProblem
from controller.planners.workflow.published import plan_published
from controller.policies.placing import Placing, PlacingSettings, Wanted

_LEAST_SERVED = 400.0
"""Requests from which a worker's speed is known: which of them it gets is drawn, some 4 % more or fewer."""


class WorkflowPlacingSettings(PlacingSettings):
    """`jellybean`: JellyBean's placement (PVLDB 2022), planned anew where rate or profile drift.

    The problem's workers are the scenario's pools, and its operators' variants the catalog's. Planners are the
    published one and ours; that it is planned anew, bounds and hysteresis are ours.
    """

    planner: Literal["fast", "exact", "published"] = "fast"
    profile_bound: float = Field(
        default=0.15, gt=0, le=2.0, description="drift of a worker's seconds per request at which it is planned anew"
    )


class WorkflowPlacingPolicy(Placing[WorkflowPlacingSettings]):
    """`jellybean`; see `WorkflowPlacingSettings`.

    Args:
        setting: What is decided for.
        settings: When to plan anew.
        name: Name in tables.
        problem: In place of the file that the settings name.
    """

    kind = "jellybean"
    Settings: ClassVar[type[WorkflowPlacingSettings]] = WorkflowPlacingSettings

    def __init__(
        self,
        setting: Setting,
        settings: WorkflowPlacingSettings,
        name: str | None = None,
        problem: WorkflowProblem | None = None,
    ) -> None:
        self._problem = load_workflow_problem(settings.problem) if problem is None else problem
        self._base = compile_problem(self._problem)
        self._pools = [setting.pool_names.index(slug(worker.name)) for worker in self._problem.workers]
        super().__init__(setting, settings, name)

    def reset(self, num_envs: int) -> None:
        """Forgets all state and every drift that was seen."""
        super().reset(num_envs)
        shape = (num_envs, len(self._problem.workers))
        self._slowness, self._planned_slowness = np.ones(shape), np.ones(shape)
        self._busy_s, self._served = np.zeros(shape), np.zeros(shape)
        self._queue = np.zeros((num_envs, *self.setting.shape[:2]), np.int64)
        self._was_settled = np.zeros(num_envs, np.bool_)

    def has_drifted(self, observation: ObservationArrays, n: int) -> bool:
        """Whether a worker takes longer, or less long, than it was planned to."""
        drift = np.abs(self._slowness[n] / self._planned_slowness[n] - 1.0)
        return bool((drift > self.settings.profile_bound).any())

    def need_factors(self, observation: ObservationArrays) -> F64:
        """The headroom; what workers took in the last window is learned on the way."""
        for n in range(len(observation.tick)):
            self._learn(observation, n)
        return super().need_factors(observation)

    def on_the_way(self, observation: ObservationArrays, n: int, before: Wanted, wanted: Wanted) -> Wanted | None:
        """The old placement beside the new one's workers that were free, until these are ready.

        A worker that goes from one operator to another would leave the first without it before others have come.
        """
        is_free = before.replicas.sum(axis=0) == 0
        new = np.where(is_free, wanted.replicas, 0)
        if (observation.ready[n] >= new).all():
            return None
        return before._replace(replicas=before.replicas + new)

    def fresh(self, n: int, rate_rps: F64) -> Wanted | None:
        """A new placement."""
        instance = self._at(n, rate_rps)
        self._planned_slowness[n] = self._slowness[n]
        if self.settings.planner == "exact":
            found = plan_exact(instance).placement
        else:
            found = plan_fast(instance) if self.settings.planner == "fast" else plan_published(instance)
        return None if found is None else self._wanted(instance, found)

    def adjusted(self, n: int, held: Wanted, rate_rps: F64) -> Wanted | None:
        """The workers that stand, each loaded in proportion to what it can serve."""
        instance = self._at(n, rate_rps)
        variants, used = self._read(instance, held)
        loads = np.zeros_like(used, np.float64)
        for v, m in enumerate(variants):
            capacity = np.where(used[v], instance.capacity_rps[v][m], 0.0)
            if capacity.sum() < instance.rate_rps[v] * (1.0 - ROUNDING):
                return None
            loads[v] = capacity * (instance.rate_rps[v] / capacity.sum())
        placement = Placement(variants, loads)
        return None if evaluate(instance, placement).faults else self._wanted(instance, placement)

    def _learn(self, obs: ObservationArrays, n: int) -> None:
        """Seconds per request of every worker, over the problem's, from its busy time and what left its queue.

        An operator gets what its inputs passed on: arrivals, less what stayed in queues on the way.
        """
        held, before = self._held[n], self._queue[n].copy()
        self._queue[n] = obs.queue[n]
        if held is None or not self._is_settled(obs, n, held, before):
            self._busy_s[n] = self._served[n] = 0.0
            return
        instance, passed = self._base, np.zeros(self._base.num_operators)
        variants, _ = self._read(instance, held)
        for v, m in enumerate(variants):
            row = self.setting.variant_names.index(variant_name(instance, v, m))
            gets = [passed[u] for u in instance.from_operators[v]] or [float(obs.arrivals[n].sum())]
            for w, p in enumerate(self._pools):
                done = min(gets) * held.shares[0, row, p] - float(obs.queue[n, row, p] - before[row, p])
                passed[v] += done
                if held.shares[0, row, p] > 0.0:
                    self._busy_s[n, w] += obs.busy_s[n, row, p] * instance.capacity_rps[v][m][w]
                    self._served[n, w] += done
        known = self._served[n] >= _LEAST_SERVED
        self._slowness[n, known] = self._busy_s[n, known] / self._served[n, known]
        self._busy_s[n, known] = self._served[n, known] = 0.0

    def _is_settled(self, obs: ObservationArrays, n: int, held: Wanted, before: I64) -> bool:
        """Whether the workers of the plan, and no others, served all of the last window and the one before."""
        was, self._was_settled[n] = self._was_settled[n], bool((obs.ready[n] == held.replicas).all())
        # Requests that waited where nothing is left are sent elsewhere, and would count there as served.
        is_stranded = (held.shares[0] <= 0.0) & ((obs.queue[n] > 0) | (before > 0))
        return bool(was and self._was_settled[n] and not obs.draining[n].any() and not is_stranded.any())

    def _at(self, n: int, rate_rps: F64) -> Instance:
        problem = self._problem
        factor = float(rate_rps.sum()) / max(float(self._base.rate_rps[0]), 1e-9)
        slower = dict(zip((w.name for w in problem.workers), self._slowness[n], strict=True))
        operators = tuple(
            operator.model_copy(
                update={
                    "variants": tuple(
                        variant.model_copy(
                            update={"latency_s": {w: s * float(slower[w]) for w, s in variant.latency_s.items()}}
                        )
                        for variant in operator.variants
                    )
                }
            )
            for operator in problem.operators
        )
        sources = tuple(s.model_copy(update={"rate_rps": s.rate_rps * factor}) for s in problem.sources)
        return compile_problem(problem.model_copy(update={"operators": operators, "sources": sources}))

    def _read(self, instance: Instance, held: Wanted) -> tuple[tuple[int, ...], Bool]:
        """Variants of a plan and which workers serve each operator, (V, W)."""
        names, chosen, used = self.setting.variant_names, [], []
        for v, operator in enumerate(instance.operators):
            rows = [names.index(variant_name(instance, v, m)) for m in range(len(operator.variants))]
            at = held.replicas[np.ix_(rows, self._pools)]
            m = int(at.sum(axis=1).argmax())
            chosen.append(m)
            used.append(at[m] > 0)
        return tuple(chosen), np.stack(used)

    def _wanted(self, instance: Instance, placement: Placement) -> Wanted:
        made = plan_of(instance, placement, self.setting)
        return Wanted(made.replicas[0], made.shares[0], evaluate(instance, placement).total_usd_per_hour)
