"""From nothing: a request to a class without a replica is held, wakes capacity and is answered.

Router, ledger, decision and observation are the real ones; only the seconds and what Serve reports are made up.
"""

from dataclasses import replace

import numpy as np
import pytest

from controller.loop import DecisionLoop
from controller.policies.registry import make_policy
from serving.fleet import Fleet
from serving.instances import Phase
from serving.market import calm_market
from serving.metrics import ObservationBuilder
from serving.requests import Outcome
from serving.rules import router_tables, rules_of
from tests.unit.serving.drivers import LAMBDA_POOL, RELAXED, STRICT, Driver
from tests.unit.serving.worlds import setting

LAUNCH_S, LOAD_S = 4.0, 2.0


def silent(has_serverless, holds=True):
    """No traffic is expected; a relaxed request may take half a minute."""
    made = setting(relaxed={"slo_s": 30.0})
    scenario = made.scenario.model_copy(update={"mean_rps": 1e-9})
    workload = made.workload
    if not has_serverless:
        allowed = workload.allowed.copy()
        allowed[:, :, LAMBDA_POOL] = False
        workload = workload._replace(allowed=allowed, overflow_option=np.full(2, -1))
    return replace(made, scenario=scenario, workload=workload, limits=made.limits._replace(sheds_by_value=holds))


class Asleep:
    """A live control loop that begins with nothing."""

    def __init__(self, of):
        self.setting, self.driver = of, Driver(of)
        self.tables = router_tables(of)
        self.loop = DecisionLoop(of, make_policy("mpc", of))
        self.fleet = Fleet(of.catalog, calm_market(1), 0, of.control.retry_after_s)
        self.builder = ObservationBuilder(of)
        self.fleet.begin(np.zeros(of.shape[:2], np.int64), 0.0)
        self.ticks = 0
        self.decide(self.builder.first(self.fleet, self.driver.core.stats(0.0), 0.0))

    def tick(self, count=1):
        for _ in range(count):
            self.ticks += 1
            now_s = float(self.ticks)
            self.driver.until(now_s)
            self.fleet.step(now_s, self.running(now_s), np.zeros(self.setting.shape[:2], np.int64))
            self.decide(self.builder.close(self.fleet, self.driver.core.stats(now_s), now_s))

    def decide(self, observation):
        decision = self.loop.decide(observation)
        self.fleet.apply(decision.actions, self.driver.now_s)
        serving = self.fleet.counts(Phase.SERVING, Phase.DOOMED)
        coming = self.fleet.counts(Phase.BOOTING, Phase.LOADING, Phase.SERVING, Phase.DOOMED)
        made = rules_of(decision.plan, decision.shares, serving, coming, self.tables, self.ticks)
        self.driver.take(self.driver.core.set_rules(made, self.driver.now_s))

    def running(self, now_s):
        counts = self.fleet.counts(Phase.SERVING, Phase.DOOMED, Phase.DRAINING).reshape(-1)
        for instance in self.fleet.instances:
            counts[instance.option] += instance.phase is Phase.LOADING and now_s >= instance.phase_since_s + LOAD_S
        return counts.reshape(self.setting.shape[:2])


def test_silence_starts_nothing():
    world = Asleep(silent(has_serverless=False))
    world.tick(30)
    assert world.fleet.instances == []


def test_request_wakes_a_machine_and_is_answered_by_it():
    world = Asleep(silent(has_serverless=False))
    world.tick(3)
    request = world.driver.arrive(RELAXED)
    assert world.driver.replies == []
    world.tick()
    assert len(world.fleet.instances) == 1
    world.tick(20)
    ((at_s, reply),) = world.driver.replies
    assert reply.request is request
    assert reply.outcome is Outcome.ANSWERED
    # It came at 3 s, was seen at 4 s, and the machine takes a launch, a load and a tick for each to be seen.
    assert 4.0 + LAUNCH_S + LOAD_S <= at_s <= 4.0 + LAUNCH_S + LOAD_S + 3.0
    world.driver.check_conserved()


def test_all_that_one_replica_can_answer_in_time_are_held():
    world = Asleep(silent(has_serverless=False))
    world.tick(3)
    for _ in range(20):
        world.driver.arrive(RELAXED)
    world.tick(30)
    assert world.driver.outcomes() == [Outcome.ANSWERED] * 20


def test_unless_sheds_by_value_the_rule_holds_one_and_refuses_the_next_with_a_time_to_come_back():
    world = Asleep(silent(has_serverless=False, holds=False))
    world.tick(3)
    world.driver.arrive(RELAXED)
    world.driver.arrive(RELAXED)
    ((_, refused),) = world.driver.replies
    assert refused.outcome is Outcome.SHED
    assert refused.retry_after_s > 0.0
    world.tick(20)
    assert world.driver.outcomes()[1:] == [Outcome.ANSWERED]


@pytest.mark.parametrize("request_class", [STRICT, RELAXED])
def test_serverless_answers_at_once_where_there_is_some(request_class):
    world = Asleep(silent(has_serverless=True))
    world.tick(3)
    world.driver.arrive(request_class)
    world.driver.until(3.8)  # half a second of cold start, 0.1 or 0.2 of service
    ((_, reply),) = world.driver.replies
    assert reply.outcome is Outcome.ANSWERED
    assert reply.option % world.tables.num_pools == LAMBDA_POOL


def test_request_without_the_time_for_a_start_fails_at_its_deadline():
    world = Asleep(silent(has_serverless=False))
    world.tick(3)
    world.driver.arrive(STRICT)
    world.tick(20)
    ((at_s, reply),) = world.driver.replies
    assert reply.outcome is Outcome.EXPIRED
    assert at_s == pytest.approx(4.0)
