import json
from pathlib import Path

import numpy as np
import pytest

from controller.errors import TraceError
from traces.describe import describe, plot
from traces.trace import Trace


def test_statistics_of_a_hand_made_trace() -> None:
    # Three hours of minutes at 60 requests, with ten minutes at 240 in the middle: rates 1 and 4 /s.
    counts = np.full(180, 60)
    counts[85:95] = 240
    found = describe(Trace("t", counts, 60.0))
    assert found.mean_rps == pytest.approx((170 * 1 + 10 * 4) / 180)
    assert (found.median_rps, found.peak_rps, found.peak_to_median) == (1.0, 4.0, 4.0)
    assert found.peak_to_mean == pytest.approx(4 / (210 / 180))
    assert found.burst_minutes_share == pytest.approx(10 / 180)
    assert found.burst_requests_share == pytest.approx(40 / 210)
    assert (found.days, found.requests, found.dispersion) == (0, 170 * 60 + 10 * 240, None)


def test_dispersion_of_a_regular_second_pattern() -> None:
    # 0, 2, 0, 2, ...: mean 1, and sixty squared deviations of 1 over 59.
    found = describe(Trace("t", np.tile([0, 2], 90), 1.0))
    assert found.dispersion == pytest.approx(60 / 59)


def test_autocorrelation_of_a_period_is_one_at_it_and_minus_one_at_half() -> None:
    found = describe(Trace("t", np.tile(np.repeat([10, 30], 10), 20), 60.0))
    assert found.autocorrelation["600"] == pytest.approx(-1.0)
    assert describe(Trace("t", np.tile(np.repeat([10, 30], 30), 5), 60.0)).autocorrelation["3600"] == pytest.approx(1.0)


def test_gaps_are_counted_and_left_out() -> None:
    valid = np.ones(600, bool)
    valid[100:130] = valid[300:305] = False
    counts = np.where(valid, 5, 0)
    found = describe(Trace("t", counts, 1.0, valid=valid))
    assert (found.gaps, found.gap_share, found.mean_rps) == (2, 35 / 600, 5.0)
    assert [(gap.begin_s, gap.length_s) for gap in found.longest_gaps] == [(100.0, 30.0), (300.0, 5.0)]


def test_rows_are_listed_busiest_first() -> None:
    found = describe(Trace("t", np.array([[1, 1], [5, 5]]), 60.0, ("small", "large")))
    assert list(found.row_mean_rps) == ["large", "small"]
    assert found.mean_rps == pytest.approx(0.1)
    assert "large: 0.08333 /s" in found.as_text()


@pytest.mark.parametrize("counts", [np.array([3]), np.zeros(200, int), np.arange(61)])
def test_short_and_silent_traces_are_described_too(counts: np.ndarray) -> None:
    found = describe(Trace("t", counts, 1.0))
    assert json.loads(found.as_json())["bins"] == counts.size
    assert "peak/mean" in found.as_text()


def test_plot_is_a_png(tmp_path: Path) -> None:
    valid = np.ones(600, bool)
    valid[100:200] = False
    trace = Trace("t", np.arange(600), 1.0, valid=valid)
    assert plot(trace, tmp_path / "t.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(TraceError, match="plot: expected a name that ends in .png"):
        plot(trace, tmp_path / "t.jpg")
    with pytest.raises(TraceError, match="expected an existing directory"):
        plot(trace, tmp_path / "none" / "t.png")
