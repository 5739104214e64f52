"""What a training shows: a bar on a terminal, and one line per stage and validation anywhere."""

from __future__ import annotations

import math
import time
from types import TracebackType

from rich.console import Console

from experiments.objective import Score
from experiments.progress import bars_on


class LearningProgress:
    """Follows a training on standard error.

    Args:
        ticks_per_decision: Simulated ticks of one decision, for the tick rate.
    """

    def __init__(self, ticks_per_decision: int) -> None:
        self._ticks_per_decision = ticks_per_decision
        self._console = Console(stderr=True)
        self._bars = bars_on(self._console, "{task.fields[note]}")
        self._task = self._bars.add_task("preparing", total=None, note="")
        self._last_s = time.monotonic()
        self._last_steps: int | None = None

    def say(self, text: str) -> None:
        """Prints one line."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def stage(self, text: str, total: int) -> None:
        """A stage begins."""
        self.say(text)
        self._bars.reset(self._task, total=total, description=text, note="")
        self._last_steps = None
        self._last_s = time.monotonic()

    def trial(self, done: int, value: float, best: float) -> None:
        """A setting of the rule was tried; values are relative to the start's cost."""
        self._bars.update(self._task, completed=done, note=f"best {best:.3f}")

    def rollout(self, steps: int, mean_return: float) -> None:
        """A rollout and its update are done."""
        now_s = time.monotonic()
        # Of a resumed run, the first rollout's size is not known here; its rate would be absurd.
        rate = "" if self._last_steps is None else f"{self._rate(steps, now_s):,.0f} ticks/s"
        shown = "" if math.isnan(mean_return) else f", return {mean_return:+.3f}"
        self._bars.update(self._task, completed=steps, note=f"decisions, {rate}{shown}")
        self._last_s, self._last_steps = now_s, steps

    def validated(self, steps: int, score: Score, rule: Score) -> None:
        """The policy was evaluated on the validation days."""
        change = score.value / rule.value - 1.0
        misses = max(score.miss_share)
        self.say(
            f"  {steps:>9,} decisions: validation {change:+.2%} against the rule "
            f"(cost {score.cost_usd / rule.cost_usd - 1.0:+.2%}, most misses of a class {misses:.2%})"
        )
        self._last_s = time.monotonic()  # validation is no part of the tick rate

    def _rate(self, steps: int, now_s: float) -> float:
        assert self._last_steps is not None
        return (steps - self._last_steps) * self._ticks_per_decision / max(now_s - self._last_s, 1e-9)

    def __enter__(self) -> LearningProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
