"""What judges a rival learner in numpy says what its networks say in training."""

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")
pytest.importorskip("torch")

import torch
from gymnasium import spaces

from controller.forms import NUM_OPTION_FEATURES
from controller.observation import OBSERVATION_SIZE
from experiments.actors import actor_of
from experiments.train_config import PpoConfig, TrainConfig
from experiments.trainer import learner
from tests.unit.experiments.test_trainer import MatchEnv

OPTIONS = 6


class Boxes(MatchEnv):
    """Random observations of a given size; nothing is learned here."""

    def __init__(self, size, actions):
        super().__init__(4, 0)
        self.observation_space = spaces.Box(-5, 5, (size,), np.float32)
        self.action_space = spaces.Box(-1, 1, (actions,), np.float32)

    def _observe(self):
        self.counter += 1
        self.x = np.zeros(self.num_envs)
        drawn = np.random.default_rng(self.counter).normal(size=(self.num_envs, *self.observation_space.shape))
        return np.clip(drawn, -5, 5).astype(np.float32)


def made(size, actions, **changes):
    ppo = PpoConfig(num_envs=4, rollout_decisions=4, batch_size=16, hidden=(8, 6), burn_in_rollouts=0)
    config = TrainConfig(steps=16, ppo=ppo, **changes)
    model = learner(Boxes(size, actions), config, 0)
    model.put_tensors(
        {
            name: np.random.default_rng(len(name)).normal(0, 0.4, array.shape).astype(np.float32)
            for name, array in model.tensors().items()
        }
    )
    return model, actor_of(config, model.tensors())


def test_a_scorer_says_the_same_and_nothing_of_what_is_no_option():
    size = OBSERVATION_SIZE + OPTIONS * (1 + NUM_OPTION_FEATURES)
    model, actor = made(size, OPTIONS, action="per_option")
    seen = model.env.reset()
    features = seen[:, OBSERVATION_SIZE + OPTIONS :].reshape(4, OPTIONS, NUM_OPTION_FEATURES)
    features[:, :, 0] = 1.0
    features[:, 2] = 0.0
    with torch.no_grad():
        expected = model.policy.get_distribution(torch.from_numpy(seen)).mode().numpy()
    found = actor.act(seen)
    assert found == pytest.approx(expected, abs=1e-5)
    assert not found[:, 2].any()
    assert found[:, [0, 1]].any()


def test_a_scorer_knows_options_by_what_they_are_not_by_their_place():
    size = OBSERVATION_SIZE + OPTIONS * (1 + NUM_OPTION_FEATURES)
    model, actor = made(size, OPTIONS, action="per_option")
    seen = model.env.reset()
    order = np.array([3, 1, 0, 5, 4, 2])
    mixed = seen.copy()
    mixed[:, OBSERVATION_SIZE : OBSERVATION_SIZE + OPTIONS] = seen[:, OBSERVATION_SIZE : OBSERVATION_SIZE + OPTIONS][
        :, order
    ]
    features = seen[:, OBSERVATION_SIZE + OPTIONS :].reshape(4, OPTIONS, NUM_OPTION_FEATURES)
    mixed[:, OBSERVATION_SIZE + OPTIONS :] = features[:, order].reshape(4, -1)
    assert actor.act(mixed) == pytest.approx(actor.act(seen)[:, order], abs=1e-6)


def test_an_lstm_says_the_same_from_memory():
    pytest.importorskip("sb3_contrib")
    model, actor = made(5, 3, learner="recurrent_ppo")
    actor.reset(4)
    states, starts = None, np.ones(4, bool)
    for _ in range(4):
        seen = model.env.reset()
        expected, states = model.policy.predict(seen, states, starts, deterministic=True)
        starts[:] = False
        assert np.clip(actor.act(seen), -1, 1) == pytest.approx(expected, abs=1e-5)
    first = actor.act(seen)
    actor.reset(4)
    assert not np.allclose(actor.act(seen), first)


@pytest.mark.parametrize("changes", [{"learner": "recurrent_ppo"}, {"action": "direct"}, {"action": "per_option"}])
def test_every_learner_begins_with_the_zero_action(changes):
    if "learner" in changes:
        pytest.importorskip("sb3_contrib")
    size = OBSERVATION_SIZE + OPTIONS * (1 + NUM_OPTION_FEATURES)
    config = TrainConfig(
        steps=16, ppo=PpoConfig(num_envs=4, rollout_decisions=4, batch_size=16, hidden=(8,)), **changes
    )
    model = learner(Boxes(size, OPTIONS), config, 0)
    actor = actor_of(config, model.tensors())
    actor.reset(4)
    assert not actor.act(model.env.reset()).any()
