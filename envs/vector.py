"""The native vector environment: all envs step in one compiled call, each acting on the knobs of the `mpc` rule.

An action holds for one decision (`ticks_per_decision` ticks); the rule acts every tick. With `twin`, each env has a
twin with zero knobs under the same seed, and the reward is the difference: what the knobs were worth, free of the luck
of the trace. Import on use: Stable-Baselines3 and torch cost seconds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from controller.arrays import F64
from controller.rule_arrays import NUM_KNOBS
from envs.stepper import EnvOptions, Stepper
from envs.world import World

F32 = NDArray[np.float32]


class ServingVecEnv(VecEnv):
    """N envs of one world as a Stable-Baselines3 `VecEnv`; observation and reward are described in `envs.serving_env`.

    Args:
        world: Where episodes take place; they start at random times of its days.
        num_envs: N.
        options: Length of an episode, reward, and what is randomised.
        seed: Everything random in the envs depends on it.
        threads: Threads that share the envs; results do not depend on it.
    """

    def __init__(
        self, world: World, num_envs: int, options: EnvOptions | None = None, seed: int = 0, threads: int = 1
    ) -> None:
        self.stepper = Stepper(world, num_envs, options or EnvOptions(), seed, threads)
        self.render_mode = None
        super().__init__(num_envs, self.stepper.observation_space, self.stepper.action_space)
        self._knobs: F64 = np.zeros((num_envs, NUM_KNOBS))
        self._started_s = time.monotonic()

    def reset(self) -> F32:
        """Starts a new episode in every env."""
        return self.stepper.reset()

    def step_async(self, actions: NDArray[Any]) -> None:
        """Takes the knobs of the next step, (N, K) in [-1, 1]."""
        self._knobs = np.clip(np.asarray(actions, np.float64), -1.0, 1.0)

    def step_wait(self) -> VecEnvStepReturn:
        """Runs one decision in every env; an env whose episode ended is reset at once."""
        observation, rewards, ended = self.stepper.step(self._knobs)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if ended.any():
            last = observation.copy()
            for n in np.flatnonzero(ended):
                infos[n] = {
                    "terminal_observation": last[n],
                    "TimeLimit.truncated": True,
                    "episode": {
                        "r": float(self.stepper.episode_return[n]),
                        "l": int(self.stepper.decisions[n]),
                        "t": round(time.monotonic() - self._started_s, 3),
                    },
                    **self.stepper.outcome(int(n)),
                }
                observation = self.stepper.restart(int(n))
        return observation, rewards.astype(np.float32), ended, infos

    def close(self) -> None:
        """Nothing to release."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The attribute, once per env asked for; all envs share it."""
        return [getattr(self, attr_name)] * len(self._indices(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Sets an attribute that all envs share."""
        del indices
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Calls a method of the vector env, once per env asked for."""
        return [getattr(self, method_name)(*method_args, **method_kwargs) for _ in self._indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Any = None) -> list[bool]:
        """No env is wrapped: they are rows of arrays."""
        del wrapper_class
        return [False] * len(self._indices(indices))

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Sets the seed of the episodes that start from now on."""
        if seed is not None:
            self.stepper.seed = seed
        return [seed] * self.num_envs

    def _indices(self, indices: Any) -> Sequence[int]:
        return list(self._get_indices(indices))
