"""The tiers' study from calibrations to files: what the command runs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from controller.tiers.calibration import load_calibration
from controller.tiers.generate import Objective
from experiments.checks import Check, show_checks, write_checks
from experiments.page import page, table
from experiments.statistics import Interval
from experiments.tiers.api import api_checks
from experiments.tiers.batches import InBatches, in_batches
from experiments.tiers.study import SEEDS, TOLERANCES, TaskStudy, study
from experiments.tiers.verdict import checks_of, workload_checks
from experiments.tiers.workload import HOURS, WorkloadStudy, study_workload

TABLES = Path(__file__).parent / "tables"
"""Calibrations that are kept with the code, one for each task; `provisor tiers calibrate` measures them anew."""

SHALLOW = ("speech",)
"""Tasks whose ladders are too shallow for the bars of cost: their values are shown with the reason."""

_WIDE = 160

Batches = Mapping[str, Sequence[InBatches]]
"""By task."""

JUDGED: Mapping[str, int] = {"images": 5_000}
"""Requests that must judge, by task."""


@dataclass(frozen=True)
class Found:
    """What the study came to: each task's tiers, each task's workload (none where it is left out), the verdict."""

    tasks: tuple[TaskStudy, ...]
    workloads: tuple[WorkloadStudy, ...]
    holds: bool


def run_study(
    directory: Path,
    say: Callable[[str], None],
    tables: Sequence[Path] = (),
    seeds: int = SEEDS,
    hours: float = HOURS,
) -> Found:
    """Judges the tiers of every task, writes tables, plots and page, and prints values beside bars.

    Args:
        directory: Folder of results, made where it is missing.
        say: Prints a line of progress.
        tables: Calibrations, named after their tasks; none: those kept with the code.
        seeds: Cuts of each calibration.
        hours: Of a trace day on which each task's workload is simulated; 0 leaves it out.

    Raises:
        InputError: A calibration is unreadable.
    """
    directory.mkdir(parents=True, exist_ok=True)
    chosen = tables or sorted(TABLES.glob("*.npz"))
    read = {path.stem: load_calibration(path) for path in chosen}
    studies = [study(name, one, say, seeds) for name, one in read.items()]
    batches = {name: in_batches(one) for name, one in read.items() if one.batch_sizes}
    workloads = [study_workload(name, one, say, hours=hours) for name, one in read.items() if hours > 0.0]
    checks = [
        check
        for found in studies
        for check in checks_of(found, JUDGED.get(found.name, 1), has_cost_bars=found.name not in SHALLOW)
    ]
    checks += [check for found in workloads for check in workload_checks(found)]
    checks += api_checks()
    write_checks(checks, directory / "checks.json")
    _write_tables(studies, batches, directory)
    if workloads:
        (directory / "workload.json").write_text(json.dumps([asdict(one) for one in workloads], indent=1), "utf-8")
    # matplotlib takes half a second.
    from experiments.tiers.plots import draw

    report = directory / "report.html"
    drawn = draw(studies, workloads, directory)
    report.write_text(_page(studies, batches, workloads, checks, drawn), encoding="utf-8")
    for found in workloads:
        _show(_heading(found), _WORKLOAD_TITLES, _workload_lines(found))
    holds = show_checks("tolerance tiers", checks)
    for name, sizes in batches.items():
        _show(f"{name}: tiers of cost where requests are served in batches", _BATCH_TITLES, _batch_lines(sizes))
    click.echo(f"written: {report}")
    return Found(tuple(studies), tuple(workloads), holds)


def _show(title: str, names: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    shown = Table(title=title)
    for name in names:
        shown.add_column(name, overflow="fold")
    for line in lines:
        shown.add_row(*line)
    console = Console()
    (console if console.is_terminal else Console(width=_WIDE)).print(shown)


def _write_tables(studies: Sequence[TaskStudy], batches: Batches, directory: Path) -> None:
    values = [{**asdict(one), "batches": [asdict(size) for size in batches.get(one.name, ())]} for one in studies]
    (directory / "tiers.json").write_text(json.dumps(values, indent=1), encoding="utf-8")
    rows = [{"task": one.name, **asdict(cell)} for one in studies for cell in one.cells]
    with (directory / "cells.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _page(
    studies: Sequence[TaskStudy],
    batches: Batches,
    workloads: Sequence[WorkloadStudy],
    checks: Sequence[Check],
    plots: Sequence[tuple[str, str]],
) -> str:
    body = ["<h1>Tolerance tiers</h1>"]
    for found in studies:
        body += [f"<h2>{found.name}</h2>", f"<p>{found.source}.</p>"]
        lines = [
            [name, f"{error:.2%}", f"{latency_s * 1e3:.3f}", f"{cost_usd * 1e3:.6f}"]
            for name, (error, latency_s, cost_usd) in found.versions.items()
        ]
        body.append(table(("version", "error", "ms", "$ per 1000"), lines))
        body.append(table(_TITLES, [_line(found, o, t) for o in Objective for t in TOLERANCES]))
        changes = [
            [f"{one.smaller} to {one.bigger}", *(f"{x:.1%}" for x in (one.improves, one.stays, one.worsens))]
            for one in found.changes
        ]
        body.append(table(("from a version to a bigger one", "improves", "stays", "worsens"), changes))
        if found.name in batches:
            body.append(table(_BATCH_TITLES, _batch_lines(batches[found.name])))
    for one in workloads:
        body += [f"<h2>{one.name}: a service of mixed tolerances</h2>", f"<p>{_heading(one)}.</p>"]
        body.append(table(_WORKLOAD_TITLES, _workload_lines(one)))
        body.append(table(_TIER_TITLES, _tier_lines(one)))
    body.append("<h2>Plots</h2>")
    body += [f"<figure>{svg}<figcaption>{caption}</figcaption></figure>" for caption, svg in plots]
    body.append("<h2>Values beside bars</h2>")
    verdicts = [[one.what, one.measured, one.bar, "holds" if one.holds else "falls short"] for one in checks]
    body.append(table(("what", "measured", "bar", ""), verdicts))
    return page("Tolerance tiers", body, "tiers study")


_BATCH_TITLES = ("batch", "us per request, by version", "steepness", *(f"cost at {t:.0%}" for t in TOLERANCES))


def _batch_lines(sizes: Sequence[InBatches]) -> list[list[str]]:
    """Times of a request, dearest over cheapest, and what tiers cost over the best version, by size of batch."""
    return [
        [
            str(one.size),
            ", ".join(f"{name} {request_s * 1e6:.1f}" for name, request_s in one.request_s.items()),
            f"{one.steepness:.1f}",
            *(f"{share:.3f}" for share in one.cost_shares),
        ]
        for one in sizes
    ]


_TITLES = (
    "objective, tolerance",
    "of the best version's",
    "best single",
    "degradation, mean",
    "degradation, most",
    "cascades",
)


def _line(found: TaskStudy, objective: Objective, tolerance: float) -> list[str]:
    cells = [cell for cell in found.cells if cell.objective is objective and cell.tolerance == tolerance]
    best = found.mean(objective, tolerance, lambda cell: cell.best_value)
    return [
        f"{objective.value.replace('_', ' ')}, {tolerance:.0%}",
        f"{found.mean(objective, tolerance, lambda cell: cell.value) / best:.3f}",
        f"{found.mean(objective, tolerance, lambda cell: cell.single_value) / best:.3f}",
        f"{found.mean(objective, tolerance, lambda cell: cell.degradation):+.2%}",
        f"{max(cell.degradation for cell in cells):+.2%}",
        f"{sum(cell.form != 'single' for cell in cells)} of {len(cells)}",
    ]


_WORKLOAD_TITLES = (
    "answered by",
    "$ per 1000",
    "attainment",
    "accuracy",
    "$ per 1000 at equal attainment",
    "to one size",
    "to single versions",
)
_TIER_TITLES = ("answered by", "tier", "rule", "promised accuracy", "realised", "attainment")


def _heading(found: WorkloadStudy) -> str:
    text = (
        f"{found.name}: tolerances of {', '.join(f'{100 * one:g}' for one in TOLERANCES)} points, both objectives, "
        f"equally often; {found.trace} day {found.day}, {found.hours:g} h, mean of {found.mean_rps:.3g} requests/s, "
        f"{found.seeds} seeds, {found.requests:,} simulated requests, policy mpc; "
        f"equal attainment: {found.equal_attainment:.3%}; intervals of 95 % over paired seeds"
    )
    if found.stands_for > 1.0:
        text += f"; one simulated request stands for {found.stands_for:.4g} and takes as many times longer"
    return text


def _workload_lines(found: WorkloadStudy) -> list[list[str]]:
    return [
        [
            way.name,
            f"{way.usd_per_1000:.4g}",
            f"{way.attainment:.2%}",
            f"{way.accuracy:.2%}",
            f"{way.equal_usd_per_1000:.4g}" + ("" if way.status == "equal" else f" ({way.status})"),
            *(_percent(one) for one in (way.relative, way.to_singles)),
        ]
        for way in found.ways
    ]


def _tier_lines(found: WorkloadStudy) -> list[list[str]]:
    return [
        [way.name, one.name, one.rule, *(f"{x:.2%}" for x in (one.promised, one.realised, one.attainment))]
        for way in found.ways
        for one in way.tiers
    ]


def _percent(one: Interval) -> str:
    return f"{one.estimate:+.1%} [{one.low:+.1%}, {one.high:+.1%}]"
