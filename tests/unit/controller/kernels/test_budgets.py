"""Budgets and the declared degradation, case by case, worked by hand on the tiny catalog.

On demand a replica costs 0.36 $/h, on spot-a 0.108, on spot-b 0.126; it answers 20, 10 or 5 requests/s of small, medium
or large. Giving one up is paid for 80 s on demand (two ticks and the minimum), for 100 s on spot (a tick, the notice
and the minimum).
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from controller.arrays import ObservationArrays, PlanArrays, empty_actions, empty_plan
from controller.compile import Setting, limits_for
from controller.plan import Reason
from tests.tiny import FN, LARGE, MEDIUM, OD, RELAXED, SMALL, SPOT_A, SPOT_B, STRICT, steady_observation, tiny_setting

DAY_S = 86400.0


def setting_of(**limits: Any) -> Setting:
    setting = tiny_setting(limits=limits)
    values = setting.workload._replace(value_usd=np.array([0.002, 0.001]))
    return replace(setting, workload=values)


def plan_of(setting: Setting, replicas: dict[tuple[int, int], int]) -> PlanArrays:
    plan = empty_plan(1, setting.shape)
    for at, count in replicas.items():
        plan.replicas[(0, *at)] = count
    return plan


def guarded(setting: Setting, replicas: dict[tuple[int, int], int], obs: ObservationArrays | None = None) -> PlanArrays:
    from controller.kernels.guard import guard

    plan = plan_of(setting, replicas)
    seen = steady_observation(setting, 50.0) if obs is None else obs
    guard(setting.catalog, setting.workload, limits_for(setting, 1), seen, plan, 0, 1)
    return plan


def settled(
    setting: Setting, plan: PlanArrays, obs: ObservationArrays
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    from controller.kernels.decide import settle

    num_variants, num_pools, num_classes = setting.shape
    shares = np.zeros((1, num_classes, num_variants, num_pools))
    settle(
        setting.catalog, setting.workload, limits_for(setting, 1), setting.control, obs, plan,
        empty_actions(1, setting.shape), shares, 0, 1,
    )  # fmt: skip
    return shares


def planned(plan: PlanArrays) -> dict[tuple[int, int], int]:
    return {(int(v), int(p)): int(plan.replicas[0, v, p]) for v, p in np.argwhere(plan.replicas[0] > 0)}


def has(plan: PlanArrays, reason: Reason) -> bool:
    return bool(plan.reasons[0] & reason)


def test_capacity_moves_to_the_cheapest_pool_as_far_as_needed() -> None:
    # 3 x 0.36 = 1.08; one on spot-a instead saves 0.252: 0.828
    plan = guarded(setting_of(budget_usd_per_hour=0.9, degrade=["cheaper_pool"]), {(MEDIUM, OD): 3})
    assert planned(plan) == {(MEDIUM, OD): 2, (MEDIUM, SPOT_A): 1}
    assert has(plan, Reason.BUDGET)
    assert has(plan, Reason.CHEAPER_POOL)
    assert not has(plan, Reason.SHED)


def test_an_unavailable_pool_is_no_cheaper_pool() -> None:
    setting = setting_of(budget_usd_per_hour=0.9, degrade=["cheaper_pool"])
    obs = steady_observation(setting, 50.0)
    obs.available[0, SPOT_A] = False
    assert planned(guarded(setting, {(MEDIUM, OD): 3}, obs)) == {(MEDIUM, OD): 2, (MEDIUM, SPOT_B): 1}


def test_moving_leaves_minima_and_the_on_demand_floor() -> None:
    limits = {"budget_usd_per_hour": 0.9, "degrade": ["cheaper_pool"], "on_demand_floor": 2}
    plan = guarded(setting_of(**limits), {(MEDIUM, OD): 4})
    # two may go: 2 x 0.36 + 2 x 0.108 = 0.936, still over, so that one on spot is cut
    assert planned(plan) == {(MEDIUM, OD): 2, (MEDIUM, SPOT_A): 1}


def test_smaller_variants_hold_the_capacity_with_fewer_machines() -> None:
    # 4 x 0.36 = 1.44 for 40/s; two medium as one small save 0.36: 1.08
    plan = guarded(setting_of(budget_usd_per_hour=1.1, degrade=["smaller_variant"]), {(MEDIUM, OD): 4})
    assert planned(plan) == {(MEDIUM, OD): 2, (SMALL, OD): 1}
    assert has(plan, Reason.SMALLER_VARIANT)
    assert not has(plan, Reason.CHEAPER_POOL)


def test_no_variant_is_chosen_that_a_class_may_not_use() -> None:
    setting = setting_of(budget_usd_per_hour=1.1, degrade=["smaller_variant"])
    allowed = setting.workload.allowed.copy()
    allowed[RELAXED, SMALL] = False
    setting = replace(setting, workload=setting.workload._replace(allowed=allowed))
    assert planned(guarded(setting, {(MEDIUM, OD): 4})) == {(MEDIUM, OD): 3}


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (["cheaper_pool", "smaller_variant"], {(LARGE, SPOT_A): 4}),
        (["smaller_variant", "cheaper_pool"], {(SMALL, OD): 1}),
        (["shed", "cheaper_pool"], {(LARGE, OD): 1}),
        ([], {(LARGE, OD): 1}),
    ],
)
def test_steps_are_taken_in_the_declared_order(order: list[str], expected: dict[tuple[int, int], int]) -> None:
    # 4 large for 20/s: 1.44 on demand, 0.432 on spot-a; as one small 0.36
    plan = guarded(setting_of(budget_usd_per_hour=0.5, degrade=order), {(LARGE, OD): 4})
    assert planned(plan) == expected


def test_the_least_valuable_class_is_shed_first() -> None:
    # 25/s of each class; 0.72 $/h leaves two medium, 20/s: 0.8 of the strict class and none of the relaxed one
    plan = guarded(setting_of(budget_usd_per_hour=0.72, degrade=["shed"]), {(MEDIUM, OD): 4})
    assert planned(plan) == {(MEDIUM, OD): 2}
    assert plan.shed_limit[0].tolist() == [1600, 1]
    assert has(plan, Reason.SHED)


def test_capacity_that_only_the_least_valuable_class_uses_is_cut_first() -> None:
    setting = setting_of(budget_usd_per_hour=0.72, degrade=["shed"])
    allowed = setting.workload.allowed.copy()
    allowed[STRICT, SMALL] = False
    setting = replace(setting, workload=setting.workload._replace(allowed=allowed))
    assert planned(guarded(setting, {(SMALL, OD): 2, (LARGE, OD): 2})) == {(LARGE, OD): 2}


def test_an_hourly_budget_alone_is_kept_by_plain_cuts() -> None:
    assert setting_of(budget_usd_per_hour=0.9).strict is None
    plan = guarded(setting_of(budget_usd_per_hour=0.9), {(MEDIUM, OD): 3})
    assert planned(plan) == {(MEDIUM, OD): 2}


def at(setting: Setting, elapsed_s: float, spent_usd: float) -> ObservationArrays:
    obs = steady_observation(setting, 50.0)
    obs.time_s[:] = elapsed_s
    obs.tick[:] = round(elapsed_s / setting.control.tick_s)
    obs.day_spend_usd[0, 0] = spent_usd
    return obs


def test_what_is_left_of_the_day_pays_for_the_plan_until_midnight() -> None:
    # an hour and $1 left: n replicas take n x (0.36 + 0.36 x 80/3600) = n x 0.368
    setting = setting_of(budget_usd_per_day=10.0, degrade=[])
    plan = guarded(setting, {(MEDIUM, OD): 4}, at(setting, DAY_S - 3600.0, 9.0))
    assert planned(plan) == {(MEDIUM, OD): 2}
    assert has(plan, Reason.DAY_BUDGET)
    assert not has(plan, Reason.BUDGET)


def test_early_in_the_day_the_budget_is_spread_over_all_of_it() -> None:
    # $24 for 24 h: 2 x 0.72 + ... one dollar an hour, less 80 s each
    setting = setting_of(budget_usd_per_day=24.0, degrade=[])
    assert planned(guarded(setting, {(MEDIUM, OD): 4}, at(setting, 0.0, 0.0))) == {(MEDIUM, OD): 2}


def test_at_midnight_the_spend_of_the_day_before_counts_no_more() -> None:
    setting = setting_of(budget_usd_per_day=24.0, degrade=[])
    assert planned(guarded(setting, {(MEDIUM, OD): 1}, at(setting, DAY_S, 24.0))) == {(MEDIUM, OD): 1}
    assert planned(guarded(setting, {(MEDIUM, OD): 1}, at(setting, DAY_S + 10.0, 24.0))) == {}


def test_a_fleet_is_given_up_while_what_is_left_still_pays_for_giving_it_up() -> None:
    # ten replicas cost 10 x 0.36 x 80/3600 = 0.08 to give up
    setting = setting_of(budget_usd_per_day=10.0, degrade=[], pools={"od": {"min": 1}})
    obs = at(setting, DAY_S - 3600.0, 9.93)
    obs.ready[0, MEDIUM, OD] = 10
    assert planned(guarded(setting, {(MEDIUM, OD): 10}, obs)) == {}


def test_a_move_that_costs_more_by_midnight_is_not_made() -> None:
    # With 100 s left, 4 on demand cost 0.04; a launch on spot takes 0.108 x 200/3600 = 0.006 each, and the old ones are
    # paid for 80 s more in any case: with 0.07 left two of them are kept, and none moves.
    setting = setting_of(budget_usd_per_day=10.0, degrade=["cheaper_pool"])
    obs = at(setting, DAY_S - 100.0, 9.93)
    obs.ready[0, MEDIUM, OD] = 4
    plan = guarded(setting, {(MEDIUM, OD): 4}, obs)
    assert plan.replicas[0, MEDIUM, OD] == 3
    assert plan.replicas[0, MEDIUM, SPOT_A] == 1


def overflowing(setting: Setting, obs: ObservationArrays) -> PlanArrays:
    plan = plan_of(setting, {(MEDIUM, OD): 2})
    plan.overflow_fraction[:] = 0.9
    plan.overflow_after_s[:] = 0.5
    obs.ready[0, MEDIUM, OD] = 2
    return plan


def test_overflow_is_cut_to_what_the_hour_leaves_for_the_most_valuable_class_first() -> None:
    # 2 x 0.36 leave 0.08; a call of small takes 0.1 s x 1.5 GB x 1.66667e-5 + 2e-7 = 2.7e-6: 25/s are 0.243 $/h
    setting = setting_of(budget_usd_per_hour=0.8, degrade=["shed"])
    obs = steady_observation(setting, 50.0)
    plan = overflowing(setting, obs)
    settled(setting, plan, obs)
    assert plan.overflow_fraction[0] == pytest.approx([0.08 / 0.243, 0.0], rel=1e-3)
    assert has(plan, Reason.SERVERLESS_BUDGET)


def test_overflow_within_the_budget_is_left_as_planned() -> None:
    setting = setting_of(budget_usd_per_hour=2.0, degrade=["shed"])
    obs = steady_observation(setting, 50.0)
    plan = overflowing(setting, obs)
    settled(setting, plan, obs)
    assert plan.overflow_fraction[0].tolist() == [0.9, 0.9]
    assert plan.reasons[0] == 0


def test_serverless_closes_while_the_day_pays_for_a_worst_tick() -> None:
    # Fifty environments for ten seconds and more take over 50 x 10 x 1.5 x 1.66667e-5 = 0.0125; 0.01 is left for calls
    # beside two replicas: 2 x 0.36 x 1 h and 2 x 0.008 to give them up.
    setting = setting_of(budget_usd_per_day=10.0, degrade=[])
    obs = at(setting, DAY_S - 3600.0, 10.0 - 0.746)
    plan = overflowing(setting, obs)
    settled(setting, plan, obs)
    assert planned(plan) == {(MEDIUM, OD): 2}
    assert plan.overflow_fraction[0].tolist() == [0.0, 0.0]


def test_a_class_without_machines_waits_for_them_where_calls_are_not_paid_for() -> None:
    setting = setting_of(budget_usd_per_day=10.0, degrade=[])
    obs = at(setting, DAY_S - 3600.0, 9.999)
    plan = plan_of(setting, {})
    shares = settled(setting, plan, obs)
    assert shares[0, :, :, FN].sum() == 0.0
    assert shares[0].sum(axis=(1, 2)).tolist() == [1.0, 1.0]
    assert plan.shed_limit[0].tolist() == [1, 1]
    rich = at(setting, DAY_S - 3600.0, 5.0)
    assert settled(setting, plan_of(setting, {}), rich)[0, :, :, FN].sum() == 2.0
