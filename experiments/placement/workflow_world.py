"""A workflow's placement in the simulated world: the catalog and scenario that state its problem, and an hour of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from controller.arrays import COMPUTE, EGRESS, F64, IDLE, START_UP
from controller.catalog import Catalog
from controller.compile import Setting, compile_scenario
from controller.config import parse_config
from controller.errors import ScenarioError
from controller.loop import DecisionLoop
from controller.planners.workflow.compiled import Instance, Placement
from controller.planners.workflow.plan import plan_of, slug, variant_name
from controller.planners.workflow.problem import DEFAULT
from controller.policies.held import HeldPlans
from controller.scenario import Scenario
from envs.simulator import Simulator
from envs.supply import Supply

GAP_CV = 0.01
"""Of evenly spaced arrivals: what a renewal process needs above 0."""

TICK_S = 10.0
_SOURCES = "sources"
_GIB, _GB = 1024.0**3, 1e9
_FOREVER_S = 1e12
_MOST_HELD = 65_536


Chosen = Sequence[Sequence[int]]
"""Variants of each operator that a scenario has."""


@dataclass(frozen=True)
class Simulated:
    """What a span of requests came to.

    Attributes:
        requests: Arrivals.
        answered: Of them.
        compute_usd_per_hour: Rent, busy and idle.
        communication_usd_per_hour: Traffic between sites.
        busy: (V, W) share of the span that each worker was busy for each operator.
    """

    requests: int
    answered: int
    compute_usd_per_hour: float
    communication_usd_per_hour: float
    busy: F64

    @property
    def total_usd_per_hour(self) -> float:
        """Both terms."""
        return self.compute_usd_per_hour + self.communication_usd_per_hour

    @property
    def throughput(self) -> float:
        """Share of arrivals answered within the span."""
        return self.answered / self.requests


def simulate(instance: Instance, placement: Placement, hours: float = 1.0, seed: int = 0) -> Simulated:
    """Runs a placement request by request, with fan-in, under evenly spaced arrivals.

    The plan goes the way of every policy's: through guard, reconcile and split at each tick.

    Args:
        instance: The problem.
        placement: Of it.
        hours: Simulated.
        seed: Of the draws of options and arrivals.

    Raises:
        ScenarioError: The simulator has no words for the problem, as `setting_of` says.
    """
    setting = setting_of(instance, placement)
    plan = plan_of(instance, placement, setting)
    rates = np.full((1, 1), float(instance.rate_rps[0]))
    supply = Supply(rates, _FOREVER_S, np.ones((max(1, len(setting.zones)), 1)), _FOREVER_S, GAP_CV)
    simulator = Simulator(setting, supply, 1)
    seen = simulator.reset(np.array([seed], np.int64), initial_replicas=plan.replicas.copy())
    loop = DecisionLoop(setting, HeldPlans(plan, "placement"), 1)
    num_ticks = round(hours * 3600.0 / TICK_S)
    usd, busy_s = np.zeros(seen.spend_usd.shape[1]), np.zeros(setting.shape[:2])
    for _ in range(num_ticks):
        decision = loop.decide(seen)
        simulator.apply(decision.actions, decision.plan, decision.shares)
        seen = simulator.advance()
        usd += seen.spend_usd[0]
        busy_s += seen.busy_s[0]
    pools = [setting.pool_names.index(slug(w.name)) for w in instance.problem.workers]
    variants = [setting.variant_names.index(variant_name(instance, v, m)) for v, m in enumerate(placement.variants)]
    per_hour = 3600.0 / (num_ticks * TICK_S)
    return Simulated(
        requests=int(simulator.totals.arrivals.sum()),
        answered=int(simulator.totals.answered.sum()),
        compute_usd_per_hour=float(usd[[COMPUTE, IDLE, START_UP]].sum()) * per_hour,
        communication_usd_per_hour=float(usd[EGRESS]) * per_hour,
        busy=busy_s[np.ix_(variants, pools)] / (num_ticks * TICK_S),
    )


def setting_of(instance: Instance, placement: Placement | None = None, launch_s: float = 0.0) -> Setting:
    """The scenario of a placement: a site and a pool for every worker, and one variant for every operator.

    Args:
        instance: The problem.
        placement: Of it; None for any: every variant of every operator is there.
        launch_s: From asking for a worker until it serves.

    Raises:
        ScenarioError: Rates of operators differ, an operator's readers get messages of different sizes, sources pay
            different prices, or one operator reads from sources and operators: requests are served otherwise.
    """
    chosen = [
        range(len(operator.variants)) if placement is None else [placement.variants[v]]
        for v, operator in enumerate(instance.operators)
    ]
    _check(instance, chosen)
    setting = compile_scenario(
        parse_config(_scenario(instance), Scenario, "placement"),
        parse_config(_catalog(instance, chosen, launch_s), Catalog, "placement"),
    )
    names, bits = setting.variant_names, setting.workload.rank_bits[0]
    for variants in product(*chosen):
        mark = sum(int(bits[names.index(variant_name(instance, v, m))]) for v, m in enumerate(variants))
        # The catalog's product of the operators' accuracies is not what a workflow's tables say of the whole.
        setting.workload.answer_accuracy[0, mark] = max(0.0, instance.accuracy(variants)) / 100.0
    return setting


def _check(instance: Instance, chosen: Chosen) -> None:
    name = instance.problem.name
    if np.ptp(instance.rate_rps) > 0:
        raise ScenarioError(f"{name}: expected one rate of all operators, got {instance.rate_rps.tolist()}")
    if np.ptp(instance.source_usd_per_gib, axis=0).any():
        raise ScenarioError(f"{name}: expected one price of traffic from all sources, got several")
    for v, operator in enumerate(instance.operators):
        if instance.from_sources[v] and instance.from_operators[v]:
            raise ScenarioError(f"{name}: expected '{operator.name}' to read sources or operators, got both")
        if any(len(set(_sizes_gib(instance, chosen, v, m))) > 1 for m in chosen[v]):
            raise ScenarioError(f"{name}: expected messages of one size from '{operator.name}', got several")


def _sizes_gib(instance: Instance, chosen: Chosen, v: int, m: int) -> list[float]:
    """GiB per hour that each reader, under each of its variants, gets of an operator's variant."""
    return [
        instance.edge_gib_per_hour(v, m, reader, other)
        for reader in instance.to_operators[v]
        for other in chosen[reader]
    ]


def _derived(value: float) -> dict[str, Any]:
    return {"value": float(value), "derived": "from the workflow problem"}


def _catalog(instance: Instance, chosen: Chosen, launch_s: float) -> dict[str, Any]:
    workers = [slug(w.name) for w in instance.problem.workers]
    nothing, last = _derived(0.0), instance.num_operators - 1
    bytes_per_gib_per_hour = _GIB / 3600.0 / float(instance.rate_rps[0])
    variants, profiles = [], []
    for v, m in [(v, m) for v, options in enumerate(chosen) for m in options]:
        name = variant_name(instance, v, m)
        read = sum(
            instance.gib_per_hour(instance.problem.sources[s].name, DEFAULT, v, m) for s in instance.from_sources[v]
        )
        sent = max(_sizes_gib(instance, chosen, v, m), default=0.0)
        variants.append(
            {
                "name": name,
                "operator": slug(instance.operators[v].name),
                # Of the whole workflow, at its end: what every placement reaches at least.
                "accuracy": _derived(instance.problem.accuracy_target / 100.0 if v == last else 1.0),
                "weights_gb": nothing,
                "input_bytes": _derived(read * bytes_per_gib_per_hour),
                "output_bytes": _derived(sent * bytes_per_gib_per_hour),
            }
        )
        profiles += [
            {
                "variant": name,
                "pool": pool,
                "service_intercept_s": nothing,
                "service_slope_s": _derived(1.0 / capacity),
                "batch_max": 1,
                "concurrency": 1,
                "load_s": nothing,
                "swap_s": nothing,
            }
            for pool, capacity in zip(workers, instance.capacity_rps[v][m], strict=True)
            if capacity > 0
        ]
    return {
        "name": "placement",
        "sites": [{"name": name} for name in (_SOURCES, *workers)],
        "links": _links(instance, workers),
        "variants": variants,
        "pools": [
            {
                "name": name,
                "site": name,
                "instance_type": name,
                "market": "on_demand",
                "vcpus": _derived(1.0),
                "memory_gb": _derived(1.0),
                "price_usd_per_hour": _derived(worker.usd_per_hour),
                "launch_s": _derived(launch_s),
                "min_billing_s": nothing,
                "release_lag_s": nothing,
                "quota": 1,
            }
            for name, worker in zip(workers, instance.problem.workers, strict=True)
        ],
        "profiles": profiles,
    }


def _links(instance: Instance, workers: list[str]) -> list[dict[str, Any]]:
    """Links that cost something, without delay."""
    prices = {(_SOURCES, b): instance.source_usd_per_gib[0, j] for j, b in enumerate(workers)}
    prices |= {(a, b): instance.link_usd_per_gib[i, j] for i, a in enumerate(workers) for j, b in enumerate(workers)}
    return [
        {
            "source": a,
            "target": b,
            "delay_s": _derived(0.0),
            "bytes_per_s": _derived(_FOREVER_S),
            "usd_per_gb": _derived(price * _GB / _GIB),
        }
        for (a, b), price in prices.items()
        if 0.0 < price < np.inf
    ]


def _scenario(instance: Instance) -> dict[str, Any]:
    names = [slug(o.name) for o in instance.operators]
    edges = [[names[u], names[v], 1.0] for v in range(len(names)) for u in instance.from_operators[v]]
    request_class = {
        "name": "all",
        "source_site": _SOURCES,
        "workflow": "flow",
        "share": 1.0,
        # The optimiser promises throughput alone.
        "slo_s": 86_400.0,
        "attainment_target": 0.99,
        "accuracy_floor": 0.0,
        "queue_limit": _MOST_HELD,
        "drop_at_deadline": False,
    }
    return {
        "name": "placement",
        "catalog": "placement",
        "workload": {
            "workflows": [{"name": "flow", "operators": names, "edges": edges}],
            "classes": [request_class],
        },
        "mean_rps": float(instance.rate_rps[0]),
        "trace": {"kind": "generated", "preset": "steady", "days": 3},
        "splits": {"train": [1, 1], "validation": [2, 2], "test": [3, 3]},
        "control": {"tick_s": TICK_S},
        "simulator": {"max_instances": len(instance.tier) + 8, "max_requests_held": _MOST_HELD},
    }
