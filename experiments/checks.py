"""Measured values beside their bars: what every `provisor experiment NAME --check` prints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

_WIDE = 160


@dataclass(frozen=True)
class Check:
    """One value.

    Attributes:
        what: What was measured.
        measured: The value, with its unit.
        bar: What it must be.
        holds: Whether it is.
        command: Measures it anew, or makes what is missing.
    """

    what: str
    measured: str
    bar: str
    holds: bool
    command: str = ""


def at_least(what: str, value: float, bar: float, unit: str = "", scale: float = 1.0, command: str = "") -> Check:
    """A value that must not be below a bar; both are shown divided by `scale`."""
    return Check(what, f"{value / scale:.4g}{unit}", f">= {bar / scale:g}{unit}", value >= bar, command)


def at_most(what: str, value: float, bar: float, unit: str = "", command: str = "") -> Check:
    """A value that must not be above a bar."""
    return Check(what, f"{value:.4g}{unit}", f"<= {bar:g}{unit}", value <= bar, command)


def show_checks(title: str, checks: Sequence[Check]) -> bool:
    """Prints every value beside its bar, then what computes each anew; returns whether all hold."""
    table = Table(title=title)
    has_commands = any(check.command for check in checks)
    for name in (*(["row"] if has_commands else []), "what", "measured", "bar", ""):
        table.add_column(name, justify="right" if name in ("row", "measured") else "left", overflow="fold")
    for row, check in enumerate(checks, 1):
        verdict = "holds" if check.holds else "FALLS SHORT"
        table.add_row(*([str(row)] if has_commands else []), check.what, check.measured, check.bar, verdict)
    console = Console()
    (console if console.is_terminal else Console(width=_WIDE)).print(table)
    for row, check in enumerate(checks, 1):
        if check.command:
            click.echo(f"row {row} anew: {check.command}")
    short = sum(not check.holds for check in checks)
    click.echo(f"{len(checks) - short} of {len(checks)} hold")
    return short == 0


def write_checks(checks: Sequence[Check], path: Path) -> None:
    """Writes the checks as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(check) for check in checks], indent=1) + "\n", encoding="utf-8")
