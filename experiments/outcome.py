"""What an evaluation holds while it runs and hands to its report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from experiments.results import ResultRow
from experiments.timeline import Timeline


@dataclass(frozen=True)
class Found:
    """Rows of one policy on some cells of a scenario, and the course of the first of them where it was watched."""

    rows: tuple[ResultRow, ...]
    timeline: Timeline | None


@dataclass
class Evaluation:
    """What is known so far; complete unless `is_partial`."""

    rows: list[ResultRow] = field(default_factory=list)
    timelines: list[Timeline] = field(default_factory=list)  # of the first cell, by scenario and policy
    scales: dict[str, float] = field(default_factory=dict)  # scenario to the constant of its rate
    is_partial: bool = False

    def add(self, found: Iterable[Found]) -> None:
        """Takes all that was found of one policy on one scenario."""
        for one in found:
            self.rows += one.rows
            if one.timeline is not None:
                self.timelines.append(one.timeline)
