"""Measured answers, request by request: how sure each variant was of each request, and whether it was right.

One row is one measured request, so what variants have in common (a request that is hard is hard for all) is kept. A
simulated request is given one row by a keyed draw.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from controller.config import StrictModel
from controller.errors import CatalogError, mismatch

Share = Annotated[float, Field(ge=0, le=1)]
Rows = tuple[tuple[Share, ...], ...]


class AnswerTable(StrictModel):
    """Rows written in the catalog, or the `.npz` beside it that holds them; reading it turns it into rows.

    A catalog in a journal is whole, so a header grows by the table.
    """

    variants: tuple[str, ...] = Field(min_length=1, description="columns of the table")
    file: str | None = Field(default=None, description="arrays `confidence` and `right`, rows x columns")
    confidence: Rows = Field(default=(), description="of the answer, 0..1")
    right: Rows = Field(default=(), description="1 for a right answer, 0 for a wrong one, or a grade between")
    measured: str | None = Field(default=None, min_length=3)
    derived: str | None = Field(default=None, min_length=3)

    @model_validator(mode="after")
    def _whole(self) -> AnswerTable:
        if (self.measured is None) == (self.derived is None):
            raise ValueError("expected exactly one of 'measured' (a source) and 'derived' (a formula)")
        if len(set(self.variants)) != len(self.variants):
            raise ValueError(f"variants: expected distinct names, got {list(self.variants)}")
        if (self.file is None) != bool(self.confidence or self.right):
            raise ValueError("expected either 'file' or rows of 'confidence' and 'right'")
        if len(self.right) != len(self.confidence):
            raise ValueError(f"right: expected {len(self.confidence)} rows (as confidence), got {len(self.right)}")
        for name, rows in (("confidence", self.confidence), ("right", self.right)):
            for at, row in enumerate(rows):
                if len(row) != len(self.variants):
                    raise ValueError(f"{name}[{at}]: expected {len(self.variants)} values (variants), got {len(row)}")
        return self

    def column(self, rows: Rows, variant: str) -> NDArray[np.float64]:
        """Values of one variant; NaN where it was not measured."""
        if variant not in self.variants:
            return np.full(len(rows), np.nan)
        at = self.variants.index(variant)
        return np.array([row[at] for row in rows], np.float64)


def read_rows(table: AnswerTable, folder: Path) -> AnswerTable:
    """The table with the rows of its file, which is looked for in `folder`; a table that holds its rows as it is.

    Raises:
        CatalogError: The file is missing or unreadable, or its arrays have another shape or range.
    """
    if table.file is None:
        return table
    path = folder / table.file
    found = {name: _array(path, name, len(table.variants)) for name in ("confidence", "right")}
    counts = [len(array) for array in found.values()]
    if counts[0] != counts[1] or counts[0] == 0:
        raise CatalogError(
            mismatch(f"{path}: right", f"at least one row and as many as confidence ({counts[0]})", counts[1])
        )
    confidence, right = (tuple(map(tuple, array.tolist())) for array in found.values())
    return AnswerTable(
        variants=table.variants,
        confidence=confidence,
        right=right,
        measured=table.measured,
        derived=table.derived,
    )


def _array(path: Path, name: str, columns: int) -> NDArray[np.float64]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            array = np.asarray(arrays[name], np.float64)
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise CatalogError(f"{path}: expected an .npz with an array of numbers '{name}', got: {error}") from error
    if array.ndim != 2 or array.shape[1] != columns:
        raise CatalogError(mismatch(f"{path}: {name}", f"a shape of (rows, {columns})", array.shape))
    if not ((array >= 0.0) & (array <= 1.0)).all():
        raise CatalogError(f"{path}: {name}: expected values within 0..1")
    return array
