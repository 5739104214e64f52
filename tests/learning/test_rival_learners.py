"""Rival learners find an optimum that others could not: options told apart by features, the past remembered."""

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from controller.forms import NUM_OPTION_FEATURES
from controller.observation import OBSERVATION_SIZE
from experiments.actors import actor_of
from experiments.train_config import PpoConfig, TrainConfig
from experiments.trainer import learner

pytestmark = [pytest.mark.learning, pytest.mark.timeout(900)]

OPTIONS, NUM_ENVS = 5, 32
PPO = PpoConfig(
    num_envs=NUM_ENVS,
    rollout_decisions=16,
    batch_size=128,
    hidden=(16,),
    burn_in_rollouts=1,
    learning_rate=5e-3,
    gamma=0.5,
    std=0.2,
)


class Guess(VecEnv):
    """Reward is minus the squared distance to what is right, which the observation of now or before tells."""

    def __init__(self, size, actions):
        super().__init__(NUM_ENVS, spaces.Box(-5, 5, (size,), np.float32), spaces.Box(-1, 1, (actions,), np.float32))
        self.rng, self.age = np.random.default_rng(0), 0
        self.right = np.zeros((NUM_ENVS, actions))

    def look(self):
        raise NotImplementedError  # each guessing game below shows something else

    def reset(self):
        self.age = 0
        return self.look()

    def step_async(self, actions):
        self.actions = actions

    def step_wait(self):
        rewards = -((self.actions - self.right) ** 2).sum(axis=1)
        self.age += 1
        is_over = self.age % 8 == 0
        seen = self.look()
        infos = [{"terminal_observation": one, "TimeLimit.truncated": True} if is_over else {} for one in seen]
        return seen, rewards.astype(np.float32), np.full(NUM_ENVS, is_over), infos

    def error(self, actor, decisions=64):
        """Mean squared distance of an actor's answers, of each action."""
        actor.reset(NUM_ENVS)
        seen, errors = self.reset(), []
        for _ in range(decisions):
            errors.append((np.clip(actor.act(seen), -1, 1) - self.right) ** 2)
            seen = self.look()
        return float(np.mean(errors[1:]))

    def close(self): ...

    def get_attr(self, attr_name, indices=None):
        return [None] * NUM_ENVS

    def set_attr(self, attr_name, value, indices=None): ...

    def env_method(self, method_name, *args, indices=None, **kwargs):
        return [None] * NUM_ENVS

    def env_is_wrapped(self, wrapper_class, indices=None):
        return [False] * NUM_ENVS


class ByOption(Guess):
    """An option's score should be 0.6 times its second feature, whatever its place; every option's is drawn anew."""

    def __init__(self):
        super().__init__(OBSERVATION_SIZE + OPTIONS * (1 + NUM_OPTION_FEATURES), OPTIONS)

    def look(self):
        features = np.zeros((NUM_ENVS, OPTIONS, NUM_OPTION_FEATURES), np.float32)
        features[:, :, 0] = 1.0
        features[:, :, 1] = self.rng.uniform(-1, 1, (NUM_ENVS, OPTIONS))
        self.right = 0.6 * features[:, :, 1]
        rest = np.zeros((NUM_ENVS, OBSERVATION_SIZE + OPTIONS), np.float32)
        return np.concatenate([rest, features.reshape(NUM_ENVS, -1)], axis=1)


class ByMemory(Guess):
    """The answer is 0.6 times what was seen one decision ago."""

    def __init__(self):
        super().__init__(1, 1)
        self.seen = np.zeros((NUM_ENVS, 1), np.float32)

    def look(self):
        self.right = 0.6 * self.seen
        self.seen = self.rng.choice([-1.0, 1.0], (NUM_ENVS, 1)).astype(np.float32)
        return self.seen


def learned_error(env, rollouts, **changes):
    config = TrainConfig(steps=PPO.rollout_steps * rollouts, ppo=PPO, **changes)
    model = learner(env, config, 0)
    model.learn(config.steps)
    return env.error(actor_of(config, model.tensors()))


def test_a_scorer_learns_what_an_option_is_worth_from_its_features():
    # Saying nothing errs by the variance of 0.6 x uniform: 0.12.
    assert learned_error(ByOption(), 12, action="per_option") < 0.03


def test_a_recurrent_learner_answers_by_what_it_saw_before():
    pytest.importorskip("sb3_contrib")
    # Without memory nothing beats 0, which errs by 0.36.
    assert learned_error(ByMemory(), 12, learner="recurrent_ppo") < 0.12
