"""Several routers: a Poisson stream split at random feeds queues that know nothing of each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from controller.arrays import F64
from tests.theory import formulas
from tests.theory.estimates import hold, mean_of, ratio_of
from tests.theory.queues import BOX, ENVS, Queue, forgotten_s, setting_of, waits_in_service
from tests.theory.shapes import MEAN_ERROR, WAITS_ERROR

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test compiles the kernels


@dataclass(frozen=True)
class LaneSums:
    """What every env summed over the ticks that count; N envs, R routers.

    Attributes:
        waiting: Requests that wait at the end of a tick, by router, mean over ticks, shape (N, R).
        products: Product of two routers' waiting requests, mean over ticks and pairs, shape (N,).
        waited: Requests in service at the end of a tick that had waited, shape (N,).
        served: All requests in service then, shape (N,).
        busy: Credits in service, mean over time, shape (N,).
    """

    waiting: F64
    products: F64
    waited: F64
    served: F64
    busy: F64


def run(queue: Queue, routers: int, ticks: int, warm_up_s: float) -> LaneSums:
    """Runs a queue on `BOX`, the first option, whose lanes are the first."""
    simulator = queue.simulator
    for _ in range(math.ceil(warm_up_s / queue.tick_s)):
        simulator.advance()
    lengths = simulator.state.queue.length[:, BOX * routers : (BOX + 1) * routers]
    waiting, products = np.zeros((ENVS, routers)), np.zeros(ENVS)
    waited, busy_s = np.zeros((ENVS, 2)), np.zeros(ENVS)
    for _ in range(ticks):
        seen = simulator.advance()
        now = lengths.astype(np.float64)
        waiting += now
        products += now.sum(axis=1) ** 2 - (now**2).sum(axis=1)
        waited += waits_in_service(simulator, (0.0,))
        busy_s += seen.busy_s[:, 0, BOX]
    return LaneSums(
        waiting=waiting / ticks,
        products=products / ticks / max(1, routers * (routers - 1)),
        waited=waited[:, 0],
        served=waited[:, 1],
        busy=busy_s / ticks / queue.tick_s,
    )


@pytest.mark.parametrize(
    ("kernel", "routers", "machines", "concurrency", "load", "tick_s", "ticks"),
    [
        ("fast", 2, 2, 1, 0.5, 4.0, 4_000),
        ("fast", 3, 3, 1, 0.7, 8.0, 4_000),
        ("fast", 16, 16, 1, 0.8, 16.0, 1_500),
        ("fast", 2, 8, 1, 0.8, 4.0, 4_000),
        ("fast", 3, 6, 2, 0.7, 4.0, 4_000),
        ("event", 2, 2, 1, 0.7, 8.0, 1_500),
        ("event", 4, 8, 1, 0.7, 8.0, 1_000),
    ],
)
def test_routers_with_equal_parts_of_the_credits_are_so_many_mmc_queues(
    kernel: str, routers: int, machines: int, concurrency: int, load: float, tick_s: float, ticks: int
) -> None:
    """Random splitting of a Poisson process gives independent Poisson processes, so the queues are independent too.

    Source:
        Gross, sec. 1.7.
    """
    servers = machines * concurrency
    each, rate = servers // routers, servers * load
    setting = setting_of(
        quota=machines, concurrency=concurrency, tick_s=tick_s, kernel=kernel, routers=routers, classes=2
    )
    name = f"{routers} of M/M/{each} {kernel} {load}"
    sums = run(Queue(name, setting, rate, {BOX: machines}), routers, ticks, forgotten_s(each, load))
    theory = formulas.mmc_mean_wait_s(each, rate / routers, 1.0)
    wait = mean_of(sums.waiting.sum(axis=1) / rate)
    hold(f"{name} mean wait", wait, theory, precision=0.03, formula_error=MEAN_ERROR)
    waits = formulas.erlang_c(each, rate / routers)
    waited = ratio_of(sums.waited, sums.served)
    hold(f"{name} waits", waited, waits, precision=0.02, formula_error=WAITS_ERROR)
    hold(f"{name} busy credits", mean_of(sums.busy), rate, precision=0.005)
    # The mean of a product of independent numbers is the product of their means.
    square = (theory * rate / routers) ** 2
    hold(f"{name} product of two", mean_of(sums.products), square, precision=0.06, formula_error=2.0 * MEAN_ERROR)


@pytest.mark.parametrize(
    ("routers", "machines", "servers", "parts"),
    [
        # Three routers have a third of the requests each, and two, one and one of four credits.
        (3, 4, (2, 1, 1), (1, 1, 1)),
        # With two credits for three routers, the first and the third have the first queue in common.
        (3, 2, (1, 1), (2, 1)),
    ],
)
def test_uneven_parts_of_requests_or_credits_make_queues_of_unequal_load(
    routers: int, machines: int, servers: tuple[int, ...], parts: tuple[int, ...]
) -> None:
    rate, name = 1.2, f"{machines} credits of {routers} routers"
    queue = Queue(name, setting_of(quota=machines, tick_s=8.0, routers=routers), rate, {BOX: machines})
    sums = run(queue, routers, 4_000, forgotten_s(1, 0.8))
    for lane, (count, part) in enumerate(zip(servers, parts, strict=True)):
        of_lane = rate * part / routers
        theory = formulas.mmc_mean_wait_s(count, of_lane, 1.0)
        wait = mean_of(sums.waiting[:, lane] / of_lane)
        hold(f"{name} mean wait in lane {lane}", wait, theory, precision=0.03, formula_error=MEAN_ERROR)
    assert (sums.waiting[:, len(servers) :] == 0.0).all()
