"""Limits and steps, case by case; the laws for all cases are in tests/properties."""

import numpy as np
import pytest

from controller.arrays import (
    ActionArrays,
    LimitArrays,
    ObservationArrays,
    PlanArrays,
    WorkloadArrays,
    empty_actions,
    empty_plan,
)
from controller.compile import Setting
from controller.plan import Drain, Launch, Reason, Stop, Swap, actions_of
from tests.tiny import FN, LARGE, MEDIUM, OD, SMALL, SPOT_A, STRICT, steady_observation, tiny_setting


def guarded(limits: LimitArrays, obs: ObservationArrays, **replicas: int) -> PlanArrays:
    from controller.kernels.guard import guard

    setting = tiny_setting()
    plan = plan_of(setting, **replicas)
    guard(setting.catalog, setting.workload, limits, obs, plan, 0, 1)
    return plan


def plan_of(setting: Setting, **replicas: int) -> PlanArrays:
    plan = empty_plan(1, setting.shape)
    for option, count in replicas.items():
        variant, pool = option.split("__")
        plan.replicas[0, setting.variant_names.index(variant), setting.pool_names.index(pool.replace("_", "-"))] = count
    return plan


def steps(obs: ObservationArrays, **replicas: int) -> list[object]:
    setting = tiny_setting()
    plan = plan_of(setting, **replicas)
    return steps_to(obs, plan)


def steps_to(obs: ObservationArrays, plan: PlanArrays, workload: WorkloadArrays | None = None) -> list[object]:
    from controller.kernels.reconcile import reconcile

    setting = tiny_setting()
    actions: ActionArrays = empty_actions(1, setting.shape)
    reconcile(setting.catalog, workload or setting.workload, setting.control, obs, plan, actions, 0, 1)
    return list(actions_of(actions, 0, setting.variant_names, setting.pool_names))


def observation(rps: float = 50.0) -> ObservationArrays:
    return steady_observation(tiny_setting(), rps)


def test_budget_removes_what_is_dearest_per_capacity() -> None:
    # 0.36 $/h for 20/s of small, 0.36 $/h for 10/s of medium: medium goes first
    limits = tiny_setting().limits._replace(budget_usd_per_hour=0.36 * 3)
    plan = guarded(limits, observation(), small__od=2, medium__od=3)
    assert plan.replicas[0, SMALL, OD] == 2
    assert plan.replicas[0, MEDIUM, OD] == 1
    assert plan.reasons[0] & Reason.BUDGET


def test_budget_spares_the_on_demand_floor() -> None:
    limits = tiny_setting().limits._replace(budget_usd_per_hour=0.36 * 2 + 0.108, on_demand_floor=2)
    plan = guarded(limits, observation(), medium__od=2, small__spot_a=4)
    assert plan.replicas[0, MEDIUM, OD] == 2
    assert plan.replicas[0, SMALL, SPOT_A] == 1


def test_launch_ramp_limits_additions_and_keeps_what_exists() -> None:
    obs = observation()
    obs.ready[0, MEDIUM, OD] = 3
    limits = tiny_setting().limits
    plan = guarded(limits._replace(max_launch=np.full(4, 2)), obs, medium__od=3, small__od=5)
    assert plan.replicas[0, :, OD].tolist() == [2, 3, 0]
    assert plan.reasons[0] & Reason.RAMP


def test_drain_ramp_keeps_replicas_that_exist() -> None:
    obs = observation()
    obs.ready[0, MEDIUM, OD] = 10
    plan = guarded(tiny_setting().limits._replace(max_drain=np.full(4, 3)), obs)
    assert plan.replicas[0, MEDIUM, OD] == 7


def test_floor_is_filled_with_the_variant_planned_most() -> None:
    plan = guarded(tiny_setting().limits._replace(on_demand_floor=2), observation(), medium__spot_a=4)
    assert plan.replicas[0, MEDIUM, OD] == 2
    assert plan.reasons[0] & Reason.ON_DEMAND_FLOOR


def test_a_valid_plan_within_limits_passes_untouched() -> None:
    plan = guarded(tiny_setting().limits, observation(), medium__od=2, small__spot_a=4)
    assert plan.replicas.sum() == 6
    assert plan.reasons[0] == 0


def test_missing_replicas_are_launched() -> None:
    assert steps(observation(), medium__od=2) == [Launch("medium", "od", 2)]


def test_a_replica_under_notice_is_replaced_at_once() -> None:
    obs = observation()
    obs.doomed[0, MEDIUM, SPOT_A] = 1
    obs.ready[0, MEDIUM, SPOT_A] = 2
    assert steps(obs, medium__spot_a=3) == [Launch("medium", "spot-a", 1)]


def test_surplus_that_still_starts_is_stopped_before_ready_is_drained() -> None:
    obs = observation()
    obs.ready[0, MEDIUM, OD], obs.starting[0, MEDIUM, OD] = 4, 2
    assert steps(obs, medium__od=3) == [Drain("medium", "od", 1), Stop("medium", "od", 2)]


def test_old_pool_is_held_until_the_new_one_serves() -> None:
    obs = observation()
    obs.ready[0, MEDIUM, OD] = 4
    assert steps(obs, medium__spot_a=4) == [Launch("medium", "spot-a", 4)]
    obs.starting[0, MEDIUM, SPOT_A] = 3
    obs.ready[0, MEDIUM, SPOT_A] = 1
    assert steps(obs, medium__spot_a=4) == [Drain("medium", "od", 1)]
    obs.starting[0, MEDIUM, SPOT_A] = 0
    obs.ready[0, MEDIUM, SPOT_A] = 4
    assert steps(obs, medium__spot_a=4) == [Drain("medium", "od", 4)]


def test_an_accurate_replica_is_held_until_another_as_accurate_serves_however_many_weak_ones_do() -> None:
    obs = observation(20.0)
    obs.ready[0, LARGE, OD], obs.ready[0, SMALL, OD] = 1, 6
    # The six small ones can do many times as much, and would answer worse.
    assert steps(obs, large__spot_a=1, small__od=5) == [Launch("large", "spot-a", 1), Drain("small", "od", 1)]
    obs.ready[0, LARGE, SPOT_A] = 1
    assert Drain("large", "od", 1) in steps(obs, large__spot_a=1, small__od=5)


def test_what_is_being_turned_is_on_its_way_and_what_it_stands_in_for_is_held() -> None:
    obs = observation(20.0)
    obs.ready[0, LARGE, OD], obs.ready[0, SMALL, SPOT_A] = 1, 6
    assert steps(obs, large__spot_a=1, small__spot_a=5) == [Swap("spot-a", "small", "large", 1)]


def test_a_fleet_that_is_planned_for_less_than_the_peak_is_turned_all_the_same() -> None:
    obs = observation(75.0)
    obs.ready[0, SMALL, OD], obs.ready[0, SMALL, SPOT_A] = 3, 1
    # Of 80 requests/s, 60 would be left for 75 that arrive: enough for a plan of 45, and not for one of 65.
    assert Swap("spot-a", "small", "large", 1) in steps(obs, small__od=2, large__spot_a=1)
    assert Swap("spot-a", "small", "large", 1) not in steps(obs, small__od=3, large__spot_a=1)


@pytest.mark.parametrize(("rps", "swapped"), [(20.0, 2), (40.0, 1), (50.0, 0)])
def test_swaps_go_as_far_as_the_rest_covers_the_need(rps: float, swapped: int) -> None:
    # six medium replicas hold 60/s; the need is 1.1 x rps, so (60 - 1.1 rps) / 10 may leave, two at most
    obs = observation(rps)
    obs.ready[0, MEDIUM, OD] = 6
    found = steps(obs, medium__od=4, small__od=2)
    assert [step for step in found if isinstance(step, Swap)] == (
        [Swap("od", "medium", "small", swapped)] if swapped else []
    )
    launched = sum(step.count for step in found if isinstance(step, Launch))
    assert launched == 2 - swapped


@pytest.mark.parametrize(
    ("may_overflow", "may_use", "has_use", "swapped"),
    [(False, True, False, 1), (False, False, False, 0), (True, True, False, 0), (False, True, True, 0)],
)
def test_a_short_fleet_swaps_towards_a_class_that_serverless_cannot_answer(
    may_overflow: bool, may_use: bool, has_use: bool, swapped: int
) -> None:
    # three medium replicas hold 30/s of 100/s; where the strict class may not use them it has nothing at all
    setting = tiny_setting()
    allowed = setting.workload.allowed.copy()
    allowed[STRICT, MEDIUM], allowed[STRICT, SMALL, OD] = has_use, may_use
    workload = setting.workload._replace(allowed=allowed, spare_rps=np.array([0.0 if may_overflow else 2.0, 0.0]))
    obs = observation(20.0)
    obs.history[0, :, STRICT] *= 9.0
    obs.ready[0, MEDIUM, OD] = 3
    found = steps_to(obs, plan_of(setting, medium__od=2, small__od=1), workload)
    assert sum(step.count for step in found if isinstance(step, Swap)) == swapped


def test_a_starting_replica_of_the_wrong_variant_is_kept_to_be_swapped() -> None:
    obs = observation()
    obs.starting[0, MEDIUM, OD] = 2
    assert steps(obs, small__od=2) == []


def test_nothing_is_launched_in_an_unavailable_pool() -> None:
    setting = tiny_setting()
    obs = observation()
    obs.available[0, SPOT_A] = False
    plan = plan_of(setting, medium__spot_a=2)
    assert steps_to(obs, plan) == []
    assert plan.reasons[0] & Reason.POOL_UNAVAILABLE


def test_provisioned_concurrency_follows_the_plan_both_ways() -> None:
    obs = observation()
    obs.ready[0, MEDIUM, FN] = 5
    assert steps(obs, medium__fn=2) == [Drain("medium", "fn", 3)]
    assert steps(obs, medium__fn=8) == [Launch("medium", "fn", 3)]
