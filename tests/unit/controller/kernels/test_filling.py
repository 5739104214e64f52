"""Demand fills pools cheapest first and only as far as they have room, and its price follows; worked by hand."""

import numpy as np
import pytest

from controller.arrays import ON_DEMAND, SERVERLESS, SPOT
from controller.kernels.filling import fill_pools, whole_prices

MARKET = np.array([ON_DEMAND, ON_DEMAND, SPOT, SPOT, SERVERLESS])
USD = np.array([[4.0, 2.0, 1.0, 1.2, np.inf]])
RPS = np.array([[10.0, 20.0, 10.0, 10.0, 1.0]])
ALLOWED = np.ones((1, 1, 5), np.bool_)


def filled(need, *, base=0.0, spot=0.0, over=1.0, spread=0.0, most=(9, 9, 9, 9, 9), closed=(), used=(0, 0, 0, 0, 0)):
    available = np.ones((1, 5), np.bool_)
    available[0, list(closed)] = False
    taken = np.empty(5)
    cost, is_blocked = fill_pools(
        ALLOWED, MARKET, USD, np.array([np.inf]), RPS, np.array(most), available, 0, 0, 0,
        need, base, spot, over, spread, np.array(used, float), taken,
    )  # fmt: skip
    return cost, taken.round(9).tolist(), is_blocked


def test_a_cheap_pool_with_one_machine_serves_the_first_requests_alone() -> None:
    # One machine of the cheap pool does 20; the other 30 cost twice as much.
    cost, taken, is_blocked = filled(50.0, most=(9, 1, 9, 9, 9))
    assert taken == [30.0, 20.0, 0.0, 0.0, 0.0]
    assert cost == pytest.approx((30 * 4 + 20 * 2) / 50)
    assert not is_blocked
    assert filled(20.0, most=(9, 1, 9, 9, 9))[0] == 2.0


def test_a_machines_whole_rent_is_divided_among_the_classes_that_its_variant_suits() -> None:
    usd, rps = np.array([[4.0, 2.0], [1.0, np.inf]]), np.array([[10.0, 40.0], [20.0, 0.0]])
    near, prices, filled_rps = np.array([[True, False], [True, True]]), np.empty((2, 2)), np.empty(2)
    whole_prices(usd, rps, near, np.array([5.0, 11.0]), 0, prices, filled_rps)
    # Both classes fill machines of variant 0: 16 of 40 requests/s. Class 1 alone joins class 0 on variant 1 as well.
    assert prices.tolist() == [[4.0, 2.0 * 40 / 16], [1.0 * 20 / 16, np.inf]]
    assert filled_rps.tolist() == [16.0, 16.0]
    whole_prices(usd, rps, near, np.array([5.0, 11.0]), 1, prices, filled_rps)
    assert filled_rps.tolist() == [16.0, 11.0]
    assert prices.tolist() == [[4.0, 2.0 * 40 / 16], [1.0 * 20 / 11, np.inf]]


def test_machines_taken_before_leave_less_room() -> None:
    assert filled(50.0, most=(9, 2, 9, 9, 9), used=(0, 1, 0, 0, 0))[1] == [30.0, 20.0, 0.0, 0.0, 0.0]


def test_markets_share_the_demand_and_spot_is_over_provisioned() -> None:
    # 0.2 in any case and half of the rest on demand: 60; 40 on spot, of which 1.5 times as much is bought.
    cost, taken, _ = filled(100.0, base=0.2, spot=0.5, over=1.5, most=(99, 99, 99, 99, 0))
    assert taken == [0.0, 60.0, 60.0, 0.0, 0.0]
    assert cost == pytest.approx((60 * 2 + 60 * 1) / 100)


def test_spot_is_spread_over_pools_near_the_cheapest_and_goes_on_to_dearer_ones_when_they_are_full() -> None:
    assert filled(40.0, spot=1.0, spread=0.3)[1] == [0.0, 0.0, 20.0, 20.0, 0.0]
    assert filled(40.0, spot=1.0, spread=0.3, most=(9, 9, 1, 9, 9))[1] == [0.0, 0.0, 10.0, 30.0, 0.0]
    assert filled(40.0, spot=1.0, most=(9, 9, 1, 9, 9))[1] == [0.0, 0.0, 10.0, 30.0, 0.0]
    # Both spot pools full: what is left of 40 is bought on demand.
    assert filled(40.0, spot=1.0, most=(9, 9, 1, 1, 9))[1] == [0.0, 20.0, 10.0, 10.0, 0.0]


def test_a_part_on_demand_that_is_hardly_worth_a_machine_goes_to_spot() -> None:
    # 0.1 of 40 is 4 requests/s, of 60 is 6; the smallest machine on demand does 10.
    assert filled(40.0, base=0.1, spot=1.0)[1] == [0.0, 0.0, 40.0, 0.0, 0.0]
    assert filled(60.0, base=0.1, spot=1.0)[1][:2] == [6.0, 0.0]
    # What was asked to be on demand, in all or for the most part, stays there however little it is.
    assert filled(2.0, spot=0.0)[1][2:4] == [0.0, 0.0]
    assert filled(2.0, base=0.6, spot=1.0)[1] == [1.2, 0.0, 0.8, 0.0, 0.0]


def test_on_demand_a_small_part_is_bought_where_a_whole_machine_costs_less() -> None:
    # The second pool is half as dear per request, but twice as large: at 6 requests/s a machine costs the same in both
    # (40 $/s), at 12 two of the first or one of the second.
    assert filled(12.0)[1][:2] == [0.0, 12.0]
    assert filled(6.0)[1][:2] == [6.0, 0.0]


def test_a_machine_that_prices_divide_already_is_not_divided_twice() -> None:
    # 15 requests/s: two of the first pool cost 2 x 10 x 3 $, one of the second 20 x 2 $. Its price says so already.
    usd, taken = np.array([[3.0, 2.0 * 20 / 15, np.inf, np.inf, np.inf]]), np.empty(5)
    fill_pools(
        ALLOWED, MARKET, usd, np.array([15.0]), RPS, np.full(5, 9), np.ones((1, 5), np.bool_),
        0, 0, 0, 15.0, 1.0, 0.0, 1.0, 0.0, np.zeros(5), taken,
    )  # fmt: skip
    assert taken[:2].tolist() == [0.0, 15.0]


def test_spot_dearer_than_on_demand_is_not_bought() -> None:
    assert filled(40.0, spot=1.0, over=2.5)[1] == [0.0, 40.0, 0.0, 0.0, 0.0]


def test_closed_pools_are_left_out_until_nothing_else_is_there() -> None:
    assert filled(20.0, closed=(1,))[1] == [20.0, 0.0, 0.0, 0.0, 0.0]
    cost, taken, is_blocked = filled(20.0, closed=(0, 1, 2, 3))
    assert (cost, taken, is_blocked) == (2.0, [0.0, 20.0, 0.0, 0.0, 0.0], True)


def test_what_no_pool_has_room_for_stands_at_the_cheapest_at_the_price_of_the_dearest() -> None:
    cost, taken, _ = filled(50.0, most=(1, 1, 0, 0, 0))
    assert sum(taken) == pytest.approx(50.0)
    assert cost == pytest.approx((20 * 2 + 10 * 4 + 20 * 4) / 50)


def test_without_machines_the_price_is_infinite() -> None:
    taken = np.empty(5)
    cost, is_blocked = fill_pools(
        np.zeros((1, 1, 5), np.bool_), MARKET, USD, np.array([1.0]), RPS, np.full(5, 9), np.ones((1, 5), np.bool_),
        0, 0, 0, 1.0, 0.0, 0.0, 1.0, 0.0, np.zeros(5), taken,
    )  # fmt: skip
    assert cost == np.inf
    assert is_blocked
    assert not taken.any()
