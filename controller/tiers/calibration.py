"""What every version answered to every calibration request: how wrong it was, how sure, how long and for how much."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
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
    """

    versions: tuple[str, ...]
    error: F64
    confidence: F64
    latency_s: F64
    cost_usd: F64
    source: str

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

    @property
    def best(self) -> int:
        """Column of the version with the least mean error; of several, the first."""
        return int(self.error.mean(axis=0).argmin())

    def __len__(self) -> int:
        return len(self.error)

    def rows(self, chosen: np.ndarray) -> Calibration:
        """The same of some rows, by their numbers."""
        arrays = {name: getattr(self, name)[chosen] for name in ARRAYS}
        return Calibration(self.versions, source=self.source, **arrays)

    def halves(self, seed: int) -> tuple[Calibration, Calibration]:
        """Two halves of the requests, by a seeded shuffle: rules are searched on the first and proved on the second."""
        return self.parts(len(self) // 2, seed)

    def parts(self, first: int, seed: int) -> tuple[Calibration, Calibration]:
        """So many requests by a seeded shuffle, and all others."""
        order = np.random.default_rng(seed).permutation(len(self))
        return self.rows(np.sort(order[:first])), self.rows(np.sort(order[first:]))

    def only(self, versions: Sequence[str]) -> Calibration:
        """The same of some versions."""
        columns = [self.versions.index(name) for name in versions]
        arrays = {name: getattr(self, name)[:, columns] for name in ARRAYS}
        return Calibration(tuple(versions), source=self.source, **arrays)

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
                np.savez_compressed(file, versions=np.array(self.versions), source=np.array(self.source), **arrays)
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
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: expected a calibration of versions, got {type(error).__name__}: {error}") from error
    return Calibration(tuple(versions), source=source, **found)
