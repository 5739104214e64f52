"""Tiers of classes in array form, by rows that are counted by hand, and what is refused."""

import numpy as np
import pytest

from controller.errors import ScenarioError
from tests.tiered import ALONE, AT_ONCE, IN_TURN, mixed_setting, request_class, tiered_setting
from tests.tiny import FN, LARGE, MEDIUM, SMALL, tiny_setting

TURN, ONCE, LONE, PLAIN = range(4)


def test_a_setting_without_tiers_has_none():
    assert tiny_setting().tiers is None


def test_what_reaches_each_step_is_counted_in_the_rows():
    tiers = mixed_setting().tiers
    np.testing.assert_array_equal(tiers.variant[TURN], [SMALL, LARGE, -1])
    np.testing.assert_array_equal(tiers.variant[PLAIN], [-1, -1, -1])
    np.testing.assert_allclose(tiers.reach[TURN], [1.0, 0.4, 0.0])
    np.testing.assert_allclose(tiers.work[TURN], [1.0, 0.4, 0.0])
    np.testing.assert_allclose(tiers.accuracy[:3], [0.9, 0.9, 0.8])
    assert np.isnan(tiers.accuracy[PLAIN])


def test_a_second_step_that_begins_at_once_works_until_the_first_is_sure():
    # 0.4 of the requests need all of it; of the others it runs 0.05 s of its 0.2 s.
    np.testing.assert_allclose(mixed_setting().tiers.work[ONCE], [1.0, 0.4 + 0.6 * 0.25, 0.0])


def test_without_measured_answers_every_request_reaches_every_step():
    setting = tiered_setting(request_class("turn", 1.0, IN_TURN), has_answers=False)
    np.testing.assert_array_equal(setting.tiers.reach[0], [1.0, 1.0, 0.0])
    assert not setting.tiers.is_measured[0]


def test_only_the_tiers_variants_may_answer():
    allowed = mixed_setting().workload.allowed.any(axis=2)
    np.testing.assert_array_equal(allowed[TURN], [True, False, True])
    np.testing.assert_array_equal(allowed[LONE], [False, True, False])
    np.testing.assert_array_equal(allowed[PLAIN], [True, True, True])


def test_overflow_begins_the_cascade_on_serverless():
    num_pools = mixed_setting().shape[1]
    assert mixed_setting().workload.overflow_option[TURN] == SMALL * num_pools + FN
    assert mixed_setting().workload.overflow_option[LONE] == MEDIUM * num_pools + FN


@pytest.mark.parametrize(
    ("tier", "changes", "text"),
    [
        (IN_TURN, {"slo_s": 0.24, "accuracy_floor": 0.0}, r"slo_s: expected at least 0.25 s .*got 0.24"),
        (IN_TURN, {"slo_s": 0.1}, "variants: expected variants that may answer .*got 'large'"),
        (ALONE, {"accuracy_floor": 0.85}, r"accuracy_floor: expected at most 0.8 .*got 0.85"),
        (IN_TURN, {"accuracy_floor": 0.8, "floor": "each"}, "variants: expected variants that may .*got 'small'"),
    ],
)
def test_tiers_that_cannot_be_kept_are_refused(tier, changes, text):
    with pytest.raises(ScenarioError, match=text):
        tiered_setting(request_class("gold", 1.0, tier, **changes))


def test_steps_that_begin_at_once_need_the_longest_of_their_times():
    tiered_setting(request_class("once", 1.0, AT_ONCE, slo_s=0.24))
