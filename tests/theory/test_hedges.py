"""Hedges: two machines that race for every request are one machine twice as fast."""

from __future__ import annotations

import numpy as np
import pytest

from tests.theory import formulas
from tests.theory.estimates import bucket_near, hold, later_than, mean_of, tail_precision
from tests.theory.queues import BOX, OTHER, Queue, forgotten_s, setting_of
from tests.theory.shapes import exponential

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test compiles the kernels


@pytest.mark.parametrize(("load", "tick_s"), [(0.3, 4.0), (0.7, 8.0), (0.9, 16.0)])
def test_replicas_of_every_request_on_two_machines_make_an_mm1_of_twice_the_speed(load: float, tick_s: float) -> None:
    """Both queues hold the same requests in the same order, and the first answer frees both machines.

    So both always work at the same request, whose service is the earlier of two independent exponential times.

    Source:
        Gardner et al., Reducing latency via redundant requests: exact analysis, SIGMETRICS 2015, a class served by all.
    """
    name = f"raced M/M/1 {load}"
    rate = 2.0 * load
    queue = Queue(
        name,
        setting_of(tick_s=tick_s, kernel="event"),
        rate,
        {BOX: 1, OTHER: 1},
        {BOX: 0.5, OTHER: 0.5},
        plan={"hedge_after_s": 0.0},
    )
    sums = queue.run(1_500, forgotten_s(1, load))
    # Of the shorter of two services by the table; with exponential ones the sojourn is exponential of rate 2 - 2 load.
    mean_s, square_s2, transform = exponential().earlier_of_two()
    wait_s = formulas.mg1_mean_wait_s(rate, mean_s, square_s2)
    assert wait_s == pytest.approx(formulas.mmc_mean_wait_s(1, rate, 0.5), rel=1e-3)
    waited = mean_of(sums.waiting_requests / sums.ticks / rate)
    hold(f"{name} mean wait", waited, wait_s, precision=0.03)
    # Both machines are busy while a request is in service, half a second in the mean.
    busy = mean_of(sums.busy_s[:, [BOX, OTHER]].sum(axis=1) / sums.span_s)
    hold(f"{name} busy", busy, 2.0 * rate * mean_s, precision=0.005)
    bucket, edge_s = bucket_near(0.5 / (1.0 - load))
    (tail,) = formulas.mg1_tails(rate, transform, np.array([edge_s]), mean_s)
    assert tail == pytest.approx(formulas.mm1_sojourn_tail(rate, 0.5, edge_s), rel=1e-3)
    hold(f"{name} sojourn beyond {edge_s:g} s", later_than(sums, bucket), tail, precision=tail_precision(tail))
    assert sums.failed.sum() == sums.shed.sum() == 0
