import gzip
from pathlib import Path

import numpy as np
import pytest

from controller.errors import TraceError
from traces import tabular
from traces.readers import read_trace


def written(tmp_path: Path, text: str, name: str = "t.csv") -> Path:
    path = tmp_path / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def test_binned_counts_with_a_gap_are_marked_invalid(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, "t_s,count\n0,5\n10,6\n30,7\n"))
    assert trace.counts.tolist() == [[5, 6, 0, 7]]
    assert trace.mask.tolist() == [True, True, False, True]
    assert (trace.bin_seconds, trace.counts.dtype, trace.row_names) == (10.0, np.int64, ("count",))


def test_numeric_columns_on_an_even_grid_are_rows(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, "t_s,web,api\n0,1,2\n60,3,4\n120,5,6\n"))
    assert trace.row_names == ("web", "api")
    assert trace.counts.tolist() == [[1, 3, 5], [2, 4, 6]]


def test_kind_overrides_what_the_lines_look_like(tmp_path: Path) -> None:
    path = written(tmp_path, "t_s,size\n0,9\n1,9\n2,9\n")
    assert read_trace(path).counts.tolist() == [[9, 9, 9]]
    assert read_trace(path, kind="log").counts.tolist() == [[1, 1, 1]]


def test_log_counts_requests_by_class(tmp_path: Path) -> None:
    text = "t_s,class\n0.5,strict\n0.9,relaxed\n2.0,strict\n2.1,strict\n"
    trace = read_trace(written(tmp_path, text, "t.csv.gz"))
    assert trace.row_names == ("strict", "relaxed")
    assert trace.counts.tolist() == [[1, 0, 2], [1, 0, 0]]
    assert read_trace(written(tmp_path, text), bin_seconds=2.0).counts.tolist() == [[1, 2], [1, 0]]


def test_log_with_other_columns_is_a_log(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, "t_s,tokens\n0.0,374\n4.3,396\n4.5,879\n"))
    assert trace.counts.tolist() == [[1, 0, 0, 0, 2]]


def test_log_is_counted_alike_in_any_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    times = np.sort(rng.uniform(0, 5_000, 400))
    lines = [f"{t!r},{c}" for t, c in zip(times.tolist(), rng.choice(["a", "b", "c"], 400), strict=True)]
    path = written(tmp_path, "t_s,class\n" + "\n".join(lines) + "\n")
    whole = read_trace(path)
    monkeypatch.setattr(tabular, "_CHUNK_LINES", 7)
    monkeypatch.setattr(tabular, "_PROBE_LINES", 3)
    parts = read_trace(path)
    assert whole.row_names == parts.row_names
    assert np.array_equal(whole.counts, parts.counts)
    assert whole.counts.sum() == 400


def test_iso_times_count_from_the_first_and_name_the_start(tmp_path: Path) -> None:
    text = "timestamp\n2024-05-01T10:00:01Z\n2024-05-01T12:00:01+02:00\n2024-05-01T10:00:03.5Z\n"
    trace = read_trace(written(tmp_path, text))
    assert trace.counts.tolist() == [[2, 0, 1]]
    assert trace.start == "2024-05-01T10:00:01+00:00"


def test_epochs_count_from_the_first_and_seconds_from_zero(tmp_path: Path) -> None:
    assert read_trace(written(tmp_path, "t_s\n1700000000\n1700000002\n")).counts.tolist() == [[1, 0, 1]]
    assert read_trace(written(tmp_path, "t_s\n2\n3\n")).counts.tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("t_s,count\n0,5\n10,nan\n", "line 3, count: expected a finite count >= 0, got 'nan'"),
        ("t_s,count\n0,5\n10,-1\n", "line 3, count: expected a finite count >= 0, got '-1'"),
        ("t_s,count\n0,5\n10,\n", "line 3, count: expected a finite count >= 0, got ''"),
        ("t_s,count\n0,5\n20,6\n10,7\n", "line 4, t_s: expected a time after 20, got 10.0"),
        ("t_s,count\n0,5\n10,6\n25,7\n", "line 4, t_s: expected a multiple of the bin width 10 s"),
        ("t_s,count\n0,5\n", "at least two bins"),
        ("t_s,count\n0,5\n10\n", "line 3: expected 2 cells as in the header, got '1 cells'"),
        ("t_s,count\n", "at least one line under the header"),
        ("", "expected a header and at least one line, got an empty file"),
        ("when,count\n0,5\n", "line 1: expected a time column"),
        ("t_s\n5\n4\n", "line 3, t_s: expected times in rising order, got '4'"),
        ("t_s\n5\ninf\ninf\n", "line 3, t_s: expected finite seconds"),
        ("t_s\n5\nnan\n", "line 3, t_s: expected finite seconds"),
        ("t_s\n-5\n4\n", "line 2, t_s: expected a time >= 0, got -5.0"),
        ("t_s\n2024-05-01T10:00:00Z\nyesterday\n", "line 3, t_s: expected an ISO 8601 time, got 'yesterday'"),
        ("t_s,class\n0,a\n1e8,a\n", "are the times in seconds?"),
    ],
)
def test_wrong_lines_are_named_with_what_was_expected(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(TraceError) as caught:
        read_trace(written(tmp_path, text))
    assert named in str(caught.value)
    assert "t.csv" in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path: Path) -> None:
    assert read_trace(written(tmp_path, "\ufefft_s,count\n0,5\n10,6\n")).counts.tolist() == [[5, 6]]


def test_truncated_gzip_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    text = "t_s\n" + "\n".join(map(str, np.sort(rng.uniform(0, 1e4, 3_000)))) + "\n"
    path = written(tmp_path, text, "t.csv.gz")
    path.write_bytes(path.read_bytes()[:9_000])
    with pytest.raises(TraceError, match="t.csv.gz: expected a complete gzip file"):
        read_trace(path)
    path.write_bytes(b"plain text")
    with pytest.raises(TraceError, match="t.csv.gz: expected a complete gzip file"):
        read_trace(path)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"t_s\n\xff\xfe\x00\n")
    with pytest.raises(TraceError, match="t.csv: expected text"):
        read_trace(path)
