"""What a study shows: a bar on a terminal, one line per batch elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console

from experiments.progress import bars_on
from experiments.search_plan import StopRule
from experiments.study import StudyProgress
from experiments.study_summary import StudyResult


class RichStudyProgress(StudyProgress):
    """Follows a study on standard error."""

    def __init__(self) -> None:
        """Prepares the bar; it is shown inside a `with`."""
        self._console = Console(stderr=True)
        self._bars = bars_on(self._console, "{task.fields[note]}")
        self._task = self._bars.add_task("preparing", total=None, note="")
        self._gain = ""
        self._days = 0

    def started(self, stop: StopRule, worlds: int, done: int) -> None:
        """Sets the bar's length, where one is known."""
        self._began_s, self._before, self._total = time.monotonic(), done, stop.trials
        text = "tuning" if worlds == 1 else f"tuning on {worlds} days"
        self._bars.reset(self._task, total=stop.trials, completed=done, description=text, note="")

    def judged(self) -> None:
        """Counts days."""
        self._days += 1
        self._bars.update(self._task, note=f"trials, {self._days} days{self._gain}")

    def batch(self, result: StudyResult) -> None:
        """Moves the bar, or prints a line."""
        course, self._starts = result.search.course, len(result.search.plan.starts)
        done, gain = len(course), 1.0 - course[-1] / course[0]
        self._gain = f", {course[-1] / course[0] - 1.0:+.2%}"
        self._bars.update(self._task, completed=done)
        if not self._console.is_terminal:
            of = "" if self._total is None else f" of {self._total}"
            best = f"best {course[-1]:.4f} ({gain:.2%} better than the start)"
            self._console.print(f"{done}{of} trials, {best}{self._left(done)}", highlight=False, soft_wrap=True)

    def _left(self, done: int) -> str:
        """Time that is left at the pace of this call; nothing before it has run a batch of its own."""
        is_first = done <= self._starts
        if self._total is None or is_first or not self._before < done < self._total:
            return ""
        spent_s = time.monotonic() - self._began_s
        minutes = spent_s / (done - self._before) * (self._total - done) / 60
        return f", {minutes:.0f} min left" if minutes >= 1 else ", less than a minute left"

    def __enter__(self) -> RichStudyProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
