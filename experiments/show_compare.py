"""The side-by-side comparison as a table, and as values beside what they must be."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from experiments.checks import Check
from experiments.compared_run import ComparedRun, Stretch
from experiments.live_compare import NATIVE, Compared
from experiments.results import MOST_RULED
from experiments.sim_to_live import WARM_SHARE

_WIDE = 170
_NOTE = (
    f"{NATIVE}: one deployment of the cheapest variant that keeps every class's floor, on on-demand machines, behind a "
    "thin ingress; it knows no spot market, no serverless and no variants."
)

_BAR = f"measured, 0 lost, rule <= {MOST_RULED:.0%}"

_COLUMNS: tuple[tuple[str, Callable[[ComparedRun], float | None], str], ...] = (
    ("cost $", lambda run: run.cost_usd, ".4f"),
    ("$/h", lambda run: run.usd_per_hour, ".3f"),
    ("attained %", lambda run: 100 * run.attainment, ".2f"),
    ("p50 s", lambda run: run.p50_s, ".2f"),
    ("p99 s", lambda run: run.p99_s, ".2f"),
    ("changes/h", lambda run: run.changes_per_hour, ".1f"),
    ("flaps/h", lambda run: run.flaps_per_hour, ".1f"),
    ("requests", lambda run: run.requests, ".0f"),
    ("missed", lambda run: run.missed, ".0f"),
    ("lost", lambda run: run.lost, ".0f"),
    ("accuracy %", lambda run: None if run.accuracy is None else 100 * run.accuracy, ".1f"),
    ("rule %", lambda run: None if run.rule_share is None else 100 * run.rule_share, ".0f"),
    ("sent late ms", lambda run: run.late_ms_p99, ".0f"),
)


def spread(values: Sequence[float | None], form: str) -> str:
    """A value; of several the mean, and from where to where they lie; `-` where one is not known."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return "-"
    mean = format(statistics.fmean(known), form)
    if len(known) == 1:
        return mean
    return f"{mean} ({min(known):{form}}..{max(known):{form}})"


def cells_of(row: Compared, class_names: Sequence[str]) -> list[str]:
    """A line of the table; what is missing is said in its first cell."""
    if not row.runs:
        return [row.name, row.problem.splitlines()[0] if row.problem else "missing"]
    runs = row.runs
    cells = [row.name, *(spread([value(run) for run in runs], form) for _, value, form in _COLUMNS)]
    by_class = [spread([100 * run.attainment_by_class[name] for run in runs], ".2f") for name in class_names]
    return [*cells[:4], *by_class, *cells[4:]]


def class_names_of(rows: Sequence[Compared]) -> list[str]:
    """Of the runs that were made."""
    return next((list(run.attainment_by_class) for row in rows for run in row.runs), [])


def show_compared(rows: Sequence[Compared], stretch: Stretch) -> None:
    """Prints the table."""
    names = class_names_of(rows)
    speed = stretch.setting.scenario.speed
    title = (
        f"side by side: {stretch.duration_s:g} s of {Path(stretch.scenario).stem} at speed {speed:g}, "
        f"from hour {stretch.start_hour:g}, the first {WARM_SHARE:.0%} not counted"
    )
    table = Table(title=title)
    heads = ["policy", *(head for head, _, _ in _COLUMNS)]
    for head in (*heads[:4], *(f"{name} %" for name in names), *heads[4:]):
        table.add_column(head, justify="left" if head == "policy" else "right", overflow="fold")
    for row in rows:
        table.add_row(*cells_of(row, names))
    console = Console()
    (console if console.is_terminal else Console(width=_WIDE)).print(table)
    click.echo(_NOTE)


def compare_checks(rows: Sequence[Compared]) -> list[Check]:
    """One value for each contender: that it was measured, itself, and lost nothing; who is better has no bar.

    Where alarms gave the run to the rule, the row tells of the rule.
    """
    found = []
    for row in rows:
        if row.problem or not row.runs:
            what = " ".join((row.problem or "missing").split())[:120]
            found.append(Check(f"side by side: {row.name}", what, _BAR, False))
            continue
        told = {head: spread([value(run) for run in row.runs], form) for head, value, form in _COLUMNS}
        lost = sum(run.lost for run in row.runs)
        ruled = max(run.rule_share or 0.0 for run in row.runs)
        value = (
            f"{told['cost $']} $, {told['attained %']} % attained, p99 {told['p99 s']} s, {told['flaps/h']} flaps/h, "
            f"{lost} lost, {sum(run.requests for run in row.runs)} requests, rule drove {100 * ruled:.0f} %"
        )
        found.append(Check(f"side by side: {row.name}", value, _BAR, lost == 0 and ruled <= MOST_RULED))
    return found
