"""SpotHedge and Tributary on markets worked out by hand."""

import numpy as np
import pytest

from controller.kernels.rival_spot import avoid_zones, loss_probability, surviving_rps
from controller.policies.registry import make_policy
from tests.tiny import MEDIUM, OD, SPOT_A, SPOT_B, steady_observation, tiny_setting

HEDGE = "spothedge:headroom=1.0,upscale_delay_s=0,over_provision=1.0"
SPOT_MARKET, ON_DEMAND_MARKET = 1, 0


def test_spot_is_spread_over_zones_and_covered_on_demand_until_it_is_ready() -> None:
    setting = tiny_setting()
    policy = make_policy(HEDGE, setting)
    obs = steady_observation(setting, 50.0)
    # relaxed: 25/s are 3 replicas, in turn on zone-a (cheaper) and zone-b; none is ready, so 3 on demand
    assert policy.decide(obs).replicas[0, MEDIUM].tolist() == [3, 2, 1, 0]
    obs.ready[0, MEDIUM, SPOT_A] = 1
    assert policy.decide(obs).replicas[0, MEDIUM].tolist() == [2, 2, 1, 0]
    obs.ready[0, MEDIUM, [SPOT_A, SPOT_B]] = 2, 1
    assert policy.decide(obs).replicas[0, MEDIUM].tolist() == [0, 2, 1, 0]


def test_lost_spot_is_replaced_on_demand_in_the_same_tick() -> None:
    setting = tiny_setting()
    policy = make_policy(HEDGE, setting)
    obs = steady_observation(setting, 50.0)
    obs.ready[0, MEDIUM, [SPOT_A, SPOT_B]] = 2, 1
    policy.decide(obs)
    obs.ready[0, MEDIUM, SPOT_A], obs.doomed[0, MEDIUM, SPOT_A] = 0, 2
    obs.available[0, SPOT_A] = False
    assert policy.decide(obs).replicas[0, MEDIUM].tolist() == [2, 0, 3, 0]


def test_over_provisioned_spot_bears_a_loss_without_cover() -> None:
    setting = tiny_setting()
    policy = make_policy("spothedge:headroom=1.0,upscale_delay_s=0,over_provision=1.5", setting)
    obs = steady_observation(setting, 50.0)
    obs.ready[0, MEDIUM, [SPOT_A, SPOT_B]] = 3, 2
    assert policy.decide(obs).replicas[0, MEDIUM].tolist() == [0, 3, 2, 0]  # 45/s
    obs.ready[0, MEDIUM, SPOT_B] = 1
    assert policy.decide(obs).replicas[0, MEDIUM, OD] == 1  # 40 of 45 are ready


def test_its_number_follows_the_rate_only_after_a_delay() -> None:
    setting = tiny_setting()
    policy = make_policy("spothedge:headroom=1.0,upscale_delay_s=20,over_provision=1.0", setting)
    policy.decide(steady_observation(setting, 50.0))
    seen = []
    for tick in range(61, 65):
        obs = steady_observation(setting, 100.0, ticks=tick)
        seen.append(int(policy.decide(obs).replicas[0, MEDIUM, [SPOT_A, SPOT_B]].sum()))
    assert seen == [3, 3, 5, 5]


def zones(time_s: float, available: list[bool], avoided: np.ndarray, min_zones: int, ready: int = 0) -> list[bool]:
    """Pools: one on demand, spot in zones 0, 0 and 1."""
    market, zone = np.array([ON_DEMAND_MARKET] + [SPOT_MARKET] * 3), np.array([-1, 0, 0, 1])
    is_open = np.zeros((1, 4), np.bool_)
    counts = np.array([[[0, ready, 0, 0]]])
    avoid_zones(market, zone, np.array([available]), counts, time_s, 600.0, min_zones, 0, avoided, is_open)
    return is_open[0].tolist()


def test_a_zone_that_preempted_is_avoided_as_a_whole_until_its_time_is_over_or_it_is_proven() -> None:
    avoided = np.full((1, 4), -np.inf)
    assert zones(0.0, [True] * 4, avoided, 1) == [True] * 4
    assert zones(10.0, [True, False, True, True], avoided, 1) == [True, False, False, True]
    assert zones(300.0, [True] * 4, avoided, 1) == [True, False, False, True]
    assert zones(310.0, [True] * 4, avoided.copy(), 1, ready=1) == [True, True, False, True]
    assert zones(610.0, [True] * 4, avoided, 1) == [True] * 4


def test_avoided_zones_are_tried_again_when_too_few_are_left() -> None:
    avoided = np.full((1, 4), -np.inf)
    assert zones(10.0, [True, False, True, True], avoided, 2) == [True, False, True, True]
    assert zones(20.0, [True] * 4, avoided, 2) == [True] * 4


def test_a_hazard_is_what_was_seen_against_its_prior() -> None:
    # one loss per 1000 s taken for granted with the weight of 1000 s, 3 more seen in 1000 s: 2 per 1000 s
    assert loss_probability(3.0, 1000.0, 1e-3, 1000.0, 100.0) == pytest.approx(1 - np.exp(-0.2))
    assert loss_probability(0.0, 0.0, 1e-3, 1000.0, 0.0) == 0.0


def test_capacity_in_two_zones_survives_better_than_in_one() -> None:
    capacity, lost = np.array([10.0, 10.0]), np.array([0.1, 0.1])
    # apart: mean 18, variance 2 x 100 x 0.09; together: deviation 2 x 10 x 0.3
    assert surviving_rps(capacity, lost, np.array([0, 1]), 1.0) == pytest.approx(18.0 - np.sqrt(18.0))
    assert surviving_rps(capacity, lost, np.array([0, 0]), 1.0) == pytest.approx(12.0)
    assert surviving_rps(capacity, lost, np.array([-1, -1]), 1.0) == pytest.approx(18.0 - np.sqrt(18.0))
    assert surviving_rps(capacity, np.array([0.0, 0.1]), np.array([0, 1]), 2.0) == pytest.approx(19.0 - 6.0)


def test_tributary_buys_the_cheapest_pool_where_losses_do_not_matter_and_spreads_where_they_do() -> None:
    setting = tiny_setting()
    obs = steady_observation(setting, 50.0)
    calm = "tributary:headroom=1.0,confidence=0.5,prior_losses_per_day=0.01"
    # 25/s x (1 - p) with p of 2e-5 leaves room in three replicas of spot-a
    assert make_policy(calm, setting).decide(obs).replicas[0, MEDIUM].tolist() == [0, 3, 0, 0]
    wary = make_policy("tributary:headroom=1.0,confidence=0.99,prior_losses_per_day=50", setting)
    planned = wary.decide(obs).replicas[0, MEDIUM]
    assert min(planned[SPOT_A], planned[SPOT_B]) > 0
    assert planned.sum() > 3


def test_tributary_leaves_a_pool_whose_replicas_were_lost() -> None:
    setting = tiny_setting()
    policy = make_policy("tributary:headroom=1.0,cooldown_s=0,prior_hours=1,loss_window_s=600", setting)
    obs = steady_observation(setting, 50.0)
    before = int(policy.decide(obs).replicas[0, MEDIUM, SPOT_A])
    obs.preempted[0, SPOT_A] = 20
    after = int(policy.decide(obs).replicas[0, MEDIUM, SPOT_A])
    assert before > after


def test_tributary_falls_back_on_demand_where_no_spot_is_open() -> None:
    setting = tiny_setting()
    obs = steady_observation(setting, 50.0)
    obs.available[0, [SPOT_A, SPOT_B]] = False
    assert make_policy("tributary:headroom=1.0", setting).decide(obs).replicas[0, MEDIUM].tolist() == [3, 0, 0, 0]
