"""One credit: M/M/1, M/D/1, M/G/1, GI/M/1, and M/M/1 with requests that leave at their deadline."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.theory import formulas
from tests.theory.estimates import bucket_near, hold, later_than, mean_of, mean_wait, ratio_of, tail_precision
from tests.theory.queues import BOX, Queue, forgotten_s, setting_of
from tests.theory.shapes import MEAN_ERROR, TAIL_ERROR, WAITS_ERROR, Shape, constant, exponential, lognormal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test compiles the kernels

BEYOND = np.array([0.5, 0.1, 0.05, 0.01])
"""Shares of requests beyond the quantiles p50, p90, p95 and p99."""


@pytest.mark.parametrize(
    ("kernel", "load", "tick_s", "ticks"),
    [
        ("fast", 0.3, 8.0, 6_000),
        ("fast", 0.5, 8.0, 6_000),
        ("fast", 0.7, 8.0, 8_000),
        ("fast", 0.9, 16.0, 7_000),
        ("fast", 0.95, 32.0, 10_000),
        ("event", 0.8, 16.0, 2_000),
    ],
)
def test_mm1_mean_wait_and_sojourn_quantiles(kernel: str, load: float, tick_s: float, ticks: int) -> None:
    # Each class has a quantile of the sojourn as its deadline and waits on beyond it, so its misses count the tail.
    quantiles_s = np.log(1.0 / BEYOND) / (1.0 - load)
    setting = setting_of(classes=len(BEYOND), tick_s=tick_s, kernel=kernel, workload={"slo_s": quantiles_s})
    name = f"M/M/1 {kernel} {load}"
    sums = Queue(name, setting, load, {BOX: 1}).run(ticks, forgotten_s(1, load))
    hold(f"{name} mean wait", mean_wait(sums, BOX, load), formulas.mmc_mean_wait_s(1, load, 1.0), precision=0.02)
    hold(f"{name} utilisation", mean_of(sums.busy_s[:, BOX] / sums.span_s), load, precision=0.005)
    hold(f"{name} arrivals", mean_of(sums.arrivals.sum(axis=1) / sums.span_s), load, precision=0.005)
    # The law of the table that stands for exponential service, within 0.0005 of e^-(1 - load)t: see test_shapes.
    theory = formulas.mg1_tails(load, exponential().transform, quantiles_s)
    for c, beyond in enumerate(BEYOND):
        missed = ratio_of(sums.missed[:, c], sums.arrivals[:, c])
        hold(f"{name} sojourn beyond p{100 * (1 - beyond):g}", missed, theory[c], precision=tail_precision(beyond))
    for beyond, at_s in zip(BEYOND, quantiles_s, strict=True):
        bucket, edge_s = bucket_near(at_s)
        (tail,) = formulas.mg1_tails(load, exponential().transform, np.array([edge_s]))
        hold(f"{name} sojourn beyond {edge_s:g} s", later_than(sums, bucket), tail, precision=tail_precision(beyond))


def test_the_bound_notices_service_that_is_one_percent_longer() -> None:
    name = "M/M/1 0.7 slower"
    setting = setting_of(tick_s=8.0, catalog={"service_s": np.full((1, 4, 2), 1.01)})
    sums = Queue(name, setting, 0.7, {BOX: 1}).run(6_000, forgotten_s(1, 0.71))
    with pytest.raises(AssertionError, match="mean wait: .*: bound"):
        hold(f"{name} mean wait", mean_wait(sums, BOX, 0.7), formulas.mmc_mean_wait_s(1, 0.7, 1.0), precision=0.02)
    with pytest.raises(AssertionError, match="utilisation: .*: bound"):
        hold(f"{name} utilisation", mean_of(sums.busy_s[:, BOX] / sums.span_s), 0.7, precision=0.02)


@pytest.mark.parametrize(
    ("load", "tick_s", "ticks"), [(0.3, 7.3, 5_000), (0.6, 7.3, 5_000), (0.9, 15.3, 5_000), (0.95, 31.3, 5_000)]
)
def test_md1_mean_wait_and_quantiles(load: float, tick_s: float, ticks: int) -> None:
    name = f"M/D/1 {load}"
    sums = Queue(name, setting_of(service=constant(), tick_s=tick_s), load, {BOX: 1}).run(
        ticks, forgotten_s(1, load, squared_cv=0.0)
    )
    theory = formulas.mg1_mean_wait_s(load, 1.0, 1.0)
    assert theory == pytest.approx(load / (2.0 * (1.0 - load)))
    hold(f"{name} mean wait", mean_wait(sums, BOX, load), theory, precision=0.015)
    for at_s in (0.25, 2.0 * theory):  # a sojourn is the wait and one second
        bucket, edge_s = bucket_near(1.0 + at_s)
        beyond = formulas.md1_wait_tail(load, 1.0, edge_s - 1.0)
        hold(f"{name} wait beyond {edge_s - 1:g} s", later_than(sums, bucket), beyond, precision=tail_precision(beyond))


@pytest.mark.parametrize(
    ("load", "cv", "tick_s", "ticks"),
    [
        (0.3, 1.5, 8.0, 5_000),
        (0.7, 0.5, 8.0, 5_000),
        (0.7, 1.5, 16.0, 5_000),
        (0.9, 1.5, 32.0, 6_000),
        (0.95, 0.5, 32.0, 6_000),
    ],
)
def test_mg1_mean_wait_and_quantiles_with_lognormal_service(load: float, cv: float, tick_s: float, ticks: int) -> None:
    service = lognormal(cv)
    squared_cv = service.moment(2) - 1.0  # of the table, whose tail is cut
    name = f"M/G/1 {load} cv {cv}"
    sums = Queue(name, setting_of(service=service, tick_s=tick_s), load, {BOX: 1}).run(
        ticks, forgotten_s(1, load, squared_cv)
    )
    theory = formulas.mg1_mean_wait_s(load, 1.0, service.moment(2))
    hold(f"{name} mean wait", mean_wait(sums, BOX, load), theory, precision=0.02)
    for at_s in (1.0 + theory, 1.0 + 3.0 * theory):
        bucket, edge_s = bucket_near(at_s)
        (tail,) = formulas.mg1_tails(load, service.transform, np.array([edge_s]))
        hold(f"{name} sojourn beyond {edge_s:g} s", later_than(sums, bucket), tail, precision=tail_precision(tail))


@pytest.mark.parametrize(
    ("load", "cv", "tick_s", "ticks"),
    [(0.5, 0.5, 8.0, 4_000), (0.9, 0.5, 16.0, 5_000), (0.5, 2.0, 8.0, 5_000), (0.9, 2.0, 32.0, 6_000)],
)
def test_gim1_mean_wait_and_waiting_probability_with_gamma_gaps(
    load: float, cv: float, tick_s: float, ticks: int
) -> None:
    name = f"GI/M/1 {load} gap cv {cv}"
    queue = Queue(name, setting_of(tick_s=tick_s), load, {BOX: 1}, gap_cv=cv)
    sums = queue.run(ticks, forgotten_s(1, load, cv**2), waits_longer_than_s=(0.0,))
    gap = Shape(queue.supply.gap_table())
    waits = formulas.gim1_waits(lambda s: gap.transform(s / load), 1.0)
    found = mean_wait(sums, BOX, load)
    hold(f"{name} mean wait", found, waits / (1.0 - waits), precision=0.02, formula_error=MEAN_ERROR)
    waited = ratio_of(sums.waited[:, 0], sums.served)
    hold(f"{name} waits", waited, waits, precision=0.01, formula_error=WAITS_ERROR)
    bucket, edge_s = bucket_near(2.0 / (1.0 - waits))
    tail = math.exp(-(1.0 - waits) * edge_s)
    hold(
        f"{name} sojourn beyond {edge_s:g} s", later_than(sums, bucket), tail, precision=0.04, formula_error=TAIL_ERROR
    )


@pytest.mark.parametrize(
    ("kernel", "load", "deadline_s"),
    [("fast", 0.5, 2.0), ("fast", 0.9, 5.0), ("fast", 1.4, 10.0), ("event", 0.95, 3.0)],
)
def test_mm1_with_deadlines_loses_who_waits_too_long(kernel: str, load: float, deadline_s: float) -> None:
    workload = {"slo_s": np.array([deadline_s]), "drop_at_deadline": np.array([True])}
    setting = setting_of(tick_s=16.0, kernel=kernel, workload=workload)
    name = f"M/M/1+D {kernel} {load} {deadline_s:g} s"
    sums = Queue(name, setting, load, {BOX: 1}).run(3_000, warm_up_s=500.0)
    # With exponential service this is Barrer's closed form, which the table is near.
    lost, missed = formulas.mg1_deadline(load, exponential().transform, 1.0, deadline_s)
    assert (lost, missed) == pytest.approx(formulas.mm1_deadline(load, 1.0, deadline_s), rel=1e-2)
    failed = ratio_of(sums.failed[:, 0], sums.arrivals[:, 0])
    hold(f"{name} lost", failed, lost, precision=0.02)
    late = ratio_of(sums.missed[:, 0], sums.arrivals[:, 0])
    hold(f"{name} missed", late, missed, precision=0.02)
