"""PPO on a knob network: Stable-Baselines3's, with a critic burn-in and a first action that is the rule itself.

Imported on use only: torch and Stable-Baselines3 take seconds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from controller.rule_arrays import KNOBS
from experiments.train_config import PpoConfig


class FromRule(OnPolicyAlgorithm):
    """Mixed into a learner: its actor starts as the zero action and stays frozen until the critic saw some rollouts.

    An untrained critic's advantages are noise; following them in the first rollouts unlearns the rule the policy starts
    from.
    """

    config: PpoConfig
    total_steps: int

    @property
    def rollouts_done(self) -> int:
        """Rollouts collected so far."""
        return int(self.num_timesteps) // self.config.rollout_steps

    def train(self) -> None:
        """Updates the nets from the last rollout; during burn-in only the critic."""
        is_frozen = self.rollouts_done <= self.config.burn_in_rollouts
        for parameter in self.actor_parameters():
            parameter.requires_grad_(not is_frozen)
        super().train()

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """What decides of the networks, by name."""
        return {name: one.detach().numpy().astype(np.float32) for name, one in self.named_parameters().items()}

    def put_tensors(self, tensors: Mapping[str, NDArray[np.float32]]) -> None:
        """Begins with what `tensors` gave."""
        with torch.no_grad():
            for name, parameter in self.named_parameters().items():
                parameter.copy_(torch.from_numpy(tensors[name]))

    def named_parameters(self) -> dict[str, torch.Tensor]:
        """Parameters of the mean action's network by the names that `tensors` gives them."""
        modules = [*self.policy.mlp_extractor.policy_net, self.policy.action_net]
        return named_layers([module for module in modules if isinstance(module, torch.nn.Linear)])

    def actor_parameters(self) -> list[torch.Tensor]:
        """What is frozen during burn-in."""
        return [*self.named_parameters().values(), self.policy.log_std]

    def learning_rate_now(self, _progress: float) -> float:
        """The rate of an update: the one at the begin of its rollout, so that the last update is not one of rate 0."""
        # Stable-Baselines3's own progress counts within one call of `learn`; a run is many calls.
        seen = int(self.__dict__.get("num_timesteps", 0)) - self.config.rollout_steps
        return self.config.learning_rate * min(1.0 - seen / self.total_steps, 1.0)

    def begin_as_rule(self) -> None:
        """Makes the mean action 0."""
        with torch.no_grad():
            for parameter in self.policy.action_net.parameters():
                parameter.zero_()

    def arguments(self, seed: int, **policy: Any) -> dict[str, Any]:
        """Arguments of the algorithm as the settings have them, with more of them for the policy."""
        config = self.config
        return {
            "learning_rate": self.learning_rate_now,
            "n_steps": config.rollout_decisions,
            "batch_size": config.batch_size,
            "n_epochs": config.epochs,
            "gamma": config.gamma,
            "gae_lambda": config.gae_lambda,
            "clip_range": config.clip,
            "ent_coef": config.entropy,
            "policy_kwargs": {
                "net_arch": {"pi": list(config.hidden), "vf": list(config.hidden)},
                "activation_fn": torch.nn.Tanh,
                "log_std_init": math.log(config.std),
                **policy,
            },
            "seed": seed,
            "device": "cpu",
        }


class KnobPpo(FromRule, PPO):
    """PPO on a network of dense layers.

    Args:
        env: Environments to learn in; its spaces are boxes.
        config: Settings.
        seed: Of weights, exploration and environments.
        total_steps: Decisions at which the learning rate reaches 0.
    """

    def __init__(self, env: VecEnv, config: PpoConfig, seed: int, total_steps: int) -> None:
        torch.set_num_threads(config.torch_threads)
        self.config, self.total_steps = config, total_steps
        PPO.__init__(self, "MlpPolicy", env, **self.arguments(seed))
        self.begin_as_rule()
        with torch.no_grad():
            for name, std in config.knob_std.items():
                self.policy.log_std[KNOBS.index(name)] = math.log(std)


def named_layers(layers: Sequence[torch.nn.Linear], prefix: str = "knobs") -> dict[str, torch.Tensor]:
    """Weights and biases of dense layers as a policy file names them."""
    named = {}
    for layer, module in enumerate(layers):
        named[f"{prefix}.{layer}.weight"], named[f"{prefix}.{layer}.bias"] = module.weight, module.bias
    return named


def zero_tensors(observation_size: int, hidden: tuple[int, ...], num_knobs: int) -> dict[str, NDArray[np.float32]]:
    """A knob network that always answers zero: the rule."""
    sizes = (observation_size, *hidden, num_knobs)
    tensors: dict[str, NDArray[np.float32]] = {}
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        tensors[f"knobs.{layer}.weight"] = np.zeros((outputs, inputs), np.float32)
        tensors[f"knobs.{layer}.bias"] = np.zeros(outputs, np.float32)
    return tensors


def same_tensors(one: Mapping[str, NDArray[np.float32]], other: Mapping[str, NDArray[np.float32]]) -> bool:
    """Whether two networks are equal bit for bit."""
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
