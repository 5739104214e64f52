"""What a planner sees of tiers, and what becomes of its plan."""

from dataclasses import replace

import numpy as np
import pytest

from controller.arrays import empty_plan
from controller.tiers.expansion import expand
from tests.tiered import mixed_setting
from tests.tiny import FN, LARGE, MEDIUM, OD, SMALL, steady_observation

# Rows: turn, turn.2, once, once.2, alone, alone.2, plain. Work of the second steps: 0.4 and 0.55. The row `alone.2` is
# the best version's, which is no step of the tier.
WORK = np.array([1.0, 0.4, 1.0, 0.55, 1.0, 0.0, 1.0])
REAL_SHARE = np.array([0.4, 0.4, 0.2, 0.2, 0.2, 0.2, 0.2])


@pytest.fixture(scope="module")
def expansion():
    return expand(mixed_setting())


def test_every_step_is_a_class_with_the_requests_that_reach_it(expansion):
    setting = expansion.setting
    assert setting.class_names == ("turn", "turn.2", "once", "once.2", "alone", "alone.2", "plain")
    assert setting.tiers is None
    np.testing.assert_allclose(expansion.work, WORK)
    rates = setting.scenario.mean_rps * setting.workload.share
    np.testing.assert_allclose(rates, 50.0 * REAL_SHARE * WORK)
    assert setting.workload.share.sum() == pytest.approx(1.0)


def test_a_step_is_answered_by_its_variant_whose_accuracy_is_its_floor(expansion):
    workload = expansion.setting.workload
    variants = [np.flatnonzero(row).tolist() for row in workload.allowed.any(axis=2)]
    assert variants == [[SMALL], [LARGE], [SMALL], [LARGE], [MEDIUM], [LARGE], [SMALL, MEDIUM, LARGE]]
    np.testing.assert_allclose(workload.accuracy_floor, [0.7, 0.9, 0.7, 0.9, 0.8, 0.9, 0.7])


def test_time_to_wait_is_split_over_steps_in_turn_and_whole_for_steps_at_once(expansion):
    # Of 1.5 s the steps take 0.05 and 0.2 s; what is left, 1.25 s, is halved.
    np.testing.assert_allclose(expansion.setting.workload.slo_s, [0.675, 0.825, 1.5, 1.5, 1.5, 1.5, 1.5])


def test_a_step_overflows_to_its_own_variant_on_serverless(expansion):
    takes, num_pools = expansion.setting.workload.overflow_option, expansion.setting.shape[1]
    variants = [SMALL, LARGE, SMALL, LARGE, MEDIUM]
    assert takes[:5].tolist() == [v * num_pools + FN for v in variants]
    # The row of the best version, in case the tier of one version is demoted, waits for no overflow.
    assert takes[5] == -1
    assert takes[6] >= 0


def test_a_step_whose_serverless_option_takes_longer_than_its_part_of_the_slo_does_not_overflow():
    setting = mixed_setting()
    service_s = setting.catalog.service_s.copy()
    service_s[LARGE, FN] = 0.9
    slow = expand(replace(setting, catalog=setting.catalog._replace(service_s=service_s)))
    assert slow.setting.workload.overflow_option[1] == -1
    assert slow.setting.workload.overflow_option[0] >= 0


def test_a_step_sees_its_part_of_the_requests(expansion):
    observation = steady_observation(mixed_setting(), 50.0)
    observation.day_answered[:] = 1000
    observation.day_accuracy_sum[:] = 850.0
    seen = expansion.seen(observation)
    np.testing.assert_array_equal(seen.arrivals[0], [200, 80, 100, 55, 100, 0, 100])
    np.testing.assert_allclose(seen.history[0, :, 0], 500.0 * REAL_SHARE * WORK)
    np.testing.assert_array_equal(seen.day_answered[0], [1000, 400, 1000, 550, 1000, 0, 1000])
    # Of a step each answer is worth its variant; a plain class keeps its own.
    np.testing.assert_allclose(seen.day_accuracy_sum[0], [700.0, 360.0, 700.0, 495.0, 800.0, 0.0, 850.0])


def test_arrays_are_in_the_order_that_kernels_are_compiled_for(expansion):
    for array in expansion.seen(steady_observation(mixed_setting(), 50.0, 3)):
        assert array.flags.c_contiguous


def test_queued_requests_are_divided_as_the_queues_of_the_steps_are(expansion):
    observation = steady_observation(mixed_setting(), 50.0)
    observation.waiting[0] = [8, 3, 5, 7]
    observation.queue[0, SMALL, OD], observation.queue[0, LARGE, OD] = 6, 2
    # A quarter of what waits for small or large waits for large, rounded down.
    np.testing.assert_array_equal(expansion.seen(observation).waiting[0], [6, 2, 3, 0, 5, 0, 7])


def test_of_a_demoted_tier_the_best_version_sees_every_request_and_the_others_none(expansion):
    observation = steady_observation(mixed_setting(), 50.0, 2)
    observation.waiting[1] = [8, 3, 5, 7]
    observation.queue[1, SMALL, OD] = 6
    observation.demoted[1, [0, 2]] = True  # turn, alone
    seen = expansion.seen(observation)
    np.testing.assert_array_equal(seen.arrivals[0], [200, 80, 100, 55, 100, 0, 100])
    np.testing.assert_array_equal(seen.arrivals[1], [0, 200, 100, 55, 0, 100, 100])
    np.testing.assert_allclose(seen.history[1, :, 0], [0.0, 200.0, 100.0, 55.0, 0.0, 100.0, 100.0])
    np.testing.assert_array_equal(seen.waiting[1], [0, 8, 3, 0, 0, 5, 7])


def test_a_folded_plan_keeps_the_fleet_and_carries_the_cascades(expansion):
    plan = empty_plan(2, expansion.setting.shape)
    plan.replicas[:, SMALL, OD] = 3
    plan.overflow_after_s[:] = np.arange(7.0)
    plan.shed_limit[:] = np.arange(7)
    plan.cascade_variant[:, 0, 0] = MEDIUM
    plan.collage_variant[:] = LARGE
    folded = expansion.fold(plan, expansion.empty_plan(2))
    assert folded.replicas is plan.replicas  # what the guard changes, the planner sees
    np.testing.assert_array_equal(folded.overflow_after_s[1], [0.0, 2.0, 4.0, 6.0])
    np.testing.assert_array_equal(folded.shed_limit[1], [0, 2, 4, 6])
    steps = [[SMALL, LARGE, -1], [SMALL, LARGE, -1], [MEDIUM, -1, -1], [-1, -1, -1]]
    np.testing.assert_array_equal(folded.cascade_variant[1], steps)
    np.testing.assert_array_equal(folded.cascade_concurrent[1], [False, True, False, False])
    np.testing.assert_array_equal(folded.cascade_threshold[1, :, 0], [0.5, 0.5, 0.0, 0.0])
    np.testing.assert_array_equal(folded.collage_variant[1], [-1, -1, -1, LARGE])
    for array, like in zip(folded, empty_plan(2, mixed_setting().shape), strict=True):
        assert array.shape == like.shape
        assert array.dtype == like.dtype
