"""Training environments go on from a snapshot as if nothing had happened, through the ends of episodes too."""

import numpy as np
import pytest

from controller.policies.predictive import MpcSettings
from controller.rule_arrays import NUM_KNOBS
from controller.scenario import load_scenario
from envs.world import WorldChoice, build_world
from experiments.base_rule import BaseRule
from experiments.train_config import PpoConfig, TrainConfig
from experiments.training_env import training_env

pytestmark = pytest.mark.filterwarnings("ignore:The `render_mode` attribute:UserWarning")  # Stable-Baselines3's own


@pytest.fixture(scope="module")
def make_env():
    scenario = load_scenario("tiny")
    world = build_world(scenario, WorldChoice(days=scenario.splits.train))
    ppo = PpoConfig(num_envs=3, rollout_decisions=2, batch_size=6)
    config = TrainConfig(episode_decisions=4, ppo=ppo)
    # The same envs twice over: what is kept of several worlds is put back to each.
    return lambda seed: training_env([world, world], config, BaseRule(MpcSettings(), None, {}, {}), seed)


def play(env, actions):
    return [env.step(action)[:3] for action in actions]


def test_restored_environments_repeat_what_followed_the_snapshot(make_env):
    actions = np.random.default_rng(0).uniform(-1, 1, (13, 3, NUM_KNOBS)).astype(np.float32)
    env = make_env(5)
    env.reset()
    play(env, actions[:3])
    snapshot = env.snapshot()
    expected = play(env, actions[3:])
    other = make_env(5)
    other.reset()
    other.restore(snapshot)
    found = play(other, actions[3:])
    for one, two in zip(expected, found, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert sum(ended.sum() for _, _, ended in expected) == 9  # episodes of 4 end at steps 4, 8 and 12 in 3 envs


def test_snapshot_is_not_changed_by_what_follows(make_env):
    env = make_env(1)
    env.reset()
    snapshot = env.snapshot()
    before = {name: array.copy() for name, array in snapshot.items()}
    play(env, np.zeros((5, 3, NUM_KNOBS), np.float32))
    assert all(
        np.array_equal(snapshot[name], before[name], equal_nan=before[name].dtype.kind == "f") for name in before
    )
    assert any(not np.array_equal(snapshot[name], array) for name, array in env.snapshot().items())
