"""A placement as the Plan that every policy makes: replicas by variant and pool, and fixed shares of traffic."""

from __future__ import annotations

import re

import numpy as np

from controller.arrays import PlanArrays, empty_plan
from controller.compile import Setting
from controller.errors import ScenarioError, mismatch
from controller.planners.workflow.compiled import Instance, Placement


def slug(text: str) -> str:
    """A name as catalogs write them: lower case, other signs as hyphens."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower())


def variant_name(instance: Instance, v: int, m: int) -> str:
    """The catalog's name of an operator's variant."""
    operator = instance.operators[v]
    return slug(f"{operator.name}.{operator.variants[m].name}")


def plan_of(instance: Instance, placement: Placement, setting: Setting) -> PlanArrays:
    """The plan of one env: an instance of every worker used, and each operator's requests as its loads divide them.

    Args:
        instance: The problem.
        placement: Of it.
        setting: Of a scenario whose only class runs the workflow, on a catalog with a pool for each worker and the
            variants as `variant_name` names them.

    Raises:
        ScenarioError: The catalog lacks a worker or variant that is used.
    """
    plan = empty_plan(1, setting.shape)
    variants, pools = list(setting.variant_names), list(setting.pool_names)
    for v, m in enumerate(placement.variants):
        variant = variant_name(instance, v, m)
        if variant not in variants:
            raise ScenarioError(mismatch("catalog.variants", f"'{variant}' among them", variants))
        for w in placement.workers_of(v):
            pool = slug(instance.problem.workers[w].name)
            if pool not in pools:
                raise ScenarioError(mismatch("catalog.pools", f"'{pool}' among them", pools))
            at = variants.index(variant), pools.index(pool)
            plan.replicas[(0, *at)] = 1
            plan.shares[(0, 0, *at)] = placement.load_rps[v, w] / instance.rate_rps[v]
    plan.fixed_shares[:] = True
    plan.overflow_after_s[:] = np.inf
    plan.shed_limit[:] = setting.workload.queue_limit
    plan.need_rps[:] = float(instance.rate_rps.max())
    return plan
