"""What the workflow experiment measures: planners and baselines over targets, and on random instances."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from controller.planners.workflow.baselines import BASELINES
from controller.planners.workflow.compiled import Cost, Instance, Placement, compile_problem, evaluate
from controller.planners.workflow.exact import plan_exact
from controller.planners.workflow.fast import plan_fast
from controller.planners.workflow.files import read_published
from controller.planners.workflow.problem import WorkflowProblem
from controller.planners.workflow.published import plan_published
from controller.policies.workflow_placing import WorkflowPlacingSettings
from experiments.placement.jellybean import authors_placement, published_folder
from experiments.placement.random_workflows import brute_force, random_problem

if TYPE_CHECKING:
    from experiments.placement.replanning import Ran

TARGETS = tuple(round(54.0 + 0.1 * step, 1) for step in range(44))
"""Accuracy in %, 54.0 to 58.3."""

MAIN_TARGET = 56.0

_RATE_STEPS = ((0.5, 100), (0.7, 100), (0.9, 160))
"""Share of the example's rate, and ticks of ten seconds that it lasts."""

_SLOWER, _SLOWNESS, _SLOWER_AT = ("workflow-compute-cpu-5", "workflow-compute-cpu-1"), 1.25, 220
"""Workers that slow down, by how much, and at which tick."""


@dataclass(frozen=True)
class TargetRow:
    """Costs in $ per hour at one accuracy target; None where nothing is found."""

    target: float
    exact: float | None
    gap: float
    fast: float | None
    published: float | None
    baselines: dict[str, float | None]


@dataclass(frozen=True)
class RandomRow:
    """Costs in $ per hour of one random instance; None where nothing is found."""

    seed: int
    workers: int
    operators: int
    brute_force: float | None
    exact: float | None
    fast: float | None
    published: float | None


@dataclass(frozen=True)
class SimulatedRow:
    """An hour of a placement in the simulated world, with evenly spaced arrivals.

    Attributes:
        cost_off: Relative distance of its cost to the evaluator's.
        throughput: Share of arrivals answered within the hour.
        busiest: Largest busy share of a worker.
    """

    cost_off: float
    throughput: float
    busiest: float


@dataclass(frozen=True)
class JellyBean:
    """All that is measured."""

    authors: Cost
    main: TargetRow
    main_accuracy: float  # of the published algorithm's placement
    most_accurate: float | None  # $ per hour of the most accurate variants where the exact planner places them
    targets: tuple[TargetRow, ...]
    randoms: tuple[RandomRow, ...]
    seconds: dict[str, float]  # of a core by planner, for the published example
    simulated: dict[str, SimulatedRow]  # by planner
    drifting: tuple[Ran, ...]  # an hour in which rate and workers drift, held and planned anew


def total_of(instance: Instance, placement: Placement | None) -> float | None:
    """A placement's cost; None without one."""
    return None if placement is None else evaluate(instance, placement).total_usd_per_hour


def measure_target(problem: WorkflowProblem, target: float) -> TargetRow:
    """Every planner and baseline at one accuracy target."""
    instance = compile_problem(problem.model_copy(update={"accuracy_target": target}))
    fast = plan_fast(instance)
    proved = plan_exact(instance, start=fast)
    return TargetRow(
        target=target,
        exact=total_of(instance, proved.placement),
        gap=proved.gap,
        fast=total_of(instance, fast),
        published=total_of(instance, plan_published(instance)),
        baselines={name: total_of(instance, baseline(instance)) for name, baseline in BASELINES.items()},
    )


def measure_random(seed: int) -> RandomRow:
    """Every planner and brute force on one random instance; the exact planner is not told what others found."""
    instance = compile_problem(random_problem(seed))
    return RandomRow(
        seed=seed,
        workers=len(instance.tier),
        operators=instance.num_operators,
        brute_force=total_of(instance, brute_force(instance)[1]),
        exact=total_of(instance, plan_exact(instance).placement),
        fast=total_of(instance, plan_fast(instance)),
        published=total_of(instance, plan_published(instance)),
    )


def measure_simulated(instance: Instance, placement: Placement) -> SimulatedRow:
    """An hour of a placement, request by request."""
    # The simulator's kernels take a second to load, and minutes to compile the first time.
    from experiments.placement.workflow_world import simulate

    ran, cost = simulate(instance, placement), evaluate(instance, placement)
    return SimulatedRow(
        cost_off=abs(ran.total_usd_per_hour / cost.total_usd_per_hour - 1.0),
        throughput=ran.throughput,
        busiest=float(ran.busy.max()),
    )


def measure_drifting(problem: WorkflowProblem) -> list[Ran]:
    """An hour of the published example in which the rate rises twice and two workers then slow down."""
    # The simulator's kernels take a second to load, and minutes to compile the first time.
    from experiments.placement.replanning import GIVEN, Drift, run_workflow

    settings = WorkflowPlacingSettings(problem=GIVEN, headroom=1.08, keep=1.02)
    drifts = [Drift(_SLOWER_AT, worker, _SLOWNESS) for worker in _SLOWER]
    at_target = problem.model_copy(update={"accuracy_target": MAIN_TARGET})
    return run_workflow(
        at_target, np.concatenate([np.full(ticks, share) for share, ticks in _RATE_STEPS]), drifts, settings
    )


def measure_jellybean(num_random: int, say: Callable[[str], None]) -> JellyBean:
    """Measures everything anew.

    Args:
        num_random: Feasible random instances.
        say: Prints one line of progress.

    Raises:
        UsageError: `$PROVISOR_DATA` is not set.
        ConfigError: A published file is missing.
    """
    problem = read_published(published_folder())
    instance = compile_problem(problem.model_copy(update={"accuracy_target": MAIN_TARGET}))
    seconds = {}
    for name, planner in (("published", plan_published), ("fast", plan_fast), ("exact", plan_exact)):
        began_s = time.process_time()
        planner(instance)
        seconds[name] = time.process_time() - began_s
    say(f"placing over {len(TARGETS)} accuracy targets")
    published = plan_published(instance)
    say("simulating an hour of the placements at 56.0")
    placed = {"published": published, "exact": plan_exact(instance).placement}
    simulated = {name: measure_simulated(instance, one) for name, one in placed.items() if one is not None}
    say(f"trying every placement of {num_random} random instances")
    return JellyBean(
        authors=evaluate(instance, authors_placement(instance)),
        main=measure_target(problem, MAIN_TARGET),
        main_accuracy=-np.inf if published is None else evaluate(instance, published).accuracy,
        most_accurate=measure_target(problem, max(map(instance.accuracy, instance.combinations()))).exact,
        targets=tuple(measure_target(problem, target) for target in TARGETS),
        randoms=tuple(_feasible(num_random, say)),
        seconds=seconds,
        simulated=simulated,
        drifting=tuple(measure_drifting(problem)),
    )


def _feasible(count: int, say: Callable[[str], None]) -> Iterator[RandomRow]:
    """The first random instances that can be served at all."""
    found, seed = 0, 0
    while found < count:
        row = measure_random(seed)
        seed += 1
        if row.brute_force is not None or row.exact is not None:
            found += 1
            if found % 10 == 0:
                say(f"{found} of {count} random instances")
            yield row


def gaps(rows: Sequence[RandomRow], planner: str) -> np.ndarray:
    """Relative distances of a planner's costs to the optimum; infinite where it found nothing."""
    found = [(getattr(row, planner), row.brute_force) for row in rows]
    return np.array([np.inf if cost is None or least is None else cost / least - 1.0 for cost, least in found])


def worst_over_baselines(rows: Sequence[TargetRow], planner: str) -> float:
    """Largest cost of a planner over that of any baseline at the same target; at most 1 where never above one."""
    worst = 0.0
    for row in rows:
        cost = getattr(row, planner)
        for other in row.baselines.values():
            if other is not None:
                worst = max(worst, np.inf if cost is None else cost / other)
    return worst
