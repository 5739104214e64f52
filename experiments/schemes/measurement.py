"""Everything that `provisor experiment schemes` measures, in one run, and the tables it leaves."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from controller.catalog import load_catalog
from controller.config import commit_of_code
from controller.errors import ConfigError
from envs.world import DATA_VARIABLE, expand_path
from experiments.catalog_sources import read_sources
from experiments.schemes.break_even import (
    MACHINE,
    MEASURED_MEMORIES,
    MODERN,
    Crossing,
    Level,
    comparison_setting,
    crossings,
    levels,
)
from experiments.schemes.constrained_choice import (
    ACCURACIES,
    ACCURACY_BOUND,
    LATENCIES_S,
    LATENCY_BOUND_S,
    Asked,
    Priced,
    iso_accuracy,
    iso_latency,
    priced_options,
)
from experiments.schemes.courses import COURSES, Course, world_of
from experiments.schemes.memory_sweep import Point, Verdict, derived_catalog, measured_catalog, sweep, verdicts
from experiments.schemes.scheme_days import WARM_UP_S, SchemeDay, run_course


@dataclass(frozen=True)
class Extent:
    """How much is simulated.

    Attributes:
        crossing_hours: Of each rate by which costs are said to cross; long, for cold starts are rare.
        level_hours, sweep_hours, choice_hours: Of each run of the other constant loads.
        courses: Traces for the schemes.
        ticks: Of each day; None: all.
        warm_up_s: Of each day, not counted.
    """

    crossing_hours: float = 24.0
    level_hours: float = 1.0
    sweep_hours: float = 6.0
    choice_hours: float = 0.5
    courses: tuple[Course, ...] = COURSES
    ticks: int | None = None
    warm_up_s: float = WARM_UP_S


@dataclass
class Measurement:
    """What was measured; a list is empty where it was not."""

    crossings: list[Crossing] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)
    memory: list[Point] = field(default_factory=list)
    memory_verdicts: list[Verdict] = field(default_factory=list)
    options: list[Priced] = field(default_factory=list)
    choices: list[Asked] = field(default_factory=list)
    days: list[SchemeDay] = field(default_factory=list)
    is_partial: bool = False

    def day(self, course: str, scheme: str) -> SchemeDay:
        """One scheme on one course.

        Raises:
            KeyError: It was not run.
        """
        for day in self.days:
            if (day.course, day.scheme) == (course, scheme):
                return day
        raise KeyError(f"{scheme} on {course}")


def measure_schemes(say: Callable[[str], None], extent: Extent | None = None) -> Measurement:
    """Measures everything; Ctrl-C ends it early, with the parts that were finished.

    Args:
        say: Prints one line of progress.
        extent: How much; None: all of it.

    Raises:
        UsageError: `$PROVISOR_DATA` is not set.
        ConfigError: A table or trace is missing there.
    """
    extent = extent or Extent()
    found = Measurement()
    # Before anything is simulated, so that what is missing is said at once.
    sources = read_sources(Path(expand_path(f"${DATA_VARIABLE}", "memory sweep and traces")))
    worlds = [(course, world_of(course)) for course in extent.courses]
    catalog = load_catalog("default")
    try:
        setting = comparison_setting(catalog, MACHINE, (*MEASURED_MEMORIES, MODERN))
        found.crossings = crossings(setting, extent.crossing_hours, say)
        found.levels = levels(setting, extent.level_hours, say)
        for name, build in (("measured", measured_catalog), ("derived", derived_catalog)):
            found.memory += sweep(build(sources), name, extent.sweep_hours, say)
        found.memory_verdicts = verdicts(found.memory)
        found.options = priced_options(catalog, LATENCIES_S, extent.choice_hours, say)
        found.choices = iso_latency(found.options, LATENCY_BOUND_S, ACCURACIES)
        found.choices += iso_accuracy(found.options, ACCURACY_BOUND, LATENCIES_S)
        for course, world in worlds:
            found.days += run_course(world, course, say, warm_up_s=extent.warm_up_s, ticks=extent.ticks)
    except KeyboardInterrupt:
        found.is_partial = True
    return found


def write_tables(found: Measurement, directory: Path) -> list[Path]:
    """Writes `results.json` and one CSV per table; returns what was written.

    Raises:
        ConfigError: The directory cannot be written.
    """
    tables = {f.name: getattr(found, f.name) for f in fields(found) if f.name != "is_partial"}
    written = [directory / "results.json"]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        whole: dict[str, Any] = {**commit_of_code(), "is_partial": found.is_partial}
        whole |= {name: [_flat(row) for row in rows] for name, rows in tables.items()}
        written[0].write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        for name, rows in tables.items():
            if rows:
                written.append(directory / f"{name}.csv")
                _write_csv([_flat(row) for row in rows], written[-1])
    except OSError as error:
        raise ConfigError(f"{directory}: expected a writable directory, got: {error.strerror or error}") from error
    return written


def _flat(row: Any) -> dict[str, Any]:
    """A row with the fields of rows inside it beside its own, and with what it works out itself."""
    flat: dict[str, Any] = {}
    for name, value in asdict(row).items():
        flat |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    worked_out = [name for name, value in vars(type(row)).items() if isinstance(value, property)]
    flat |= {name: getattr(row, name) for name in worked_out}
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in flat.items()}


def _write_csv(rows: Sequence[dict[str, Any]], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
