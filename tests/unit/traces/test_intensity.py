import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.errors import TraceError
from traces.intensity import ArrivalModel, Intensity, intensity_of, sample_arrivals
from traces.trace import Trace


def flat(rate_rps: float, seconds: int, arrivals: ArrivalModel | None = None) -> Intensity:
    """A constant rate in 1-s bins."""
    return Intensity(
        "flat", np.full((1, seconds), rate_rps), 1.0, np.ones(seconds, bool), arrivals=arrivals or ArrivalModel()
    )


def test_without_smoothing_the_rate_is_the_count_over_the_bin() -> None:
    trace = Trace("t", np.array([20, 40, 60]), 10.0)
    assert intensity_of(trace, smooth_s=0.0).rate_rps.tolist() == [[2.0, 4.0, 6.0]]


def test_smoothing_is_a_centred_mean_cut_at_the_ends() -> None:
    trace = Trace("t", np.array([0, 0, 10, 0, 0, 0, 0]), 1.0)
    rate = intensity_of(trace).rate_rps[0]
    # Five-second windows; those of the first two bins are 3 and 4 s long.
    assert np.allclose(rate, [10 / 3, 10 / 4, 2, 2, 2, 0, 0])


@given(
    counts=st.lists(st.integers(0, 100), min_size=4, max_size=30),
    factor=st.sampled_from([0.5, 1.0, 2.0]),
)
@settings(max_examples=40, deadline=None)
def test_regridding_conserves_requests(counts: list[int], factor: float) -> None:
    trace = Trace("t", np.array(counts[: len(counts) // 2 * 2]), 10.0)
    intensity = intensity_of(trace, bin_s=10.0 * factor, smooth_s=0.0)
    assert intensity.cumulative()[0, -1] == pytest.approx(trace.counts.sum())
    assert intensity.duration_s == trace.duration_s


def test_gaps_are_filled_by_a_line_and_stay_marked() -> None:
    valid = np.array([False, True, False, False, True, False])
    trace = Trace("t", np.array([0, 10, 0, 0, 40, 0]), 10.0, valid=valid)
    intensity = intensity_of(trace, smooth_s=0.0)
    assert np.allclose(intensity.rate_rps, [[1.0, 1.0, 2.0, 3.0, 4.0, 4.0]])
    assert intensity.valid.tolist() == valid.tolist()
    # A wider bin is valid when nothing in it is filled in.
    assert intensity_of(trace, bin_s=20.0).valid.tolist() == [False, False, False]
    assert intensity_of(trace, bin_s=5.0).valid.tolist() == np.repeat(valid, 2).tolist()
    assert intensity.mean_rps == pytest.approx(2.5)


def test_rows_become_classes() -> None:
    trace = Trace("t", np.array([[10, 20], [30, 40]]), 10.0, ("a", "b"))
    intensity = intensity_of(trace, smooth_s=0.0)
    assert intensity.row_names == ("a", "b")
    assert intensity.total().rate_rps.tolist() == [[4.0, 6.0]]
    divided = intensity.total().divided({"strict": 0.25, "relaxed": 0.75})
    assert divided.rate_rps.tolist() == [[1.0, 1.5], [3.0, 4.5]]
    with pytest.raises(TraceError, match="sum to 1"):
        intensity.total().divided({"strict": 0.5})


@pytest.mark.parametrize("cv", [1.0, 0.5, 3.0])
def test_arrivals_have_the_rate_and_the_gaps_asked_for(cv: float) -> None:
    model = ArrivalModel() if cv == 1.0 else ArrivalModel("gamma", cv)
    times, rows = sample_arrivals(flat(100.0, 400, model), 0.0, 400.0, seed=7)
    # A renewal process of CV c has a count of variance c^2 n; 40,000 expected, five standard errors.
    assert abs(times.size - 40_000) < 5 * cv * 200
    assert (np.diff(times) >= 0).all()
    assert (rows == 0).all()
    gaps = np.diff(times)
    # The CV's estimate has standard error of about cv^2 / sqrt(n) x a factor below 4 for these laws.
    assert gaps.std() / gaps.mean() == pytest.approx(cv, abs=0.02 * cv * max(1.0, cv))


def test_arrivals_follow_the_rate_through_the_trace() -> None:
    rate = np.repeat([[10.0, 0.0, 90.0]], 100, axis=1).reshape(1, 300)
    intensity = Intensity("steps", np.sort(rate, axis=1), 1.0, np.ones(300, bool))
    times, _ = sample_arrivals(intensity, 0.0, 300.0, seed=3)
    counts = np.histogram(times, bins=[0, 100, 200, 300])[0]
    # Sorted: 100 s at 0, 10 and 90 requests/s; five standard errors of Poisson counts of 1,000 and 9,000.
    assert counts[0] == 0
    assert abs(counts[1] - 1_000) < 5 * 32
    assert abs(counts[2] - 9_000) < 5 * 95


def test_a_class_keeps_its_requests_when_another_is_added() -> None:
    one = flat(5.0, 100)
    two = Intensity("two", np.vstack([one.rate_rps, 3 * one.rate_rps]), 1.0, one.valid, ("a", "b"))
    alone, _ = sample_arrivals(one, 10.0, 90.0, seed=11)
    times, rows = sample_arrivals(two, 10.0, 90.0, seed=11)
    assert np.array_equal(times[rows == 0], alone)
    assert times.min() >= 10.0
    assert times.max() < 90.0
    assert not np.array_equal(sample_arrivals(one, 10.0, 90.0, seed=12)[0], alone)


def test_no_rate_gives_no_request() -> None:
    times, rows = sample_arrivals(flat(0.0, 10), 0.0, 10.0, seed=1)
    assert times.size == rows.size == 0


def test_slices_scale_and_refusals() -> None:
    intensity = flat(2.0, 100).scaled(3.0).slice_time(10.0, 30.0)
    assert (intensity.duration_s, intensity.mean_rps) == (20.0, 6.0)
    with pytest.raises(TraceError, match="span inside 0..20 s"):
        sample_arrivals(intensity, 0.0, 21.0, seed=1)
    with pytest.raises(TraceError, match="arrivals.cv: expected a number > 0"):
        ArrivalModel("gamma", 0.0)
    with pytest.raises(TraceError, match="use gamma"):
        ArrivalModel("poisson", 2.0)
    with pytest.raises(TraceError, match="bin_s: expected a number in"):
        intensity_of(Trace("t", np.arange(3), 1.0), bin_s=4.0)
