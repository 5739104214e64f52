"""Which policies are compared for the evidence, on which worlds, at which points of their dials.

Two benchmarks: the *suite*, with every tuned rule, what was learned for each scenario, and the rule that is told what
comes; and the *held-out* catalog and trace, with the generalist and the rule tuned there. A policy takes part in the
suite where all of its files are there for all scenarios; what keeps one out is among the problems.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from controller.policies.policy_file import PolicyContent, load_policy_file, save_policy_file
from controller.policies.registry import GENERALIST, read_spec, settings_model
from controller.scenario import DayRange
from experiments.benchmark_config import SELECTED, BenchmarkConfig, PolicyEntry
from experiments.clairvoyant import CLAIRVOYANT
from experiments.dials import (
    ADAPTIVE,
    AIMS,
    ATTAINMENT,
    DEFAULT_ATTAINMENT,
    FLOOR_OFFSET,
    Continuation,
    Dial,
    Dials,
)
from experiments.evidence_files import Artefacts, Problem, selected_by_validation
from experiments.held_out import HELD_OUT_TRACE
from experiments.suite import SCENARIOS, TRACES
from experiments.tuned_rivals import OTHERS, PUBLISHED, RULE, SOLVED, TOLD, rival_kind

LEARNED = "learned"
LEARNED_SELECTED = LEARNED + SELECTED
GENERALIST_SELECTED = GENERALIST + SELECTED
ZERO, GENERALIST_ZERO = "zero action", "zero action of the generalist"

_FACTORS, _MORE_FACTORS, _MORE_HEADROOM = (0.3, 3.0), (0.3, 3.0, 10.0), (1.3, 1.8)
_ACCURACY = Dial(setting=FLOOR_OFFSET, steps=(-0.002, 0.002, 0.006))
"""Policies that mix variants come to within 0.0005 of each other; schemes of one variant are more accurate."""

SWEEP = Dials(
    attainment=Dial(
        setting="miss_multiplier",
        factors=_MORE_FACTORS,
        then=Continuation(setting="headroom", factors=_MORE_HEADROOM),
    ),
    accuracy=_ACCURACY,
)
"""Of the rule and of what was learned: both are read at the rule's own attainment and accuracy, and where a rival
cannot get there at what that rival comes to, which may be more accurate and attain more.
"""

NEAR = Dials(
    attainment=Dial(setting="miss_multiplier", factors=_FACTORS),
    accuracy=_ACCURACY,
)
"""Of what is only read near the rule on the suite: the clairvoyant, zero action, and the generalist."""

FAR = Dials(
    attainment=Dial(
        setting="miss_multiplier",
        factors=_FACTORS,
        then=Continuation(setting="over_provision", factors=(1.5, 2.2)),
    ),
    accuracy=_ACCURACY,
)
"""Of the generalist on what is held out, where the rule was tuned and misses less: by more than a value of misses does,
for what is left is missed where a spot machine goes.
"""

_LESS, _MORE = 0.8, 1.35
"""Capacity of a rival, times its own: down to what the rule attains where the rival attains more, and up."""

_QUICK_TRACES, _QUICK_DAYS, _QUICK_HOURS, _QUICK_MEMBERS = 2, 1, 1.0, 2


@dataclass(frozen=True)
class Extent:
    """How much is compared.

    Attributes:
        scenarios: Names or paths.
        traces: As a benchmark takes them.
        held_out: Scenario and trace for the generalist; None: those kept out of training.
        days: In place of the test days, for every trace.
        hours: Stop each day after so many hours; None: whole days.
        is_quick: Own points of few policies, days and hours: shows that all runs, and is no evidence.
        has_solved: Rules that solve programs take part, which takes hours.
    """

    scenarios: tuple[str, ...] = SCENARIOS
    traces: tuple[str, ...] = tuple(TRACES)
    held_out: tuple[str, str] | None = None
    days: DayRange | None = None
    hours: float | None = None
    is_quick: bool = False
    has_solved: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether it is all that claims are made on."""
        return replace(self, has_solved=False) == Extent()

    def quick(self) -> Extent:
        """The same in minutes."""
        return replace(self, traces=self.traces[:_QUICK_TRACES], hours=_QUICK_HOURS, is_quick=True, has_solved=False)


@dataclass(frozen=True)
class Comparison:
    """One of the two benchmarks."""

    config: BenchmarkConfig | None  # None: no rule to compare with
    problems: tuple[Problem, ...] = field(default=())


def suite_comparison(artefacts: Artefacts, extent: Extent, derived: Path) -> Comparison:
    """The suite.

    Args:
        artefacts: The files.
        extent: How much.
        derived: Folder for policy files made from others: the selected one of a group, and those of zero action.
    """
    problems: list[Problem] = []
    rules: list[PolicyEntry] = []
    wanted = (RULE, *(name for name in (*OTHERS, *PUBLISHED) if name != RULE), *(SOLVED if extent.has_solved else ()))
    for name in (*wanted, TOLD):
        found = [artefacts.settings_problem(name, scenario) for scenario in extent.scenarios]
        problems += [one for one in found if one is not None]
        if not any(found):
            rules.append(_rule_entry(artefacts, name, extent))
    problems += [one for scenario in extent.scenarios for one in artefacts.strongest_problems(scenario)]
    learned: list[PolicyEntry] = []
    found = [artefacts.policies_problem(Path(scenario).stem) for scenario in extent.scenarios]
    problems += [one for one in found if one is not None]
    if not any(found):
        for scenario in extent.scenarios:
            _derive(artefacts.policy_files(Path(scenario).stem), derived / Path(scenario).stem)
        learned += _learned_entries(artefacts, "{scenario}", derived, LEARNED, ZERO, extent)
    if (problem := artefacts.policies_problem(GENERALIST)) is not None:
        problems.append(problem)
    else:
        # One file here: what is asked of the generalist is asked on what it was not trained on.
        _derive(artefacts.policy_files(GENERALIST), derived / GENERALIST)
        policy = str(derived / GENERALIST / _SELECTED_FILE)
        learned.append(_entry(GENERALIST_SELECTED, extent, policy=policy, dials=NEAR))
    return Comparison(_config("suite", extent.scenarios, extent.traces, rules, learned, extent), tuple(problems))


def held_out_comparison(artefacts: Artefacts, extent: Extent, derived: Path) -> Comparison:
    """The held-out catalog and trace; arguments as for `suite_comparison`."""
    scenario, trace = extent.held_out or (str(artefacts.held_out_scenario()), HELD_OUT_TRACE)
    problems = [artefacts.settings_problem(RULE, scenario), artefacts.policies_problem(GENERALIST)]
    if extent.held_out is None:
        problems.append(artefacts.held_out_problem())
    if any(problems):
        return Comparison(None, tuple(one for one in problems if one is not None))
    _derive(artefacts.policy_files(GENERALIST), derived / GENERALIST)
    rule = [_rule_entry(artefacts, RULE, extent)]
    learned = _learned_entries(artefacts, GENERALIST, derived, GENERALIST, GENERALIST_ZERO, extent)
    return Comparison(_config("held-out", (scenario,), (trace,), rule, learned, extent))


def _config(
    name: str,
    scenarios: Sequence[str],
    traces: Sequence[str],
    rules: Sequence[PolicyEntry],
    learned: Sequence[PolicyEntry],
    extent: Extent,
) -> BenchmarkConfig | None:
    references = tuple(entry.name for entry in rules if entry.name != TOLD)
    if not references:
        return None
    # Tick by tick, with the rails of a live run: what the checks hold to its share of ticks on the rule, and no more,
    # for a day takes twenty times as long.
    selected = [entry.name + SELECTED for entry in learned if entry.selected is not None]
    return BenchmarkConfig(
        name=name,
        scenarios=tuple(scenarios),
        traces=tuple(traces),
        days=extent.days,
        most_days=_QUICK_DAYS if extent.is_quick else None,
        hours=extent.hours,
        policies=(*rules, *learned),
        references=references,
        dials={RULE: SWEEP, CLAIRVOYANT: NEAR},
        grid="needed",
        watched=tuple(selected),
    )


def _rule_entry(artefacts: Artefacts, name: str, extent: Extent) -> PolicyEntry:
    policy = str(artefacts.settings(name, "{scenario}"))
    if name in SOLVED:
        return PolicyEntry(name=name, policy=policy, dials=Dials())
    if name in (RULE, TOLD):
        return _entry(name, extent, policy=policy)
    settings = [read_spec(str(artefacts.settings(name, scenario))).settings for scenario in extent.scenarios]
    return _entry(name, extent, policy=policy, dials=rival_dials(rival_kind(name), settings))


def rival_dials(kind: str, settings: Sequence[Mapping[str, object]]) -> Dials:
    """Dials of a rival: few values on both sides of its own.

    Args:
        kind: Of the registry.
        settings: Its own on each scenario; accuracy is swept where any of them mixes variants.
    """
    fields = settings_model(kind).model_fields
    dial = ATTAINMENT.get(kind, DEFAULT_ATTAINMENT)
    # A dial of load is the inverse of capacity.
    factors = (1.0 / _MORE, 1.0 / _LESS) if dial.is_inverse else (_LESS, _MORE)
    adapts = ADAPTIVE not in fields or any(one.get(ADAPTIVE, fields[ADAPTIVE].default) for one in settings)
    return Dials(
        attainment=Dial(setting=dial.setting, factors=factors, is_inverse=dial.is_inverse)
        if dial.setting in fields
        else None,
        accuracy=_ACCURACY if adapts and AIMS in fields else None,
    )


def _learned_entries(
    artefacts: Artefacts, learner: str, derived: Path, name: str, zero: str, extent: Extent
) -> list[PolicyEntry]:
    """All seeds with the selected one, and what they are built around."""
    members: tuple[str, ...] = (str(artefacts.policies(learner)),)
    if extent.is_quick and learner == GENERALIST:
        members = tuple(str(path) for path in artefacts.policy_files(learner)[:_QUICK_MEMBERS])
    selected = str(derived / learner / _SELECTED_FILE)
    dials, zero_dials = (FAR, FAR) if learner == GENERALIST else (SWEEP, NEAR)
    return [
        _entry(name, extent, members=members, selected=selected, dials=dials),
        _entry(zero, extent, policy=str(derived / learner / _ZERO_FILE), dials=zero_dials),
    ]


def _entry(name: str, extent: Extent, **fields: object) -> PolicyEntry:
    if extent.is_quick:
        fields = {**fields, "dials": Dials()}
    return PolicyEntry(name=name, **fields)  # type: ignore[arg-type] # fields of the model, which checks them


_SELECTED_FILE, _ZERO_FILE = "selected.provisor", "zero.provisor"


def _derive(files: Sequence[Path], folder: Path) -> None:
    """Copies the selected file of a learner, and writes it with a network of zeros, which is the rule inside."""
    folder.mkdir(parents=True, exist_ok=True)
    selected = selected_by_validation(list(files))
    shutil.copyfile(selected, folder / _SELECTED_FILE)
    content = load_policy_file(selected)
    tensors = {
        name: np.zeros_like(tensor) if name.startswith("knobs.") else tensor for name, tensor in content.tensors.items()
    }
    save_policy_file(folder / _ZERO_FILE, PolicyContent(content.manifest, tensors))
