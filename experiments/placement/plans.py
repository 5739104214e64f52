"""What `provisor plan` prints: a placement, its cost by term, the bound, and why, as text or values."""

from __future__ import annotations

from typing import Any

import numpy as np

from controller.errors import RunError
from controller.planners.geo.compiled import GeoInstance, GeoPlan, busy_instances, evaluate_geo
from controller.planners.geo.program import GeoProgram
from controller.planners.geo.rivals import plan_greedy, restrictions
from controller.planners.geo.rounding import plan_rounded
from controller.planners.workflow.compiled import Instance, evaluate
from controller.planners.workflow.why import alternatives, plan_with

Values = dict[str, Any]

_SERVED = 1e-6


def workflow_values(instance: Instance, planner: str) -> Values:
    """A workflow's placement.

    Raises:
        RunError: Nothing feasible is found.
    """
    proved = plan_with(instance, planner)
    placement = proved.placement
    if placement is None:
        raise RunError(
            f"{instance.problem.name}: expected a placement of accuracy {instance.problem.accuracy_target:g} or more, "
            f"found none by the planner '{planner}'"
        )
    cost = evaluate(instance, placement)
    workers = instance.problem.workers
    return {
        "problem": instance.problem.name,
        "planner": planner,
        "operators": [
            {
                "operator": operator.name,
                "variant": operator.variants[placement.variants[v]].name,
                "rate_rps": float(instance.rate_rps[v]),
                "workers": [
                    {
                        "worker": workers[w].name,
                        "tier": workers[w].tier,
                        "load_rps": float(placement.load_rps[v, w]),
                        "utilisation": float(
                            placement.load_rps[v, w] / instance.capacity_rps[v][placement.variants[v]][w]
                        ),
                        "usd_per_hour": workers[w].usd_per_hour,
                    }
                    for w in placement.workers_of(v)
                ],
            }
            for v, operator in enumerate(instance.operators)
        ],
        "accuracy": cost.accuracy,
        "accuracy_target": instance.problem.accuracy_target,
        "compute_usd_per_hour": cost.compute_usd_per_hour,
        "communication_usd_per_hour": cost.communication_usd_per_hour,
        "total_usd_per_hour": cost.total_usd_per_hour,
        "bound_usd_per_hour": proved.bound_usd_per_hour if planner == "exact" else None,
        "gap": proved.gap if planner == "exact" else None,
        "why": [
            {"instead": one.what, "total_usd_per_hour": one.total_usd_per_hour}
            for one in alternatives(instance, placement, planner)
        ],
    }


def geo_values(instance: GeoInstance, planner: str) -> Values:
    """A plan over regions.

    Args:
        instance: The problem.
        planner: `fast`, `exact` or `greedy`.

    Raises:
        RunError: Nothing feasible is found.
    """
    plan, bound, proved_ratio = _geo_plan(instance, planner)
    if plan is None:
        raise RunError(
            f"{instance.problem.name}: expected a plan that keeps every region's accuracy and latency, found none by "
            f"the planner '{planner}'"
        )
    cost, problem = evaluate_geo(instance, plan), instance.problem
    busy = busy_instances(instance, plan.served_rps)
    return {
        "problem": problem.name,
        "planner": planner,
        "instances": [
            {
                "site": problem.sites[i].name,
                "model": instance.models[m],
                "count": int(plan.instances[i, m]),
                "busy": float(busy[i, m]),
                "usd_per_hour": float(plan.instances[i, m] * instance.usd_per_hour[i]),
            }
            for i, m in np.argwhere(plan.instances > 0)
        ],
        "regions": [
            {
                "region": region.name,
                "rate_rps": region.rate_rps,
                "accuracy": float(cost.accuracy[r]),
                "accuracy_promised": region.accuracy,
                "latency_s": float(cost.latency_s[r]),
                "latency_promised_s": region.latency_s,
                "served": [
                    {
                        "site": problem.sites[i].name,
                        "model": problem.variants[v].model,
                        "data": problem.variants[v].data,
                        "share": float(plan.served_rps[r, i, v] / region.rate_rps),
                    }
                    for i, v in np.argwhere(plan.served_rps[r] > _SERVED * region.rate_rps)
                ],
            }
            for r, region in enumerate(problem.regions)
        ],
        "compute_usd_per_hour": cost.compute_usd_per_hour,
        "egress_usd_per_hour": cost.egress_usd_per_hour,
        "total_usd_per_hour": cost.total_usd_per_hour,
        "bound_usd_per_hour": bound,
        "gap": None if bound is None else max(0.0, 1.0 - bound / cost.total_usd_per_hour),
        "proved_ratio": proved_ratio,
        "why": _geo_alternatives(instance),
    }


def _geo_plan(instance: GeoInstance, planner: str) -> tuple[GeoPlan | None, float | None, float | None]:
    """Plan, bound and ratio proved beforehand."""
    if planner == "fast":
        rounded = plan_rounded(instance)
        return (
            (None, None, None) if rounded is None else (rounded.plan, rounded.bound_usd_per_hour, rounded.proved_ratio)
        )
    if planner == "greedy":
        return plan_greedy(instance), None, None
    solved = GeoProgram(instance).solve_whole()
    return solved.plan, solved.bound_usd_per_hour, None


def _geo_alternatives(instance: GeoInstance) -> list[Values]:
    found = []
    for name, allowed in restrictions(instance).items():
        rounded = plan_rounded(instance, allowed)
        found.append({"instead": name, "total_usd_per_hour": None if rounded is None else rounded.total_usd_per_hour})
    greedy = plan_greedy(instance)
    total = None if greedy is None else evaluate_geo(instance, greedy).total_usd_per_hour
    return [*found, {"instead": "greedy", "total_usd_per_hour": total}]


def workflow_text(values: Values) -> str:
    """A workflow's placement, in lines."""
    lines = [f"{values['problem']}, planner {values['planner']}"]
    for one in values["operators"]:
        lines.append(f"{one['operator']} by {one['variant']}, {one['rate_rps']:g} requests/s")
        lines += [
            f"  {w['worker']:<28} {w['tier']:<10} {w['load_rps']:9.3f} requests/s "
            f"({100 * w['utilisation']:5.1f} % of it)  {w['usd_per_hour']:.3f} $/h"
            for w in one["workers"]
        ]
    lines.append(f"accuracy {values['accuracy']:g}, at least {values['accuracy_target']:g} asked for")
    lines.append(_money(values, "communication"))
    return "\n".join([*lines, _bound(values), *_why(values)])


def geo_text(values: Values) -> str:
    """A plan over regions, in lines."""
    lines = [f"{values['problem']}, planner {values['planner']}"]
    lines += [
        f"{one['site']:<16} {one['model']:<16} {one['count']:5d} instances ({one['busy']:.2f} needed)  "
        f"{one['usd_per_hour']:.3f} $/h"
        for one in values["instances"]
    ]
    for region in values["regions"]:
        lines.append(
            f"{region['region']}: {region['rate_rps']:g} requests/s, accuracy {100 * region['accuracy']:.2f} % of "
            f"{100 * region['accuracy_promised']:.2f} % promised, {1e3 * region['latency_s']:.0f} ms of "
            f"{1e3 * region['latency_promised_s']:.0f} ms"
        )
        lines += [f"  {100 * s['share']:6.2f} %  {s['data']} to {s['model']} at {s['site']}" for s in region["served"]]
    lines.append(_money(values, "egress"))
    if values["proved_ratio"] is not None:
        lines.append(f"rounding proved to cost below {values['proved_ratio']:.4f} times the relaxation")
    return "\n".join([*lines, _bound(values), *_why(values)])


def _money(values: Values, other: str) -> str:
    return (
        f"compute {values['compute_usd_per_hour']:.5f} + {other} {values[f'{other}_usd_per_hour']:.5f} = "
        f"{values['total_usd_per_hour']:.5f} $/h"
    )


def _bound(values: Values) -> str:
    if values["bound_usd_per_hour"] is None:
        return "no bound: this planner proves none"
    return f"bound {values['bound_usd_per_hour']:.5f} $/h: within {100 * values['gap']:.4f} % of the least possible"


def _why(values: Values) -> list[str]:
    """Other choices, cheapest first."""
    total = values["total_usd_per_hour"]
    known = sorted(
        (one for one in values["why"] if one["total_usd_per_hour"] is not None),
        key=lambda one: float(one["total_usd_per_hour"]),
    )
    lines = ["why: what else would cost"]
    for one in known:
        change = 100 * (one["total_usd_per_hour"] / total - 1)
        lines.append(f"  {one['instead']:<48} {one['total_usd_per_hour']:10.4f} $/h  {change:+7.1f} %")
    lines += [f"  {o['instead']:<48} not feasible" for o in values["why"] if o["total_usd_per_hour"] is None]
    return lines
