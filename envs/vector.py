"""The native vector environment: all envs step in one compiled call, each acting on the knobs of the `mpc` rule.

An action holds for one decision (`ticks_per_decision` ticks); the rule acts every tick. With `twin`, each env has a
twin with zero knobs under the same seed, and the reward is the difference: what the knobs were worth, free of the luck
of the trace. Import on use: Stable-Baselines3 and torch cost seconds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from controller.arrays import F64, Bool
from controller.errors import ScenarioError, mismatch
from envs.stepper import EnvOptions, Stepper
from envs.world import World

F32 = NDArray[np.float32]


class ServingVecEnv(VecEnv):
    """N envs of one or several worlds as a Stable-Baselines3 `VecEnv`; `envs.serving_env` describes what they give.

    Args:
        world: Where episodes take place, starting at random times of its days. Of several worlds, which may differ in
            catalog and classes, each has as many envs or one fewer than those before it.
        num_envs: N, at least the number of worlds.
        options: Length of an episode, reward, and what is randomised.
        seed: Everything random in the envs depends on it.
        threads: Threads that share the envs; results do not depend on it.

    Raises:
        ScenarioError: There are more worlds than envs, or their actions differ in size.
    """

    def __init__(
        self,
        world: World | Sequence[World],
        num_envs: int,
        options: EnvOptions | None = None,
        seed: int = 0,
        threads: int = 1,
    ) -> None:
        worlds = [world] if isinstance(world, World) else list(world)
        if not 1 <= len(worlds) <= num_envs:
            raise ScenarioError(mismatch("num_envs", f"at least one for each of {len(worlds)} worlds", num_envs))
        sizes = [num_envs // len(worlds) + (index < num_envs % len(worlds)) for index in range(len(worlds))]
        options = options or EnvOptions()
        inner = threads if len(worlds) == 1 else 1
        self.steppers = tuple(
            Stepper(one, size, options, _seed_of(seed, index), inner)
            for index, (one, size) in enumerate(zip(worlds, sizes, strict=True))
        )
        first = self.steppers[0]
        for stepper in self.steppers[1:]:
            if (stepper.action_space, stepper.observation_space) != (first.action_space, first.observation_space):
                what = f"as many variants and pools as in {first.setting.scenario.name} for action '{options.action}'"
                raise ScenarioError(mismatch(stepper.setting.scenario.name, what, stepper.setting.shape[:2]))
        self._firsts = np.cumsum([0, *sizes])
        self._pool = ThreadPoolExecutor(threads) if threads > 1 and len(worlds) > 1 else None
        self.render_mode = None
        super().__init__(num_envs, first.observation_space, first.action_space)
        self._actions: F64 = np.zeros((num_envs, *(first.action_space.shape or ())))
        self._started_s = time.monotonic()

    def reset(self) -> F32:
        """Starts a new episode in every env."""
        return np.concatenate([stepper.reset() for stepper in self.steppers])

    def step_async(self, actions: NDArray[Any]) -> None:
        """Takes the actions of the next step, (N, A) in [-1, 1]: knobs, or what `EnvOptions.action` says."""
        self._actions = np.clip(np.asarray(actions, np.float64), -1.0, 1.0)

    def step_wait(self) -> VecEnvStepReturn:
        """Runs one decision in every env; an env whose episode ended is reset at once."""
        numbers = range(len(self.steppers))
        found = (
            [self._step(index) for index in numbers] if self._pool is None else [*self._pool.map(self._step, numbers)]
        )
        observation = np.concatenate([one[0] for one in found])
        rewards = np.concatenate([one[1] for one in found]).astype(np.float32)
        ended = np.concatenate([one[2] for one in found])
        return observation, rewards, ended, [info for one in found for info in one[3]]

    def _step(self, index: int) -> tuple[F32, F64, Bool, list[dict[str, Any]]]:
        """One decision in the envs of one world."""
        stepper, first = self.steppers[index], self._firsts[index]
        observation, rewards, ended = stepper.step(self._actions[first : first + stepper.num_envs])
        infos: list[dict[str, Any]] = [{} for _ in range(stepper.num_envs)]
        if ended.any():
            last = observation.copy()
            for n in np.flatnonzero(ended):
                infos[n] = {
                    "terminal_observation": last[n],
                    "TimeLimit.truncated": True,
                    "episode": {
                        "r": float(stepper.episode_return[n]),
                        "l": int(stepper.decisions[n]),
                        "t": round(time.monotonic() - self._started_s, 3),
                    },
                    **stepper.outcome(int(n)),
                }
                observation = stepper.restart(int(n))
        return observation, rewards, ended, infos

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
            for index, stepper in enumerate(self.steppers):
                stepper.seed = _seed_of(seed, index)
        return [seed] * self.num_envs

    def _indices(self, indices: Any) -> Sequence[int]:
        return list(self._get_indices(indices))


def _seed_of(seed: int, index: int) -> int:
    """Seed of the envs of one world: of one world its envs are told apart by their number, so the next gets another."""
    return seed if index == 0 else int(np.random.SeedSequence([seed, index]).generate_state(1)[0])
