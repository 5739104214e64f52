"""A search over settings in batches: Optuna proposes, a judge rates world by world, what is hopeless is given up.

Two ideas are needed to read it. A batch is proposed before any of it is judged, each proposal from a generator keyed by
the seed and its number, and told in order; so the course of a search is a function of its plan and of the values alone,
whoever computed them and in which order they came. And the file on disk holds finished trials only: a search that was
stopped takes over what the file holds of its last batch, and proposes the rest of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from pydantic import JsonValue

from controller.errors import RunError, UsageError
from experiments.proposals import Proposals
from experiments.search_plan import Judge, Judged, SearchPlan, Settings, StopRule
from experiments.tuning import Range

FACTS, FAILURE = "worlds", "failure"
"""User attributes of a trial: facts of each world judged, and why it failed."""

_NAME = "tune"
_FINGERPRINT = "fingerprint"


class _GiveUp(optuna.pruners.BasePruner):
    """Gives up what is worse than the best trial was after the same worlds, by more than a share.

    The best itself is never given up by this, nor what stays within the share on the way to a better end.
    """

    def __init__(self, above: float) -> None:
        self._above = above

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        best = _best(study)
        if best is None or trial.last_step is None:
            return False
        bar = best.intermediate_values[trial.last_step]
        return trial.intermediate_values[trial.last_step] > bar + self._above * abs(bar)


class Search:
    """A search that is kept in a file.

    Args:
        plan: What is searched.
        path: The file; one that exists is continued.
        fingerprint: What must be equal for trials to be comparable, as JSON values.
        unless_repeated: Names of the fingerprint that may differ, if trials come to the same when they are repeated.

    Attributes:
        differs: Whether one of these does. Whoever has repeated trials calls `renew`.

    Raises:
        UsageError: There is nothing to search, or the file holds the search of another fingerprint.
    """

    def __init__(
        self,
        plan: SearchPlan,
        path: Path,
        fingerprint: dict[str, JsonValue],
        unless_repeated: Sequence[str] = (),
    ) -> None:
        if not plan.ranges:
            raise UsageError("policy: expected settings with ranges or flags to search, got none that is not fixed")
        self.plan = plan
        self._proposals = Proposals(plan, {one.name: distribution(one) for one in plan.ranges})
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._file = _open(path)
        self._fingerprint: dict[str, JsonValue] = json.loads(json.dumps(fingerprint))
        self.differs = _require_same(path, self._file, self._fingerprint, unless_repeated)
        held = self._file.get_trials(deepcopy=False)
        whole = self._boundary(len(held))
        # Proposals come from a study in memory, so that one cut short by a kill leaves nothing behind.
        self._study = optuna.create_study(direction="minimize", pruner=self._pruner())
        self._study.add_trials(held[:whole])
        self._begun = held[whole:]

    @property
    def trials(self) -> list[FrozenTrial]:
        """Trials of whole batches, in order; not to be changed."""
        return self._study.get_trials(deepcopy=False)

    @property
    def course(self) -> list[float]:
        """Best value after each trial; infinite before the first that was completed."""
        values = [trial.value if trial.state == TrialState.COMPLETE else None for trial in self.trials]
        found = [math.inf if value is None else value for value in values]
        return [float(value) for value in np.minimum.accumulate(found)] if found else []

    @property
    def best(self) -> FrozenTrial:
        """The completed trial of the least value, the earliest of equals."""
        found = _best(self._study)
        assert found is not None, "the start is completed or the search ended with an error"
        return found

    def settings(self, number: int, params: dict[str, Any]) -> Settings:
        """Complete settings of a trial."""
        starts = self.plan.starts
        return starts[0] if number == 0 else {**starts[0], **params}

    def renew(self) -> None:
        """Trials were repeated and came to the same: from now on they count as those of this fingerprint."""
        self._file.set_user_attr(_FINGERPRINT, self._fingerprint)
        self.differs = False

    def run(self, judge: Judge, stop: StopRule, told: Callable[[], None] | None = None) -> str:
        """Searches until a rule says that it is enough.

        Args:
            judge: Rates settings.
            stop: The rule.
            told: Called after each batch.

        Returns:
            Which rule ended it.

        Raises:
            UsageError: The start cannot be run.
        """
        while (ended := stop.reached(self.course)) is None:
            first = len(self.trials)
            last = self._boundary(first) + (self.plan.batch if first else len(self.plan.starts))
            self._run_batch(first, last if stop.trials is None else min(last, stop.trials), judge)
            if told is not None:
                told()
        return ended

    def _boundary(self, count: int) -> int:
        """Trials of whole batches among so many: the starts are the first batch."""
        starts = len(self.plan.starts)
        return 0 if count < starts else count - (count - starts) % self.plan.batch

    def _pruner(self) -> optuna.pruners.BasePruner:
        above = self.plan.give_up_above
        return optuna.pruners.NopPruner() if above is None else _GiveUp(above)

    def _run_batch(self, first: int, last: int, judge: Judge) -> None:
        begun, self._begun = self._begun[: last - first], self._begun[last - first :]
        params: list[dict[str, Any] | None] = [held.params for held in begun]
        params += [None] * (last - first - len(begun))
        asked = [self._proposals.ask(self._study, first + index, known) for index, known in enumerate(params)]
        results = self._judged(asked[len(begun) :], judge, is_first=first == 0)
        for trial, held in zip(asked, begun, strict=False):
            for step, partial in held.intermediate_values.items():
                trial.report(partial, step)
            for name, fact in held.user_attrs.items():
                trial.set_user_attr(name, fact)
            self._study.tell(trial, held.value if held.state == TrialState.COMPLETE else None, held.state)
        for trial, (state, value) in zip(asked[len(begun) :], results, strict=True):
            self._study.tell(trial, value, state)
        self._file.add_trials(self.trials[first + len(begun) : last])
        if len(self._file.get_trials(deepcopy=False)) != last + len(self._begun):
            raise RunError("the folder of this search: expected one command at a time, got trials of another")

    def _judged(
        self, trials: Sequence[optuna.Trial], judge: Judge, *, is_first: bool
    ) -> list[tuple[TrialState, float | None]]:
        """State and value of each trial; those alive are judged one world after the other."""
        settings = [self.settings(trial.number, trial.params) for trial in trials]
        values: list[list[float]] = [[] for _ in trials]
        facts: list[list[JsonValue]] = [[] for _ in trials]
        states: dict[int, TrialState] = {}
        every = range(self.plan.worlds)
        # Where nothing can be given up, all worlds at once keep more workers busy.
        rounds = [every] if is_first or self.plan.give_up_above is None else [range(w, w + 1) for w in every]
        for worlds in rounds:
            asked = [(index, w) for index in range(len(trials)) if index not in states for w in worlds]
            for (index, w), judged in zip(asked, judge([(settings[i], w) for i, w in asked]), strict=True):
                if index in states:
                    continue
                if judged.failure or not math.isfinite(judged.value):
                    self._fail(trials[index], judged)
                    states[index] = TrialState.FAIL
                    continue
                values[index].append(judged.value)
                facts[index].append(judged.facts)
                trials[index].report(float(np.mean(values[index])), w)
            for index, trial in enumerate(trials):
                if index not in states and worlds[-1] != every[-1] and trial.should_prune():
                    states[index] = TrialState.PRUNED
        for trial, known in zip(trials, facts, strict=True):
            trial.set_user_attr(FACTS, known)
        return [
            (states[index], None) if index in states else (TrialState.COMPLETE, float(np.mean(values[index])))
            for index in range(len(trials))
        ]

    def _fail(self, trial: optuna.Trial, judged: Judged) -> None:
        why = judged.failure or f"value {judged.value}"
        if trial.number == 0:
            raise UsageError(f"start: expected settings that can be run, got: {why}")
        trial.set_user_attr(FAILURE, why)


def distribution(one: Range) -> BaseDistribution:
    """A range as Optuna searches it."""
    if one.is_flag:
        return CategoricalDistribution((False, True))
    if one.is_integer:
        return IntDistribution(round(one.low), round(one.high), log=one.is_log)
    return FloatDistribution(one.low, one.high, log=one.is_log)


def _best(study: optuna.Study) -> FrozenTrial | None:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return min(complete, key=lambda trial: (trial.value, trial.number)) if complete else None


def _open(path: Path) -> optuna.Study:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        # A line cut short by a kill would make one with what is written next.
        whole = path.read_bytes().rpartition(b"\n")
        if whole[2]:
            path.write_bytes(whole[0] + whole[1])
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.create_study(storage=storage, study_name=_NAME, direction="minimize", load_if_exists=True)


def _require_same(
    path: Path, study: optuna.Study, fingerprint: dict[str, JsonValue], unless_repeated: Sequence[str]
) -> bool:
    """Notes the fingerprint, or compares it with what is noted; says whether what may differ does."""
    held = study.user_attrs.get(_FINGERPRINT)
    if held is None:
        study.set_user_attr(_FINGERPRINT, fingerprint)
        return False
    here, there = (
        _flat({name: one for name, one in of.items() if name not in unless_repeated}) for of in (fingerprint, held)
    )
    if here != there:
        name = next(name for name in sorted({*here, *there}) if here.get(name) != there.get(name))
        raise UsageError(
            f"{path}: expected the search of this command, got one with {name} = {there.get(name)} "
            f"(here {here.get(name)}); begin in another folder, or repeat the first command"
        )
    return bool(held != fingerprint)


def _flat(value: JsonValue, path: str = "") -> dict[str, JsonValue]:
    """Leaves by their path."""
    if isinstance(value, dict):
        items = [(f"{path}.{name}" if path else name, one) for name, one in value.items()]
    elif isinstance(value, list):
        items = [(f"{path}[{index}]", one) for index, one in enumerate(value)]
    else:
        return {path: value}
    return {name: leaf for sub, one in items for name, leaf in _flat(one, sub).items()}
