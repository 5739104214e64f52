"""What is searched and when it is enough; nothing of how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import Field, JsonValue, model_validator

from controller.config import StrictModel
from experiments.tuning import Range

Settings = dict[str, JsonValue]


@dataclass(frozen=True)
class Judged:
    """Settings on one world."""

    value: float  # lower is better; what is not finite has failed
    facts: dict[str, JsonValue]
    failure: str = ""


class Judge(Protocol):
    """Rates settings."""

    def __call__(self, asked: Sequence[tuple[Settings, int]]) -> list[Judged]:
        """One result for each pair of settings and index of a world, in order."""


@dataclass(frozen=True)
class SearchPlan:
    """What is searched, from where, how."""

    ranges: tuple[Range, ...]
    starts: tuple[
        Settings, ...
    ]  # complete settings, the first trials; proposals keep what the first has outside ranges
    worlds: int
    batch: int
    seed: int
    give_up_above: float | None  # share over the best's mean on the same worlds; None: every trial is judged on all
    is_near: bool = (
        False  # the best lies near the first start: from the second trial on, proposals follow what is known
    )


class StopRule(StrictModel):
    """When a search is over, whichever comes first."""

    trials: int | None = Field(default=None, ge=1, description="trials in all, starts included")
    until_gain: float | None = Field(default=None, gt=0, lt=1, description="least gain that `gain_trials` must bring")
    gain_trials: int = Field(default=500, ge=1)

    @model_validator(mode="after")
    def _ends(self) -> StopRule:
        if self.trials is None and self.until_gain is None:
            raise ValueError("expected trials or until_gain, got neither")
        return self

    def reached(self, course: Sequence[float]) -> str | None:
        """Which rule ends a search of this course: `trials`, `gain`, or None while it goes on.

        Args:
            course: Best value after each trial.
        """
        if self.trials is not None and len(course) >= self.trials:
            return "trials"
        if self.until_gain is None or len(course) <= self.gain_trials:
            return None
        return "gain" if gain_of_last(course, self.gain_trials) < self.until_gain else None


def gain_of_last(course: Sequence[float], trials: int) -> float:
    """Share by which the best value fell over the last trials; over all but the first, where there are fewer."""
    before, now = course[max(0, len(course) - 1 - trials)], course[-1]
    return 1.0 - now / before if before > 0 else 0.0
