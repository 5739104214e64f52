"""Short replays for tuning and validation: stretches of a world's days, all policies under the same requests.

A whole day costs seconds to simulate and hundreds of candidates have to be compared, so each is judged on the same
stretches, spread evenly over the days and drawn by a seed within their share, so that every hour of the day is met.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from controller.arrays import F64
from controller.loop import DecisionLoop
from controller.ports import Policy
from envs.world import Cell, World
from experiments.objective import Outcome
from experiments.results import Tally
from experiments.rollout import begin, new_simulator, prepare


@dataclass(frozen=True, eq=False)
class StretchWorld(World):
    """A world whose cells are stretches instead of days; `Cell.day` counts them from 1."""

    begins_s: tuple[float, ...] = ()
    length_s: float = 0.0

    @property
    def cell_s(self) -> float:
        """Length of a stretch."""
        return self.length_s

    def start_s(self, cells: Sequence[Cell]) -> F64:
        """Trace time at which each stretch begins, shape (N,)."""
        return np.array([self.begins_s[cell.day - 1] for cell in cells], np.float64)


def stretched(world: World, count: int, length_s: float, seed: int) -> StretchWorld:
    """Stretches of a world's days.

    Args:
        world: Its `days` are what the stretches come from; they are consecutive.
        count: Stretches, >= 1.
        length_s: Length of each in seconds; cut to what the days hold.
        seed: Where in its share of the days each stretch lies.
    """
    day_s = world.setting.control.day_s
    first_s = (world.days[0] - 1) * day_s
    span_s = min(len(world.days) * day_s, world.rate_rps.shape[1] * world.bin_s - first_s)
    length_s = min(length_s, span_s)
    rng = np.random.default_rng([seed, 0x57E7])
    # Begins are spread over what leaves room for a whole stretch; equal shares, a random place in each.
    places = (np.arange(count) + rng.random(count)) / count * (span_s - length_s)
    tick_s = world.setting.control.tick_s
    begins_s = tuple(float(first_s + np.floor(place / tick_s) * tick_s) for place in places)
    inherited = {one.name: getattr(world, one.name) for one in fields(World)} | {"days": tuple(range(1, count + 1))}
    return StretchWorld(**inherited, begins_s=begins_s, length_s=length_s)


class Replay:
    """Judges policies on the same stretches.

    Args:
        world: Stretches.
        seed: Of requests, service times and market.
    """

    def __init__(self, world: StretchWorld, seed: int) -> None:
        self.world = world
        self._start = prepare(world, world.cells((seed,)))
        self._simulator = new_simulator(world, len(self._start.cells))

    def outcome(self, policy: Policy) -> Outcome:
        """What a policy comes to, one episode per stretch."""
        num_envs = len(self._start.cells)
        loop = DecisionLoop(self.world.setting, policy, num_envs)
        tally = Tally(self.world.setting, num_envs)
        seen = begin(self.world, self._start, self._simulator)
        for _ in range(self.world.cell_ticks):
            decision = loop.decide(seen)
            self._simulator.apply(decision.actions, decision.plan, decision.shares)
            seen = self._simulator.advance()
            tally.observed(seen)
        return Outcome(
            cost_usd=tally.spend_usd.sum(axis=1),
            arrivals=tally.arrivals,
            missed=tally.missed,
            answered=tally.answered,
            accuracy_sum=tally.accuracy_sum,
        )
