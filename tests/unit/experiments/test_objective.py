"""Inside the promises only money counts; outside, the excess does."""

import numpy as np
import pytest

from controller.arrays import WorkloadArrays
from experiments.objective import ObjectiveConfig, Outcome, score

CONFIG = ObjectiveConfig(miss_weight=40.0, accuracy_weight=40.0, miss_room=0.8, accuracy_room=0.0)


def workload(floor_each=False):
    nothing = dict.fromkeys(WorkloadArrays._fields, None)
    return WorkloadArrays(
        **{
            **nothing,
            "attainment_target": np.array([0.99, 0.95]),
            "accuracy_floor": np.array([0.7, 0.78]),
            "floor_each": np.array([False, floor_each]),
        }
    )


def outcome(missed=((0, 0), (0, 0)), accuracy=((0.8, 0.8), (0.8, 0.8)), cost=(10.0, 20.0)):
    answered = np.full((2, 2), 1000)
    return Outcome(np.array(cost), answered.copy(), np.array(missed), answered, np.array(accuracy) * answered)


def test_kept_promises_cost_their_money_alone():
    # Mean of 10 and 20 over a reference of 30.
    assert score(outcome(), workload(), CONFIG, 30.0).value == pytest.approx(0.5)


def test_misses_within_the_room_are_free_and_pooled_over_episodes():
    # Class 0 may miss 1 % x 0.8 of 2000: 16, whichever episode they fall in.
    assert score(outcome(missed=((16, 0), (0, 0))), workload(), CONFIG, 30.0).value == pytest.approx(0.5)


def test_excess_misses_are_charged_by_their_weight_on_what_was_paid():
    # 36 of 2000 misses are 1.8 %, 1 % above the room of 0.8 %: cost x (1 + 40 x 0.01).
    assert score(outcome(missed=((36, 0), (0, 0))), workload(), CONFIG, 10.0).value == pytest.approx(1.5 * 1.4)


def test_excess_misses_are_charged_on_no_less_than_the_reference():
    # 15 of 30 USD are paid, and 40 x 0.01 of 30 added.
    assert score(outcome(missed=((36, 0), (0, 0))), workload(), CONFIG, 30.0).value == pytest.approx(0.5 + 0.4)


def test_serving_nothing_for_next_to_nothing_is_no_bargain():
    kept = score(outcome(cost=(60.0, 60.0)), workload(), CONFIG, 30.0)
    nothing = score(outcome(missed=((1000, 1000), (1000, 1000)), cost=(0.1, 0.1)), workload(), CONFIG, 30.0)
    assert nothing.value > 10 * kept.value


def test_accuracy_below_the_floor_raises_the_cost_and_hours_make_up_for_each_other():
    # Class 1 means 0.77, 0.01 below its floor: cost x (1 + 40 x 0.01). With 0.76 and 0.80 the mean is 0.78 and enough.
    short = score(outcome(accuracy=((0.8, 0.76), (0.8, 0.78))), workload(), CONFIG, 10.0)
    assert short.accuracy_gap == pytest.approx(0.01)
    assert short.value == pytest.approx(1.5 * 1.4)
    repaid = score(outcome(accuracy=((0.8, 0.76), (0.8, 0.8001))), workload(), CONFIG, 30.0)
    assert repaid.value == pytest.approx(0.5)


def test_floor_on_each_request_is_not_a_mean_to_hold():
    found = score(outcome(accuracy=((0.8, 0.76), (0.8, 0.76))), workload(floor_each=True), CONFIG, 30.0)
    assert found.accuracy_gap == 0.0


def test_episode_without_answers_breaks_no_mean():
    empty = Outcome(
        np.array([3.0]), np.zeros((1, 2), int), np.zeros((1, 2), int), np.zeros((1, 2), int), np.zeros((1, 2))
    )
    assert score(empty, workload(), CONFIG, 3.0).value == pytest.approx(1.0)
