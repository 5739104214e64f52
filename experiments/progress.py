"""Progress bars on standard error, silent where that is no terminal."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from experiments.rollout import Progress


class RichProgress(Progress):
    """One bar over all ticks of a run."""

    def __init__(self) -> None:
        """Prepares the bar; it is shown inside a `with`."""
        console = Console(stderr=True)
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("ticks"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
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
