"""A tier is served as it was promised: the `mpc` rule under tiers, on calm traffic, in the simulator."""

import numpy as np
import pytest

from controller.loop import DecisionLoop
from controller.policies.registry import make_policy
from envs.simulator import Simulator
from envs.supply import Supply
from tests.tiered import ALONE, AT_ONCE, HANDED_ON, IN_TURN, RIGHT, request_class, tiered_setting
from tests.tiny import LARGE, MEDIUM, OD, SMALL, steady_observation

pytestmark = pytest.mark.timeout(900)  # may be the first to compile the kernels

RPS = 30.0
TICKS = 180
TURN, ONCE, LONE = range(3)


@pytest.fixture(scope="module")
def served():
    """Half an hour of steady traffic from a fleet that fits: setting, totals, busy credit-seconds by option."""
    setting = tiered_setting(
        request_class("turn", 0.5, IN_TURN), request_class("once", 0.25, AT_ONCE), request_class("alone", 0.25, ALONE)
    )
    # One zone that is always open would do; the pools' two zones are.
    supply = Supply(np.full((1, 8640), RPS), 10.0, np.ones((2, 8640)), 10.0, 1.0)
    simulator = Simulator(setting, supply, 1)
    loop = DecisionLoop(setting, make_policy("mpc", setting))
    fleet = loop.decide(steady_observation(setting, RPS)).plan.replicas.copy()
    loop.reset(1)
    seen = simulator.reset(np.array([3]), np.zeros(1), np.zeros(1), fleet)
    seen.history[...] = RPS * 10.0 * setting.workload.share[:, None]
    busy_s = np.zeros(setting.shape[:2])
    for _ in range(TICKS):
        decision = loop.decide(seen)
        simulator.apply(decision.actions, decision.plan, decision.shares)
        seen = simulator.advance()
        busy_s += seen.busy_s[0]
    return setting, simulator.totals, busy_s


def test_a_tier_attains_what_its_class_was_promised(served):
    setting, totals, _ = served
    attained = 1.0 - totals.missed[0] / totals.arrivals[0]
    assert (attained >= setting.workload.attainment_target).all()


def test_answers_are_as_right_as_the_tier_promises(served):
    _, totals, _ = served
    realised = totals.right[0] / totals.answered[0]
    expected = np.array([RIGHT, RIGHT, 0.8])
    # Three standard errors of a share of so many answers.
    error = 3.0 * np.sqrt(expected * (1.0 - expected) / totals.answered[0])
    assert (np.abs(realised - expected) < error).all()
    np.testing.assert_allclose(totals.accuracy_sum[0] / totals.answered[0], expected, atol=0.003)


def test_each_step_does_the_work_that_was_planned_for(served):
    setting, _, busy_s = served
    requests = RPS * TICKS * 10.0 * setting.workload.share
    on_machines = busy_s[:, : OD + 3].sum(axis=1)
    tiers = setting.tiers
    expected_s = np.zeros(3)
    for c in (TURN, ONCE, LONE):
        for step, v in enumerate(tiers.variant[c]):
            if v >= 0:
                expected_s[v] += requests[c] * tiers.work[c, step] * setting.catalog.service_s[v, OD, 1]
    assert tiers.work[TURN, 1] == pytest.approx(HANDED_ON)
    # A second step that queues until the first is sure does less than was planned, none does more.
    assert on_machines[SMALL] == pytest.approx(expected_s[SMALL], rel=0.05)
    assert on_machines[MEDIUM] == pytest.approx(expected_s[MEDIUM], rel=0.05)
    assert 0.85 * expected_s[LARGE] < on_machines[LARGE] < 1.05 * expected_s[LARGE]
