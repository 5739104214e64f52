"""What an evaluation holds while it runs and hands to its report."""

from __future__ import annotations

from dataclasses import dataclass, field

from experiments.results import ResultRow
from experiments.timeline import Timeline


@dataclass
class Evaluation:
    """What is known so far; complete unless `is_partial`."""

    rows: list[ResultRow] = field(default_factory=list)
    timelines: list[Timeline] = field(default_factory=list)  # of the first cell, by scenario and policy
    scales: dict[str, float] = field(default_factory=dict)  # scenario to the constant of its rate
    is_partial: bool = False
