"""The tables that stand for laws of service: their moments, and what a table costs where a formula wants the law."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from controller.arrays import F64, SHAPE_CELLS
from controller.catalog import Distribution
from tests.theory import formulas
from tests.theory.estimates import hold, mean_of
from tests.theory.shapes import (
    COLD_ERROR,
    MEAN_ERROR,
    TAIL_ERROR,
    WAITS_ERROR,
    Shape,
    constant,
    exponential,
    lognormal,
)

EDGES = np.linspace(0.0, 1.0, SHAPE_CELLS + 1)


@pytest.mark.parametrize("shape", [exponential(), lognormal(0.5), lognormal(1.5), constant()])
def test_a_catalog_compiles_the_very_table(shape: Shape) -> None:
    table = Distribution(**shape.document).table(SHAPE_CELLS)
    np.testing.assert_allclose(table, shape.table, rtol=1e-12)


def test_moments_are_those_of_uniform_cells() -> None:
    shape = Shape(np.linspace(0.0, 2.0, SHAPE_CELLS + 1))  # uniform on [0, 2]: moments 1, 4/3, 2
    assert [shape.moment(k) for k in (1, 2, 3)] == pytest.approx([1.0, 4.0 / 3.0, 2.0])
    assert shape.tail(0.5) == pytest.approx(0.75)
    s = np.array([0.3 + 0.7j, 1e-9 + 0j])
    expected = [(1.0 - np.exp(-2.0 * s[0])) / (2.0 * s[0]), 1.0 - 1e-9]
    np.testing.assert_allclose(shape.transform(s), expected, rtol=1e-9)


def test_the_shorter_of_two_by_hand() -> None:
    mean, square, transform = Shape(np.linspace(0.0, 2.0, SHAPE_CELLS + 1)).earlier_of_two()
    # On [0, 2] it exceeds t with (1 - t / 2)^2: mean 2/3, mean square 2/3, density 1 - t / 2.
    assert (mean, square) == pytest.approx((2.0 / 3.0, 2.0 / 3.0))
    assert transform(np.array([1.0 + 0j]))[0] == pytest.approx(0.5 + 0.5 * math.exp(-2.0))
    mean, square, _ = exponential().earlier_of_two()
    assert (mean, square) == pytest.approx((0.5, 0.5), rel=1e-4)


def test_the_number_of_arrivals_during_a_service() -> None:
    chances = exponential().arrivals(1.5, 60)
    np.testing.assert_allclose(chances[:8], 0.4 * 0.6 ** np.arange(8), atol=1e-4)


def test_the_exponential_table_has_three_moments_of_the_exponential() -> None:
    shape = exponential()
    assert [shape.moment(k) for k in (1, 2, 3)] == pytest.approx([1.0, 2.0, 6.0], rel=1e-9)
    assert (np.diff(shape.table) > 0).all()
    at = np.linspace(0.0, 5.5, 100)
    np.testing.assert_allclose(shape.tail(at), np.exp(-at), atol=1e-4)
    at = np.linspace(5.5, 12.0, 100)
    np.testing.assert_allclose(shape.tail(at), np.exp(-at), atol=1.3e-3)


@pytest.mark.parametrize("load", [0.3, 0.5, 0.7, 0.9, 0.95])
def test_the_exponential_table_has_the_sojourns_of_mm1(load: float) -> None:
    at_s = np.linspace(0.3, 6.0, 20) / (1.0 - load)
    tails = formulas.mg1_tails(load, exponential().transform, at_s)
    np.testing.assert_allclose(tails, np.exp(-(1.0 - load) * at_s), atol=6e-4)


def waits_of(services: F64, gaps: F64, servers: int) -> F64:
    """Waits of every customer of independent queues that begin empty, first come, first served.

    Args:
        services: Service times, shape (customers, laws, queues).
        gaps: From each customer to the next, shape (customers, queues).
        servers: Of each queue.

    Source:
        Kiefer, Wolfowitz, On the theory of queues with many servers, Transactions of the AMS 78, 1955.
    """
    waits = np.zeros_like(services)
    work = np.zeros((*services.shape[1:], servers))
    for customer, (service, gap) in enumerate(zip(services, gaps, strict=True)):
        waits[customer] = work[..., 0]
        work[..., 0] += service
        work = np.sort(np.maximum(work - gap[:, None], 0.0), axis=-1)
    return waits


@pytest.mark.slow
@pytest.mark.parametrize(
    ("servers", "load", "gap_shape", "customers", "queues"),
    [(1, 0.5, 4.0, 150, 20_000), (1, 0.7, 0.25, 400, 10_000), (4, 0.9, 1.0, 1_200, 4_000), (8, 0.7, 1.0, 200, 16_000)],
)
def test_the_exponential_table_waits_like_exponential_service(
    servers: int, load: float, gap_shape: float, customers: int, queues: int
) -> None:
    # Both laws from the same uniforms, so the spread of the difference is far below that of the waits.
    rng = np.random.default_rng(7)
    u = rng.random((customers, queues))
    services = np.stack([-np.log1p(-u), np.interp(u, EDGES, exponential().table)], 1)
    gaps = rng.gamma(gap_shape, 1.0 / gap_shape, (customers, queues)) / (servers * load)
    waits = waits_of(services, gaps, servers)[customers // 4 :]
    sojourns = waits + services[customers // 4 :]
    beyond_s = [np.quantile(values[:, 0], 0.9) for values in (waits, sojourns)]
    for allowed, values in (
        (MEAN_ERROR, waits),
        (WAITS_ERROR, waits > 0.0),
        (TAIL_ERROR, waits > beyond_s[0]),
        (TAIL_ERROR, sojourns > beyond_s[1]),
    ):
        by_queue = values.mean(axis=0)
        difference = by_queue[1] - by_queue[0]
        error = difference.std(ddof=1) / np.sqrt(queues)
        assert abs(difference.mean()) + 3.0 * error < allowed * by_queue[0].mean()


def cold_starts(arrivals_s: F64, services: F64, keep_alive_s: float) -> NDArray[np.bool_]:
    """Which calls start cold where environments are unlimited and the one used last is used first; shape (calls,).

    By the rule of `formulas.cold_share`: a call is cold where fewer calls than with it ran all through the keep-alive.
    """
    calls = np.arange(len(arrivals_s))
    ends_s = np.sort(arrivals_s + services)
    found = calls - np.searchsorted(ends_s, arrivals_s)  # calls that run as each arrives
    since_s = arrivals_s - keep_alive_s
    first = np.searchsorted(arrivals_s, since_s)
    most = first - np.searchsorted(ends_s, since_s)  # calls that ran when the span began
    for back in range(1, int((calls - first).max()) + 1):
        earlier = np.maximum(calls - back, 0)
        most = np.where(calls - back >= first, np.maximum(most, found[earlier] + 1), most)
    return most <= found


def cold_starts_of_stacks(arrivals_s: F64, services: F64, keep_alive_s: float) -> NDArray[np.bool_]:
    """The same, one environment after the other."""
    free_s: list[float] = []
    cold = np.zeros(len(arrivals_s), np.bool_)
    for call, (now_s, service) in enumerate(zip(arrivals_s, services, strict=True)):
        free_s = [at for at in free_s if at + keep_alive_s > now_s]
        idle = [at for at in free_s if at <= now_s]
        cold[call] = not idle
        if idle:
            free_s.remove(max(idle))
        free_s.append(now_s + service)
    return cold


def test_idle_environments_are_a_stack() -> None:
    rng = np.random.default_rng(2)
    arrivals_s, services = np.cumsum(rng.exponential(0.3, 2_000)), rng.lognormal(-0.5, 1.0, 2_000)
    expected = cold_starts_of_stacks(arrivals_s, services, 0.8)
    assert 0 < expected.sum() < 1_000
    np.testing.assert_array_equal(cold_starts(arrivals_s, services, 0.8), expected)


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "keep_alive_s"), [(0.5, 2.0), (2.0, 3.0), (5.0, 1.0), (10.0, 5.0)])
def test_the_exponential_table_starts_cold_like_exponential_service(rate: float, keep_alive_s: float) -> None:
    rng = np.random.default_rng(11)
    shares = np.zeros((40, 2))
    for batch in shares:
        arrivals_s, u = np.cumsum(rng.exponential(1.0 / rate, 10_000)), rng.random(10_000)
        for law, services in enumerate((-np.log1p(-u), np.interp(u, EDGES, exponential().table))):
            batch[law] = cold_starts(arrivals_s, services, keep_alive_s)[1_000:].mean()
    theory = formulas.cold_share(rate, 1.0, keep_alive_s, 40)
    hold(f"cold {rate}/s kept {keep_alive_s:g} s, no simulator", mean_of(shares[:, 0]), theory, precision=0.01)
    difference = mean_of(shares[:, 1] - shares[:, 0])
    assert abs(difference.value) + 3.0 * difference.standard_error < COLD_ERROR * theory
