"""The Gymnasium environment and the native vector environment obey their contracts."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
from controller.rule_arrays import ACCURACY_TILT, NUM_KNOBS
from controller.scenario import load_scenario
from envs.stepper import EnvOptions
from envs.world import World, WorldChoice, build_world


@pytest.fixture(scope="module")
def world() -> World:
    scenario = load_scenario("tiny")
    return build_world(scenario, WorldChoice(days=scenario.splits.train))


def test_registered_env_passes_gymnasiums_checker() -> None:
    env = gym.make(envs.SERVING_ENV, scenario="tiny")
    check_env(env.unwrapped, skip_render_check=True)


def test_registered_env_passes_stable_baselines_checker() -> None:
    from stable_baselines3.common.env_checker import check_env as check_for_sb3

    check_for_sb3(gym.make(envs.SERVING_ENV, scenario="tiny").unwrapped)


def test_same_seed_gives_the_same_episode() -> None:
    runs = []
    for _ in range(2):
        env = gym.make(envs.SERVING_ENV, scenario="tiny")
        observation, _ = env.reset(seed=5)
        steps = [observation]
        for action in np.linspace(-1, 1, 5):
            observation, reward, _, _, info = env.step(np.full(NUM_KNOBS, action, np.float32))
            steps += [observation, np.array([reward, info["cost_usd"], info["requests"]])]
        runs.append(np.concatenate(steps))
    np.testing.assert_array_equal(runs[0], runs[1])


def test_another_seed_gives_another_episode() -> None:
    env = gym.make(envs.SERVING_ENV, scenario="tiny")
    requests = []
    for seed in (1, 2):
        env.reset(seed=seed)
        requests.append(env.step(np.zeros(NUM_KNOBS, np.float32))[4]["requests"])
    assert requests[0] != requests[1]


def test_zero_knobs_earn_nothing_against_the_twin(world: World) -> None:
    from envs.vector import ServingVecEnv

    vec = ServingVecEnv(world, 3, EnvOptions(episode_decisions=4), seed=1)
    vec.reset()
    for _ in range(6):
        _, rewards, _, _ = vec.step(np.zeros((3, NUM_KNOBS)))
        np.testing.assert_array_equal(rewards, 0.0)


def test_more_headroom_costs_more_than_the_twin(world: World) -> None:
    from envs.vector import ServingVecEnv

    vec = ServingVecEnv(world, 3, EnvOptions(episode_decisions=40, miss_weight=0.0), seed=1)
    vec.reset()
    knobs = np.zeros((3, NUM_KNOBS))
    knobs[:, 0] = 1.0
    total = sum(vec.step(knobs)[1] for _ in range(20))
    assert (total < 0).all()


def test_accuracy_below_the_floor_costs_its_usual_price_and_above_earns_it(world: World) -> None:
    from envs.vector import ServingVecEnv

    knobs = np.zeros((3, NUM_KNOBS))
    rewards, owed = {}, np.zeros(3)
    for weight in (0.0, 8.0):
        options = EnvOptions(episode_decisions=99, accuracy_weight=weight, twin=False)
        vec = ServingVecEnv(world, 3, options, seed=1)
        vec.reset()
        stepper, signs = vec.steppers[0], set()
        rewards[weight], before = np.zeros(3), np.zeros(3)
        for tilt in [-1.0] * 12 + [1.0] * 24:
            knobs[:, ACCURACY_TILT] = tilt
            rewards[weight] += vec.step(knobs)[1]
            totals, floors = stepper.simulator.totals, world.setting.workload.accuracy_floor
            owed = (floors * totals.answered - totals.accuracy_sum) @ stepper.rule_arrays.accuracy_usd
            signs |= set(np.sign(owed - before).tolist())
            before = owed
    assert {-1.0, 1.0} <= signs  # some was borrowed and some repaid
    charged = -8.0 * options.reward_scale * owed / stepper.reference_usd
    np.testing.assert_allclose(rewards[8.0] - rewards[0.0], charged, atol=1e-5)  # rewards are of single precision


def test_ended_episodes_report_their_last_observation_and_restart(world: World) -> None:
    from envs.vector import ServingVecEnv

    vec = ServingVecEnv(world, 2, EnvOptions(episode_decisions=3), seed=0)
    vec.reset()
    for step in range(1, 7):
        observation, _, ended, infos = vec.step(np.zeros((2, NUM_KNOBS)))
        assert ended.all() == (step % 3 == 0)
        if ended.all():
            assert infos[0]["TimeLimit.truncated"] is True
            assert infos[0]["episode"]["l"] == 3
            assert not np.array_equal(infos[0]["terminal_observation"], observation[0])


def test_results_do_not_depend_on_threads_or_on_the_number_of_envs(world: World) -> None:
    from envs.vector import ServingVecEnv

    options = EnvOptions(episode_decisions=4)
    seen = []
    for num_envs, threads in ((2, 1), (2, 2), (5, 2)):
        vec = ServingVecEnv(world, num_envs, options, seed=3, threads=threads)
        vec.reset()
        steps = [vec.step(np.full((num_envs, NUM_KNOBS), 0.3)) for _ in range(5)]
        seen.append(np.concatenate([np.concatenate([s[0][:2].ravel(), s[1][:2]]) for s in steps]))
    np.testing.assert_array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[0], seen[2])


def test_envs_of_several_worlds_step_as_they_would_alone(world) -> None:
    from controller.scenario import load_scenario
    from envs.vector import ServingVecEnv
    from envs.world import WorldChoice, build_world

    other = build_world(load_scenario("tiny"), WorldChoice(days=(2, 2)))
    options = EnvOptions(episode_decisions=3)
    knobs = np.random.default_rng(0).uniform(-1, 1, (7, 5, NUM_KNOBS)).astype(np.float32)

    def played(worlds, num_envs, columns, threads=1):
        vec = ServingVecEnv(worlds, num_envs, options, seed=3, threads=threads)
        found = [vec.reset()[columns]]
        for row in knobs:
            observation, rewards, ended, infos = vec.step(row[:num_envs])
            found += [observation[columns], rewards[columns], ended[columns]]
            assert [("episode" in info) for info in infos] == ended.tolist()
        return found

    both = played([world, other], 5, slice(0, 3))
    for found in (played(world, 3, slice(0, 3)), played([world, other], 5, slice(0, 3), threads=2)):
        assert all(np.array_equal(a, b) for a, b in zip(both, found, strict=True))


def test_every_world_needs_an_env(world) -> None:
    from controller.errors import ScenarioError
    from envs.vector import ServingVecEnv

    with pytest.raises(ScenarioError, match="num_envs: expected at least one for each of 2 worlds"):
        ServingVecEnv([world, world], 1)
