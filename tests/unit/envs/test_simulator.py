"""The simulator, worked by hand: latencies, bills and fates of single requests, and the life of single instances.

On the tiny catalog an instance costs 0.0001 $ a second on demand and 0.00003 $ on spot, is ready 70 s after its launch,
and is billed for 60 s at least. Tests that follow a request take a seed whose first tick has the arrivals they need;
arrivals are worked out with the plain draws.
"""

from __future__ import annotations

import math
from itertools import count

import numpy as np
import pytest

from controller import latency
from controller.arrays import COMPUTE, EGRESS, IDLE, PREEMPTION_WASTE, SERVERLESS_USE, SHAPE_CELLS, START_UP
from controller.errors import ScenarioError
from controller.keyed_random import CLASS, OVERFLOW, stream_key, uniform
from tests.simulated import TICK_S, World, arrival_times, one_tick, setting_with, supply_of
from tests.tiny import FN, LARGE, OD, SMALL, SPOT_A, STRICT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test compiles the kernels

OD_USD_PER_S = 1e-4
SPOT_USD_PER_S = 3e-5


def seed_with(arrivals: int, rate_rps: float, earliest_s: float = 0.0, latest_s: float = TICK_S) -> int:
    """First seed whose first tick has this many arrivals, all within a span."""
    for seed in count():
        times = arrival_times(seed, rate_rps)
        if len(times) == arrivals and all(earliest_s <= t <= latest_s for t in times):
            return seed
    return 0


def slow(seconds: float, **workload: object) -> dict[str, dict[str, object]]:
    """Every service takes `seconds`; SLOs are long unless told."""
    base = setting_with()
    workload = {"slo_s": np.full(2, 1000.0), **workload}
    return {"catalog": {"service_s": np.full_like(base.catalog.service_s, seconds)}, "workload": workload}


def test_a_request_is_answered_after_its_service_time_and_the_instance_is_billed_for_the_minimum() -> None:
    world = World(setting_with(), supply_of(one_tick(0.1))).start({(SMALL, OD): 1}, [seed_with(1, 0.1)])
    seen = world.route((SMALL, OD)).tick()
    assert seen.answered.sum() == 1
    assert np.flatnonzero(seen.latency[0].sum(axis=0)) == [latency.bucket_of(0.05)]
    assert seen.busy_s[0, SMALL, OD] == pytest.approx(0.05)
    assert seen.spend_usd[0, COMPUTE] == pytest.approx(0.05 * OD_USD_PER_S)
    assert seen.spend_usd[0, IDLE] == pytest.approx(9.95 * OD_USD_PER_S)
    seen = world.act(drain={(SMALL, OD): 1}).tick()
    assert seen.spend_usd[0, IDLE] == pytest.approx(50 * OD_USD_PER_S)
    assert seen.ready.sum() == seen.draining.sum() == 0
    assert world.simulator.totals.spend_usd.sum() == pytest.approx(60 * OD_USD_PER_S)
    assert world.simulator.totals.instance_s[0, OD] == pytest.approx(60)


def test_release_lag_is_billed_after_the_minimum() -> None:
    setting = setting_with(catalog={"release_lag_s": np.full(4, 25.0)})
    world = World(setting, supply_of(0.0)).start({(SMALL, OD): 1})
    world.tick(8)
    world.act(drain={(SMALL, OD): 1}).tick()
    assert world.simulator.totals.spend_usd.sum() == pytest.approx((80 + 25) * OD_USD_PER_S)


def test_a_draining_instance_finishes_its_request_and_is_billed_for_no_more_than_the_minimum() -> None:
    seed = seed_with(1, 0.1)
    ends_s = arrival_times(seed, 0.1)[0] + 15.0
    assert ends_s < 60
    world = World(setting_with(**slow(15.0)), supply_of(one_tick(0.1))).start({(SMALL, OD): 1}, [seed])
    seen = world.route((SMALL, OD)).tick()
    assert seen.answered.sum() == 0
    seen = world.act(drain={(SMALL, OD): 1}).tick()
    while seen.answered.sum() == 0:
        assert seen.draining[0, SMALL, OD] == 1
        seen = world.tick()
    assert seen.time_s[0] == math.ceil(ends_s / TICK_S) * TICK_S
    assert seen.draining.sum() == 0
    totals = world.simulator.totals
    assert totals.instance_s[0, OD] == pytest.approx(60.0)
    assert totals.spend_usd[0, COMPUTE] == pytest.approx(15.0 * OD_USD_PER_S)


def test_a_launch_is_ready_after_launch_and_load_and_a_stop_before_pays_the_minimum() -> None:
    world = World(setting_with(), supply_of(0.0)).start({})
    seen = world.act(launch={(SMALL, OD): 2}).tick()
    assert seen.starting[0, SMALL, OD] == 2
    seen = world.act(stop={(SMALL, OD): 1}).tick()
    assert seen.starting[0, SMALL, OD] == 1
    # 10 s while both start, 50 s to the minimum of the one stopped, 10 s of the other
    assert world.simulator.totals.spend_usd[0, START_UP] == pytest.approx((20 + 50 + 10) * OD_USD_PER_S)
    seen = world.tick(4)
    assert (seen.starting[0, SMALL, OD], seen.ready[0, SMALL, OD]) == (1, 0)
    seen = world.tick()
    assert seen.time_s[0] == 70
    assert (seen.starting[0, SMALL, OD], seen.ready[0, SMALL, OD]) == (0, 1)


def test_a_swap_keeps_the_instance_and_takes_the_swap_time() -> None:
    world = World(setting_with(), supply_of(0.0)).start({(SMALL, OD): 1})
    seen = world.act(swap={(OD, SMALL, LARGE): 1}).tick()
    assert seen.ready[0, SMALL, OD] == 0
    assert seen.ready[0, LARGE, OD] == 1  # 10 s of swapping end at the edge
    assert world.simulator.totals.instance_s[0, OD] == pytest.approx(10.0)


def test_a_launch_beyond_the_quota_is_refused_and_the_pool_counts_as_unavailable_for_a_while() -> None:
    setting = setting_with(catalog={"quota": np.array([1, 100, 100, 50])})
    world = World(setting, supply_of(0.0)).start({})
    seen = world.act(launch={(SMALL, OD): 2}).tick()
    assert seen.launch_failed[0, OD] == 1
    assert seen.starting[0, SMALL, OD] == 1
    assert not seen.available[0, OD]
    assert world.tick(10).available[0, OD] == (setting.control.retry_after_s <= 110)
    assert world.tick(1).available[0, OD]  # 120 s after the launch that failed


def spot_ends_at(tick: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    share = np.ones((2, 100))
    share[0, tick:] = 0.0
    return share


def test_a_request_on_a_killed_instance_is_queued_again_and_its_work_is_waste() -> None:
    seed = seed_with(1, 0.1)
    at_s = arrival_times(seed, 0.1)[0]
    changes = slow(12.0)
    changes["catalog"]["notice_s"] = np.zeros(4)
    world = World(setting_with(**changes), supply_of(one_tick(0.1), spot_ends_at(1)))
    world.start({(SMALL, SPOT_A): 1}, [seed]).route((SMALL, SPOT_A))
    seen = world.tick()
    assert seen.preempted[0, SPOT_A] == 1
    assert seen.waiting.sum() == 1
    assert seen.queue[0, SMALL, SPOT_A] == 1
    assert seen.spend_usd[0, PREEMPTION_WASTE] == pytest.approx((10.0 - at_s) * SPOT_USD_PER_S)
    assert seen.spend_usd[0, COMPUTE] == pytest.approx(0.0)
    seen = world.route((SMALL, OD)).act(launch={(SMALL, OD): 1}).tick()
    assert seen.queue[0, SMALL, OD] == 1  # moved to where its class is sent now
    seen = world.tick(7)  # ready at 80 s
    assert seen.waiting.sum() == 0
    seen = world.tick()
    assert seen.answered.sum() == 1
    assert np.flatnonzero(seen.latency[0].sum(axis=0)) == [latency.bucket_of(80.0 + 12.0 - at_s)]


def test_notice_is_given_ahead_and_the_doomed_instance_serves_on() -> None:
    world = World(setting_with(), supply_of(2.0, spot_ends_at(5))).start({(SMALL, SPOT_A): 1}).route((SMALL, SPOT_A))
    assert world.tick().ready[0, SMALL, SPOT_A] == 1
    seen = world.tick()  # 20 s: the zone closes 30 s ahead, which is the notice
    assert (seen.ready[0, SMALL, SPOT_A], seen.doomed[0, SMALL, SPOT_A]) == (0, 1)
    assert not seen.available[0, SPOT_A]
    seen = world.tick(2)
    assert seen.answered.sum() > 0
    assert seen.doomed[0, SMALL, SPOT_A] == 1
    seen = world.tick()
    assert seen.preempted[0, SPOT_A] == 1
    assert seen.doomed.sum() == 0


def test_spot_availability_is_replayed_exactly() -> None:
    rng = np.random.default_rng(4)
    share = np.ones((2, 100))
    share[0] = rng.random(100) < 0.6
    share[1] = rng.random(100) < 0.6
    setting = setting_with(catalog={"notice_s": np.zeros(4), "launch_s": np.zeros(4), "load_s": np.zeros((3, 4))})
    world = World(setting, supply_of(0.0, share)).start({})
    held: dict[int, int] = {1: 0, 2: 0}
    for tick in range(60):
        seen = world.act(launch={(SMALL, 1): 1, (LARGE, 2): 1}).tick()
        for zone, pool in ((0, 1), (1, 2)):
            offered = share[zone, tick] == 1
            launched = held[pool] + offered
            assert seen.launch_failed[0, pool] == (not offered)
            stays = share[zone, tick + 1] == 1
            assert seen.preempted[0, pool] == (0 if stays else launched)
            held[pool] = launched if stays else 0
            assert seen.ready[0, :, pool].sum() == held[pool]


def test_serverless_is_cold_then_warm_and_billed_by_started_milliseconds() -> None:
    base = setting_with()
    seconds = np.full_like(base.catalog.service_s, 0.1234567)
    world = World(setting_with(catalog={"service_s": seconds}), supply_of(one_tick(0.2)))
    seed = next(s for s in count() if len(t := arrival_times(s, 0.2)) == 2 and t[1] - t[0] > 3.2 and t[1] < 9.8)
    seen = world.start({}, [seed]).route((SMALL, FN)).tick()
    assert (seen.invocations[0, FN], seen.cold_starts[0, FN], seen.warm[0, FN]) == (2, 1, 1)
    # 3.1234567 s cold and 0.1234567 s warm, each rounded up, at 1.5 GB, and the fee of two calls
    billed = (3.124 + 0.124) * 1.5 * 1.66667e-5 + 2 * 2e-7
    assert seen.spend_usd[0, SERVERLESS_USE] == pytest.approx(billed, rel=1e-9)
    assert sorted(np.flatnonzero(seen.latency[0].sum(axis=0))) == sorted(
        {latency.bucket_of(3.1234567), latency.bucket_of(0.1234567)}
    )


def test_an_idle_environment_ends_after_its_keep_alive_and_a_reserved_one_stays() -> None:
    setting = setting_with(catalog={"keep_alive_s": np.full(4, 20.0)})
    world = World(setting, supply_of(one_tick(0.1))).start({}, [seed_with(1, 0.1, latest_s=6.0)])
    assert world.route((SMALL, FN)).tick().warm[0, FN] == 1  # free between 3.1 and 9.1 s
    assert world.tick().warm[0, FN] == 1
    assert world.tick().warm[0, FN] == 0
    world = World(setting, supply_of(0.0)).start({(SMALL, FN): 2})
    seen = world.tick(4)
    assert (seen.warm[0, FN], seen.ready[0, SMALL, FN]) == (2, 2)
    assert seen.spend_usd[0, SERVERLESS_USE] == pytest.approx(2 * 1.5 * 10 * 4.1667e-6)
    seen = world.act(drain={(SMALL, FN): 2}).tick()
    assert (seen.warm[0, FN], seen.ready[0, SMALL, FN]) == (0, 0)


def test_a_call_beyond_the_limit_is_refused() -> None:
    quota = np.array([100, 100, 100, 1])
    setting = setting_with(catalog={"quota": quota}, workload={"slo_s": np.full(2, 100.0)})
    seed = next(s for s in count() if len(t := arrival_times(s, 0.2)) == 2 and t[1] - t[0] < 3.0)
    world = World(setting, supply_of(one_tick(0.2))).start({}, [seed])
    seen = world.route((SMALL, FN)).tick()
    assert (seen.invocations[0, FN], seen.throttled[0, FN]) == (1, 1)
    assert (seen.shed.sum(), seen.missed.sum(), seen.failed.sum()) == (1, 1, 0)


def test_requests_beyond_the_shed_limit_are_refused() -> None:
    world = World(setting_with(**slow(1.0)), supply_of(one_tick(2.0))).start({})
    world.plan.shed_limit[:] = 3
    seen = world.route((SMALL, OD)).act(launch={(SMALL, OD): 1}).tick()
    np.testing.assert_array_equal(seen.waiting, np.minimum(seen.arrivals, 3))
    np.testing.assert_array_equal(seen.shed, seen.arrivals - seen.waiting)
    assert seen.shed.sum() > 0


def test_requests_without_any_option_are_refused() -> None:
    world = World(setting_with(), supply_of(2.0)).start({})
    seen = world.tick()
    assert seen.arrivals.sum() > 0
    np.testing.assert_array_equal(seen.shed, seen.arrivals)
    np.testing.assert_array_equal(seen.missed, seen.arrivals)


def test_a_queued_request_is_dropped_in_the_tick_of_its_deadline() -> None:
    seed = seed_with(1, 0.1)
    deadline_s = arrival_times(seed, 0.1)[0] + 24.0
    setting = setting_with(workload={"slo_s": np.full(2, 24.0)})
    world = World(setting, supply_of(one_tick(0.1))).start({}, [seed])
    world.route((SMALL, OD)).act(launch={(SMALL, OD): 1})
    for _ in range(int(deadline_s / TICK_S)):
        seen = world.tick()
        assert (seen.waiting.sum(), seen.failed.sum(), seen.missed.sum()) == (1, 0, 0)
    seen = world.tick()
    assert (seen.waiting.sum(), seen.failed.sum(), seen.missed.sum()) == (0, 1, 1)


def test_a_class_that_is_not_dropped_waits_on_and_misses_once() -> None:
    seed = seed_with(1, 0.1)
    workload = {"slo_s": np.full(2, 24.0), "drop_at_deadline": np.zeros(2, np.bool_)}
    world = World(setting_with(workload=workload), supply_of(one_tick(0.1))).start({}, [seed])
    world.route((SMALL, OD)).act(launch={(SMALL, OD): 1})
    world.tick(8)  # ready at 70 s
    totals = world.simulator.totals
    assert (totals.answered.sum(), totals.failed.sum(), totals.missed.sum()) == (1, 0, 1)
    expected_s = 70.05 - arrival_times(seed, 0.1)[0]
    assert np.flatnonzero(totals.latency[0].sum(axis=0)) == [latency.bucket_of(expected_s)]


def test_a_late_answer_in_service_is_a_miss_in_the_tick_of_its_deadline() -> None:
    seed = seed_with(1, 0.1, latest_s=4.0)
    world = World(setting_with(**slow(18.0, slo_s=np.full(2, 12.0))), supply_of(one_tick(0.1)))
    world.start({(SMALL, OD): 1}, [seed]).route((SMALL, OD))
    assert world.tick().missed.sum() == 0
    at_s = arrival_times(seed, 0.1)[0]
    second = world.tick()
    assert second.missed.sum() == (at_s + 12.0 <= 20.0) == 1
    world.tick()
    totals = world.simulator.totals
    assert (totals.answered.sum(), totals.failed.sum(), totals.missed.sum()) == (1, 0, 1)


def test_overflow_takes_exactly_the_requests_whose_coin_falls_below_the_fraction() -> None:
    seed = 5
    world = World(setting_with(), supply_of(one_tick(5.0))).start({}, [seed])
    world.plan.overflow_fraction[:] = 0.4
    world.plan.overflow_after_s[:] = 0.5
    seen = world.route((SMALL, OD)).act(launch={(SMALL, OD): 1}).tick()  # nothing serves: the predicted wait is endless
    arrivals = len(arrival_times(seed, 5.0))
    coins = [uniform(stream_key(seed, OVERFLOW), identity, 0) for identity in range(arrivals)]
    assert 0 < sum(coin < 0.4 for coin in coins) < arrivals
    assert seen.invocations[0, FN] + seen.throttled[0, FN] == sum(coin < 0.4 for coin in coins)


def test_overflow_counts_who_is_ahead_by_mean_service_times() -> None:
    # One credit of 4 s: the first request is served, the second sees one ahead (4 s), the third two (8 s).
    seed = next(s for s in count() if len(t := arrival_times(s, 1.0)) == 3 and t[2] - t[0] < 4.0)
    base = setting_with()
    seconds = np.full_like(base.catalog.service_s, 4.0)
    setting = setting_with(catalog={"service_s": seconds}, workload={"slo_s": np.full(2, 100.0)})
    for after_s, calls in ((3.9, 2), (4.1, 1), (8.1, 0)):
        world = World(setting, supply_of(one_tick(1.0))).start({(SMALL, OD): 1}, [seed])
        world.plan.overflow_fraction[:] = 1.0
        world.plan.overflow_after_s[:] = after_s
        assert world.route((SMALL, OD)).tick().invocations[0, FN] == calls


def test_classes_follow_their_shares_draw_by_draw() -> None:
    seed = 3
    world = World(setting_with(), supply_of(one_tick(5.0))).start({(SMALL, OD): 2}, [seed])
    seen = world.route((SMALL, OD)).tick()
    draws = [uniform(stream_key(seed, CLASS), i, 0) for i in range(len(arrival_times(seed, 5.0)))]
    assert seen.arrivals[0, STRICT] == sum(draw < 0.5 for draw in draws)


def test_a_batch_leaves_when_full_or_when_its_oldest_has_waited() -> None:
    # Batches of 2 take 0.075 s; one alone waits 2 s and takes 0.05 s.
    seed = next(s for s in count() if len(t := arrival_times(s, 0.4)) == 3 and t[1] - t[0] < 1.9 and t[2] < 7.9)
    first_s, second_s, third_s = arrival_times(seed, 0.4)
    world = World(setting_with(batch_max=4, workload={"slo_s": np.full(2, 10.0)}), supply_of(one_tick(0.4)))
    world.start({(SMALL, OD): 1}, [seed]).route((SMALL, OD))
    world.plan.batch_size[:] = 2
    world.plan.batch_wait_s[:] = 2.0
    seen = world.tick()
    expected = [second_s - first_s + 0.075, 0.075, 2.05]
    assert third_s + 2.05 < TICK_S
    found = np.zeros(seen.latency.shape[2], np.int64)
    for value in expected:
        found[latency.bucket_of(value)] += 1
    np.testing.assert_array_equal(seen.latency[0].sum(axis=0), found)


def test_egress_is_billed_per_answer() -> None:
    base = setting_with()
    workload = {"egress_usd": np.full_like(base.workload.egress_usd, 0.25)}
    world = World(setting_with(workload=workload), supply_of(5.0)).start({(SMALL, OD): 2}).route((SMALL, OD))
    world.tick(3)
    totals = world.simulator.totals
    assert totals.spend_usd[0, EGRESS] == 0.25 * totals.answered.sum()


def test_service_times_follow_their_quantiles() -> None:
    base = setting_with()
    spread = np.linspace(0.5, 1.5, SHAPE_CELLS + 1)
    catalog = {
        "shapes": np.stack([base.catalog.shapes[0], spread]),
        "service_shape": np.ones_like(base.catalog.service_shape),
    }
    world = World(setting_with(catalog=catalog), supply_of(2.0)).start({(SMALL, OD): 20}).route((SMALL, OD))
    world.tick(200)
    totals = world.simulator.totals
    answered = int(totals.answered.sum())
    # Uniform on 0.025..0.075 s; hardly any waits. Below 0.05 s lies half; three standard deviations of the share.
    assert totals.latency.sum(axis=(0, 1))[: latency.bucket_of(0.05)].sum() / answered == pytest.approx(
        (latency.bucket_edges()[latency.bucket_of(0.05)] - 0.025) / 0.05, abs=3 * 0.5 / math.sqrt(answered)
    )


def test_shapes_of_supply_and_setting_must_match() -> None:
    with pytest.raises(ScenarioError, match=r"supply\.spot_share: expected a row for each of the zones"):
        World(setting_with(), supply_of(1.0, np.ones((1, 10))))
    with pytest.raises(ScenarioError, match="num_envs: expected at least 1, got 0"):
        World(setting_with(), supply_of(1.0), num_envs=0)
    with pytest.raises(ScenarioError, match=r"simulator\.max_instances: expected at least 49"):
        World(setting_with(), supply_of(1.0)).start({(SMALL, OD): 49})
