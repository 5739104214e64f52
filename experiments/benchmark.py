"""A whole benchmark: its plan of cells, the cells that are finished, and running those that are not.

A plan is a function of the configuration and of the files it names. Finished cells are kept in one file, a line each,
written at once; whatever ends a run, the next one goes on with what is missing.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from controller.config import write_run_header
from controller.errors import ConfigError, UsageError, mismatch
from envs.world import World
from experiments.benchmark_cells import BenchmarkCell, CellResult, WorldSource, run_cell
from experiments.benchmark_config import (
    SELECTED,
    BenchmarkConfig,
    PolicyEntry,
    members_of,
    placed,
    trace_label,
)
from experiments.dials import FLOOR_OFFSET, Dial, Dials, Points, default_dials, kind_of, points_of, with_settings
from experiments.rollout import new_loop
from experiments.run_config import PolicyChoice
from experiments.worker import Workers

CELLS = "cells.jsonl"


@dataclass(frozen=True, eq=False)
class Member:
    """A policy with its points on one scenario."""

    policy: PolicyChoice
    points: Points
    is_watched: bool = True  # at its own point

    @property
    def own(self) -> int:
        """Index of its own point."""
        return self.points.own[0] * self.points.shape[1] + self.points.own[1]


@dataclass(frozen=True)
class Case:
    """Scenario and trace, as they are called in tables."""

    scenario: str
    trace: str


class Plan:
    """What a configuration asks for.

    Args:
        config: The configuration.

    Attributes:
        worlds: By scenario and trace, in the order of the configuration.

    Raises:
        ProvisorError: Something the configuration names is missing, wrong, or does not fit.
    """

    def __init__(self, config: BenchmarkConfig) -> None:
        self.config = config
        self.worlds: dict[Case, WorldSource] = {}
        for scenario, trace in itertools.product(config.scenarios, config.traces):
            source = WorldSource(
                scenario=scenario,
                trace=trace,
                split=config.split,
                days=config.days,
                most_days=config.most_days,
                rate=config.rate,
            )
            self.worlds[Case(Path(scenario).stem, trace_label(trace))] = source
        self._members: dict[tuple[str, str], list[Member]] = {}
        for case, source in self.worlds.items():
            for name in config.row_names:
                if (name, case.scenario) not in self._members:
                    self._members[name, case.scenario] = self._found(name, source.scenario)
                for member in self._members[name, case.scenario]:
                    new_loop(source.open(), member.policy, 1)

    def members(self, name: str, scenario: str) -> list[Member]:
        """The members behind a row's name; a single policy has one."""
        return self._members[name, scenario]

    def world(self, case: Case) -> World:
        """The world of a case."""
        return self.worlds[case].open()

    def run_points(self, member: Member) -> list[int]:
        """Indices of the member's points that are run, or of those that may be."""
        own, points = member.points.own, member.points.points
        is_full = self.config.grid == "full"
        return [k for k, p in enumerate(points) if is_full or p.attainment == own[0] or p.accuracy == own[1]]

    def cells_at(self, member: Member, index: int, case: Case) -> list[BenchmarkCell]:
        """Cells of a member at one of its points, by random seed; of its other points only totals are wanted."""
        settings = member.points.points[index].settings
        policy, offset = with_settings(member.policy, settings), settings.get(FLOOR_OFFSET, 0.0)
        config, world, is_watched = self.config, self.worlds[case], member.is_watched and index == member.own
        return [
            BenchmarkCell(
                world=world,
                policy=policy,
                seed=seed,
                hours=config.hours,
                is_watched=is_watched,
                floor_offset=offset,
            )
            for seed in config.seeds
        ]

    @cached_property
    def _entries(self) -> dict[str, PolicyEntry]:
        return {entry.name: entry for entry in self.config.entries}

    def _found(self, name: str, scenario: str) -> list[Member]:
        entry = self._entries.get(name) or self._entries[name.removesuffix(SELECTED)]
        if name != entry.name and entry.selected is not None:
            policies = [placed(entry.selected, scenario)]
        else:
            policies = members_of(entry, scenario)
        is_watched = self.config.watched is None or name in self.config.watched
        return [Member(policy, points_of(policy, self._dials(entry, policy)), is_watched) for policy in policies]

    def _dials(self, entry: PolicyEntry, policy: PolicyChoice) -> Dials | None:
        dials = self.config.dials.get(kind_of(policy)) if entry.dials is None else entry.dials
        most = self.config.most_points
        if most is None:
            return dials
        chosen = dials or default_dials(policy)
        return Dials(attainment=_nearest(chosen.attainment, most), accuracy=_nearest(chosen.accuracy, most))


class Results(Protocol):
    """Results of finished cells by key."""

    def __contains__(self, key: str, /) -> bool: ...

    def __getitem__(self, key: str, /) -> CellResult: ...


class FinishedCells:
    """Results by key, in a file that only grows; a last line that was cut off by a kill is dropped.

    Args:
        path: The file; it need not exist.

    Raises:
        ConfigError: The file cannot be read or written, or a line but the last is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._results: dict[str, CellResult] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            text = path.read_bytes() if path.exists() else b""
            whole = text[: text.rfind(b"\n") + 1]
            if len(whole) < len(text):
                os.truncate(path, len(whole))
        except OSError as error:
            raise ConfigError(f"{path}: expected a file that can be written, got: {error.strerror or error}") from error
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                value = json.loads(line)
                self._results[value["key"]] = CellResult.model_validate_json(json.dumps(value["result"]))
            except (ValueError, KeyError, TypeError, ValidationError) as error:
                raise ConfigError(
                    f"{path}: line {number}: expected a finished cell, got: {str(error)[:120]}"
                ) from error

    def __contains__(self, key: str) -> bool:
        return key in self._results

    def __getitem__(self, key: str) -> CellResult:
        return self._results[key]

    def add(self, key: str, result: CellResult) -> None:
        """Keeps a result, on the disk when this returns."""
        line = json.dumps({"key": key, "result": result.model_dump(mode="json")}, separators=(",", ":"))
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        self._results[key] = result


def run_cells(
    cells: dict[str, BenchmarkCell],
    finished: FinishedCells,
    workers: Workers,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Runs what is not finished.

    Args:
        cells: By key.
        finished: Gets each result as it comes.
        workers: Who runs them.
        progress: Told how many of the cells that were missing are done, and how many were missing.

    Raises:
        ProvisorError: What a cell raised.
    """
    missing = {key: cell for key, cell in cells.items() if key not in finished}
    keys = list(missing)
    if progress is not None:
        progress(0, len(keys))
    for done, (index, result) in enumerate(workers.run(run_cell, missing.values()), 1):
        finished.add(keys[index], result)
        if progress is not None:
            progress(done, len(keys))


def note_run(plan: Plan, directory: Path) -> None:
    """Writes `run.json`: what is run, in full."""
    worlds = {f"{case.scenario}/{case.trace}": plan.world(case) for case in plan.worlds}
    resolved = {
        "benchmark": plan.config.model_dump(mode="json"),
        "scales": {name: world.scale for name, world in worlds.items()},
        "days": {name: list(world.days) for name, world in worlds.items()},
        "catalogs": {w.setting.source.name: w.setting.source.fingerprint for w in worlds.values()},
    }
    write_run_header(directory, resolved, plan.config.seeds)


def with_own(
    config: BenchmarkConfig, policies: Iterable[str], traces: Iterable[str], scenarios: Iterable[str]
) -> BenchmarkConfig:
    """The configuration with policies added and, where any are given, traces and scenarios replaced.

    Raises:
        ConfigError: A name is there already.
    """
    from controller.config import parse_config

    fields = config.model_dump(mode="json")
    fields["policies"] = [*fields["policies"], *policies]
    if chosen := list(traces):
        fields["traces"] = chosen
    if chosen := list(scenarios):
        fields["scenarios"] = chosen
    return parse_config(fields, BenchmarkConfig, "benchmark")


def _nearest(dial: Dial | None, most: int) -> Dial | None:
    """The dial with the values nearest to the policy's own, on both sides where there are such."""
    if dial is None:
        return None
    factors = _both_sides(dial.factors, 1.0, most)
    steps = _both_sides(dial.steps, 0.0, most)
    then = dial.then and dial.then.model_copy(update={"factors": dial.then.factors[:most]})
    return dial.model_copy(update={"factors": factors, "steps": steps, "values": dial.values[:most], "then": then})


def _both_sides(values: tuple[float, ...], own: float, most: int) -> tuple[float, ...]:
    below = sorted((value for value in values if value < own), reverse=True)
    above = sorted(value for value in values if value > own)
    turns: Iterator[float | None] = itertools.chain.from_iterable(itertools.zip_longest(above, below))
    return tuple([value for value in turns if value is not None][:most])


def row_error(only: str, known: Iterable[str]) -> UsageError:
    """The error of a row that is not in the table."""
    from controller.validation import did_you_mean

    ids = list(known)
    return UsageError(mismatch("--only", f"a row such as '{ids[0]}'", only) + did_you_mean(only, ids))
