"""A sweep of two lines becomes a grid by factors, worked by hand."""

import numpy as np
import pytest

from experiments.frontier import Sweep
from experiments.separable import separated


def test_points_off_the_lines_have_the_factors_of_both() -> None:
    nothing = -1.0
    shape = (2, 2, 1, 1)
    answered = np.array([[90.5, 90.5], [99.5, nothing]]).reshape(shape)
    found = separated(
        Sweep(
            cost_usd=np.array([[10.0, 12.0], [15.0, nothing]])[..., None],
            requests=np.full(shape, 100.0),
            missed=np.array([[19.5, 9.5], [3.5, nothing]]).reshape(shape),
            answered=answered,
            accuracy_sum=answered * np.array([[0.8, 0.85], [0.81, nothing]]).reshape(shape),
        ),
        (0, 0),
    )
    assert found.cost_usd[..., 0].tolist() == [[10.0, 12.0], [15.0, pytest.approx(18.0)]]
    # With half a request added: 10 / 20 of 4 is 2.
    assert found.missed[1, 1, 0, 0] == pytest.approx(1.5)
    assert found.answered[1, 1, 0, 0] == pytest.approx(99.5)
    assert found.accuracy_sum[1, 1, 0, 0] / found.answered[1, 1, 0, 0] == pytest.approx(0.86)
    assert (found.missed[0] == [[[19.5]], [[9.5]]]).all()


def test_own_point_may_lie_anywhere_and_counts_stay_within_requests() -> None:
    counts = np.array([[0.0, 900.0, 0.0], [40.0, 500.0, 800.0], [0.0, 990.0, 0.0]]).reshape(3, 3, 1, 1)
    requests = np.full(counts.shape, 1000.0)
    found = separated(Sweep(np.ones((3, 3, 1)), requests, counts, requests - counts, requests - counts), (1, 1))
    assert found.missed[1].ravel().tolist() == [40.0, 500.0, 800.0]
    assert found.missed[:, 1].ravel().tolist() == [900.0, 500.0, 990.0]
    assert found.missed.max() == 1000.0
    assert (found.accuracy_sum <= found.answered).all()
