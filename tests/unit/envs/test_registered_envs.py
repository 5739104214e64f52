"""Every registered id is what users of Gymnasium and Stable-Baselines3 expect, vectorised, wrapped and pickled."""

from __future__ import annotations

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit

import envs
from controller.errors import UsageError
from controller.rule_arrays import NUM_KNOBS
from envs.stepper import EnvOptions

NAMED = sorted(set(envs.IDS) - {envs.SERVING_ENV})
SHORT = EnvOptions(episode_decisions=3, twin=False)


def actions(steps: int, shape: tuple[int, ...] = (NUM_KNOBS,)) -> np.ndarray:
    return np.random.default_rng(7).uniform(-1, 1, (steps, *shape)).astype(np.float32)


def same(one: object, other: object) -> bool:
    """Equal in every bit, dicts and arrays alike."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return np.array_equal(np.asarray(one), np.asarray(other))


def test_six_named_scenarios_are_registered() -> None:
    assert [name.removeprefix("provisor/") for name in NAMED] == [
        "Burst-v0", "Diurnal-v0", "FlashCrowd-v0", "ManyClasses-v0", "SpotStorm-v0", "Steady-v0",
    ]  # fmt: skip
    assert set(envs.IDS) <= set(gym.registry)


@pytest.mark.parametrize("env_id", NAMED)
def test_named_env_passes_both_checkers(env_id: str) -> None:
    from stable_baselines3.common.env_checker import check_env as check_for_sb3

    env = gym.make(env_id)
    check_env(env.unwrapped, skip_render_check=True)
    check_for_sb3(env.unwrapped)


def test_render_modes_pass_gymnasiums_checker() -> None:
    check_env(gym.make("provisor/Steady-v0", scenario="tiny", render_mode="rgb_array").unwrapped)


@pytest.mark.parametrize("env_id", NAMED)
def test_named_envs_differ_in_what_arrives_or_who_asks_or_the_market(env_id: str) -> None:
    worlds = {name: gym.make(name).unwrapped.stepper.world for name in (env_id, "provisor/Steady-v0")}
    mine, steady = worlds[env_id], worlds["provisor/Steady-v0"]
    # Largest over mean load of a minute: 1.1 where only chance moves it.
    minute = int(60 / mine.bin_s)
    bins = mine.rate_rps.shape[1] // minute * minute
    by_minute = mine.rate_rps[0, :bins].reshape(-1, minute).mean(axis=1)
    peak = by_minute.max() / by_minute.mean()
    expected = {
        "Steady-v0": (1.0, 1.2), "Diurnal-v0": (1.5, 2.5), "SpotStorm-v0": (1.5, 2.5), "ManyClasses-v0": (1.5, 2.5),
        "Burst-v0": (2.5, 5.0), "FlashCrowd-v0": (3.5, 6.0),
    }[env_id.removeprefix("provisor/")]  # fmt: skip
    assert expected[0] < peak < expected[1]
    assert (len(mine.setting.class_names) > 6) == ("ManyClasses" in env_id)
    losses = [(np.diff(world.spot_share, axis=1) < 0).sum() / world.spot_share.shape[1] / world.spot_gap_s
              for world in (mine, steady)]  # fmt: skip
    assert (losses[0] > 3 * losses[1]) == ("SpotStorm" in env_id)


def test_many_classes_ask_for_different_promises() -> None:
    classes = gym.make("provisor/ManyClasses-v0").unwrapped.stepper.setting.scenario.workload.classes
    assert len({c.slo_s for c in classes}) == len({c.accuracy_floor for c in classes}) == len(classes) >= 6
    assert len({c.value_usd for c in classes}) == len(classes)


@pytest.mark.parametrize("env_id", NAMED)
def test_native_vector_env_is_made_by_id_and_resets_in_the_same_step(env_id: str) -> None:
    vec = gym.make_vec(env_id, num_envs=3, options=SHORT)
    assert vec.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    observation, info = vec.reset(seed=1)
    assert observation in vec.observation_space
    for step, action in enumerate(actions(4, (3, NUM_KNOBS)), start=1):
        observation, reward, terminated, truncated, info = vec.step(action)
        assert observation in vec.observation_space
        assert reward.shape == (3,)
        assert not terminated.any()
        assert truncated.tolist() == [step == 3] * 3
        assert ("final_obs" in info) == (step == 3)
    vec.close()


def test_native_and_sync_vector_envs_tell_the_same_keys() -> None:
    infos = []
    for mode in ("vector_entry_point", "sync"):
        kwargs = {"vector_kwargs": {"autoreset_mode": AutoresetMode.SAME_STEP}} if mode == "sync" else {}
        vec = gym.make_vec(envs.SERVING_ENV, 2, mode, scenario="tiny", options=SHORT, **kwargs)
        _, first = vec.reset(seed=1)
        for action in actions(3, (2, NUM_KNOBS)):
            last = vec.step(action)[4]
        infos.append((first, last))
        vec.close()

    def shape(value: object) -> object:
        return {key: shape(part) for key, part in value.items()} if isinstance(value, dict) else np.shape(value)

    assert shape(infos[0][0]) == shape(infos[1][0])
    assert shape(infos[0][1]) == shape(infos[1][1])


def test_one_env_of_the_native_vector_env_is_the_single_env() -> None:
    vec = gym.make_vec(envs.SERVING_ENV, 1, scenario="tiny", options=SHORT)
    env = gym.make(envs.SERVING_ENV, scenario="tiny", options=SHORT)
    assert np.array_equal(vec.reset(seed=4)[0][0], env.reset(seed=4)[0])
    for step, action in enumerate(actions(3), start=1):
        observation, reward, _, truncated, info = vec.step(action[None])
        alone = env.step(action)
        last = info["final_obs"][0] if step == 3 else observation[0]
        told = info["final_info"] if step == 3 else info
        assert np.array_equal(last, alone[0])
        assert reward[0] == alone[1]
        assert truncated[0] == alone[3]
        assert told["cost_usd"][0] == alone[4]["cost_usd"]
        assert told["cost_usd_by_term"]["idle"][0] == alone[4]["cost_usd_by_term"]["idle"]


def test_native_vector_env_ends_sooner_when_asked() -> None:
    vec = gym.make_vec(envs.SERVING_ENV, 2, scenario="tiny", max_episode_steps=2)
    vec.reset(seed=0)
    assert [bool(vec.step(action)[3].all()) for action in actions(4, (2, NUM_KNOBS))] == [False, True, False, True]
    with pytest.raises(UsageError, match="max_episode_steps: expected a number >= 1, got 0"):
        gym.make_vec(envs.SERVING_ENV, 2, scenario="tiny", max_episode_steps=0)


def test_native_vector_env_takes_one_seed() -> None:
    with pytest.raises(UsageError, match="seed: expected one number"):
        gym.make_vec(envs.SERVING_ENV, 2, scenario="tiny").reset(seed=[1, 2])


def test_time_limit_and_episode_statistics_wrap_it() -> None:
    env = RecordEpisodeStatistics(TimeLimit(gym.make(envs.SERVING_ENV, scenario="tiny").unwrapped, 4))
    env.reset(seed=0)
    steps = [env.step(action) for action in actions(4)]
    assert [step[3] for step in steps] == [False, False, False, True]
    assert steps[-1][4]["episode"]["l"] == 4
    assert steps[-1][4]["episode"]["r"] == pytest.approx(sum(step[1] for step in steps), rel=1e-5)
    assert gym.make(envs.SERVING_ENV, scenario="tiny", max_episode_steps=2).spec.max_episode_steps == 2


@pytest.mark.parametrize("copied", [lambda env: pickle.loads(pickle.dumps(env)), copy.deepcopy], ids=["pickle", "copy"])
def test_copied_env_goes_on_identically(copied) -> None:
    env = gym.make(envs.SERVING_ENV, scenario="tiny", options=SHORT, render_mode="ansi").unwrapped
    env.reset(seed=3)
    env.step(actions(1)[0])
    other = copied(env)
    for action in actions(2):
        assert same(env.step(action), other.step(action))
    assert same(env.reset(), other.reset())
    assert env.render() == other.render()
    assert other.spec.id == envs.SERVING_ENV


def test_restored_env_goes_on_identically_in_every_bit() -> None:
    env = gym.make(envs.SERVING_ENV, scenario="tiny", options=SHORT, render_mode="ansi").unwrapped
    env.reset(seed=3)
    env.step(actions(1)[0])
    snapshot = env.snapshot()

    def go_on() -> list[object]:
        # Past the end of the episode and into the next, whose seed is part of the state too.
        return [*(env.step(action) for action in actions(2)), env.render(), env.reset(), env.step(actions(1)[0])]

    first = go_on()
    env.restore(snapshot)
    assert same(first, go_on())
    env.restore(snapshot)
    assert same(first, go_on())


def test_snapshot_moves_to_another_env_made_with_the_same_arguments() -> None:
    env, other = (gym.make(envs.SERVING_ENV, scenario="tiny", options=SHORT).unwrapped for _ in range(2))
    env.reset(seed=3)
    other.reset(seed=8)
    other.restore(env.snapshot())
    for action in actions(2):
        assert same(env.step(action), other.step(action))


def test_snapshot_of_another_scenario_is_refused() -> None:
    env, other = (gym.make(envs.SERVING_ENV, scenario=name).unwrapped for name in ("tiny", "demo"))
    env.reset(seed=0)
    with pytest.raises(UsageError, match="snapshot: state.fleet.option: expected an array of shape"):
        other.restore(env.snapshot())


@pytest.mark.filterwarnings("ignore:.*:UserWarning:stable_baselines3")
def test_another_algorithm_learns_on_it() -> None:
    from stable_baselines3 import SAC

    env = gym.make("provisor/Steady-v0", scenario="tiny", options=EnvOptions(episode_decisions=10, twin=False))
    model = SAC("MlpPolicy", env, learning_starts=10, batch_size=8, buffer_size=100, policy_kwargs={"net_arch": [16]})
    model.learn(30)
    action, _ = model.predict(env.reset(seed=0)[0], deterministic=True)
    assert action in env.action_space
