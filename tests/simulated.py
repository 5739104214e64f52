"""Simulators on the tiny catalog that are driven by hand or by a seeded stream of random decisions.

All share the shapes (V, P, C) = (3, 4, 2) and the table sizes, so the kernels are compiled once for all of them.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np

from controller.arrays import (
    F64,
    I64,
    SHAPE_CELLS,
    ActionArrays,
    AnswerArrays,
    Bool,
    ObservationArrays,
    PlanArrays,
    WorkloadArrays,
    empty_actions,
    empty_plan,
)
from controller.compile import Setting
from controller.keyed_random import GAP, stream_key, uniform
from envs.simulator import Simulator
from envs.supply import Supply
from tests.tiny import FN, LARGE, tiny_setting

TICK_S = 10.0
SIMULATOR = {"max_instances": 48, "max_requests_held": 1024}


def setting_with(
    *,
    batch_max: int = 1,
    concurrency: int = 1,
    kernel: str = "auto",
    held: int = 1024,
    routers: int = 1,
    catalog: dict[str, Any] | None = None,
    workload: dict[str, Any] | None = None,
    answers: AnswerArrays | None = None,
) -> Setting:
    """The tiny setting with fields of its catalog and workload arrays, or its measured answers, replaced."""
    size = {"max_instances": 48, "max_requests_held": held, "kernel": kernel}
    setting = tiny_setting(batch_max, concurrency, simulator=size, control={"routers": routers})
    return replace(
        setting,
        catalog=setting.catalog._replace(**(catalog or {})),
        workload=setting.workload._replace(**(workload or {})),
        answers=answers or setting.answers,
    )


def one_request(latest_s: float) -> tuple[int, float, F64]:
    """Seed, arrival and rates of a world in which one request arrives, before `latest_s`."""
    rates = np.zeros((1, 8640))
    rates[0, 0] = 0.1
    for seed in count():
        key = stream_key(seed, GAP)
        first_s, second_s = (-math.log(1.0 - uniform(key, identity, 0)) / 0.1 for identity in (0, 1))
        if first_s < latest_s and first_s + second_s >= TICK_S:
            return seed, first_s, rates
    raise AssertionError


def arrival_times(seed: int, rate_rps: float) -> list[float]:
    """Arrivals of the first tick, worked out with the plain draws."""
    key, now_s, found = stream_key(seed, GAP), 0.0, []
    for identity in count():
        now_s += -math.log(1.0 - uniform(key, identity, 0)) / rate_rps
        if now_s >= TICK_S:
            return found
        found.append(now_s)
    return found


def one_tick(rate_rps: float) -> F64:
    """Rates: arrivals in the first tick alone."""
    rates = np.zeros((1, 8640))
    rates[0, 0] = rate_rps
    return rates


def supply_of(rate_rps: float | F64, spot_share: F64 | None = None, gap_cv: float = 1.0) -> Supply:
    """A constant rate, or one bin per tick; the market offers everything unless told."""
    rates = np.full((1, 8640), rate_rps) if isinstance(rate_rps, (int, float)) else np.atleast_2d(rate_rps)
    share = np.ones((2, 100)) if spot_share is None else spot_share
    return Supply(np.asarray(rates, np.float64), TICK_S, share, TICK_S, gap_cv)


class World:
    """One simulator with the decision in force; every env gets the same one unless its arrays are changed apart."""

    def __init__(self, setting: Setting, supply: Supply, num_envs: int = 1, threads: int = 1) -> None:
        self.setting = setting
        self.simulator = Simulator(setting, supply, num_envs, threads)
        self.plan: PlanArrays = empty_plan(num_envs, setting.shape)
        self.actions: ActionArrays = empty_actions(num_envs, setting.shape)
        num_variants, num_pools, num_classes = setting.shape
        self.shares: F64 = np.zeros((num_envs, num_classes, num_variants, num_pools))

    def start(self, replicas: dict[tuple[int, int], int] | I64, seeds: list[int] | None = None, **times: F64) -> World:
        """Resets all envs with replicas that serve from the start, (variant, pool) -> count."""
        envs = self.simulator.num_envs
        num_variants, num_pools, _ = self.setting.shape
        if isinstance(replicas, dict):
            initial = np.zeros((envs, num_variants, num_pools), np.int64)
            for (v, p), count in replicas.items():
                initial[:, v, p] = count
        else:
            initial = replicas
        self.simulator.reset(np.array(seeds or range(envs)), initial_replicas=initial, **times)
        return self

    def route(self, *options: tuple[int, int]) -> World:
        """Splits every class's traffic evenly over options."""
        self.shares[:] = 0.0
        for v, p in options:
            self.shares[:, :, v, p] = 1.0 / len(options)
        return self

    def act(self, **actions: dict[tuple[int, ...], int]) -> World:
        """Actions of the next decision; they are taken once."""
        for name, changes in actions.items():
            for at, number in changes.items():
                getattr(self.actions, name)[(slice(None), *at)] = number
        return self

    def tick(self, count: int = 1) -> ObservationArrays:
        """Applies the decision, runs one tick, and checks that no request got lost; `count` times."""
        for _ in range(count):
            self.simulator.apply(self.actions, self.plan, self.shares)
            for array in self.actions:
                array[:] = 0
            observation = self.simulator.advance()
            assert_conserved(self.simulator)
        return observation


def latencies(world: World) -> list[int]:
    """Buckets of the latencies so far, of env 0 and all classes."""
    return [int(bucket) for bucket in np.flatnonzero(world.simulator.totals.latency[0].sum(axis=0))]


def assert_conserved(simulator: Simulator) -> None:
    """Arrived = answered + failed + shed + waiting + in service, by env and class, and no misses without arrivals."""
    totals, waiting = simulator.totals, simulator.observation.waiting
    accounted = totals.answered + totals.failed + totals.shed + waiting + simulator.in_service()
    np.testing.assert_array_equal(totals.arrivals, accounted)
    assert (waiting >= 0).all()
    assert (totals.missed <= totals.arrivals).all()
    assert (totals.missed >= totals.failed + totals.shed).all()
    assert (totals.latency.sum(axis=2) == totals.answered).all()


def collages_of(workload: WorkloadArrays, variant: int) -> dict[str, Any]:
    """Fields of a workload in which one variant answers collages, on machines, and nothing else."""
    collage = np.zeros_like(workload.allowed)
    collage[:, variant] = workload.allowed[:, variant]
    collage[:, :, FN] = False
    allowed = workload.allowed.copy()
    allowed[:, variant] = False
    return {"allowed": allowed, "collage": collage}


def random_setting(rng: np.random.Generator, collages: bool = False, **fixed: Any) -> Setting:
    """A setting with random service shapes, network, keep-alive, deadlines, queue limits and room for waiting."""
    base = tiny_setting(1, 1)
    num_variants, num_pools, num_classes = base.shape
    spread = np.linspace(0.2, 1.8, SHAPE_CELLS + 1)
    shapes = np.stack([base.catalog.shapes[0], spread / spread.mean()])
    by_option = (num_variants, num_pools)
    catalog = {
        "shapes": shapes,
        "service_shape": rng.integers(0, 2, by_option),
        "cold_shape": rng.integers(0, 2, by_option),
        "launch_shape": rng.integers(0, 2, num_pools),
        "keep_alive_s": np.full(num_pools, rng.choice([0.5, 15.0, 300.0])),
        "quota": np.array([100, 100, 100, rng.choice([2, 50])]),
        "launch_s": np.full(num_pools, rng.choice([5.0, 25.0])),
        "release_lag_s": np.full(num_pools, rng.choice([0.0, 30.0])),
        "notice_s": np.full(num_pools, rng.choice([0.0, 30.0])),
    }
    functions = np.arange(num_variants) * num_pools + FN
    workload = {
        "drop_at_deadline": rng.random(num_classes) < 0.6,
        "slo_s": rng.choice([0.4, 1.5, 12.0], num_classes),
        "queue_limit": rng.choice([3, 1000], num_classes),
        "network_s": rng.random((num_classes, *by_option)) * 0.2,
        "egress_usd": rng.random((num_classes, *by_option)) * 1e-6,
        "overflow_option": np.full(num_classes, rng.choice([-1, FN, num_pools + FN])),
        "step_overflow": np.where(rng.random((num_classes, num_variants)) < 0.5, functions, -1),
    }
    if collages:
        catalog["cells"] = np.array([1, 1, rng.choice([2, 4])])
        workload |= collages_of(base.workload, LARGE)
    return setting_with(
        batch_max=4,
        concurrency=int(rng.integers(1, 3)),
        held=int(rng.choice([64, 1024])),
        catalog=catalog,
        workload=workload,
        **fixed,
    )


def random_supply(rng: np.random.Generator) -> Supply:
    """Changing rates and a market that takes instances back now and then."""
    rates = rng.choice([0.0, 5.0, 30.0, 80.0], (2, 50))
    share = (rng.random((2, 50)) < 0.8).astype(np.float64) * rng.choice([1.0, 0.04], (2, 50))
    return Supply(rates, TICK_S, share, TICK_S, float(rng.choice([0.5, 1.0, 2.0])))


def random_answers(rng: np.random.Generator, num_rows: int = 20) -> AnswerArrays:
    """Measured answers of which the surer ones are right more often."""
    confidence = rng.random((num_rows, 3))
    return AnswerArrays(confidence, (rng.random((num_rows, 3)) < confidence).astype(np.float64))


def random_decision(
    rng: np.random.Generator, world: World, hedges: bool = False, cascades: bool = False, collages: bool = False
) -> None:
    """Any actions and any plan, the same in all envs."""
    num_variants, num_pools, num_classes = world.setting.shape
    by_option, by_class = (num_variants, num_pools), num_classes
    some: Bool = rng.random(by_option) < 0.2
    for name in ("launch", "drain", "stop"):
        getattr(world.actions, name)[:] = rng.integers(0, 3, by_option) * some
    world.actions.swap[:] = rng.integers(0, 2, (num_pools, num_variants, num_variants)) * (rng.random() < 0.3)
    world.actions.swap[:, FN] = 0
    world.plan.overflow_after_s[:] = rng.choice([0.0, 0.1, 1.0], by_class)
    world.plan.overflow_fraction[:] = rng.choice([0.0, 0.5, 1.0], by_class)
    world.plan.shed_limit[:] = rng.choice([2, 50, 10**9], by_class)
    world.plan.batch_size[:] = rng.integers(1, 5, by_option)
    world.plan.batch_wait_s[:] = rng.choice([0.0, 0.05, 0.5], by_option)
    after_s = rng.choice([0.0, 0.05, 0.3, 2.0, np.inf], by_class)
    world.plan.hedge_after_s[:] = after_s if hedges else np.inf
    world.plan.hedge_replaces[:] = rng.random(by_class) < 0.4
    if cascades:
        for c in range(num_classes):
            world.plan.cascade_variant[:, c] = rng.permutation([-1, 0, 1, 2])[:3] if rng.random() < 0.8 else -1
            steps = world.plan.cascade_variant[0, c]
            world.plan.cascade_variant[:, c] = np.append(steps[steps >= 0], [-1, -1, -1])[:3]
            world.plan.cascade_concurrent[:, c] = (
                rng.random() < 0.5 and (world.plan.cascade_variant[0, c] >= 0).sum() == 2
            )
        world.plan.cascade_threshold[:] = rng.choice([0.0, 0.5, 0.9, np.inf], (num_classes, 2))
    if collages:
        world.plan.collage_variant[:] = np.where(rng.random(num_classes) < 0.7, LARGE, -1)
        world.plan.collage_after_s[:] = rng.choice([0.0, 0.05, 0.3, 2.0, 14.0], num_classes)
        world.plan.collage_passes[:] = rng.integers(1, 3, num_classes)
    weights = rng.random((num_classes, *by_option)) * (rng.random((num_classes, *by_option)) < 0.4)
    weights[:, :, FN] *= 0.2
    total = weights.sum(axis=(1, 2), keepdims=True)
    world.shares[:] = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)


def random_replicas(rng: np.random.Generator, setting: Setting, num_envs: int = 1) -> I64:
    """A few replicas of some options, the same in all envs."""
    shape = setting.shape[:2]
    one = rng.integers(0, 5, shape) * (rng.random(shape) < 0.5)
    one[:, FN] = rng.integers(0, 2, shape[0])
    return np.broadcast_to(one, (num_envs, *shape)).copy()
