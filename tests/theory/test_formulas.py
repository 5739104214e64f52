"""The closed forms against values worked by hand, against each other, and against what they must become at limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import geom

from tests.theory import formulas


def exponential(s: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Transform of an exponential time of mean 1."""
    return 1.0 / (1.0 + s)


def test_erlang_b_by_hand() -> None:
    assert formulas.erlang_b(0, 3.0) == 1.0
    assert formulas.erlang_b(1, 0.5) == pytest.approx(0.5 / 1.5)
    assert formulas.erlang_b(2, 1.0) == pytest.approx(0.5 / (1 + 1 + 0.5))
    # 10 erlangs on 10 trunks lose 21.46 %, 13 trunks 8.43 %: every table of traffic engineering.
    assert formulas.erlang_b(10, 10.0) == pytest.approx(0.2146, abs=5e-5)
    assert formulas.erlang_b(13, 10.0) == pytest.approx(0.0843, abs=5e-5)


def test_erlang_c_by_hand() -> None:
    assert formulas.erlang_c(1, 0.7) == pytest.approx(0.7)
    # c = 2, a = 1: p0 = 1 / (1 + 1 + 1) and C = (1 / 2) / (1 - 1 / 2) p0.
    assert formulas.erlang_c(2, 1.0) == pytest.approx(1.0 / 3.0)
    assert formulas.erlang_c(10, 8.0) == pytest.approx(0.4092, abs=5e-5)


def test_mmc_with_one_server_is_mm1() -> None:
    assert formulas.mmc_mean_wait_s(1, 0.8, 1.0) == pytest.approx(0.8 / 0.2)
    assert formulas.mmc_mean_wait_s(2, 1.0, 1.0) == pytest.approx(1.0 / 3.0)
    assert formulas.mmc_wait_tail(1, 0.8, 1.0, 5.0) == pytest.approx(0.8 * math.exp(-1.0))
    assert formulas.mmc_sojourn_tail(1, 0.8, 1.0, 5.0) == pytest.approx(formulas.mm1_sojourn_tail(0.8, 1.0, 5.0))
    assert formulas.mm1_sojourn_tail(2.0, 0.25, 0.5) == pytest.approx(math.exp(-1.0))


@pytest.mark.parametrize(("servers", "rate"), [(3, 2.4), (2, 1.0), (30, 3.0)])
def test_mmc_tails_have_the_mean_as_their_integral(servers: int, rate: float) -> None:
    at = np.linspace(0.0, 200.0, 200_001)
    tails = [formulas.mmc_sojourn_tail(servers, rate, 1.0, t) for t in at]
    expected = 1.0 + formulas.mmc_mean_wait_s(servers, rate, 1.0)
    assert np.trapezoid(tails, at) == pytest.approx(expected, rel=1e-6)


def test_mg1_mean_wait_by_hand() -> None:
    assert formulas.mg1_mean_wait_s(0.8, 1.0, 2.0) == pytest.approx(4.0)  # M/M/1
    assert formulas.mg1_mean_wait_s(0.8, 1.0, 1.0) == pytest.approx(2.0)  # M/D/1: half of it


def test_mg1_tails_of_exponential_service_are_those_of_mm1() -> None:
    at = np.array([0.1, 1.0, 5.0, 30.0])
    np.testing.assert_allclose(formulas.mg1_tails(0.9, exponential, at), np.exp(-0.1 * at), rtol=1e-7)


def test_inversion_finds_a_known_function() -> None:
    at = np.array([0.3, 2.0, 9.0])
    np.testing.assert_allclose(formulas.invert(lambda s: 1.0 / (s + 1.0) ** 2, at), at * np.exp(-at), rtol=1e-6)


def test_md1_wait_tail_by_hand() -> None:
    assert formulas.md1_wait_tail(0.6, 1.0, 0.0) == pytest.approx(0.6)
    # Below one service time the wait is at most t if nobody is there or the rest of one fits: (1 - r) e^rt.
    assert formulas.md1_wait_tail(0.6, 1.0, 0.5) == pytest.approx(1.0 - 0.4 * math.exp(0.3))
    at = np.linspace(0.0, 20.0, 20_001)
    mean = np.trapezoid([formulas.md1_wait_tail(0.6, 1.0, t) for t in at], at)
    assert mean == pytest.approx(formulas.mg1_mean_wait_s(0.6, 1.0, 1.0), rel=1e-5)


def test_gim1_with_exponential_gaps_is_mm1_and_with_constant_ones_solves_its_equation() -> None:
    assert formulas.gim1_waits(lambda s: exponential(s / 0.8), 1.0) == pytest.approx(0.8)
    x = formulas.gim1_waits(lambda s: np.exp(-s / 0.5), 1.0)  # D/M/1 at load 0.5: x = e^(-2 (1 - x))
    assert x == pytest.approx(0.20319, abs=1e-5)


def test_deadlines_by_their_limits_and_by_both_formulas() -> None:
    lost, missed = formulas.mm1_deadline(0.5, 1.0, 1e-9)  # nobody waits: M/M/1/1 loses by Erlang B
    assert lost == pytest.approx(formulas.erlang_b(1, 0.5))
    assert missed == pytest.approx(1.0)
    lost, missed = formulas.mm1_deadline(0.5, 1.0, 40.0)  # nobody is lost: M/M/1, whose sojourn exceeds D
    assert lost == pytest.approx(0.25 * math.exp(-20.0))
    assert missed == pytest.approx(0.75 * math.exp(-20.0))
    for rate in (0.5, 0.95, 1.4):
        expected = formulas.mm1_deadline(rate, 1.0, 3.0)
        assert formulas.mg1_deadline(rate, exponential, 1.0, 3.0) == pytest.approx(expected, rel=1e-6)


def test_bulk_service_by_hand_and_by_its_embedded_chain() -> None:
    assert formulas.bulk_mean_wait_s(0.8, 1.0, 1) == pytest.approx((4.0, 0.8))  # M/M/1
    # b = 2 at rate 2 - 1 / 4: r + r^2 = rate has r = (sqrt(1 + 4 rate) - 1) / 2 = 0.9142.
    r = (math.sqrt(8.0) - 1.0) / 2.0
    a = 1.0 / (1.0 / (1.0 - r) + 1.0 / 1.75)
    assert formulas.bulk_mean_wait_s(1.75, 1.0, 2) == pytest.approx((a * r / (1.0 - r) ** 2 / 1.75, a / (1.0 - r)))
    for batch, rate in ((2, 0.6), (4, 3.2), (8, 6.0)):
        arrivals = geom.pmf(np.arange(400) + 1, 1.0 / (1.0 + rate))  # during an exponential time of mean 1
        chained = formulas.bulk_mean_wait_of_s(rate, arrivals, batch, (1.0, 2.0))
        assert chained == pytest.approx(formulas.bulk_mean_wait_s(rate, 1.0, batch), rel=1e-8)


def test_gathered_batches_by_hand() -> None:
    assert formulas.gathered_batch(2.0, 1, 5.0) == (1.0, 0.0)
    size, wait_s = formulas.gathered_batch(2.0, 2, 0.5)  # full with 1 - 1/e, else alone after half a second
    assert size == pytest.approx(2.0 - math.exp(-1.0))
    # The first waits for the second, an exponential gap of mean 1/2 cut at 1/2; the second not at all.
    assert wait_s == pytest.approx(0.5 * (1.0 - math.exp(-1.0)) / size)
    size, wait_s = formulas.gathered_batch(1.0, 1_000, 3.0)  # never full: 1 + Poisson(3), the later ones wait 1.5 s
    assert size == pytest.approx(4.0)
    assert wait_s == pytest.approx((3.0 + 3.0 * 1.5) / 4.0)


def test_lone_environment_by_hand() -> None:
    refused, cold = formulas.lone_environment(2.0, 0.5, 0.0, 1.0)
    assert refused == pytest.approx(formulas.erlang_b(1, 1.0))
    assert cold == pytest.approx(0.5 * math.exp(-2.0))
    refused, cold = formulas.lone_environment(2.0, 0.5, 1.0, 0.0)  # always cold: 1.5 s of service
    assert refused == pytest.approx(formulas.erlang_b(1, 3.0))
    assert cold == pytest.approx(1.0 - refused)


def test_cold_share_with_one_environment_and_at_its_limits() -> None:
    assert formulas.cold_share(2.0, 0.5, 1.0, 1) == pytest.approx(formulas.lone_environment(2.0, 0.5, 0.0, 1.0)[1])
    assert formulas.cold_share(3.0, 1.0, 0.0, 4) == pytest.approx(1.0 - formulas.erlang_b(4, 3.0))
    assert formulas.cold_share(3.0, 1.0, 1e4, 4) < 1e-6
    # Two environments, rate 1, service 1 s: pi = (0.4, 0.4, 0.2). From 0 the next call is an exponential gap away.
    # From 1 the generator on {0, 1} is [[-1, 1], [1, -2]] with eigenvalues -(3 -+ sqrt 5) / 2.
    slow, fast, keep = (3.0 - math.sqrt(5.0)) / 2.0, (3.0 + math.sqrt(5.0)) / 2.0, 0.7
    # Survival from 1 is a e^-slow t + (1 - a) e^-fast t, whose derivative at 0 is minus the rate to 2.
    a = (fast - 1.0) / (fast - slow)
    survives = a * math.exp(-slow * keep) + (1.0 - a) * math.exp(-fast * keep)
    assert formulas.cold_share(1.0, 1.0, keep, 2) == pytest.approx(0.4 * math.exp(-keep) + 0.4 * survives)


def test_zone_availability_by_hand() -> None:
    # Half the ticks are on; serving takes a second tick on, which follows a first with one half.
    assert formulas.zone_availability(0.5, 0.5, 1, 0) == pytest.approx(0.25)
    assert formulas.zone_availability(0.9, 0.8, 3, 0) == pytest.approx(2.0 / 3.0 * 0.9**3)
    assert formulas.zone_availability(0.9, 0.8, 3, 1) == pytest.approx(2.0 / 3.0 * 0.9**3)
    # Notice 2, launch 2: spans of 4 serve 2, of 5 three, ...: the sum of (u - 2) 0.5^u for u >= 4 is 3/8, per 2 + 2.
    assert formulas.zone_availability(0.5, 0.5, 2, 2) == pytest.approx(0.375 / 4.0)
