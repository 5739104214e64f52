"""Cold starts of serverless environments under Poisson calls."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.theory import formulas
from tests.theory.estimates import hold, mean_of, ratio_of
from tests.theory.queues import FN, Queue, setting_of
from tests.theory.shapes import COLD_ERROR, Shape, constant, exponential, lognormal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test compiles the kernels


@pytest.mark.parametrize(
    ("kernel", "service", "rate", "cold_s", "keep_alive_s"),
    [
        ("fast", constant(), 0.05, 3.0, 20.0),
        ("fast", lognormal(1.5), 0.3, 2.0, 1.0),
        ("fast", exponential(), 2.0, 0.5, 1.0),
        ("event", lognormal(1.5), 0.5, 1.0, 2.0),
    ],
)
def test_a_lone_environment_is_cold_after_a_gap_longer_than_its_keep_alive(
    kernel: str, service: Shape, rate: float, cold_s: float, keep_alive_s: float
) -> None:
    catalog = {"keep_alive_s": np.full(4, keep_alive_s), "cold_start_s": np.full((1, 4), cold_s)}
    setting = setting_of(service=service, tick_s=50.0, kernel=kernel, catalog=catalog)
    name = f"one environment {kernel} {rate}/s kept {keep_alive_s:g} s"
    sums = Queue(name, setting, rate, {}).run(1_200, warm_up_s=500.0)
    refused, cold = formulas.lone_environment(rate, 1.0, cold_s, keep_alive_s)
    hold(f"{name} refused", ratio_of(sums.throttled[:, FN], sums.arrivals[:, 0]), refused, precision=0.02)
    hold(f"{name} cold", ratio_of(sums.cold_starts[:, FN], sums.arrivals[:, 0]), cold, precision=0.02)
    share = ratio_of(sums.cold_starts[:, FN], sums.invocations[:, FN])
    hold(f"{name} cold of accepted", share, math.exp(-rate * keep_alive_s), precision=0.02)


@pytest.mark.parametrize(
    ("kernel", "limit", "rate", "keep_alive_s", "ticks"),
    [
        ("fast", 40, 0.5, 2.0, 1_500),
        ("fast", 40, 5.0, 1.0, 400),
        ("fast", 40, 10.0, 5.0, 400),
        ("fast", 4, 3.0, 0.5, 800),
        ("event", 40, 2.0, 3.0, 250),
    ],
)
def test_the_environment_used_last_is_used_first(
    kernel: str, limit: int, rate: float, keep_alive_s: float, ticks: int
) -> None:
    catalog = {"keep_alive_s": np.full(4, keep_alive_s)}
    setting = setting_of(quota=limit, tick_s=20.0, kernel=kernel, catalog=catalog)
    name = f"environments up to {limit} {kernel} {rate}/s kept {keep_alive_s:g} s"
    sums = Queue(name, setting, rate, {}).run(ticks, warm_up_s=200.0)
    theory = formulas.cold_share(rate, 1.0, keep_alive_s, limit)
    cold = ratio_of(sums.cold_starts[:, FN], sums.arrivals[:, 0])
    hold(f"{name} cold", cold, theory, precision=0.02, formula_error=COLD_ERROR)
    calls = mean_of(sums.busy_s[:, FN] / sums.span_s)
    hold(f"{name} calls", calls, rate * (1.0 - formulas.erlang_b(limit, rate)), precision=0.005)
