"""What every version answered to every calibration request: how wrong it was, how sure, how long and for how much."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from controller.arrays import F64
from controller.errors import InputError, mismatch

ARRAYS = ("error", "confidence", "latency_s", "cost_usd")


@dataclass(frozen=True)
class Calibration:
    """One row for each request (N), one column for each version (V); the rows keep what versions have in common.

    Attributes:
        versions: Names, distinct.
        error: (N, V), >= 0: 1 for a wrong class, or the word error rate of an utterance.
        confidence: (N, V), 0..1, of the answer.
        latency_s: (N, V), > 0.
        cost_usd: (N, V), >= 0.
        source: What was measured, where and when.
        batch_sizes: B sizes of batches at which versions were measured, too.
        batch_s: (B, V), > 0: of a request in such a batch, the batch's time over its size.
    """

    versions: tuple[str, ...]
    error: F64
    confidence: F64
    latency_s: F64
    cost_usd: F64
    source: str
    batch_sizes: tuple[int, ...] = ()
    batch_s: F64 = field(default_factory=lambda: np.zeros((0, 0)))

    def __post_init__(self) -> None:
        if len(set(self.versions)) != len(self.versions) or not self.versions:
            raise InputError(mismatch("versions", "distinct names, at least one", self.versions))
        shape = (len(self.error), len(self.versions))
        for name in ARRAYS:
            array: F64 = getattr(self, name)
            if array.shape != shape or shape[0] < 2:
                raise InputError(mismatch(name, f"at least two rows of {shape[1]} versions, as error", array.shape))
            if not np.isfinite(array).all() or (array < 0.0).any():
                raise InputError(f"{name}: expected finite numbers >= 0")
        if (self.confidence > 1.0).any():
            raise InputError(mismatch("confidence", "numbers in 0..1", float(self.confidence.max())))
        if (self.latency_s <= 0.0).any():
            raise InputError("latency_s: expected numbers > 0")
        if self.batch_sizes or self.batch_s.size:
            self._check_batches()

    def _check_batches(self) -> None:
        sizes, shape = self.batch_sizes, (len(self.batch_sizes), len(self.versions))
        if list(sizes) != sorted(set(sizes)) or min(sizes, default=0) < 1:
            raise InputError(mismatch("batch_sizes", "rising numbers >= 1", sizes))
        if self.batch_s.shape != shape:
            raise InputError(
                mismatch("batch_s", f"a row of {shape[1]} versions for each of {sizes}", self.batch_s.shape)
            )
        if not np.isfinite(self.batch_s).all() or (self.batch_s <= 0.0).any():
            raise InputError("batch_s: expected finite numbers > 0")

    @property
    def best(self) -> int:
        """Column of the version with the least mean error; of several, the first."""
        return int(self.error.mean(axis=0).argmin())

    def __len__(self) -> int:
        return len(self.error)

    def rows(self, chosen: np.ndarray) -> Calibration:
        """The same of some rows, by their numbers."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in ARRAYS})

    def parts(self, first: int, seed: int) -> tuple[Calibration, Calibration]:
        """So many requests by a seeded shuffle, and all others."""
        order = np.random.default_rng(seed).permutation(len(self))
        return self.rows(np.sort(order[:first])), self.rows(np.sort(order[first:]))

    def only(self, versions: Sequence[str]) -> Calibration:
        """The same of some versions."""
        columns = [self.versions.index(name) for name in versions]
        arrays = {name: getattr(self, name)[:, columns] for name in ARRAYS}
        batch_s = self.batch_s[:, columns] if self.batch_sizes else self.batch_s
        return replace(self, versions=tuple(versions), batch_s=batch_s, **arrays)

    def in_batches(self, size: int) -> Calibration:
        """The same where requests are served in batches: costs by a request's share of its batch's time.

        Args:
            size: One of `batch_sizes`.
        """
        share = self.batch_s[self.batch_sizes.index(size)] / self.latency_s.mean(axis=0)
        return replace(self, cost_usd=self.cost_usd * share, source=f"{self.source}, in batches of {size}")

    def digest(self) -> str:
        """SHA-256 of versions and figures."""
        found = hashlib.sha256("\0".join(self.versions).encode())
        for name in ARRAYS:
            found.update(np.ascontiguousarray(getattr(self, name), np.float64).tobytes())
        return found.hexdigest()

    def save(self, path: Path) -> None:
        """Writes an `.npz`; where that is cut short, the path is as it was."""
        arrays = {name: getattr(self, name) for name in ARRAYS}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        try:
            with partial.open("wb") as file:
                np.savez_compressed(
                    file,
                    versions=np.array(self.versions),
                    source=np.array(self.source),
                    batch_sizes=np.array(self.batch_sizes, np.int64),
                    batch_s=self.batch_s,
                    **arrays,
                )
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def load_calibration(path: str | Path) -> Calibration:
    """A calibration from an `.npz` as `Calibration.save` writes it; nothing in it is run.

    Raises:
        InputError: The file is unreadable, or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: np.asarray(arrays[name], np.float64) for name in ARRAYS}
            versions: Sequence[str] = [str(name) for name in arrays["versions"]]
            source = str(arrays["source"])
            if "batch_sizes" in arrays:
                found["batch_s"] = np.asarray(arrays["batch_s"], np.float64)
                batch_sizes = tuple(int(size) for size in arrays["batch_sizes"])
            else:
                batch_sizes = ()
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: expected a calibration of versions, got {type(error).__name__}: {error}") from error
    return Calibration(tuple(versions), source=source, batch_sizes=batch_sizes, **found)
