"""Laws of the simulated world under any decisions: conservation, bills, and what results may not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.arrays import BILL_TERMS, IDLE, SERVERLESS
from tests.simulated import (
    World,
    random_decision,
    random_replicas,
    random_setting,
    random_supply,
    setting_with,
    supply_of,
)
from tests.strategies import seeds
from tests.tiny import FN, LARGE, OD, SMALL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first example compiles both kernels


def run(
    seed: int,
    hedges: bool,
    ticks: int = 9,
    env_seeds: tuple[int, ...] = (0,),
    threads: int = 1,
    start: int = 0,
    world: World | None = None,
) -> World:
    """A world after random decisions; all that is random comes from `seed`, all that arrives from `env_seeds`."""
    rng = np.random.default_rng(seed)
    setting, supply = random_setting(rng), random_supply(rng)
    replicas = random_replicas(rng, setting, len(env_seeds))
    if world is None:
        world = World(setting, supply, len(env_seeds), threads).start(replicas, list(env_seeds))
    for tick in range(ticks):
        if tick % 3 == 0:
            random_decision(rng, world, hedges)
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


@given(seeds, st.booleans())
@settings(max_examples=40)
def test_requests_are_conserved_in_every_tick(seed: int, hedges: bool) -> None:
    run(seed, hedges)  # World.tick checks it


@given(seeds, st.booleans())
@settings(max_examples=30)
def test_bill_terms_sum_and_only_ever_grow_in_all(seed: int, hedges: bool) -> None:
    rng = np.random.default_rng(seed)
    setting = random_setting(rng)
    world = World(setting, random_supply(rng)).start(random_replicas(rng, setting), [seed % 2**31])
    terms = np.zeros(len(BILL_TERMS))
    for tick in range(9):
        if tick % 3 == 0:
            random_decision(rng, world, hedges)
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


@given(seeds, st.booleans())
@settings(max_examples=10)
def test_credits_are_never_busier_than_the_clock(seed: int, hedges: bool) -> None:
    rng = np.random.default_rng(seed)
    setting = random_setting(rng)
    world = World(setting, random_supply(rng)).start(random_replicas(rng, setting), [1])
    machines = setting.catalog.market != SERVERLESS
    for tick in range(9):
        if tick % 3 == 0:
            random_decision(rng, world, hedges)
        before = world.simulator.totals.instance_s.copy()
        busy_s = (world.tick().busy_s[0] / setting.catalog.concurrency)[:, machines]
        rented_s = (world.simulator.totals.instance_s - before)[0, machines]
        assert (busy_s.sum(axis=0) <= rented_s + 1e-6).all()
        assert (busy_s >= -1e-9).all()


@given(seeds, st.booleans())
@settings(max_examples=10)
def test_results_do_not_depend_on_batch_layout_order_or_threads(seed: int, hedges: bool) -> None:
    order = (11, 7, 5, 3, 2)
    many = run(seed, hedges, env_seeds=order)
    threaded = run(seed, hedges, env_seeds=order, threads=2)
    reversed_order = run(seed, hedges, env_seeds=order[::-1])
    alone = run(seed, hedges, env_seeds=(7,))
    for n in range(len(order)):
        assert_same(many, threaded, n, n)
        assert_same(many, reversed_order, n, len(order) - 1 - n)
    assert_same(alone, many, 0, order.index(7))


@given(seeds, st.booleans(), st.integers(1, 8))
@settings(max_examples=10)
def test_a_restored_snapshot_continues_identically(seed: int, hedges: bool, at: int) -> None:
    straight = run(seed, hedges, ticks=9)
    paused = run(seed, hedges, ticks=at)
    snapshot = paused.simulator.snapshot()
    decided = [array.copy() for array in (*paused.plan, paused.shares)]
    random_decision(np.random.default_rng(seed + 1), paused, hedges)
    paused.tick(3)
    paused.simulator.restore(snapshot)
    for into, value in zip((*paused.plan, paused.shares), decided, strict=True):
        into[:] = value
    for array in paused.actions:
        array[:] = 0
    run(seed, hedges, ticks=9, start=at, world=paused)
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
