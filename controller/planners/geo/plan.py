"""A geo plan as the Plan that every policy makes: replicas by variant and pool, and fixed shares of each region."""

from __future__ import annotations

import numpy as np

from controller.arrays import PlanArrays, empty_plan
from controller.compile import Setting
from controller.errors import ScenarioError, mismatch
from controller.planners.geo.compiled import ROUNDING, GeoInstance, GeoPlan
from controller.planners.geo.problem import GeoVariant
from controller.planners.workflow.plan import slug


def variant_name(variant: GeoVariant) -> str:
    """The catalog's name of a model on a data version."""
    return slug(f"{variant.model}.{variant.data}")


def class_name(region: str, data: str | None = None) -> str:
    """Class of a region's requests, or of those that come as one data version."""
    return slug(region if data is None else f"{region}.{data}")


def plan_of(instance: GeoInstance, plan: GeoPlan, setting: Setting) -> PlanArrays:
    """The plan of one env: as many replicas of each variant at a site as its share of planned time needs.

    A replica runs one variant, so where an instance of the problem serves a model on several data versions, each is
    rounded up by itself.

    Args:
        instance: The problem.
        plan: Of it.
        setting: Of a scenario with a pool for each site and the variants as `variant_name` names them, and with a class
            for each region, or for each data version that a region sends, as `class_name` names them.

    Raises:
        ScenarioError: The setting lacks a class, site or variant that is used.
    """
    made = empty_plan(1, setting.shape)
    problem = instance.problem
    by_region = class_name(problem.regions[0].name) in setting.class_names
    busy = plan.served_rps.sum(axis=0) * instance.service_s / problem.utilisation  # (I, V)
    for i, v in np.argwhere(busy > ROUNDING):
        row = _row("variants", variant_name(problem.variants[v]), setting.variant_names)
        pool = _row("pools", slug(problem.sites[i].name), setting.pool_names)
        held = int(np.ceil(busy[i, v] - ROUNDING))
        if problem.instance_serves == "variant":
            held = int(plan.instances[i, instance.model[v]])
        made.replicas[0, row, pool] = held
        for r in np.flatnonzero(plan.served_rps[:, i, v] > ROUNDING * instance.rate_rps):
            name = class_name(problem.regions[r].name, None if by_region else problem.variants[v].data)
            of_class = _row("classes", name, setting.class_names)
            made.shares[0, of_class, row, pool] = plan.served_rps[r, i, v]
    # What linear programs leave below their precision is left out.
    made.shares[...] /= np.maximum(made.shares.sum(axis=(2, 3), keepdims=True), ROUNDING)
    made.fixed_shares[:] = True
    made.overflow_after_s[:] = np.inf
    made.shed_limit[:] = setting.workload.queue_limit
    made.need_rps[:] = float(instance.rate_rps.sum())
    return made


def _row(what: str, name: str, names: tuple[str, ...]) -> int:
    if name not in names:
        raise ScenarioError(mismatch(what, f"'{name}' among them", list(names)))
    return names.index(name)
