"""Stand-ins for policy, decision path and simulator, whose results are worked out by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.arrays import (
    COMPUTE,
    F64,
    HISTORY_TICKS,
    I64,
    ActionArrays,
    ObservationArrays,
    PlanArrays,
    empty_actions,
    empty_observation,
    empty_plan,
)
from controller.compile import Setting
from controller.errors import UsageError
from controller.loop import Decision
from envs.world import World, WorldChoice, build_world


class PlainPolicy:
    """Plans `machines` small replicas on the first pool, one more on every other tick if it is nervous."""

    def __init__(self, setting: Setting, machines: int, nervous: bool = False) -> None:
        self.name = "plain"
        self._setting, self._machines, self._nervous = setting, machines, nervous
        self.reset(1)

    def reset(self, num_envs: int) -> None:
        self._ticks = 0
        self._forced: F64 | None = None
        self._plan = empty_plan(num_envs, self._setting.shape)

    def force_raw(self, raw: F64) -> None:
        self._forced = raw

    def decide(self, observation: ObservationArrays) -> PlanArrays:
        self._ticks += 1
        self._own = np.full((len(observation.tick), 1), self._machines + (self._nervous and self._ticks % 2) + 0.25)
        raw = self._own if self._forced is None else self._forced
        self._plan.replicas[:, 0, 0] = raw[:, 0].astype(np.int64)
        return self._plan

    def raw_output(self) -> F64:
        return self._own


class PlainLoop:
    """The decision path without guard and without compiled kernels."""

    def __init__(self, setting: Setting, policy: PlainPolicy, num_envs: int = 1) -> None:
        self._shape, self.policy = setting.shape, policy
        self.reset(num_envs)

    def reset(self, num_envs: int) -> None:
        self.policy.reset(num_envs)

    def decide(self, observation: ObservationArrays) -> Decision:
        num_envs, (v, p, c) = len(observation.tick), self._shape
        plan = self.policy.decide(observation)
        shares = np.zeros((num_envs, c, v, p))
        shares[:, :, 0, 0] = 1.0
        return Decision(plan, empty_actions(num_envs, self._shape), shares, self.policy.raw_output())


class PlainSimulator:
    """Plans come true at once; a replica answers 10 requests of a class per tick, the rest are missed."""

    def __init__(self, world: World, num_envs: int) -> None:
        self._world, self._num_envs = world, num_envs
        self.redundant = np.zeros((num_envs, 2, 3), np.int64)
        self.starts: list[tuple[int, ...]] = []

    def reset(self, seeds: I64, start_s: F64, spot_start_s: F64, replicas: I64) -> ObservationArrays:
        self.starts.append(tuple(seeds))
        self._seen = empty_observation(self._num_envs, self._world.setting.shape)
        self._arrivals = np.random.default_rng(seeds).poisson(25.0, (self._num_envs, 2))
        return self._seen

    def apply(self, actions: ActionArrays, plan: PlanArrays, shares: F64) -> None:
        self._seen.ready[...] = plan.replicas

    def advance(self) -> ObservationArrays:
        seen = self._seen
        answered = np.minimum(self._arrivals, 10 * seen.ready.sum(axis=(1, 2))[:, None])
        seen.tick[...] += 1
        seen.arrivals[...] = self._arrivals
        seen.history[:, :, (seen.tick[0] - 1) % HISTORY_TICKS] = self._arrivals
        seen.answered[...] = answered
        seen.missed[...] = self._arrivals - answered
        seen.accuracy_sum[...] = 0.8 * answered
        seen.latency[...] = 0
        seen.latency[:, :, 72] = answered  # 0.5 to 0.5625 s
        seen.spend_usd[:, COMPUTE] = 0.001 * seen.ready.sum(axis=(1, 2))
        return seen


@pytest.fixture
def plain_world(monkeypatch: pytest.MonkeyPatch, make_setting: Callable[..., Setting], tmp_path: Path) -> World:
    """A world of two test days of 20 minutes, run by stand-ins for policies, decision path and simulator."""
    setting = make_setting(speed=72.0, control={"tick_s": 720.0, "horizon_s": 720.0})

    def make(policy: Any, setting: Setting) -> PlainPolicy:
        if policy not in {"two", "three", "nervous", "mpc"}:
            raise UsageError(f"policy: expected one of two, three, nervous, got {policy!r}")
        return PlainPolicy(setting, 3 if policy == "three" else 2, nervous=policy == "nervous")

    monkeypatch.setattr("experiments.rollout.policy_in", lambda world, cells, policy: make(policy, world.setting))
    monkeypatch.setattr("controller.trust.again.make_policy", make)
    for module in ("experiments.rollout", "controller.trust.again"):
        monkeypatch.setattr(f"{module}.DecisionLoop", PlainLoop)
    simulators: list[PlainSimulator] = []

    def simulator(world: World, num_envs: int) -> PlainSimulator:
        simulators.append(PlainSimulator(world, num_envs))
        return simulators[-1]

    for module in ("experiments.rollout", "experiments.evaluate", "experiments.simulate"):
        monkeypatch.setattr(f"{module}.new_simulator", simulator)
    world = build_world(setting.scenario, WorldChoice(days=(3, 4)), setting)
    for module in ("experiments.evaluate", "experiments.simulate"):
        monkeypatch.setattr(f"{module}.load_scenario", lambda name: setting.scenario)
        monkeypatch.setattr(f"{module}.build_world", lambda scenario, choice: world)
    return world
