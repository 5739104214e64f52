"""What the forecast study shows: tables of loss and coverage, a reliability plot, and values beside their bars."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from controller.arrays import F64
from controller.forecast import INPUTS, LEVELS
from controller.forecaster_file import FOLDER, forecaster_named, load_forecaster
from controller.rule_arrays import ForecastArrays
from experiments.checks import Check, at_most
from experiments.forecast_study import SHIPPED, CandidateScore

CLEAR_GAIN = 0.02
"""A network that reads ticks takes the place of the one on inputs if its loss is smaller by more than this share."""

_COVERAGE_OFF = 0.03
_MOST_US = 5.0
_WIDE = 200
_TICKS = 5000


def show_scores(scores: Sequence[CandidateScore]) -> None:
    """Prints mean pinball loss by trace and candidate, then coverage by level."""
    losses = Table(title="pinball loss x 1000 of log growth over 180 s, mean over levels")
    losses.add_column("trace")
    for score in scores:
        losses.add_column(score.name, justify="right")
    for row, trace in enumerate(scores[0].traces):
        label = f"{trace.trace} (held out)" if trace.is_held_out else trace.trace
        losses.add_row(label, *(f"{1000 * score.traces[row].loss:.1f}" for score in scores))
    losses.add_row("mean of traces", *(f"{1000 * score.loss:.2f}" for score in scores))
    losses.add_row("fit, s", *(f"{score.seconds:.0f}" for score in scores))
    covered = Table(title="share of outcomes at or below each quantile, mean of traces")
    covered.add_column("candidate")
    for level in LEVELS:
        covered.add_column(f"{level:g}", justify="right")
    for score in scores:
        covered.add_row(score.name, *(f"{share:.3f}" for share in score.coverage))
    by_level = Table(title="pinball loss x 1000 by level, mean of traces")
    by_level.add_column("candidate")
    for level in LEVELS:
        by_level.add_column(f"{level:g}", justify="right")
    for score in scores:
        found = np.mean([one.pinball for one in score.traces if not one.is_held_out], axis=0)
        by_level.add_row(score.name, *(f"{1000 * loss:.1f}" for loss in found))
    console = Console()
    for table in (losses, covered, by_level):
        (console if console.is_terminal else Console(width=_WIDE)).print(table)


def write_scores(scores: Sequence[CandidateScore], part: str, folder: Path) -> tuple[Path, Path]:
    """Writes the scores as JSON and the reliability plot as SVG; returns both paths."""
    from experiments.figures import reliability_svg

    folder.mkdir(parents=True, exist_ok=True)
    path, plot = folder / f"forecast-{part}.json", folder / f"reliability-{part}.svg"
    values: dict[str, Any] = {"part": part, "levels": LEVELS, "candidates": [asdict(score) for score in scores]}
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    lines = {score.name: score.coverage.tolist() for score in scores}
    faint = [trace.coverage for score in scores if score.name == SHIPPED for trace in score.traces]
    plot.write_text(reliability_svg(LEVELS, lines, faint), encoding="utf-8")
    return path, plot


def study_checks(scores: Sequence[CandidateScore]) -> list[Check]:
    """What the comparison must show: nothing in reach of the decision path is clearly better than what is in it."""
    by_name = {score.name: score for score in scores}
    shipped = by_name[SHIPPED]
    rivals = [score for score in scores if score.name != SHIPPED]
    best = min(rivals, key=lambda score: score.loss)
    off = np.abs(shipped.coverage - np.array(LEVELS)).max()
    return [
        at_most(f"loss of {SHIPPED} / loss of the best other ({best.name})", shipped.loss / best.loss, 1 + CLEAR_GAIN),
        at_most(f"coverage of {SHIPPED} off its level, mean of traces, worst level", float(off), _COVERAGE_OFF),
    ]


def shipped_checks(score: CandidateScore, data_sha256: str) -> list[Check]:
    """What must hold of the shipped file: it gives the losses it states, on the data it states, in the time it has.

    Args:
        score: Of the shipped forecaster on validation, with the configuration that it was fitted with.
        data_sha256: Of the training rates at hand.
    """
    manifest, _ = load_forecaster(FOLDER / "default.json")
    stated: Any = manifest.validation["18"]
    ratio = score.loss / float(stated["pinball"])
    known = str(manifest.training["data_sha256"])
    return [
        Check("shipped forecaster: loss / the loss it states", f"{ratio:.5f}", "1 within 0.001", abs(ratio - 1) < 1e-3),
        Check("shipped forecaster: training rates", data_sha256[:12], known[:12], data_sha256 == known),
        at_most("forecast of one tick, inputs and network", tick_us(), _MOST_US, " us"),
    ]


def tick_us() -> float:
    """CPU time of one forecast in the decision path, microseconds; the least of several rounds."""
    import numba

    from controller.kernels.forecast import inputs_of_each
    from controller.kernels.quantiles import growth_quantiles

    def each(forecast: ForecastArrays, rows: F64, out: F64) -> None:
        for n in range(rows.shape[0]):
            growth_quantiles(forecast, rows[n], out[n])

    growth_of_each: Any = numba.njit(each)
    arrays = forecaster_named("default")
    by_age = np.random.default_rng(0).poisson(500.0, (_TICKS, 360)).astype(np.float64)
    known = np.full(_TICKS, 360, np.int64)
    inputs, growth = np.empty((_TICKS, len(INPUTS))), np.empty((_TICKS, len(LEVELS)))
    took = []
    for _ in range(10):
        began = time.process_time()
        inputs_of_each(by_age, known, 18.0, inputs)
        growth_of_each(arrays, inputs, growth)
        took.append((time.process_time() - began) / _TICKS * 1e6)
    return min(took)
