"""The simulator's own draws, handed to Ciw request by request.

Gaps, classes, options, coins and services are recomputed with the plain keyed draws, so Ciw meets the very requests
that the simulator meets under the same seed, and each must fare alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import ciw

from controller.arrays import F64, SHAPE_CELLS
from controller.keyed_random import CLASS, GAP, OPTION, OVERFLOW, ROUTER, SERVICE, stream_key, uniform
from envs.kernels.state import STREAMS
from tests.peer.our_side import service_table, supply_of
from tests.peer.scenarios import PeerScenario


def from_table(table: F64, u: float) -> float:
    """Value of a quantile table at probability `u`."""
    cell = int(u * SHAPE_CELLS)
    return float(table[cell] + (table[cell + 1] - table[cell]) * (u * SHAPE_CELLS - cell))


class Listed(ciw.dists.Distribution):
    """Gaps from a list, then never again."""

    def __init__(self, values: list[float]) -> None:
        self.values = iter([*values, math.inf])

    def sample(self, t: float | None = None, ind: Any = None) -> float:
        return next(self.values)

    def __deepcopy__(self, memo: Any) -> Listed:
        return self


class Keyed(ciw.dists.Distribution):
    """Service times by request and attempt."""

    def __init__(self, of: Callable[[int, int], float]) -> None:
        self.of = of

    def sample(self, t: float | None = None, ind: Any = None) -> float:
        attempt = sum(record.record_type == "interrupted service" for record in ind.data_records)
        return self.of(ind.id_number - 1, attempt)

    def __deepcopy__(self, memo: Any) -> Keyed:
        return self


class KeyedDoor(ciw.routing.NodeRouting):
    """Splits requests by share as their keyed draws say."""

    def __init__(self, of: Callable[[int], float], destinations: list[int], shares: list[float]) -> None:
        self.of, self.destinations, self.shares = of, destinations, shares

    def next_node(self, ind: Any) -> Any:
        u, edge = self.of(ind.id_number - 1), 0.0
        for destination, share in zip(self.destinations, self.shares, strict=True):
            edge += share
            if u < edge:
                return self.simulation.nodes[destination]
        return self.simulation.nodes[self.destinations[-1]]


class SameDraws:
    """The draws of one seed of the simulator."""

    def __init__(self, scenario: PeerScenario, seed: int) -> None:
        self.scenario = scenario
        self.keys = [stream_key(seed, stream) for stream in range(STREAMS)]
        self.table = service_table(scenario)
        self.arrivals = list(self._arrivals())

    def _arrivals(self) -> Any:
        """(class, time) of every request: gaps of mean 1 stretched by the rate."""
        scenario = self.scenario
        gaps = supply_of(scenario).gap_table()
        bin_s = scenario.horizon_s / len(scenario.rate_rps)
        identity, mass = 0, 0.0
        for position, rate in enumerate(scenario.rate_rps):
            while True:
                u = uniform(self.keys[GAP], identity, 0)
                gap = -math.log(1.0 - u) if scenario.gap_cv == 1.0 else from_table(gaps, u)
                left = mass + gap - sum(r * bin_s for r in scenario.rate_rps[:position])
                if left > rate * bin_s:
                    break
                mass += gap
                u = uniform(self.keys[CLASS], identity, 0)
                klass = 0 if u < scenario.classes[0].share else 1
                yield klass, position * bin_s + left / rate
                identity += 1

    def gaps(self, klass: int) -> Any:
        times_s = [0.0, *(at_s for k, at_s in self.arrivals if k == klass)]
        return Listed([after - before for before, after in pairwise(times_s)])

    def services(self, queue: int) -> Any:
        mean_s = self.scenario.queues[queue].mean_s
        return Keyed(lambda i, attempt: mean_s * from_table(self.table, uniform(self.keys[SERVICE], i, attempt)))

    def door(self, destinations: list[int]) -> Any:
        shares = [queue.share for queue in self.scenario.queues]
        key = self.keys[OPTION if self.scenario.routers == 1 else ROUTER]
        return KeyedDoor(lambda i: uniform(key, i, 0), destinations, shares)

    def coin(self, ind: Any) -> float:
        return uniform(self.keys[OVERFLOW], ind.id_number - 1, 0)
