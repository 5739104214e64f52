"""A run file for `provisor train` on what a run captured: trace, catalog, scenario and run, in one folder.

Days are split in their order, the first for training. A capture of less than three whole days is cut into three parts
instead, and each is repeated until it fills a day, so that what is validated on was never trained on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from controller.config import parse_config
from controller.errors import TraceError, UsageError, mismatch
from controller.journal import Journal
from controller.scenario import Scenario
from experiments.calibrated import write_whole
from experiments.run_config import RunConfig, load_run
from traces.capture import Capture, read_capture
from traces.readers import write_npz
from traces.trace import DAY_S, Trace

TRACE, CATALOG, SCENARIO, RUN = "arrivals.npz", "catalog.yaml", "scenario.yaml", "run.yaml"

_PARTS = (0.6, 0.2, 0.2)
_LEAST_BINS = 30
_LEAST_SHARE = 0.001  # of a class that nobody asked for: a scenario has none without requests


@dataclass(frozen=True)
class CapturedRun:
    """What was written.

    Attributes:
        files: Paths.
        is_repeated: Whether parts of the capture were repeated to fill days.
        capture: Of the journal.
    """

    files: tuple[Path, ...]
    is_repeated: bool
    capture: Capture


def write_trace(journal: Journal, path: Path) -> Capture:
    """Writes the captured arrivals as a trace, a row per class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    capture = read_capture(journal)
    write_npz(capture.trace, path)
    return capture


def write_captured_run(journal: Journal, folder: Path, like: str | None = None, force: bool = False) -> CapturedRun:
    """Writes what a training on captured traffic needs.

    Args:
        journal: Of the run; its catalog and scenario are taken from its header.
        folder: Where; made if missing.
        like: Run file whose policies, seeds and training settings are taken over; None: the defaults.
        force: Replace files that are there.

    Raises:
        UsageError: A file is there already.
        TraceError: The capture is too short, or its training part holds no request.
    """
    files = tuple(folder / name for name in (TRACE, CATALOG, SCENARIO, RUN))
    for file in files:
        if file.exists() and not force:
            raise UsageError(f"--out: expected a folder without {file.name}, got '{folder}' (--force replaces it)")
    capture = read_capture(journal)
    trace, splits, is_repeated = _in_days(capture.trace)
    training = trace.slice_days(*splits["train"])
    if training.mean_rps <= 0.0:
        raise TraceError(f"{journal.path}: expected requests in the first part of the capture, got none")
    folder.mkdir(parents=True, exist_ok=True)
    write_npz(trace, files[0])
    scenario = _scenario(journal, capture, files[0], splits, training.mean_rps * capture.rate_factor)
    run = (RunConfig() if like is None else load_run(like)).model_dump(mode="json", exclude_unset=True)
    for field in ("more_scenarios", "trace", "scale", "spot", "spot_days", "days", "out"):
        run.pop(field, None)
    # A suite has traces of its own, and the capture would be none of them.
    run.get("train", {}).pop("suite", None)
    run |= {"name": "captured", "scenario": str(files[2])}
    parse_config(run, RunConfig, RUN)
    source = f"# Written by `provisor capture` from {journal.path.name}, the {journal.header.kind} run of its header.\n"
    for file, value in zip(files[1:], (journal.header.catalog, scenario, run), strict=True):
        write_whole(file, source + yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120))
    return CapturedRun(files, is_repeated, capture)


def _in_days(trace: Trace) -> tuple[Trace, dict[str, list[int]], bool]:
    """The trace in whole days, the days of each split, and whether parts were repeated."""
    days = trace.days
    if days >= len(_PARTS):
        test = max(1, round(_PARTS[2] * days))
        validation = max(1, round(_PARTS[1] * days))
        edges = (0, days - validation - test, days - test, days)
        splits = {name: [a + 1, b] for name, a, b in zip(_SPLITS, edges, edges[1:], strict=False)}
        return trace.slice_days(1, days), splits, False
    if trace.num_bins < _LEAST_BINS:
        raise TraceError(mismatch(f"{trace.name}: capture", f"at least {_LEAST_BINS} bins", trace.num_bins))
    cuts = [0, *np.rint(np.cumsum(_PARTS) * trace.num_bins).astype(int).tolist()]
    bins = math.ceil(DAY_S / trace.bin_seconds - 1e-9)
    repeated = []
    for first, last in pairwise(cuts):
        known = trace.mask[first:last]
        part = np.where(known, trace.counts[:, first:last], 0)[:, known] if known.any() else trace.counts[:, first:last]
        repeated.append(np.tile(part, math.ceil(bins / part.shape[1]))[:, :bins])
    whole = Trace(
        name=trace.name,
        counts=np.concatenate(repeated, axis=1),
        bin_seconds=trace.bin_seconds,
        row_names=trace.row_names,
        source=f"{trace.source}, parts repeated",
    )
    return whole, {name: [day, day] for day, name in enumerate(_SPLITS, start=1)}, True


_SPLITS = ("train", "validation", "test")


def _scenario(
    journal: Journal, capture: Capture, trace: Path, splits: dict[str, list[int]], mean_rps: float
) -> dict[str, Any]:
    """The run's scenario at speed 1 on the captured trace, its classes mixed as they came."""
    # The catalog beside it is changed already, and what was measured was at the run's speed.
    left = {"changes", "measured"}
    scenario: dict[str, Any] = {key: value for key, value in journal.header.scenario.items() if key not in left}
    counts = np.where(capture.trace.mask, capture.trace.counts, 0).sum(axis=1)
    shares = np.maximum(counts / max(1, counts.sum()), _LEAST_SHARE)
    shares = np.round(shares / shares.sum(), 6)
    shares[int(np.argmax(shares))] += 1.0 - shares.sum()
    classes = scenario["workload"]["classes"]
    mixed = [{**one, "share": round(float(share), 6)} for one, share in zip(classes, shares, strict=True)]
    scenario |= {
        "catalog": f"./{CATALOG}",
        "workload": {**scenario["workload"], "classes": mixed},
        "mean_rps": float(f"{mean_rps:.5g}"),
        "trace": {"kind": "file", "path": str(trace.resolve()), "source": capture.trace.source, "rows": "as_recorded"},
        "splits": splits,
        "speed": 1.0,
    }
    parse_config(scenario, Scenario, SCENARIO)
    return scenario
