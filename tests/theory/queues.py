"""Queues in the simulator: one small catalog, worlds that run at constant rates, and sums over their ticks.

The unit of time is the mean service time, one second. Envs of a world differ in their seed alone, so they are
independent copies of one queue; what they start with is forgotten before anything is counted.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from controller.arrays import F64, I64, PlanArrays, empty_actions, empty_plan
from controller.catalog import Catalog
from controller.compile import Setting, compile_scenario
from controller.config import parse_config
from controller.scenario import Scenario
from envs.simulator import Simulator
from envs.supply import Supply
from tests.theory.shapes import Shape, exponential

BOX, OTHER, SPOT, FN = range(4)
"""Pools: two of machines on demand, one of spot machines in a zone of its own, one serverless."""

POOLS = ("box", "other", "spot", "fn")
ENVS = 64
"""Independent copies of every queue, so standard errors have 63 degrees of freedom."""

SERVICE_S = 1.0
FOREVER_S = 1e9
PRICE_USD_PER_HOUR = 0.36
ROOM = 4096
"""Requests that may wait; the queues here never get near it."""

TOTALS = ("arrivals", "answered", "missed", "failed", "shed", "latency", "invocations", "cold_starts", "throttled")
"""What of the simulator's totals is summed."""


def _figure(value: float) -> dict[str, Any]:
    return {"value": value, "derived": "chosen for tests"}


def _pool(name: str, quota: int) -> dict[str, Any]:
    pool: dict[str, Any] = {
        "name": name,
        "site": "home",
        "instance_type": name,
        "vcpus": _figure(1),
        "memory_gb": _figure(1),
        "launch_s": _figure(0),
        "quota": quota,
    }
    if name == "fn":
        return pool | {
            "market": "serverless",
            "usd_per_gb_s": _figure(1e-5),
            "usd_per_request": _figure(1e-7),
            "billing_step_s": _figure(0.001),
            "keep_alive_s": _figure(FOREVER_S),
        }
    pool |= {
        "market": "on_demand",
        "price_usd_per_hour": _figure(PRICE_USD_PER_HOUR),
        "min_billing_s": _figure(60),
        "release_lag_s": _figure(0),
    }
    if name == "spot":
        pool |= {"market": "spot", "zone": "zone", "notice_s": _figure(0)}
    return pool


def _variant(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "operator": "answer",
        "accuracy": _figure(1.0),
        "weights_gb": _figure(1),
        "input_bytes": _figure(0),
        "output_bytes": _figure(0),
    }


def _profile(variant: str, pool: str, service: Shape, batch_max: int, concurrency: int) -> dict[str, Any]:
    profile: dict[str, Any] = {
        "variant": variant,
        "pool": pool,
        "service_intercept_s": _figure(0.0),
        "service_slope_s": _figure(SERVICE_S),
        "service_shape": service.document,
        "batch_max": batch_max,
        "concurrency": concurrency,
        "load_s": _figure(0),
    }
    if pool == "fn":
        return profile | {"batch_max": 1, "concurrency": 1, "cold_start_s": _figure(0)}
    return profile | {"swap_s": _figure(0)}


def setting_of(
    *,
    service: Shape | None = None,
    quota: int = 1,
    concurrency: int = 1,
    batch_max: int = 1,
    classes: int = 1,
    tick_s: float = 10.0,
    kernel: str = "fast",
    routers: int = 1,
    variants: tuple[str, ...] = ("model",),
    catalog: dict[str, Any] | None = None,
    workload: dict[str, Any] | None = None,
) -> Setting:
    """A world of equal variants on four pools whose classes share the traffic evenly and wait for ever.

    Args:
        service: Shape of the service time, whose mean is one second; exponential by default.
        quota: Of every pool: instances there can be, or calls of the serverless one at a time.
        concurrency: Credits of an instance.
        batch_max: Largest batch; its mean service time is one second times its size unless `catalog` says otherwise.
        classes: Number of request classes.
        tick_s: Length of a tick.
        kernel: Kernel of the simulator.
        routers: Routers, each with queues of its own.
        variants: Names of the variants; queues use the first.
        catalog: Fields of the compiled catalog to replace.
        workload: Fields of the compiled workload to replace.
    """
    shape = exponential() if service is None else service
    source = {
        "name": "theory",
        "sites": [{"name": "home"}],
        "variants": [_variant(name) for name in variants],
        "pools": [_pool(name, quota) for name in POOLS],
        "profiles": [_profile(v, name, shape, batch_max, concurrency) for v in variants for name in POOLS],
    }
    one_class = {"source_site": "home", "workflow": "answer", "share": 1.0 / classes, "slo_s": FOREVER_S}
    one_class |= {"attainment_target": 0.5, "accuracy_floor": 0.0, "queue_limit": 10 * ROOM, "drop_at_deadline": False}
    scenario = {
        "name": "theory",
        "catalog": "theory",
        "workload": {
            "workflows": [{"name": "answer", "operators": ["answer"]}],
            "classes": [{"name": f"class-{c}", **one_class} for c in range(classes)],
        },
        "mean_rps": 1.0,
        "trace": {"kind": "generated", "days": 3},
        "splits": {"train": [1, 1], "validation": [2, 2], "test": [3, 3]},
        "control": {"tick_s": tick_s, "routers": routers},
        "simulator": {"max_instances": len(POOLS) * quota, "max_requests_held": ROOM, "kernel": kernel},
    }
    setting = compile_scenario(
        parse_config(scenario, Scenario, source="theory scenario"), parse_config(source, Catalog, source="theory")
    )
    return replace(
        setting,
        catalog=setting.catalog._replace(**(catalog or {})),
        workload=setting.workload._replace(**(workload or {})),
    )


@dataclass(frozen=True)
class Sums:
    """What every env summed over the ticks that count; N envs.

    Attributes:
        ticks: Ticks that count.
        span_s: Their length.
        arrivals, answered, missed, failed, shed: By class, shape (N, C).
        latency: Histogram of the answers' latencies by class, shape (N, C, B).
        invocations, cold_starts, throttled: By pool, shape (N, P).
        waiting: Requests that wait at the end of a tick, summed over ticks, by pool, shape (N, P).
        waiting_requests: Requests that wait at the end of a tick and are in service nowhere, likewise, shape (N,).
        busy_s: Credit-seconds by pool, shape (N, P).
        waited: Requests in service at the end of a tick that had waited longer than each of K times, shape (N, K).
        served: All requests in service at the end of a tick, shape (N,); 0 where `waited` is empty.
    """

    ticks: int
    span_s: float
    arrivals: I64
    answered: I64
    missed: I64
    failed: I64
    shed: I64
    latency: I64
    invocations: I64
    cold_starts: I64
    throttled: I64
    waiting: I64
    waiting_requests: I64
    busy_s: F64
    waited: F64
    served: F64


class Queue:
    """Copies of one queue at a constant rate, sent by fixed shares.

    Args:
        name: What is simulated; it decides the seeds of the ENVS envs, so that no two cases share them.
        setting: From `setting_of`.
        rate_rps: Arrivals of all classes together.
        machines: Instances that serve from the start, by pool.
        shares: Share of every class's traffic by pool; by default all goes to the first pool of `machines`, or to
            serverless where there is none.
        gap_cv: Coefficient of variation of the gaps between arrivals.
        plan: Fields of the plan, the same in all envs.
    """

    def __init__(
        self,
        name: str,
        setting: Setting,
        rate_rps: float,
        machines: dict[int, int],
        shares: dict[int, float] | None = None,
        gap_cv: float = 1.0,
        plan: dict[str, Any] | None = None,
    ) -> None:
        self.supply = Supply(np.array([[rate_rps]]), FOREVER_S, np.ones((1, 1)), FOREVER_S, gap_cv)
        self.simulator = Simulator(setting, self.supply, ENVS)
        self.tick_s = setting.control.tick_s
        initial = np.zeros((ENVS, 1, len(POOLS)), np.int64)
        for pool, count in machines.items():
            initial[:, 0, pool] = count
        self.simulator.reset(zlib.crc32(name.encode()) + np.arange(ENVS), initial_replicas=initial)
        chosen: PlanArrays = empty_plan(ENVS, setting.shape)
        for field, value in (plan or {}).items():
            getattr(chosen, field)[:] = value
        split: F64 = np.zeros((ENVS, setting.shape[2], 1, len(POOLS)))
        for pool, share in (shares or {next(iter(machines), FN): 1.0}).items():
            split[:, :, 0, pool] = share
        self.simulator.apply(empty_actions(ENVS, setting.shape), chosen, split)

    def run(self, ticks: int, warm_up_s: float, waits_longer_than_s: tuple[float, ...] = ()) -> Sums:
        """Runs `warm_up_s` seconds that do not count and `ticks` ticks that do."""
        simulator = self.simulator
        for _ in range(math.ceil(warm_up_s / self.tick_s)):
            simulator.advance()
        before = {name: value.copy() for name, value in simulator.totals._asdict().items()}
        seen = simulator.observation
        waiting, busy_s = np.zeros_like(seen.queue[:, 0]), np.zeros_like(seen.busy_s[:, 0])
        waiting_requests = np.zeros(simulator.num_envs, np.int64)
        waited = np.zeros((simulator.num_envs, len(waits_longer_than_s) + 1))
        for _ in range(ticks):
            simulator.advance()
            waiting += seen.queue[:, 0]
            waiting_requests += seen.waiting.sum(axis=1)
            busy_s += seen.busy_s[:, 0]
            if waits_longer_than_s:
                waited += waits_in_service(simulator, waits_longer_than_s)
        totals = {name: getattr(simulator.totals, name) - before[name] for name in TOTALS}
        return Sums(
            ticks,
            ticks * self.tick_s,
            **totals,
            waiting=waiting,
            waiting_requests=waiting_requests,
            busy_s=busy_s,
            waited=waited[:, :-1],
            served=waited[:, -1],
        )


def waits_in_service(simulator: Simulator, longer_than_s: tuple[float, ...]) -> F64:
    """Requests in service now that had waited longer than each of K times, and all of them; shape (N, K + 1).

    The wait of a request is fixed before its service time is drawn, so those found in service, however long ones are
    found more often, have waited like all others.
    """
    fleet, held = simulator.state.fleet, simulator.state.held
    flights = fleet.credit_flight.reshape(simulator.num_envs, -1)
    is_in_service = flights >= 0
    arrival_s = np.take_along_axis(held.arrival_s, np.maximum(flights, 0), axis=1)
    waited_s = np.where(is_in_service, fleet.credit_start_s.reshape(flights.shape) - arrival_s, -1.0)
    longer = [(waited_s > at_s).sum(axis=1) for at_s in longer_than_s]
    return np.stack([*longer, is_in_service.sum(axis=1)], axis=1).astype(np.float64)


def forgotten_s(servers: int, load: float, squared_cv: float = 1.0) -> float:
    """Time after which a queue that began empty is as good as stationary, in mean service times.

    Twelve relaxation times; one is 1 / (sqrt(c) - sqrt(c load))^2 for M/M/c and longer for more variable service. What
    is left of the empty beginning is then e^-12 of it, far below any standard error here.

    Source:
        Relaxation time of M/M/c: Abate and Whitt, Transient behavior of the M/M/1 queue, Queueing Systems 2, 1987.
    """
    relaxation_s = (1.0 + squared_cv) / 2.0 / (math.sqrt(servers) - math.sqrt(servers * load)) ** 2
    return 12.0 * max(1.0, relaxation_s)
