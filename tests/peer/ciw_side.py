"""A scenario in Ciw, and its records in the simulator's terms.

A network has one node per queue. Where there are several, node 1 is a door without service that all requests pass
through at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import ciw
import numpy as np

from tests.peer.replications import Replications, bucketed, joined
from tests.peer.scenarios import PeerScenario

PREEMPTION = {"launch": "resume", "turnover": False, "outage": "resample"}
"""What Ciw does with services at a shift. It replaces all servers there, so a launch is a replacement under which
services go on where they were."""

FATES = ("service", "renege", "rejection", "under way")
"""Types of an individual's last record: answered, failed, shed; without one it waits or is in service."""

SERVED = ("service", "interrupted service")


class Draws(Protocol):
    """Where Ciw's randomness comes from."""

    def gaps(self, klass: int) -> Any:
        """Distribution of the gaps between a class's arrivals."""

    def services(self, queue: int) -> Any:
        """Distribution of the service times behind a queue."""

    def door(self, destinations: list[int]) -> Any:
        """Router of a split by share."""

    def coin(self, ind: Any) -> float:
        """Uniform draw that decides whether a request overflows."""


class OwnDraws:
    """Ciw's own distributions and generators."""

    def __init__(self, scenario: PeerScenario, seed: int) -> None:
        self.scenario = scenario
        ciw.seed(seed)

    def gaps(self, klass: int) -> Any:
        scenario, share = self.scenario, self.scenario.classes[klass].share
        rates = [rate * share for rate in scenario.rate_rps]
        if len(rates) > 1:
            ends_s = [scenario.horizon_s * (i + 1) / len(rates) for i in range(len(rates))]
            return ciw.dists.PoissonIntervals(rates, ends_s, scenario.horizon_s)
        if scenario.gap_cv == 1.0:
            return ciw.dists.Exponential(rates[0])
        assert share == 1.0, "a share of renewal arrivals is no renewal process"
        return ciw.dists.Gamma(scenario.gap_cv**-2, scenario.gap_cv**2 / rates[0])

    def services(self, queue: int) -> Any:
        scenario, mean_s = self.scenario, self.scenario.queues[queue].mean_s
        if scenario.service == "constant":
            return ciw.dists.Deterministic(mean_s)
        if scenario.service == "exponential":
            return ciw.dists.Exponential(1.0 / mean_s)
        variance = math.log1p(scenario.service_cv**2)
        return ciw.dists.Lognormal(math.log(mean_s) - variance / 2, math.sqrt(variance))

    def door(self, destinations: list[int]) -> Any:
        return ciw.routing.Probabilistic(destinations, [queue.share for queue in self.scenario.queues])

    def coin(self, ind: Any) -> float:
        return float(ciw.rng.random())


class OverflowDoor(ciw.routing.NodeRouting):
    """Sends an arrival to the second node with a probability if too many wait at the first."""

    def __init__(self, scenario: PeerScenario, draws: Draws, destinations: list[int]) -> None:
        self.scenario, self.draws, self.destinations = scenario, draws, destinations

    def next_node(self, ind: Any) -> Any:
        first, second = (self.simulation.nodes[i] for i in self.destinations)
        waiting = first.number_of_individuals - first.c
        goes = waiting >= self.scenario.overflow_queue and self.draws.coin(ind) < self.scenario.overflow_fraction
        return second if goes else first


def simulate(scenario: PeerScenario, draws: Draws) -> ciw.Simulation:
    """Runs one replication up to the horizon."""
    has_door = len(scenario.queues) > 1
    classes = [f"class {k}" for k in range(len(scenario.classes))]
    nodes = range(len(scenario.queues))
    arguments: dict[str, Any] = {
        "arrival_distributions": {
            name: [draws.gaps(k)] + [None] * (len(nodes) if has_door else 0) for k, name in enumerate(classes)
        },
        "service_distributions": {
            name: [ciw.dists.Deterministic(0.0)] * has_door + [draws.services(i) for i in nodes] for name in classes
        },
        "number_of_servers": [math.inf] * has_door + [_servers(scenario, i) for i in nodes],
    }
    if has_door:
        destinations = [i + 2 for i in nodes]
        door = draws.door(destinations)
        if scenario.overflow_queue is not None:
            door = OverflowDoor(scenario, draws, destinations)
        routers = [door, *(ciw.routing.Leave() for _ in nodes)]
        arguments["routing"] = {name: ciw.routing.NetworkRouting(routers) for name in classes}
    if scenario.refuses:
        arguments["queue_capacities"] = [scenario.classes[0].queue_limit or 0]
    if any(c.drops for c in scenario.classes):
        arguments["reneging_time_distributions"] = {
            name: [ciw.dists.Deterministic(c.slo_s) if c.drops else None]
            for name, c in zip(classes, scenario.classes, strict=True)
        }
    simulation = ciw.Simulation(ciw.create_network(**arguments))
    simulation.simulate_until_max_time(scenario.horizon_s)
    return simulation


def _servers(scenario: PeerScenario, queue: int) -> Any:
    if scenario.change is None:
        spare = scenario.overflow_queue is not None and scenario.queues[queue].is_serverless
        return math.inf if spare else scenario.queues[queue].servers
    servers, ends_s = [s for _, s in scenario.shifts], [end_s for end_s, _ in scenario.shifts]
    ends_s[-1] += 1.0  # the schedule begins again after its end
    return ciw.Schedule(servers, ends_s, preemption=PREEMPTION[scenario.change])


def run(scenario: PeerScenario, draws: Callable[[PeerScenario, int], Draws], seeds: list[int]) -> Replications:
    """One replication per seed, each with its own source of randomness."""
    return joined([records(scenario, simulate(scenario, draws(scenario, seed))) for seed in seeds])


def records(scenario: PeerScenario, simulation: ciw.Simulation) -> Replications:
    """Counts of one replication, from the records of its individuals and from those still under way."""
    has_door, end_s = len(scenario.queues) > 1, scenario.horizon_s
    rows = []
    busy_s = 0.0
    for ind in simulation.get_all_individuals():
        done = [r for r in ind.data_records if r.node > has_door or r.record_type == "rejection"]
        arrived_s = ind.data_records[0].arrival_date if ind.data_records else ind.arrival_date
        network_s, fate, left_s = 0.0, "under way", math.inf
        if ind.node == -1:
            fate, left_s = done[-1].record_type, done[-1].exit_date
            network_s = scenario.queues[done[-1].node - 1 - has_door].network_s
        elif ind.service_start_date is not False:
            busy_s += end_s - ind.service_start_date
        busy_s += sum(r.exit_date - r.service_start_date for r in done if r.record_type in SERVED)
        rows.append((int(ind.customer_class.split()[1]), arrived_s, left_s, network_s, FATES.index(fate)))
    klass, arrived_s, left_s, network_s, fate = (np.array(column) for column in zip(*rows, strict=True))
    answered, failed, shed, under_way = (fate == i for i in range(len(FATES)))
    latency_s = np.where(answered, left_s - arrived_s + network_s, 0.0)
    slo_s = np.array([c.slo_s for c in scenario.classes])[klass]
    missed = failed | shed | (answered & (latency_s > slo_s)) | (under_way & (arrived_s + slo_s <= end_s))
    edges_s = np.arange(1, round(end_s / scenario.tick_s) + 1) * scenario.tick_s
    of_class = [klass == k for k in range(len(scenario.classes))]

    def counts(those: Any) -> Any:
        return np.array([[int((those & mine).sum()) for mine in of_class]])

    def in_system(mine: Any) -> float:
        came = np.searchsorted(np.sort(arrived_s[mine]), edges_s, side="right")
        went = np.searchsorted(np.sort(left_s[mine]), edges_s, side="right")
        return float((came - went).mean())

    return Replications(
        arrivals=counts(np.ones(len(klass), np.bool_)),
        answered=counts(answered),
        missed=counts(missed),
        failed=counts(failed),
        shed=counts(shed),
        latency=np.array([[bucketed(latency_s[answered & mine]) for mine in of_class]]),
        in_system=np.array([[in_system(mine) for mine in of_class]]),
        busy_s=np.array([busy_s]),
    )
