"""A person sees the episode: a picture and a few lines of text, of load, capacity, misses, latency and cost."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import RenderCollection

import envs
from controller.errors import UsageError
from controller.rule_arrays import NUM_KNOBS
from envs.serving_env import ServingEnv
from envs.stepper import EnvOptions

ZERO = np.zeros(NUM_KNOBS, np.float32)


def made(mode: str | None, scenario: str = "tiny") -> gym.Env:
    return gym.make(envs.SERVING_ENV, scenario=scenario, render_mode=mode, options=EnvOptions(6, twin=False))


def test_text_has_a_line_for_each_thing_that_is_watched() -> None:
    env = made("ansi")
    env.reset(seed=0)
    for _ in range(5):
        _, _, _, _, info = env.step(ZERO)
    lines = env.render().splitlines()
    assert lines[0].startswith("tiny: 0.08 of 0.10 h, decision 5 of 6")
    assert [line.split()[0] for line in lines[1:]] == ["load", "capacity", "missed", "latency", "cost"]
    assert f"${info['cost_usd']:.4f} so far" in lines[-1]
    assert f"{100 * info['missed'] / info['requests']:.2f} % so far" in lines[3]
    assert max(map(len, lines)) <= 120


def test_text_has_a_mark_per_decision() -> None:
    env = made("ansi")
    env.reset(seed=0)
    for steps in range(3):
        marks = [line.split()[1] for line in env.render().splitlines()[1:]]
        assert [len(mark) for mark in marks] == [steps + 1] * 5
        env.step(ZERO)


def test_frames_are_pictures_of_one_size_that_change() -> None:
    env = RenderCollection(made("rgb_array"))
    env.reset(seed=0)
    for _ in range(2):
        env.step(ZERO)
    frames = env.render()
    assert len(frames) == 3
    for frame in frames:
        assert frame.dtype == np.uint8
        assert frame.shape == (800, 960, 3)
    assert (frames[1] != frames[2]).any()
    assert env.metadata["render_fps"] > 0


def test_a_picture_before_the_first_reset_is_empty() -> None:
    env = made("rgb_array").unwrapped
    assert env.render().shape == (800, 960, 3)
    assert made("ansi").unwrapped.render() == "no episode has begun"


def test_an_env_made_without_a_mode_says_so_and_keeps_no_timeline() -> None:
    env = made(None).unwrapped
    env.reset(seed=0)
    env.step(ZERO)
    with pytest.warns(UserWarning, match="without a render_mode"):
        assert env.render() is None
    assert env.snapshot().points == ()


def test_an_unknown_mode_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="render_mode: expected one of ansi, rgb_array or None, got 'text'"):
        ServingEnv("tiny", render_mode="text")


def test_a_timeline_adds_up_to_the_info() -> None:
    env = made("ansi").unwrapped
    env.reset(seed=0)
    for _ in range(4):
        _, _, _, _, info = env.step(ZERO)
    points = env.snapshot().points
    arrived = sum(point.load_rps.sum() for point in points[1:]) * env.stepper.step_s
    assert arrived == pytest.approx(info["requests"])
    assert sum(point.missed.sum() for point in points) == info["missed"]
    assert points[-1].cost_usd.sum() == pytest.approx(info["cost_usd"])
    assert points[-1].hours == pytest.approx(4 / 60)
