"""Placements in the control loop, planned anew by their policies, beside plans that are held.

Regions' rates follow a trace; a workflow's rate and its workers' speeds drift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from controller.arrays import F64, PlanArrays
from controller.compile import Setting
from controller.loop import DecisionLoop
from controller.planners.geo.compiled import GeoInstance, compile_geo
from controller.planners.geo.plan import plan_of as geo_plan_of
from controller.planners.geo.problem import GeoProblem
from controller.planners.geo.rounding import plan_rounded
from controller.planners.workflow.compiled import compile_problem
from controller.planners.workflow.fast import plan_fast
from controller.planners.workflow.plan import plan_of as workflow_plan_of
from controller.planners.workflow.problem import WorkflowProblem
from controller.policies.geo_placing import GeoPlacingPolicy, GeoPlacingSettings
from controller.policies.held import HeldPlans
from controller.policies.placing import Placing
from controller.policies.workflow_placing import WorkflowPlacingPolicy, WorkflowPlacingSettings
from controller.ports import Policy
from envs.simulator import Simulator
from envs.supply import Supply
from experiments.placement.geo_setting import setting_of as geo_setting_of
from experiments.placement.workflow_world import GAP_CV
from experiments.placement.workflow_world import setting_of as workflow_setting_of

LAUNCH_S = 60.0
"""From asking for an instance until it serves, as virtual machines of clouds take."""

GIVEN = "given by the caller"
_FOREVER_S = 1e12


@dataclass(frozen=True)
class Ran:
    """What a span under a policy came to.

    Attributes:
        policy: Its name.
        usd: Billed, all terms.
        answered: Share of arrivals answered.
        missed: Share of arrivals whose promise was missed.
        accuracy: (C,) mean over answers.
        plannings: Times that it was planned anew.
        moves: New plans taken, the first included.
        switched: Instances that moves started.
        switching_usd: Rent of these until they served, which is in the bill.
    """

    policy: str
    usd: float
    answered: float
    missed: float
    accuracy: tuple[float, ...]
    plannings: int = 0
    moves: int = 0
    switched: int = 0
    switching_usd: float = 0.0


@dataclass(frozen=True)
class Drift:
    """A change of the world that no plan is told of.

    Attributes:
        tick: At which it happens.
        pool: Name of the pool that changes.
        slowness: Its service times over those before.
    """

    tick: int
    pool: str
    slowness: float


def run_policy(
    setting: Setting,
    policy: Policy,
    rate_rps: F64,
    initial: PlanArrays,
    drifts: Sequence[Drift] = (),
    *,
    gap_cv: float = 1.0,
    seed: int = 0,
) -> Ran:
    """Runs a policy through guard, reconcile and split, request by request.

    Args:
        setting: What it decides for.
        policy: Any.
        rate_rps: (ticks, C) of each class.
        initial: Plan whose replicas serve at the start.
        drifts: Of the world.
        gap_cv: Of the gaps between arrivals; 1 is Poisson.
        seed: Of all draws.
    """
    # Classes' shares and pools' speeds change under way, which the policy's own setting must not show it.
    workload = setting.workload._replace(share=setting.workload.share.copy())
    catalog = setting.catalog._replace(service_s=setting.catalog.service_s.copy())
    world = replace(setting, workload=workload, catalog=catalog)
    total = rate_rps.sum(axis=1)
    supply = Supply(
        total[None, :], setting.control.tick_s, np.ones((max(1, len(setting.zones)), 1)), _FOREVER_S, gap_cv
    )
    simulator = Simulator(world, supply, 1)
    seen = simulator.reset(np.array([seed], np.int64), initial_replicas=initial.replicas.copy())
    loop = DecisionLoop(setting, policy, 1)
    for tick in range(len(rate_rps)):
        workload.share[:] = rate_rps[tick] / total[tick]
        for drift in drifts:
            if drift.tick == tick:
                catalog.service_s[:, setting.pool_names.index(drift.pool)] *= drift.slowness
        decision = loop.decide(seen)
        simulator.apply(decision.actions, decision.plan, decision.shares)
        seen = simulator.advance()
    totals = simulator.totals
    arrivals = float(totals.arrivals.sum())
    ran = Ran(
        policy=policy.name,
        usd=float(totals.spend_usd.sum()),
        answered=float(totals.answered.sum()) / arrivals,
        missed=float(totals.missed.sum()) / arrivals,
        accuracy=tuple((totals.accuracy_sum[0] / np.maximum(totals.answered[0], 1)).tolist()),
    )
    return replace(ran, **policy.counts._asdict()) if isinstance(policy, Placing) else ran


def run_regions(
    problem: GeoProblem, rate_rps: F64, settings: Sequence[GeoPlacingSettings], names: Sequence[str]
) -> list[Ran]:
    """A plan for every region's peak, held, and policies that plan anew.

    Args:
        problem: Of the regions, at any rates.
        rate_rps: (ticks, R).
        settings: Of the policies; the problem that they name is not read.
        names: Of the policies.
    """
    mean, peak = (_at(problem, rates) for rates in (rate_rps.mean(axis=0), rate_rps.max(axis=0)))
    setting = geo_setting_of(mean, LAUNCH_S)
    held = plan_rounded(peak)
    assert held is not None, "a study that has a plan at one price has one at any rate"
    first = geo_plan_of(peak, held.plan, setting)
    rows = [run_policy(setting, HeldPlans(first, "held for the peak"), rate_rps, first)]
    for one, name in zip(settings, names, strict=True):
        rows.append(run_policy(setting, GeoPlacingPolicy(setting, one, name, mean.problem), rate_rps, first))
    return rows


def run_workflow(
    problem: WorkflowProblem, factors: F64, drifts: Sequence[Drift], settings: WorkflowPlacingSettings
) -> list[Ran]:
    """The placement for the first rate, held, and the policy that places anew.

    Args:
        problem: Of the workflow, at the rate that factor 1 stands for.
        factors: (ticks,) of the rate.
        drifts: Of the workers.
        settings: Of the policy; the problem that they name is not read.
    """
    instance = compile_problem(problem)
    setting = workflow_setting_of(instance, launch_s=LAUNCH_S)
    scale = float(factors[0]) * settings.headroom
    sources = tuple(s.model_copy(update={"rate_rps": s.rate_rps * scale}) for s in problem.sources)
    begin = compile_problem(problem.model_copy(update={"sources": sources}))
    placed = plan_fast(begin)
    assert placed is not None, "a problem that is run has a placement"
    first = workflow_plan_of(begin, placed, setting)
    rate_rps = factors[:, None] * float(instance.rate_rps[0])
    policies: list[Policy] = [
        HeldPlans(first, "held as begun"),
        WorkflowPlacingPolicy(setting, settings, "planned anew", problem),
    ]
    return [run_policy(setting, policy, rate_rps, first, drifts, gap_cv=GAP_CV) for policy in policies]


def _at(problem: GeoProblem, rate_rps: F64) -> GeoInstance:
    regions = tuple(
        region.model_copy(update={"rate_rps": float(rate)})
        for region, rate in zip(problem.regions, rate_rps, strict=True)
    )
    return compile_geo(problem.model_copy(update={"regions": regions, "instance_serves": "variant"}))
