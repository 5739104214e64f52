"""Short replays for tuning and validation: stretches of a world's days, all policies under the same requests.

A whole day costs seconds to simulate and hundreds of candidates have to be compared, so each is judged on the same
stretches, spread evenly over the days and drawn by a seed within their share, so that every hour of the day is met.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Generic, TypeVar

import numpy as np

from controller.loop import DecisionLoop
from controller.ports import Policy
from envs.compiled_runs import run_compiled
from envs.joint_world import JointWorld
from envs.world import Cell, World
from experiments.objective import Outcome
from experiments.results import Tally
from experiments.rollout import begin, new_simulator, prepare

WorldT = TypeVar("WorldT", bound=World)


@dataclass(frozen=True, eq=False)
class StretchWorld(JointWorld):
    """A world whose cells are stretches instead of days; `Cell.day` counts them from 1."""

    length_s: float = 0.0

    @property
    def cell_s(self) -> float:
        """Length of a stretch."""
        return self.length_s


def stretched(world: World, count: int, length_s: float, seed: int) -> StretchWorld:
    """Stretches of a world's days; of a joint world each lies within one day, and all days get as many or one more.

    Args:
        world: Its `days` are what the stretches come from; they are consecutive.
        count: Stretches, >= 1.
        length_s: Length of each in seconds; cut to what the days hold.
        seed: Where in its share of the days each stretch lies.
    """
    control = world.setting.control
    if isinstance(world, JointWorld):
        length_s = min(length_s, world.cell_s)
    else:
        first_s = (world.days[0] - 1) * control.day_s
        length_s = min(length_s, len(world.days) * control.day_s, world.rate_rps.shape[1] * world.bin_s - first_s)
    rng = np.random.default_rng([seed, 0x57E7])
    # Begins are spread over what leaves room for a whole stretch; equal shares, a random place in each.
    places = (np.arange(count) + rng.random(count)) / count
    market_s = (0.0, world.spot_share.shape[1] * world.spot_gap_s)
    spans_s, parts = (market_s,) * count, ((world.trace_name, 0),) * count
    if isinstance(world, JointWorld):
        found = [world.stretch_start(float(place), length_s) for place in places]
        starts_s = [start_s for _, start_s in found]
        spans_s = tuple(world.spot_spans_s[cell] for cell, _ in found)
        parts = tuple(world.parts[cell] for cell, _ in found)
    else:
        starts_s = [world.episode_start(float(place), 0.0, length_s)[0] for place in places]
    begins_s = tuple(float(np.floor(start_s / control.tick_s) * control.tick_s) for start_s in starts_s)
    inherited = {one.name: getattr(world, one.name) for one in fields(World)} | {"days": tuple(range(1, count + 1))}
    return StretchWorld(**inherited, begins_s=begins_s, spot_spans_s=spans_s, parts=parts, length_s=length_s)


class Replay(Generic[WorldT]):
    """Judges policies on the same cells of a world.

    Args:
        world: Days, or stretches of them.
        seed: Of requests, service times and market.
        cells: Some of the world's cells; None: all of them.
    """

    def __init__(self, world: WorldT, seed: int, cells: Sequence[Cell] | None = None) -> None:
        self.world = world
        self._start = prepare(world, world.cells((seed,)) if cells is None else cells)
        self._simulator = new_simulator(world, len(self._start.cells))

    @property
    def cells(self) -> tuple[Cell, ...]:
        """What is replayed, one episode each."""
        return self._start.cells

    def outcome(self, policy: Policy) -> Outcome:
        """What a policy comes to, one episode per cell."""
        num_envs = len(self._start.cells)
        begin(self.world, self._start, self._simulator)
        if run_compiled(policy, self._simulator, self.world.cell_ticks):
            totals = self._simulator.totals
            return Outcome(
                cost_usd=totals.spend_usd.sum(axis=1),
                arrivals=totals.arrivals.copy(),
                missed=totals.missed.copy(),
                answered=totals.answered.copy(),
                accuracy_sum=totals.accuracy_sum.copy(),
            )
        loop = DecisionLoop(self.world.setting, policy, num_envs)
        tally = Tally(self.world.setting, num_envs)
        seen = self._simulator.observe()
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
