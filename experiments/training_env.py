"""The environments of a training, whose whole state can be saved and put back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from envs.stepper import EnvOptions
from envs.vector import ServingVecEnv
from envs.world import World
from experiments.base_rule import BaseRule
from experiments.train_config import TrainConfig


class TrainingEnv(ServingVecEnv):
    """Environments that go on from a snapshot as if nothing had happened."""

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Copies of every array that changes."""
        return {
            f"{index}.{name}": array
            for index, stepper in enumerate(self.steppers)
            for name, array in stepper.snapshot().items()
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Goes on from a snapshot of environments made with the same arguments."""
        for index, stepper in enumerate(self.steppers):
            own = f"{index}."
            stepper.restore({name.removeprefix(own): one for name, one in arrays.items() if name.startswith(own)})


def training_env(
    world: World | Sequence[World], config: TrainConfig, base: BaseRule, seed: int, *, twin: bool | None = None
) -> TrainingEnv:
    """The environments that a seed is trained in, of one world or of several; `twin` replaces the config's."""
    options = EnvOptions(
        episode_decisions=config.episode_decisions,
        miss_weight=config.miss_weight,
        accuracy_weight=config.accuracy_weight,
        twin=config.twin if twin is None else twin,
        randomise_dial=config.randomise_dial,
        start_fleet=config.start_fleet,
        start_debt=config.start_debt,
        action=config.action,
        base=base.settings,
        forecast=base.forecast,
    )
    return TrainingEnv(world, config.ppo.num_envs, options, seed, config.env_threads)
