"""A scenario in the simulator: the tiny catalog with the scenario's figures, driven tick by tick through actions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import integrate, stats

from controller.arrays import F64, I64, SHAPE_CELLS
from controller.catalog import CONSTANT, Distribution
from controller.compile import Setting
from envs.supply import Supply
from tests.peer.replications import Replications
from tests.peer.scenarios import PeerScenario
from tests.simulated import World
from tests.tiny import FN, OD, SPOT_A, tiny_setting

UNLIMITED = 10**9
REQUESTS_HELD = 2048


def service_table(scenario: PeerScenario) -> F64:
    """Quantile table of the service shape, made as a catalog makes it; its last cell keeps the tail's mean."""
    if scenario.service == "constant":
        return CONSTANT.table(SHAPE_CELLS)
    if scenario.service == "exponential":
        known = stats.expon()
    else:
        sigma = np.sqrt(np.log1p(scenario.service_cv**2))
        known = stats.lognorm(sigma, scale=np.exp(-(sigma**2) / 2))
    at = np.arange(SHAPE_CELLS) / SHAPE_CELLS
    values = np.maximum(known.ppf(at), 1e-9)
    tail_mean = SHAPE_CELLS * integrate.quad(known.ppf, at[-1], 1.0, limit=500)[0]
    quantiles = dict(zip(at, values, strict=True)) | {1.0: 2 * tail_mean - values[-1]}
    return Distribution(quantiles=quantiles, derived="quantiles of a known distribution").table(SHAPE_CELLS)


def places(scenario: PeerScenario) -> list[tuple[int, int]]:
    """(variant, pool) of each option; a turnover goes to and fro between two that are alike."""
    if scenario.change == "outage":
        return [(0, SPOT_A)]
    if scenario.change == "turnover":
        return [(0, OD), (1, OD)]
    return [(v, FN if option.is_serverless else OD) for v, option in enumerate(scenario.options)]


def setting_of(scenario: PeerScenario, kernel: str) -> Setting:
    """The compiled setting."""
    size = {"max_instances": 16, "max_requests_held": REQUESTS_HELD, "kernel": kernel}
    base = tiny_setting(1, 1, simulator=size, control={"routers": scenario.routers})
    num_variants, num_pools, num_classes = base.shape
    service_s = base.catalog.service_s.copy()
    concurrency, quota = base.catalog.concurrency.copy(), np.array([1000, 1000, 1000, 0])
    network_s = np.zeros((num_classes, num_variants, num_pools))
    overflow_option = np.full(num_classes, -1)
    at = places(scenario)
    options = scenario.options * 2 if scenario.change == "turnover" else scenario.options
    for (v, p), option in zip(at, options, strict=True):
        service_s[v, p, 1:] = option.mean_s
        concurrency[v, p] = option.credits
        network_s[:, v, p] = option.network_s
        if option.is_serverless:
            quota[p] = option.servers
    if scenario.overflow_queue is not None:
        v, p = at[1]
        overflow_option[:] = v * num_pools + p
    catalog = base.catalog._replace(
        service_s=service_s,
        concurrency=concurrency,
        quota=quota,
        shapes=np.stack([CONSTANT.table(SHAPE_CELLS), service_table(scenario)]),
        service_shape=np.ones((num_variants, num_pools), np.int64),
        cold_shape=np.zeros((num_variants, num_pools), np.int64),
        launch_shape=np.zeros(num_pools, np.int64),
        cold_start_s=np.zeros((num_variants, num_pools)),
        # A launch in the decision before a shift serves from the shift on.
        launch_s=np.full(num_pools, 0.5 * scenario.tick_s),
        load_s=np.full((num_variants, num_pools), 0.25 * scenario.tick_s),
        notice_s=np.zeros(num_pools),
    )
    classes = [*scenario.classes, *[replace(scenario.classes[0], share=0.0)] * (num_classes - len(scenario.classes))]
    workload = base.workload._replace(
        share=np.array([c.share for c in classes]),
        slo_s=np.array([c.slo_s for c in classes]),
        drop_at_deadline=np.array([c.drops for c in classes]),
        queue_limit=np.array([UNLIMITED if c.queue_limit is None else c.queue_limit for c in classes]),
        network_s=network_s,
        overflow_option=overflow_option,
    )
    return replace(
        base, catalog=catalog, workload=workload, control=base.control._replace(tick_s=float(scenario.tick_s))
    )


def supply_of(scenario: PeerScenario) -> Supply:
    """Rates of the scenario; spot zones offer nothing while an outage lasts, but for the tick that launches anew."""
    ticks = round(scenario.horizon_s / scenario.tick_s)
    share = np.ones((2, ticks + 1))
    if scenario.change == "outage":
        begins_s = 0.0
        for end_s, servers in scenario.shifts:
            if servers == 0:
                share[:, round(begins_s / scenario.tick_s) : round(end_s / scenario.tick_s) - 1] = 0.0
            begins_s = end_s
    rates = np.array([scenario.rate_rps])
    return Supply(rates, scenario.horizon_s / rates.shape[1], share, scenario.tick_s, scenario.gap_cv)


def run(scenario: PeerScenario, seeds: list[int], kernel: str = "fast") -> Replications:
    """One replication per seed, all in one simulator with that kernel."""
    setting = setting_of(scenario, kernel)
    world = World(setting, supply_of(scenario), len(seeds))
    at = places(scenario)
    first = {
        at[i]: option.servers // option.credits for i, option in enumerate(scenario.options) if not option.is_serverless
    }
    world.start(first, seeds)
    for place, option in zip(at, scenario.options, strict=False):
        world.shares[:, :, *place] = option.share
    if scenario.overflow_queue is not None:
        # The predicted wait is (waiting + 1) services over the servers once all are busy.
        option = scenario.options[0]
        world.plan.overflow_after_s[:] = (scenario.overflow_queue + 0.5) * option.mean_s / option.servers
        world.plan.overflow_fraction[:] = scenario.overflow_fraction
    simulator, num_classes = world.simulator, len(scenario.classes)
    totals = simulator.totals
    ticks = round(scenario.horizon_s / scenario.tick_s)
    in_system, busy_s = np.zeros(totals.arrivals.shape), np.zeros(len(seeds))
    for tick in range(ticks):
        _act(world, scenario, tick)
        simulator.apply(world.actions, world.plan, world.shares)
        for array in world.actions:
            array[:] = 0
        seen = simulator.advance()
        in_system += totals.arrivals - totals.answered - totals.failed - totals.shed
        busy_s += seen.busy_s.sum(axis=(1, 2))

    def counts(array: I64) -> I64:
        return array[:, :num_classes].copy()

    return Replications(
        arrivals=counts(totals.arrivals),
        answered=counts(totals.answered),
        missed=counts(totals.missed),
        failed=counts(totals.failed),
        shed=counts(totals.shed),
        latency=counts(totals.latency),
        in_system=in_system[:, :num_classes] / ticks,
        busy_s=busy_s,
    )


def _act(world: World, scenario: PeerScenario, tick: int) -> None:
    """Actions of the decision at the beginning of a tick: launches one tick ahead of a shift, drains at it."""
    at = places(scenario)
    for n in range(1, len(scenario.shifts)):
        edge = round(scenario.shifts[n - 1][0] / scenario.tick_s)
        before, servers = scenario.shifts[n - 1][1], scenario.shifts[n][1]
        if scenario.change == "launch" and tick == edge - 1:
            world.act(launch={at[0]: servers - before})
        if scenario.change == "outage" and tick == edge - 1 and servers > 0:
            world.act(launch={at[0]: servers})
        if scenario.change == "turnover":
            old, new = at[(n - 1) % 2], at[n % 2]
            if tick == edge - 1:
                world.act(launch={new: servers})
            if tick == edge:
                world.act(drain={old: before})
                world.shares[:, :, *old] = 0.0
                world.shares[:, :, *new] = 1.0
