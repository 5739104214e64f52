"""Readers of public trace formats; each wrong input ends in a `TraceError` that names file, place, value, expectation.

Formats by file name: `.npz` binned counts (or rates per client), `.csv` / `.csv.gz` binned counts or a request log,
`.txt` / `.txt.gz` one count per line. A `FILE:ROW` spec picks one row by name or 0-based number. The lines of a CSV are
told apart in `tabular`; nothing here unpickles.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.errors import TraceError, mismatch
from traces.tabular import TableKind, read_column, read_table
from traces.trace import Trace

EXTENSIONS = (".npz", ".csv", ".csv.gz", ".txt", ".txt.gz")


def read_trace(
    spec: str | Path, *, bin_seconds: float = 1.0, row: int | str | None = None, kind: TableKind = "auto"
) -> Trace:
    """The trace in a file.

    Args:
        spec: `FILE` or `FILE:ROW`.
        bin_seconds: Width of the bins that a request log, or a `.txt` of counts, is read into; other formats say
            their own.
        row: Row to pick, the same as `:ROW`.
        kind: What a CSV holds: `binned`, `log`, or `auto` to tell from its header and first lines.

    Raises:
        TraceError: The file is missing, of an unknown kind, truncated, or holds something that is not a trace.
    """
    path, picked = split_spec(spec)
    row = picked if row is None else row
    extension = _extension(path)
    if not bin_seconds > 0:
        raise TraceError(mismatch("bin_seconds", "a number > 0", bin_seconds))
    if extension == ".npz":
        trace = _read_npz(path)
    elif extension.startswith(".txt"):
        trace = Trace(_stem(path), read_column(path), bin_seconds, source=path.name)
    else:
        trace = read_table(path, _stem(path), bin_seconds, kind)
    return trace if row is None else trace.row(row)


def split_spec(spec: str | Path) -> tuple[Path, str | None]:
    """File and row of a `FILE:ROW` spec; a file whose own name holds a colon is taken as it is.

    Example:
        >>> split_spec("functions.npz:3")[1]
        '3'
    """
    path = Path(spec)
    if path.exists() or ":" not in str(spec):
        return path, None
    file, _, row = str(spec).rpartition(":")
    return Path(file), row


def write_npz(trace: Trace, path: str | Path) -> Path:
    """Writes a trace in the `.npz` layout that `read_trace` reads; float counts stay float.

    Raises:
        TraceError: The name does not end in `.npz`, or its directory does not exist.
    """
    target = Path(path)
    if target.suffix != ".npz":
        raise TraceError(mismatch("out", "a name that ends in .npz", str(path)))
    if not target.parent.is_dir():
        raise TraceError(f"{target}: expected an existing directory {target.parent}")
    arrays: dict[str, Any] = {
        "counts": trace.counts if trace.num_rows > 1 else trace.counts[0],
        "bin_seconds": trace.bin_seconds,
        "start": trace.start or "",
        "source": trace.source,
    }
    if trace.num_rows > 1:
        arrays["functions"] = np.array(trace.row_names)
    if not trace.mask.all():
        arrays |= {"valid": np.packbits(trace.mask), "n_valid_bits": trace.num_bins}
    partial = target.with_name(target.name + ".partial")
    try:
        with partial.open("wb") as stream:
            np.savez_compressed(stream, **arrays)
        partial.replace(target)
    except OSError as error:
        raise TraceError(f"{target}: cannot be written ({error.strerror or error})") from None
    return target


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an npz archive, or the error that says why it is none."""
    try:
        # Opened here, because numpy leaves the file open when it turns out to be damaged.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise TraceError(f"{path}: no such file") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, TypeError, AttributeError) as error:
        raise TraceError(
            f"{path}: expected an npz archive of plain arrays, got a damaged or other file ({error})"
        ) from None


def _read_npz(path: Path) -> Trace:
    arrays = load_arrays(path)
    bin_seconds = _scalar(path, arrays, "bin_seconds")
    invalid: NDArray[np.bool_] | None = None
    meta: dict[str, Any] = {}
    if "counts" in arrays:
        counts = arrays["counts"]
        names = tuple(str(name) for name in arrays["functions"]) if "functions" in arrays else ()
    elif "rate" in arrays:
        counts, invalid, meta = _client_rates(path, arrays, bin_seconds)
        names = tuple(str(client) for client in arrays["client"]) if "client" in arrays else ()
    else:
        raise TraceError(mismatch(f"{path}", "an array `counts` or `rate`", sorted(arrays)))
    valid = _mask(path, arrays, counts.shape[-1] if counts.ndim else 0)
    if invalid is not None:
        valid = valid & ~invalid
    return Trace(
        name=_stem(path),
        counts=counts,
        bin_seconds=bin_seconds,
        row_names=names,
        valid=valid,
        start=str(arrays["start"]) or None if "start" in arrays else None,
        source=str(arrays["source"]) if "source" in arrays else path.name,
        meta=meta,
    )


def _client_rates(
    path: Path, arrays: dict[str, NDArray[Any]], bin_seconds: float
) -> tuple[NDArray[Any], NDArray[np.bool_], dict[str, Any]]:
    """Rates per client (clients x bins) as expected counts; bins in which all clients are silent are holes."""
    rate = np.asarray(arrays["rate"], dtype=float)
    if rate.ndim != 2 or not np.isfinite(rate).all():
        raise TraceError(mismatch(f"{path}: rate", "finite numbers, clients x bins", f"shape {rate.shape} or NaN"))
    meta: dict[str, Any] = {}
    if "cv" in arrays and arrays["cv"].shape == rate.shape:
        # Bins without requests have CV 0 or NaN at the source; the weight by rate leaves them out.
        cv = np.nan_to_num(np.asarray(arrays["cv"], dtype=float))
        weight = rate.sum(axis=1)
        meta["row_cv"] = np.divide((cv * rate).sum(axis=1), weight, out=np.zeros_like(weight), where=weight > 0)
        meta["cv"] = float((cv * rate).sum() / max(rate.sum(), 1e-12))
    return rate * bin_seconds, (rate == 0).all(axis=0), meta


def _mask(path: Path, arrays: dict[str, NDArray[Any]], bins: int) -> NDArray[np.bool_]:
    if "valid" not in arrays:
        return np.ones(bins, bool)
    bits = int(_scalar(path, arrays, "n_valid_bits"))
    packed = arrays["valid"]
    if packed.dtype != np.uint8 or packed.ndim != 1 or bits != bins or packed.size * 8 < bits:
        found = f"{packed.size} bytes of {packed.dtype}, n_valid_bits {bits}"
        raise TraceError(mismatch(f"{path}: valid", f"{bins} packed bits (uint8), one per bin", found))
    return np.unpackbits(packed)[:bits].astype(bool)


def _scalar(path: Path, arrays: dict[str, NDArray[Any]], key: str) -> float:
    if key not in arrays:
        raise TraceError(mismatch(f"{path}", f"a number `{key}`", sorted(arrays)))
    value = arrays[key]
    if value.shape != () or value.dtype.kind not in "iuf":
        raise TraceError(mismatch(f"{path}: {key}", "one number", f"{value.dtype} of shape {value.shape}"))
    return float(value)


def _extension(path: Path) -> str:
    """Kind by name; checked before the file is opened, so that a wrong name is not reported as a damaged file."""
    name = path.name.lower()
    for extension in EXTENSIONS:
        if name.endswith(extension):
            if not path.exists():
                raise TraceError(f"{path}: no such file")
            if path.is_dir():
                raise TraceError(f"{path}: expected a file, got a directory")
            return extension
    if not path.exists():
        raise TraceError(f"{path}: no such file")
    raise TraceError(mismatch(f"{path}: kind of file", f"a name ending in one of {', '.join(EXTENSIONS)}", path.name))


def _stem(path: Path) -> str:
    name = path.name
    for extension in sorted(EXTENSIONS, key=len, reverse=True):
        if name.lower().endswith(extension):
            return name[: -len(extension)]
    return name
