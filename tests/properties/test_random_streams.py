"""Keyed draws are as good as independent: within a stream, between streams, seeds and attempts.

Every bound is a p-value of a chi-square or normal law, so far out that good generators pass all tests of this file
with near certainty; seeds are fixed. The generator is a counter under one finaliser, so the mistakes to look for are
streams that are shifts of each other and finalisers that leave neighbouring counters alike.
"""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from numba import njit
from scipy import stats

from controller import keyed_random
from controller.arrays import F64
from controller.kernels import random as kernel_random
from envs.kernels.state import MAX_ATTEMPTS, STREAMS

LEAST_P = 1e-6
SEEDS = (0, 1, 2**31, 2**62 - 1)
IDS_OF_A_RUN = 2**36
"""More requests than any run has: 100 a second for 20 years."""


@njit
def _fill(key: np.uint64, first: int, attempt: int, out: F64) -> None:
    for i in range(out.shape[0]):
        out[i] = kernel_random.uniform(key, first + i, attempt)


def draws(seed: int, stream: int, attempt: int = 0, count: int = 1 << 16, first: int = 0) -> F64:
    """Draws of consecutive request ids, as the kernels make them."""
    out = np.empty(count)
    _fill(np.uint64(keyed_random.stream_key(seed, stream)), first, attempt, out)
    return out


def p_of_cells(cells: np.ndarray[tuple[int], np.dtype[np.int64]], num_cells: int) -> float:
    """Two-sided p-value of equal chances of all cells: too even is as suspicious as too uneven."""
    counts = np.bincount(cells, minlength=num_cells)
    upper = float(stats.chisquare(counts).pvalue)
    return 2 * min(upper, 1 - upper)


def cells_of(*uniforms: F64, each: int) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], int]:
    """Cell of each tuple of draws in a grid of `each` cells per side, and the number of cells."""
    cells = np.zeros(len(uniforms[0]), np.int64)
    for uniform in uniforms:
        cells = cells * each + (uniform * each).astype(np.int64)
    return cells, each ** len(uniforms)


def correlations(rows: F64, lag: int = 0) -> F64:
    """Correlations of every row with every other `lag` ids on, times the root of their length: normal if independent.

    With a lag each row is also compared with itself, and each pair both ways.
    """
    standard = (rows - 0.5) * np.sqrt(12.0)
    length = rows.shape[1] - lag
    found = standard[:, :length] @ standard[:, lag:].T / np.sqrt(length)
    return found.ravel() if lag else found[np.triu_indices(len(rows), 1)]


def assert_standard_normal(z: F64) -> None:
    """No outlier among them, and their squares add up to what as many normal ones do."""
    assert len(z) * 2 * stats.norm.sf(np.abs(z).max()) > LEAST_P
    upper = float(stats.chi2.sf((z * z).sum(), len(z)))
    assert min(upper, 1 - upper) > LEAST_P


@pytest.mark.parametrize("dropped_bits", [0, 16, 32, 43], ids=lambda bits: f"from bit {bits}")
def test_draws_are_uniform_at_every_scale(dropped_bits: int) -> None:
    p_values = []
    for seed in SEEDS:
        for stream in range(STREAMS):
            for attempt in (0, 1, MAX_ATTEMPTS):
                uniform = (draws(seed, stream, attempt) * 2.0**dropped_bits) % 1.0
                p_values.append(p_of_cells(*cells_of(uniform, each=1024)))
    assert min(p_values) * len(p_values) > LEAST_P
    assert stats.kstest(p_values, "uniform").pvalue > LEAST_P


@pytest.mark.parametrize(("length", "each"), [(2, 32), (3, 10), (5, 4)])
@pytest.mark.parametrize("stride", [1, 64, 4096])
def test_neighbouring_ids_fill_space_evenly(length: int, each: int, stride: int) -> None:
    p_values = []
    for seed in SEEDS:
        for stream in range(STREAMS):
            uniform = draws(seed, stream, count=1 << 17)
            tuples = [uniform[k * stride : len(uniform) - (length - 1 - k) * stride] for k in range(length)]
            # Tuples that share no draw: whole groups of `stride` are skipped after each use.
            apart = (np.arange(len(tuples[0])) // stride) % length == 0
            p_values.append(p_of_cells(*cells_of(*(part[apart] for part in tuples), each=each)))
    assert min(p_values) * len(p_values) > LEAST_P


def test_draws_of_a_stream_are_uncorrelated_over_all_distances() -> None:
    count, lags = 1 << 17, 4096
    for seed in SEEDS:
        for stream in range(STREAMS):
            centred = (draws(seed, stream, count=count) - 0.5) * np.sqrt(12.0)
            spectrum = np.fft.rfft(centred, 2 * count)
            at_lag = np.fft.irfft(np.abs(spectrum) ** 2)[1 : lags + 1]
            assert_standard_normal(at_lag / np.sqrt(count - np.arange(1, lags + 1)))


@pytest.mark.parametrize("lag", range(6))
def test_streams_seeds_and_attempts_are_uncorrelated(lag: int) -> None:
    # Ids apart too: a stream that is another one moved by some ids would show up.
    keys = [(seed, stream, attempt) for seed in range(6) for stream in range(STREAMS) for attempt in range(3)]
    rows = np.stack([draws(*key, count=1 << 13) for key in keys])
    assert_standard_normal(correlations(rows, lag))
    assert_standard_normal(correlations(np.abs(2.0 * rows - 1.0), lag))  # distances from the middle are uniform too


def test_seeds_that_differ_in_one_bit_are_uncorrelated() -> None:
    for seed in (0, 12345):
        for stream in (keyed_random.GAP, keyed_random.SERVICE):
            rows = np.stack([draws(seed, stream), *(draws(seed ^ (1 << bit), stream) for bit in range(63))])
            assert_standard_normal(correlations(rows))


def test_pairs_of_streams_fill_the_square_evenly() -> None:
    p_values = []
    for seed in SEEDS:
        of_seed = [draws(seed, stream) for stream in range(STREAMS)]
        p_values += [p_of_cells(*cells_of(left, right, each=32)) for left, right in combinations(of_seed, 2)]
        after = [draws(seed, stream, attempt) for stream in range(STREAMS) for attempt in (1, 2)]
        p_values += [p_of_cells(*cells_of(of_seed[at // 2], other, each=32)) for at, other in enumerate(after)]
        neighbour = [draws(seed + 1, stream) for stream in range(STREAMS)]
        p_values += [p_of_cells(*cells_of(*pair, each=32)) for pair in zip(of_seed, neighbour, strict=True)]
    assert min(p_values) * len(p_values) > LEAST_P
    assert stats.kstest(p_values, "uniform").pvalue > LEAST_P


@pytest.mark.parametrize("bit", range(36))
def test_one_bit_of_an_id_changes_every_bit_of_a_draw_half_of_the_time(bit: int) -> None:
    key = keyed_random.stream_key(3, keyed_random.SERVICE)
    ids = np.random.default_rng(bit).integers(0, IDS_OF_A_RUN, 1024)
    changed = [
        int(keyed_random.uniform(key, int(i), 0) * 2.0**53)
        ^ int(keyed_random.uniform(key, int(i) ^ (1 << bit), 0) * 2**53)
        for i in ids
    ]
    share = np.array([[word >> b & 1 for b in range(53)] for word in changed]).mean(axis=0)
    z = np.abs(share - 0.5) / (0.5 / np.sqrt(len(ids)))
    assert 53 * 2 * stats.norm.sf(z.max()) > LEAST_P


def test_no_two_sequences_overlap_within_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    # Ids walk one cycle of 2**64 counters in equal steps; a key and an attempt say where on it a sequence begins.
    keys = [
        keyed_random.stream_key(seed, stream)
        for seed in (*range(40), *(1 << bit for bit in range(8, 63)))
        for stream in range(STREAMS)
    ]
    counters: list[int] = []
    monkeypatch.setattr(keyed_random, "_mix", lambda counter: counters.append(counter) or counter)
    for identity in range(3):
        keyed_random.uniform(0, identity, 0)
    size = 1 << 64
    step = (counters[1] - counters[0]) % size
    assert counters[2] == (counters[1] + step) % size
    counters.clear()
    for key in keys:
        for attempt in range(MAX_ATTEMPTS + 1):
            keyed_random.uniform(key, 0, attempt)
    places = sorted(counter * pow(step, -1, size) % size for counter in counters)
    apart = [b - a for a, b in pairwise([*places, places[0] + size])]
    assert min(apart) > IDS_OF_A_RUN
