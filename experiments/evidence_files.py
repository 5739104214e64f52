"""The files that evidence is computed from: where they lie, what makes them, and whether they can be believed.

All are kept with the code: settings found by `provisor tune` with the summary of their study, and policy files found by
`provisor train`. A file that is not there, or that says of itself that it was made otherwise, is a `Problem` with the
command that makes it; nothing here raises, since a missing file is a result that falls short and no mistake of use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.errors import ProvisorError, UsageError, mismatch
from controller.policies.policy_file import PolicyContent, load_policy_file
from controller.policies.registry import GENERALIST, read_spec, settings_model
from controller.scenario import DayRange, load_scenario
from experiments.held_out import HELD_OUT_NAME, HELD_OUT_SEED, HELD_OUT_TRACE, held_out_variation
from experiments.study_again import kept_study, try_out
from experiments.suite import suite_trace
from experiments.tuned_rivals import (
    HELD_OUT_TRIALS,
    OTHERS,
    PLUS,
    PUBLISHED,
    RULE,
    TOLD,
    UNTIL_CONVERGED,
    UNTIL_GAIN,
    beginning_fault,
    begun_from,
    converged_fault,
    effort_fault,
    known_before,
    least_trials,
    lever_fault,
    rival_kind,
    settings_faults,
    summary_of,
    tuned_cost,
)
from experiments.world_ref import ALL_TRACES

ROOT = Path(__file__).parent
"""Folder of the package: all paths below are under it."""

LEAST_SEEDS = 10
_HELD_OUT_DAYS = "21:27"  # the last week of training days, which are tuned on together
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
            why = next(settings_faults(path, rival_kind(name)), None)
            if is_rival and why is None:
                tuned_cost(summary_of(path))  # which of them are the strongest hangs on it
                kept_study(path, scenario)  # its days are run again
                why = self._study_fault(name, scenario)
            if why is None:
                try_out(path, scenario)
        except (ProvisorError, OSError, ValueError, KeyError, TypeError) as error:
            why = _said(error)
        return None if why is None else Problem(self._shown(path), why, self.tuning_command(name, scenario))

    def _study_fault(self, name: str, scenario: str) -> str | None:
        """Why a rival's study is too little to be called tuned."""
        summary = summary_of(self.settings(name, scenario))
        why = effort_fault(summary, name, Path(scenario).stem == HELD_OUT_NAME) or lever_fault(summary, name)
        before = known_before(name)
        if why is not None or before is None or not self.settings(before, scenario).exists():
            return why
        return beginning_fault(summary, read_spec(str(self.settings(before, scenario))))

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
                strength[name] = tuned_cost(summary_of(self.settings(name, scenario)))
        problems = []
        for name in sorted(strength, key=strength.__getitem__)[:_STRONGEST]:
            path = self.settings(name, scenario)
            if (why := converged_fault(summary_of(path))) is not None:
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
        if name.endswith(PLUS):
            policy += begun_from(name, folder)
        if Path(scenario).stem == HELD_OUT_NAME:
            days = f"--trace {HELD_OUT_TRACE} --days {_HELD_OUT_DAYS}"
            held_out = self._shown(self.held_out_scenario())
            return f"provisor tune {held_out} {days} --policy {policy} --trials {HELD_OUT_TRIALS} --commit-to {folder}"
        effort = (
            f"--until-gain {UNTIL_GAIN}"
            if is_converged or name in UNTIL_CONVERGED
            else f"--trials {least_trials(name)}"
        )
        return f"provisor tune {scenario} --suite --policy {policy} {effort} --commit-to {folder}"

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


def selected_by_validation(files: list[Path]) -> Path:
    """Of a learner's files, the one whose policy was best on the validation days.

    Args:
        files: At least one, without a problem.
    """
    return min(files, key=lambda path: _validation_value(load_policy_file(path)))


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
