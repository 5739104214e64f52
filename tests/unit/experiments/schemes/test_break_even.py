"""Costs cross where the law says, and a crossing is interpolated between two rates."""

import pytest

from controller.catalog import Market
from controller.catalog_changes import CatalogChanges
from experiments.schemes.break_even import (
    Crossing,
    break_even,
    cold_extra_usd,
    comparison_setting,
    crossing,
    crossings,
    machine_row,
    options,
    warm_invocation_usd,
)
from experiments.schemes.constant_load import Load, full_rps, measure, silent, smallest_fleets
from tests.tiny import FN, MEDIUM, SMALL, tiny_catalog, tiny_setting


def test_the_law_is_price_over_what_a_busy_machine_would_pay_for_calls():
    # Two requests/s are 7200 an hour and cost 0.072 $ at 1e-5 $ a call: a quarter of them costs what 0.018 $/h do.
    assert break_even(0.018, 2.0, 1e-5) == pytest.approx(0.25)


def test_the_crossing_is_interpolated_between_the_rates_around_it():
    # The gap goes from -2 at 1 to +1 at 4: two thirds of the way, 3.
    assert crossing([0.0, 1.0, 4.0, 5.0], [0.0, 1.0, 4.0, 9.0], [3.0, 3.0, 3.0, 3.0]) == pytest.approx(3.0)


@pytest.mark.parametrize("rising", [[0.0, 1.0, 2.0], [3.5, 4.0, 5.0]], ids=["never", "from the start"])
def test_without_a_crossing_there_is_none(rising):
    assert crossing([0.0, 1.0, 2.0], rising, [3.0, 3.0, 3.0]) is None


def test_a_deviation_is_relative_and_infinite_without_a_crossing():
    one = Crossing("m", "p", 1.0, 10.0, 1e-5, 0.0, 2e-5, law=0.2, law_warm=0.4, measured=0.21)
    assert one.deviation == pytest.approx(0.05)
    assert one.deviation_warm == pytest.approx(-0.475)
    assert Crossing("m", "p", 1.0, 10.0, 1e-5, 0.0, 2e-5, 0.2, 0.4, None).deviation == float("inf")


def test_a_warm_call_costs_its_memory_seconds_and_its_fee():
    # 0.2 s x 1.5 GB x 1.66667e-5 + 2e-7; a cold start of 3 s adds 3 x 1.5 x 1.66667e-5.
    setting = tiny_setting()
    assert warm_invocation_usd(setting, MEDIUM, FN) == pytest.approx(0.2 * 1.5 * 1.66667e-5 + 2e-7)
    assert cold_extra_usd(setting, MEDIUM, FN) == pytest.approx(3 * 1.5 * 1.66667e-5)


def test_only_the_machine_and_the_serverless_pools_named_are_compared():
    setting = comparison_setting(tiny_catalog(), "od", ("fn",))
    assert setting.pool_names == ("od", "fn")
    assert options(setting) == [(0, 1), (1, 1), (2, 1)]
    assert machine_row(setting) == 0


def test_simulated_costs_cross_where_the_law_says():
    # A machine of 0.072 $/h. Calls of the small variant cost 0.1 s x 1.5 GB x 1.66667e-5 + 2e-7 = 2.7e-6 $ warm, and a
    # busy machine answers 20 a second: u* is 0.370 without cold starts, which make it less.
    catalog = CatalogChanges(price_factor={Market.ON_DEMAND: 0.2}).applied_to(tiny_catalog())
    found = crossings(comparison_setting(catalog, "od", ("fn",)), hours=0.5, say=silent)
    small = found[SMALL]
    assert small.law_warm == pytest.approx(0.072 / (3600 * 20 * 2.7e-6), rel=1e-4)
    assert small.law < small.law_warm
    assert [one.deviation for one in found] == pytest.approx([0.0, 0.0, 0.0], abs=0.05)


def test_costs_of_one_load_are_rent_or_calls_and_equal_rates_meet_equal_requests():
    setting = comparison_setting(tiny_catalog(), "od", ("fn",))
    rented, called = measure(setting, [Load(4.0, MEDIUM, 0, 1), Load(4.0, MEDIUM, 1)], hours=0.25)
    assert rented.requests == called.requests
    assert rented.machine_usd == pytest.approx(0.36 / 4)
    assert rented.serverless_usd == called.machine_usd == 0.0
    calls_usd = called.requests * warm_invocation_usd(setting, MEDIUM, 1)
    assert called.serverless_usd == pytest.approx(calls_usd + called.cold_starts * cold_extra_usd(setting, MEDIUM, 1))
    # Busy share: 4 requests/s x 0.1 s on one credit, up to Poisson noise of 3600 requests.
    assert rented.busy_share == pytest.approx(0.4, abs=0.03)


def test_the_smallest_fleet_that_keeps_up_is_found_or_none():
    setting = comparison_setting(tiny_catalog(), "od", ("fn",))
    assert full_rps(setting, MEDIUM, 0) == pytest.approx(10.0)
    (count, outcome), none = smallest_fleets(setting, [(25.0, MEDIUM, 0), (1e-9, MEDIUM, 0)], hours=0.2)
    assert count == 3
    assert outcome.attainment >= 0.99
    assert none is not None
