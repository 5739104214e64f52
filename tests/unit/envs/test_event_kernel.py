"""The event kernel: the fast kernel's results where nobody hedges, and what becomes of hedged requests."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest

from controller import latency
from controller.arrays import PREEMPTION_WASTE
from controller.errors import ScenarioError
from controller.keyed_random import HEDGE, stream_key, uniform
from controller.routing import pick_other
from envs.kernels.requests import bucket_of
from tests.simulated import (
    TICK_S,
    World,
    one_request,
    random_decision,
    random_replicas,
    random_setting,
    random_supply,
    setting_with,
    supply_of,
)
from tests.tiny import FN, LARGE, OD, SMALL, SPOT_A

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test compiles both kernels


def lone_request(
    service_s: dict[tuple[int, int], float],
    hedge_after_s: float,
    latest_s: float = 5.0,
    replicas: dict[tuple[int, int], int] | None = None,
    spot_share: np.ndarray[tuple[int, int], np.dtype[np.float64]] | None = None,
    **changes: object,
) -> tuple[World, float]:
    """A world with one request, which goes to the slowest option first; returns it and the arrival."""
    seconds = setting_with().catalog.service_s.copy()
    for (v, p), value in service_s.items():
        seconds[v, p] = value
    catalog = {"service_s": seconds, "notice_s": np.zeros(4)}
    setting = setting_with(catalog=catalog, workload={"slo_s": np.full(2, 500.0), **changes})
    seed, at_s, rates = one_request(latest_s)
    world = World(setting, supply_of(rates, spot_share))
    world.start(replicas or dict.fromkeys(service_s, 1), [seed])
    slowest = max(service_s, key=lambda option: service_s[option])
    for v, p in service_s:
        world.shares[:, :, v, p] = 1.0 if (v, p) == slowest else 1e-12
    world.plan.hedge_after_s[:] = hedge_after_s
    return world, at_s


@pytest.mark.parametrize(("block", "routers"), [*((block, 1) for block in range(6)), (6, 2), (7, 3), (8, 3), (9, 16)])
def test_both_kernels_agree_to_the_last_bit(block: int, routers: int) -> None:
    for seed in range(12 * block, 12 * block + 12):
        worlds = []
        for kernel in ("fast", "event"):
            rng = np.random.default_rng(seed)
            setting = random_setting(rng, kernel=kernel, routers=routers)
            world = World(setting, random_supply(rng)).start(random_replicas(rng, setting), [seed])
            worlds.append((world, rng))
        for tick in range(12):
            for world, rng in worlds:
                if tick % 3 == 0:
                    random_decision(rng, world)
                world.tick()
            fast, event = (world.simulator for world, _ in worlds)
            for left, right in ((fast.observation, event.observation), (fast.totals, event.totals)):
                for name, a, b in zip(left._fields, left, right, strict=True):
                    np.testing.assert_array_equal(a, b, err_msg=f"{name} of seed {seed} in tick {tick}")


@pytest.mark.parametrize(("block", "routers"), [*((block, 1) for block in range(4)), (4, 3)])
def test_hedged_requests_are_conserved_under_any_decisions(block: int, routers: int) -> None:
    pairs = 0
    for seed in range(1000 + 12 * block, 1012 + 12 * block):
        rng = np.random.default_rng(seed)
        setting = random_setting(rng, routers=routers)
        world = World(setting, random_supply(rng)).start(random_replicas(rng, setting), [seed])
        for tick in range(12):
            if tick % 3 == 0:
                random_decision(rng, world, hedges=True)
            world.tick()
            held = world.simulator.state.held
            pairs += int(held.pairs[0])
            assert (held.twin[0] >= 0).sum() >= 2 * held.pairs[0]
    assert pairs > 0


def test_the_first_answer_wins_and_the_other_copy_frees_its_credit_at_once() -> None:
    world, _ = lone_request({(LARGE, OD): 2.0, (SMALL, SPOT_A): 0.25}, hedge_after_s=0.5)
    seen = world.tick()
    assert seen.answered.sum() == 1
    assert np.flatnonzero(seen.latency[0].sum(axis=0)) == [latency.bucket_of(0.75)]
    assert seen.accuracy_sum.sum() == pytest.approx(0.70)
    assert seen.busy_s[0, LARGE, OD] == pytest.approx(0.75)  # what ran is billed
    assert seen.busy_s[0, SMALL, SPOT_A] == pytest.approx(0.25)


def test_a_copy_that_is_too_late_changes_nothing_but_its_own_work() -> None:
    world, _ = lone_request({(LARGE, OD): 2.0, (SMALL, SPOT_A): 1.9}, hedge_after_s=0.5)
    seen = world.tick()
    assert seen.answered.sum() == 1
    assert seen.accuracy_sum.sum() == pytest.approx(0.82)
    assert seen.busy_s[0, SMALL, SPOT_A] == pytest.approx(1.5)


def test_a_request_answered_in_time_is_not_hedged() -> None:
    world, _ = lone_request({(LARGE, OD): 0.5, (SMALL, SPOT_A): 0.1}, hedge_after_s=0.6)
    assert world.tick().busy_s[0, SMALL, SPOT_A] == 0.0


def test_a_duplicate_goes_elsewhere_also_where_another_class_uses_more_options() -> None:
    world, _ = lone_request({(SMALL, OD): 0.5, (LARGE, OD): 1.0}, hedge_after_s=0.0, share=np.array([1.0, 0.0]))
    world.shares[:, 1, :, SPOT_A] = 1.0 / 3
    seen = world.tick()
    assert seen.busy_s[0, SMALL, OD] == seen.busy_s[0, LARGE, OD] == pytest.approx(0.5)


def test_zero_replicates_at_once() -> None:
    world, _ = lone_request({(LARGE, OD): 1.0, (SMALL, SPOT_A): 0.5}, hedge_after_s=0.0)
    seen = world.tick()
    assert np.flatnonzero(seen.latency[0].sum(axis=0)) == [latency.bucket_of(0.5)]
    assert seen.busy_s[0, LARGE, OD] == pytest.approx(0.5)


def test_a_queued_copy_leaves_its_queue_when_the_other_is_answered() -> None:
    world, _ = lone_request({(LARGE, OD): 1.0, (SMALL, SPOT_A): 0.5}, 0.2, replicas={(LARGE, OD): 1})
    seen = world.tick()
    assert seen.answered.sum() == 1
    assert seen.queue.sum() == seen.waiting.sum() == 0


def test_with_one_option_the_copy_takes_another_replica() -> None:
    world, _ = lone_request({(LARGE, OD): 2.0}, 0.5, replicas={(LARGE, OD): 2})
    seen = world.tick()
    assert seen.answered.sum() == 1
    assert seen.busy_s[0, LARGE, OD] == pytest.approx(2.0 + 1.5)


def test_a_pair_lives_on_across_ticks_and_is_answered_once() -> None:
    world, at_s = lone_request({(LARGE, OD): 33.0, (SMALL, SPOT_A): 24.0}, hedge_after_s=2.0)
    seen = world.tick()
    held = world.simulator.state.held
    assert (held.taken[0], held.pairs[0]) == (2, 1)
    assert world.simulator.in_service().sum() == 1
    world.plan.hedge_after_s[:] = np.inf  # what is hedged stays hedged
    world.tick()
    assert held.pairs[0] == 1
    while world.simulator.totals.answered.sum() == 0:
        seen = world.tick()
    assert seen.time_s[0] == math.ceil((at_s + 26.0) / TICK_S) * TICK_S
    assert world.simulator.totals.latency[0].sum(axis=0)[latency.bucket_of(26.0)] == 1
    assert (held.taken[0], held.pairs[0]) == (0, 0)
    busy = world.tick().busy_s
    assert busy.sum() == 0.0


def test_a_hedge_falls_due_in_a_later_tick() -> None:
    world, _ = lone_request({(LARGE, OD): 40.0, (SMALL, SPOT_A): 1.0}, hedge_after_s=15.0)
    world.tick(3)
    totals = world.simulator.totals
    assert totals.answered.sum() == 1
    assert totals.latency[0].sum(axis=0)[latency.bucket_of(16.0)] == 1


def test_a_copy_that_loses_its_replica_leaves_the_other_alone() -> None:
    share = np.ones((2, 100))
    share[0, 1:] = 0.0
    world, _ = lone_request({(LARGE, OD): 33.0, (SMALL, SPOT_A): 24.0}, hedge_after_s=2.0, spot_share=share)
    seen = world.tick()
    held = world.simulator.state.held
    assert seen.preempted[0, SPOT_A] == 1
    assert seen.spend_usd[0, PREEMPTION_WASTE] > 0
    assert (held.taken[0], held.pairs[0], seen.waiting.sum()) == (1, 0, 0)
    world.tick(4)
    totals = world.simulator.totals
    assert (totals.answered.sum(), totals.failed.sum()) == (1, 0)
    assert totals.accuracy_sum.sum() == pytest.approx(0.82)


def test_a_request_whose_only_running_copy_is_lost_waits_with_the_other() -> None:
    share = np.ones((2, 100))
    share[0, 1:] = 0.0
    options = {(LARGE, OD): 1.0, (SMALL, SPOT_A): 24.0}
    world, _ = lone_request(options, 2.0, replicas={(SMALL, SPOT_A): 1}, spot_share=share)
    seen = world.act(launch={(LARGE, OD): 1}).tick()
    assert seen.preempted[0, SPOT_A] == 1
    assert (seen.waiting.sum(), world.simulator.in_service().sum()) == (1, 0)
    world.tick(8)
    assert world.simulator.totals.answered.sum() == 1


def test_a_deadline_drops_both_waiting_copies_once() -> None:
    options = {(LARGE, OD): 2.0, (SMALL, SPOT_A): 1.0}
    world, _ = lone_request(options, 0.5, replicas={(LARGE, FN): 0}, slo_s=np.full(2, 1.0))
    seen = world.tick()
    assert (seen.failed.sum(), seen.missed.sum(), seen.waiting.sum(), seen.queue.sum()) == (1, 1, 0, 0)


def test_a_serverless_call_cannot_be_taken_back() -> None:
    world, _ = lone_request({(LARGE, FN): 9.0, (SMALL, OD): 0.5}, 1.0, replicas={(SMALL, OD): 1})
    seen = world.tick()
    assert seen.answered.sum() == 1
    assert seen.accuracy_sum.sum() == pytest.approx(0.70)
    assert (seen.invocations[0, FN], seen.warm[0, FN]) == (1, 1)
    world.tick(2)
    assert world.simulator.totals.answered.sum() == 1


def test_hedging_shortens_the_tail_of_uneven_services() -> None:
    tails = []
    for hedge_after_s in (np.inf, 0.2):
        base = setting_with()
        shapes = base.catalog.shapes.copy()
        uneven = np.ones_like(shapes[0])
        uneven[int(0.95 * len(uneven)) :] = 20.0  # one in twenty takes twenty times as long
        catalog = {"shapes": np.stack([shapes[0], uneven]), "service_shape": np.ones_like(base.catalog.service_shape)}
        workload = {"slo_s": np.full(2, 100.0)}
        world = World(setting_with(catalog=catalog, workload=workload), supply_of(20.0)).start({(SMALL, OD): 30}, [1])
        world.plan.hedge_after_s[:] = hedge_after_s
        world.route((SMALL, OD)).tick(30)
        tails.append(latency.quantile(world.simulator.totals.latency[0].sum(axis=0), 0.99))
    # Both copies are slow once in 400; alone, one in twenty takes 1 s.
    assert tails[0] > 0.9
    assert tails[1] < 0.4


def test_the_fast_kernel_refuses_a_plan_that_hedges() -> None:
    world = World(setting_with(kernel="fast"), supply_of(1.0)).start({(SMALL, OD): 1}).route((SMALL, OD))
    world.plan.hedge_after_s[:] = 0.3
    with pytest.raises(ScenarioError, match=r"simulator\.kernel: expected 'auto' or 'event' .* 0\.3 s\), got 'fast'"):
        world.tick()


@pytest.mark.parametrize("first", [-1, 0, 1, 2])
def test_a_duplicate_goes_to_the_other_options_by_their_shares(first: int) -> None:
    shares = np.array([0.5, 0.2, 0.3])
    key = stream_key(1, HEDGE)
    picked = [pick_other(np.cumsum(shares), first, uniform(key, i, 1)) for i in range(4000)]
    expected = shares.copy()
    if first >= 0:
        expected[first] = 0.0
    found = np.bincount(picked, minlength=3) / 4000
    # standard deviation of a share of 4000 draws is at most 0.008; four of them
    np.testing.assert_allclose(found, expected / expected.sum(), atol=0.032)
    assert found[first] == 0.0 or first < 0


def test_the_compiled_choice_of_another_option_is_the_plain_one() -> None:
    compiled = numba.njit(pick_other)
    rng = np.random.default_rng(1)
    for _ in range(300):
        cumulative = np.cumsum(rng.random(4) * rng.integers(0, 2, 4))
        first, coin = int(rng.integers(-1, 4)), float(rng.random())
        assert compiled(cumulative, first, coin) == pick_other(cumulative, first, coin)


def test_compiled_buckets_are_the_plain_ones() -> None:
    @numba.njit
    def compiled(value: float) -> int:
        return bucket_of(value)  # has no Python entry of its own

    values = np.random.default_rng(2).lognormal(0.0, 4.0, 500)
    edges = latency.bucket_edges()
    around = [np.nextafter(edges, 0.0), edges, np.nextafter(edges, np.inf), [0.0, 1e-300, 1e6]]
    for value in np.concatenate([values, *around]):
        assert compiled(value) == latency.bucket_of(float(value)), value


def test_a_duplicate_stays_where_no_other_option_has_a_share() -> None:
    assert pick_other(np.array([0.0, 1.0, 1.0]), 1, 0.7) == 1
    assert pick_other(np.array([0.0, 0.0]), -1, 0.7) == -1
    assert pick_other(np.array([]), -1, 0.7) == -1
