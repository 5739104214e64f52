"""The same redundancy in the simulated world, request by request: the study held to the kernels.

A fleet with room to spare serves Poisson arrivals under the policy `static` with the measured latencies as service
times, so that hardly a request waits and latencies are those of the study's draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from controller import latency
from controller.arrays import F64, I64, SHAPE_CELLS
from controller.compile import Setting
from controller.config import parse_config
from controller.loop import DecisionLoop
from controller.policies.static import StaticPolicy, StaticSettings
from experiments.checks import Check, at_most
from experiments.collage.draws import Draws
from experiments.collage.modes import resend, unaided
from experiments.collage.replay import Rules, replay
from experiments.collage.workers import COLLAGE, Workers, workers_setting

RATE_RPS = 100.0
_ROOM = 3.0
# Machines over the mean that is busy: none of thousands of requests finds all of them taken.
_ENVS, _TICKS = 8, 40
_PASS_RATIO = 1.5
# Not 1, so that a pass is told from a request.
_EDGES_S = (0.125, 0.15625, 0.1875, 0.25, 0.3125, 0.375, 0.625, 0.6875)
# Begins of the histograms' buckets, where shares are exact.
_ERRORS = 5.0
_BUCKET = 1.0 / latency.STEPS_PER_OCTAVE
# A quantile is known within a bucket of the histogram.
_CELL_SHARE = 1.0 / SHAPE_CELLS
# A service time is right to a cell of its table.


@dataclass(frozen=True)
class Agreed:
    """One mode in both worlds.

    Attributes:
        mode: Redundancy.
        requests: Answered in the simulated world.
        simulated: p50 and p99 of requests, seconds.
        studied: The same, of the study's draws.
        difference: Largest difference of the share that takes longer than an edge of a bucket, over what chance (five
            standard errors) and two cells of the table of service times make of it.
    """

    mode: str
    requests: int
    simulated: tuple[float, float]
    studied: tuple[float, float]
    difference: float


def agreements(latency_s: F64, cells: int, after_s: float, seed: int = 0, ticks: int = _TICKS) -> Iterator[Agreed]:
    """Every mode that a plan can ask for.

    Args:
        latency_s: The measured latencies.
        cells: Of the collage.
        after_s: Age at which the modes act.
        seed: Of both worlds.
        ticks: Of ten seconds, in each of the simulated envs.
    """
    setting = workers_setting(latency_s, Workers(RATE_RPS, cells, _PASS_RATIO))
    count = int(_ENVS * ticks * RATE_RPS * 10.0)
    rng = np.random.default_rng(seed)
    own_s, copies_s, passes_s = (rng.choice(latency_s, count) for _ in range(3))
    draws = Draws(own_s[:, None], copies_s[:, None], passes_s[:, None])
    arrival_s = np.cumsum(rng.exponential(1.0 / RATE_RPS, count)).tolist()
    one, two = (
        replay(
            arrival_s,
            own_s.tolist(),
            copies_s.tolist(),
            iter((_PASS_RATIO * passes_s).tolist()),
            Rules(cells, after_s, passes),
        )
        for passes in (1, 2)
    )
    asked = {"variant": COLLAGE, "after_s": after_s}
    for mode, redundancy, studied_s in (
        ("none", {}, unaided(draws).answer_s.ravel()),
        (
            "re-send, first withdrawn",
            {"resend_after_s": after_s},
            resend(draws, after_s, is_withdrawn=True).answer_s.ravel(),
        ),
        ("hedge", {"hedge_after_s": after_s}, resend(draws, after_s).answer_s.ravel()),
        ("replication", {"hedge_after_s": 0.0}, resend(draws, 0.0).answer_s.ravel()),
        ("collage", {"collage": asked}, np.array(one.answer_s)),
        ("collage, two workers", {"collage": {**asked, "passes": 2}}, np.array(two.answer_s)),
    ):
        yield _agreed(mode, _histogram(setting, redundancy, seed, ticks), studied_s)


def simulated_checks(found: Sequence[Agreed]) -> Iterator[Check]:
    """Each mode's largest differences."""
    for one in found:
        what = f"simulator, {one.mode}, {one.requests} requests"
        yield at_most(
            f"{what}: shares beyond a time, largest difference from the study, of what is allowed", one.difference, 1.0
        )
        pairs = list(zip(one.simulated, one.studied, strict=True))
        shown = ", ".join(
            f"{name} {mine:.3f} and {other:.3f} s" for name, (mine, other) in zip(("p50", "p99"), pairs, strict=True)
        )
        largest = max(abs(mine / other - 1.0) for mine, other in pairs)
        yield at_most(f"{what}: {shown}, largest difference, relative", largest, _BUCKET)


def _agreed(mode: str, histogram: I64, studied_s: F64) -> Agreed:
    edges = latency.bucket_edges()
    requests = int(histogram.sum())
    differences = []
    for edge_s in _EDGES_S:
        share = histogram[np.searchsorted(edges, edge_s) :].sum() / requests
        studied = float((studied_s >= edge_s).mean())
        error = np.sqrt(studied * (1.0 - studied) * (1.0 / requests + 1.0 / len(studied_s)))
        differences.append(float(abs(share - studied) / (_ERRORS * error + 2.0 * _CELL_SHARE)))
    simulated = latency.quantile(histogram, 0.5), latency.quantile(histogram, 0.99)
    pair = float(np.quantile(studied_s, 0.5)), float(np.quantile(studied_s, 0.99))
    return Agreed(mode, requests, simulated, pair, max(differences))


def _histogram(setting: Setting, redundancy: dict[str, Any], seed: int, ticks: int) -> I64:
    """Latencies of all requests."""
    # The kernels take half a minute to compile where they are not in the cache folder.
    from envs.simulator import Simulator
    from envs.supply import Supply

    machines = setting.catalog.service_s[:, 0, 1] * RATE_RPS * _ROOM
    replicas = {"single@box": int(machines[0] * 2), "collage@box": int(machines[1])}
    values = {"replicas": replicas, "redundancy": {"all": redundancy} if redundancy else {}}
    policy = StaticPolicy(setting, parse_config(values, StaticSettings, "static"))
    loop = DecisionLoop(setting, policy, _ENVS)
    supply = Supply(np.full((1, ticks + 1), RATE_RPS), setting.control.tick_s, np.ones((0, 1)), setting.control.tick_s)
    simulator = Simulator(setting, supply, _ENVS)
    fleet = np.zeros((_ENVS, *setting.shape[:2]), np.int64)
    fleet[:, 0, 0], fleet[:, 1, 0] = replicas["single@box"], replicas["collage@box"]
    observation = simulator.reset(np.arange(_ENVS) + seed * _ENVS, initial_replicas=fleet)
    for _ in range(ticks):
        decision = loop.decide(observation)
        simulator.apply(decision.actions, decision.plan, decision.shares)
        observation = simulator.advance()
    total: I64 = simulator.totals.latency.sum(axis=(0, 1))
    return total
