"""Shedding by value, case by case, worked by hand on the tiny catalog.

A replica on demand answers 20 requests/s of small, 10 of medium. A strict request may wait 1.45 s for small, 1.4 s for
medium, a relaxed one 9.95 s and 9.9 s. The strict class is worth more.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st

from controller.arrays import F64, ObservationArrays, PlanArrays, empty_actions, empty_observation, empty_plan
from controller.compile import Setting, limits_for
from controller.kernels.shedding import CHANCE
from controller.plan import Reason, reason_texts
from controller.receipts import limits_between
from tests.strategies import garbage_plan, random_observation
from tests.tiny import FN, LARGE, MEDIUM, OD, RELAXED, SMALL, SPOT_A, STRICT, tiny_setting

UNLIMITED = 10**6


def setting_of(limits: dict[str, Any] | None = None, **workload: Any) -> Setting:
    setting = tiny_setting(limits={"shed": "value_first"} if limits is None else limits)
    values = {"value_usd": np.array([0.002, 0.001]), "overflow_option": np.full(2, -1)} | workload
    return replace(setting, workload=setting.workload._replace(**values))


def seen(setting: Setting, rps: tuple[float, float], ready: dict[tuple[int, int], int]) -> ObservationArrays:
    """A minute whose busiest tick, less what chance adds, has the rates."""
    obs = empty_observation(1, setting.shape)
    obs.tick[:] = 6
    counts = np.array(rps) * setting.control.tick_s
    peaks = (CHANCE / 2 + np.sqrt(CHANCE**2 / 4 + counts)) ** 2  # k - CHANCE x sqrt(k) is the count
    obs.history[0, :, :6] = np.where(counts > 0.0, peaks, 0.0)[:, None]
    for at, count in ready.items():
        obs.ready[(0, *at)] = count
    return obs


def settled(setting: Setting, obs: ObservationArrays, **plan_fields: Any) -> tuple[PlanArrays, F64]:
    from controller.kernels.decide import settle

    plan = empty_plan(1, setting.shape)
    plan.shed_limit[:] = UNLIMITED
    plan.replicas[:] = obs.ready
    for name, value in plan_fields.items():
        getattr(plan, name)[:] = value
    num_variants, num_pools, num_classes = setting.shape
    shares = np.zeros((1, num_classes, num_variants, num_pools))
    settle(
        setting.catalog, setting.workload, limits_for(setting, 1), setting.control, obs, plan,
        empty_actions(1, setting.shape), shares, 0, 1,
    )  # fmt: skip
    return plan, shares[0]


def is_shedding(plan: PlanArrays) -> bool:
    return bool(plan.reasons[0] & Reason.SHED_BY_VALUE)


def test_less_valuable_queue_keeps_the_strict_wait_at_half_its_slack() -> None:
    # Two small serve 40/s; 10/s strict leave 30/s: 30 x 1.45 / 2 = 21.75 relaxed requests make all wait 0.725 s.
    setting = setting_of()
    plan, shares = settled(setting, seen(setting, (10.0, 110.0), {(SMALL, OD): 2}))
    assert plan.shed_limit[0].tolist() == [UNLIMITED, 21]
    assert is_shedding(plan)
    assert shares[:, SMALL, OD].tolist() == [1.0, 1.0]


def test_receipt_and_reasons_say_what_was_limited_and_why() -> None:
    setting = setting_of()
    obs = seen(setting, (10.0, 110.0), {(SMALL, OD): 2})
    plan, _ = settled(setting, obs)
    proposed = empty_plan(1, setting.shape)
    proposed.shed_limit[:] = UNLIMITED
    proposed.replicas[:] = obs.ready
    (limited,) = limits_between(setting, obs, proposed, plan)
    assert (limited.lever, limited.where, limited.proposed, limited.applied) == ("shed_limit", "relaxed", UNLIMITED, 21)
    assert [limit.name for limit in limited.limits] == ["shed_by_value"]
    (text,) = reason_texts(int(plan.reasons[0]))
    assert "less valuable classes wait in shorter queues" in text


def test_of_a_class_that_alone_is_too_much_no_more_wait_than_are_answered_in_time() -> None:
    # 40/s x 1.45 / 2 = 29 strict requests; nothing is left for relaxed ones but to keep machines busy.
    setting = setting_of()
    plan, _ = settled(setting, seen(setting, (60.0, 60.0), {(SMALL, OD): 2}))
    assert plan.shed_limit[0].tolist() == [29, 1]


def test_value_decides_who_waits_not_the_order_of_the_classes() -> None:
    # 10/s relaxed pass; the strict class has 30/s left, and its own slack binds: 21.75.
    setting = setting_of(value_usd=np.array([0.001, 0.002]))
    plan, _ = settled(setting, seen(setting, (110.0, 10.0), {(SMALL, OD): 2}))
    assert plan.shed_limit[0].tolist() == [21, UNLIMITED]


def test_limit_is_that_of_the_option_with_least_room() -> None:
    # Small and medium serve 20/s and 10/s. 9/s strict keep to 0.9 of what is left at the most where there is room
    # elsewhere; what the relaxed class is given is all the rest, 21/s.
    setting = setting_of()
    plan, shares = settled(setting, seen(setting, (9.0, 81.0), {(SMALL, OD): 1, (MEDIUM, OD): 1}))
    left = np.array([20.0, 10.0]) - 9.0 * shares[STRICT, [SMALL, MEDIUM], OD]
    assert shares[RELAXED, [SMALL, MEDIUM], OD] == pytest.approx(left / 21.0)
    wait_s = np.where(shares[STRICT, [SMALL, MEDIUM], OD] > 0.0, [0.725, 0.7], [4.975, 4.95])
    assert plan.shed_limit[0, RELAXED] == int((left * wait_s).min())


def test_valuable_class_is_spread_where_the_split_would_crowd_it() -> None:
    # A strict class of 0.82 owed accuracy is sent to large first: 5/s of capacity cannot serve 12/s.
    setting = setting_of(accuracy_floor=np.array([0.82, 0.70]))
    obs = seen(setting, (12.0, 63.0), {(LARGE, OD): 1, (SMALL, OD): 1})
    plan, shares = settled(setting, obs)
    flow = 12.0 * shares[STRICT, [LARGE, SMALL], OD]
    assert flow.sum() == pytest.approx(12.0)
    assert flow[0] <= 0.9 * 5.0 + 1e-9
    assert plan.shed_limit[0, STRICT] == UNLIMITED


def test_class_with_more_options_makes_room_for_one_with_fewer() -> None:
    # The strict class may use both pools, the relaxed one medium alone, where the strict one stands as well.
    allowed = tiny_setting().workload.allowed.copy()
    allowed[RELAXED, SMALL] = False
    setting = setting_of(allowed=allowed)
    plan, shares = settled(setting, seen(setting, (15.0, 40.0), {(SMALL, OD): 1, (MEDIUM, OD): 1}))
    strict = 15.0 * shares[STRICT, [SMALL, MEDIUM], OD]
    assert strict[0] == pytest.approx(15.0)
    # 10/s of medium are left for the relaxed class, which is alone there: 10 x 9.9 / 2.
    assert plan.shed_limit[0].tolist() == [UNLIMITED, 49]


def test_what_serverless_takes_is_no_overload() -> None:
    # 50 environments of 0.1 s take 500/s.
    setting = setting_of(overflow_option=np.full(2, SMALL * 4 + FN))
    obs = seen(setting, (10.0, 110.0), {(SMALL, OD): 2})
    plan, _ = settled(setting, obs, overflow_fraction=1.0, overflow_after_s=5.0)
    assert plan.shed_limit[0].tolist() == [UNLIMITED, UNLIMITED]
    assert not is_shedding(plan)


def test_beyond_the_quota_of_serverless_a_class_overflows_before_it_is_refused() -> None:
    # One environment takes 10/s of 110 relaxed ones; 30/s are left by the strict class, so 70/s are too many.
    setting = setting_of(overflow_option=np.array([-1, SMALL * 4 + FN]))
    quota = setting.catalog.quota.copy()
    quota[FN] = 1
    setting = replace(setting, catalog=setting.catalog._replace(quota=quota))
    obs = seen(setting, (10.0, 110.0), {(SMALL, OD): 2})
    plan, _ = settled(setting, obs, overflow_fraction=1.0, overflow_after_s=5.0)
    assert plan.shed_limit[0].tolist() == [UNLIMITED, 21]
    assert plan.overflow_after_s[0] == pytest.approx([5.0, 0.5 * 0.725])


def test_fixed_shares_stay_as_the_policy_set_them() -> None:
    setting = setting_of()
    shares = np.zeros((1, 2, 3, 4))
    shares[0, :, SMALL, OD], shares[0, :, MEDIUM, OD] = 0.5, 0.5
    obs = seen(setting, (8.0, 80.0), {(SMALL, OD): 1, (MEDIUM, OD): 1})
    plan, split = settled(setting, obs, fixed_shares=True, shares=shares)
    assert (split == shares[0]).all()
    # 6/s are left of medium: 6 x 0.7.
    assert plan.shed_limit[0].tolist() == [UNLIMITED, 4]


def test_machines_that_start_are_no_capacity_yet_and_those_under_notice_are() -> None:
    setting = setting_of()
    obs = seen(setting, (10.0, 25.0), {(SMALL, OD): 1})
    obs.starting[0, SMALL, OD] = 1
    assert settled(setting, obs)[0].shed_limit[0, RELAXED] == 7  # (20 - 10) x 0.725
    obs.doomed[0, SMALL, SPOT_A] = 1
    assert not is_shedding(settled(setting, obs)[0])


def test_machines_that_the_same_decision_drains_are_no_capacity() -> None:
    setting = setting_of()
    obs = seen(setting, (10.0, 25.0), {(SMALL, OD): 2})
    assert not is_shedding(settled(setting, obs)[0])
    replicas = np.zeros((1, 3, 4), np.int64)
    replicas[0, SMALL, OD] = 1
    assert settled(setting, obs, replicas=replicas)[0].shed_limit[0, RELAXED] == 7  # (20 - 10) x 0.725


def test_what_chance_adds_to_the_busiest_tick_is_no_overload() -> None:
    # 38/s of 40/s, 190 of each class in a tick; the busiest of six lies 1.27 standard deviations above that.
    setting = setting_of()
    obs = seen(setting, (19.0, 19.0), {(SMALL, OD): 2})
    assert obs.history[0, :, 0].sum() > 400.0
    assert not is_shedding(settled(setting, obs)[0])


def test_class_that_waits_for_its_first_machine_is_held() -> None:
    # One small replica answers 20/s: 1.45 and 9.95 s of them.
    setting = setting_of()
    allowed = setting.workload.allowed.copy()
    allowed[:, :, FN] = False
    setting = replace(setting, workload=setting.workload._replace(allowed=allowed))
    plan, shares = settled(setting, seen(setting, (0.0, 0.0), {}), shed_limit=1)
    assert shares.sum(axis=(1, 2)).tolist() == [1.0, 1.0]
    assert plan.shed_limit[0].tolist() == [29, 199]
    assert not is_shedding(plan)


def test_unless_declared_nothing_is_changed() -> None:
    setting = setting_of(limits={})
    assert not setting.limits.sheds_by_value
    obs = seen(setting, (10.0, 110.0), {(SMALL, OD): 2})
    plan, _ = settled(setting, obs)
    assert plan.shed_limit[0].tolist() == [UNLIMITED, UNLIMITED]
    assert not is_shedding(plan)


@trials(max_examples=200, deadline=None)
@given(st.data())
def test_nothing_changes_where_capacity_suffices_and_never_more_is_given_than_there_is(data: st.DataObject) -> None:
    """Whatever serves, whoever may use it and however much is asked for."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    base = setting_of()
    allowed = base.workload.allowed & (rng.random(base.workload.allowed.shape) < 0.7)
    fields = {"allowed": allowed, "value_usd": rng.choice([0.001, 0.002], 2), "accuracy_floor": rng.random(2)}
    on = replace(base, workload=base.workload._replace(**fields))
    off = replace(on, limits=on.limits._replace(sheds_by_value=False))
    ready = {(v, p): int(rng.integers(0, 4)) for v in range(3) for p in range(3)}
    rps = tuple(rng.choice([0.0, 1.0, 20.0, 100.0], 2) * rng.random(2))
    obs = seen(on, rps, ready)
    plan, shares = settled(on, obs)
    before, split = settled(off, obs)
    capacity = obs.ready[0] * np.array([20.0, 10.0, 5.0])[:, None]
    serves = allowed & (capacity > 0.0)
    load = np.zeros_like(capacity)
    for c in range(2):
        of_machines = np.where(serves[c], split[c], 0.0)
        load += rps[c] * of_machines / max(of_machines.sum(), 1e-300)
    if (load <= capacity * (1.0 - 1e-9)).all():
        assert not is_shedding(plan)
    assert shares.sum(axis=(1, 2)) == pytest.approx(split.sum(axis=(1, 2)))
    assert (shares[~allowed] == 0.0).all()
    assert (plan.shed_limit >= 1).all()
    first = int(np.argmax(on.workload.value_usd))
    room = (capacity * serves[first]).sum()
    if is_shedding(plan):
        if rps[first] <= 0.9 * room:
            # The most valuable class stays unlimited, and below nine tenths of every option but for rounding.
            assert plan.shed_limit[0, first] == UNLIMITED
            flow = rps[first] * np.where(serves[first], shares[first], 0.0)
            assert (flow <= 0.9 * capacity + 1e-6).all()
    else:
        assert (shares == split).all()
        for c in range(2):
            if serves[c].any():
                assert plan.shed_limit[0, c] == before.shed_limit[0, c]


@trials(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_whatever_is_seen_and_proposed_shares_sum_to_one_and_no_limit_is_below_one(past: int, plans: int) -> None:
    from controller.kernels.decide import settle

    setting = setting_of(overflow_option=np.full(2, SMALL * 4 + FN))
    obs, plan = random_observation(setting, past), garbage_plan(setting, plans)
    num_envs, (num_variants, num_pools, num_classes) = len(obs.tick), setting.shape
    shares = np.zeros((num_envs, num_classes, num_variants, num_pools))
    settle(
        setting.catalog, setting.workload, limits_for(setting, num_envs), setting.control, obs, plan,
        empty_actions(num_envs, setting.shape), shares, 0, num_envs,
    )  # fmt: skip
    np.testing.assert_allclose(shares.sum(axis=(2, 3)), 1.0, rtol=1e-9)
    assert (shares >= 0.0).all()
    assert (plan.shed_limit >= 1).all()
    assert (plan.overflow_after_s >= 0.0).all()
