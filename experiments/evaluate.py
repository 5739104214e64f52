"""Policies on scenarios, days and seeds, all under the same requests, and the files that say what came out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from controller.config import StrictModel, write_run_header
from controller.errors import UsageError
from controller.scenario import load_scenario
from envs.world import World, WorldChoice, build_world
from experiments.outcome import Evaluation, Found
from experiments.report import write_report
from experiments.results import ResultRow, write_results
from experiments.rollout import (
    Progress,
    Recorder,
    Start,
    Ticker,
    Timer,
    batches,
    new_loop,
    new_simulator,
    prepare,
    roll,
)
from experiments.run_config import PolicyChoice, RunConfig, policy_labels
from experiments.timeline import Timeline, TimelineRecorder
from experiments.worker import Workers

if TYPE_CHECKING:
    from envs.simulator import Simulator

REPORT = "report.html"


def build_worlds(config: RunConfig) -> list[World]:
    """The worlds of a run, one per scenario.

    Raises:
        ProvisorError: A scenario, file or day range is wrong.
    """
    return [build_world(load_scenario(name), config.choice) for name in config.scenarios]


def evaluate(
    worlds: Sequence[World],
    policies: Sequence[PolicyChoice],
    seeds: Sequence[int],
    progress: Progress | None = None,
) -> Evaluation:
    """Runs every policy on every cell of every world.

    Ctrl-C ends it early: policies that were finished on a scenario are in the result, which is then partial.

    Args:
        worlds: One per scenario.
        policies: What `make_policy` takes.
        seeds: Seeds; each day of a world is run under each.
        progress: Told what goes on.

    Raises:
        ProvisorError: A policy is unknown or does not fit a world; found before anything is run.
    """
    progress = progress or Progress()
    for world in worlds:
        for policy in policies:
            new_loop(world, policy, 1)
    progress.started(sum(w.cell_ticks * len(batches(w.cells(seeds))) for w in worlds) * len(policies))
    result = Evaluation()
    try:
        for world in worlds:
            result.scales[world.setting.scenario.name] = world.scale
            _evaluate_world(world, policies, seeds, progress, result)
    except KeyboardInterrupt:
        result.is_partial = True
    return result


def _evaluate_world(
    world: World, policies: Sequence[PolicyChoice], seeds: Sequence[int], progress: Progress, result: Evaluation
) -> None:
    starts = [prepare(world, cells) for cells in batches(world.cells(seeds))]
    simulators = {size: new_simulator(world, size) for size in {len(start.cells) for start in starts}}
    for policy, label in zip(policies, policy_labels(policies), strict=True):
        progress.working_on(f"{label} on {world.setting.scenario.name}")
        found = [
            _run(world, start, policy, label, simulators[len(start.cells)], progress, is_watched=index == 0)
            for index, start in enumerate(starts)
        ]
        result.add(found)


def _run(
    world: World,
    start: Start,
    policy: PolicyChoice,
    label: str,
    simulator: Simulator,
    progress: Progress,
    *,
    is_watched: bool,
) -> Found:
    """Rows of a batch of cells and, where it is watched, the course of the first."""
    timer, first = Timer(), start.cells[0]
    course = TimelineRecorder(world.setting, world.cell_ticks)
    recorders: list[Recorder] = [timer, Ticker(progress), course] if is_watched else [timer, Ticker(progress)]
    tally = roll(world, start, policy, recorders, simulator=simulator)
    rows = [
        tally.row(
            env,
            policy=label,
            trace=world.trace_name,
            day=cell.day,
            seed=cell.seed,
            decide_ms_p99=timer.ms_p99,
        )
        for env, cell in enumerate(start.cells)
    ]
    return Found(tuple(rows), course.timeline(label, first.day, first.seed) if is_watched else None)


class EvaluationPart(StrictModel):
    """What one worker runs: a policy on the days of a scenario under one seed."""

    scenario: str
    choice: WorldChoice
    policy: PolicyChoice
    label: str
    seed: int
    is_watched: bool = Field(description="whether the course of the first day is noted")


def evaluate_part(part: EvaluationPart) -> Found:
    """Runs a part; what it finds is the same in any process.

    Raises:
        ProvisorError: Something that the part names is wrong.
    """
    world = _world(part.scenario, part.choice)
    rows: list[ResultRow] = []
    timeline: Timeline | None = None
    for index, cells in enumerate(batches(world.cells([part.seed]))):
        is_watched = part.is_watched and index == 0
        simulator = new_simulator(world, len(cells))
        found = _run(
            world, prepare(world, cells), part.policy, part.label, simulator, Progress(), is_watched=is_watched
        )
        rows += found.rows
        timeline = timeline or found.timeline
    return Found(tuple(rows), timeline)


@lru_cache(maxsize=16)
def _world(scenario: str, choice: WorldChoice) -> World:
    return build_world(load_scenario(scenario), choice)


def evaluate_on(
    workers: Workers, config: RunConfig, worlds: Sequence[World], progress: Progress | None = None
) -> Evaluation:
    """What `evaluate` returns, computed by workers.

    Args:
        workers: Who computes.
        config: The run.
        worlds: Of the run.
        progress: Told what is done, part by part.

    Raises:
        ProvisorError: A policy is unknown or does not fit a world; found before anything is run.
    """
    progress = progress or Progress()
    for world in worlds:
        for policy in config.policies:
            new_loop(world, policy, 1)
    labels = policy_labels(config.policies)
    parts = [
        (world, EvaluationPart(scenario=s, choice=config.choice, policy=p, label=label, seed=seed, is_watched=not k))
        for s, world in zip(config.scenarios, worlds, strict=True)
        for p, label in zip(config.policies, labels, strict=True)
        for k, seed in enumerate(config.seeds)
    ]
    progress.started(sum(world.cell_ticks for world, _ in parts))
    result = Evaluation(scales={world.setting.scenario.name: world.scale for world in worlds})
    found: dict[int, Found] = {}
    try:
        for index, one in workers.run(evaluate_part, [part for _, part in parts]):
            found[index] = one
            for _ in range(parts[index][0].cell_ticks):
                progress.advanced()
    except KeyboardInterrupt:
        result.is_partial = True
    per_policy = len(config.seeds)
    for first in range(0, len(parts), per_policy):
        whole = [found[index] for index in range(first, first + per_policy) if index in found]
        if len(whole) == per_policy:
            result.add(whole)
    return result


def write_evaluation(result: Evaluation, directory: Path, title: str) -> list[Path]:
    """Writes `results.json`, `results.csv` and, where there is a row, `report.html`; returns what was written."""
    written = list(write_results(result.rows, directory))
    if result.rows:
        written.append(write_report(result, directory / REPORT, title))
    return written


def run_evaluation(
    config: RunConfig, progress: Progress | None = None, workers: Workers | None = None
) -> tuple[Evaluation, list[Path]]:
    """Builds the worlds of a run, notes what is run in `run.json`, evaluates, writes.

    Args:
        config: The run.
        progress: Told what goes on.
        workers: Who computes; None: this process, all cells side by side, on all cores.

    Raises:
        ProvisorError: The run has no policy, or something it names is wrong.
    """
    if not config.policies:
        raise UsageError("policies: expected at least one (`--policy P`, or `policies:` in the run file), got none")
    worlds = build_worlds(config)
    directory = Path(config.out)
    resolved = {
        "run": config.model_dump(mode="json"),
        "scenarios": [world.setting.scenario.model_dump(mode="json") for world in worlds],
        "catalogs": {world.setting.source.name: world.setting.source.fingerprint for world in worlds},
        "scales": {world.setting.scenario.name: world.scale for world in worlds},
    }
    write_run_header(directory, resolved, config.seeds)
    if workers is None:
        result = evaluate(worlds, config.policies, config.seeds, progress)
    else:
        result = evaluate_on(workers, config, worlds, progress)
    return result, write_evaluation(result, directory, config.name)
