"""Whether tuned settings still come to what their study found: a decision path that changed later made them stale.

Settings are kept with what they came to on each day they were tuned on. Nothing in a file notices that the code which
decides, the simulator or a trace became another one after the search; the same days, run again, do.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from controller.compile import Setting, compile_scenario
from controller.config import parse_config
from controller.errors import ConfigError, mismatch
from controller.policies.registry import PolicySpec, make_policy, read_spec
from controller.scenario import load_scenario
from envs.world import WorldChoice
from experiments.benchmark_cells import BenchmarkCell, CellResult, DayResult, WorldSource, cell_key
from experiments.benchmark_config import OWN
from experiments.clairvoyant import CLAIRVOYANT
from experiments.objective import ObjectiveConfig, Outcome, score
from experiments.suite import split_of_day
from experiments.world_ref import WorldRef

MOST_DIFFERENCE = 0.005
"""Of a study's value: what other processors' arithmetic may come to, and next to no change of code does."""

_IN_SUMMARY_ALONE = ("trace", "classes", "fingerprint", "reference_usd", "start", "best")


class Finished(Protocol):
    """Results of cells by their key."""

    def __getitem__(self, key: str) -> CellResult:
        """Of a cell that is finished."""


@dataclass(frozen=True)
class KeptStudy:
    """What the summary of a study says of its best settings.

    Attributes:
        path: The settings' file.
        cells: The settings on each day they were tuned on.
        references_usd: Cost of each day that counts as 1.
        objective: What was minimised.
        value: The mean over the days.
    """

    path: Path
    cells: tuple[BenchmarkCell, ...]
    references_usd: tuple[float, ...]
    objective: ObjectiveConfig
    value: float


@dataclass(frozen=True)
class FoundAgain:
    """A study's settings run anew."""

    path: Path
    value: float  # as the study has it
    now: float

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
        ConfigError: A world or the objective in it is wrong, or a world is not of the suite and not the scenario's own.
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
    policy = PolicySpec(kind=summary["policy"]["kind"], settings=summary["settings"])
    return KeptStudy(
        path=settings,
        cells=tuple(
            BenchmarkCell(
                world=_source(world, f"{path}: worlds[{index}]"), policy=policy, seed=world.seed, is_watched=False
            )
            for index, world in enumerate(worlds)
        ),
        references_usd=tuple(float(world["reference_usd"]) for world in summary["worlds"]),
        objective=parse_config(summary["objective"], ObjectiveConfig, f"{path}: objective"),
        value=float(np.mean([world["best"]["value"] for world in summary["worlds"]])),
    )


def try_out(settings: Path, scenario: str) -> None:
    """Makes the rule that tuned settings stand for: valid ones may still name what a scenario does not have.

    Args:
        settings: Their file.
        scenario: Name or path.

    Raises:
        ProvisorError: They are refused, or there is no such scenario.
    """
    spec = read_spec(str(settings))
    kind = "mpc" if spec.kind == CLAIRVOYANT else spec.kind  # of the same settings, but made for a world
    make_policy(PolicySpec(kind=kind, settings=spec.settings), _setting_of(scenario))


@lru_cache(maxsize=16)
def _setting_of(scenario: str) -> Setting:
    return compile_scenario(load_scenario(scenario))


def cells_of(studies: Sequence[KeptStudy]) -> dict[str, BenchmarkCell]:
    """What has to be run for them, by key.

    Raises:
        ProvisorError: A day cannot be built.
    """
    return {cell_key(cell): cell for study in studies for cell in study.cells}


def found_again(study: KeptStudy, finished: Finished) -> FoundAgain:
    """What a study's settings come to now.

    Args:
        study: Whose cells are all finished.
        finished: Their results by key.
    """
    days = [(cell, finished[cell_key(cell)].days[0]) for cell in study.cells]
    values = [
        score(_outcome(day), cell.world.open().setting.workload, study.objective, reference_usd).value
        for (cell, day), reference_usd in zip(days, study.references_usd, strict=True)
    ]
    return FoundAgain(study.path, study.value, float(np.mean(values)))


def _source(ref: WorldRef, where: str) -> WorldSource:
    """The day as a benchmark names it."""
    if ref.choice != WorldChoice():
        raise ConfigError(mismatch(f"{where}.choice", "nothing", ref.choice.model_dump()))
    days = (ref.day, ref.day)
    if ref.suite_trace is None:
        return WorldSource(scenario=ref.scenario, trace=OWN, days=days)
    split = split_of_day(ref.suite_trace, ref.day)
    return WorldSource(scenario=ref.scenario, trace=ref.suite_trace, split=split, days=days, rate=ref.rate_factor)


def _outcome(day: DayResult) -> Outcome:
    return Outcome(
        cost_usd=np.array([day.cost_usd]),
        arrivals=np.array([day.requests]),
        missed=np.array([day.missed]),
        answered=np.array([day.answered]),
        accuracy_sum=np.array([day.accuracy_sum]),
    )
