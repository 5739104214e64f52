"""The file of a benchmark: which policies, on which scenarios and traces, held to which references.

Paths are taken from the directory the command is started in. So that each scenario has the settings that were tuned on
it, `{scenario}` in a policy's path stands for the scenario's name, and `tuned:KIND` for the file
`experiments/tuned/SCENARIO/KIND.yaml` of this package.
"""

from __future__ import annotations

import itertools
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from controller.catalog import Name
from controller.config import StrictModel, load_yaml
from controller.errors import UsageError, mismatch
from controller.policies.registry import PolicySpec
from controller.scenario import DayRange
from experiments.dials import Dials
from experiments.run_config import PolicyChoice, policy_labels
from experiments.world_ref import ALL_TRACES
from traces.readers import split_spec

PROMISE = "promise"
"""The target that is no policy: attainment and accuracy as promised to each class."""

ALL, MEAN = "all", "mean"
"""Scenario and trace of the rows that are means over them."""

OWN, PRESET = "own", "generated:"
"""The scenario's own trace; a trace of the generator, followed by its preset."""

TUNED = "tuned:"
"""Before a kind: that kind with the settings that were tuned on the scenario and are shipped."""

SELECTED = " (selected)"
"""Ends the name of the member of a group that was selected on validation days."""

_QUICK_TRACES, _QUICK_DAYS, _QUICK_HOURS, _QUICK_POINTS = 2, 2, 2.0, 2


class PolicyEntry(StrictModel):
    """One policy of the table: a single one, or the members of a group that differ in their training seed."""

    name: str = Field(min_length=1, description="in tables")
    policy: PolicyChoice | None = Field(default=None, description="a rule, file or class")
    members: tuple[PolicyChoice, ...] = Field(
        default=(), description="one per training seed, files of a pattern with * in order of their names"
    )
    selected: PolicyChoice | None = Field(
        default=None, description="of the members, the one selected on validation days; it has a row of its own"
    )
    dials: Dials | None = Field(default=None, description="in place of those of its kind")

    @model_validator(mode="after")
    def _one_or_members(self) -> PolicyEntry:
        if (self.policy is None) == (not self.members):
            raise ValueError(mismatch("policy", "either policy or members", self.policy))
        if self.selected is not None and not self.members:
            raise ValueError(mismatch("selected", "members beside it", self.selected))
        return self


class BenchmarkConfig(StrictModel):
    """One benchmark."""

    name: Name = "benchmark"
    scenarios: tuple[str, ...] = Field(min_length=1, description="shipped scenarios by name, or files")
    traces: tuple[str, ...] = Field(
        default=("own",),
        min_length=1,
        description="`own`: the scenario's; a trace of the suite; `generated:PRESET`; or FILE or FILE:ROW",
    )
    split: Literal["train", "validation", "test"] = Field(default="test", description="days of traces that have splits")
    days: DayRange | None = Field(default=None, description="in place of the split's, for every trace")
    most_days: int | None = Field(default=None, ge=1, description="only the first so many days of each trace")
    hours: float | None = Field(default=None, gt=0, le=24, description="stop each day after so many hours")
    rate: float = Field(default=1.0, gt=0, description="multiplies every scenario's mean rate")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0,), min_length=1, description="random seeds")
    policies: tuple[str | PolicyEntry, ...] = Field(
        min_length=1, description="a text is a single policy, named by its kind or file"
    )
    references: tuple[str, ...] = Field(
        default=(), description="policies that all are held to, each at what it came to; the first is the promise's too"
    )
    dials: dict[str, Dials] = Field(default_factory=dict, description="by kind, in place of the table's")
    most_points: int | None = Field(
        default=None, ge=1, description="only so many values of a dial beside the own, the nearest"
    )
    grid: Literal["full", "cross", "needed"] = Field(
        default="full",
        description="points of two dials that are run: all; or the two lines through the policy's own, see "
        "`experiments.separable`; or of those only what a row needs, see `experiments.needed_points`",
    )
    watched: tuple[str, ...] | None = Field(
        default=None,
        description="rows whose own points are run tick by tick, so that flaps, changes of capacity and times are "
        "known; default: all; other points never are",
    )
    resamples: int = Field(default=2000, ge=100, le=100_000, description="of the bootstrap")
    block_days: int | None = Field(default=None, ge=1, description="per block; default: the cube root of the days")

    @model_validator(mode="after")
    def _distinct(self) -> BenchmarkConfig:
        names, labels = self.row_names, [trace_label(trace) for trace in self.traces]
        for what, values in (
            ("policies", names),
            ("scenarios", self.scenarios),
            ("traces", labels),
            ("seeds", self.seeds),
            ("references", self.references),
        ):
            if len(set(values)) != len(values):
                raise ValueError(f"{what}: expected different ones, got {list(values)}")
        for what, taken, values in (
            ("policies: name", PROMISE, names),
            ("scenarios", ALL, self.scenarios),
            ("traces", MEAN, labels),
        ):
            if taken in values:
                raise ValueError(mismatch(what, f"another name than '{taken}', which rows of their own have", taken))
        single = [entry.name for entry in self.entries if entry.policy is not None]
        single += [entry.name + SELECTED for entry in self.entries if entry.selected is not None]
        for name in self.watched or ():
            if name not in names:
                raise ValueError(mismatch("watched", f"one of {list(names)}", name))
        for reference in self.compared_to:
            if reference not in single:
                raise ValueError(mismatch("references", f"one of {single} (single policies)", reference))
        return self

    @cached_property
    def entries(self) -> tuple[PolicyEntry, ...]:
        """All policies, each with a name."""
        names = iter(policy_labels([one for one in self.policies if isinstance(one, str)]))
        return tuple(PolicyEntry(name=next(names), policy=p) if isinstance(p, str) else p for p in self.policies)

    @property
    def row_names(self) -> tuple[str, ...]:
        """Names of all policies that have rows, in order."""
        names: list[str] = []
        for entry in self.entries:
            names += [entry.name] if entry.selected is None else [entry.name, entry.name + SELECTED]
        return tuple(names)

    @property
    def compared_to(self) -> tuple[str, ...]:
        """The references; without any, the first policy."""
        return self.references or self.row_names[:1]

    def quick(self) -> BenchmarkConfig:
        """The same in minutes: few traces and hours of few days, one random seed, the nearest values of the dials."""
        return self.model_copy(
            update={
                "traces": self.traces[:_QUICK_TRACES],
                "most_days": min(self.most_days or _QUICK_DAYS, _QUICK_DAYS),
                "hours": min(self.hours or _QUICK_HOURS, _QUICK_HOURS),
                "seeds": self.seeds[:1],
                "most_points": min(self.most_points or _QUICK_POINTS, _QUICK_POINTS),
            }
        )


def trace_label(trace: str) -> str:
    """A trace's name in tables: the stem of a file, its row with it; any other trace's name as it is."""
    if trace == OWN or trace in ALL_TRACES or trace.startswith(PRESET):
        return trace
    path, row = split_spec(trace)
    stem = path.name.partition(".")[0]
    return stem if row is None else f"{stem}:{row}"


def load_benchmark(path: str | Path | None, *, quick: bool = False) -> BenchmarkConfig:
    """Reads a benchmark file, or the shipped one.

    Args:
        path: File; None: the shipped one, `benchmark-quick.yaml` where it is to be quick.
        quick: Cut the file down to minutes.

    Raises:
        ConfigError: Naming every wrong field.
    """
    if path is not None:
        config = load_yaml(path, BenchmarkConfig)
        return config.quick() if quick else config
    name = "benchmark-quick.yaml" if quick else "benchmark.yaml"
    with resources.as_file(resources.files("experiments") / "configs" / name) as shipped:
        return load_yaml(shipped, BenchmarkConfig)


def members_of(entry: PolicyEntry, scenario: str) -> list[PolicyChoice]:
    """The policies of an entry on a scenario, patterns expanded.

    Raises:
        UsageError: A pattern that no file fits.
    """
    if entry.policy is not None:
        return [placed(entry.policy, scenario)]
    found: list[PolicyChoice] = []
    for member in entry.members:
        one = placed(member, scenario)
        if isinstance(one, str) and "*" in one:
            files = _files(Path(one))
            if not files:
                raise UsageError(mismatch(f"policies: {entry.name}: members", "a pattern that files fit", one))
            found += files
        else:
            found.append(one)
    return found


def _files(pattern: Path) -> list[str]:
    fixed = list(itertools.takewhile(lambda part: "*" not in part, pattern.parts))
    return sorted(str(path) for path in Path(*fixed).glob(str(Path(*pattern.parts[len(fixed) :]))))


def placed(policy: PolicyChoice, scenario: str) -> PolicyChoice:
    """The policy on a scenario: see the module."""
    if isinstance(policy, PolicySpec):
        return policy
    name = Path(scenario).stem
    if policy.startswith(TUNED):
        return str(Path(__file__).parent / "tuned" / name / f"{policy.removeprefix(TUNED)}.yaml")
    return policy.replace("{scenario}", name)
