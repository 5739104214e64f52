"""PPO on a knob network with a memory: sb3-contrib's RecurrentPPO, an LSTM before the dense layers.

Imported on use only; needs the `study` extra.
"""

from __future__ import annotations

from typing import Any

import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.vec_env import VecEnv

from experiments.ppo import FromRule
from experiments.train_config import PpoConfig


class RecurrentKnobPpo(FromRule, RecurrentPPO):
    """RecurrentPPO that begins as the rule; arguments as of `experiments.ppo.KnobPpo`."""

    def __init__(self, env: VecEnv, config: PpoConfig, seed: int, total_steps: int) -> None:
        torch.set_num_threads(config.torch_threads)
        self.config, self.total_steps = config, total_steps
        RecurrentPPO.__init__(self, "MlpLstmPolicy", env, **self.arguments(seed, lstm_hidden_size=config.hidden[0]))
        self.begin_as_rule()

    def named_parameters(self) -> dict[str, torch.Tensor]:
        """Parameters of the actor's LSTM and dense layers."""
        policy: Any = self.policy
        lstm = {f"lstm.{name}": parameter for name, parameter in policy.lstm_actor.named_parameters()}
        return {**lstm, **super().named_parameters()}
