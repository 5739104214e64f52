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
    """

    what: str
    measured: str
    bar: str
    holds: bool


def at_least(what: str, value: float, bar: float, unit: str = "", scale: float = 1.0) -> Check:
    """A value that must not be below a bar; both are shown divided by `scale`."""
    return Check(what, f"{value / scale:.4g}{unit}", f">= {bar / scale:g}{unit}", value >= bar)


def at_most(what: str, value: float, bar: float, unit: str = "") -> Check:
    """A value that must not be above a bar."""
    return Check(what, f"{value:.4g}{unit}", f"<= {bar:g}{unit}", value <= bar)


def show_checks(title: str, checks: Sequence[Check]) -> bool:
    """Prints every value beside its bar; returns whether all hold."""
    table = Table(title=title)
    for name in ("what", "measured", "bar", ""):
        table.add_column(name, justify="right" if name == "measured" else "left")
    for check in checks:
        table.add_row(check.what, check.measured, check.bar, "holds" if check.holds else "FALLS SHORT")
    console = Console()
    (console if console.is_terminal else Console(width=_WIDE)).print(table)
    short = sum(not check.holds for check in checks)
    click.echo(f"{len(checks) - short} of {len(checks)} hold")
    return short == 0


def write_checks(checks: Sequence[Check], path: Path) -> None:
    """Writes the checks as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(check) for check in checks], indent=1) + "\n", encoding="utf-8")
