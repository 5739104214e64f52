"""Many serving systems as one Gymnasium vector environment, stepped in one compiled call.

`gym.make_vec` takes it unless told another vectorization. An env whose episode ended is reset in the same step
(`AutoresetMode.SAME_STEP`): the observation is the first of the next episode, the last one is `infos["final_obs"]`.
Import on use: the kernels cost seconds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from controller.arrays import F64, Bool
from controller.errors import UsageError, mismatch
from controller.rule_arrays import KNOB_RANGE
from controller.scenario import Scenario, load_scenario
from envs.info import info_of, info_of_all
from envs.serving_env import DEFAULT_OPTIONS
from envs.stepper import EnvOptions, Stepper
from envs.world import WorldChoice, build_world

F32 = NDArray[np.float32]


class ServingVectorEnv(gym.vector.VectorEnv[F32, F32, NDArray[Any]]):
    """N envs of one scenario; one env of it is a `ServingEnv`.

    Args:
        num_envs: N, >= 1.
        scenario: Name or path of a scenario, or the scenario itself; its training days are used.
        options: As for `ServingEnv`.
        max_episode_steps: Truncates sooner than `options.episode_decisions`, as Gymnasium's `TimeLimit` does.
        threads: Threads that share the envs; results do not depend on it.

    Raises:
        UsageError: `max_episode_steps` is below 1.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012 - Gymnasium reads a dict

    def __init__(
        self,
        num_envs: int = 1,
        scenario: str | Scenario = "default",
        options: EnvOptions | None = None,
        max_episode_steps: int | None = None,
        threads: int = 1,
    ) -> None:
        if isinstance(scenario, str):
            scenario = load_scenario(scenario)
        options = options or DEFAULT_OPTIONS
        if max_episode_steps is not None:
            if max_episode_steps < 1:
                raise UsageError(mismatch("max_episode_steps", "a number >= 1", max_episode_steps))
            options = replace(options, episode_decisions=min(options.episode_decisions, max_episode_steps))
        world = build_world(scenario, WorldChoice(days=scenario.splits.train))
        self.num_envs = num_envs
        self.stepper = Stepper(world, num_envs, options, threads=threads)
        self.single_observation_space = self.stepper.observation_space
        self.single_action_space = self.stepper.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[F32, dict[str, Any]]:
        """Starts an episode in every env.

        Args:
            seed: One number for all envs, which differ by their place; None goes on from the last one.
            options: None are known.

        Raises:
            UsageError: `seed` is a list.
        """
        if isinstance(seed, list):
            raise UsageError(mismatch("seed", "one number for all envs, or None", seed))
        super().reset(seed=seed)
        self.stepper.seed = int(self.np_random.integers(0, 2**62))
        self.stepper.episodes[:] = 0
        return self.stepper.reset(), info_of_all(self.stepper)

    def step(self, actions: F32) -> tuple[F32, F64, Bool, Bool, dict[str, Any]]:
        """Runs one decision in every env; none ever terminates."""
        observation, rewards, ended = self.stepper.step(np.clip(np.asarray(actions, np.float64), *KNOB_RANGE))
        last: dict[str, Any] = {}
        if ended.any():
            final = observation
            for n in np.flatnonzero(ended).tolist():
                last = self._add_info(last, {"final_obs": final[n], "final_info": info_of(self.stepper, n)}, n)
                observation = self.stepper.restart(n)
        return observation, rewards.copy(), np.zeros(self.num_envs, np.bool_), ended, last | info_of_all(self.stepper)
