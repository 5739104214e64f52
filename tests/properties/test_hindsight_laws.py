"""No fleet is cheaper than its bound, and one that could hardly be better comes near it."""

from typing import Any

import numpy as np
import pytest

from controller.arrays import SHAPE_CELLS
from controller.compile import Setting
from envs.world import Cell, World
from experiments.hindsight import RunRecorder, bound_of_run
from tests.simulated import World as Driven
from tests.simulated import random_setting, setting_with
from tests.tiny import FN, OD, SMALL, tiny_setting

CELL = Cell(1, 0)
MACHINES, SERVERLESS, BOTH = range(3)


def world_of(setting: Setting, rates_rps: Any) -> World:
    """A day with a rate per tick and a market that offers everything."""
    rates = np.broadcast_to(np.asarray(rates_rps, np.float64), (1, 8640)).copy()
    return World(setting, "made up", 1.0, rates, 10.0, np.ones((2, 8640)), 10.0, (1,))


def driven(world: World, replicas: dict[tuple[int, int], int], seed: int) -> Driven:
    """A simulator of the world, to be told every action by hand."""
    cells = [CELL]
    return Driven(world.setting, world.supply()).start(
        replicas, seeds=[seed], start_s=world.start_s(cells), spot_start_s=world.spot_start_s(cells)
    )


@pytest.mark.parametrize("kind", [MACHINES, SERVERLESS, BOTH])
def test_fleets_near_their_limit_cost_no_less_than_their_bound(kind: int) -> None:
    ratios = []
    for seed in range(6):
        rng = np.random.default_rng([seed, kind])
        drawn = random_setting(rng)  # shapes, network, egress, release lags, keep-alive
        names = ("shapes", "service_shape", "cold_shape", "launch_shape", "keep_alive_s", "quota", "release_lag_s")
        setting = setting_with(
            batch_max=4,
            concurrency=int(drawn.catalog.concurrency.max()),
            catalog={name: getattr(drawn.catalog, name) for name in names},
            workload={
                "slo_s": rng.choice([1.5, 3.0, 12.0, 30.0], 2),
                "network_s": drawn.workload.network_s,
                "egress_usd": drawn.workload.egress_usd,
            },
        )
        fleet = {(int(rng.integers(3)), int(rng.integers(3))): int(rng.integers(1, 6))} if kind != SERVERLESS else {}
        fleet |= {(int(rng.integers(3)), FN): int(rng.choice([0, 2, 6]))} if kind != MACHINES else {}
        cat = setting.catalog
        rps = {
            (v, p): (max(count, 3) if p == FN else count * cat.concurrency[v, p] * 4)
            / cat.service_s[v, p, 1 if p == FN else 4]
            for (v, p), count in fleet.items()
        }
        world = world_of(setting, sum(rps.values()) * rng.uniform(0.7, 1.1))
        sim = driven(world, fleet, seed)
        for (v, p), capacity in rps.items():
            sim.shares[:, :, v, p] = capacity / sum(rps.values())
        sim.plan.batch_size[:] = 4
        run, cost = RunRecorder(), 0.0
        for _ in range(60):
            window = sim.tick()
            run.observed(window)
            cost += float(window.spend_usd.sum())
        ratios.append(bound_of_run(world, CELL, run, step_s=float(rng.choice([10.0, 60.0, 300.0]))).cost_usd / cost)
    assert max(ratios) <= 1.0
    assert max(ratios) > {MACHINES: 0.5, SERVERLESS: 0.1, BOTH: 0.1}[kind]  # else nothing was tried


@pytest.mark.parametrize(("on", "off", "lag_s"), [(20, 20, 0.0), (6, 20, 5.0)])
def test_machines_that_come_and_go_with_the_load_pay_their_starts(on: int, off: int, lag_s: float) -> None:
    # Four machines of 20/s for 70/s, launched so that they are ready when load begins: nothing could be done better but
    # for the half machine too many.
    base = tiny_setting()
    spread = np.linspace(0.2, 1.8, SHAPE_CELLS + 1)
    allowed = np.zeros_like(base.workload.allowed)
    allowed[:, SMALL, OD] = True
    setting = setting_with(
        catalog={
            "release_lag_s": np.full(4, lag_s),
            "shapes": np.stack([base.catalog.shapes[0], spread / spread.mean()]),
            "service_shape": np.ones_like(base.catalog.service_shape),
        },
        workload={"allowed": allowed, "overflow_option": np.array([-1, -1])},
    )
    is_on = np.arange(8640) % (on + off) >= off
    world = world_of(setting, np.where(is_on, 70.0, 0.0))
    sim = driven(world, {}, seed=1).route((SMALL, OD))
    run, cost = RunRecorder(), 0.0
    for tick in range(240):
        if is_on[tick + 7] and not is_on[tick + 6]:
            sim.act(launch={(SMALL, OD): 4})
        if tick > 0 and is_on[tick - 1] and not is_on[tick]:
            sim.act(drain={(SMALL, OD): 4})
        window = sim.tick()
        run.observed(window)
        cost += float(window.spend_usd.sum())
    fine, coarse = (bound_of_run(world, CELL, run, step_s=step_s).cost_usd for step_s in (10.0, 60.0))
    assert coarse <= fine + 1e-9
    assert 0.7 * cost < fine <= cost
