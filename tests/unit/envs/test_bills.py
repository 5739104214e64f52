"""Whole bills worked by hand: from a catalog's price list through the simulator to the last cent.

Round prices make the arithmetic plain. A second of an instance costs 1 cent on demand and 0.3 cents on spot; a
function of 1.5 GB costs 2 cents per GB-second and 1 cent per call, its reserved environments 0.1 cents per GB-second
and, where they run, 1.2. A launch takes 60 s and loading a model 10 s, a swap 10 s; a minute is the least that is
billed; notice comes 30 s ahead. Decisions fall on edges of 10 s. Arrivals are placed to the millisecond: the rate is
zero but in one millisecond for each, and gaps hardly vary.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from controller.arrays import BILL_TERMS, F64
from controller.catalog import Catalog
from controller.compile import Setting, at_speed, compile_scenario
from controller.config import parse_config
from controller.scenario import Scenario
from envs.supply import Supply
from tests.simulated import SIMULATOR, TICK_S, World
from tests.tiny import FN, LARGE, OD, SMALL, SPOT_A, catalog_document, scenario_document

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test compiles the kernels

BIN_S = 0.001
ARRIVAL_USD = 2e-5  # an arrival lies within a millisecond of where it is placed, and a second costs a cent


def price_list(changes: dict[str, float], service_s: float, cold_start_s: float, links: bool) -> dict[str, Any]:
    """The tiny catalog at the prices above; `changes` replaces figures of every pool that has them."""
    figures = {"od": {"price_usd_per_hour": 36.0}}
    figures |= {name: {"price_usd_per_hour": 10.8} for name in ("spot-a", "spot-b")}
    figures["fn"] = {
        "usd_per_gb_s": 0.02,
        "usd_per_request": 0.01,
        "provisioned_usd_per_gb_s": 0.001,
        "provisioned_compute_usd_per_gb_s": 0.012,
    }
    document = catalog_document()
    for pool in document["pools"]:
        for field, value in (figures[pool["name"]] | changes).items():
            if field in pool:
                pool[field] = {"value": value, "derived": "chosen for a bill"}
    for profile in document["profiles"]:
        profile["service_slope_s"] = {"value": service_s, "derived": "chosen for a bill"}
        if "cold_start_s" in profile:
            profile["cold_start_s"] = {"value": cold_start_s, "derived": "chosen for a bill"}
    if links:
        document["sites"].append({"name": "client"})
        for source, target, usd_per_gb in (("client", "home", 0.01), ("home", "client", 0.09)):
            figures_of_link = {"delay_s": 0.0, "bytes_per_s": 1e12, "usd_per_gb": usd_per_gb}
            given = {name: {"value": value, "derived": "chosen for a bill"} for name, value in figures_of_link.items()}
            document["links"] = [*document.get("links", []), {"source": source, "target": target, **given}]
        for variant in document["variants"]:
            variant["input_bytes"]["value"], variant["output_bytes"]["value"] = 2e8, 1e9
    return document


def setting_of(
    *, service_s: float = 1.0, cold_start_s: float = 3.0, links: bool = False, speed: float = 1.0, **figures: float
) -> Setting:
    """The tiny scenario under that price list, every service and cold start of one length, deadlines far away."""
    scenario = scenario_document(simulator=SIMULATOR, speed=speed)
    for request_class in scenario["workload"]["classes"]:
        request_class["slo_s"] = 1000.0
        request_class["source_site"] = "client" if links else "home"
    catalog = parse_config(price_list(figures, service_s, cold_start_s, links), Catalog, source="price list")
    return compile_scenario(parse_config(scenario, Scenario, source="bill"), catalog)


def world_of(setting: Setting, *arrivals_s: float, zone_closes_s: float = np.inf) -> World:
    """A world with requests at these times; the zone of `spot-a` closes at a time."""
    rates = np.zeros((1, round((max(arrivals_s, default=0.0) + 1.0) / BIN_S)))
    for position, at_s in enumerate(arrivals_s):
        # Arrivals come where the integral of the rate passes whole numbers: in the middle of their millisecond.
        rates[0, round(at_s / BIN_S)] = (1.5 if position == 0 else 1.0) / BIN_S
    return World(setting, Supply(rates, BIN_S, zones_closing_at(zone_closes_s), TICK_S, gap_cv=0.001))


def zones_closing_at(first_s: float) -> F64:
    share = np.ones((2, 100))
    share[0, np.arange(100) * TICK_S >= first_s] = 0.0
    return share


def assert_bill(world: World, abs_usd: float = 0.0, **usd: float) -> None:
    """The bill has these terms and no others, to float precision or `abs_usd`, and their sum to the cent."""
    spend_usd = world.simulator.totals.spend_usd[0]
    expected = np.array([usd.pop(term, 0.0) for term in BILL_TERMS])
    assert not usd, f"no such terms: {usd}"
    np.testing.assert_allclose(spend_usd, expected, rtol=1e-12, atol=max(abs_usd, 1e-14), err_msg=str(BILL_TERMS))
    assert f"{spend_usd.sum():.2f}" == f"{expected.sum():.2f}"


def test_rent_is_per_second() -> None:
    """3 idle instances x 90 s x 1 cent = $2.70."""
    world = world_of(setting_of()).start({(SMALL, OD): 3})
    world.tick(9)
    world.act(drain={(SMALL, OD): 3}).tick()
    assert_bill(world, idle=2.70)


def test_a_minute_is_the_least_that_is_billed() -> None:
    """Given back after 10 s: 60 s x 1 cent = $0.60; the one kept for 70 s costs 70 cents and no more."""
    world = world_of(setting_of()).start({(SMALL, OD): 2})
    world.tick()
    world.act(drain={(SMALL, OD): 1}).tick(6)
    world.act(drain={(SMALL, OD): 1}).tick()
    assert_bill(world, idle=0.60 + 0.70)


def test_rent_runs_from_the_launch() -> None:
    """Launched at 0 s, ready at 60 + 10 s, given back at 100 s: 70 s of start-up and 30 s idle, $0.70 + $0.30."""
    world = world_of(setting_of()).start({}).act(launch={(SMALL, OD): 1})
    world.tick(10)
    world.act(drain={(SMALL, OD): 1}).tick()
    assert_bill(world, start_up=0.70, idle=0.30)


def test_a_launch_that_is_stopped_pays_its_minute_or_what_it_lived() -> None:
    """Launches take 120 + 10 s. One is stopped after 20 s and pays 60 s, one after 80 s and pays 80 s: $1.40."""
    world = world_of(setting_of(launch_s=120.0)).start({}).act(launch={(SMALL, OD): 2})
    world.tick(2)
    world.act(stop={(SMALL, OD): 1}).tick(6)
    world.act(stop={(SMALL, OD): 1}).tick()
    assert_bill(world, start_up=0.60 + 0.80)


def test_a_refused_launch_costs_nothing() -> None:
    """The zone is closed: three refusals, and 90 s of the instance that runs on demand, $0.90."""
    world = world_of(setting_of(), zone_closes_s=0.0).start({(SMALL, OD): 1})
    world.act(launch={(SMALL, SPOT_A): 3}).tick(9)
    assert world.simulator.totals.launch_failed[0, SPOT_A] == 3
    assert_bill(world, idle=0.90)


def test_the_release_lag_is_billed_after_the_last_use_and_counts_towards_the_minute() -> None:
    """Lag 25 s. Given back at 80 s: 80 + 25 = 105 s. At 20 s: 20 + 25 = 45 s, so the minute. At 50 s: 75 s. $2.40."""
    world = world_of(setting_of(release_lag_s=25.0)).start({(SMALL, OD): 3})
    world.tick(2)
    world.act(drain={(SMALL, OD): 1}).tick(3)
    world.act(drain={(SMALL, OD): 1}).tick(3)
    world.act(drain={(SMALL, OD): 1}).tick()
    assert_bill(world, idle=1.05 + 0.60 + 0.75)


def test_a_stopped_launch_pays_the_release_lag_too() -> None:
    """Stopped after 50 s with a lag of 25 s: 75 s, $0.75."""
    world = world_of(setting_of(release_lag_s=25.0)).start({}).act(launch={(SMALL, OD): 1})
    world.tick(5)
    world.act(stop={(SMALL, OD): 1}).tick()
    assert_bill(world, start_up=0.75)


def test_a_swap_is_rent_like_any_other_and_starts_no_new_minute() -> None:
    """Small from 0 to 50 s, 10 s of swapping, large from 60 s, given back at 70 s: 60 s idle, 10 s start-up, $0.70."""
    world = world_of(setting_of()).start({(SMALL, OD): 1})
    world.tick(5)
    world.act(swap={(OD, SMALL, LARGE): 1}).tick(2)
    world.act(drain={(LARGE, OD): 1}).tick()
    assert_bill(world, idle=0.60, start_up=0.10)


def test_a_swap_waits_for_the_batch_in_service() -> None:
    """A request from 48 to 53 s is finished first; the swap ends at 63 s, so the edge at 70 s finds it ready.

    Given back at 100 s: 100 s in all, 5 s of them in use; the tick 60 to 70 s is the swap's: $0.05 + $0.10 + $0.85.
    """
    world = world_of(setting_of(service_s=5.0), 48.0).start({(SMALL, OD): 1}).route((SMALL, OD))
    world.tick(5)
    seen = world.act(swap={(OD, SMALL, LARGE): 1}).tick(2)
    assert seen.ready[0, LARGE, OD] == 1
    world.tick(3)
    world.act(drain={(LARGE, OD): 1}).tick()
    assert world.simulator.totals.answered.sum() == 1
    assert_bill(world, ARRIVAL_USD, compute=0.05, start_up=0.10, idle=0.85)


def test_credits_in_use_are_compute_and_the_rest_is_idle() -> None:
    """4 services of 1.5 s in 100 s: 6 s of compute and 94 s idle, $0.06 + $0.94."""
    world = world_of(setting_of(service_s=1.5), 3.0, 12.0, 13.0, 57.0).start({(SMALL, OD): 1}).route((SMALL, OD))
    world.tick(10)
    world.act(drain={(SMALL, OD): 1}).tick()
    assert_bill(world, ARRIVAL_USD, compute=0.06, idle=0.94)


def test_a_draining_instance_is_billed_until_its_batch_ends() -> None:
    """A request from 75 to 83 s, drained at 80 s: 83 s, not 80 and not 90; 8 s in use, $0.08 + $0.75."""
    world = world_of(setting_of(service_s=8.0), 75.0).start({(SMALL, OD): 1}).route((SMALL, OD))
    world.tick(8)
    world.act(drain={(SMALL, OD): 1}).tick(2)
    assert world.simulator.totals.answered.sum() == 1
    assert_bill(world, ARRIVAL_USD, compute=0.08, idle=0.75)


def test_the_release_lag_of_a_draining_instance_follows_its_last_batch() -> None:
    """The same with a lag of 25 s: 83 + 25 = 108 s, $0.08 + $1.00."""
    setting = setting_of(service_s=8.0, release_lag_s=25.0)
    world = world_of(setting, 75.0).start({(SMALL, OD): 1}).route((SMALL, OD))
    world.tick(8)
    world.act(drain={(SMALL, OD): 1}).tick(2)
    assert_bill(world, ARRIVAL_USD, compute=0.08, idle=1.00)


def test_a_doomed_instance_is_billed_until_it_is_taken_and_its_unfinished_work_is_waste() -> None:
    """Notice at 70 s, taken at 100 s: 100 s x 0.3 cents = $0.30.

    A request from 80 to 90 s is answered under notice, $0.03; one begun at 95 s is lost after 5 s of its 10, $0.015.
    The other 85 s are idle, $0.255.
    """
    world = world_of(setting_of(service_s=10.0), 80.0, 95.0, zone_closes_s=100.0)
    world.start({(SMALL, SPOT_A): 1}).route((SMALL, SPOT_A))
    assert world.tick(7).doomed[0, SMALL, SPOT_A] == 1
    world.tick(5)
    assert world.simulator.totals.preempted[0, SPOT_A] == 1
    assert_bill(world, ARRIVAL_USD, compute=0.03, preemption_waste=0.015, idle=0.255)


def test_a_drained_instance_under_notice_goes_when_its_batch_ends() -> None:
    """A request from 55 to 75 s, drained at 60 s, notice at 70 s of the loss at 100 s: 75 s x 0.3 cents = $0.225.

    It takes no other request: the one at 80 s waits in vain.
    """
    world = world_of(setting_of(service_s=20.0), 55.0, 80.0, zone_closes_s=100.0)
    world.start({(SMALL, SPOT_A): 1}).route((SMALL, SPOT_A))
    world.tick(6)
    seen = world.act(drain={(SMALL, SPOT_A): 1}).tick()
    assert (seen.draining[0, SMALL, SPOT_A], seen.doomed.sum()) == (1, 0)
    world.tick(5)
    assert world.simulator.totals.answered.sum() == 1
    assert world.simulator.totals.preempted.sum() == 0
    assert_bill(world, ARRIVAL_USD, compute=0.06, idle=0.165)


def test_a_drained_instance_is_taken_with_its_unfinished_batch() -> None:
    """The same with a service of 60 s: taken at 100 s, 45 s of work are waste, $0.135, and 55 s idle, $0.165."""
    world = world_of(setting_of(service_s=60.0), 55.0, zone_closes_s=100.0)
    world.start({(SMALL, SPOT_A): 1}).route((SMALL, SPOT_A))
    world.tick(6)
    world.act(drain={(SMALL, SPOT_A): 1}).tick(6)
    assert world.simulator.totals.preempted[0, SPOT_A] == 1
    assert_bill(world, ARRIVAL_USD, preemption_waste=0.135, idle=0.165)


def test_an_instance_taken_within_its_first_minute_pays_the_minute() -> None:
    """Taken at 40 s: 60 s x 0.3 cents = $0.18."""
    world = world_of(setting_of(), zone_closes_s=40.0).start({(SMALL, SPOT_A): 1})
    world.tick(6)
    assert_bill(world, idle=0.18)


def test_an_instance_that_still_starts_is_given_back_at_its_notice() -> None:
    """Launched at 0 s, notice at 70 s while launching takes 110 + 10 s: 70 s x 0.3 cents = $0.21."""
    world = world_of(setting_of(launch_s=110.0), zone_closes_s=100.0).start({}).act(launch={(SMALL, SPOT_A): 1})
    world.tick(12)
    assert world.simulator.totals.preempted[0, SPOT_A] == 1
    assert_bill(world, start_up=0.21)


def test_a_call_is_billed_by_started_milliseconds() -> None:
    """A cold call of 3.1234567 s and a warm one of 0.1234567 s are 3124 + 124 ms.

    3.248 s x 1.5 GB = 4.872 GB-s x 2 cents = $0.09744, and two calls x 1 cent: $0.11744.
    """
    world = world_of(setting_of(service_s=0.1234567), 1.0, 6.0).start({}).route((SMALL, FN))
    world.tick()
    assert world.simulator.totals.cold_starts[0, FN] == 1
    assert_bill(world, serverless=0.11744)


@pytest.mark.parametrize("service_s", [0.3, 0.1 + 0.2, 3 * 0.1, 0.29999999999999993])
def test_whole_milliseconds_are_not_rounded_up(service_s: float) -> None:
    """10 calls of 300 ms, whatever the last bit says: 3 s x 1.5 GB x 2 cents = $0.09, and 10 cents for the calls."""
    setting = setting_of(service_s=service_s, cold_start_s=0.0)
    world = world_of(setting, *np.arange(0.5, 5.5, 0.5)).start({}).route((SMALL, FN))
    world.tick()
    assert_bill(world, serverless=0.19)


def test_a_second_is_a_thousand_steps_and_a_step_may_be_longer() -> None:
    """Steps of 100 ms: 2 calls of 0.41 s are billed 0.5 s each, 1 s x 1.5 GB x 2 cents = $0.03, and 2 cents."""
    setting = setting_of(service_s=0.41, cold_start_s=0.0, billing_step_s=0.1)
    world = world_of(setting, 1.0, 2.0).start({}).route((SMALL, FN))
    world.tick()
    assert_bill(world, serverless=0.05)


def test_a_call_is_charged_whole_when_it_starts() -> None:
    """A call from 8 to 12 s: 4 s x 1.5 GB x 2 cents + 1 cent = $0.13 in the first tick, nothing in the second."""
    world = world_of(setting_of(service_s=4.0, cold_start_s=0.0), 8.0).start({}).route((SMALL, FN))
    world.tick()
    assert_bill(world, serverless=0.13)
    world.tick()
    assert world.simulator.totals.answered.sum() == 1
    assert_bill(world, serverless=0.13)


def test_a_published_lambda_bill() -> None:
    """300,000 calls of 120 ms at 1536 MB: 54,000 GB-s x $0.0000166667 = $0.90, calls at $0.20 a million $0.06.

    A tenth of the first example of AWS Lambda's price page, before its free tier.
    """
    setting = setting_of(
        service_s=0.12, cold_start_s=0.0, usd_per_gb_s=1.66667e-5, usd_per_request=2e-7, keep_alive_s=600.0
    )
    rates = np.zeros((1, 76))
    rates[0, :75] = 300_000.5 / 750.0
    world = World(setting, Supply(rates, TICK_S, np.ones((2, 100)), TICK_S, gap_cv=1e-4)).start({}).route((SMALL, FN))
    for _ in range(75):
        world.simulator.apply(world.actions, world.plan, world.shares)
        world.simulator.advance()
    assert world.simulator.totals.invocations[0, FN] == 300_000
    np.testing.assert_allclose(world.simulator.totals.spend_usd.sum(), 54_000 * 1.66667e-5 + 0.06, rtol=1e-11)
    assert f"{world.simulator.totals.spend_usd.sum():.2f}" == "0.96"


def test_reserved_environments_are_rent_and_a_lower_price_where_they_run() -> None:
    """2 reserved x 1.5 GB x 100 s x 0.1 cents = $0.30.

    Three calls of 2 s at once: two on them, 2 x 2 s x 1.5 GB x 1.2 cents = $0.072; the third starts cold and is
    billed in full, 5 s x 1.5 GB x 2 cents = $0.15; three calls, $0.03.
    """
    world = world_of(setting_of(service_s=2.0), 5.0, 5.01, 5.02).start({(SMALL, FN): 2}).route((SMALL, FN))
    world.tick(10)
    assert world.simulator.totals.cold_starts[0, FN] == 1
    assert_bill(world, serverless=0.30 + 0.072 + 0.15 + 0.03)


def test_reserved_environments_are_paid_from_order_to_cancellation() -> None:
    """One ordered at 20 s, cancelled at 60 s: 1.5 GB x 40 s x 0.1 cents = $0.06."""
    world = world_of(setting_of()).start({})
    world.tick(2)
    world.act(launch={(SMALL, FN): 1}).tick(4)
    world.act(drain={(SMALL, FN): 1}).tick(3)
    assert_bill(world, serverless=0.06)


def test_egress_is_paid_per_answer_in_both_directions() -> None:
    """0.2 GB in x 1 cent + 1 GB out x 9 cents = $0.092 an answer; 5 answers, $0.46. A refused request moves nothing.

    The instance: 20 s, of them 5 in use, until it is given back, so the minute: $0.05 + $0.55.
    """
    world = world_of(setting_of(links=True), 1.0, 3.0, 5.0, 7.0, 11.0, 25.0).start({(SMALL, OD): 1}).route((SMALL, OD))
    world.tick(2)
    world.act(drain={(SMALL, OD): 1}).route().tick()
    totals = world.simulator.totals
    assert (totals.answered.sum(), totals.shed.sum()) == (5, 1)
    assert_bill(world, ARRIVAL_USD, compute=0.05, idle=0.55, egress=0.46)


def test_a_mixed_fleet_pays_the_sum_of_its_parts() -> None:
    """200 s of everything at once, services of 2 s.

    One on demand throughout, 200 s, two services on it: compute $0.04, idle $1.96. One launched on demand at 0 s and
    drained at 150 s: start-up $0.70, idle $0.80. One on spot, taken at 100 s: idle $0.30. One reserved environment
    throughout, 1.5 GB x 200 s x 0.1 cents = $0.30, and one call on it, 2 s x 1.5 GB x 1.2 cents + 1 cent = $0.046.
    Three answers x $0.092 = $0.276 of egress. Together $4.422.
    """
    world = world_of(setting_of(service_s=2.0, links=True), 5.0, 15.0, 175.0, zone_closes_s=100.0)
    world.start({(SMALL, OD): 1, (LARGE, SPOT_A): 1, (SMALL, FN): 1}).route((SMALL, OD))
    world.act(launch={(LARGE, OD): 1}).tick(15)
    world.act(drain={(LARGE, OD): 1}).route((SMALL, FN)).tick(5)
    assert world.simulator.totals.answered.sum() == 3
    assert_bill(
        world,
        ARRIVAL_USD,
        compute=0.04,
        idle=1.96 + 0.80 + 0.30,
        start_up=0.70,
        serverless=0.30 + 0.046,
        egress=0.276,
    )


def test_a_speeded_second_is_billed_as_many() -> None:
    """At speed 10 a tick is 1 s. 20 s are billed as 200 s, $2.00; the minute is 6 s, so 2 s cost $0.60."""
    setting = setting_of(speed=10.0)
    setting = replace(setting, catalog=at_speed(setting.catalog, 10.0, measured_start_s=1.0, measured_swap_s=1.0))
    world = world_of(setting).start({(SMALL, OD): 2})
    world.tick(2)
    world.act(drain={(SMALL, OD): 1}).tick(18)
    world.act(drain={(SMALL, OD): 1}).tick()
    assert world.simulator.observation.time_s[0] == pytest.approx(21.0)
    assert_bill(world, idle=2.60)
