"""The rule that says when redundancy pays: worked by hand on two-point latencies, and what its choice must follow."""

import numpy as np
import pytest

from controller.errors import InputError
from controller.redundancy_choice import CollageOffer, Mode, Stakes, Way, best_way, survival, ways

# Nine in ten take 1 s, one in ten 5 s.
TWO_POINTS = np.array([1.0] * 9 + [5.0])
OFFER = CollageOffer(cells=4, pass_ratio=1.0, accuracy_loss=0.05)


def way_of(mode: Mode, stakes: Stakes, after_s: float = 2.0) -> Way:
    found = ways(TWO_POINTS, stakes, [OFFER], [after_s])
    return next(way for way in found if way.mode is mode)


def test_survival_is_the_share_that_takes_longer() -> None:
    assert survival(np.sort(TWO_POINTS), np.array([0.5, 1.0, 4.9, 5.0])) == pytest.approx([1.0, 0.1, 0.1, 0.0])


@pytest.mark.parametrize(
    ("mode", "missed", "busy_s", "by_collage"),
    [
        # 0.9 x 1 s + 0.1 x 5 s; the one in ten misses 3.5 s.
        (Mode.NONE, 0.1, 1.4, 0.0),
        # In place of the first one at 2 s: answered at 3 s in nine of ten such cases, else at 7 s.
        (Mode.RESEND, 0.01, 0.9 + 0.1 * (2 + 1.4), 0.0),
        # Sent again at 2 s: answered at 3 s in nine of ten such cases, else at 5 s, where both ran on.
        (Mode.HEDGE, 0.01, 0.9 + 0.1 * (0.9 * (3 + 1) + 0.1 * (5 + 3)), 0.0),
        # Both run until the first ends: 1 s but for one in a hundred.
        (Mode.REPLICATE, 0.01, 2 * (0.99 * 1 + 0.01 * 5), 0.0),
        # A straggler is answered at 2 s by a pass that took 1 s; by a slow pass at 5 s no sooner than by itself. The
        # pass runs 1 s, and where it is slow for as long as one of the four straggles: 1 + 0.1 x 4 s x (1 - 0.9^4).
        (Mode.COLLAGE, 0.01, 0.9 + 0.1 * (0.9 * 2 + 0.1 * 5) + (1 + 0.1 * 4 * (1 - 0.9**4)) / 4, 0.1 * 0.9),
    ],
)
def test_ways_are_those_worked_by_hand(mode: Mode, missed: float, busy_s: float, by_collage: float) -> None:
    way = way_of(mode, Stakes(slo_s=3.5, usd_per_s=2.0, usd_per_miss=30.0, usd_per_wrong=10.0))
    assert way.missed == pytest.approx(missed)
    assert way.busy_s == pytest.approx(busy_s, rel=2e-3)  # areas are summed in steps of 1.25 ms
    assert way.by_collage == pytest.approx(by_collage)
    assert way.cost_usd == pytest.approx(2.0 * way.busy_s + 30.0 * missed + 10.0 * 0.05 * by_collage)


def test_nothing_is_redundant_where_a_miss_costs_nothing_and_none_runs_less() -> None:
    even = np.full(10, 1.0)
    assert best_way(even, Stakes(2.0, 1.0, 0.0), [OFFER]).mode is Mode.NONE


def test_a_collage_pays_where_misses_are_dear_and_replicas_too() -> None:
    assert best_way(TWO_POINTS, Stakes(2.5, 1.0, 100.0), [OFFER], [2.0]).mode is Mode.COLLAGE


def test_replication_pays_where_a_collage_is_often_wrong() -> None:
    bad = CollageOffer(4, 1.0, 0.5)
    stakes = Stakes(2.5, usd_per_s=0.01, usd_per_miss=100.0, usd_per_wrong=1000.0)
    assert best_way(TWO_POINTS, stakes, [bad], [2.0]).mode is Mode.REPLICATE


def test_a_hedge_pays_where_the_slo_leaves_time_for_it_and_a_pass_is_slow() -> None:
    slow = CollageOffer(4, 5.0, 0.0)
    # Some come between the age and the SLO, which a copy in place of the first throws away.
    latency_s = np.array([1.0] * 8 + [2.4, 5.0])
    assert best_way(latency_s, Stakes(2.5, 1.0, 30.0), [slow], [1.2]).mode is Mode.HEDGE


def test_re_sending_in_place_of_the_first_pays_where_who_is_late_stays_late_for_long() -> None:
    assert best_way(TWO_POINTS, Stakes(3.5, 1.0, 1.0), [], [2.0]).mode is Mode.RESEND


@pytest.mark.parametrize("ratio", [1.0, 2.0, 3.0])
def test_a_longer_pass_never_costs_less(ratio: float) -> None:
    rng = np.random.default_rng(3)
    latency_s = rng.lognormal(-2.0, 0.6, 2000)
    stakes = Stakes(0.6, 1e-3, 1.0, 0.1)
    costs = [
        min(w.cost_usd for w in ways(latency_s, stakes, [CollageOffer(9, r, 0.02)]) if w.mode is Mode.COLLAGE)
        for r in (ratio, ratio + 0.5)
    ]
    assert costs[0] <= costs[1]


def test_a_mode_acts_before_the_slo_or_not_at_all() -> None:
    found = ways(TWO_POINTS, Stakes(1.5, 1.0, 1.0), [OFFER], [1.2, 2.0])
    assert {way.after_s for way in found} == {float("inf"), 1.2, 0.0}


def test_second_worker_makes_a_pass_as_quick_as_the_first_of_two() -> None:
    found = ways(TWO_POINTS, Stakes(3.5, 2.0, 30.0), [OFFER], [2.0])
    one, two = (way for way in found if way.mode is Mode.COLLAGE)
    assert (one.passes, two.passes) == (1, 2)
    assert two.missed == pytest.approx(0.1 * 0.01)
    assert two.by_collage == pytest.approx(0.1 * 0.99)
    waited_s = 2 * (1 + 0.01 * 4 * (1 - 0.9**4) / 0.1 * 0.1) / 4
    assert two.busy_s == pytest.approx(0.9 + 0.1 * (0.99 * 2 + 0.01 * 5) + waited_s, rel=2e-3)


@pytest.mark.parametrize(
    ("latency_s", "stakes", "offer", "expected"),
    [
        (np.array([]), Stakes(1.0, 1.0, 1.0), OFFER, "latency_s: expected one or more numbers > 0"),
        (TWO_POINTS, Stakes(0.0, 1.0, 1.0), OFFER, "slo_s: expected a number > 0, got 0.0"),
        (TWO_POINTS, Stakes(1.0, -1.0, 1.0), OFFER, "usd_per_s: expected a number >= 0, got -1.0"),
        (TWO_POINTS, Stakes(1.0, 1.0, 1.0), CollageOffer(0, 1.0, 0.0), "offers.0.: expected cells >= 1"),
    ],
)
def test_values_outside_what_is_allowed_are_refused(latency_s, stakes, offer, expected) -> None:
    with pytest.raises(InputError, match=expected):
        ways(latency_s, stakes, [offer])
