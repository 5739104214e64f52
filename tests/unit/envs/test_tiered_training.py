"""Training on tiers: the environment's policy sees steps as classes, and its plans carry the cascades."""

import numpy as np
import pytest

from controller.errors import ScenarioError
from controller.loop import DecisionLoop
from controller.policies.registry import make_policy
from controller.rule_arrays import NUM_KNOBS
from envs.simulator import Simulator
from envs.stepper import EnvOptions, Stepper
from envs.world import WorldChoice, build_world
from tests.tiered import ALONE, IN_TURN, request_class, tiered_setting
from tests.tiny import LARGE, MEDIUM, SMALL

pytestmark = pytest.mark.timeout(900)  # may be the first to compile the kernels

SETTING = tiered_setting(
    request_class("turn", 0.5, IN_TURN), request_class("alone", 0.25, ALONE), request_class("plain", 0.25)
)
STEPS = [[SMALL, LARGE, -1], [MEDIUM, -1, -1], [-1, -1, -1]]
PLAIN = EnvOptions(twin=False, random_start=False, randomise_dial=False)


@pytest.fixture(scope="module")
def world():
    return build_world(SETTING.scenario, WorldChoice(days=(1, 1)), SETTING)


def test_zero_knobs_are_the_rule_under_tiers(world):
    stepper = Stepper(world, 1, PLAIN)
    stepper.reset()
    loop = DecisionLoop(SETTING, make_policy("mpc", SETTING))
    simulator = Simulator(SETTING, world.supply(), 1)
    seen = simulator.reset(stepper._seeds, stepper._start_s, stepper._spot_start_s, stepper._initial)
    for _ in range(2):
        stepper.step(np.zeros((1, NUM_KNOBS)))
        for _ in range(SETTING.control.ticks_per_decision):
            decision = loop.decide(seen)
            simulator.apply(decision.actions, decision.plan, decision.shares)
            seen = simulator.advance()
        for name in ("replicas", "overflow_after_s", "shed_limit", "cascade_variant", "cascade_threshold", "reasons"):
            np.testing.assert_array_equal(getattr(stepper.applied, name), getattr(decision.plan, name))
        for found, expected in zip(stepper.simulator.totals, simulator.totals, strict=True):
            np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(stepper.applied.cascade_variant[0], STEPS)


def test_knobs_move_the_capacity_of_every_step(world):
    fleets = []
    for knob in (-1.0, 1.0):
        stepper = Stepper(world, 1, PLAIN)
        stepper.reset()
        acted = np.zeros((1, NUM_KNOBS))
        acted[0, 0] = knob  # headroom
        seen, _, _ = stepper.step(acted)
        assert np.isfinite(seen).all()
        fleets.append(stepper.rule_state.need_rps[0].copy())
    # turn, turn.2, alone, alone.2 (the best version, which nobody asks before a demotion), plain
    assert (fleets[1] > fleets[0]).tolist() == [True, True, True, False, True]


def test_other_forms_of_the_action_know_no_tiers(world):
    with pytest.raises(ScenarioError, match="action: expected knobs where classes have tiers, got 'direct'"):
        Stepper(world, 1, EnvOptions(action="direct"))
