"""Batches: the bulk queue M/M(1,b)/1, and the gathering of a batch that waits to be full for a limited time."""

from __future__ import annotations

import numpy as np
import pytest

from controller.latency import bucket_of
from tests.theory import formulas
from tests.theory.estimates import hold, mean_of, mean_wait, ratio_of
from tests.theory.queues import BOX, Queue, setting_of
from tests.theory.shapes import constant, exponential

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test compiles the kernels

ROOM = 1_000
"""Queue lengths that the chain of a bulk queue tells apart; longer ones are far too rare to matter."""


@pytest.mark.parametrize(
    ("kernel", "batch", "load", "tick_s", "ticks"),
    [
        ("fast", 2, 0.3, 4.0, 5_000),
        ("fast", 4, 0.7, 8.0, 3_000),
        ("fast", 8, 0.9, 16.0, 2_000),
        ("fast", 4, 0.95, 32.0, 3_000),
        ("event", 4, 0.8, 8.0, 1_000),
    ],
)
def test_a_free_credit_takes_up_to_a_batch_of_those_who_wait(
    kernel: str, batch: int, load: float, tick_s: float, ticks: int
) -> None:
    # A batch takes one second in the mean whatever its size, and none waits to be filled: M/M(1,b)/1.
    catalog = {"service_s": np.ones((1, 4, batch + 1))}
    setting = setting_of(batch_max=batch, tick_s=tick_s, kernel=kernel, catalog=catalog)
    rate = batch * load
    name = f"M/M(1,{batch})/1 {kernel} {load}"
    queue = Queue(name, setting, rate, {BOX: 1}, plan={"batch_size": batch, "batch_wait_s": 0.0})
    sums = queue.run(ticks, warm_up_s=24.0 / (1.0 - load) ** 2)
    # With exponential service this is the closed form of `bulk_mean_wait_s`, see test_formulas; here, of the table.
    service = exponential()
    wait_s, busy = formulas.bulk_mean_wait_of_s(rate, service.arrivals(rate, ROOM), batch, (1.0, service.moment(2)))
    assert (wait_s, busy) == pytest.approx(formulas.bulk_mean_wait_s(rate, 1.0, batch), rel=1e-2)
    hold(f"{name} mean wait", mean_wait(sums, BOX, rate), wait_s, precision=0.025)
    idle = mean_of(1.0 - sums.busy_s[:, BOX] / sums.span_s)
    hold(f"{name} idle", idle, 1.0 - busy, precision=0.03)


@pytest.mark.parametrize(
    ("kernel", "batch", "rate", "wait_s"),
    [("fast", 4, 2.0, 1.0), ("fast", 8, 2.0, 2.0), ("fast", 3, 6.0, 0.7), ("event", 4, 3.0, 1.0)],
)
def test_a_batch_leaves_once_it_is_full_or_its_first_request_has_waited(
    kernel: str, batch: int, rate: float, wait_s: float
) -> None:
    # A batch takes a tenth of a second whatever its size and there are 20 credits, so one is always free.
    catalog = {"service_s": np.full((1, 4, batch + 1), 0.1)}
    setting = setting_of(service=constant(), quota=20, batch_max=batch, tick_s=3.7, kernel=kernel, catalog=catalog)
    plan = {"batch_size": batch, "batch_wait_s": wait_s}
    name = f"batches up to {batch} {kernel} {rate}/s {wait_s} s"
    queue = Queue(name, setting, rate, {BOX: 20}, plan=plan)
    sums = queue.run(2_000, warm_up_s=100.0)
    size, mean_wait_s = formulas.gathered_batch(rate, batch, wait_s)
    # Every batch is busy for a tenth of a second, so the credit time counts batches.
    hold(f"{name} size", ratio_of(0.1 * sums.answered[:, 0], sums.busy_s[:, BOX]), size, precision=0.005)
    hold(f"{name} mean wait", mean_wait(sums, BOX, rate), mean_wait_s, precision=0.01)
    assert sums.latency[:, 0, bucket_of(wait_s + 0.1) + 1 :].sum() == 0
