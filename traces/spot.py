"""How many spot instances each zone would give, over time: reader of availability traces, and the type they become.

A value is the number of instances obtainable (or kept alive) at a tick; single-instance traces hold 0 and 1, and a
simulator reads them as closed and open. Traces of one *group* (kind, nodes, data set, accelerator) are laid on one
grid, because only zones observed together carry their true correlation. A generator of such traces is in
`spot_generator`.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.errors import TraceError, mismatch
from traces.readers import load_arrays
from traces.trace import DAY_S

INDEX_COLUMNS = ("key", "kind", "nodes", "dataset", "zone", "accelerator", "acc_count", "gap_s")


@dataclass(frozen=True, eq=False)
class SpotAvailability:
    """Instances obtainable by zone and tick; a value holds from its tick until the next."""

    name: str
    zones: tuple[str, ...]  # (Z,) in file order
    gap_s: float  # seconds per tick
    capacity: NDArray[np.int16]  # (Z, ticks) instances, >= 0
    source: str = ""
    offset_s: float = 0.0  # where tick 0 lies in the file it was cut from, seconds

    def __post_init__(self) -> None:
        capacity = np.array(self.capacity, dtype=np.int16)
        if capacity.ndim != 2 or capacity.size == 0 or len(self.zones) != capacity.shape[0]:
            shapes = f"{capacity.shape} for {len(self.zones)} zones"
            raise TraceError(mismatch(f"{self.name}: capacity", "zones x ticks, not empty", shapes))
        if len(set(self.zones)) != len(self.zones):
            raise TraceError(mismatch(f"{self.name}: zones", "different names", self.zones))
        if (capacity < 0).any():
            raise TraceError(mismatch(f"{self.name}: capacity", "numbers >= 0", int(capacity.min())))
        if not (math.isfinite(self.gap_s) and self.gap_s > 0):
            raise TraceError(mismatch(f"{self.name}: gap_s", "a number > 0", self.gap_s))
        capacity.flags.writeable = False
        object.__setattr__(self, "capacity", capacity)

    @property
    def num_ticks(self) -> int:
        """Ticks on the common grid."""
        return int(self.capacity.shape[1])

    @property
    def duration_s(self) -> float:
        """Time covered, seconds."""
        return self.num_ticks * self.gap_s

    @property
    def days(self) -> int:
        """Whole days covered."""
        return int((self.duration_s + 1e-6) // DAY_S)

    @property
    def up_share(self) -> NDArray[np.float64]:
        """Share of ticks with at least one instance, by zone, shape (Z,)."""
        return np.asarray((self.capacity > 0).mean(axis=1), dtype=np.float64)

    def zone(self, name: str) -> NDArray[np.int16]:
        """Capacity of one zone, shape (ticks,)."""
        if name not in self.zones:
            raise TraceError(mismatch(f"{self.name}: zone", f"one of {', '.join(self.zones)}", name))
        row: NDArray[np.int16] = self.capacity[self.zones.index(name)]
        return row

    def assign_zones(self, requested: Sequence[str]) -> dict[str, int]:
        """Row for each requested zone name.

        A name in the file gets its own row. The others take the rows nobody asked for by name, in file order; when
        those run out they start again from the first row.

        Args:
            requested: Names as pools give them; repeats share a row.
        """
        wanted = dict.fromkeys(requested)
        known = {name: self.zones.index(name) for name in wanted if name in self.zones}
        taken = set(known.values())
        spare = [row for row in range(len(self.zones)) if row not in taken]
        strangers = [name for name in wanted if name not in known]
        # Past the spare rows zones are shared, which is better than refusing a catalog with more zones.
        rows = chain(spare, cycle(range(len(self.zones))))
        found = known | dict(zip(strangers, rows, strict=False))
        return {name: found[name] for name in wanted}

    def at(self, time_s: float) -> NDArray[np.int16]:
        """Capacity by zone at a time in [0, duration_s), shape (Z,)."""
        if not 0 <= time_s < self.duration_s:
            raise TraceError(mismatch(f"{self.name}: time", f"a time in [0, {self.duration_s:g}) s", time_s))
        column: NDArray[np.int16] = self.capacity[:, int(time_s / self.gap_s)]
        return column

    def slice_days(self, first: int, last: int) -> SpotAvailability:
        """Days `first` to `last`, 1-based from tick 0, both included; the ticks that begin in them."""
        if not 1 <= first <= last <= self.days:
            wanted = f"FIRST:LAST within 1:{self.days} (whole days)"
            raise TraceError(mismatch(f"{self.name}: spot days", wanted, f"{first}:{last}"))
        low = math.ceil((first - 1) * DAY_S / self.gap_s - 1e-9)
        high = math.ceil(last * DAY_S / self.gap_s - 1e-9)
        return replace(self, capacity=self.capacity[:, low:high], offset_s=self.offset_s + low * self.gap_s)


def read_spot(
    path: str | Path, *, dataset: str | None = None, kind: str | None = None, accelerator: str | None = None
) -> SpotAvailability:
    """One group of zones from an npz of traces with `index.csv` beside it.

    Args:
        path: The `.npz`; keys as in the index.
        dataset: Data set of the group, such as `aws-02-15-2023`; None: any.
        kind: `availability` or `preemption`; None: any.
        accelerator: Such as `v100`; None: any.

    Returns:
        The group with most zones among those that fit (the first of equals), on the grid of its shortest tick, up to
        the end of its shortest trace.

    Raises:
        TraceError: A file is missing or damaged, nothing fits, or index and arrays disagree.
    """
    file = Path(path)
    arrays = load_arrays(file)
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for entry in _index(file.with_name("index.csv")):
        wanted = {"dataset": dataset, "kind": kind, "accelerator": accelerator}
        if all(value is None or entry[key] == value for key, value in wanted.items()):
            key = tuple(entry[k] for k in ("kind", "nodes", "dataset", "accelerator", "acc_count"))
            groups.setdefault(key, []).append(entry)
    if not groups:
        asked = f"dataset={dataset}, kind={kind}, accelerator={accelerator}"
        raise TraceError(mismatch(str(file.with_name("index.csv")), "a group of traces that fits", asked))
    key, members = max(groups.items(), key=lambda item: len(item[1]))
    return _on_one_grid(file, " ".join(key), members, arrays)


def _on_one_grid(
    file: Path, name: str, members: list[dict[str, str]], arrays: Mapping[str, NDArray[Any]]
) -> SpotAvailability:
    series = []
    for entry in members:
        if entry["key"] not in arrays:
            raise TraceError(mismatch(f"{file}", f"an array {entry['key']} as the index says", f"{len(arrays)} others"))
        values = arrays[entry["key"]]
        if values.ndim != 1 or values.size == 0 or values.dtype.kind not in "iu" or (values < 0).any():
            found = f"{values.dtype} of shape {values.shape}"
            raise TraceError(mismatch(f"{file}: {entry['key']}", "whole numbers >= 0, one per tick", found))
        series.append((float(entry["gap_s"]), values))
    gap_s = min(gap for gap, _ in series)
    duration_s = min(gap * values.size for gap, values in series)
    ticks_s = np.arange(max(1, int(duration_s / gap_s + 1e-9))) * gap_s
    capacity = np.stack([values[np.floor(ticks_s / gap + 1e-9).astype(np.int64)] for gap, values in series])
    return SpotAvailability(name, tuple(e["zone"] for e in members), gap_s, capacity.astype(np.int16), file.name)


def _index(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        raise TraceError(f"{path}: no such file; spot traces need their index.csv beside the npz")
    with path.open(newline="") as stream:
        reader = csv.DictReader(stream)
        missing = [name for name in INDEX_COLUMNS if name not in (reader.fieldnames or [])]
        if missing:
            raise TraceError(mismatch(f"{path}, line 1", f"columns {', '.join(missing)}", reader.fieldnames))
        entries = list(reader)
    for line, entry in enumerate(entries, start=2):
        try:
            gap_ok = float(entry["gap_s"]) > 0
        except (TypeError, ValueError):
            gap_ok = False
        if not gap_ok:
            raise TraceError(mismatch(f"{path}, line {line}, gap_s", "seconds per tick > 0", entry["gap_s"]))
    return entries
