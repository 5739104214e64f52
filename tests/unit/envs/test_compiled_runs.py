"""Whole runs of compiled rules: the same as the Python loop, tick by tick, whatever the rule."""

import numpy as np
import pytest

from controller.forms import FORMS, form_size
from controller.policies.forms import FormPolicy
from controller.policies.learned import LearnedPolicy
from controller.policies.predictive import MpcPolicy, MpcSettings
from controller.policies.registry import make_policy
from controller.rival_arrays import SCHEMES
from controller.scenario import load_scenario
from envs.compiled_runs import is_compiled, run_compiled
from envs.world import WorldChoice, build_world
from experiments.clairvoyant import ClairvoyantMpc
from experiments.rollout import begin, new_simulator, prepare, roll
from tests.networks import make_content

pytestmark = pytest.mark.timeout(900)  # every rule's kernels may have to be compiled first

TICKS = 45


@pytest.fixture(scope="module")
def world():
    return build_world(load_scenario("tiny"), WorldChoice(days=(1, 2)))


def policies(world):
    cells = world.cells((0,))
    yield MpcPolicy(world.setting, MpcSettings(need_band=0.1, accuracy_band=0.005))
    yield ClairvoyantMpc(world, cells)
    yield LearnedPolicy(world.setting, make_content(world.setting, scale=0.3))
    for kind in SCHEMES:
        yield make_policy(kind, world.setting)


class Swaying:
    """An actor that says something else every time."""

    def __init__(self, size):
        self.size = size

    def reset(self, num_envs):
        self.looks = 0

    def act(self, seen):
        self.looks += 1
        return np.random.default_rng(self.looks).uniform(-1.2, 1.2, (len(seen), self.size))


def forms(world):
    for form in FORMS:
        yield FormPolicy(world.setting, None, None, form, Swaying(form_size(form, world.setting.shape)), name=form)


def check_runs(world, policies):
    """Runs policies both ways and returns how many there were."""
    cells = world.cells((0,))
    start = prepare(world, cells)
    simulator, other = new_simulator(world, len(cells)), new_simulator(world, len(cells))
    tried = 0
    for policy in policies:
        begin(world, start, simulator)
        assert run_compiled(policy, simulator, TICKS), policy.name
        tally = roll(world, start, policy, ticks=TICKS, simulator=other)
        for name in ("arrivals", "missed", "answered", "latency"):
            np.testing.assert_array_equal(getattr(simulator.totals, name), getattr(tally, name), policy.name)
        np.testing.assert_allclose(simulator.totals.spend_usd, tally.spend_usd, rtol=1e-12, err_msg=policy.name)
        np.testing.assert_array_equal(simulator.observe().ready, other.observe().ready, policy.name)
        tried += 1
    return tried


def test_compiled_runs_come_to_what_the_loop_comes_to(world):
    assert check_runs(world, policies(world)) == len(SCHEMES) + 3


def test_compiled_runs_of_other_forms_of_action_come_to_what_the_loop_comes_to(world):
    assert check_runs(world, forms(world)) == len(FORMS)


def test_policies_with_a_method_of_their_own_are_left_to_the_loop(world):
    class Own(MpcPolicy):
        def decide(self, observation):
            return super().decide(observation)

    simulator = new_simulator(world, 1)
    assert is_compiled(MpcPolicy(world.setting))
    for policy in (Own(world.setting), make_policy("static", world.setting), make_policy("infadapter", world.setting)):
        assert not run_compiled(policy, simulator, 1)
        assert simulator.state.clock.tick[0] == 0


def test_the_event_kernel_is_left_to_the_loop():
    scenario = load_scenario("tiny")
    size = scenario.simulator.model_copy(update={"kernel": "event"})
    world = build_world(scenario.model_copy(update={"simulator": size}), WorldChoice(days=(1, 1)))
    assert not run_compiled(MpcPolicy(world.setting), new_simulator(world, 1), 1)
