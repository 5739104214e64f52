"""The fast kernel beside SimPy: one M/G/c queue with two classes in both, the answers compared before the speeds.

Services follow the catalog's quantile table on both sides and arrivals are Poisson, but neither sees the other's draws.
SimPy is imported on use: only the tests depend on it. The classes give up at their deadlines, as those of every shipped
scenario do; the same queue in which all wait for ever is compared as well. SimPy runs in two forms: as its
documentation models a counter whose customers renege (one process per request, a `Resource`), which is the form that
the ratio refers to, and in the quickest one found (one process per server, a `Store`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from controller.arrays import F64, LATENCY_BUCKETS, SHAPE_CELLS, empty_actions, empty_plan
from controller.compile import Setting
from controller.latency import bucket_edges
from envs.simulator import Simulator
from envs.supply import Supply
from experiments.bench_core import ON_DEMAND, dense_setting

if TYPE_CHECKING:
    import simpy

NUM_SERVERS = 16
LOAD = 0.8
HORIZON_S = 60.0
SLO_S = (0.03, 0.05)
"""Of the two classes; the mean service takes 20 ms."""

AGREES_WITHIN = 4.0
"""Standard errors between the answers that count as agreement: chance exceeds them once in 16,000 comparisons."""

Model = Callable[["simpy.Environment", int, list[float], list[float], list[float], list[float]], None]
"""Fills in the latencies: takes an environment, the servers, gaps, services, patience (inf for ever) and latencies."""


@dataclass(frozen=True)
class Answers:
    """What one side says of each of its replications, shape (R,).

    Attributes:
        response_s: Mean response of what was answered, each at the middle of its latency bucket.
        missed: Share of the arrivals whose deadline passed unanswered.
    """

    response_s: F64
    missed: F64


def against_simpy(replications: int = 16, num_envs: int = 64, blocks: int = 3, gives_up: bool = True) -> dict[str, Any]:
    """Requests per CPU second of both simulators on the same queue, and whether they say the same of it.

    Args:
        gives_up: Whether a request leaves the queue at its deadline.
        replications: Of SimPy, per form; at least 2.
        num_envs: Replications of the simulator, at least 2; they run side by side.
        blocks: Repeats of the simulator's run, each after a stretch of SimPy's, so that both meet the same machine.

    Returns:
        Rates `fast_kernel_`, `simpy_` and `simpy_workers_requests_per_s_core` (best of the blocks); their `ratio` and
        `ratio_to_workers`; `mean_response_s` and `missed_share`, ours first, with `z_response` and `z_missed`; and
        `answers_agree`.
    """
    setting = queue_setting(gives_up)
    # Once over everything that is timed, which compiles the kernels.
    _run_ours(setting, 2, 0)
    forms: dict[str, Model] = {"simpy": _request_processes, "simpy_workers": _server_processes}
    rates = dict.fromkeys(["fast_kernel", *forms], 0.0)
    found: dict[str, list[Answers]] = {name: [] for name in rates}
    for block in range(blocks):
        for name, model in forms.items():
            requests, spent_s = 0, 0.0
            for seed in range(block, replications, blocks):
                answers, arrivals, took_s = _run_simpy(setting, model, seed)
                found[name].append(answers)
                requests, spent_s = requests + arrivals, spent_s + took_s
            if spent_s > 0:
                rates[name] = max(rates[name], requests / spent_s)
        answers, arrivals, took_s = _run_ours(setting, num_envs, block * num_envs)
        found["fast_kernel"].append(answers)
        rates["fast_kernel"] = max(rates["fast_kernel"], arrivals / took_s)

    ours, theirs = _joined(found["fast_kernel"]), _joined(found["simpy"])
    z_response, z_missed = _z(ours.response_s, theirs.response_s), _z(ours.missed, theirs.missed)
    return {f"{name}_requests_per_s_core": round(rate) for name, rate in rates.items()} | {
        "ratio": round(rates["fast_kernel"] / rates["simpy"], 1),
        "ratio_to_workers": round(rates["fast_kernel"] / rates["simpy_workers"], 1),
        "mean_response_s": [float(ours.response_s.mean()), float(theirs.response_s.mean())],
        "missed_share": [float(ours.missed.mean()), float(theirs.missed.mean())],
        "z_response": round(z_response, 2),
        "z_missed": round(z_missed, 2),
        "answers_agree": max(abs(z_response), abs(z_missed)) < AGREES_WITHIN,
    }


def queue_setting(gives_up: bool = True) -> Setting:
    """One option, nothing refused, no network; two classes with SLOs that waiting decides."""
    setting = dense_setting(NUM_SERVERS, 1)
    workload = setting.workload
    return replace(
        setting,
        workload=workload._replace(
            slo_s=np.array(SLO_S),
            drop_at_deadline=np.full(len(SLO_S), gives_up),
            queue_limit=np.full(len(SLO_S), 1 << 30),
            network_s=np.zeros_like(workload.network_s),
        ),
    )


def rate_rps(setting: Setting) -> float:
    """Arrivals that load the servers as intended."""
    return LOAD * NUM_SERVERS / float(setting.catalog.service_s[0, ON_DEMAND, 1])


def _joined(parts: list[Answers]) -> Answers:
    return Answers(np.concatenate([p.response_s for p in parts]), np.concatenate([p.missed for p in parts]))


def _z(ours: F64, theirs: F64) -> float:
    """Difference of means in standard errors over replications."""
    se = math.sqrt(float(ours.var(ddof=1)) / len(ours) + float(theirs.var(ddof=1)) / len(theirs))
    return float(ours.mean() - theirs.mean()) / se


def _middles_s() -> F64:
    edges_s = bucket_edges()
    return (edges_s[1:] + edges_s[:-1]) / 2


def _run_ours(setting: Setting, num_envs: int, first_seed: int) -> tuple[Answers, int, float]:
    """Answers, arrivals and CPU seconds of `num_envs` replications."""
    tick_s = setting.control.tick_s
    supply = Supply(np.full((1, 1), rate_rps(setting)), HORIZON_S, np.ones((len(setting.zones), 1)), HORIZON_S)
    simulator = Simulator(setting, supply, num_envs)
    replicas = np.zeros((num_envs, *setting.shape[:2]), np.int64)
    replicas[:, 0, ON_DEMAND] = NUM_SERVERS
    simulator.reset(np.arange(num_envs) + first_seed, initial_replicas=replicas)
    plan, actions = empty_plan(num_envs, setting.shape), empty_actions(num_envs, setting.shape)
    shares = np.zeros((num_envs, setting.shape[2], *setting.shape[:2]))
    shares[:, :, 0, ON_DEMAND] = 1.0
    started_s = time.process_time()
    for _ in range(round(HORIZON_S / tick_s)):
        simulator.apply(actions, plan, shares)
        simulator.advance()
    spent_s = time.process_time() - started_s
    totals = simulator.totals
    latency = totals.latency.sum(axis=1)
    response_s = latency @ _middles_s() / latency.sum(axis=1)
    missed = totals.missed.sum(axis=1) / totals.arrivals.sum(axis=1)
    return Answers(response_s, missed), int(totals.arrivals.sum()), spent_s


def _run_simpy(setting: Setting, model: Model, seed: int) -> tuple[Answers, int, float]:
    """Answers, arrivals and CPU seconds of one replication."""
    import simpy

    random = np.random.default_rng(seed)
    row = int(setting.catalog.service_shape[0, ON_DEMAND])
    mean_s = float(setting.catalog.service_s[0, ON_DEMAND, 1])
    rate = rate_rps(setting)
    most = int(rate * HORIZON_S + 8 * math.sqrt(rate * HORIZON_S))
    started_s = time.process_time()
    # Drawn in bulk, which is quicker than a draw per request in Python.
    gaps_s = random.exponential(1 / rate, most)
    services_s = mean_s * np.interp(
        random.random(most) * SHAPE_CELLS, np.arange(SHAPE_CELLS + 1), setting.catalog.shapes[row]
    )
    slo_s = np.array(SLO_S)[(random.random(most) >= setting.workload.share[0]).astype(int)]
    patience_s = slo_s if setting.workload.drop_at_deadline.all() else np.full(most, math.inf)
    latencies_s = [math.inf] * most
    environment = simpy.Environment()
    model(environment, NUM_SERVERS, gaps_s.tolist(), services_s.tolist(), patience_s.tolist(), latencies_s)
    environment.run(until=HORIZON_S)
    spent_s = time.process_time() - started_s

    arrived_s = np.cumsum(gaps_s)
    num = int(np.searchsorted(arrived_s, HORIZON_S))
    latency_s, slo_s = np.array(latencies_s[:num]), slo_s[:num]
    missed = (latency_s > slo_s) & (np.isfinite(latency_s) | (arrived_s[:num] + slo_s <= HORIZON_S))
    buckets = np.searchsorted(bucket_edges()[1:-1], latency_s[np.isfinite(latency_s)], side="right")
    latency = np.bincount(buckets, minlength=LATENCY_BUCKETS)
    response_s = float(latency @ _middles_s() / latency.sum())
    return Answers(np.array([response_s]), np.array([missed.mean()])), num, spent_s


def _request_processes(
    environment: simpy.Environment,
    num_servers: int,
    gaps_s: list[float],
    services_s: list[float],
    patience_s: list[float],
    latencies_s: list[float],
) -> None:
    """One process per request, which asks for one of the servers until its patience ends."""
    import simpy

    servers = simpy.Resource(environment, num_servers)

    def serve(index: int, service_s: float) -> Generator[simpy.Event, Any, None]:
        arrived_s, waits_s = environment.now, patience_s[index]
        with servers.request() as turn:
            if waits_s < math.inf:
                come = yield turn | environment.timeout(waits_s)
                if turn not in come:
                    return
            else:
                yield turn
            yield environment.timeout(service_s)
        latencies_s[index] = environment.now - arrived_s

    def arrive() -> Generator[simpy.Event, Any, None]:
        for index, (gap_s, service_s) in enumerate(zip(gaps_s, services_s, strict=True)):
            yield environment.timeout(gap_s)
            environment.process(serve(index, service_s))

    environment.process(arrive())


def _server_processes(
    environment: simpy.Environment,
    num_servers: int,
    gaps_s: list[float],
    services_s: list[float],
    patience_s: list[float],
    latencies_s: list[float],
) -> None:
    """One process per server, which takes requests from a common queue and skips those that have given up."""
    import simpy

    queue = simpy.Store(environment)

    def serve() -> Generator[simpy.Event, Any, None]:
        while True:
            index, arrived_s, service_s = yield queue.get()
            if environment.now - arrived_s >= patience_s[index]:
                continue
            yield environment.timeout(service_s)
            latencies_s[index] = environment.now - arrived_s

    def arrive() -> Generator[simpy.Event, Any, None]:
        for index, (gap_s, service_s) in enumerate(zip(gaps_s, services_s, strict=True)):
            yield environment.timeout(gap_s)
            queue.put((index, environment.now, service_s))

    for _ in range(num_servers):
        environment.process(serve())
    environment.process(arrive())
