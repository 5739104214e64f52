"""Costs at equal attainment and accuracy, read off small frontiers by hand."""

import math

import numpy as np
import pytest

from controller.errors import UsageError
from experiments.frontier import (
    ACCURACY_MARGIN,
    MISS_MARGIN,
    Sweep,
    Target,
    daily_cost,
    own_target,
    place_at,
    pooled,
    promised_target,
)


def sweep(cost, missed, accuracy, requests=1000.0):
    """A sweep from (I, J, D) costs, misses (I, J, D) or (I, J, D, C), and accuracies that broadcast to the misses."""
    cost, missed = np.array(cost, float), np.array(missed, float)
    if missed.ndim == 3:
        missed = missed[..., None]
    arrived = np.full(missed.shape, requests)
    answered = arrived - missed
    rate = np.broadcast_to(np.array(accuracy, float), missed.shape)
    return Sweep(cost, arrived, missed, answered, answered * rate)


def target(miss_share, accuracy, days=1):
    groups = len(miss_share)
    even = np.full((groups, days), 1.0 / days)
    return Target(np.array(miss_share), np.array(accuracy), even, np.zeros((groups, days)))


def test_cost_is_read_off_on_the_logarithm_of_the_misses() -> None:
    # 4 % of misses for 10, 1 % for 14. Half way in logarithms is 2 %: 12.
    found = sweep([[[10.0]], [[14.0]]], [[[40.0]], [[10.0]]], 0.8)
    place = place_at(found, target([0.02], [-np.inf]))
    assert place.status == "equal"
    assert place.weights == pytest.approx(np.array([[0.5], [0.5]]))
    assert daily_cost(found, place, target([0.02], [-np.inf])) == pytest.approx([12.0])
    assert place.miss_share == pytest.approx([0.02])


def test_accuracy_is_put_right_before_attainment_is() -> None:
    # At either setting accuracy 0.8 lies half way between 0.79 and 0.81: there 11 for 4 % and 15 for 1 %.
    found = sweep(
        [[[10.0], [12.0]], [[14.0], [16.0]]],
        [[[40.0], [40.0]], [[10.0], [10.0]]],
        np.array([0.79, 0.81])[None, :, None, None],
    )
    place = place_at(found, target([0.02], [0.8]))
    assert place.weights == pytest.approx(np.full((2, 2), 0.25))
    assert daily_cost(found, place, target([0.02], [0.8])) == pytest.approx([13.0])
    # Misses x e cost 4 / ln 4 less; a point of accuracy costs 1.
    assert place.usd_per_log_miss == pytest.approx([-4.0 / math.log(4.0)])
    assert place.usd_per_accuracy == pytest.approx([100.0])


def test_a_scheme_whose_accuracy_comes_of_its_capacity_is_turned_by_that_dial_alone() -> None:
    # Accuracy is right two thirds of the way from 10 to 16; misses are fewer than asked all along.
    found = sweep([[[10.0]], [[16.0]]], [[[10.0]], [[5.0]]], np.array([0.78, 0.81])[:, None, None, None])
    asked = target([0.02], [0.8])
    place = place_at(found, asked)
    assert place.weights == pytest.approx(np.array([[1.0], [2.0]]) / 3.0)
    assert (place.status, place.accuracy) == ("better", pytest.approx([0.8]))
    assert daily_cost(found, place, asked) == pytest.approx([14.0])
    assert place.usd_per_accuracy == pytest.approx([6.0 / 0.03])
    assert place.usd_per_log_miss == pytest.approx([0.0])


def test_a_point_within_the_margin_counts_only_where_nothing_is_at_the_target() -> None:
    # The cheap point is short of the accuracy by half the margin; both dials together are right for more.
    accuracy = np.array([[0.8 - ACCURACY_MARGIN / 2.0, 0.8 + ACCURACY_MARGIN / 2.0]])[..., None, None]
    found = sweep([[[10.0], [12.0]]], [[[20.0], [20.0]]], accuracy)
    asked = target([0.02], [0.8])
    assert daily_cost(found, place_at(found, asked), asked) == pytest.approx([11.0])


def test_accuracy_that_is_paid_in_misses_has_the_price_of_both() -> None:
    # Going from 0.79 to 0.81 costs 2 and doubles the misses, which costs half of 4 to undo: 4 for 0.02.
    found = sweep(
        [[[10.0], [12.0]], [[14.0], [16.0]]],
        [[[40.0], [80.0]], [[10.0], [20.0]]],
        np.array([0.79, 0.81])[None, :, None, None],
    )
    place = place_at(found, target([0.02], [0.8]))
    assert place.usd_per_accuracy == pytest.approx([200.0])


def test_every_class_must_be_at_its_target() -> None:
    # The first class is at 2 % half way, where the second is at 3 %; the second is at 1.5 % at the end only.
    missed = [[[[40.0, 60.0]]], [[[10.0, 15.0]]]]
    found = sweep([[[10.0]], [[14.0]]], missed, 0.8)
    assert daily_cost(found, place_at(found, target([0.02, 0.03], [0.0, 0.0])), target([0.02, 0.03], [0.0, 0.0])) == (
        pytest.approx([12.0])
    )
    tight = target([0.02, 0.015], [0.0, 0.0])
    assert daily_cost(found, place_at(found, tight), tight) == pytest.approx([14.0])


def test_classes_are_pooled_where_one_target_is_given() -> None:
    miss_share, accuracy = pooled(sweep([[[1.0]]], [[[[10.0, 30.0]]]], [0.7, 0.9]), 1)
    assert miss_share[0, 0] == pytest.approx([0.02])
    # 990 answers at 0.7 and 970 at 0.9.
    assert accuracy[0, 0] == pytest.approx([0.7989796])
    with pytest.raises(UsageError, match="1 group or 2"):
        pooled(sweep([[[1.0]]], [[[[10.0, 30.0]]]], 0.8), 3)


def test_nothing_is_extrapolated() -> None:
    found = sweep([[[10.0]], [[14.0]]], [[[40.0]], [[10.0]]], 0.8)
    place = place_at(found, target([0.005], [-np.inf]))
    assert place.status == "not reachable"
    assert "2 times" in place.reason
    assert np.isnan(daily_cost(found, place, target([0.005], [-np.inf]))).all()
    place = place_at(found, target([0.02], [0.85]))
    assert place.status == "not reachable"
    assert "5.00 points below" in place.reason


def test_a_shortfall_within_the_margin_is_equal_at_the_cost_of_the_best_point() -> None:
    found = sweep([[[10.0]], [[14.0]]], [[[40.0]], [[10.0]]], 0.8)
    near = target([0.01 * math.exp(-0.9 * MISS_MARGIN)], [0.8 + 0.9 * ACCURACY_MARGIN])
    place = place_at(found, near)
    assert place.status == "equal"
    assert daily_cost(found, place, near) == pytest.approx([14.0])
    for beyond in (target([0.01 * math.exp(-1.1 * MISS_MARGIN)], [0.8]), target([0.01], [0.8 + 1.1 * ACCURACY_MARGIN])):
        assert place_at(found, beyond).status == "not reachable"


def test_a_policy_without_dials_is_compared_at_what_it_delivers() -> None:
    found = sweep([[[10.0]]], [[[10.0]]], 0.85)
    place = place_at(found, target([0.02], [0.8]))
    assert place.status == "better"
    assert "50 % fewer misses and 5.00 points more accurate" in place.reason
    assert daily_cost(found, place, target([0.02], [0.8])) == pytest.approx([10.0])


def test_the_cheapest_place_counts_where_several_are_at_the_target() -> None:
    # More headroom than the middle setting is dearer and no better.
    found = sweep([[[10.0]], [[12.0]], [[13.0]]], [[[40.0]], [[10.0]], [[10.0]]], 0.8)
    assert daily_cost(found, place_at(found, target([0.01], [0.0])), target([0.01], [0.0])) == pytest.approx([12.0])


def test_nothing_is_interpolated_across_a_setting_that_misses_the_accuracy() -> None:
    accuracy = np.array([0.8, 0.7, 0.8])[:, None, None, None]
    found = sweep([[[10.0]], [[11.0]], [[14.0]]], [[[40.0]], [[20.0]], [[10.0]]], accuracy)
    assert place_at(found, target([0.02], [0.8])).weights == pytest.approx(np.array([[0.0], [0.0], [1.0]]))


def test_a_reference_is_at_its_own_target_at_its_own_cost() -> None:
    found = sweep([[[9.0, 11.0]], [[12.0, 16.0]]], [[[10.0, 70.0]], [[5.0, 15.0]]], 0.8)
    own = own_target(found, (1, 0))
    assert own.miss_share == pytest.approx([0.01])
    place = place_at(found, own)
    assert place.status == "equal"
    assert daily_cost(found, place, own) == pytest.approx([12.0, 16.0])


def test_a_day_is_charged_for_its_misses_above_the_targets() -> None:
    # Half way the days cost 11 and 13.
    found = sweep([[[9.0, 11.0]], [[13.0, 15.0]]], [[[20.0, 60.0]], [[10.0, 10.0]]], 0.8)
    promised = target([0.02], [-np.inf], days=2)
    place = place_at(found, promised)
    # ln(0.04 / 0.02) / ln(0.04 / 0.01) = 1/2, so 4 / ln 4 for a unit of log misses.
    assert place.usd_per_log_miss == pytest.approx([-4.0 / math.log(4.0)])
    # Parts in the misses: 1/4 and 3/4 at one setting, 1/2 each at the other, so 3/8 and 5/8 where 1/2 each is allowed.
    price = 2 * 0.125 * 4.0 / math.log(4.0)
    found_cost = daily_cost(found, place, promised)
    assert found_cost == pytest.approx([11.0 - price, 13.0 + price])
    assert found_cost.mean() == pytest.approx(12.0)


def test_resamples_of_daily_costs_are_charged_as_if_the_dial_were_set_on_them() -> None:
    # To first order, a resample of days costs what it would with the dial set anew on it.
    cost = [[[100.0, 102.0]], [[110.0, 112.2]]]
    missed = [[[30.0, 34.0]], [[9.0, 12.0]]]
    found = sweep(cost, missed, 0.8)
    promised = target([0.018], [-np.inf], days=2)
    daily = daily_cost(found, place_at(found, promised), promised)
    step = 1e-4
    weights = np.array([1.0 + step, 1.0 - step])  # a little more of day 1
    shifted = Sweep(
        found.cost_usd * weights, *(one * weights[:, None] for one in (
            found.requests, found.missed, found.answered, found.accuracy_sum
        ))
    )  # fmt: skip
    anew = daily_cost(shifted, place_at(shifted, promised), promised).mean()
    assert (anew - daily.mean()) / step == pytest.approx(float((daily * [0.5, -0.5]).sum()), rel=0.001)


def test_no_miss_and_no_answer_are_finite() -> None:
    none = sweep([[[1.0]]], [[[0.0]]], 0.8)
    assert pooled(none, 1)[0] == pytest.approx(0.0005)
    silent = sweep([[[1.0]]], [[[1000.0]]], 0.8)
    assert own_target(silent, (0, 0)).accuracy == -np.inf
    assert place_at(silent, own_target(silent, (0, 0))).status == "equal"


def test_a_promise_is_spread_over_days_by_their_requests() -> None:
    found = sweep([[[1.0, 1.0]]], [[[[10.0, 10.0], [10.0, 10.0]]]], 0.8)
    found.requests[0, 0, 1] = 3000.0
    promised = promised_target(found, np.array([0.99, 1.0]), np.array([0.8, 0.7]))
    assert promised.miss_part == pytest.approx(np.array([[0.25, 0.75], [0.25, 0.75]]))
    # Of a class that may miss nothing half a request of 4000 is allowed, so that its logarithm is finite.
    assert promised.miss_share == pytest.approx([0.01, 0.5 / 4000])
