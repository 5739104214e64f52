import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.errors import TraceError
from traces.trace import DAY_S, Trace

QUARTER_S = DAY_S / 4


def quarters(*counts: float) -> Trace:
    """A trace of six-hour bins."""
    return Trace("q", np.array(counts), QUARTER_S)


def test_one_dimension_becomes_one_row_and_cannot_be_written() -> None:
    source = np.array([1, 2, 3])
    trace = Trace("t", source, 1.0)
    assert trace.counts.shape == (1, 3)
    assert trace.row_names == ("0",)
    source[0] = 99
    assert trace.counts[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        trace.counts[0, 0] = 5


@pytest.mark.parametrize(
    ("counts", "named"),
    [
        (np.array([1.0, np.nan]), "counts[0, 1]"),
        (np.array([[1, 2], [3, -4]]), "counts[1, 1]: expected a finite number >= 0, got -4"),
        (np.array([]), "not empty"),
        (np.zeros((2, 2, 2)), "rows x bins"),
        (np.array(["a"]), "expected numbers"),
        (np.array([np.inf]), "counts[0, 0]"),
    ],
)
def test_counts_that_are_none_are_refused_by_cell(counts: np.ndarray, named: str) -> None:
    with pytest.raises(TraceError) as caught:
        Trace("t", counts, 1.0)
    assert named in str(caught.value)
    assert caught.value.exit_code == 2


def test_lengths_that_do_not_agree_are_refused() -> None:
    with pytest.raises(TraceError, match=r"valid: expected one flag per bin, shape \(3,\)"):
        Trace("t", np.arange(3), 1.0, valid=np.ones(2, bool))
    with pytest.raises(TraceError, match="row_names: expected 2 different names"):
        Trace("t", np.ones((2, 3)), 1.0, row_names=("a", "a"))
    with pytest.raises(TraceError, match="bin_seconds: expected a number > 0, got 0"):
        Trace("t", np.arange(3), 0.0)
    with pytest.raises(TraceError, match="at least one recorded bin"):
        Trace("t", np.arange(3), 1.0, valid=np.zeros(3, bool))


def test_mean_is_over_recorded_bins_only() -> None:
    trace = Trace("t", np.array([10, 0, 30]), 10.0, valid=np.array([True, False, True]))
    # (10 + 30) requests in two bins of 10 s.
    assert trace.mean_rps == 2.0


def test_days_are_one_based_with_both_ends_included() -> None:
    trace = quarters(1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 9)
    assert trace.days == 3
    part = trace.slice_days(2, 3)
    assert part.counts.tolist() == [[2, 2, 2, 2, 3, 3, 3, 3]]
    assert part.offset_s == DAY_S
    assert part.slice_days(2, 2).offset_s == 2 * DAY_S


@pytest.mark.parametrize(("first", "last"), [(0, 1), (2, 1), (1, 4)])
def test_days_outside_the_trace_are_refused(first: int, last: int) -> None:
    with pytest.raises(TraceError, match=r"FIRST:LAST within 1:3 \(whole days\)"):
        quarters(*range(13)).slice_days(first, last)


@given(
    counts=st.lists(st.integers(0, 50), min_size=2, max_size=40),
    cuts=st.sets(st.integers(1, 39), max_size=4),
)
@settings(max_examples=50, deadline=None)
def test_splitting_loses_and_repeats_nothing(counts: list[int], cuts: set[int]) -> None:
    trace = Trace("t", np.array(counts), 2.0)
    inside = sorted(cut for cut in cuts if cut < len(counts))
    parts = trace.split_time(*[2.0 * cut for cut in inside])
    assert len(parts) == len(inside) + 1
    assert np.concatenate([part.counts[0] for part in parts]).tolist() == counts
    assert [part.offset_s for part in parts] == [0.0, *[2.0 * cut for cut in inside]]


def test_cuts_must_rise_inside_the_trace() -> None:
    with pytest.raises(TraceError, match="cuts: expected increasing times"):
        quarters(1, 2, 3).split_time(QUARTER_S, QUARTER_S)


def test_row_is_picked_by_name_before_number() -> None:
    trace = Trace("t", np.array([[1, 1], [2, 2]]), 1.0, row_names=("1", "b"))
    assert trace.row("1").counts.tolist() == [[1, 1]]
    assert trace.row("b").counts.tolist() == [[2, 2]]
    assert trace.row(0).counts.tolist() == [[1, 1]]
    with pytest.raises(TraceError, match=r"row: expected 0..1 or one of 1, b, got 'z'"):
        trace.row("z")


def test_sum_weighs_rows_equally_and_keeps_the_mean() -> None:
    trace = Trace("t", np.array([[0, 2], [20, 0], [0, 0]]), 1.0)
    # Busy rows have means 1 and 10, so each is brought to 11 / 2: weights 5.5 and 0.55, the silent row left out.
    assert np.allclose(trace.summed().counts, [[11.0, 11.0]])
    assert trace.summed().mean_rps == pytest.approx(trace.mean_rps)
    assert trace.summed(equal_mean=False).counts.tolist() == [[20, 2]]


def test_sum_takes_row_means_from_the_training_part() -> None:
    trace = Trace("t", np.array([[1, 1, 100, 100], [3, 3, 1, 1]]), QUARTER_S)
    training = trace.slice_time(0, 2 * QUARTER_S)
    # Training means 1 and 3, so weights 2 and 2/3.
    assert np.allclose(trace.summed(training_part=training).counts, [[4, 4, 200 + 2 / 3, 200 + 2 / 3]])


@given(later=st.lists(st.integers(0, 1000), min_size=2, max_size=2))
@settings(max_examples=25, deadline=None)
def test_scale_is_one_constant_from_the_training_part_only(later: list[int]) -> None:
    trace = Trace("t", np.array([10, 30, *later]), 10.0)
    scaled = trace.scale_to_mean(6.0, trace.slice_time(0, 20))
    # Training mean is 2 requests/s, so the constant is 3 whatever comes later.
    assert scaled.meta["scale"] == 3.0
    assert np.allclose(scaled.counts[0], 3 * trace.counts[0])
    assert scaled.counts.dtype == np.float64


def test_scales_that_are_none_are_refused() -> None:
    with pytest.raises(TraceError, match="mean of 0"):
        quarters(0, 0).scale_to_mean(5.0)
    with pytest.raises(TraceError, match="scale: expected a number > 0"):
        quarters(1, 1).scaled(-1.0)


@given(keep=st.floats(0.05, 0.95), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_thinning_conserves_the_mean_in_whole_counts(keep: float, seed: int) -> None:
    trace = Trace("t", np.full(2000, 50), 1.0)
    thin = trace.thin(keep, seed)
    assert thin.counts.dtype == np.int64
    assert (thin.counts <= trace.counts).all()
    total = 100_000
    # Binomial: five standard errors fail once in about two million draws.
    assert abs(thin.counts.sum() - keep * total) < 5 * np.sqrt(total * keep * (1 - keep))
    assert np.array_equal(thin.counts, trace.thin(keep, seed).counts)


def test_thinning_refuses_rates_and_bad_probabilities() -> None:
    with pytest.raises(TraceError, match="thin before scaling"):
        quarters(1, 2).scaled(0.5).thin(0.5, 0)
    with pytest.raises(TraceError, match=r"keep: expected a probability in \(0, 1\], got 1.5"):
        quarters(1, 2).thin(1.5, 0)


def test_valid_windows_touch_no_gap() -> None:
    valid = np.array([True, True, False, True, True, True])
    trace = Trace("t", np.ones(6), 10.0, valid=valid)
    assert trace.valid_windows(20.0).tolist() == [0, 3, 4]
    assert trace.valid_windows(15.0, stride_s=30.0).tolist() == [0, 3]
    assert trace.valid_windows(40.0).tolist() == []


def test_rate_of_a_window_is_over_its_recorded_bins() -> None:
    valid = np.array([True, False, False, False, True, True, True])
    trace = Trace("t", np.array([4, 9, 9, 9, 2, 4, 8]), 2.0, valid=valid)
    rates = trace.rate_rps(4.0)[0]
    # Windows: {4 in one bin of 2 s}, {nothing recorded}, {2 + 4 in two bins}; the last bin is a trailing part.
    assert rates[0] == 2.0
    assert np.isnan(rates[1])
    assert rates[2] == 1.5
    assert rates.shape == (3,)


def test_wider_bins_add_counts_and_are_valid_when_whole() -> None:
    trace = Trace("t", np.array([1, 2, 3, 4, 5]), 1.0, valid=np.array([True, True, True, False, True]))
    wide = trace.rebinned(2.0)
    assert wide.counts.tolist() == [[3, 7]]
    assert wide.mask.tolist() == [True, False]
    with pytest.raises(TraceError, match="bin_seconds: expected a multiple of 1"):
        trace.rebinned(1.5)


def test_fingerprint_follows_content_not_name() -> None:
    first = Trace("a", np.array([1, 2]), 1.0)
    assert first.fingerprint() == Trace("b", np.array([1, 2]), 1.0).fingerprint()
    assert first.fingerprint() != Trace("a", np.array([1, 3]), 1.0).fingerprint()
    assert first.fingerprint() != Trace("a", np.array([1, 2]), 1.0, valid=np.array([True, False])).fingerprint()
