"""Why a workflow's placement is what it is: what each other choice would cost at least."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from controller.planners.workflow.baselines import BASELINES
from controller.planners.workflow.compiled import Instance, Placement, evaluate
from controller.planners.workflow.exact import MAX_WORKERS, Proved, plan_exact
from controller.planners.workflow.fast import plan_fast
from controller.planners.workflow.published import plan_published


@dataclass(frozen=True)
class Alternative:
    """Another choice and what it costs.

    Attributes:
        what: The choice, in words.
        total_usd_per_hour: Its cost; None where it leaves nothing feasible.
    """

    what: str
    total_usd_per_hour: float | None


PLANNERS = ("exact", "fast", "published")


def plan_with(instance: Instance, planner: str, limit_s: float = 60.0) -> Proved:
    """What a planner of `PLANNERS` finds; only `exact` proves a bound, the others' is 0.

    Raises:
        UsageError: `exact` was asked for more workers than it can enumerate sets of.
    """
    if planner == "exact":
        return plan_exact(instance, limit_s, start=plan_fast(instance))
    found = plan_fast(instance) if planner == "fast" else plan_published(instance)
    total = np.inf if found is None else evaluate(instance, found).total_usd_per_hour
    return Proved(found, total, 0.0, 0, 0.0)


def default_planner(instance: Instance) -> str:
    """`exact` where it can enumerate, `fast` otherwise."""
    return "exact" if len(instance.tier) <= MAX_WORKERS else "fast"


def alternatives(instance: Instance, placement: Placement, planner: str) -> list[Alternative]:
    """Each operator's other variants forced upon the same planner, and the baselines.

    Args:
        instance: The problem.
        placement: What was planned.
        planner: That planned it.
    """
    found = []
    for v, operator in enumerate(instance.operators):
        for m, variant in enumerate(operator.variants):
            if m != placement.variants[v]:
                # A variant that no other than itself may stand for: the others run nowhere.
                rows = np.arange(len(operator.variants)) == m
                capacity = list(instance.capacity_rps)
                capacity[v] = capacity[v] * rows[:, None]
                forced = plan_with(replace(instance, capacity_rps=tuple(capacity)), planner)
                found.append(_alternative(f"{operator.name} by {variant.name}", forced.total_usd_per_hour))
    for name, baseline in BASELINES.items():
        other = baseline(instance)
        total = np.inf if other is None else evaluate(instance, other).total_usd_per_hour
        found.append(_alternative(name, total))
    return found


def _alternative(what: str, total: float) -> Alternative:
    return Alternative(what, float(total) if np.isfinite(total) else None)
