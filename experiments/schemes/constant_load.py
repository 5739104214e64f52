"""Fleets that never change under a constant load: what they cost and promise, request by request.

One run holds many envs, each with its own rate, fleet and routing; envs with one seed and one rate meet the same
requests whatever serves them. No policy and no guard take part: the plan is put into force once and stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from controller.arrays import COMPUTE, EGRESS, F64, I64, IDLE, SERVERLESS_USE, empty_actions, empty_plan
from controller.batching import capacity_rps, largest_batches
from controller.catalog import Catalog
from controller.compile import Setting, compile_scenario
from controller.config import parse_config
from controller.latency import quantile
from controller.policies.scheme import BATCH_SLACK
from controller.scenario import Scenario
from envs.simulator import Simulator
from envs.supply import Supply
from experiments.worker import threads_here

ATTAINMENT = 0.99
"""Share of requests that must be answered in time."""

CANDIDATES = 6
"""Fleet sizes tried upwards from the smallest that could keep up."""

_FOREVER_S = 1e12
_TICK_S = 10.0
MOST_ENVS = 512


def silent(line: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Load:
    """One env: a rate that one option of the catalog serves.

    Attributes:
        rate_rps: Requests/s, Poisson.
        variant: Row of the variant.
        pool: Row of the pool.
        replicas: Machines; 0 for serverless, which starts environments itself.
        batch: Largest batch; None for the largest that suits the SLO, as the schemes take it.
    """

    rate_rps: float
    variant: int
    pool: int
    replicas: int = 0
    batch: int | None = 1


@dataclass(frozen=True)
class Outcome:
    """What one load came to; money without egress, which is the same wherever the answer is made.

    Attributes:
        requests: Arrivals.
        span_s: Seconds simulated.
        machine_usd: Rent of machines, busy and idle.
        serverless_usd: Charges of calls, cold starts included.
        egress_usd: Answers sent to clients.
        attainment: Share answered within the SLO.
        busy_share: Mean busy share of the machines' credits; 0 without machines.
        cold_starts: Calls that started an environment.
        service_s: Mean seconds in service of a request, cold starts included; queueing and network are not.
        p99_s: 99th percentile of the latency of answers; None without any.
    """

    requests: int
    span_s: float
    machine_usd: float
    serverless_usd: float
    egress_usd: float
    attainment: float
    busy_share: float
    cold_starts: int
    service_s: float
    p99_s: float | None

    @property
    def usd(self) -> float:
        """Rent and calls."""
        return self.machine_usd + self.serverless_usd

    @property
    def usd_per_million(self) -> float:
        """Dollars per million requests; infinite without requests."""
        return 1e6 * self.usd / self.requests if self.requests else math.inf


def constant_setting(catalog: Catalog, slo_s: float, max_instances: int = 128) -> Setting:
    """One class that any variant may answer within `slo_s`, from the catalog's first site.

    Raises:
        ScenarioError: No option answers that fast.
    """
    request_class = {
        "name": "all",
        "source_site": catalog.sites[0].name,
        "workflow": "answer",
        "share": 1.0,
        "slo_s": slo_s,
        "attainment_target": ATTAINMENT,
        "accuracy_floor": 0.0,
        "floor": "mean",
        "queue_limit": 5000,
    }
    document: dict[str, Any] = {
        "name": "constant-load",
        "catalog": catalog.name,
        "workload": {
            "workflows": [{"name": "answer", "operators": [catalog.variants[0].operator]}],
            "classes": [request_class],
        },
        "mean_rps": 1.0,
        "trace": {"kind": "generated", "preset": "steady", "days": 3},
        "splits": {"train": [1, 1], "validation": [2, 2], "test": [3, 3]},
        "control": {"tick_s": _TICK_S},
        "simulator": {"max_instances": max_instances, "max_requests_held": 4096},
    }
    return compile_scenario(parse_config(document, Scenario, source="constant load"), catalog)


def measure(
    setting: Setting,
    loads: Sequence[Load],
    hours: float,
    seed: int = 0,
    say: Callable[[str], None] = silent,
    what: str = "",
) -> list[Outcome]:
    """Runs every load for `hours` from an empty queue with machines that serve; environments start cold.

    Args:
        setting: From `constant_setting`.
        loads: What to run.
        hours: Length of each run.
        seed: Loads of one rate meet the same requests.
        say: Told what is done.
        what: Name of the measurement in what is told.
    """
    found: list[Outcome] = []
    # Loads of like rates share a simulator, whose buffers are sized by the largest.
    order = sorted(range(len(loads)), key=lambda i: loads[i].rate_rps)
    for first in range(0, len(order), MOST_ENVS):
        chosen = [loads[i] for i in order[first : first + MOST_ENVS]]
        found += _measure(setting, chosen, max(1, round(hours * 3600 / _TICK_S)), seed)
        say(f"{what}: {len(found)} of {len(loads)} loads")
    back = np.argsort(order)
    return [found[i] for i in back]


def _measure(setting: Setting, loads: Sequence[Load], ticks: int, seed: int) -> list[Outcome]:
    num_envs, (num_variants, num_pools, num_classes) = len(loads), setting.shape
    rates = np.array([[load.rate_rps] for load in loads])
    supply = Supply(rates, _FOREVER_S, np.ones((max(1, len(setting.zones)), 1)), _FOREVER_S)
    simulator = Simulator(setting, supply, num_envs, threads_here())
    fleet = np.zeros((num_envs, num_variants, num_pools), np.int64)
    shares = np.zeros((num_envs, num_classes, num_variants, num_pools))
    plan = empty_plan(num_envs, setting.shape)
    batches = largest_batches(setting.catalog, setting.workload, BATCH_SLACK)
    for n, load in enumerate(loads):
        fleet[n, load.variant, load.pool] = load.replicas
        shares[n, :, load.variant, load.pool] = 1.0
        size = batches[load.variant, load.pool] if load.batch is None else load.batch
        plan.batch_size[n, load.variant, load.pool] = size
    plan.replicas[:] = fleet
    plan.overflow_after_s[:] = np.inf
    plan.shed_limit[:] = setting.workload.queue_limit
    simulator.reset(
        np.full(num_envs, seed, np.int64), initial_replicas=fleet, traces=np.arange(num_envs, dtype=np.int64)
    )
    simulator.apply(empty_actions(num_envs, setting.shape), plan, shares)
    busy_s: F64 = np.zeros(num_envs)
    usd: F64 = np.zeros_like(simulator.observation.spend_usd)
    for _ in range(ticks):
        window = simulator.advance()
        busy_s += window.busy_s.sum(axis=(1, 2))
        usd += window.spend_usd
    return [_outcome(setting, simulator, load, n, ticks, busy_s, usd) for n, load in enumerate(loads)]


def _outcome(setting: Setting, simulator: Simulator, load: Load, n: int, ticks: int, busy_s: F64, usd: F64) -> Outcome:
    totals, span_s = simulator.totals, ticks * setting.control.tick_s
    requests, missed = int(totals.arrivals[n].sum()), int(totals.missed[n].sum())
    num_credits = load.replicas * int(setting.catalog.concurrency[load.variant, load.pool])
    latency: I64 = totals.latency[n].sum(axis=0)
    return Outcome(
        requests=requests,
        span_s=span_s,
        machine_usd=float(usd[n, COMPUTE] + usd[n, IDLE]),
        serverless_usd=float(usd[n, SERVERLESS_USE]),
        egress_usd=float(usd[n, EGRESS]),
        attainment=1.0 - missed / requests if requests else 1.0,
        busy_share=float(busy_s[n]) / (num_credits * span_s) if num_credits else 0.0,
        cold_starts=int(totals.cold_starts[n].sum()),
        service_s=float(busy_s[n]) / max(1, requests),
        p99_s=quantile(latency, 0.99) if latency.any() else None,
    )


def full_rps(setting: Setting, variant: int, pool: int, batch: int | None = 1) -> float:
    """Requests/s of one always busy replica."""
    batches = largest_batches(setting.catalog, setting.workload, BATCH_SLACK)
    size = batches if batch is None else np.full_like(batches, batch)
    return float(capacity_rps(setting.catalog, size)[variant, pool])


def smallest_fleets(
    setting: Setting,
    asked: Sequence[tuple[float, int, int]],
    hours: float,
    batch: int | None = 1,
    say: Callable[[str], None] = silent,
    what: str = "",
) -> list[tuple[int, Outcome] | None]:
    """The fewest machines of one option that meet `ATTAINMENT` at a rate, found by trying.

    Args:
        setting: From `constant_setting`.
        asked: (rate in requests/s, variant, pool) of machine options.
        hours: Length of each run.
        batch: As in `Load`.
        say: Told what is done.
        what: Name of the measurement in what is told.

    Returns:
        Count and what it came to; None where `CANDIDATES` sizes from the smallest that keeps up all fall short.
    """
    loads: list[Load] = []
    for rate_rps, variant, pool in asked:
        least = max(1, math.ceil(rate_rps / full_rps(setting, variant, pool, batch)))
        loads += [Load(rate_rps, variant, pool, least + extra, batch) for extra in range(CANDIDATES)]
    outcomes = measure(setting, loads, hours, say=say, what=what)
    chosen: list[tuple[int, Outcome] | None] = []
    for first in range(0, len(loads), CANDIDATES):
        tried = zip(loads[first : first + CANDIDATES], outcomes[first : first + CANDIDATES], strict=True)
        chosen.append(next(((load.replicas, o) for load, o in tried if o.attainment >= ATTAINMENT), None))
    return chosen
