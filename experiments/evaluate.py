"""Policies on scenarios, days and seeds, all under the same requests, and the files that say what came out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from controller.config import write_run_header
from controller.errors import UsageError
from controller.scenario import load_scenario
from envs.world import World, build_world
from experiments.outcome import Evaluation
from experiments.report import write_report
from experiments.results import ResultRow, write_results
from experiments.rollout import Progress, Recorder, Ticker, Timer, batches, new_loop, new_simulator, prepare, roll
from experiments.run_config import PolicyChoice, RunConfig, policy_labels
from experiments.timeline import Timeline, TimelineRecorder

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
        rows: list[ResultRow] = []
        timeline: Timeline | None = None
        for index, start in enumerate(starts):
            timer, first = Timer(), start.cells[0]
            course = TimelineRecorder(world.setting, world.cell_ticks)
            recorders: list[Recorder] = [timer, Ticker(progress)] if index else [timer, Ticker(progress), course]
            tally = roll(world, start, policy, recorders, simulator=simulators[len(start.cells)])
            rows += [
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
            if index == 0:
                timeline = course.timeline(label, first.day, first.seed)
        result.rows += rows
        if timeline is not None:
            result.timelines.append(timeline)


def write_evaluation(result: Evaluation, directory: Path, title: str) -> list[Path]:
    """Writes `results.json`, `results.csv` and, where there is a row, `report.html`; returns what was written."""
    written = list(write_results(result.rows, directory))
    if result.rows:
        written.append(write_report(result, directory / REPORT, title))
    return written


def run_evaluation(config: RunConfig, progress: Progress | None = None) -> tuple[Evaluation, list[Path]]:
    """Builds the worlds of a run, notes what is run in `run.json`, evaluates, writes.

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
    result = evaluate(worlds, config.policies, config.seeds, progress)
    return result, write_evaluation(result, directory, config.name)
