"""Latencies are counted in buckets of an eighth of an octave, and quantiles come back out of them."""

import math

import numpy as np
import pytest

from controller.arrays import LATENCY_BUCKETS
from controller.latency import bucket_edges, bucket_of, quantile


@pytest.mark.parametrize(
    ("latency_s", "bucket"),
    [
        (1.0, 80),  # 2**0: octave 10 of the table, first step
        (1.125, 81),
        (1.99, 87),
        (2.0, 88),
        (0.5, 72),
        (2.0**-10, 0),
        (0.0, 0),
        (1e-9, 0),
        (1023.9, 159),
        (1024.0, 159),
        (math.inf, 159),
    ],
)
def test_latency_falls_into_the_bucket_of_its_octave_and_eighth(latency_s: float, bucket: int) -> None:
    assert bucket_of(latency_s) == bucket


def test_every_begin_of_a_bucket_falls_into_it_and_what_lies_just_below_does_not() -> None:
    edges = bucket_edges()
    assert [bucket_of(float(edge)) for edge in edges[:-1]] == list(range(LATENCY_BUCKETS))
    below = [bucket_of(math.nextafter(float(edge), 0.0)) for edge in edges[1:]]
    assert below == list(range(LATENCY_BUCKETS))


def test_quantile_interpolates_inside_a_bucket() -> None:
    histogram = np.zeros(LATENCY_BUCKETS, np.int64)
    histogram[80] = 30  # 1.000 to 1.125 s
    histogram[88] = 10  # 2.00 to 2.25 s
    # Half of 40 is the 20th of 30 in the first bucket; 95 % is the 38th, the 8th of 10 in the second.
    assert quantile(histogram, 0.5) == pytest.approx(1.0 + 0.125 * 20 / 30)
    assert quantile(histogram, 0.95) == pytest.approx(2.0 + 0.25 * 8 / 10)
    assert quantile(histogram, 1.0) == pytest.approx(2.25)


def test_quantile_of_nothing_is_nan() -> None:
    assert math.isnan(quantile(np.zeros(LATENCY_BUCKETS, np.int64), 0.5))


def test_quantile_is_within_an_eighth_of_the_exact_one() -> None:
    latencies = np.random.default_rng(1).lognormal(-1.0, 1.0, 5000)
    histogram = np.bincount([bucket_of(float(x)) for x in latencies], minlength=LATENCY_BUCKETS)
    for probability in (0.5, 0.95, 0.99):
        assert quantile(histogram, probability) == pytest.approx(float(np.quantile(latencies, probability)), rel=0.125)


def test_compiled_bucket_equals_the_plain_one() -> None:
    numba = pytest.importorskip("numba")
    compiled = numba.njit(bucket_of)
    latencies = np.random.default_rng(2).lognormal(0.0, 3.0, 300)
    assert [compiled(x) for x in latencies] == [bucket_of(float(x)) for x in latencies]
