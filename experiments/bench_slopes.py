"""How the cost of a tick grows: with the requests in it, and with the options that serve them.

Both are lines through medians of several blocks; `r2` says how well a line tells it.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from controller.arrays import F64, I64, SERVERLESS, empty_actions, empty_plan
from controller.compile import Setting, compile_scenario
from controller.scenario import load_scenario
from envs.simulator import Simulator
from envs.supply import Supply

REQUESTS_PER_TICK = (250, 500, 1000, 2000, 4000, 8000)
NUM_OPTIONS = (1, 2, 4, 8, 16, 32)
NUM_ENVS = 8
NUM_TICKS = 20
BLOCKS = 5
RATE_RPS = 50.0
UTILISATION = 0.6


def slopes() -> dict[str, Any]:
    """Nanoseconds per request and microseconds per option, on the default catalog."""
    scenario = load_scenario("default")
    size = scenario.simulator.model_copy(update={"max_instances": 1024, "max_requests_held": 16384})
    setting = compile_scenario(scenario.model_copy(update={"simulator": size}))
    options = _options(setting)
    tick_s = setting.control.tick_s
    by_requests = [_tick_s(setting, count / tick_s, options[:4]) for count in REQUESTS_PER_TICK]
    by_options = [_tick_s(setting, RATE_RPS, options[:count]) for count in NUM_OPTIONS]
    per_request, request_r2 = _line(np.array(REQUESTS_PER_TICK, np.float64), np.array(by_requests))
    per_option, option_r2 = _line(np.array(NUM_OPTIONS, np.float64), np.array(by_options))
    return {
        "tick_us_by_requests": {str(n): round(s * 1e6, 1) for n, s in zip(REQUESTS_PER_TICK, by_requests, strict=True)},
        "ns_per_request": round(per_request * 1e9, 1),
        "requests_line_r2": round(request_r2, 4),
        "tick_us_by_options": {str(n): round(s * 1e6, 1) for n, s in zip(NUM_OPTIONS, by_options, strict=True)},
        "us_per_option": round(per_option * 1e6, 2),
        "options_line_r2": round(option_r2, 4),
    }


def _options(setting: Setting) -> list[tuple[int, int]]:
    """Machine options, the quickest first: few machines then serve any rate."""
    catalog = setting.catalog
    found = [
        (v, p) for v, p in np.argwhere(catalog.usable).tolist() if catalog.market[p] != SERVERLESS and catalog.quota[p]
    ]
    return sorted(found, key=lambda at: float(catalog.service_s[at[0], at[1], 1] / catalog.concurrency[at[0], at[1]]))


def _tick_s(setting: Setting, rate_rps: float, options: list[tuple[int, int]]) -> float:
    """Median CPU seconds of one tick of one env at a constant rate, split evenly over the options."""
    catalog = setting.catalog
    replicas: I64 = np.zeros((NUM_ENVS, *setting.shape[:2]), np.int64)
    shares: F64 = np.zeros((NUM_ENVS, setting.shape[2], *setting.shape[:2]))
    for v, p in options:
        erlangs = rate_rps / len(options) * float(catalog.service_s[v, p, 1])
        replicas[:, v, p] = np.ceil(erlangs / UTILISATION / float(catalog.concurrency[v, p]))
        shares[:, :, v, p] = 1.0 / len(options)
    # Every option's quota holds what is asked of it here.
    setting = _with_quota(setting, int(replicas.sum(axis=(1, 2)).max()))
    market = np.ones((len(setting.zones), 1))
    supply = Supply(np.full((1, 1), rate_rps), NUM_TICKS * setting.control.tick_s, market, 1e9)
    simulator = Simulator(setting, supply, NUM_ENVS)
    simulator.reset(np.arange(NUM_ENVS), initial_replicas=replicas)
    plan, actions = empty_plan(NUM_ENVS, setting.shape), empty_actions(NUM_ENVS, setting.shape)
    start, spent_s = simulator.snapshot(), []
    for _ in range(BLOCKS + 1):
        simulator.restore(start)
        started_s = time.process_time()
        for _ in range(NUM_TICKS):
            simulator.apply(actions, plan, shares)
            simulator.advance()
        spent_s.append((time.process_time() - started_s) / (NUM_TICKS * NUM_ENVS))
    return float(np.median(spent_s[1:]))


def _with_quota(setting: Setting, quota: int) -> Setting:
    from dataclasses import replace

    quotas = np.maximum(setting.catalog.quota, quota)
    return replace(setting, catalog=setting.catalog._replace(quota=quotas))


def _line(x: F64, y: F64) -> tuple[float, float]:
    """Slope of the line through points and the share of their variance that it tells."""
    slope, intercept = np.polyfit(x, y, 1)
    rest = y - (slope * x + intercept)
    return float(slope), float(1.0 - rest.var() / y.var())
