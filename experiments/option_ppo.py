"""PPO on a scorer that all options share: one small net reads each (variant, pool) with the pooled context.

Imported on use only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv

from controller.forms import NUM_OPTION_FEATURES
from controller.observation import OBSERVATION_SIZE
from experiments.ppo import FromRule, named_layers
from experiments.train_config import PpoConfig


class Scorer(torch.nn.Module):
    """Scores of all options, (N, O), from (N, OBSERVATION_SIZE + O + O F): observation, last scores, features.

    Args:
        options: O.
        hidden: Width of the hidden layer; the critic has as many layers as named.
        critic: Widths of the critic's hidden layers.
    """

    def __init__(self, options: int, hidden: int, critic: tuple[int, ...]) -> None:
        super().__init__()
        self.options = options
        self.own = torch.nn.Linear(NUM_OPTION_FEATURES + 1, hidden)
        self.context = torch.nn.Linear(OBSERVATION_SIZE + NUM_OPTION_FEATURES, hidden)
        self.score = torch.nn.Linear(hidden, 1)
        # The critic sees what all options share and their mean, so its size does not grow with them.
        layers: list[torch.nn.Module] = []
        width = OBSERVATION_SIZE + NUM_OPTION_FEATURES
        for size in critic:
            layers += [torch.nn.Linear(width, size), torch.nn.Tanh()]
            width = size
        self.value_net = torch.nn.Sequential(*layers)
        self.latent_dim_pi, self.latent_dim_vf = options, width

    def forward(self, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores and what the value is read from."""
        return self.forward_actor(seen), self.forward_critic(seen)

    def forward_actor(self, seen: torch.Tensor) -> torch.Tensor:
        """Scores (N, O); 0 for what is no option."""
        _, last, features = self._parts(seen)
        own = self.own(torch.cat([features, last[:, :, None]], dim=2))
        hidden = torch.tanh(own + self.context(self._shared(seen))[:, None, :])
        scores: torch.Tensor = self.score(hidden)[:, :, 0]
        return scores * features[:, :, 0]

    def forward_critic(self, seen: torch.Tensor) -> torch.Tensor:
        """What the value is read from."""
        return torch.as_tensor(self.value_net(self._shared(seen)))

    def _parts(self, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        first, second = OBSERVATION_SIZE, OBSERVATION_SIZE + self.options
        features = seen[:, second:].reshape(len(seen), self.options, NUM_OPTION_FEATURES)
        return seen[:, :first], seen[:, first:second], features

    def _shared(self, seen: torch.Tensor) -> torch.Tensor:
        encoded, _, features = self._parts(seen)
        count = features[:, :, 0].sum(dim=1, keepdim=True).clamp(min=1.0)
        return torch.cat([encoded, features.sum(dim=1) / count], dim=1)


class OptionPolicy(ActorCriticPolicy):
    """Stable-Baselines3's actor and critic around a `Scorer`, whose scores are the mean action."""

    def _build_mlp_extractor(self) -> None:
        assert isinstance(self.action_space, spaces.Box)
        assert isinstance(self.net_arch, dict)
        critic = tuple(self.net_arch["vf"])
        self.mlp_extractor: Any = Scorer(self.action_space.shape[0], critic[0], critic)

    def _build(self, lr_schedule: Callable[[float], float]) -> None:
        super()._build(lr_schedule)
        self.action_net: Any = torch.nn.Identity()
        settings: dict[str, Any] = {"lr": lr_schedule(1), **self.optimizer_kwargs}
        self.optimizer = self.optimizer_class(self.parameters(), **settings)


class OptionPpo(FromRule, PPO):
    """PPO on scores of options; arguments as of `experiments.ppo.KnobPpo`."""

    def __init__(self, env: VecEnv, config: PpoConfig, seed: int, total_steps: int) -> None:
        torch.set_num_threads(config.torch_threads)
        self.config, self.total_steps = config, total_steps
        PPO.__init__(self, OptionPolicy, env, **self.arguments(seed))
        self.begin_as_rule()

    def named_parameters(self) -> dict[str, torch.Tensor]:
        """Parameters of the scorer."""
        scorer: Any = self.policy.mlp_extractor
        return {
            name: parameter
            for part in ("own", "context", "score")
            for name, parameter in named_layers([getattr(scorer, part)], part).items()
        }

    def begin_as_rule(self) -> None:
        """Makes every score 0."""
        scorer: Any = self.policy.mlp_extractor
        with torch.no_grad():
            for parameter in scorer.score.parameters():
                parameter.zero_()
