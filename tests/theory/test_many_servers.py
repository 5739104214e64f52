"""Several credits: M/M/c, traffic split over two of them, and the loss systems behind overflow and a full limit."""

from __future__ import annotations

import numpy as np
import pytest

from tests.theory import formulas
from tests.theory.estimates import bucket_near, hold, later_than, mean_of, mean_wait, ratio_of, tail_precision
from tests.theory.queues import BOX, ENVS, FN, OTHER, Queue, forgotten_s, setting_of
from tests.theory.shapes import MEAN_ERROR, TAIL_ERROR, WAITS_ERROR, Shape, constant, exponential, lognormal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test compiles the kernels


@pytest.mark.parametrize(
    ("kernel", "machines", "concurrency", "load", "tick_s", "ticks"),
    [
        ("fast", 2, 1, 0.5, 4.0, 4_000),
        ("fast", 4, 1, 0.3, 2.0, 6_000),
        ("fast", 4, 1, 0.9, 8.0, 4_000),
        ("fast", 2, 4, 0.7, 4.0, 4_000),
        ("fast", 16, 1, 0.95, 8.0, 3_000),
        ("event", 3, 1, 0.8, 8.0, 1_000),
    ],
)
def test_mmc_waiting_probability_mean_and_quantiles(
    kernel: str, machines: int, concurrency: int, load: float, tick_s: float, ticks: int
) -> None:
    servers = machines * concurrency
    rate = servers * load
    waits = formulas.erlang_c(servers, rate)
    beyond = np.array([0.5, 0.1]) * waits  # the median and the p90 of those that wait
    quantiles_s = tuple(np.log(waits / beyond) / (servers - rate))
    setting = setting_of(quota=machines, concurrency=concurrency, tick_s=tick_s, kernel=kernel)
    name = f"M/M/{servers} {kernel} {load}"
    sums = Queue(name, setting, rate, {BOX: machines}).run(
        ticks, forgotten_s(servers, load), waits_longer_than_s=(0.0, *quantiles_s)
    )
    theory = formulas.mmc_mean_wait_s(servers, rate, 1.0)
    hold(f"{name} mean wait", mean_wait(sums, BOX, rate), theory, precision=0.035, formula_error=MEAN_ERROR)
    hold(f"{name} busy credits", mean_of(sums.busy_s[:, BOX] / sums.span_s), rate, precision=0.005)
    waited = ratio_of(sums.waited[:, 0], sums.served)
    hold(f"{name} waits", waited, waits, precision=0.015, formula_error=WAITS_ERROR)
    for k, at_s in enumerate(quantiles_s):
        longer = ratio_of(sums.waited[:, k + 1], sums.served)
        tail = formulas.mmc_wait_tail(servers, rate, 1.0, at_s)
        hold(f"{name} wait beyond {at_s:.3g} s", longer, tail, tail_precision(tail), formula_error=TAIL_ERROR)
    bucket, edge_s = bucket_near(1.0 + 1.5 * theory)
    tail = formulas.mmc_sojourn_tail(servers, rate, 1.0, edge_s)
    precision = tail_precision(tail)
    hold(f"{name} sojourn beyond {edge_s:g} s", later_than(sums, bucket), tail, precision, formula_error=TAIL_ERROR)


def test_requests_are_exact_in_time_whatever_the_tick() -> None:
    runs = [
        Queue("ticks", setting_of(quota=2, tick_s=tick_s), 1.8, {BOX: 2}).run(ticks, warm_up_s=0.0)
        for tick_s, ticks in ((0.5, 1_600), (32.0, 25))
    ]
    assert runs[0].answered.sum() > 80_000
    np.testing.assert_array_equal(runs[0].latency, runs[1].latency)
    np.testing.assert_allclose(runs[0].busy_s, runs[1].busy_s, rtol=1e-9)


def test_shares_split_poisson_arrivals_into_two_queues_that_do_not_know_of_each_other() -> None:
    # Random splitting of a Poisson process gives independent Poisson processes: two M/M/1 at loads 0.8 and 0.4.
    queue = Queue("split", setting_of(tick_s=8.0), 1.2, {BOX: 1, OTHER: 1}, {BOX: 2 / 3, OTHER: 1 / 3})
    sums = queue.run(4_000, forgotten_s(1, 0.8))
    for pool, load in ((BOX, 0.8), (OTHER, 0.4)):
        name = f"split M/M/1 {load}"
        hold(f"{name} mean wait", mean_wait(sums, pool, load), load / (1.0 - load), precision=0.015)
        hold(f"{name} utilisation", mean_of(sums.busy_s[:, pool] / sums.span_s), load, precision=0.005)


@pytest.mark.parametrize(
    ("kernel", "service", "limit", "load", "ticks"),
    [
        ("fast", exponential(), 1, 0.5, 1_500),
        ("fast", exponential(), 5, 3.0, 800),
        ("fast", constant(), 5, 5.0, 500),
        ("fast", lognormal(1.5), 20, 13.0, 800),
        ("fast", lognormal(1.5), 20, 19.0, 300),
        ("event", lognormal(1.5), 8, 6.0, 250),
    ],
)
def test_a_full_serverless_limit_refuses_by_erlang_b(
    kernel: str, service: Shape, limit: int, load: float, ticks: int
) -> None:
    # Environments are kept for ever, so all calls that count are warm, whatever the law of their service.
    setting = setting_of(service=service, quota=limit, tick_s=16.0, kernel=kernel)
    name = f"M/G/{limit}/{limit} {kernel} {load}"
    sums = Queue(name, setting, load, {}).run(ticks, warm_up_s=1_000.0)
    refused = formulas.erlang_b(limit, load)
    assert sums.cold_starts.sum() == 0
    np.testing.assert_array_equal(sums.throttled[:, FN], sums.shed[:, 0])
    hold(f"{name} refused", ratio_of(sums.throttled[:, FN], sums.arrivals[:, 0]), refused, precision=0.03)
    hold(f"{name} calls", mean_of(sums.busy_s[:, FN] / sums.span_s), load * (1.0 - refused), precision=0.005)


def test_calls_that_all_start_cold_hold_the_limit_for_longer() -> None:
    # Without keep-alive every call is cold: its service is 1.5 s in the mean, and Erlang B takes any law of that.
    catalog = {"keep_alive_s": np.zeros(4), "cold_start_s": np.full((1, 4), 0.5)}
    name = "M/G/6/6 cold"
    sums = Queue(name, setting_of(quota=6, tick_s=16.0, catalog=catalog), 3.0, {}).run(500, 200.0)
    np.testing.assert_array_equal(sums.cold_starts, sums.invocations)
    refused = ratio_of(sums.throttled[:, FN], sums.arrivals[:, 0])
    hold(f"{name} refused", refused, formulas.erlang_b(6, 4.5), precision=0.01)


@pytest.mark.parametrize(
    ("kernel", "service", "machines", "load"),
    [("fast", exponential(), 3, 2.0), ("fast", lognormal(1.5), 8, 7.6), ("event", lognormal(1.5), 4, 2.0)],
)
def test_who_would_wait_overflows_by_erlang_b(kernel: str, service: Shape, machines: int, load: float) -> None:
    # The predicted wait is above 0 exactly where no credit is free, so machines lose calls to serverless: M/G/c/c.
    workload = {"overflow_option": np.array([FN])}
    catalog = {"quota": np.array([machines, machines, machines, 200])}
    setting = setting_of(
        service=service, quota=machines, tick_s=16.0, kernel=kernel, workload=workload, catalog=catalog
    )
    plan = {"overflow_after_s": 0.0, "overflow_fraction": 1.0}
    name = f"overflow of M/G/{machines} {kernel} {load}"
    queue = Queue(name, setting, load, {BOX: machines}, plan=plan)
    sums = queue.run(600 if kernel == "fast" else 300, warm_up_s=200.0)
    blocked = formulas.erlang_b(machines, load)
    assert sums.waiting.sum() == 0
    hold(f"{name} overflows", ratio_of(sums.invocations[:, FN], sums.arrivals[:, 0]), blocked, precision=0.02)
    hold(f"{name} busy", mean_of(sums.busy_s[:, BOX] / sums.span_s), load * (1.0 - blocked), precision=0.005)


def test_a_fleet_with_little_to_do_answers_in_the_time_of_service() -> None:
    # 30 credits, three in use: nobody waits (Erlang C: 1e-19), so latencies have the law of the table itself.
    servers, rate = 30, 3.0
    assert formulas.erlang_c(servers, rate) < 1e-18
    service = exponential()
    name = "M/M/30 idle"
    queue = Queue(name, setting_of(service=service, quota=servers, tick_s=16.0), rate, {BOX: servers})
    sums = queue.run(500, warm_up_s=50.0)
    assert sums.waiting.sum() == 0
    for at_s in (0.01, 0.1, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0):
        bucket, edge_s = bucket_near(at_s)
        hold(
            f"{name} service beyond {edge_s:g} s", later_than(sums, bucket), float(service.tail(edge_s)), precision=0.05
        )
    hold(f"{name} busy", mean_of(sums.busy_s[:, BOX] / sums.span_s), rate, precision=0.005)


def test_an_idle_fleet_only_costs_rent() -> None:
    queue = Queue("idle", setting_of(quota=5), 0.0, {BOX: 5})
    sums = queue.run(360, warm_up_s=0.0)
    assert sums.arrivals.sum() == sums.answered.sum() == sums.missed.sum() == 0
    assert sums.waiting.sum() == 0
    assert sums.busy_s.sum() == 0.0
    hours = 360 * 10.0 / 3600.0
    np.testing.assert_allclose(queue.simulator.totals.spend_usd.sum(axis=1), 5 * 0.36 * hours, rtol=1e-12)


@pytest.mark.parametrize("kernel", ["fast", "event"])
def test_arrivals_of_a_tick_are_poisson_and_so_are_those_of_a_class(kernel: str) -> None:
    # Counts per tick: mean and variance are both rate x tick; a class takes its share of them independently.
    rate, tick_s = 1.7, 4.0
    name = f"arrivals {kernel}"
    queue = Queue(name, setting_of(classes=2, quota=8, tick_s=tick_s, kernel=kernel), rate, {BOX: 8})
    moments = np.zeros((ENVS, 3))
    ticks = 1_500
    for _ in range(ticks):
        counts = queue.simulator.advance().arrivals.astype(np.float64)
        off = counts - rate * tick_s / 2.0
        moments += np.stack([counts.sum(axis=1), (off**2).sum(axis=1) / 2.0, off[:, 0] * off[:, 1]], axis=1) / ticks
    hold(f"{name} mean", mean_of(moments[:, 0]), rate * tick_s, precision=0.005)
    hold(f"{name} variance of a class", mean_of(moments[:, 1]), rate * tick_s / 2.0, precision=0.01)
    # Independent classes have covariance 0; relative to the variance there is nothing to be precise about but that.
    hold(
        f"{name} variance plus covariance", mean_of(moments[:, 1] + moments[:, 2]), rate * tick_s / 2.0, precision=0.01
    )
