"""Tunes the settings of a policy on whole days of several worlds together: `provisor tune` without its command line.

Each world counts alike: its value is the objective relative to what the start settings cost there, and a trial's value
is the mean over worlds. Promises are judged per world, so that a day which breaks one is not paid for by another.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from controller.config import write_run_header
from controller.errors import UsageError
from experiments.day_outcome import DayJob, DayOutcome, run_day
from experiments.fanout import in_order
from experiments.objective import Score, score
from experiments.search_plan import Judged, SearchPlan, Settings, StopRule
from experiments.study_config import StudyConfig
from experiments.study_summary import StudyResult, kernels_hash, without_seconds, write_study
from experiments.worker import Workers
from experiments.world_ref import fingerprint, world_of

if TYPE_CHECKING:
    from experiments.search import Search

STUDY_LOG = "study.log"


class StudyProgress:
    """What a study tells while it goes on; this one is silent."""

    def started(self, stop: StopRule, worlds: int, done: int) -> None:
        """The search begins, or goes on after so many trials."""

    def judged(self) -> None:
        """One more trial was judged on one more world."""

    def batch(self, result: StudyResult) -> None:
        """A batch was finished."""


def run_study(
    config: StudyConfig, stop: StopRule, folder: Path, workers: Workers, progress: StudyProgress | None = None
) -> StudyResult:
    """Searches, continuing what the folder holds.

    Args:
        config: What is tuned.
        stop: When it is enough.
        folder: Gets `run.json`, `study.log` and, anew after every batch, `settings.yaml` and `study.json`.
        workers: Who runs the days.
        progress: Told what goes on.

    Raises:
        ProvisorError: A world or the start is wrong, or the folder holds another study.
    """
    from experiments.search import Search

    progress = progress or StudyProgress()
    worlds = {f"{index}: {ref.label}": fingerprint(ref) for index, ref in enumerate(config.worlds)}
    plan = SearchPlan(
        ranges=config.ranges,
        starts=(config.start, *config.more_starts),
        worlds=len(config.worlds),
        batch=config.batch,
        seed=config.seed,
        give_up_above=config.give_up_above,
    )
    resolved: dict[str, JsonValue] = {
        "config": config.model_dump(mode="json"),
        "ranges": {one.name: [one.low, one.high] for one in plan.ranges},
        "worlds": {**worlds},
        "kernels": kernels_hash(),
    }
    search = Search(plan, folder / STUDY_LOG, resolved, unless_repeated=("kernels",))
    write_run_header(folder, {**resolved, "stop": stop.model_dump(mode="json")}, [config.seed])
    judge = WorldJudge(config, workers, progress)
    references = judge.references()
    if search.differs:
        if search.trials:
            _repeat(search, judge, folder / STUDY_LOG)
        search.renew()
    progress.started(stop, plan.worlds, len(search.trials))

    def told() -> None:
        result = StudyResult(config, search, references, None)
        write_study(result, folder, importances=False)
        progress.batch(result)

    result = StudyResult(config, search, references, search.run(judge, stop, told))
    write_study(result, folder)
    return result


def _repeat(search: Search, judge: WorldJudge, path: Path) -> None:
    """Runs the start and the best again, under other code than they were run under.

    Raises:
        UsageError: They come to something else.
    """
    from experiments.search import FACTS

    for trial in {one.number: one for one in (search.trials[0], search.best)}.values():
        settings = search.settings(trial.number, trial.params)
        found = judge([(settings, world) for world in range(search.plan.worlds)])
        for world, (judged, held) in enumerate(zip(found, trial.user_attrs[FACTS], strict=True)):
            here, there = (without_seconds(facts) for facts in (judged.facts, held))
            if here != there:
                raise UsageError(
                    f"{path}: trial {trial.number} was judged by other code, which world {world} shows: expected "
                    f"{there}, got {here or judged.failure}; begin in another folder"
                )


class WorldJudge:
    """Rates settings on days; equal settings are run once.

    Args:
        config: Objective and worlds.
        workers: Who runs the days.
        progress: Told of each day.
    """

    def __init__(self, config: StudyConfig, workers: Workers, progress: StudyProgress) -> None:
        self._config, self._workers, self._progress = config, workers, progress
        self._held: dict[tuple[str, int], DayOutcome] = {}
        self._references: tuple[float, ...] = config.references_usd or ()

    def references(self) -> tuple[float, ...]:
        """Cost of each world that counts as 1.

        Raises:
            UsageError: The start cannot be run, or costs nothing somewhere.
        """
        if not self._references:
            # The first alone compiles the kernels, which every other worker then finds on disk.
            self._outcomes([(self._config.start, 0)])
            found = self._outcomes([(self._config.start, world) for world in range(len(self._config.worlds))])
            costs = []
            for ref, day in zip(self._config.worlds, found, strict=True):
                if day.outcome is None:
                    raise UsageError(f"start: expected settings that can be run on {ref.label}, got: {day.failure}")
                costs.append(float(day.outcome.cost_usd.mean()))
                if costs[-1] <= 0:
                    raise UsageError(
                        f"start: expected settings that cost something on {ref.label}, got {costs[-1]} USD"
                    )
            self._references = tuple(costs)
        return self._references

    def __call__(self, asked: Sequence[tuple[Settings, int]]) -> list[Judged]:
        """Value and facts of each pair of settings and world."""
        references = self.references()
        found = []
        for (_, world), day in zip(asked, self._outcomes(asked), strict=True):
            if day.outcome is None:
                found.append(Judged(float("inf"), {}, day.failure))
                continue
            workload = world_of(self._config.worlds[world]).setting.workload
            rated = score(day.outcome, workload, self._config.objective, references[world])
            found.append(Judged(rated.value, facts_of(rated, day.seconds, day.solver)))
        return found

    def _outcomes(self, asked: Sequence[tuple[Settings, int]]) -> list[DayOutcome]:
        keys = [(json.dumps(settings, sort_keys=True), world) for settings, world in asked]
        new = {key: pair for key, pair in zip(keys, asked, strict=True) if key not in self._held}
        jobs = [DayJob(self._config.kind, settings, self._config.worlds[world]) for settings, world in new.values()]
        results: dict[int, DayOutcome] = {}
        for index, outcome in self._workers.run(run_day, jobs):
            results[index] = outcome
            self._progress.judged()
        self._held.update(zip(new, in_order(results.items()), strict=True))
        return [self._held[key] for key in keys]


def facts_of(rated: Score, seconds: float, solver: dict[str, int] | None = None) -> dict[str, JsonValue]:
    """A score as a trial keeps it."""
    counted: dict[str, JsonValue] = {} if solver is None else {"solver": {**solver}}
    return counted | {
        "value": rated.value,
        "cost_usd": rated.cost_usd,
        "miss_share": list(rated.miss_share),
        "accuracy": list(rated.accuracy),
        "seconds": round(seconds, 3),
    }
