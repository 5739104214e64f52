import gzip
from pathlib import Path

import numpy as np
import pytest

from controller.errors import TraceError
from traces.readers import read_trace, split_spec, write_npz
from traces.trace import Trace


def test_npz_keeps_counts_mask_rows_and_start(tmp_path: Path) -> None:
    valid = np.array([True, False, True])
    trace = Trace("f", np.array([[1, 0, 3], [4, 0, 6]]), 60.0, ("a", "b"), valid, "day 1", "public source")
    back = read_trace(write_npz(trace, tmp_path / "f.npz"))
    assert back.counts.tolist() == trace.counts.tolist()
    assert back.counts.dtype == np.int64
    assert back.mask.tolist() == valid.tolist()
    assert (back.name, back.row_names, back.bin_seconds, back.start) == ("f", ("a", "b"), 60.0, "day 1")
    assert back.source == "public source"


def test_row_is_picked_after_a_colon(tmp_path: Path) -> None:
    write_npz(Trace("f", np.array([[1, 1], [2, 2]]), 1.0, ("a", "b")), tmp_path / "f.npz")
    assert read_trace(f"{tmp_path / 'f.npz'}:b").counts.tolist() == [[2, 2]]
    assert read_trace(f"{tmp_path / 'f.npz'}:0").row_names == ("a",)
    with pytest.raises(TraceError, match="row: expected 0..1 or one of a, b, got '7'"):
        read_trace(f"{tmp_path / 'f.npz'}:7")


def test_a_file_name_with_a_colon_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a:b.txt"
    path.write_text("1\n2\n")
    assert split_spec(path) == (path, None)
    assert read_trace(path).counts.tolist() == [[1, 2]]


def test_client_rates_become_counts_with_holes_marked(tmp_path: Path) -> None:
    path = tmp_path / "clients.npz"
    rate = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 3.0]], np.float32)
    cv = np.array([[2.0, np.nan, 0.0], [0.0, np.nan, 4.0]], np.float32)
    np.savez(path, client=np.array([7, 9]), bin_seconds=600.0, rate=rate, cv=cv)
    trace = read_trace(path)
    assert trace.row_names == ("7", "9")
    assert trace.counts.tolist() == [[600, 0, 0], [0, 0, 1800]]
    assert trace.mask.tolist() == [True, False, True]
    # Weighed by rate: (1 x 2 + 3 x 4) / 4.
    assert trace.meta["cv"] == pytest.approx(3.5)
    assert trace.meta["row_cv"].tolist() == [2.0, 4.0]


def test_damaged_npz_is_named(tmp_path: Path) -> None:
    whole = write_npz(Trace("f", np.arange(5000) % 97, 1.0), tmp_path / "f.npz").read_bytes()
    for name, content in {"cut.npz": whole[: len(whole) // 2], "text.npz": b"not an archive", "empty.npz": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TraceError, match=f"{name}: expected an npz archive of plain arrays"):
            read_trace(tmp_path / name)


def test_pickled_arrays_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", counts=np.array([{"a": 1}], dtype=object), bin_seconds=1.0)
    with pytest.raises(TraceError, match="expected an npz archive of plain arrays"):
        read_trace(tmp_path / "p.npz")


def test_npz_fields_that_are_missing_or_wrong_are_named(tmp_path: Path) -> None:
    path = tmp_path / "f.npz"
    np.savez(path, counts=np.arange(3))
    with pytest.raises(TraceError, match="expected a number `bin_seconds`"):
        read_trace(path)
    np.savez(path, other=np.arange(3), bin_seconds=1.0)
    with pytest.raises(TraceError, match="expected an array `counts` or `rate`"):
        read_trace(path)
    np.savez(path, counts=np.arange(9), bin_seconds=1.0, valid=np.array([255], np.uint8), n_valid_bits=8)
    with pytest.raises(TraceError, match="valid: expected 9 packed bits"):
        read_trace(path)
    np.savez(path, counts=np.array([1.0, np.nan]), bin_seconds=1.0)
    with pytest.raises(TraceError, match=r"counts\[0, 1\]: expected a finite number >= 0, got nan"):
        read_trace(path)


def test_missing_and_unknown_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="nothing.npz: no such file"):
        read_trace(tmp_path / "nothing.npz")
    (tmp_path / "t.parquet").write_text("")
    with pytest.raises(TraceError, match="name ending in one of .npz, .csv"):
        read_trace(tmp_path / "t.parquet")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(TraceError, match="expected a file, got a directory"):
        read_trace(tmp_path / "d.csv")


def test_text_of_counts_is_read_line_by_line(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "c.txt.gz", "wt") as stream:
        stream.write("3\n\n4\n")
    trace = read_trace(tmp_path / "c.txt.gz", bin_seconds=5.0)
    assert (trace.counts.tolist(), trace.bin_seconds, trace.name) == ([[3, 4]], 5.0, "c")
    (tmp_path / "c.txt").write_text("3\nx\n")
    with pytest.raises(TraceError, match="c.txt, line 2: expected a count >= 0, got 'x'"):
        read_trace(tmp_path / "c.txt")


def test_traces_are_written_to_npz_in_existing_directories_only(tmp_path: Path) -> None:
    trace = Trace("t", np.arange(3), 1.0)
    with pytest.raises(TraceError, match="out: expected a name that ends in .npz"):
        write_npz(trace, tmp_path / "t.csv")
    with pytest.raises(TraceError, match="expected an existing directory"):
        write_npz(trace, tmp_path / "no" / "t.npz")
    (tmp_path / "taken.npz").mkdir()
    with pytest.raises(TraceError, match="taken.npz: cannot be written"):
        write_npz(trace, tmp_path / "taken.npz")


@pytest.mark.data
def test_twitter_trace_has_17_days_and_its_evenings_missing(data_dir: Path) -> None:
    trace = read_trace(data_dir / "requests/twitter_2021_08/counts_1s_day01-17.npz")
    assert (trace.days, trace.num_rows, trace.bin_seconds) == (17, 1, 1.0)
    # Its notes: every day lacks 23:31-24:00, and the mean over recorded seconds is 64.9 /s.
    assert not trace.mask.reshape(17, 86_400)[:, 86_400 - 1_700 :].any()
    assert trace.mean_rps == pytest.approx(64.9, abs=0.05)
    assert trace.slice_days(14, 17).offset_s == 13 * 86_400


@pytest.mark.data
def test_azure_functions_sum_to_one_row_of_equal_weights(data_dir: Path) -> None:
    trace = read_trace(data_dir / "requests/azure_functions_2019/counts_60s_8func_day01-14.npz")
    assert (trace.days, trace.num_rows) == (14, 8)
    total = trace.summed(training_part=trace.slice_days(1, 9))
    assert total.num_rows == 1
    assert total.slice_days(1, 9).mean_rps == pytest.approx(trace.slice_days(1, 9).mean_rps)
    # One function has 92 % of requests; at equal mean the timers of the others lift the peak far above its 2.2.
    assert total.counts.max() / total.counts.mean() > 5


@pytest.mark.data
def test_azure_conversation_log_is_counted_per_second(data_dir: Path) -> None:
    trace = read_trace(data_dir / "requests/azure_llm_2023/requests_conv.csv.gz")
    assert trace.counts.sum() == 19_366
    assert trace.num_rows == 1
    # 5.5 /s over an hour, by its notes.
    assert trace.mean_rps == pytest.approx(5.5, abs=0.05)


@pytest.mark.data
@pytest.mark.parametrize("name", ["m-small", "m-mid", "m-large", "mm-image"])
def test_servegen_clients_are_read_with_their_holes(data_dir: Path, name: str) -> None:
    trace = read_trace(data_dir / f"requests/servegen/{name}.npz")
    assert trace.bin_seconds == 600.0
    # Its notes: holes are 1.8 % of bins in m-small, 4.2 % in m-mid; rate-weighted CV 2.2-12.
    assert (~trace.mask).mean() == pytest.approx({"m-small": 0.018, "m-mid": 0.042}.get(name, 0.0), abs=0.001)
    assert 2.2 <= round(trace.meta["cv"], 1) <= 12.0
