"""Traces in text tables: binned counts and request logs, read line by line in chunks so that size does not matter.

A table is *binned* when it has a `count` column, or only numeric columns over an evenly spaced time column; everything
else is a *log* with one line per request and an optional `class` column. Times are seconds or ISO 8601; a log whose
times are seconds below 1e8 counts from 0, so that days of the file stay days; later ones (epochs) count from the first.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from controller.errors import TraceError, mismatch
from traces.trace import Trace

TableKind = Literal["auto", "binned", "log"]
TIME_COLUMNS = ("t_s", "timestamp", "time", "t", "ts")
COUNT_COLUMNS = ("count", "counts", "requests")

_ENCODING = "utf-8-sig"  # spreadsheets put a byte order mark before the header
_CHUNK_LINES = 65_536
_PROBE_LINES = 64
_EPOCH_FROM_S = 1e8  # 1973 as an epoch; three years as seconds since the begin of a log
_MOST_CELLS = 50_000_000  # 400 MB of counts; times in milliseconds read as seconds would ask for far more

Row = tuple[int, list[str]]  # line number, cells


def read_table(path: Path, name: str, bin_seconds: float, kind: TableKind) -> Trace:
    """The trace in a `.csv` or `.csv.gz` file; see `readers.read_trace`."""
    with _lines(path) as lines:
        reader = csv.reader(lines)
        header = [cell.strip() for cell in next(reader, [])]
        if not header:
            raise TraceError(f"{path}: expected a header and at least one line, got an empty file")
        time_column = next((i for i, cell in enumerate(header) if cell.lower() in TIME_COLUMNS), None)
        if time_column is None:
            raise TraceError(mismatch(f"{path}, line 1", f"a time column, one of {', '.join(TIME_COLUMNS)}", header))
        rows: Iterator[Row] = ((reader.line_num, cells) for cells in reader if cells)
        probe = list(islice(rows, _PROBE_LINES))
        if not probe:
            raise TraceError(f"{path}: expected at least one line under the header, got none")
        every = _whole(path, len(header), chain(probe, rows))
        if kind == "binned" or (kind == "auto" and _is_binned(header, time_column, probe)):
            return _read_binned(path, name, header, time_column, every)
        return _read_log(path, name, header, time_column, every, bin_seconds)


def read_column(path: Path) -> NDArray[Any]:
    """Counts of a text file with one number per line, int64 (float64 if any is not whole), shape (lines,)."""
    values: list[float] = []
    with _lines(path) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                values.append(_number(f"{path}, line {number}", line.strip(), "a count >= 0"))
    if not values:
        raise TraceError(f"{path}: expected one count per line, got an empty file")
    counts = np.array(values)
    return counts.astype(np.int64) if bool((counts == np.round(counts)).all()) else counts


@contextmanager
def _lines(path: Path) -> Iterator[Iterator[str]]:
    """Lines of a plain or gzip file; damage found anywhere while reading becomes one clear error."""
    try:
        with _opened(path) as stream:
            yield iter(stream)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TraceError(f"{path}: expected a complete gzip file, got a truncated or damaged one ({error})") from None
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}: expected text, got bytes that are none ({error.reason})") from None
    except csv.Error as error:
        raise TraceError(f"{path}: expected comma-separated lines, got {error}") from None
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror or error})") from None


def _opened(path: Path) -> IO[str]:
    """Text stream that a caller closes, unpacked where the name ends in `.gz`."""
    if path.name.lower().endswith(".gz"):
        return cast("IO[str]", gzip.open(path, "rt", newline="", encoding=_ENCODING))
    return path.open(newline="", encoding=_ENCODING)


def _whole(path: Path, width: int, rows: Iterator[Row]) -> Iterator[Row]:
    """The rows, each checked to have one cell per header column; a cut-off last line is found here."""
    for line, cells in rows:
        if len(cells) != width:
            raise TraceError(mismatch(f"{path}, line {line}", f"{width} cells as in the header", f"{len(cells)} cells"))
        yield line, cells


def _is_binned(header: list[str], time_column: int, probe: list[Row]) -> bool:
    others = [cell.lower() for i, cell in enumerate(header) if i != time_column]
    if "class" in others or not others:
        return False
    if any(cell in COUNT_COLUMNS for cell in others):
        return True
    try:
        table = np.array([[float(cell) for cell in cells] for _, cells in probe])
    except ValueError:
        return False
    if len(table) < 3 or not np.isfinite(table[:, time_column]).all():
        return False
    steps = np.diff(table[:, time_column])
    smallest = steps.min()
    # A log has uneven steps; binned counts have one step and, at gaps, multiples of it.
    return bool(smallest > 0 and (np.abs(steps - smallest) < 1e-6).mean() > 0.9)


def _read_binned(path: Path, name: str, header: list[str], time_column: int, rows: Iterator[Row]) -> Trace:
    columns = [i for i in range(len(header)) if i != time_column]
    if not columns:
        raise TraceError(mismatch(f"{path}, line 1", "a column of counts beside the time", header))
    times: list[float] = []
    cells_of: list[list[float]] = []
    stamp = _TimeReader(path, header[time_column])
    for line, cells in rows:
        time_s = stamp.seconds(line, cells[time_column])
        if times and time_s <= times[-1]:
            raise TraceError(
                mismatch(f"{path}, line {line}, {header[time_column]}", f"a time after {times[-1]:g}", time_s)
            )
        times.append(time_s)
        cells_of.append(
            [_number(f"{path}, line {line}, {header[i]}", cells[i], "a finite count >= 0") for i in columns]
        )
    if len(times) < 2:
        raise TraceError(f"{path}: expected at least two bins, so that their width is known, got {len(times)}")
    at = np.array(times) - times[0]
    width = float(np.diff(at).min())
    index = np.round(at / width).astype(np.int64)
    off = np.abs(at - index * width) > 1e-3 * width
    if off.any():
        # The header is line 1, so the k-th bin (from 0) is on line k + 2.
        bad = int(np.argmax(off))
        grid = f"a multiple of the bin width {width:g} s after the first"
        raise TraceError(mismatch(f"{path}, bin on line {bad + 2}, {header[time_column]}", grid, times[bad]))
    bins = int(index[-1]) + 1
    if bins * len(columns) > _MOST_CELLS:
        raise TraceError(mismatch(f"{path}: bins", f"at most {_MOST_CELLS // len(columns)}", bins))
    values = np.array(cells_of).T
    counts = np.zeros((len(columns), bins))
    counts[:, index] = values
    valid = np.zeros(bins, bool)
    valid[index] = True
    whole = bool((values == np.round(values)).all())
    return Trace(
        name=name,
        counts=counts.astype(np.int64) if whole else counts,
        bin_seconds=width,
        row_names=tuple(header[i] for i in columns),
        valid=valid,
        start=stamp.start_text(times[0]),
        source=path.name,
    )


def _read_log(
    path: Path, name: str, header: list[str], time_column: int, rows: Iterator[Row], bin_seconds: float
) -> Trace:
    lowered = [cell.lower() for cell in header]
    class_column = lowered.index("class") if "class" in lowered else None
    stamp = _TimeReader(path, header[time_column])
    classes: dict[str, int] = {}
    counts = np.zeros((1, 1024), np.int64)
    origin_s: float | None = None
    previous_s = -np.inf
    last_bin = 0
    while chunk := list(islice(rows, _CHUNK_LINES)):
        times = stamp.column(chunk, time_column)
        falls = np.flatnonzero(np.diff(times, prepend=previous_s) < 0)
        if falls.size:
            line, cells = chunk[int(falls[0])]
            raise TraceError(
                mismatch(f"{path}, line {line}, {header[time_column]}", "times in rising order", cells[time_column])
            )
        previous_s = float(times[-1])
        if origin_s is None:
            first = float(times[0])
            if first < 0:
                raise TraceError(mismatch(f"{path}, line {chunk[0][0]}, {header[time_column]}", "a time >= 0", first))
            late = stamp.is_clock or first >= _EPOCH_FROM_S
            origin_s = float(np.floor(first / bin_seconds) * bin_seconds) if late else 0.0
        if class_column is None:
            of = np.zeros(len(chunk), np.int64)
            classes.setdefault("count", 0)
        else:
            of = np.array([classes.setdefault(cells[class_column], len(classes)) for _, cells in chunk])
        bins = np.floor((times - origin_s) / bin_seconds).astype(np.int64)
        last_bin = int(bins[-1])
        if (last_bin + 1) * len(classes) > _MOST_CELLS:
            span = f"at most {_MOST_CELLS} bins x classes of {bin_seconds:g} s (are the times in seconds?)"
            raise TraceError(mismatch(f"{path}, line {chunk[-1][0]}, {header[time_column]}", span, previous_s))
        counts = _grown(counts, len(classes), last_bin + 1)
        np.add.at(counts, (of, bins), 1)
    start = stamp.start_text(origin_s or 0.0)
    return Trace(name, counts[:, : last_bin + 1], bin_seconds, tuple(classes), None, start, path.name)


def _grown(counts: NDArray[np.int64], rows: int, bins: int) -> NDArray[np.int64]:
    """The same counts with room for more rows and bins; bins double, so a long log is copied few times."""
    if rows <= counts.shape[0] and bins <= counts.shape[1]:
        return counts
    width = counts.shape[1] if bins <= counts.shape[1] else max(bins, 2 * counts.shape[1])
    larger = np.zeros((max(rows, counts.shape[0]), width), np.int64)
    larger[: counts.shape[0], : counts.shape[1]] = counts
    return larger


class _TimeReader:
    """Reads one time column, as seconds or as ISO 8601, decided by its first cell."""

    def __init__(self, path: Path, column: str) -> None:
        self._path, self._column = path, column
        self._decided = False
        self.is_clock = False

    def seconds(self, line: int, cell: str) -> float:
        """Seconds of a cell; of an ISO time since 1970 in UTC, where no zone is written too."""
        if not self._decided:
            self._decided = True
            self.is_clock = "-" in cell[1:] and ":" in cell
        place = f"{self._path}, line {line}, {self._column}"
        if not self.is_clock:
            return _number(place, cell, "finite seconds, or ISO 8601 times throughout", lowest=-np.inf)
        try:
            moment = datetime.fromisoformat(cell.strip())
        except ValueError:
            raise TraceError(mismatch(place, "an ISO 8601 time", cell)) from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

    def column(self, chunk: list[Row], column: int) -> NDArray[np.float64]:
        """Seconds of a whole chunk; cell by cell only to read a clock or to name the line that is wrong."""
        first_line, first_cells = chunk[0]
        self.seconds(first_line, first_cells[column])
        if not self.is_clock:
            with suppress(ValueError):
                times = np.array([float(cells[column]) for _, cells in chunk])
                if np.isfinite(times).all():
                    return times
        return np.array([self.seconds(line, cells[column]) for line, cells in chunk])

    def start_text(self, time_s: float) -> str | None:
        """The begin as ISO 8601 when the column held a clock."""
        return datetime.fromtimestamp(time_s, UTC).isoformat() if self.is_clock else None


def _number(place: str, cell: str, expected: str, lowest: float = 0.0) -> float:
    try:
        value = float(cell)
    except ValueError:
        raise TraceError(mismatch(place, expected, cell)) from None
    if not np.isfinite(value) or value < lowest:
        raise TraceError(mismatch(place, expected, cell))
    return value
