"""What the router costs: client latency through it against a bare two-hop Serve application, side by side.

Both applications stand on one cluster, with a FastAPI ingress of the same kind in front of one replica of the same
model without emulated service time. Blocks of requests at an even 20 per second alternate between them, so drift of the
machine meets both alike; the figure is the median over pairs of blocks of the difference of medians. Then clients that
wait for each answer drive both as fast as they go, in turn; the figure is the median of the pairs' ratios.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from controller.arrays import empty_actions, empty_plan
from controller.compile import Setting, at_speed, compile_scenario
from controller.scenario import load_scenario

PAIRS = 6
REQUESTS_PER_BLOCK = 100
RATE_RPS = 20.0
CONCURRENCY = 4
THROUGHPUT_PAIRS = 5
THROUGHPUT_S = 5.0
CLIENTS = 16
_SPEED = 60.0
_START_S = 2.0
_TIMEOUT_S = 90.0


@dataclass(frozen=True)
class _Target:
    """Where a block is sent."""

    url: str
    body: dict[str, Any]


def router_added() -> dict[str, Any]:
    """Milliseconds the router adds to the median latency a client sees, and what it is the difference of."""
    from experiments.signals import signals_interrupt
    from serving.app import APP_NAME, slots_needed
    from serving.cluster import start_cluster

    setting = _setting()
    with signals_interrupt():
        cluster = start_cluster(slots_needed(setting), _free_port())
        try:
            return asyncio.run(_measure(cluster, setting))
        finally:
            cluster.close(APP_NAME)


def _setting() -> Setting:
    """The demo scenario at a speed that starts replicas soon, with service times of next to nothing."""
    setting = compile_scenario(load_scenario("demo").model_copy(update={"speed": _SPEED}))
    catalog = at_speed(setting.catalog, _SPEED, _START_S, _START_S)
    service_s = np.minimum(catalog.service_s, 1e-4)
    concurrency = np.full_like(catalog.concurrency, CONCURRENCY)
    return replace(setting, catalog=catalog._replace(service_s=service_s, concurrency=concurrency))


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _measure(cluster: Any, setting: Setting) -> dict[str, Any]:
    from ray import serve

    from experiments.bench_bare import bare_application
    from serving import zoo
    from serving.app import APP_NAME, build_application, layout_of
    from serving.bring_your_own import model_specs

    specs, _ = model_specs(setting.variant_names, {})
    application = build_application(setting, specs, 0, layout_of(setting))
    run = asyncio.to_thread(serve.run, application, name=APP_NAME, route_prefix="/", external_scaler_enabled=True)
    await run
    bare = bare_application(specs[setting.variant_names[0]], CONCURRENCY)
    await asyncio.to_thread(serve.run, bare, name="bare", route_prefix="/bare")
    await _launch_one(setting)
    image = zoo.images()[2][0].tolist()
    routed = _Target(f"{cluster.url}/v1/infer", {"input": image, "request_class": setting.class_names[-1]})
    plain = _Target(f"{cluster.url}/bare/v1/infer", {"input": image})
    for target in (routed, plain):
        await _block(target, 40)
    pairs = []
    for pair in range(PAIRS):
        order = (routed, plain) if pair % 2 == 0 else (plain, routed)
        medians = {id(target): await _block(target, REQUESTS_PER_BLOCK) for target in order}
        pairs.append((medians[id(routed)], medians[id(plain)]))
    added = [(one - other) * 1e3 for one, other in pairs]
    rates = []
    for pair in range(THROUGHPUT_PAIRS):
        order = (routed, plain) if pair % 2 == 0 else (plain, routed)
        reached = {id(target): await _throughput_rps(target) for target in order}
        rates.append((reached[id(routed)], reached[id(plain)]))
    return {
        "router_throughput_share": round(statistics.median(one / other for one, other in rates), 4),
        "router_throughput_rps": round(statistics.median(one for one, _ in rates), 1),
        "bare_two_hop_throughput_rps": round(statistics.median(other for _, other in rates), 1),
        "router_added_ms_p50": round(statistics.median(added), 3),
        "router_added_ms_p50_blocks": [round(value, 3) for value in added],
        "router_ms_p50": round(statistics.median(one for one, _ in pairs) * 1e3, 3),
        "bare_two_hop_ms_p50": round(statistics.median(other for _, other in pairs) * 1e3, 3),
    }


async def _throughput_rps(target: _Target) -> float:
    """Answers per second to clients that each send the next request when the last is answered."""
    import httpx

    end_s = time.perf_counter() + THROUGHPUT_S
    answered = 0

    async def ask(client: httpx.AsyncClient) -> None:
        nonlocal answered
        while time.perf_counter() < end_s:
            response = await client.post(target.url, json=target.body)
            if response.status_code != 200:
                raise RuntimeError(response.text[:500])
            answered += time.perf_counter() < end_s

    async with httpx.AsyncClient(timeout=30) as client:
        await asyncio.gather(*[ask(client) for _ in range(CLIENTS)])
    return answered / THROUGHPUT_S


async def _launch_one(setting: Setting) -> None:
    """One replica of the first variant on the first pool, which gets all traffic."""
    from serving.actuator import RayServe
    from serving.app import APP_NAME, layout_of
    from serving.fleet import Fleet
    from serving.market import calm_market
    from serving.metrics import ObservationBuilder

    began_s = time.monotonic()
    fleet = Fleet(setting.catalog, calm_market(len(setting.zones)), 0, setting.control.retry_after_s)
    builder = ObservationBuilder(setting)
    world = RayServe(setting, layout_of(setting), APP_NAME, fleet, builder, lambda: time.monotonic() - began_s)
    num_variants, num_pools, num_classes = setting.shape
    actions, shares = empty_actions(1, setting.shape), np.zeros((1, num_classes, num_variants, num_pools))
    actions.launch[0, 0, 0] = 1
    shares[:, :, 0, 0] = 1.0
    world.apply(actions, empty_plan(1, setting.shape), shares)
    while not (await world.follow() and world.serving()[0] == 1):
        if time.monotonic() - began_s > _TIMEOUT_S:
            raise TimeoutError(f"expected a replica within {_TIMEOUT_S:g} s")
        await asyncio.sleep(0.1)


async def _block(target: _Target, count: int) -> float:
    """Median seconds of `count` requests sent at an even rate, whatever became of those before."""
    import httpx

    async with httpx.AsyncClient(timeout=30) as client:

        async def send(at_s: float) -> float:
            await asyncio.sleep(max(0.0, at_s - time.perf_counter()))
            sent_s = time.perf_counter()
            response = await client.post(target.url, json=target.body)
            if response.status_code != 200:
                raise RuntimeError(response.text[:500])
            return time.perf_counter() - sent_s

        began_s = time.perf_counter()
        return statistics.median(await asyncio.gather(*[send(began_s + i / RATE_RPS) for i in range(count)]))
