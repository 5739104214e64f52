"""What a run was asked for comes back from its journal as a trace, on the journal's clock and in control time."""

from pathlib import Path

import numpy as np
import pytest

from controller.arrays import empty_actions, empty_observation, empty_plan
from controller.errors import TraceError
from controller.journal import Journal
from controller.journal_writer import JournalWriter
from controller.measurements import ArrivalBins, WindowMeasurements
from controller.replay import make_header
from tests.tiny import tiny_setting
from traces.capture import read_capture
from traces.readers import read_trace, write_npz

SPEED = 20.0
BIN_S = 0.05
"""Tenth of a tick of half a live second."""


def journal_of(path: Path, windows: list, kind: str = "live", speed: float = SPEED, **changes) -> Journal:
    """Windows are (arrivals by class, what was read of the router)."""
    setting = tiny_setting(speed=speed, **changes)
    with JournalWriter(path, make_header(setting, "mpc", "mpc", (), kind)) as journal:
        for tick, (arrivals, measured) in enumerate([((0, 0), None), *windows]):
            seen = empty_observation(1, setting.shape)
            seen.tick[0], seen.arrivals[0] = tick, arrivals
            rest = empty_plan(1, setting.shape), empty_actions(1, setting.shape), np.zeros((1, 2, 3, 4))
            journal.write(seen, np.zeros((1, 0)), *rest, measured=measured)
    return Journal(path)


def read(end: int, *bins: tuple[int, ...], lost: int = 0) -> WindowMeasurements:
    return WindowMeasurements(arrivals=ArrivalBins(BIN_S, end, lost, bins))


def test_bins_lie_where_the_journals_clock_has_them(tmp_path: Path) -> None:
    # The router had run for 100 bins when the first window began.
    windows = [((3, 0), read(110, (100, 1, 0), (109, 2, 0))), ((0, 4), read(120, (112, 0, 4)))]
    capture = read_capture(journal_of(tmp_path / "j.jsonl", windows))
    assert capture.is_fine
    assert (capture.trace.num_bins, capture.trace.row_names) == (20, ("strict", "relaxed"))
    assert np.argwhere(capture.trace.counts).tolist() == [[0, 0], [0, 9], [1, 12]]
    assert capture.trace.counts.sum() == 7
    assert capture.trace.mask.all()


def test_bin_that_is_told_of_a_reading_later_lies_where_it_was(tmp_path: Path) -> None:
    windows = [((1, 0), read(10)), ((0, 0), read(20, (8, 1, 0)))]
    capture = read_capture(journal_of(tmp_path / "j.jsonl", windows))
    assert np.argwhere(capture.trace.counts).tolist() == [[0, 8]]


def test_trace_is_in_control_time_and_its_factor_brings_the_live_rate_back(tmp_path: Path) -> None:
    windows = [((10, 0), read(10, *((n, 1, 0) for n in range(10)))), ((0, 0), read(20))]
    capture = read_capture(journal_of(tmp_path / "j.jsonl", windows))
    assert capture.trace.bin_seconds == pytest.approx(1.0)  # 0.05 live seconds at speed 20
    # Ten requests in one live second.
    assert capture.trace.mean_rps * capture.rate_factor == pytest.approx(10.0)


def test_router_that_starts_anew_is_placed_by_the_journals_clock(tmp_path: Path) -> None:
    windows = [((1, 0), read(1010, (1005, 1, 0))), ((0, 0), None), ((2, 0), read(4, (2, 2, 0)))]
    capture = read_capture(journal_of(tmp_path / "j.jsonl", windows))
    assert np.argwhere(capture.trace.counts).tolist() == [[0, 5], [0, 28]]
    # Of the window that could not be read, nothing is known.
    assert capture.trace.mask.tolist() == [True] * 10 + [False] * 10 + [True] * 10


def test_forgotten_bins_are_marked(tmp_path: Path) -> None:
    windows = [((1, 0), read(10, (5, 1, 0))), ((1, 0), read(20, (15, 1, 0), lost=3)), ((1, 0), read(30, (25, 1, 0)))]
    capture = read_capture(journal_of(tmp_path / "j.jsonl", windows))
    assert capture.trace.mask.tolist() == [True] * 10 + [False] * 10 + [True] * 10


def test_simulated_journal_has_the_counts_of_its_ticks(tmp_path: Path) -> None:
    windows = [((3, 1), None), ((0, 2), None)]
    capture = read_capture(journal_of(tmp_path / "j.jsonl", windows, "simulated", speed=1.0))
    assert not capture.is_fine
    assert capture.trace.counts.tolist() == [[3, 0], [1, 2]]
    assert capture.trace.bin_seconds == 10.0
    assert capture.trace.mask.all()


def test_captured_trace_is_a_trace_file_like_any_other(tmp_path: Path) -> None:
    windows = [((3, 1), None), ((0, 2), None)]
    capture = read_capture(journal_of(tmp_path / "j.jsonl", windows, "simulated", speed=1.0))
    again = read_trace(write_npz(capture.trace, tmp_path / "captured.npz"))
    assert again.fingerprint() == capture.trace.fingerprint()


def test_journal_without_requests_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="expected requests, got none in 1 windows"):
        read_capture(journal_of(tmp_path / "j.jsonl", [((0, 0), None)]))
    with pytest.raises(TraceError, match="expected at least one window of arrivals, got none"):
        read_capture(journal_of(tmp_path / "k.jsonl", []))
