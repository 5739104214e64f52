"""Training environments go on from a snapshot as if nothing had happened, through the ends of episodes too."""

import numpy as np
import pytest

from controller.forms import FORMS, seen_size
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
    base = BaseRule(MpcSettings(), None, {}, {})

    def make(seed, action="knobs", **told):
        return training_env([world, world], config.model_copy(update={"action": action, **told}), base, seed)

    return make


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


def test_episodes_start_with_the_fleets_and_debts_that_are_told(make_env):
    def starts(**told):
        env = make_env(7, **told)
        env.reset()
        observed = [stepper.simulator.observation for stepper in env.steppers]
        fleets = np.concatenate([one.ready.sum(axis=(1, 2)) for one in observed])
        answered = np.concatenate([one.day_answered for one in observed])
        lacking = np.concatenate([one.day_accuracy_sum for one in observed]) / np.maximum(answered, 1)
        return fleets, answered, lacking

    own, none, _ = starts(start_fleet=(1.0, 1.0), start_debt=0.0)
    twice, _, _ = starts(start_fleet=(2.0, 2.0), start_debt=0.0)
    assert (none == 0).all()
    assert twice.sum() == pytest.approx(2 * own.sum(), rel=0.1)
    _, answered, little = starts(start_debt=1e-3)
    _, _, much = starts(start_debt=1e-1)
    assert (answered > 0).all()
    assert np.ptp(little, axis=0).max() < 0.01 < np.ptp(much, axis=0).min()


@pytest.mark.parametrize("form", FORMS)
def test_rewards_are_against_the_rule_and_zero_is_the_rule_but_for_direct(make_env, form):
    env = make_env(2, form)
    seen = env.reset()
    assert seen.shape == (3, seen_size(form, env.steppers[0].setting.shape))
    assert env.observation_space.contains(seen[0])
    nothing = np.zeros((3, *env.action_space.shape), np.float32)
    rewards = np.stack([env.step(nothing)[1] for _ in range(3)])
    assert rewards.any() == (form == "direct")


def test_a_restored_environment_of_another_form_repeats_what_followed(make_env):
    rng = np.random.default_rng(0)
    one, other = make_env(4, "per_option"), make_env(4, "per_option")
    actions = rng.uniform(-1, 1, (6, 3, *one.action_space.shape)).astype(np.float32)
    one.reset()
    play(one, actions[:2])
    snapshot = one.snapshot()
    expected = play(one, actions[2:])
    other.reset()
    other.restore(snapshot)
    for first, second in zip(expected, play(other, actions[2:]), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
