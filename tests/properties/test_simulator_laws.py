"""Laws of the simulated world under any decisions: conservation, bills, and what results may not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.arrays import BILL_TERMS, IDLE, SERVERLESS, SHAPE_CELLS
from controller.compile import Setting
from tests.simulated import (
    World,
    random_answers,
    random_decision,
    random_replicas,
    random_setting,
    random_supply,
    setting_with,
    supply_of,
)
from tests.strategies import seeds
from tests.tiny import FN, LARGE, OD, SMALL, SPOT_A, SPOT_B

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first example compiles both kernels


routers_used = st.sampled_from([1, 2, 3, 16])
"""One, two, more than many an option has credits, and more than any has."""


def setting_of(seed: int, rng: np.random.Generator, routers: int = 1) -> Setting:
    """A random setting with measured answers, which cascades need, every other one with a variant for collages."""
    answers = random_answers(np.random.default_rng(seed))
    return random_setting(rng, collages=seed % 2 == 0, answers=answers, routers=routers)


def run(
    seed: int,
    hedges: bool,
    ticks: int = 9,
    env_seeds: tuple[int, ...] = (0,),
    threads: int = 1,
    start: int = 0,
    world: World | None = None,
    routers: int = 1,
) -> World:
    """A world after random decisions; all that is random comes from `seed`, all that arrives from `env_seeds`."""
    rng = np.random.default_rng(seed)
    setting, supply = setting_of(seed, rng, routers), random_supply(rng)
    replicas = random_replicas(rng, setting, len(env_seeds))
    if world is None:
        world = World(setting, supply, len(env_seeds), threads).start(replicas, list(env_seeds))
    for tick in range(ticks):
        if tick % 3 == 0:
            random_decision(rng, world, hedges, cascades=hedges, collages=hedges and seed % 2 == 0)
        if tick >= start:
            world.tick()
        else:
            for array in world.actions:
                array[:] = 0
    return world


def arrays_of(world: World, n: int) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    simulator = world.simulator
    groups = {"observation": simulator.observation, "totals": simulator.totals}
    return {f"{group}.{name}": v[n] for group, t in groups.items() for name, v in t._asdict().items()}


def assert_same(left: World, right: World, left_env: int = 0, right_env: int = 0) -> None:
    ours, theirs = arrays_of(left, left_env), arrays_of(right, right_env)
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


@given(seeds, st.booleans(), routers_used)
@settings(max_examples=60)
def test_requests_are_conserved_in_every_tick(seed: int, hedges: bool, routers: int) -> None:
    run(seed, hedges, routers=routers)  # World.tick checks it


@given(seeds, st.booleans())
@settings(max_examples=30)
def test_bill_terms_sum_and_only_ever_grow_in_all(seed: int, hedges: bool) -> None:
    rng = np.random.default_rng(seed)
    setting = setting_of(seed, rng)
    world = World(setting, random_supply(rng)).start(random_replicas(rng, setting), [seed % 2**31])
    terms = np.zeros(len(BILL_TERMS))
    for tick in range(9):
        if tick % 3 == 0:
            random_decision(rng, world, hedges, cascades=hedges)
        seen = world.tick()
        assert seen.spend_usd.sum() >= -1e-12
        terms += seen.spend_usd[0]
        totals = world.simulator.totals
        np.testing.assert_allclose(totals.spend_usd[0], terms, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(seen.day_spend_usd[0], terms, rtol=1e-9, atol=1e-12)
        assert (np.delete(totals.spend_usd[0], IDLE) >= -1e-12).all()
        assert totals.spend_usd[0, IDLE] >= -1e-9
    # Rent is price times instance-seconds, whatever term it went to.
    prices = setting.catalog.price_usd_per_s
    rent_usd = sum(terms[BILL_TERMS.index(name)] for name in ("compute", "idle", "start_up", "preemption_waste"))
    assert rent_usd == pytest.approx(float((totals.instance_s[0] * prices).sum()), rel=1e-9, abs=1e-12)


@given(seeds, st.booleans(), routers_used)
@settings(max_examples=15)
def test_credits_are_never_busier_than_the_clock(seed: int, hedges: bool, routers: int) -> None:
    rng = np.random.default_rng(seed)
    setting = setting_of(seed, rng, routers)
    world = World(setting, random_supply(rng)).start(random_replicas(rng, setting), [1])
    machines = setting.catalog.market != SERVERLESS
    for tick in range(9):
        if tick % 3 == 0:
            random_decision(rng, world, hedges, cascades=hedges)
        before = world.simulator.totals.instance_s.copy()
        busy_s = (world.tick().busy_s[0] / setting.catalog.concurrency)[:, machines]
        rented_s = (world.simulator.totals.instance_s - before)[0, machines]
        assert (busy_s.sum(axis=0) <= rented_s + 1e-6).all()
        assert (busy_s >= -1e-9).all()


@given(seeds, st.booleans(), routers_used)
@settings(max_examples=15)
def test_results_do_not_depend_on_batch_layout_order_or_threads(seed: int, hedges: bool, routers: int) -> None:
    order = (11, 7, 5, 3, 2)
    many = run(seed, hedges, env_seeds=order, routers=routers)
    threaded = run(seed, hedges, env_seeds=order, threads=2, routers=routers)
    reversed_order = run(seed, hedges, env_seeds=order[::-1], routers=routers)
    alone = run(seed, hedges, env_seeds=(7,), routers=routers)
    for n in range(len(order)):
        assert_same(many, threaded, n, n)
        assert_same(many, reversed_order, n, len(order) - 1 - n)
    assert_same(alone, many, 0, order.index(7))


@given(seeds, st.booleans(), st.integers(1, 8), routers_used)
@settings(max_examples=15)
def test_a_restored_snapshot_continues_identically(seed: int, hedges: bool, at: int, routers: int) -> None:
    straight = run(seed, hedges, ticks=9, routers=routers)
    paused = run(seed, hedges, ticks=at, routers=routers)
    snapshot = paused.simulator.snapshot()
    decided = [array.copy() for array in (*paused.plan, paused.shares)]
    random_decision(np.random.default_rng(seed + 1), paused, hedges, cascades=hedges)
    paused.tick(3)
    paused.simulator.restore(snapshot)
    for into, value in zip((*paused.plan, paused.shares), decided, strict=True):
        into[:] = value
    for array in paused.actions:
        array[:] = 0
    run(seed, hedges, ticks=9, start=at, world=paused, routers=routers)
    assert_same(straight, paused)


@given(seeds)
@settings(max_examples=10)
def test_two_policies_under_one_seed_see_the_same_requests(seed: int) -> None:
    env_seed = seed % 2**31
    setting, supply = setting_with(), random_supply(np.random.default_rng(seed))
    small = World(setting, supply).start({(SMALL, OD): 3}, [env_seed]).route((SMALL, OD))
    large = World(setting, supply).start({(LARGE, OD): 1}, [env_seed]).route((LARGE, OD), (LARGE, FN))
    large.plan.hedge_after_s[:] = 0.2
    for _ in range(6):
        np.testing.assert_array_equal(small.tick().arrivals, large.tick().arrivals)
    np.testing.assert_array_equal(small.simulator.observation.history, large.simulator.observation.history)


def with_spread(**catalog: object) -> Setting:
    """The tiny setting with services of 0.2 to 1.8 times their mean and deadlines far away."""
    base = setting_with().catalog
    spread = np.linspace(0.2, 1.8, SHAPE_CELLS + 1)
    shapes = np.stack([base.shapes[0], spread / spread.mean()])
    return setting_with(
        catalog={"shapes": shapes, "service_shape": np.ones_like(base.service_shape), **catalog},
        workload={"slo_s": np.full(2, 1000.0)},
    )


@given(seeds, st.lists(st.integers(1, 9), min_size=3, max_size=3))
@settings(max_examples=10)
def test_a_request_draws_the_same_service_wherever_it_is_sent(seed: int, weights: list[int]) -> None:
    rates = np.zeros((1, 50))
    rates[0, :10] = 5.0
    setting, env_seed = with_spread(), seed % 2**31
    room = {(SMALL, OD): 16, (SMALL, SPOT_A): 16, (SMALL, SPOT_B): 16}  # 16 replicas under 1 Erlang: nobody waits
    one = World(setting, supply_of(rates)).start(room, [env_seed]).route((SMALL, OD))
    split = World(setting, supply_of(rates)).start(room, [env_seed]).route(*room)
    for weight, (v, p) in zip(weights, room, strict=True):
        split.shares[:, :, v, p] = weight / sum(weights)
    # Services of `large` are four times as long, those of a function twice: two octaves and one, of 8 buckets each.
    large = World(setting, supply_of(rates)).start({(LARGE, OD): 32}, [env_seed]).route((LARGE, OD))
    function = World(setting, supply_of(rates)).start({(SMALL, FN): 32}, [env_seed]).route((SMALL, FN))
    seen = [world for world in (one, split, large, function) if world.tick(12)]
    latency = [world.simulator.totals.latency[0] for world in seen]
    assert latency[0].sum() == one.simulator.totals.arrivals.sum() > 0
    np.testing.assert_array_equal(latency[1], latency[0])
    np.testing.assert_array_equal(latency[2], np.roll(latency[0], 16, axis=1))
    np.testing.assert_array_equal(latency[3], np.roll(latency[0], 8, axis=1))


def services_in_progress(world: World) -> dict[int, float]:
    """Length of each service that runs now on an instance, in mean services of its option, by request id."""
    fleet, held, catalog = world.simulator.state.fleet, world.simulator.state.held, world.setting.catalog
    found = {}
    for i, k in np.argwhere(fleet.credit_flight[0] >= 0):
        v, p = divmod(int(fleet.flight_option[0, i]), world.setting.shape[1])
        span_s = fleet.credit_free_s[0, i, k] - fleet.credit_start_s[0, i, k]
        found[int(held.id[0, fleet.credit_flight[0, i, k]])] = span_s / catalog.service_s[v, p, 1]
    return found


@given(seeds)
@settings(max_examples=10)
def test_a_request_draws_the_same_service_whenever_it_is_served(seed: int) -> None:
    seconds = np.full_like(setting_with().catalog.service_s, 4.0)
    seconds[LARGE] = 6.0
    setting, env_seed = with_spread(service_s=seconds), seed % 2**31
    busy = World(setting, supply_of(3.0)).start({(SMALL, OD): 9}, [env_seed]).route((SMALL, OD))
    calm = World(setting, supply_of(3.0)).start({(LARGE, OD): 24, (SMALL, SPOT_A): 20}, [env_seed])
    calm.route((LARGE, OD), (SMALL, SPOT_A))
    drawn: list[dict[int, float]] = [{}, {}]
    for _ in range(12):
        for world, found in zip((busy, calm), drawn, strict=True):
            world.tick()
            found |= services_in_progress(world)
    assert busy.simulator.observation.waiting.sum() > 0
    both = drawn[0].keys() & drawn[1].keys()
    assert len(both) > 20
    np.testing.assert_allclose([drawn[0][i] for i in both], [drawn[1][i] for i in both], rtol=1e-9)


@given(seeds)
@settings(max_examples=10)
def test_one_more_decision_without_change_changes_nothing(seed: int) -> None:
    twice = run(seed, hedges=False, ticks=3)
    once = run(seed, hedges=False, ticks=3)
    simulator = twice.simulator
    simulator.apply(twice.actions, twice.plan, twice.shares)
    simulator.apply(twice.actions, twice.plan, twice.shares)
    simulator.advance()
    once.tick()
    assert_same(once, twice)


def test_a_tick_without_a_decision_has_its_own_window() -> None:
    world = World(setting_with(), supply_of(20.0)).start({(SMALL, OD): 3}).route((SMALL, OD))
    world.tick()
    arrivals = world.simulator.observation.arrivals.copy()
    for _ in range(5):
        arrivals += world.simulator.advance().arrivals
    np.testing.assert_array_equal(arrivals, world.simulator.totals.arrivals)
