"""`provisor/Serving-v0`: one world as a Gymnasium environment.

    import gymnasium as gym
    import envs
    env = gym.make("provisor/Serving-v0", scenario="demo")
    observation, info = env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())

Dynamics, observation and reward of a version never change; a change gets the next version.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from controller.arrays import BILL_TERMS
from controller.scenario import Scenario, load_scenario
from envs.stepper import EnvOptions, Stepper
from envs.world import WorldChoice, build_world

F32 = NDArray[np.float32]


class ServingEnv(gym.Env[F32, F32]):
    """One serving system whose `mpc` rule is steered by knobs.

    Observation: `controller.observation.FIELDS`, float32 in [-5, 5], catalog-free, the same length for any catalog.
    Action: `controller.rule_arrays.KNOBS`, [-1, 1] each; zero is the rule, bit for bit. It holds for one decision.
    Reward: -(bill / rent of the rule's machines at the mean rate + miss_weight x dial x misses / mean requests)
    x reward_scale;
    with `twin`, minus the same of a twin with zero knobs under the same seed.
    Ends: never terminates; truncated after `episode_decisions` decisions.
    Info: cost_usd (by bill term and total), requests, missed, shed and preempted of the episode so far, attainment,
    accuracy, time_s.

    Args:
        scenario: Name or path of a scenario, or the scenario itself; its training days are used.
        options: Length of an episode, reward, and what is randomised; without a twin by default.
    """

    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012 - Gymnasium reads this class attribute as a plain dict

    def __init__(
        self,
        scenario: str | Scenario = "default",
        options: EnvOptions | None = None,
        render_mode: str | None = None,
    ) -> None:
        if isinstance(scenario, str):
            scenario = load_scenario(scenario)
        world = build_world(scenario, WorldChoice(days=scenario.splits.train))
        self.render_mode = render_mode
        self.stepper = Stepper(world, 1, options or replace(EnvOptions(), twin=False))
        self.observation_space = self.stepper.observation_space
        self.action_space = self.stepper.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[F32, dict[str, Any]]:
        """Starts an episode; time of the trace, spot market, fleet and accuracy debt follow from the seed."""
        super().reset(seed=seed)
        del options
        self.stepper.seed = int(self.np_random.integers(0, 2**62))
        self.stepper.episodes[:] = 0
        return self.stepper.reset()[0], self._info()

    def step(self, action: F32) -> tuple[F32, float, bool, bool, dict[str, Any]]:
        """Runs one decision under the knobs in `action`; `truncated` is the episode's end, there is no other."""
        knobs = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        observation, rewards, ended = self.stepper.step(knobs[None])
        return observation[0], float(rewards[0]), False, bool(ended[0]), self._info()

    def render(self) -> str | None:
        """One line on load, fleet and promises, in mode `ansi`."""
        if self.render_mode != "ansi":
            return None
        observed, info = self.stepper.simulator.observation, self._info()
        rate = float(observed.arrivals[0].sum()) / self.stepper.setting.control.tick_s
        return (
            f"t {info['time_s']:8.0f} s  {rate:7.1f} req/s  ready {observed.ready[0].sum():3d}  "
            f"starting {observed.starting[0].sum():3d}  doomed {observed.doomed[0].sum():3d}  "
            f"queued {observed.waiting[0].sum():4d}  ${info['cost_usd']:8.4f}  "
            f"attainment {info['attainment']:.4f}  accuracy {info['accuracy']:.4f}"
        )

    def _info(self) -> dict[str, Any]:
        totals = self.stepper.simulator.totals
        return {
            **self.stepper.outcome(0),
            "cost_usd_by_term": dict(zip(BILL_TERMS, totals.spend_usd[0].tolist(), strict=True)),
            "requests": int(totals.arrivals[0].sum()),
            "missed": int(totals.missed[0].sum()),
            "shed": int(totals.shed[0].sum()),
            "preempted": int(totals.preempted[0].sum()),
            "time_s": float(self.stepper.simulator.observation.time_s[0]),
        }
