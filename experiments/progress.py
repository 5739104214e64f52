"""Progress bars on standard error, silent where that is no terminal."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from experiments.rollout import Progress


def bars_on(console: Console, unit: str) -> Bars:
    """A bar with a count of `unit` (a text, or `{task.fields[...]}`) and the time left, gone when it ends."""
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


class RichProgress(Progress):
    """One bar over all ticks of a run."""

    def __init__(self) -> None:
        """Prepares the bar; it is shown inside a `with`."""
        self._bars = bars_on(Console(stderr=True), "ticks")
        self._task = self._bars.add_task("preparing", total=None)

    def started(self, steps: int) -> None:
        """Sets the bar's length."""
        self._bars.update(self._task, total=steps)

    def working_on(self, text: str) -> None:
        """Names what runs."""
        self._bars.update(self._task, description=text)

    def advanced(self) -> None:
        """Moves the bar."""
        self._bars.advance(self._task)

    def __enter__(self) -> RichProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()


_LINE_EVERY_S = 30.0
"""A log gets a line this often; a terminal has a bar."""


class CellProgress:
    """A bar over the cells of a benchmark with the time left; where there is no terminal, a line now and then."""

    def __init__(self) -> None:
        """Prepares the bar; it is shown inside a `with`."""
        self._console = Console(stderr=True)
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("cells"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bars.add_task("benchmark", total=None)
        self._began = self._said = time.monotonic()

    def __call__(self, done: int, of: int) -> None:
        """Tells how many cells are done, of how many that were missing."""
        self._bars.update(self._task, completed=done, total=of)
        now = time.monotonic()
        if done and not self._console.is_terminal and now - self._said >= _LINE_EVERY_S:
            self._said = now
            left_s = (now - self._began) / done * (of - done)
            self._console.print(f"{done} of {of} cells, {left_s / 60:.1f} minutes left", highlight=False)

    def __enter__(self) -> CellProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
