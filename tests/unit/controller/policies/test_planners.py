"""MArk, INFaaS and a static diverse pool on two sizes of on-demand machine, worked out by hand.

Beside the tiny catalog's `od` (20 small or 10 medium a second for 0.36 $/h) there is `od-big`: twice as fast for 0.60
$/h, so cheaper per request where it is used well.
"""

import copy
import functools

import pytest

from controller.catalog import Catalog
from controller.compile import Setting, compile_scenario
from controller.config import parse_config
from controller.policies.registry import make_policy
from controller.scenario import Scenario
from tests.tiny import MEDIUM, OD, SMALL, SPOT_A, catalog_document, scenario_document, steady_observation

BIG = 4


@functools.cache
def two_sizes() -> Setting:
    document = catalog_document()
    big = copy.deepcopy(document["pools"][OD]) | {"name": "od-big"}
    big["price_usd_per_hour"]["value"] = 0.60
    document["pools"].append(big)
    for profile in [p for p in document["profiles"] if p["pool"] == "od"]:
        faster = copy.deepcopy(profile) | {"pool": "od-big"}
        faster["service_slope_s"]["value"] /= 2
        document["profiles"].append(faster)
    scenario = parse_config(scenario_document(), Scenario, source="tiny scenario")
    return compile_scenario(scenario, parse_config(document, Catalog, source="two sizes"))


def sizes(spec: str, rps: float, variant: int = MEDIUM, existing: int = 0) -> tuple[int, int]:
    """Replicas of a variant on od and od-big."""
    obs = steady_observation(two_sizes(), rps)
    obs.ready[0, variant, OD] = existing
    replicas = make_policy(spec, two_sizes()).decide(obs).replicas[0, variant]
    return int(replicas[OD]), int(replicas[BIG])


def test_mark_takes_the_machine_of_least_cost_per_request_of_the_demand_left() -> None:
    # 30/s: one big at 0.60/20; of the 10 left an od costs 0.36/10, another big 0.60/10
    assert sizes("mark", 50.0) == (1, 1)
    assert sizes("mark", 2 * 40 / 1.2) == (0, 2)


def test_mark_charges_a_launch_against_what_exists() -> None:
    # 20/s: big new at 0.60 x 1.05 / 20 beats two od at 0.36 / 10 that exist, but not with a launch of half an hour
    assert sizes("mark", 2 * 20 / 1.2, existing=2) == (0, 1)
    assert sizes("mark:launch_overhead_s=1800", 2 * 20 / 1.2, existing=2) == (2, 0)


def test_mark_plans_at_its_interval_for_the_rate_ahead() -> None:
    policy = make_policy("mark:headroom=1.0", two_sizes())
    obs = steady_observation(two_sizes(), 50.0)
    needs = [float(policy.decide(obs).need_rps[0])]
    for tick in range(61, 68):
        obs = steady_observation(two_sizes(), 100.0, ticks=tick)
        needs.append(float(policy.decide(obs).need_rps[0]))
    assert needs[:6] == pytest.approx([50.0] * 6)
    assert needs[6:] == pytest.approx([100.0] * 2)
    rising = steady_observation(two_sizes(), 50.0)
    for age in range(60):
        rising.history[0, :, 59 - age] = 10 * 0.5 * (50.0 + 59 - age)
    policy.reset(1)
    # a line from 50 to 109 requests/s in 60 ticks, read 12 ticks on
    assert policy.decide(rising).need_rps[0] == pytest.approx(121.0)


def test_mark_holds_the_demand_of_a_mix_for_its_cool_down() -> None:
    policy = make_policy("mark:headroom=1.0,adaptive_variant=true,interval_s=20,cooldown_s=60", two_sizes())
    policy.decide(steady_observation(two_sizes(), 100.0))
    needs = [float(policy.decide(steady_observation(two_sizes(), 50.0)).need_rps[0]) for _ in range(8)]
    # planned anew every second tick; the third plan in a row that wants less is followed
    assert needs == pytest.approx([100.0] * 5 + [50.0] * 3)


def test_mark_sends_to_serverless_what_machines_cannot_serve_in_time() -> None:
    plan = make_policy("mark", two_sizes()).decide(steady_observation(two_sizes(), 50.0))
    assert plan.overflow_fraction[0].tolist() == [1.0, 1.0]


def test_infaas_replicates_or_upgrades_to_what_serves_the_load_for_less() -> None:
    # strict on small at a threshold of 0.8: 5/s are one od; 30/s want 37.5, two od at 0.72 or one big at 0.60
    assert sizes("infaas", 10.0, SMALL) == (1, 0)
    assert sizes("infaas", 60.0, SMALL) == (0, 1)
    # 50/s want 62.5: two big at 1.20 or four od at 1.44
    assert sizes("infaas", 100.0, SMALL) == (0, 2)


def test_infaas_downgrades_after_its_idle_slots() -> None:
    policy = make_policy("infaas:idle_slots=3", two_sizes())
    seen = []
    for rps in (60.0, 10.0, 10.0, 10.0, 10.0):
        replicas = policy.decide(steady_observation(two_sizes(), rps)).replicas[0, SMALL]
        seen.append((int(replicas[OD]), int(replicas[BIG])))
    assert seen == [(0, 1), (0, 1), (0, 1), (1, 0), (1, 0)]


def test_infaas_keeps_to_a_named_variant() -> None:
    replicas = make_policy("infaas:variant=large", two_sizes()).decide(steady_observation(two_sizes(), 50.0)).replicas
    assert replicas[0, [SMALL, MEDIUM]].sum() == 0
    assert replicas[0].sum() > 0


def test_infaas_leaves_hardware_that_refuses() -> None:
    obs = steady_observation(two_sizes(), 60.0)
    obs.available[0, BIG] = False
    assert make_policy("infaas", two_sizes()).decide(obs).replicas[0, SMALL, OD] == 2


def test_a_static_pool_is_what_its_settings_say_whatever_the_load() -> None:
    # twice 25/s, half of it on the second cheapest: 25 on big (20 each) and 25 on od (10 each)
    spec = "ribbon:capacity=2.0,second_share=0.5"
    assert sizes(spec, 50.0) == (3, 2)
    assert sizes(spec, 500.0) == (3, 2)
    assert sizes("ribbon:capacity=2.0,second_share=0.0", 50.0) == (0, 3)
    # shares above 1 in all are scaled down: all of it on the second and, for want of a third, on the first
    assert sizes("ribbon:capacity=2.0,second_share=1.0,third_share=1.0", 50.0) == (3, 2)


def test_a_static_pool_keeps_its_spot_whatever_the_market() -> None:
    obs = steady_observation(two_sizes(), 50.0)
    policy = make_policy("ribbon:capacity=2.0,spot_share=1.0", two_sizes())
    before = policy.decide(obs).replicas.copy()
    obs.available[0, SPOT_A] = False
    assert policy.decide(obs).replicas.tolist() == before.tolist()
    assert before[0, MEDIUM, SPOT_A] == 5
