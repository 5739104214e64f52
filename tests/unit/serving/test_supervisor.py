import numpy as np
import pytest

from controller.arrays import empty_observation, empty_plan
from controller.loop import DecisionLoop
from controller.plan import Reason
from serving.supervisor import STALE_TICKS, Supervisor
from tests.unit.serving.worlds import setting


class Fixed:
    """Plans a number of small on-demand replicas; raises once told to."""

    name = "fixed"
    is_broken = False
    cascade = (-1, -1, -1)

    def __init__(self, replicas):
        self._replicas = replicas

    def reset(self, num_envs):
        self._num_envs = num_envs

    def decide(self, observation):
        if self.is_broken:
            raise ZeroDivisionError("no need")
        plan = empty_plan(self._num_envs, (2, 3, 2))
        plan.replicas[:, 0, 0] = self._replicas
        plan.cascade_variant[:] = self.cascade
        return plan

    def raw_output(self):
        return np.zeros((self._num_envs, 0))


@pytest.fixture
def supervised():
    of = setting()
    policy, rule = Fixed(1), Fixed(2)
    return policy, Supervisor(DecisionLoop(of, policy), DecisionLoop(of, rule)), empty_observation(1, of.shape)


def planned(decision):
    return int(decision.plan.replicas[0, 0, 0])


def is_ruled(decision):
    return bool(decision.plan.reasons[0] & int(Reason.FALLBACK_RULE))


def test_policy_drives_while_all_is_well(supervised):
    _, supervisor, seen = supervised
    decision = supervisor.decide(seen, 0)
    assert planned(decision) == 1
    assert not is_ruled(decision)


def test_policy_that_plans_a_cascade_is_replaced_by_the_rule(supervised):
    policy, supervisor, seen = supervised
    policy.cascade = [0, 1, -1]
    assert is_ruled(supervisor.decide(seen, 0))
    assert "plan.cascade_variant: expected no cascade in a live run" in supervisor.fault


def test_policy_that_raises_is_replaced_by_the_rule_for_the_rest_of_the_run(supervised):
    policy, supervisor, seen = supervised
    policy.is_broken = True
    decision = supervisor.decide(seen, 0)
    assert planned(decision) == 2
    assert is_ruled(decision)
    assert supervisor.fault == "ZeroDivisionError: no need"
    policy.is_broken = False
    assert planned(supervisor.decide(seen, 0)) == 2
    assert (supervisor.ticks, supervisor.rule_ticks) == (2, 2)


def test_rule_drives_while_the_router_cannot_be_read(supervised):
    _, supervisor, seen = supervised
    assert planned(supervisor.decide(seen, STALE_TICKS - 1)) == 1
    assert planned(supervisor.decide(seen, STALE_TICKS)) == 2
    assert planned(supervisor.decide(seen, 0)) == 1
    assert supervisor.fault == ""
