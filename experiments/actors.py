"""Trained networks that no policy file holds, as actors of `controller.policies.forms.FormPolicy`; numpy alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from controller.arrays import F64
from controller.forms import NUM_OPTION_FEATURES
from controller.observation import OBSERVATION_SIZE
from controller.policies.forms import Actor
from experiments.dense import dense
from experiments.train_config import TrainConfig

F32 = NDArray[np.float32]


class DenseActor:
    """A network of dense layers (`experiments.ppo`)."""

    def __init__(self, tensors: Mapping[str, F32]) -> None:
        self._tensors = tensors

    def reset(self, num_envs: int) -> None:
        """Nothing to forget."""

    def act(self, seen: F32) -> F64:
        """Actions, (N, A)."""
        return dense(self._tensors, seen)


class OptionActor:
    """A scorer that all options share (`experiments.option_ppo`)."""

    def __init__(self, tensors: Mapping[str, F32]) -> None:
        self._tensors = tensors

    def reset(self, num_envs: int) -> None:
        """Nothing to forget."""

    def act(self, seen: F32) -> F64:
        """Scores, (N, O)."""
        options = (seen.shape[1] - OBSERVATION_SIZE) // (1 + NUM_OPTION_FEATURES)
        encoded, last = seen[:, :OBSERVATION_SIZE], seen[:, OBSERVATION_SIZE : OBSERVATION_SIZE + options]
        features = seen[:, OBSERVATION_SIZE + options :].reshape(len(seen), options, NUM_OPTION_FEATURES)
        count = np.maximum(features[:, :, 0].sum(axis=1, keepdims=True), 1.0)
        shared = np.concatenate([encoded, features.sum(axis=1) / count], axis=1)
        own = dense(self._tensors, np.concatenate([features, last[:, :, None]], axis=2), "own")
        hidden = np.tanh(own + dense(self._tensors, shared, "context")[:, None, :])
        return np.asarray(dense(self._tensors, hidden, "score")[:, :, 0] * features[:, :, 0])


class LstmActor:
    """An LSTM before dense layers (`experiments.recurrent_ppo`); remembers each env."""

    def __init__(self, tensors: Mapping[str, F32]) -> None:
        self._tensors = tensors
        self._width = tensors["lstm.weight_hh_l0"].shape[1]

    def reset(self, num_envs: int) -> None:
        """Forgets every env."""
        self._hidden, self._cell = np.zeros((num_envs, self._width)), np.zeros((num_envs, self._width))

    def act(self, seen: F32) -> F64:
        """Knobs, (N, K)."""
        one = self._tensors
        gates = seen.astype(np.float64) @ one["lstm.weight_ih_l0"].T + one["lstm.bias_ih_l0"]
        gates = gates + self._hidden @ one["lstm.weight_hh_l0"].T + one["lstm.bias_hh_l0"]
        taken, kept, candidate, shown = np.split(gates, 4, axis=1)  # torch's order: i, f, g, o
        self._cell = _sigmoid(kept) * self._cell + _sigmoid(taken) * np.tanh(candidate)
        self._hidden = _sigmoid(shown) * np.tanh(self._cell)
        return dense(one, self._hidden)


def actor_of(config: TrainConfig, tensors: Mapping[str, F32]) -> Actor:
    """The actor that a training with these settings learned."""
    if config.learner == "recurrent_ppo":
        return LstmActor(tensors)
    return OptionActor(tensors) if config.action == "per_option" else DenseActor(tensors)


def _sigmoid(values: F64) -> F64:
    return 0.5 * (1.0 + np.tanh(0.5 * values))
