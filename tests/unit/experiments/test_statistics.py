"""Intermediate results worked by hand, and intervals that cover a known truth as often as they say."""

import math

import numpy as np
import pytest

from controller.errors import UsageError
from experiments.statistics import (
    Interval,
    block_length,
    bootstrap,
    day_weights,
    interquartile_mean,
    mean_over_traces,
    relative_difference,
)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 3.0], 2.0),
        # The outer quarter of three values is 0.75 of a value: (0.25 * 1 + 2 + 0.25 * 9) / 1.5.
        ([9.0, 1.0, 2.0], 3.0),
        ([100.0, 2.0, 3.0, -50.0], 2.5),
        # Of ten values 2.5 fall off each side: (0.5 * 2 + 3 + 4 + 5 + 6 + 0.5 * 7) / 5.
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 1000.0], 4.5),
    ],
)
def test_interquartile_mean_is_that_of_the_middle_half(values: list[float], expected: float) -> None:
    assert float(interquartile_mean(np.array(values))) == pytest.approx(expected)


def test_interquartile_mean_ignores_what_is_infinite_outside_the_middle() -> None:
    assert float(interquartile_mean(np.array([1.0, 2.0, 3.0, math.inf]))) == pytest.approx(2.5)


def test_differences_are_parts_of_the_ratio_of_totals() -> None:
    reference = np.array([10.0, 40.0])
    # Always a tenth more: the same on a cheap and on a dear day.
    assert relative_difference(1.1 * reference, reference) == pytest.approx(np.array([0.1, 0.1]))
    # Totals 55 and 50, so 0.1; then 0.1 + (10 - 11) / 25 and 0.1 + (45 - 44) / 25.
    own = np.array([[10.0, 45.0]])
    assert relative_difference(own, reference) == pytest.approx(np.array([[0.06, 0.14]]))
    with pytest.raises(UsageError, match="expected 1 of them"):
        relative_difference(own, np.array([10.0]))
    with pytest.raises(UsageError, match="mean cost > 0"):
        relative_difference(own, np.array([0.0, 0.0]))


def test_traces_count_alike_however_many_days_they_have() -> None:
    # Means 1 and 4, so 2.5; the mean of all five days would be 2.2.
    assert mean_over_traces([np.array([[0.0, 1.0, 2.0]]), np.array([[3.0, 5.0]])]) == pytest.approx(2.5)


def test_seeds_are_combined_after_traces_are() -> None:
    # Seeds' means over traces are 1, 2, 3 and 100; the mean of each trace's own interquartile mean would be 3.75.
    first = np.array([[0.0], [4.0], [1.0], [100.0]])
    second = np.array([[2.0], [0.0], [5.0], [100.0]])
    assert mean_over_traces([first, second]) == pytest.approx(2.5)


@pytest.mark.parametrize(("days", "block"), [(1, 1), (4, 1), (7, 1), (8, 2), (26, 2), (27, 3)])
def test_blocks_grow_with_the_cube_root_of_the_days(days: int, block: int) -> None:
    assert block_length(days) == block


def test_resamples_are_made_of_whole_neighbouring_days() -> None:
    weights = day_weights(np.random.default_rng(0), 6, 3, 500)
    assert weights.sum(axis=1) == pytest.approx(np.ones(500))
    counts = np.rint(weights * 6).astype(int)
    # Two runs of three days on a circle of six: the days of any half circle and those of the other are drawn together.
    starts = {
        tuple(sum(((d - s) % 6 < 3) for s in pair) for d in range(6)) for pair in np.ndindex(6, 6)
    }  # fmt: skip
    assert {tuple(row) for row in counts.tolist()} == starts


def test_two_days_are_as_uncertain_as_student_says() -> None:
    # Mean 1, standard error 1 and one degree of freedom: 1 +- 12.706. The bootstrap's own error is its half width.
    found = bootstrap([np.array([[0.0, 2.0]])], resamples=20000)
    assert found.estimate == 1.0
    assert found.high - 1.0 == pytest.approx(12.706, rel=0.02)
    assert 1.0 - found.low == pytest.approx(12.706, rel=0.02)


def test_many_days_are_as_uncertain_as_their_standard_error() -> None:
    days = np.random.default_rng(1).normal(size=(1, 400))
    found = bootstrap([days], block=1, resamples=4000)
    assert found.high - found.low == pytest.approx(2 * 1.966 * days.std(ddof=1) / 20, rel=0.05)


def test_one_day_tells_nothing_of_the_spread() -> None:
    found = bootstrap([np.array([[0.0, 1.0]]), np.array([[3.0]])])
    assert found.estimate == pytest.approx(1.75)
    assert math.isnan(found.low)
    assert not found.excludes_zero


def test_equal_arguments_give_equal_intervals() -> None:
    days = [np.random.default_rng(2).normal(size=(3, 5))]
    assert bootstrap(days, seed=4) == bootstrap(days, seed=4)
    assert bootstrap(days, seed=4) != bootstrap(days, seed=5)


def test_no_difference_is_certain() -> None:
    assert bootstrap([np.zeros((1, 4))]) == Interval(0.0, 0.0, 0.0)


def test_seeds_widen_the_interval_of_a_learned_policy() -> None:
    day = np.array([0.0, 0.1, -0.1, 0.05, -0.05, 0.0])
    seeds = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])[:, None] + day
    narrow, wide = bootstrap([day[None]]), bootstrap([seeds])
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)


def test_what_is_not_known_is_not_estimated() -> None:
    found = bootstrap([np.array([[1.0, math.nan]])])
    assert math.isnan(found.estimate)
    with pytest.raises(UsageError, match="at least one trace"):
        bootstrap([])
    with pytest.raises(UsageError, match="same seeds"):
        bootstrap([np.zeros((2, 3)), np.zeros((1, 3))])


@pytest.mark.parametrize(
    ("traces", "days", "num_seeds", "skewed"), [(1, 4, 1, False), (6, 3, 1, True), (3, 5, 6, False)]
)
def test_intervals_cover_the_truth(traces: int, days: int, num_seeds: int, skewed: bool) -> None:
    rng = np.random.default_rng(7)
    trials = 300
    covered = 0
    for trial in range(trials):
        # Truth 0: effects of the day (shared by the seeds), of the seed, and of both.
        by_seed = 0.5 * rng.normal(size=(num_seeds, 1)) if num_seeds > 1 else 0.0
        strata = []
        for _ in range(traces):
            noise = rng.exponential(size=days) - 1.0 if skewed else rng.normal(size=days)
            strata.append(by_seed + noise + 0.1 * rng.normal(size=(num_seeds, days)))
        found = bootstrap(strata, resamples=400, seed=trial)
        covered += found.low <= 0.0 <= found.high
    # Three standard errors of a share of 0.95 in 300 trials are 0.038.
    assert covered / trials >= 0.95 - 0.038
    assert covered / trials <= 0.999


def test_blocks_cover_the_truth_where_days_resemble_their_neighbours() -> None:
    rng = np.random.default_rng(8)
    covered = {1: 0, 4: 0}
    for trial in range(200):
        noise = rng.normal(size=60)
        for day in range(1, 60):
            noise[day] += 0.5 * noise[day - 1]
        for block in covered:
            found = bootstrap([noise[None]], block=block, resamples=300, seed=trial)
            covered[block] += found.low <= 0.0 <= found.high
    assert covered[4] / 200 >= 0.86
    assert covered[4] > covered[1] + 10
