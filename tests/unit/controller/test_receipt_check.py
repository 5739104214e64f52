"""Predictions are compared with what a journal says happened; every expected number is worked by hand."""

import pytest

from controller.alternatives import Expected, Prediction
from controller.receipt_check import Windows, check_predictions

TICK_S = 10.0


def windows(costs: list[float]) -> Windows:
    """Each window: 10 arrivals, 1 missed, 8 answered at 0.9; the cost as given; 2 queued at its end."""
    count = len(costs)
    return Windows(costs, [10] * count, [1] * count, [8] * count, [7.2] * count, [2] * count)


def predicted(tick: int, cost: float, error: float | None = 0.1, ticks: int = 2, replications: int = 15) -> Prediction:
    expected = Expected(
        name="chosen",
        replicas={},
        cost_usd=cost,
        cost_usd_error=error,
        attainment=0.9,
        attainment_error=0.01,
        accuracy=None,
        accuracy_error=None,
    )
    return Prediction(tick=tick, horizon_s=ticks * TICK_S, replications=replications, expected=(expected,))


def test_realised_counts_the_windows_after_the_tick_and_what_was_queued() -> None:
    found = windows([0.0, 1.0, 2.0, 4.0]).realised(1, 2)
    # Windows 2 and 3 cost 2 + 4; 20 arrived beside 2 that waited, 2 were missed.
    assert found == {"cost_usd": 6.0, "attainment": pytest.approx(1 - 2 / 22), "accuracy": pytest.approx(0.9)}


def test_horizon_beyond_the_journal_is_left_out() -> None:
    assert windows([0.0, 1.0]).realised(0, 2) is None
    assert check_predictions(windows([0.0, 1.0]), [predicted(0, 1.0)], TICK_S) == []


def test_bias_and_share_within_are_of_predictions_that_do_not_overlap() -> None:
    costs = [0.0, 1.0, 1.0, 2.0, 2.0]
    checks = {
        one.metric: one
        for one in check_predictions(windows(costs), [predicted(0, 1.5), predicted(1, 9.0), predicted(2, 3.5)], TICK_S)
    }
    cost = checks["cost_usd"]
    assert (cost.count, cost.apart) == (3, 2)  # tick 1 lies within the horizon of tick 0
    assert cost.predicted == pytest.approx(2.5)
    assert cost.realised == pytest.approx(3.0)  # 2 and 4
    assert cost.bias == pytest.approx(0.5)
    # One run differs by 0.1 sqrt(16) = 0.4 from the mean: two runs together 1.0 / sqrt(0.32).
    assert cost.bias_z == pytest.approx(1.0 / 0.32**0.5)
    assert cost.within == 1.0  # 0.5 is less than 1.96 x 0.4
    assert "accuracy" not in checks  # nobody predicted it


def test_prediction_without_an_error_has_no_interval() -> None:
    (cost, _) = check_predictions(windows([0.0, 1.0, 1.0]), [predicted(0, 1.5, error=None)], TICK_S)
    assert (cost.bias_z, cost.within) == (None, None)
