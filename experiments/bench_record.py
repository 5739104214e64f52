"""A stretch of a simulation whose decisions are recorded, to be run again and timed without them."""

from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import dataclass

import numpy as np

from controller.arrays import F64, ActionArrays, PlanArrays
from controller.loop import DecisionLoop
from controller.policies.predictive import MpcPolicy
from envs.simulator import Simulator, Snapshot
from envs.world import World

KERNEL_BLOCKS = 20
"""Repeats of a stretch, which are short: a fifth of a second of another process would spoil five of them."""

WARM_TICKS = 120


@dataclass(frozen=True)
class Recorded:
    """A simulator under a rule, the state a stretch of ticks began in and what was decided in each of them."""

    simulator: Simulator
    start: Snapshot
    decisions: list[tuple[ActionArrays, PlanArrays, F64]]

    def block(self) -> tuple[float, float]:
        """Runs the stretch again: requests that arrived and CPU seconds spent in the simulator."""
        self.simulator.restore(self.start)
        before = int(self.simulator.totals.arrivals.sum())
        started_s = time.process_time()
        for actions, plan, shares in self.decisions:
            self.simulator.apply(actions, plan, shares)
            self.simulator.advance()
        spent_s = time.process_time() - started_s
        return float(self.simulator.totals.arrivals.sum() - before), spent_s

    def best(self) -> tuple[float, float]:
        """Requests of the stretch, and how many per CPU second the best of some repeats served."""
        self.block()
        blocks = [self.block() for _ in range(KERNEL_BLOCKS)]
        return blocks[0][0], max(requests / spent_s for requests, spent_s in blocks)


def record(
    world: World, policy: MpcPolicy, num_envs: int, num_ticks: int, hedge_after_s: float | None = None
) -> Recorded:
    """Records a stretch from steady state on, with the envs spread evenly over the hours of the day."""
    setting = world.setting
    simulator = Simulator(setting, world.supply(), num_envs)
    cells = world.cells(range(num_envs))[:num_envs]
    loop = DecisionLoop(setting, policy, num_envs)
    stretch_s = (WARM_TICKS + num_ticks) * setting.control.tick_s
    hours = np.floor(np.linspace(0.0, setting.control.day_s - stretch_s, num_envs))
    observation = simulator.reset(np.arange(num_envs), world.start_s(cells) + hours, world.spot_start_s(cells))
    decisions = []
    for tick in range(WARM_TICKS + num_ticks):
        decision = loop.decide(observation)
        if hedge_after_s is not None:
            decision.plan.hedge_after_s[:] = hedge_after_s
        if tick == WARM_TICKS:
            start = simulator.snapshot()
        if tick >= WARM_TICKS:
            decisions.append(deepcopy((decision.actions, decision.plan, decision.shares)))
        simulator.apply(decision.actions, decision.plan, decision.shares)
        observation = simulator.advance()
    return Recorded(simulator, start, decisions)
