"""Tests that may be looked at after every audit: seldom wrong, and soon right where the contract is broken."""

import numpy as np
import pytest
from scipy.stats import binom

from controller.tiers.audit import MeanTest, may_differ, share_upper

LIMIT, TOLERANCE = 0.05, 0.01


def audits_until_broken(test, values):
    """How many observations it took; None where the limit was never found broken."""
    return next((count for count, value in enumerate(values, 1) if test.add(value)), None)


def degradations(rng, count, worse):
    """Degradations of requests (-1, 0, 1) with a mean, where one answer in ten differs."""
    return rng.choice([-1.0, 0.0, 1.0], size=count, p=[0.05 - worse / 2, 0.9, 0.05 + worse / 2])


def allowed(seeds, alpha):
    """Alarms in so many seeds that a true rate of alpha exceeds once in a thousand times."""
    return int(binom.ppf(0.999, seeds, alpha))


@pytest.mark.parametrize(("alpha", "share"), [(0.1, LIMIT), (0.02, LIMIT), (0.1, LIMIT / 2)])
def test_kept_limit_is_found_broken_no_more_often_than_stated(alpha, share):
    seeds = 100
    found = [
        audits_until_broken(MeanTest(LIMIT, 0.0, alpha), np.random.default_rng(seed).random(800) < share)
        for seed in range(seeds)
    ]
    assert sum(count is not None for count in found) <= allowed(seeds, alpha)


def test_kept_degradation_is_found_broken_no_more_often_than_stated():
    seeds, alpha = 100, 0.1
    draws = (degradations(np.random.default_rng(seed), 800, TOLERANCE) for seed in range(seeds))
    found = [audits_until_broken(MeanTest(TOLERANCE, -1.0, alpha), draw) for draw in draws]
    assert sum(count is not None for count in found) <= allowed(seeds, alpha)


def test_twice_the_disagreement_is_found_within_a_thousand_audits():
    found = [
        audits_until_broken(MeanTest(LIMIT, 0.0, 0.001), np.random.default_rng(seed).random(1000) < 2 * LIMIT)
        for seed in range(40)
    ]
    assert sum(count is not None for count in found) >= 38


def test_twice_the_degradation_is_found_within_two_thousand_labels():
    # Five points of tolerance where ten are lost; 15 answers in a hundred differ.
    draws = (
        np.random.default_rng(seed).choice([-1.0, 0.0, 1.0], size=2000, p=[0.025, 0.85, 0.125]) for seed in range(20)
    )
    found = [audits_until_broken(MeanTest(0.05, -1.0, 0.001), draw) for draw in draws]
    assert sum(count is not None for count in found) >= 19


def test_limit_broken_after_a_long_time_is_found_as_soon_again():
    late = []
    for seed in range(10):
        test, rng = MeanTest(LIMIT, 0.0, 0.001), np.random.default_rng(seed)
        assert audits_until_broken(test, rng.random(3000) < LIMIT / 2) is None
        late.append(audits_until_broken(test, rng.random(1500) < 2 * LIMIT))
    assert sum(count is not None for count in late) >= 9


def test_capital_of_one_observation_is_the_mean_of_the_bets():
    # Constant bets of 0.9 / (0.5 - 0) = 1.8 halved 12 times, x - limit = 0.5; moving ones begin without a bet.
    test = MeanTest(0.5, 0.0, 0.01)
    assert test.evidence == pytest.approx(1.0)
    test.add(1.0)
    fixed = np.mean([1 + 0.5 * 1.8 / 2**k for k in range(12)])
    assert test.evidence == pytest.approx((fixed + 1.0) / 2)
    assert (test.count, test.mean) == (1, 1.0)


def test_what_must_never_be_is_found_broken_at_once():
    assert MeanTest(0.0, 0.0, 0.001).add(1.0)


def test_broken_stays_broken():
    test = MeanTest(0.0, 0.0, 0.001)
    test.add(1.0)
    assert all(test.add(0.0) for _ in range(10))


def test_answers_may_differ_unless_both_are_right_or_the_best_version_gave_it():
    confidence = np.array([[0.9, 1.0], [0.9, 1.0], [0.9, 1.0], [0.1, 1.0]])
    right = np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    assert may_differ(confidence, right, (0, 1), (0.5,), 1).tolist() == [False, True, True, False]


@pytest.mark.parametrize(("share", "count"), [(0.0, 1000), (0.05, 1000), (0.5, 50)])
def test_share_upper_is_exceeded_no_more_often_than_stated(share, count):
    upper, alpha = share_upper(share, count, 0.01), 0.01
    assert binom.cdf(round(share * count), count, upper) <= alpha + 1e-9
    assert share < upper < 1.0


def test_nothing_seen_bounds_nothing():
    assert share_upper(0.0, 0, 0.01) == 1.0
