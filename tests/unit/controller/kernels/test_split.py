"""Who is answered by what, on fleets small enough to work out."""

from dataclasses import replace

import numpy as np
import pytest

from controller.arrays import ActionArrays, ObservationArrays, PlanArrays, empty_actions, empty_plan
from controller.batching import spare_rps
from controller.compile import Setting
from controller.kernels.split_accuracy import PATIENCE
from tests.tiny import FN, LARGE, MEDIUM, OD, RELAXED, SMALL, SPOT_A, STRICT, steady_observation, tiny_setting


def shares_of(
    setting: Setting, obs: ObservationArrays, plan: PlanArrays | None = None, actions: ActionArrays | None = None
) -> np.ndarray:
    from controller.kernels.split import split

    shares = np.zeros((1, 2, 3, 4))
    plan = empty_plan(1, setting.shape) if plan is None else plan
    actions = empty_actions(1, setting.shape) if actions is None else actions
    split(setting.catalog, setting.workload, setting.control, obs, plan, actions, shares, 0, 1)
    return shares[0]


def halves(*classes):
    """Classes of equal share that differ in what is given, as a workload's document."""
    common = {
        "slo_s": 2.0,
        "attainment_target": 0.99,
        "accuracy_floor": 0.76,
        "source_site": "home",
        "workflow": "vision",
        "share": 1.0 / len(classes),
    }
    return {
        "workflows": [{"name": "vision", "operators": ["classify"]}],
        "classes": [{"name": f"class-{index}", **common, **own} for index, own in enumerate(classes)],
    }


def test_options_of_one_variant_are_loaded_by_capacity() -> None:
    setting = tiny_setting()
    obs = steady_observation(setting, 50.0)
    obs.ready[0, MEDIUM, OD], obs.ready[0, MEDIUM, SPOT_A] = 6, 2
    shares = shares_of(setting, obs)
    load = shares.sum(axis=0)
    assert load[MEDIUM, OD] == pytest.approx(2 * 0.75)
    assert load[MEDIUM, SPOT_A] == pytest.approx(2 * 0.25)


def test_nothing_is_sent_to_replicas_that_the_same_decision_takes_away() -> None:
    setting = tiny_setting()
    obs = steady_observation(setting, 50.0)
    obs.ready[0, MEDIUM, OD], obs.ready[0, MEDIUM, SPOT_A], obs.ready[0, LARGE, OD] = 6, 2, 1
    actions = empty_actions(1, setting.shape)
    actions.drain[0, MEDIUM, SPOT_A] = 1
    actions.swap[0, OD, MEDIUM, SMALL] = 3
    actions.drain[0, LARGE, OD] = 1
    load = shares_of(setting, obs, actions=actions).sum(axis=0)
    assert load[MEDIUM, OD] == pytest.approx(2 * 0.75)  # 3 of 6, and 1 of 2
    assert load[MEDIUM, SPOT_A] == pytest.approx(2 * 0.25)
    assert load[LARGE, OD] == 0.0


def test_the_class_with_the_higher_floor_gets_the_more_accurate_option() -> None:
    setting = tiny_setting()
    obs = steady_observation(setting, 50.0)
    # 40 requests/s each; relaxed (floor 0.76) needs medium, strict (0.70) is content with small
    obs.ready[0, MEDIUM, OD], obs.ready[0, SMALL, OD] = 4, 2
    shares = shares_of(setting, obs)
    assert shares[RELAXED, MEDIUM, OD] == pytest.approx(1.0)
    assert shares[STRICT, SMALL, OD] == pytest.approx(1.0, abs=0.01)  # strict is split for just above its floor


def test_a_class_above_its_floor_gives_to_one_below() -> None:
    setting = tiny_setting(workload=halves({"accuracy_floor": 0.76}, {"accuracy_floor": 0.75}))
    obs = steady_observation(setting, 50.0)
    obs.ready[0, LARGE, OD], obs.ready[0, SMALL, OD] = 8, 2
    # filling from the top alone would give a 0.82 and b 0.70; evened out, both reach what they are owed
    means = (shares_of(setting, obs) * np.array([0.70, 0.76, 0.82])[:, None]).sum(axis=(1, 2))
    assert means[0] >= 0.76 - 1e-9
    assert means[1] == pytest.approx(0.75, abs=6e-4)  # just above its floor


def test_a_class_that_may_use_one_option_alone_keeps_room_on_it() -> None:
    free, bound = {"accuracy_floor": 0.77}, {"accuracy_floor": 0.76, "floor": "each"}
    setting = tiny_setting(workload=halves(free, bound))
    obs = steady_observation(setting, 40.0)
    # Half of the capacity is medium, the least that `bound` accepts; `free` is owed more and chooses first.
    obs.ready[0, MEDIUM, OD], obs.ready[0, SMALL, OD] = 4, 2
    shares = shares_of(setting, obs)
    load = shares[:, MEDIUM, OD] * 20.0
    assert shares[1, MEDIUM, OD] == pytest.approx(1.0)
    assert load.sum() <= 40.0 + 1e-9  # what `free` still lacks it gets from what is to spare


@pytest.mark.parametrize(("rps", "expected"), [(6.0, 1.0), (12.0, 5 / 6)])
def test_a_class_short_of_accuracy_moves_onto_accurate_options_as_far_as_they_can_serve(
    rps: float, expected: float
) -> None:
    setting = tiny_setting()
    obs = steady_observation(setting, rps)
    # large holds 5/s, medium 10/s: equal use would leave a third of relaxed on medium, below what it owes
    obs.ready[0, MEDIUM, OD], obs.ready[0, LARGE, OD] = 1, 1
    obs.day_answered[0, RELAXED] = 100_000
    obs.day_accuracy_sum[0, RELAXED] = 0.70 * 100_000
    # The queue is as long as relaxed bears to wait in: it takes what is served, and does not grow.
    cat, slo_s = setting.catalog, setting.workload.slo_s[RELAXED]
    left_s = slo_s - setting.workload.network_s[RELAXED, LARGE, OD] - cat.service_s[LARGE, OD, 1]
    obs.queue[0, LARGE, OD] = round(PATIENCE * left_s * left_s / (left_s + setting.control.tick_s) * 5.0)
    assert shares_of(setting, obs)[RELAXED, LARGE, OD] == pytest.approx(expected, rel=0.01)


def test_a_class_with_time_fills_the_queue_of_what_answers_it_well_before_it_is_answered_badly() -> None:
    setting = tiny_setting()
    moved = []
    for queued in (0, 20, 40, 10_000):
        obs = steady_observation(setting, 50.0)
        obs.ready[0, MEDIUM, OD], obs.ready[0, SMALL, OD] = 2, 4  # 20 requests/s that relaxed (25) is answered well by
        obs.queue[0, MEDIUM, OD] = queued
        moved.append(shares_of(setting, obs)[RELAXED, MEDIUM, OD] * 25.0)
    assert moved[0] > 20.0  # more than it serves: the rest waits
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] < 20.0  # and a queue too long is worked off


@pytest.mark.parametrize(("floor", "is_filled"), [(0.70, True), (0.75, False)])
def test_a_queue_is_not_filled_where_a_class_in_a_hurry_has_nothing_else_that_keeps_its_floor(
    floor: float, is_filled: bool
) -> None:
    hurried, patient = {"accuracy_floor": floor, "slo_s": 2.0}, {"accuracy_floor": 0.76, "slo_s": 30.0}
    setting = tiny_setting(workload=halves(hurried, patient))
    obs = steady_observation(setting, 50.0)
    obs.ready[0, MEDIUM, OD], obs.ready[0, SMALL, OD] = 2, 4
    load = 25.0 * float(shares_of(setting, obs)[:, MEDIUM, OD].sum())
    assert (load > 20.5) == is_filled  # medium serves 20 requests/s
    assert load > 19.5


def test_no_credit_is_kept_of_a_variant_just_above_the_floor_that_another_class_needs() -> None:
    hurried, patient = {"accuracy_floor": 0.75, "slo_s": 2.0}, {"accuracy_floor": 0.758, "slo_s": 30.0}
    setting = tiny_setting(workload=halves(hurried, patient))
    obs = steady_observation(setting, 40.0)
    obs.ready[0, MEDIUM, OD], obs.ready[0, SMALL, OD] = 2, 1  # 20 requests/s of medium (0.76) for 40
    obs.day_answered[0] = 100_000
    obs.day_accuracy_sum[0] = [0.744 * 100_000, 0.7588 * 100_000]  # one is short, the other a little above
    on_medium = shares_of(setting, obs)[:, MEDIUM, OD]
    assert on_medium[0] == pytest.approx(1.0, abs=0.01)
    assert on_medium[1] < 0.5


def test_nobody_is_sent_to_a_queue_that_takes_longer_than_there_is_time() -> None:
    setting = tiny_setting()
    obs = steady_observation(setting, 50.0)
    obs.ready[0, MEDIUM, OD], obs.ready[0, SMALL, OD] = 2, 4
    assert shares_of(setting, obs)[:, MEDIUM, OD].sum() > 0.1
    obs.queue[0, MEDIUM, OD] = 10_000
    shares = shares_of(setting, obs)
    assert shares[:, MEDIUM].sum() == 0.0
    np.testing.assert_allclose(shares.sum(axis=(1, 2)), 1.0)
    obs.queue[0, SMALL, OD] = 10_000  # nowhere better
    assert shares_of(setting, obs)[:, MEDIUM].sum() > 0.1


def test_accuracy_is_bought_where_it_costs_least() -> None:
    setting = tiny_setting()
    obs = steady_observation(setting, 20.0)
    obs.ready[0, :3, OD] = 4, 4, 4
    # A debt of strict: medium brings 0.06 for one small more, large 0.12 for three more.
    obs.day_answered[0, STRICT] = 10_000
    obs.day_accuracy_sum[0, STRICT] = 0.695 * 10_000
    shares = shares_of(setting, obs)
    assert shares[STRICT, MEDIUM, OD] > shares[STRICT, LARGE, OD]


def test_doomed_replicas_still_serve_and_draining_ones_do_not() -> None:
    setting = tiny_setting()
    obs = steady_observation(setting, 50.0)
    obs.doomed[0, MEDIUM, SPOT_A], obs.draining[0, MEDIUM, OD] = 1, 5
    shares = shares_of(setting, obs)
    assert shares[:, MEDIUM, SPOT_A].tolist() == pytest.approx([1.0, 1.0])


def test_without_machines_requests_wake_the_cheapest_serverless_option() -> None:
    setting = tiny_setting()
    shares = shares_of(setting, steady_observation(setting, 50.0))
    assert shares[:, SMALL, FN].tolist() == [1.0, 1.0]


def test_unplanned_serverless_takes_no_direct_traffic_beside_machines() -> None:
    setting = tiny_setting()
    obs = steady_observation(setting, 50.0)
    obs.ready[0, MEDIUM, OD], obs.ready[0, MEDIUM, FN] = 1, 10
    assert (shares_of(setting, obs)[:, :, FN] == 0).all()
    plan = empty_plan(1, setting.shape)
    plan.replicas[0, MEDIUM, FN] = 10
    # 10 environments at 0.2 s serve 50/s beside 10/s of the machine
    assert shares_of(setting, obs, plan).sum(axis=0)[MEDIUM, FN] == pytest.approx(2 * 50 / 60)


def test_fixed_shares_are_renormalised_over_what_serves() -> None:
    setting = tiny_setting()
    obs = steady_observation(setting, 50.0)
    obs.ready[0, MEDIUM, OD], obs.ready[0, SMALL, OD] = 1, 1
    plan = empty_plan(1, setting.shape)
    plan.fixed_shares[0] = True
    plan.shares[0, :, MEDIUM, OD], plan.shares[0, :, SMALL, OD], plan.shares[0, :, LARGE, OD] = 0.2, 0.3, 0.5
    shares = shares_of(setting, obs, plan)
    assert shares[STRICT, MEDIUM, OD] == pytest.approx(0.4)
    assert shares[STRICT, SMALL, OD] == pytest.approx(0.6)


def test_a_class_that_cannot_overflow_is_left_what_it_needs_spare() -> None:
    setting = tiny_setting(workload=halves({"slo_s": 20.0}, {"floor": "each"}))
    allowed = setting.workload.allowed.copy()
    allowed[1, :, FN] = False
    bound = setting.workload._replace(allowed=allowed)
    bound = bound._replace(spare_rps=spare_rps(setting.catalog, bound))
    obs = steady_observation(setting, 50.0)
    obs.ready[0, MEDIUM, OD], obs.ready[0, SMALL, OD] = 4, 4  # medium, 40 requests/s, is all that `bound` accepts
    loads = [
        25.0 * float(shares_of(of, obs)[:, MEDIUM, OD].sum()) for of in (setting, replace(setting, workload=bound))
    ]
    assert loads[0] > 40.0  # who can wait fills the queue
    assert loads[1] == pytest.approx(40.0 - np.log(100.0) / 1.9, rel=0.02)
