"""Whether tuned settings still come to what their study found: a decision path that changed later made them stale.

Settings are kept with what they came to on each day they were tuned on. Nothing in a file notices that the code which
decides, the simulator or a trace became another one after the search; the same days, run again, do.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from controller.config import parse_config
from experiments.day_outcome import DayJob, DayOutcome, run_day
from experiments.fanout import in_order
from experiments.objective import ObjectiveConfig, score
from experiments.worker import Workers
from experiments.world_ref import WorldRef, world_of

MOST_DIFFERENCE = 0.005
"""Of a study's value: what other processors' arithmetic may come to, and next to no change of code does."""

_IN_SUMMARY_ALONE = ("trace", "classes", "fingerprint", "reference_usd", "start", "best")


@dataclass(frozen=True)
class KeptStudy:
    """What the summary of a study says of its best settings.

    Attributes:
        path: The settings' file.
        jobs: The settings on each day they were tuned on.
        references_usd: Cost of each day that counts as 1.
        objective: What was minimised.
        value: The mean over the days.
    """

    path: Path
    jobs: tuple[DayJob, ...]
    references_usd: tuple[float, ...]
    objective: ObjectiveConfig
    value: float


@dataclass(frozen=True)
class FoundAgain:
    """A study's settings run anew."""

    path: Path
    value: float  # as the study has it
    now: float  # infinite where the settings cannot be run any more

    @property
    def difference(self) -> float:
        """Relative, without sign."""
        return abs(self.now / self.value - 1.0)

    @property
    def holds(self) -> bool:
        """Whether the settings are still what the study found."""
        return self.difference <= MOST_DIFFERENCE


def kept_study(settings: Path, scenario: str) -> KeptStudy:
    """Reads the summary beside tuned settings.

    Args:
        settings: Their file.
        scenario: Name or path of what they were tuned for, which a summary may have as a path of another folder.

    Raises:
        ConfigError: A world or the objective in it is wrong.
        OSError, ValueError, KeyError: It is no summary.
    """
    path = settings.with_suffix(".json")
    summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    worlds = [
        parse_config(
            {name: value for name, value in world.items() if name not in _IN_SUMMARY_ALONE} | {"scenario": scenario},
            WorldRef,
            f"{path}: worlds[{index}]",
        )
        for index, world in enumerate(summary["worlds"])
    ]
    kind, chosen = summary["policy"]["kind"], summary["settings"]
    return KeptStudy(
        path=settings,
        jobs=tuple(DayJob(kind, chosen, world) for world in worlds),
        references_usd=tuple(float(world["reference_usd"]) for world in summary["worlds"]),
        objective=parse_config(summary["objective"], ObjectiveConfig, f"{path}: objective"),
        value=float(np.mean([world["best"]["value"] for world in summary["worlds"]])),
    )


def run_again(studies: Sequence[KeptStudy], workers: Workers) -> list[FoundAgain]:
    """Runs the settings of studies on the days they were tuned on.

    Raises:
        ProvisorError: A day cannot be built.
    """
    jobs = [job for study in studies for job in study.jobs]
    outcomes = iter(in_order(workers.run(run_day, jobs)))
    return [FoundAgain(one.path, one.value, _value(one, [next(outcomes) for _ in one.jobs])) for one in studies]


def _value(study: KeptStudy, days: Sequence[DayOutcome]) -> float:
    """Mean over the days of what was minimised."""
    values = [
        float("inf")
        if day.outcome is None
        else score(day.outcome, world_of(job.world).setting.workload, study.objective, reference_usd).value
        for job, reference_usd, day in zip(study.jobs, study.references_usd, days, strict=True)
    ]
    return float(np.mean(values))
