"""The files that evidence is computed from: where they lie, what makes them, and whether they can be believed.

All are kept with the code: settings found by `provisor tune` with the summary of their study, and policy files found by
`provisor train`. A file that is not there, or that says of itself that it was made otherwise, is a `Problem` with the
command that makes it; nothing here raises, since a missing file is a result that falls short and no mistake of use.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.config import parse_config
from controller.errors import ProvisorError, UsageError, mismatch
from controller.policies.levers import added_levers
from controller.policies.policy_file import PolicyContent, load_policy_file
from controller.policies.registry import GENERALIST, read_spec, settings_model
from controller.rival_arrays import SCHEMES
from controller.scenario import DayRange, load_scenario
from experiments.clairvoyant import CLAIRVOYANT
from experiments.held_out import HELD_OUT_NAME, HELD_OUT_SEED, HELD_OUT_TRACE, held_out_variation
from experiments.study_again import kept_study, try_out
from experiments.study_config import LEFT_ALONE
from experiments.study_summary import GAIN_TRIALS
from experiments.suite import split_of_day, suite_trace
from experiments.world_ref import ALL_TRACES

ROOT = Path(__file__).parent
"""Folder of the package: all paths below are under it."""

PUBLISHED = (
    "reactive", "util_aware", "exascale", "mixed", "paragon", "mark", "infaas", "ray_serve", "hpa", "spothedge",
    "tributary", "ribbon",
)  # fmt: skip
"""Schemes tuned in the levers that they were published with."""

RULE = "mpc"
_PLUS = "_plus"
FIRST_PLUS = "paragon" + _PLUS
"""Of the schemes with every lever the first to be tuned: what it comes to in a lever the others try, too."""

OTHERS = (*(name + _PLUS for name in PUBLISHED), RULE)
"""Rules beside them that decide in microseconds: the same schemes tuned in every lever, and the strongest rule."""

SOLVED = ("infadapter", "rolling_milp")
"""Rules that solve a program every minute: hours, so run under `--full` alone."""

TOLD = "clairvoyant"
LEAST_SEEDS = 10

HELD_OUT_TRIALS = 1000
_HELD_OUT_DAYS = "21:27"  # the last week of training days, which are tuned on together
_UNTIL_GAIN = 0.005
_UNTIL_CONVERGED = (RULE, TOLD)
_TRIALS, _TRIALS_SOLVED = 300, 50
_OF_POLICY = ("accuracy_tilt", "accuracy_band", "accuracy_margin", "miss_multiplier", "forecaster")
_STRONGEST = 2  # of the rules beside the strongest one, this many are searched for as long as it


@dataclass(frozen=True)
class Problem:
    """A file that is missing or cannot be believed."""

    file: str
    why: str
    command: str  # makes it

    @property
    def text(self) -> str:
        """On a line."""
        return f"{self.file}: {self.why}"


@dataclass(frozen=True)
class Artefacts:
    """The files of a package folder.

    Args:
        root: Holds `tuned/`, `policies/` and `configs/`.
    """

    root: Path = ROOT

    def settings(self, name: str, scenario: str) -> Path:
        """Tuned settings of a rule on a scenario."""
        return self.root / "tuned" / Path(scenario).stem / f"{name}.yaml"

    def policies(self, learner: str) -> Path:
        """Pattern of the files of a learner: a scenario's name, or `GENERALIST`."""
        return self.root / "policies" / learner / "policy-seed-*.provisor"

    def held_out_scenario(self) -> Path:
        """The scenario file of the catalog kept out of training."""
        return self.root / "configs" / f"{HELD_OUT_NAME}.yaml"

    def training_run(self, learner: str) -> Path:
        """What `provisor train` takes to make a learner's files."""
        return self.root / "configs" / f"{learner}.yaml"

    def policy_files(self, learner: str) -> list[Path]:
        """The files of a learner in order of their seeds; those that are not readable too."""
        pattern = self.policies(learner)
        return sorted(pattern.parent.glob(pattern.name), key=lambda path: (len(path.name), path.name))

    def settings_problem(self, name: str, scenario: str, *, is_rival: bool = True) -> Problem | None:
        """What is wrong with tuned settings; None: nothing.

        Args:
            name: Kind, or `TOLD` for the rule that is told what comes.
            scenario: Name, or path of the held-out scenario.
            is_rival: They must have been searched for as long as the protocol says.
        """
        path = self.settings(name, scenario)
        try:
            why = next(_settings_faults(path, rival_kind(name)), None)
            if is_rival and why is None:
                tuned_cost(_summary(path))  # which of them are the strongest hangs on it
                kept_study(path, scenario)  # its days are run again
                why = _effort_fault(_summary(path), name, Path(scenario).stem == HELD_OUT_NAME) or _lever_fault(
                    _summary(path), name
                )
            if why is None:
                try_out(path, scenario)
        except (ProvisorError, OSError, ValueError, KeyError, TypeError) as error:
            why = _said(error)
        return None if why is None else Problem(self._shown(path), why, self.tuning_command(name, scenario))

    def believed_settings(self, scenarios: Sequence[str]) -> list[tuple[str, str]]:
        """Names and scenarios of all tuned settings that evidence is computed from and that nothing is wrong with.

        Rules that solve programs are not among them: to run their days again takes hours.

        Args:
            scenarios: Names or paths.
        """
        names = dict.fromkeys((*OTHERS, *PUBLISHED, TOLD))
        return [
            (name, scenario)
            for scenario in scenarios
            for name in names
            if self.settings_problem(name, scenario) is None
        ]

    def strongest_problems(self, scenario: str) -> list[Problem]:
        """Which of the strongest rules beside `RULE` were not searched until nothing was gained any more.

        Which they are is known once all are tuned; settings that are missing or wrong are another problem.

        Args:
            scenario: Name.
        """
        strength: dict[str, float] = {}
        for name in dict.fromkeys((*OTHERS, *PUBLISHED)):
            if name != RULE and self.settings_problem(name, scenario) is None:
                strength[name] = tuned_cost(_summary(self.settings(name, scenario)))
        problems = []
        for name in sorted(strength, key=strength.__getitem__)[:_STRONGEST]:
            path = self.settings(name, scenario)
            if (why := _converged_fault(_summary(path))) is not None:
                command = self.tuning_command(name, scenario, is_converged=True)
                problems.append(Problem(self._shown(path), f"one of the {_STRONGEST} strongest others: {why}", command))
        return problems

    def policies_problem(self, learner: str) -> Problem | None:
        """What is wrong with a learner's files, the first that is; None: nothing.

        Args:
            learner: As for `policies`.
        """
        files = self.policy_files(learner)
        command = self.training_command(learner)
        if not files:
            return Problem(self._shown(self.policies(learner)), "missing", command)
        try:
            why = self._drawn_fault() if learner == GENERALIST else None
        except (ProvisorError, OSError) as error:
            why = _said(error)
        if why is not None:
            return Problem(self._shown(self.training_run(learner)), why, command)
        seeds: dict[tuple[int, ...], Path] = {}
        for path in files:
            try:
                content = load_policy_file(path)
                why = next(_training_faults(content, learner), None) or self._base_fault(content, learner)
            except (ProvisorError, OSError) as error:
                return Problem(self._shown(path), _said(error), command)
            twin = seeds.setdefault(content.manifest.training.seeds, path)
            if why is None and twin != path:
                why = mismatch("training.seeds", f"another seed than {twin.name}", content.manifest.training.seeds)
            if why is not None:
                return Problem(self._shown(path), why, command)
        return None

    def held_out_problem(self) -> Problem | None:
        """What is wrong with the held-out scenario's file; None: nothing."""
        path = self.held_out_scenario()
        command = f"python -m experiments.held_out > {self._shown(path)}"
        if not path.exists():
            return Problem(self._shown(path), "missing", command)
        try:
            is_it = load_scenario(path) == held_out_variation()
        except ProvisorError as error:
            return Problem(self._shown(path), _said(error), command)
        return None if is_it else Problem(self._shown(path), "not the variation that is held out", command)

    def tuning_command(self, name: str, scenario: str, *, is_converged: bool = False) -> str:
        """Makes tuned settings; `is_converged`: until nothing is gained any more, also of a rule that need not be."""
        folder = self._shown(self.settings(name, scenario).parent)
        kind = rival_kind(name)
        policy = kind if kind == name else f"{kind} --name {name}"
        policy += " --as-published" if name in PUBLISHED else ""
        if name.endswith(_PLUS):
            policy += self._begun_from(name, folder)
        if Path(scenario).stem == HELD_OUT_NAME:
            days = f"--trace {HELD_OUT_TRACE} --days {_HELD_OUT_DAYS}"
            held_out = self._shown(self.held_out_scenario())
            return f"provisor tune {held_out} {days} --policy {policy} --trials {HELD_OUT_TRIALS} --commit-to {folder}"
        effort = (
            f"--until-gain {_UNTIL_GAIN}"
            if is_converged or name in _UNTIL_CONVERGED
            else f"--trials {_least_trials(name)}"
        )
        return f"provisor tune {scenario} --suite --policy {policy} {effort} --commit-to {folder}"

    @staticmethod
    def _begun_from(name: str, folder: str) -> str:
        """What a search in every lever tries first: the scheme as published, and the levers of the first so found."""
        published = f"{folder}/{name.removesuffix(_PLUS)}.yaml"
        if name == FIRST_PLUS:
            return f" --borrow {published} --borrow {folder}/{RULE}.yaml"
        return f" --start {published} --borrow {folder}/{FIRST_PLUS}.yaml"

    def training_command(self, learner: str) -> str:
        """Makes a learner's files."""
        run, out = self._shown(self.training_run(learner)), f"runs/train/{learner}"
        folder = self._shown(self.policies(learner).parent)
        return f"provisor train {run} --out {out} && cp {out}/policy-seed-*.provisor {folder}/"

    def _base_fault(self, content: PolicyContent, learner: str) -> str | None:
        """Whether a scenario's policy turns the knobs of another rule than the tuned one; None: of that one.

        What would be gained by other settings is no gain of what was learned. The reach of a knob, the band that holds
        the accuracy aimed at, out of which a knob must get, and what selection aims at are the policy's own.
        """
        path = self.settings(RULE, learner)
        if learner == GENERALIST or self.settings_problem(RULE, learner, is_rival=False) is not None:
            return None
        tuned = settings_model(RULE).model_validate(read_spec(str(path)).settings).model_dump()
        own = content.manifest.settings
        for name, value in tuned.items():
            if name not in _OF_POLICY and own.get(name) != value:
                return mismatch(f"settings.{name}", f"{value}, as in {self._shown(path)}", own.get(name))
        return None

    def _drawn_fault(self) -> str | None:
        """Whether the generalist's run draws the catalog that is held out; None: it does not, or there is no run."""
        from experiments.run_config import load_run

        path = self.training_run(GENERALIST)
        suite = load_run(path).train.suite if path.exists() else None
        # A run draws with its seed to train and with the next one to validate.
        if suite is None or HELD_OUT_SEED not in (suite.seed, suite.seed + 1):
            return None
        return mismatch("train.suite.seed", f"none that draws with {HELD_OUT_SEED}, which is held out", suite.seed)

    def _shown(self, path: Path) -> str:
        """A path as it is called in a checkout."""
        return str(path.relative_to(self.root.parent))


def rival_kind(name: str) -> str:
    """Kind of the policy that evidence calls `name`."""
    if name == TOLD:
        return CLAIRVOYANT
    return name if name in SCHEMES else name.removesuffix(_PLUS)


def selected_by_validation(files: list[Path]) -> Path:
    """Of a learner's files, the one whose policy was best on the validation days.

    Args:
        files: At least one, without a problem.
    """
    return min(files, key=lambda path: _validation_value(load_policy_file(path)))


def tuned_cost(summary: dict[str, Any]) -> float:
    """What tuned settings cost on the days they were tuned on, broken promises included: a geometric mean in USD."""
    return math.exp(
        sum(math.log(one["best"]["value"] * one["reference_usd"]) for one in summary["worlds"]) / len(summary["worlds"])
    )


def _summary(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return found


def _settings_faults(path: Path, kind: str) -> Iterator[str]:
    """Why settings cannot be believed."""
    if not path.exists():
        yield "missing"
        return
    spec = read_spec(str(path))
    if spec.kind != kind:
        yield mismatch("kind", kind, spec.kind)
        return
    parse_config(spec.settings, settings_model(kind), str(path))
    if not path.with_suffix(".json").exists():
        yield f"no summary of its study ({path.with_suffix('.json').name}) beside it"
        return
    summary = _summary(path)
    if summary["policy"]["kind"] != kind or summary["settings"] != spec.settings:
        yield f"not the settings that its study found ({path.with_suffix('.json').name})"
    for world in summary["worlds"]:
        trace, day = world.get("suite_trace"), int(world["day"])
        if trace is not None and split_of_day(trace, day) == "test":
            yield f"tuned on day {day} of {trace}, which is a test day"


def _effort_fault(summary: dict[str, Any], name: str, is_held_out: bool) -> str | None:
    """Why a rule was tuned less than it must be: an untuned rival is a lie."""
    if name in _UNTIL_CONVERGED and not is_held_out:
        return _converged_fault(summary)
    total, least = int(summary["trials"]["total"]), HELD_OUT_TRIALS if is_held_out else _least_trials(name)
    return mismatch("trials", f"at least {least}", total) if total < least else None


def _lever_fault(summary: dict[str, Any], name: str) -> str | None:
    """Whether a scheme was searched in more than it was published with, or with every lever in less.

    A lever that came after the search is at its default: as published it was left alone, in every lever it is missing.
    """
    kind, searched = rival_kind(name), list(summary["ranges"])
    model = settings_model(kind)
    added = added_levers(model)
    if name in PUBLISHED:
        defaults = {lever: model.model_fields[lever].default for lever in added}
        is_turned = {lever: summary["settings"].get(lever, value) != value for lever, value in defaults.items()}
        wrong = [lever for lever in added if lever in searched or is_turned[lever]]
        wanted = "nothing that was added to what was published"
    else:
        can_be_judged = [lever for lever in added if lever not in LEFT_ALONE.get(kind, ())]
        wrong, wanted = [lever for lever in can_be_judged if lever not in searched], "every lever that can be judged"
    return mismatch("ranges", f"{wanted}, such as {', '.join(wrong)}", searched) if wrong else None


def _converged_fault(summary: dict[str, Any]) -> str | None:
    """Why a search cannot be said to have come to its end."""
    total, last = int(summary["trials"]["total"]), summary["value"]["gain_of_last"]
    if int(last["trials"]) >= GAIN_TRIALS and float(last["gain"]) < _UNTIL_GAIN:
        return None
    wanted = f"less than {_UNTIL_GAIN:.1%} gained by the last {GAIN_TRIALS}"
    return mismatch("trials", wanted, f"{float(last['gain']):.1%} by the last {last['trials']} of {total}")


def _least_trials(name: str) -> int:
    return _TRIALS_SOLVED if name in SOLVED else _TRIALS


def _training_faults(content: PolicyContent, learner: str) -> Iterator[str]:
    """Why a policy file is none of a learner's."""
    training = content.manifest.training
    scenario, _, trace = training.scenario.partition(".")
    if learner != GENERALIST and scenario != learner:
        yield mismatch("training.scenario", learner, training.scenario)
    traces = [name for name in training.trace.split("+") if name in ALL_TRACES]
    if learner == GENERALIST and HELD_OUT_TRACE in (trace, *traces):
        yield mismatch("training.trace", f"no {HELD_OUT_TRACE}, which is held out", training.trace)
    if learner == GENERALIST and content.manifest.catalog != "any":
        yield mismatch("catalog", "any", content.manifest.catalog)
    test = _test_days(scenario, trace)
    for name, days in (("train_days", training.train_days), ("validation_days", training.validation_days)):
        if test is not None and days[0] <= test[1] and test[0] <= days[1]:
            yield mismatch(f"training.{name}", f"no test day ({test[0]}:{test[1]})", f"{days[0]}:{days[1]}")
    try:
        _validation_value(content)
    except UsageError as error:
        yield str(error)


def _test_days(scenario: str, trace: str) -> DayRange | None:
    """Test days of what a policy was trained on; None where nobody knows it."""
    if trace in ALL_TRACES:
        return suite_trace(trace).splits.test
    try:
        return load_scenario(scenario).splits.test
    except ProvisorError:
        return None


def _validation_value(content: PolicyContent) -> float:
    validation: Any = content.manifest.metrics.get("validation")
    try:
        return float(validation["policy"]["value"])
    except (TypeError, KeyError, ValueError):
        raise UsageError(mismatch("metrics.validation.policy.value", "a number", validation)) from None


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
