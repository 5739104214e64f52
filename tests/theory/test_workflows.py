"""Workflows whose response is known: queues in tandem, and two queues whose answers are joined."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
import pytest

from controller.arrays import F64, empty_actions, empty_plan
from envs.simulator import Simulator
from envs.supply import Supply
from tests.theory import formulas
from tests.theory.estimates import hold, mean_of
from tests.theory.queues import BOX, ENVS, FOREVER_S, OTHER, forgotten_s, setting_of
from tests.theory.shapes import MEAN_ERROR

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test compiles the kernels

TICK_S = 8.0


def flow(num_operators: int, edges: tuple[tuple[int, int], ...]) -> dict[str, Any]:
    """Workload fields of one class; operator i is served by variant i."""
    feeds = np.zeros((1, num_operators, num_operators), np.bool_)
    for source, target in edges:
        feeds[0, source, target] = True
    return {
        "num_operators": np.array([num_operators]),
        "operator": np.arange(num_operators)[None],
        "feeds": feeds,
        "num_inputs": feeds.sum(axis=1),
        "rank_bits": np.zeros((1, num_operators), np.int64),
        "answer_accuracy": np.ones((1, 1)),
        "overflow_option": np.array([-1]),
    }


def in_system(
    name: str,
    edges: tuple[tuple[int, int], ...],
    replicas: dict[tuple[int, int], int],
    rate_rps: float,
    load: float,
    ticks: int,
    instant: int | None = None,
) -> tuple[F64, F64]:
    """Requests in the system and messages in each queue, means over the ends of ticks, per env."""
    num_operators = 1 + max(target for _, target in edges)
    variants = ("model", "better", "best")[:num_operators]
    most = max(replicas.values())
    setting = setting_of(
        quota=most, tick_s=TICK_S, kernel="event", variants=variants, workload=flow(num_operators, edges)
    )
    if instant is not None:  # an operator that takes no time: only the join counts
        setting.catalog.service_s[instant] = 1e-9
    supply = Supply(np.array([[rate_rps]]), FOREVER_S, np.ones((1, 1)), FOREVER_S, 1.0)
    simulator = Simulator(setting, supply, ENVS)
    machines = np.zeros((ENVS, num_operators, 4), np.int64)
    for at, count in replicas.items():
        machines[:, at[0], at[1]] = count
    simulator.reset(zlib.crc32(name.encode()) + np.arange(ENVS), initial_replicas=machines)
    shares = (machines[:, None] > 0).astype(np.float64)
    simulator.apply(empty_actions(ENVS, setting.shape), empty_plan(ENVS, setting.shape), shares)
    for _ in range(math.ceil(forgotten_s(1, load) / TICK_S)):
        simulator.advance()
    inside, queued = np.zeros(ENVS), np.zeros((ENVS, num_operators, 4))
    totals = simulator.totals
    for _ in range(ticks):
        queued += simulator.advance().queue
        inside += (totals.arrivals - totals.answered).sum(axis=1)
    assert totals.failed.sum() == totals.shed.sum() == 0
    return inside / ticks, queued / ticks


@pytest.mark.parametrize(("first", "second", "load", "ticks"), [(2, 1, 0.7, 2_000), (3, 4, 0.8, 1_200)])
def test_operators_in_a_chain_are_two_mmc_queues_in_tandem(first: int, second: int, load: float, ticks: int) -> None:
    """The departures of an M/M/c queue are Poisson, so the second queue is one as well.

    Source:
        Burke, The output of a queuing system, Operations Research 4, 1956.
    """
    name = f"tandem of {first} and {second}"
    rate = load * min(first, second)
    inside, queued = in_system(name, ((0, 1),), {(0, BOX): first, (1, OTHER): second}, rate, load, ticks)
    waits = [formulas.mmc_mean_wait_s(servers, rate, 1.0) for servers in (first, second)]
    for step, pool in enumerate((BOX, OTHER)):
        name_step = f"{name} wait of operator {step}"
        waited = mean_of(queued[:, step, pool] / rate)
        hold(name_step, waited, waits[step], precision=0.05, formula_error=MEAN_ERROR)
    hold(f"{name} response", mean_of(inside / rate), sum(waits) + 2.0, precision=0.03, formula_error=MEAN_ERROR)


@pytest.mark.parametrize(("load", "ticks"), [(0.3, 1_500), (0.7, 2_500)])
def test_two_queues_whose_answers_are_joined_have_the_known_mean_response(load: float, ticks: int) -> None:
    """A fork-join of two M/M/1 queues responds after (12 - rho) / 8 times the response of one.

    Source:
        Flatto and Hahn, Two parallel queues created by arrivals with two demands I, SIAM Journal on Applied
        Mathematics 44, 1984; Nelson and Tantawi, IEEE Transactions on Computers 37, 1988.
    """
    name = f"fork-join at {load}"
    replicas = {(0, BOX): 1, (1, OTHER): 1, (2, BOX): 1}
    inside, _ = in_system(name, ((0, 2), (1, 2)), replicas, load, load, ticks, instant=2)
    theory = (12.0 - load) / 8.0 / (1.0 - load)
    hold(f"{name} response", mean_of(inside / load), theory, precision=0.04, formula_error=2 * MEAN_ERROR)


def test_without_queues_a_join_waits_for_the_longer_of_two_exponential_times() -> None:
    name, rate = "join without queues", 2.0
    replicas = {(0, BOX): 40, (1, OTHER): 40, (2, BOX): 40}
    inside, _ = in_system(name, ((0, 2), (1, 2)), replicas, rate, 0.3, 1_500, instant=2)
    hold(f"{name} response", mean_of(inside / rate), 1.5, precision=0.02, formula_error=2 * MEAN_ERROR)
