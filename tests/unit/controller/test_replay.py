"""A learned policy's journal is decided from the recorded knobs, and the network's own are compared with them."""

import numpy as np
import pytest

from controller.arrays import empty_observation
from controller.compile import compile_scenario
from controller.forecast import LEVELS, new_forecast
from controller.loop import DecisionLoop
from controller.observation import OBSERVATION_SIZE
from controller.policies.learned import LearnedPolicy, content_of
from controller.policies.policy_file import TrainingRecord
from controller.policies.predictive import MpcSettings
from controller.rule_arrays import HEADROOM, NUM_KNOBS
from controller.scenario import load_scenario
from controller.trust.again import RawReplayable


@pytest.fixture
def learned() -> LearnedPolicy:
    """A policy whose network says 0.25 for every knob, whatever it sees."""
    setting = compile_scenario(load_scenario("tiny"))
    record = TrainingRecord(trace="t", scenario="tiny", train_days=(1, 1), validation_days=(2, 2), seeds=(0,), steps=1)
    tensors = {
        "knobs.0.weight": np.zeros((1, OBSERVATION_SIZE), np.float32),
        "knobs.0.bias": np.zeros(1, np.float32),
        "knobs.1.weight": np.zeros((NUM_KNOBS, 1), np.float32),
        "knobs.1.bias": np.full(NUM_KNOBS, np.arctanh(0.25), np.float32),
    }
    content = content_of(
        setting,
        tensors,
        settings=MpcSettings(),
        forecast=new_forecast(LEVELS, hidden=(2, 2)),
        hidden=(1,),
        catalog="any",
        training=record,
        metrics={},
    )
    return LearnedPolicy(setting, content)


def test_plan_follows_the_recorded_knobs_and_raw_output_stays_the_networks(learned: LearnedPolicy) -> None:
    assert isinstance(learned, RawReplayable)
    loop = DecisionLoop(learned.setting, learned)
    seen = empty_observation(1, learned.setting.shape)
    seen.history[...] = 100.0
    own = loop.decide(seen)
    need_rps = float(own.plan.need_rps[0])
    forced = own.raw.copy()
    forced[0, HEADROOM] = 1.0
    loop.reset(1)
    learned.force_raw(forced)
    again = loop.decide(seen)
    assert float(again.plan.need_rps[0]) > need_rps
    np.testing.assert_array_equal(again.raw, own.raw)
    loop.reset(1)
    learned.force_raw(own.raw)
    assert float(loop.decide(seen).plan.need_rps[0]) == need_rps
    # Forced once: the network drives the next plan again.
    np.testing.assert_array_equal(learned.knobs, own.raw)
