"""Statistics of durations equal what was worked by hand, and their standard errors are those of repeated draws."""

import math

import numpy as np
import pytest

from experiments.fitting import (
    Estimate,
    agreement,
    cv_of,
    cv_of_counts,
    gap_agreement,
    line_through,
    local_ratios,
    mean_of,
    seconds_per_answer,
    shape_of,
)


def renewal_counts(rng: np.random.Generator, cv: float, windows: int, per_window: float) -> np.ndarray:
    """Counts in windows of length `per_window` of a renewal process with Gamma gaps of mean 1."""
    gaps = rng.gamma(1 / cv**2, cv**2, int(1.2 * windows * per_window) + 1000)
    at = np.cumsum(gaps)
    assert at[-1] > windows * per_window
    return np.histogram(at, np.arange(windows + 1) * per_window)[0].astype(float)


# Means


def test_a_mean_has_the_standard_error_of_independent_samples() -> None:
    # Squares about the mean 3: 4 + 1 + 0 + 9 = 14; 14 / 3 / 4 = 7 / 6.
    assert mean_of([1.0, 2.0, 3.0, 6.0]) == pytest.approx((3.0, math.sqrt(7 / 6), 4))


# Shapes


def test_the_ends_of_a_shape_keep_the_mean_beyond_the_outermost_quantile() -> None:
    # Ten samples tell the median alone, 6. The lower five have mean 4.2 = (2.4 + 6) / 2, the upper five 10.2.
    assert shape_of([1, 5, 5, 5, 5, 7, 8, 8, 8, 20]) == pytest.approx({0.0: 2.4, 0.5: 6.0, 1.0: 14.4})


def test_the_ends_of_a_shape_do_not_leave_the_samples() -> None:
    # The lower five have mean 3, so a line down to 0.5 would keep it; none was below 1. Likewise 10.5 and 10.
    assert shape_of([float(i) for i in range(1, 11)]) == pytest.approx({0.0: 1.0, 0.5: 5.5, 1.0: 10.0})


@pytest.mark.parametrize(("samples", "lowest"), [(99, 0.1), (100, 0.05), (499, 0.02), (1000, 0.005)])
def test_a_quantile_is_told_where_five_samples_lie_beyond_it(samples: int, lowest: float) -> None:
    table = shape_of(np.linspace(0.5, 1.5, samples))
    assert sorted(table)[1] == lowest
    assert sorted(table)[-2] == 1 - lowest


def test_a_shape_has_the_mean_of_its_samples() -> None:
    ratios = np.random.default_rng(1).gamma(4.0, 0.25, 2000)
    table = shape_of(ratios)
    probabilities = np.array(sorted(table))
    values = np.array([table[p] for p in probabilities])
    mean = float((np.diff(probabilities) * (values[1:] + values[:-1]) / 2).sum())
    # Straight lines across cells of 5 % of a curved quantile function: half a per cent at the most here.
    assert mean == pytest.approx(ratios.mean(), rel=0.005)


def test_one_extreme_sample_does_not_become_the_end_of_a_shape() -> None:
    ratios = np.append(np.linspace(0.9, 1.1, 999), 50.0)
    assert shape_of(ratios)[1.0] < 25.0


# How well a fit holds


def test_the_distance_from_a_table_is_that_of_kolmogorov_and_smirnov() -> None:
    # The table is uniform on 1..2; all four samples lie below 1.4, where it has reached 0.4.
    assert agreement([1.1, 1.2, 1.3, 1.4], {0.0: 1.0, 1.0: 2.0}).distance == pytest.approx(0.6)


def test_half_of_a_table_may_be_one_value() -> None:
    # A half at 1, the other half evenly from there to 2: three quarters are reached at 1.5.
    assert agreement([1.5], {0.0: 1.0, 0.5: 1.0, 1.0: 2.0}).distance == pytest.approx(0.75)


def test_a_constant_table_has_no_distribution_to_agree_with() -> None:
    assert agreement([1.0, 1.1], {0.0: 1.0, 0.5: 1.0, 1.0: 1.0}) is None


def test_samples_of_a_table_are_called_unlikely_as_often_as_the_p_value_says() -> None:
    table = {0.0: 0.5, 0.3: 0.8, 0.9: 1.2, 1.0: 3.0}
    drawn = np.interp(np.random.default_rng(2).random((300, 40)), sorted(table), [table[p] for p in sorted(table)])
    unlikely = np.mean([agreement(samples, table).p < 0.2 for samples in drawn])
    assert unlikely == pytest.approx(0.2, abs=3 * math.sqrt(0.2 * 0.8 / 300))


def test_samples_of_another_spread_are_told_from_a_table() -> None:
    samples = np.random.default_rng(3).uniform(0.5, 1.5, 200)
    assert agreement(samples, {0.0: 0.5, 1.0: 1.5}).p > 0.01
    assert agreement(samples, {0.0: 0.8, 1.0: 1.2}).p < 1e-6


def test_gaps_are_held_against_the_gamma_distribution_of_their_cv() -> None:
    # With CV 1 it is exponential: at ln 2 half of it is reached, and the single sample steps from 0 to 1 there.
    assert gap_agreement(np.array([math.log(2)]), 1.0).distance == pytest.approx(0.5)
    gaps = np.random.default_rng(4).gamma(1 / 1.5**2, 1.5**2, 2000)
    assert gap_agreement(gaps, 1.5).p > 0.01
    assert gap_agreement(gaps, 1.0).p < 1e-6


# The line through means


def means(values: dict[int, float], se: float | dict[int, float] = 0.01) -> dict[int, Estimate]:
    return {b: Estimate(v, se if isinstance(se, float) else se[b], 50) for b, v in values.items()}


def test_a_line_through_means_on_a_line_is_that_line() -> None:
    line = line_through(means({1: 0.03, 2: 0.05, 4: 0.09}))
    assert (line.intercept_s, line.slope_s) == pytest.approx((0.01, 0.02))
    assert line.text.endswith("batches 1, 2, 4, off by at most 0.0%")


def test_an_uncertain_mean_hardly_bends_the_line() -> None:
    line = line_through(means({1: 2.0, 2: 3.0, 4: 9.0}, {1: 1e-3, 2: 1e-3, 4: 10.0}))
    assert (line.intercept_s, line.slope_s) == pytest.approx((1.0, 1.0), abs=1e-4)
    # At 4 the line says 5, which is 4 / 9 less than the mean.
    assert "off by at most 44.4%" in line.text


def test_means_without_spread_have_a_line() -> None:
    line = line_through(means({1: 0.03, 2: 0.05, 4: 0.09}, 0.0))
    assert (line.intercept_s, line.slope_s) == pytest.approx((0.01, 0.02))


def test_an_intercept_is_not_negative() -> None:
    # Free, the line through (1, 1) and (2, 4) begins at -2; through the origin its slope is (1 + 2 x 4) / (1 + 4).
    line = line_through(means({1: 1.0, 2: 4.0}))
    assert (line.intercept_s, line.slope_s) == pytest.approx((0.0, 1.8), abs=1e-9)


def test_a_slope_stays_above_zero_where_larger_batches_were_faster() -> None:
    line = line_through(means({1: 2.0, 2: 1.0}))
    # A millionth of the largest mean.
    assert line.slope_s == pytest.approx(2e-6)
    assert line.intercept_s == pytest.approx(1.5, rel=1e-5)


# Arrivals


def test_the_cv_of_two_values_is_worked_by_hand() -> None:
    # 0.5 and 1.5: mean 1, deviation 0.5, no skew, kurtosis 1, so the variance of the CV is CV^2 x CV^2 / n.
    found = cv_of(np.tile([0.5, 1.5], 5000))
    assert found == pytest.approx((0.5, 0.25 / 100, 10_000), rel=1e-3)


def test_the_error_of_a_cv_is_that_of_repeated_draws() -> None:
    estimates = [cv_of(samples) for samples in np.random.default_rng(5).exponential(1.0, (400, 1000))]
    spread = np.std([e.value for e in estimates])
    # Exponential: (9 - 1) / 4 + 1 - 2 = 1, so the standard error is 1 / sqrt(n). The spread of 400 draws is known to
    # 1 / sqrt(2 x 400) of itself.
    assert spread == pytest.approx(1 / math.sqrt(1000), rel=3 / math.sqrt(800))
    assert np.mean([e.se for e in estimates]) == pytest.approx(spread, rel=3 / math.sqrt(800))


def test_equal_gaps_have_cv_zero() -> None:
    assert cv_of(np.ones(5)) == (0.0, 0.0, 5)


def test_gaps_over_those_around_them_lose_a_slow_change_of_rate() -> None:
    rng = np.random.default_rng(6)
    slower = np.linspace(1.0, 6.0, 6000)
    gaps = rng.exponential(1.0, 6000) * slower
    plain, local = cv_of(gaps), cv_of(local_ratios(gaps))
    assert local.value == pytest.approx(1.0, abs=3 * local.se)
    assert plain.value > 1.0 + 5 * plain.se


def test_a_stretch_of_simultaneous_arrivals_has_plain_ratios() -> None:
    assert local_ratios([0.0] * 5).tolist() == [1.0] * 5


def test_the_cv_from_counts_is_worked_by_hand() -> None:
    # Differences of 2: variance 4 / 2 over a mean of 5. Three differences: sqrt(3 x 3 - 1) / 3 of half the CV.
    cv = math.sqrt(0.4)
    assert cv_of_counts(np.array([4.0, 6.0, 4.0, 6.0])) == pytest.approx((cv, cv / 2 * math.sqrt(8) / 3, 3))


@pytest.mark.parametrize("cv", [0.5, 1.0, 2.0])
def test_counts_of_long_windows_tell_the_cv_of_the_gaps(cv: float) -> None:
    found = cv_of_counts(renewal_counts(np.random.default_rng(7), cv, windows=2000, per_window=100.0))
    assert found.value == pytest.approx(cv, abs=3 * found.se)
    assert found.se < 0.03 * cv


def test_a_slow_change_of_rate_is_no_variance_of_counts() -> None:
    rates = np.linspace(20.0, 200.0, 1000)
    found = cv_of_counts(np.random.default_rng(8).poisson(rates).astype(float))
    assert found.value == pytest.approx(1.0, abs=3 * found.se)


def test_the_error_of_a_cv_from_counts_is_that_of_repeated_draws() -> None:
    estimates = [cv_of_counts(counts) for counts in np.random.default_rng(9).poisson(80.0, (400, 200)).astype(float)]
    spread = np.std([e.value for e in estimates])
    assert np.mean([e.se for e in estimates]) == pytest.approx(spread, rel=3 / math.sqrt(800))


# Sums by window


def test_seconds_of_one_option_are_worked_by_hand() -> None:
    # Answers per busy second: (1 x 2 + 2 x 5) / (1 + 4) = 2.4. Residuals -0.4 and 0.2, one degree of freedom: the
    # variance of 2.4 is 0.2 / 5. Of 1 / 2.4: 0.2 / 2.4^2.
    (found,) = seconds_per_answer(np.array([2.0, 5.0]), np.array([[1.0], [2.0]]))
    assert found == pytest.approx((1 / 2.4, 0.2 / 2.4**2, 2))


def test_options_in_use_together_are_told_apart_by_their_mixture() -> None:
    busy_s = np.array([[1.0, 0.0, 2.0], [3.0, 0.0, 1.0], [0.0, 0.0, 4.0], [2.0, 0.0, 2.0]])
    fast, idle, slow = seconds_per_answer(busy_s @ [10.0, 7.0, 2.5], busy_s)
    assert idle is None
    assert (fast.value, slow.value) == pytest.approx((0.1, 0.4))
    assert (fast.samples, slow.samples) == (3, 4)


def test_options_always_in_use_alike_are_not_told_apart() -> None:
    busy_s = np.array([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])
    assert seconds_per_answer(busy_s @ [10.0, 10.0], busy_s) == [None, None]


def test_the_error_of_seconds_per_answer_is_that_of_repeated_draws() -> None:
    rng = np.random.default_rng(10)
    busy_s = rng.uniform(5.0, 15.0, (100, 2))
    true = busy_s @ [10.0, 4.0]
    found = [seconds_per_answer(true + rng.normal(0.0, 5.0, 100), busy_s) for _ in range(300)]
    for option, seconds in ((0, 0.1), (1, 0.25)):
        values = np.array([one[option].value for one in found])
        ses = np.array([one[option].se for one in found])
        assert values.mean() == pytest.approx(seconds, abs=3 * values.std() / math.sqrt(300) + 1e-4)
        assert ses.mean() == pytest.approx(values.std(), rel=3 / math.sqrt(600))
