"""The training range of a policy's inputs, and the drift test's rate of false alarms on days that had no part in it."""

from dataclasses import replace

import numpy as np
import pytest

from controller.policies.learned import LearnedPolicy
from controller.policies.policy_file import load_policy_file, save_policy_file
from controller.scenario import load_scenario
from controller.trust.config import DriftConfig
from envs.world import WorldChoice, build_world
from experiments.input_range import HIGH, LOW, Stretches, false_alarms, input_range, inputs_on, with_input_range
from experiments.input_span import InputSpan
from experiments.train_config import ValidationConfig
from tests.networks import make_content

STRETCHES = Stretches(windows=4, window_s=3600.0, seed=3)


@pytest.fixture(scope="module")
def world():
    return build_world(load_scenario("tiny"), WorldChoice(days=(1, 1)))


@pytest.fixture(scope="module")
def held_out(world):
    return build_world(load_scenario("tiny"), WorldChoice(days=(2, 2)), setting=world.setting)


@pytest.fixture(scope="module")
def content(world):
    return make_content(world.setting, 0.2)


@pytest.fixture(scope="module")
def known(world, content):
    return input_range([world], [content, make_content(world.setting)], STRETCHES)


def test_range_covers_what_was_seen_but_for_the_rarest(world, content, known):
    seen = inputs_on(world, content, STRETCHES)
    assert seen.shape == (360, 4, len(known.low))
    outside = ((seen < known.low) | (seen > known.high)).mean()
    # The ends are quantiles over both policies: twice the share of one of them at most, and on either side.
    assert 0 < outside <= 2 * (LOW + 1 - HIGH)


def test_of_many_worlds_each_is_replayed_under_one_policy_by_turns(world, held_out, content, monkeypatch):
    contents = [content, make_content(world.setting)]
    whole = input_range([world, held_out], contents, STRETCHES)
    monkeypatch.setattr("experiments.input_range._FEW_WORLDS", 1)
    some = input_range([world, held_out], contents, STRETCHES)
    assert 2 * some.samples == whole.samples


def test_watching_a_policy_does_not_change_what_it_sees(world, content):
    once, again = (inputs_on(world, content, STRETCHES) for _ in range(2))
    np.testing.assert_array_equal(once, again)


def test_false_alarms_are_rare_on_another_day_and_certain_on_other_traffic(world, held_out, content, known):
    found = false_alarms([held_out], content, known, STRETCHES)
    print(f"false alarms: {found.alarms_per_day:.2f} a day, {found.share:.2%} of {found.ticks} ticks")
    assert found.ticks == 360 * 4
    assert found.share <= 0.01
    flooded = replace(held_out, rate_rps=held_out.rate_rps * 30)
    drifted = false_alarms([flooded], content, known, STRETCHES)
    print(f"at thirty times the traffic {drifted.share:.0%} of ticks")
    assert drifted.share > 0.5
    minutes = np.arange(held_out.rate_rps.shape[1]) // 60
    nervous = replace(held_out, rate_rps=held_out.rate_rps * np.where(minutes % 4 == 0, 8.0, 0.2))
    drifted = false_alarms([nervous], content, known, STRETCHES)
    print(f"in bursts of a minute {drifted.share:.0%} of ticks")
    assert drifted.share > 0.5


def test_stricter_test_fires_more(held_out, content, known):
    strict = false_alarms([held_out], content, known, STRETCHES, DriftConfig(margin=0.0, share=0.02, ticks=1))
    assert strict.ticks_on > false_alarms([held_out], content, known, STRETCHES).ticks_on
    assert strict.alarms_per_day == pytest.approx(strict.alarms / (4 * 3600 / 86400))


def test_file_says_what_its_inputs_were(world, held_out, content, tmp_path):
    validation = ValidationConfig(windows=2, window_s=1800.0)
    ranged = with_input_range(content, make_content(world.setting), [world], [held_out], validation)
    path = tmp_path / "policy.provisor"
    save_policy_file(path, ranged)
    read = load_policy_file(path)
    assert read.manifest.input_range == ranged.manifest.input_range
    assert set(read.manifest.metrics["drift"]) == {"false_alarm_share", "false_alarms_per_day", "ticks"}
    assert LearnedPolicy(world.setting, path).input_range == ranged.manifest.input_range
    assert LearnedPolicy(world.setting, content).input_range is None


def test_span_that_was_learned_from_is_the_range(world, held_out, content):
    size = len(content.tensors["knobs.0.weight"][0])
    span = InputSpan.over(np.stack([np.full(size, -3.0, np.float32), np.full(size, 7.0, np.float32)]))
    validation = ValidationConfig(windows=1, window_s=600.0)
    ranged = with_input_range(content, make_content(world.setting), [world], [held_out], validation, span)
    assert ranged.manifest.input_range == span.range
