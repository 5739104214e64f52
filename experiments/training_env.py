"""The environments of a training, whose whole state can be saved and put back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.stepper import EnvOptions
from envs.vector import ServingVecEnv
from envs.world import World
from experiments.base_rule import BaseRule
from experiments.train_config import TrainConfig

_SIMULATOR_PARTS = ("state", "observation", "totals")
_STEPPER_PARTS = (
    "rule_state",
    "plan",
    "actions",
    "shares",
    "knobs",
    "dial",
    "encoded",
    "decisions",
    "episodes",
    "episode_return",
)


class TrainingEnv(ServingVecEnv):
    """Environments that go on from a snapshot as if nothing had happened.

    The rest of an episode is a function of these arrays, and the next one of the seed and the number of episodes so
    far, which is one of them.
    """

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Copies of every array that changes."""
        return {name: array.copy() for name, array in self._arrays()}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Goes on from a snapshot of environments made with the same arguments."""
        for name, array in self._arrays():
            array[...] = arrays[name]

    def _arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        stepper = self.stepper
        for name in _SIMULATOR_PARTS:
            yield from _leaves(name, getattr(stepper.simulator, name))
        for name in _STEPPER_PARTS:
            yield from _leaves(name, getattr(stepper, name))


def _leaves(name: str, value: object) -> Iterator[tuple[str, NDArray[Any]]]:
    """Arrays of a tree of named tuples, with their paths."""
    if isinstance(value, np.ndarray):
        yield name, value
    elif isinstance(value, tuple):
        for field, part in zip(getattr(value, "_fields", range(len(value))), value, strict=True):
            yield from _leaves(f"{name}.{field}", part)


def training_env(world: World, config: TrainConfig, base: BaseRule, seed: int) -> TrainingEnv:
    """The environments that a seed is trained in."""
    options = EnvOptions(
        episode_decisions=config.episode_decisions,
        miss_weight=config.miss_weight,
        twin=config.twin,
        randomise_dial=config.randomise_dial,
        base=base.settings,
        forecast=base.forecast,
    )
    return TrainingEnv(world, config.ppo.num_envs, options, seed, config.env_threads)
