"""What a study shows: a bar on a terminal, one line per batch elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from experiments.search_plan import StopRule
from experiments.study import StudyProgress
from experiments.study_summary import StudyResult


class RichStudyProgress(StudyProgress):
    """Follows a study on standard error."""

    def __init__(self) -> None:
        """Prepares the bar; it is shown inside a `with`."""
        self._console = Console(stderr=True)
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("trials, {task.fields[note]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bars.add_task("preparing", total=None, note="")
        self._best = ""
        self._days = 0

    def started(self, stop: StopRule, worlds: int, done: int) -> None:
        """Sets the bar's length, where one is known."""
        self._began_s, self._before, self._total = time.monotonic(), done, stop.trials
        text = "tuning" if worlds == 1 else f"tuning on {worlds} days"
        self._bars.reset(self._task, total=stop.trials, completed=done, description=text, note="")

    def judged(self) -> None:
        """Counts days."""
        self._days += 1
        self._bars.update(self._task, note=f"{self._days} days run{self._best}")

    def batch(self, result: StudyResult) -> None:
        """Moves the bar, or prints a line."""
        course = result.search.course
        done, gain = len(course), 1.0 - course[-1] / course[0]
        self._best = f", best {course[-1]:.4f} ({gain:.2%} better than the start)"
        self._bars.update(self._task, completed=done)
        if not self._console.is_terminal:
            of = "" if self._total is None else f" of {self._total}"
            left = "" if self._total is None else f", {self._left_s(done) / 60:.0f} min left"
            self._console.print(f"{done}{of} trials{self._best}{left}", highlight=False, soft_wrap=True)

    def _left_s(self, done: int) -> float:
        assert self._total is not None
        spent_s = time.monotonic() - self._began_s
        return spent_s / max(1, done - self._before) * (self._total - done)

    def __enter__(self) -> RichStudyProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
