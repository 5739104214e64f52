"""A receipt says what was proposed and names the limit behind every number that the guard changed."""

from typing import Any

import numpy as np
import pytest

from controller.alternatives import CHOSEN, LEAST_ALTERNATIVES, alternatives, question_of
from controller.arrays import ObservationArrays, PlanArrays, empty_plan
from controller.compile import Setting
from controller.loop import Decision, DecisionLoop
from controller.plan import Reason
from controller.policies.held import HeldPlans
from controller.policies.predictive import MpcPolicy
from controller.ports import Explaining
from controller.receipts import MOST_LIMITED, Limit, limits_between, receipt_of
from tests.tiny import FN, LARGE, MEDIUM, OD, SMALL, SPOT_A, SPOT_B, steady_observation, tiny_setting


def plan_of(setting: Setting, replicas: dict[tuple[int, int], int]) -> PlanArrays:
    plan = empty_plan(1, setting.shape)
    for at, count in replicas.items():
        plan.replicas[(0, *at)] = count
    return plan


def seen(setting: Setting, ready: dict[tuple[int, int], int] | None = None) -> ObservationArrays:
    observation = steady_observation(setting, 50.0)
    for at, count in (ready or {}).items():
        observation.ready[(0, *at)] = count
    return observation


def decided(setting: Setting, plan: PlanArrays, observation: ObservationArrays) -> tuple[DecisionLoop, Decision]:
    loop = DecisionLoop(setting, HeldPlans(plan))
    loop.keep_proposals()
    return loop, loop.decide(observation)


def limits_on(plan: dict[tuple[int, int], int], ready: dict[tuple[int, int], int] | None = None, **limits: Any) -> Any:
    """Where the guard changed the replicas: option -> (proposed, applied, limits)."""
    setting = tiny_setting(limits=limits)
    _, decision = decided(setting, plan_of(setting, plan), seen(setting, ready))
    assert decision.proposed is not None
    found = limits_between(setting, seen(setting, ready), decision.proposed, decision.plan)
    return {one.where: (one.proposed, one.applied, [(m.name, m.value) for m in one.limits]) for one in found}


def test_pool_maximum_and_quota_are_told_apart() -> None:
    assert limits_on({(MEDIUM, OD): 7}, pools={"od": {"max": 4}}) == {"medium@od": (7, 4, [("pools.max", 4.0)])}
    # A hundred machines of each pool can be had at all.
    assert limits_on({(MEDIUM, OD): 107}) == {"medium@od": (107, 100, [("quota", 100.0)])}


def test_launch_ramp_names_the_launches_it_allows() -> None:
    found = limits_on({(SMALL, OD): 9}, {(SMALL, OD): 3}, max_launch_per_tick=2)
    assert found == {"small@od": (9, 5, [("max_launch_per_tick", 2.0)])}


def test_drain_ramp_names_the_drains_it_allows() -> None:
    found = limits_on({(SMALL, OD): 1}, {(SMALL, OD): 6}, max_drain_per_tick=2)
    assert found == {"small@od": (1, 4, [("max_drain_per_tick", 2.0)])}


def test_minimum_and_on_demand_floor_are_told_apart() -> None:
    assert limits_on({}, pools={"spot-a": {"min": 2}}) == {"small@spot-a": (0, 2, [("pools.min", 2.0)])}
    assert limits_on({(SMALL, SPOT_A): 3}, on_demand_floor=1) == {"small@od": (0, 1, [("on_demand_floor", 1.0)])}


def test_budget_names_its_dollars() -> None:
    # 0.36 $/h each: two fit into 0.8 $/h.
    found = limits_on({(SMALL, OD): 4}, budget_usd_per_hour=0.8)
    assert found == {"small@od": (4, 2, [("budget_usd_per_hour", 0.8)])}


def test_change_that_no_known_limit_explains_is_named_by_the_guards_reason() -> None:
    setting = tiny_setting()
    proposed, applied = plan_of(setting, {(SMALL, OD): 2}), plan_of(setting, {(SMALL, OD): 1})
    applied.reasons[:] = int(Reason.COVER_PREEMPTION)
    (found,) = limits_between(setting, seen(setting), proposed, applied)
    assert found.limits == (Limit(name="cover_preemption"),)


def test_other_levers_are_named_by_class() -> None:
    setting = tiny_setting()
    plan = plan_of(setting, {(SMALL, OD): 2})
    plan.overflow_fraction[0, 1] = np.nan
    loop, decision = decided(setting, plan, seen(setting))
    (found,) = receipt_of(setting, seen(setting), decision, 0, loop).limited
    assert (found.lever, found.where, found.proposed, found.applied) == ("overflow_fraction", "relaxed", None, 1.0)
    assert [one.name for one in found.limits] == ["invalid_plan"]


def test_receipt_is_bounded_and_counts_what_it_leaves_out() -> None:
    setting = tiny_setting()
    plan = plan_of(setting, {(v, p): 200 for v in range(3) for p in range(3)})
    plan.batch_size[...], plan.batch_wait_s[...] = -1, np.nan
    plan.overflow_after_s[...], plan.overflow_fraction[...] = np.nan, np.nan
    loop, decision = decided(setting, plan, seen(setting))
    receipt = receipt_of(setting, seen(setting), decision, 3, loop)
    assert len(receipt.limited) == MOST_LIMITED
    assert receipt.num_limited > MOST_LIMITED
    assert receipt.limited[0].lever == "replicas"


def test_keeping_proposals_changes_no_decision() -> None:
    setting = tiny_setting(limits={"pools": {"od": {"max": 3}}})
    plain, keeping = (DecisionLoop(setting, MpcPolicy(setting)) for _ in range(2))
    keeping.keep_proposals()
    for rps in (10.0, 80.0, 200.0):
        observation = steady_observation(setting, rps)
        a, b = plain.decide(observation), keeping.decide(observation)
        assert a.proposed is None
        for one, other in zip((*a.plan, *a.actions, a.shares), (*b.plan, *b.actions, b.shares), strict=True):
            np.testing.assert_array_equal(one, other)


def test_rule_explains_the_demand_it_planned_for() -> None:
    setting = tiny_setting()
    policy = MpcPolicy(setting)
    assert isinstance(policy, Explaining)
    loop = DecisionLoop(setting, policy)
    loop.keep_proposals()
    observation = steady_observation(setting, 50.0)
    receipt = receipt_of(setting, observation, loop.decide(observation), 0, loop)
    told = receipt.forecast
    assert told["rate_now_rps"] == pytest.approx(50.0)
    largest = [value for name, value in told.items() if name.startswith("largest_rate_rps")]
    assert len(largest) == 3
    assert largest == sorted(largest)
    # Headroom, backlog and bands are in the need of the classes, which add up to that of the plan.
    assert told["need_rps strict"] + told["need_rps relaxed"] == pytest.approx(told["need_rps"], rel=1e-4)


def others(setting: Setting, plan: PlanArrays, observation: ObservationArrays, **more: PlanArrays) -> Any:
    question = question_of(5, observation, plan, more)
    return alternatives(setting, question)


def test_alternatives_are_at_least_three_and_none_is_alike() -> None:
    setting = tiny_setting()
    stands = {(SMALL, OD): 2, (MEDIUM, SPOT_A): 3}
    names, plans, _ = others(setting, plan_of(setting, stands), seen(setting, stands))
    assert names[0] == CHOSEN
    # What stands is what was chosen, so it is not told twice.
    assert names[1:] == ["one less of small@od", "one more of small@spot-a", "on demand instead of spot"]
    fleets = {array.tobytes() for array in plans.replicas}
    assert len(fleets) == len(names) >= 1 + LEAST_ALTERNATIVES
    on_demand = plans.replicas[3]
    # Three spot replicas of medium answer 30 requests/s; as many on demand do.
    assert (on_demand[SMALL, OD], on_demand[MEDIUM, OD], on_demand[:, [SPOT_A, SPOT_B]].sum()) == (2, 3, 0)


def test_alternatives_pass_the_guard() -> None:
    setting = tiny_setting(limits={"pools": {"spot-a": {"max": 3}, "od": {"min": 2}}})
    chosen = plan_of(setting, {(SMALL, OD): 2, (SMALL, SPOT_A): 3})
    greedy = plan_of(setting, {(LARGE, SPOT_A): 50})
    names, plans, _ = others(setting, chosen, seen(setting), **{"the rule's plan": greedy})
    assert "the rule's plan" in names
    assert plans.replicas[:, :, SPOT_A].sum(axis=1).max() <= 3
    assert plans.replicas[:, :, OD].sum(axis=1).min() >= 2


def test_plan_without_machines_has_alternatives_too() -> None:
    setting = tiny_setting()
    names, plans, _ = others(setting, plan_of(setting, {(SMALL, FN): 1}), seen(setting))
    assert len(names) >= 3
    assert plans.replicas.min() >= 0


def test_plan_of_another_that_came_out_alike_is_said_to_be() -> None:
    setting = tiny_setting(limits={"pools": {"spot-a": {"max": 3}}})
    chosen, greedy = plan_of(setting, {(SMALL, SPOT_A): 3}), plan_of(setting, {(SMALL, SPOT_A): 9})
    names, _, alike = others(setting, chosen, seen(setting), **{"the policy's plan": greedy})
    assert alike == {"the policy's plan": CHOSEN}
    assert "the policy's plan" not in names


def test_question_holds_copies() -> None:
    setting = tiny_setting()
    plan, observation = plan_of(setting, {(SMALL, OD): 2}), seen(setting)
    question = question_of(5, observation, plan)
    plan.replicas[...] = 9
    observation.ready[...] = 9
    assert question.plan.replicas.sum() == 2
    assert question.observation.ready.sum() == 0
