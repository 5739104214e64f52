"""Tables on the screen."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

_WIDE = 220


def show_table(title: str, names: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Prints a table of plain texts, the first column its names."""
    shown = Table(title=title)
    for at, name in enumerate(names):
        shown.add_column(name, justify="right" if at else "left", overflow="fold")
    for line in lines:
        shown.add_row(*line)
    console = Console()
    (console if console.is_terminal else Console(width=_WIDE)).print(shown)
