"""What a simulator is fed is checked where it is made, and gaps have the variation they were asked for."""

import numpy as np
import pytest

from controller.errors import ScenarioError
from envs.supply import Supply

RATE = np.full((1, 6), 2.0)
SHARE = np.ones((2, 6))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate_rps": np.zeros(5)}, r"supply\.rate_rps: expected shape \(R, bins\)"),
        ({"rate_rps": np.zeros((1, 0))}, r"supply\.rate_rps: expected shape \(R, bins\)"),
        ({"rate_rps": np.array([[1.0, -0.1]])}, r"supply\.rate_rps: expected finite rates >= 0"),
        ({"rate_rps": np.array([[1.0, np.nan]])}, r"supply\.rate_rps: expected finite rates >= 0"),
        ({"spot_share": np.full((2, 3), 1.01)}, r"supply\.spot_share: .* values in 0\.\.1"),
        ({"spot_share": np.ones(3)}, r"supply\.spot_share: expected shape \(Z, ticks\)"),
        ({"rate_bin_s": 0.0}, r"supply\.rate_bin_s: expected a value above 0, got 0"),
        ({"spot_bin_s": -1.0}, r"supply\.spot_bin_s: expected a value above 0, got -1"),
        ({"gap_cv": 0.0}, r"supply\.gap_cv: expected a value above 0, got 0"),
    ],
)
def test_wrong_supply_names_field_and_expectation(changes: dict[str, object], message: str) -> None:
    given = {"rate_rps": RATE, "rate_bin_s": 10.0, "spot_share": SHARE, "spot_bin_s": 60.0, **changes}
    with pytest.raises(ScenarioError, match=message):
        Supply(**given)  # type: ignore[arg-type]


def test_no_zones_are_fine() -> None:
    assert Supply(RATE, 10.0, np.ones((0, 0)), 60.0).spot_share.size == 0


@pytest.mark.parametrize("cv", [0.01, 0.3, 0.7, 2.0])
def test_gap_table_has_mean_one_and_its_variation(cv: float) -> None:
    table = Supply(RATE, 10.0, SHARE, 60.0, gap_cv=cv).gap_table()
    low, high = table[:-1], table[1:]
    # Linear between quantiles: mean and second moment of each cell are those of a uniform on it.
    mean, square = np.mean((low + high) / 2), np.mean((low * low + low * high + high * high) / 3)
    assert mean == pytest.approx(1.0)
    assert np.sqrt(square - mean**2) == pytest.approx(cv, rel=0.03)
    assert (np.diff(table) >= 0).all()


def test_poisson_needs_no_table() -> None:
    np.testing.assert_array_equal(Supply(RATE, 10.0, SHARE, 60.0).gap_table(), 1.0)
