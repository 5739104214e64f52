import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from controller.arrays import empty_plan
from controller.plan import Reason
from controller.trust.band import hold_within_band

SHAPE = (3, 2, 1)
REPLICAS = arrays(np.int64, (2, 3, 2), elements=st.integers(0, 40))


def held(wanted, around, share=0.2, least=1):
    plan, rule = empty_plan(len(wanted), SHAPE), empty_plan(len(wanted), SHAPE)
    plan.replicas[...], rule.replicas[...] = wanted, around
    hold_within_band(plan, rule, share, least)
    return plan


def one_pool(*variants):
    """Replicas by variant on the first pool of one env."""
    replicas = np.zeros((1, 3, 2), np.int64)
    replicas[0, :, 0] = variants
    return replicas


def test_replicas_stay_within_a_share_of_the_rules():
    # A fifth of 20 is 4; of 5 it is 1, exactly.
    assert held(one_pool(40, 0, 0), one_pool(20, 5, 0)).replicas[0, :, 0].tolist() == [24, 4, 0]


def test_many_options_do_not_add_up_in_a_pool():
    # Each option may have one more or less; the pool of six may have one more.
    assert held(one_pool(9, 9, 9), one_pool(2, 2, 2)).replicas[0, :, 0].tolist() == [2, 2, 3]
    assert held(one_pool(0, 0, 0), one_pool(2, 2, 2)).replicas[0, :, 0].tolist() == [2, 2, 1]


def test_plan_within_the_band_is_untouched_and_says_nothing():
    plan = held(one_pool(5, 0, 1), one_pool(5, 1, 0))
    assert plan.replicas[0, :, 0].tolist() == [5, 0, 1]
    assert plan.reasons[0] == 0


def test_plan_that_was_moved_says_so_in_its_own_env_alone():
    wanted = np.concatenate([one_pool(9, 0, 0), one_pool(1, 0, 0)])
    plan = held(wanted, np.concatenate([one_pool(1, 0, 0)] * 2))
    assert [bool(r & Reason.CANARY_BAND) for r in plan.reasons] == [True, False]


@given(wanted=REPLICAS, around=REPLICAS, share=st.sampled_from([0.0, 0.1, 0.2, 1.0]), least=st.integers(0, 3))
def test_band_holds_for_options_and_pools_and_a_second_pass_changes_nothing(wanted, around, share, least):
    once = held(wanted, around, share, least).replicas
    assert (once >= 0).all()
    width = np.maximum(least, np.floor(share * around + 1e-9))
    assert (np.abs(once - around) <= width).all()
    sums = around.sum(axis=1)
    assert (np.abs(once.sum(axis=1) - sums) <= np.maximum(least, np.floor(share * sums + 1e-9))).all()
    np.testing.assert_array_equal(held(once, around, share, least).replicas, once)
