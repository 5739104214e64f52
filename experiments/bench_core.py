"""Speed of the fast kernel by itself: many requests a tick on few options, so that the per-request work is what counts.

The servers stand in two pools, on demand and spot; launches happen, the spot zone loses capacity now and then, and two
classes with their own deadlines share the queues. Only their number, the batch size and the load are varied.
"""

from __future__ import annotations

import math
import time
from statistics import NormalDist
from typing import Any

import numpy as np

from controller.arrays import empty_actions, empty_plan
from controller.catalog import Catalog, load_catalog
from controller.compile import Setting, compile_scenario
from controller.config import parse_config
from controller.scenario import SimulatorSize, load_scenario
from envs.simulator import Simulator
from envs.supply import Supply

SERVICE_S = (0.017, 0.003)
"""Seconds of a batch: per batch and per item."""

ON_DEMAND, SPOT = 0, 1
BATCH_WAIT_S = 0.05
"""A batch that is not full waits this long for more, which is long enough for nearly all to be full."""

NUM_TICKS = 24
LEAST_BLOCKS, LEAST_S = 6, 1.5
"""Repeats from the same state: so many, and so many CPU seconds, at least."""

LAUNCH_EVERY_TICKS = 6


def dense_setting(num_servers: int, largest_batch: int) -> Setting:
    """The tiny catalog with one fast variant and room for `num_servers`."""
    catalog = load_catalog("tiny").model_dump(mode="json", exclude_none=True)
    intercept_s, slope_s = SERVICE_S
    probabilities = np.linspace(0.001, 0.999, 64)
    quantiles = {float(p): math.exp(0.3 * NormalDist().inv_cdf(p)) for p in probabilities}
    for profile in catalog["profiles"]:
        if profile["variant"] == "small" and profile["pool"] != "serverless":
            profile["service_intercept_s"]["value"] = intercept_s
            profile["service_slope_s"]["value"] = slope_s
            profile["batch_max"] = largest_batch
            profile["service_shape"] = {"quantiles": quantiles, "derived": "lognormal, sigma 0.3"}
    for pool in catalog["pools"]:
        pool["quota"] = max(pool["quota"], 2 * num_servers)
    size = SimulatorSize(max_instances=2 * num_servers + 16, max_requests_held=16384)
    scenario = load_scenario("tiny").model_copy(update={"simulator": size})
    return compile_scenario(scenario, parse_config(catalog, Catalog, "dense catalog"))


def core_speed(num_servers: int, batch: int, load: float = 0.8) -> dict[str, Any]:
    """Requests per CPU second of whole ticks, best of the blocks.

    Args:
        num_servers: Servers, half on demand and half spot.
        batch: Largest batch; 1 serves one by one.
        load: Offered load as a share of what full batches can serve.

    Returns:
        `requests_per_s_core`, and what was simulated: requests, misses, preempted instances, launches.
    """
    setting = dense_setting(num_servers, batch)
    # So many side by side that a call from Python serves as many requests whatever the number of servers.
    num_envs = max(4, 256 // num_servers)
    intercept_s, slope_s = SERVICE_S
    rate_rps = load * num_servers * batch / (intercept_s + slope_s * batch)
    zone = np.ones((1, NUM_TICKS * 4))
    zone[0, NUM_TICKS // 2] = 0.5 * (num_servers // 2 - 1) / num_servers  # one instance is taken, once
    supply = Supply(np.full((1, NUM_TICKS * 4), rate_rps), setting.control.tick_s, zone, setting.control.tick_s, 1.0)
    simulator = Simulator(setting, supply, num_envs)
    replicas = np.zeros((num_envs, *setting.shape[:2]), np.int64)
    replicas[:, 0, ON_DEMAND] = num_servers - num_servers // 2
    replicas[:, 0, SPOT] = num_servers // 2
    simulator.reset(np.arange(num_envs), initial_replicas=replicas)
    plan, actions = empty_plan(num_envs, setting.shape), empty_actions(num_envs, setting.shape)
    plan.batch_size[:] = batch
    plan.batch_wait_s[:] = BATCH_WAIT_S if batch > 1 else 0.0
    plan.shed_limit[:] = 1 << 30
    shares = np.zeros((num_envs, setting.shape[2], *setting.shape[:2]))
    shares[:, :, 0, ON_DEMAND] = shares[:, :, 0, SPOT] = 0.5
    start, best, blocks, total_s = simulator.snapshot(), np.inf, 0, 0.0
    # A block of few servers takes milliseconds: many of them, so that some run undisturbed.
    while blocks < LEAST_BLOCKS or total_s < LEAST_S:
        simulator.restore(start)
        started_s = time.process_time()
        for tick in range(NUM_TICKS):
            actions.launch[:, 0, ON_DEMAND] = tick % LAUNCH_EVERY_TICKS == 0
            actions.drain[:, 0, ON_DEMAND] = tick % LAUNCH_EVERY_TICKS == LAUNCH_EVERY_TICKS - 1
            simulator.apply(actions, plan, shares)
            simulator.advance()
        spent_s = time.process_time() - started_s
        best, blocks, total_s = min(best, spent_s), blocks + 1, total_s + spent_s
    totals = simulator.totals
    requests = int(totals.arrivals.sum())
    return {
        "requests_per_s_core": round(requests / best),
        "requests": requests,
        "missed": int(totals.missed.sum()),
        "preempted": int(totals.preempted.sum()),
        "launched": int(simulator.state.clock.launches.sum()),
    }
