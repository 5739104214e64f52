"""Cascades: what one queue lets go at random is Poisson, so the next step is a queue of its own."""

from __future__ import annotations

import math
import zlib
from dataclasses import replace

import numpy as np
import pytest

from controller.arrays import AnswerArrays, empty_actions, empty_plan
from envs.simulator import Simulator
from envs.supply import Supply
from tests.theory import formulas
from tests.theory.estimates import hold, mean_of
from tests.theory.queues import BOX, ENVS, FOREVER_S, OTHER, forgotten_s, setting_of
from tests.theory.shapes import MEAN_ERROR

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test compiles the kernels


@pytest.mark.parametrize(
    ("first", "second", "load", "unsure_of_ten", "ticks"), [(2, 1, 0.8, 5, 2_000), (4, 3, 0.75, 8, 1_200)]
)
def test_steps_of_a_cascade_are_two_mmc_queues_fed_by_poisson_streams(
    first: int, second: int, load: float, unsure_of_ten: int, ticks: int
) -> None:
    """The departures of an M/M/c queue are Poisson, and so is any part of them that is drawn request by request.

    Source:
        Burke, The output of a queuing system, Operations Research 4, 1956.
    """
    name = f"cascade of {first} and {second}"
    rates = (first * load, first * load * unsure_of_ten / 10)
    confidence = np.ones((10, 2))
    confidence[:unsure_of_ten, 0] = 0.0
    setting = replace(
        setting_of(quota=max(first, second), tick_s=8.0, kernel="event", variants=("model", "better")),
        answers=AnswerArrays(confidence, np.ones((10, 2))),
    )
    supply = Supply(np.array([[rates[0]]]), FOREVER_S, np.ones((1, 1)), FOREVER_S, 1.0)
    simulator = Simulator(setting, supply, ENVS)
    machines = np.zeros((ENVS, 2, 4), np.int64)
    machines[:, 0, BOX], machines[:, 1, OTHER] = first, second
    simulator.reset(zlib.crc32(name.encode()) + np.arange(ENVS), initial_replicas=machines)
    plan = empty_plan(ENVS, setting.shape)
    plan.cascade_variant[:], plan.cascade_threshold[:] = [0, 1, -1], 0.5
    simulator.apply(empty_actions(ENVS, setting.shape), plan, machines[:, None] / (first + second))
    for _ in range(math.ceil(forgotten_s(1, 0.8) / 8.0)):
        simulator.advance()
    waiting, busy_s = np.zeros((ENVS, 2, 4)), np.zeros((ENVS, 2, 4))
    for _ in range(ticks):
        seen = simulator.advance()
        waiting += seen.queue
        busy_s += seen.busy_s
    for step, (servers, rate) in enumerate(zip((first, second), rates, strict=True)):
        pool = (BOX, OTHER)[step]
        waited = mean_of(waiting[:, step, pool] / ticks / rate)
        theory = formulas.mmc_mean_wait_s(servers, rate, 1.0)
        hold(f"{name} wait of step {step}", waited, theory, precision=0.035, formula_error=MEAN_ERROR)
        hold(f"{name} busy in step {step}", mean_of(busy_s[:, step, pool] / (8.0 * ticks)), rate, precision=0.005)
    totals = simulator.totals
    assert totals.failed.sum() == totals.shed.sum() == 0
