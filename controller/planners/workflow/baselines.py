"""What a workflow's placement is compared with: planners that leave out one part of the joint choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from controller.arrays import Bool
from controller.planners.workflow.compiled import Instance, Placement, evaluate
from controller.planners.workflow.published import assign_workers, plan_published
from controller.planners.workflow.selection import select_variants


def most_accurate(instance: Instance) -> Placement | None:
    """The most accurate variants whatever they cost, on workers as the published algorithm assigns them."""
    best = max(instance.combinations(), key=instance.accuracy, default=None)
    return None if best is None else _cheapest(instance, assign_workers(instance, best))


def all_cloud(instance: Instance) -> Placement | None:
    """The published algorithm, with workers of the highest tier only."""
    return plan_published(_restricted(instance, instance.tier == len(instance.problem.tiers) - 1))


def all_edge(instance: Instance) -> Placement | None:
    """The published algorithm, with workers of the lowest tier only."""
    return plan_published(_restricted(instance, instance.tier == 0))


def separate(instance: Instance) -> Placement | None:
    """Selection without joint assignment: the variants of least selection cost, then workers by their rent alone."""
    blind = replace(
        instance,
        source_usd_per_gib=np.zeros_like(instance.source_usd_per_gib),
        link_usd_per_gib=np.where(np.isinf(instance.link_usd_per_gib), np.inf, 0.0),
    )
    for variants in select_variants(instance)[:1]:
        return _cheapest(blind, assign_workers(blind, variants))
    return None


BASELINES: dict[str, Callable[[Instance], Placement | None]] = {
    "most accurate": most_accurate,
    "all cloud": all_cloud,
    "all edge": all_edge,
    "separate": separate,
}


def _cheapest(instance: Instance, placements: list[Placement]) -> Placement | None:
    return min(placements, key=lambda one: evaluate(instance, one).total_usd_per_hour, default=None)


def _restricted(instance: Instance, is_allowed: Bool) -> Instance:
    """The same problem without the other workers."""
    return replace(instance, capacity_rps=tuple(np.where(is_allowed, c, 0.0) for c in instance.capacity_rps))
