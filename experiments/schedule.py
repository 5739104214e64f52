"""A gain schedule: a linear knob policy of a few weights, searched on whole training days like a rule's settings.

PPO learns from what follows a decision. What a knob is worth that acts over hours (accuracy bought where it is cheap,
to be spent where it is dear) is a small part of that, and noise the rest; under the same requests the bill of fifty
days is not. So a handful of weights on inputs that are known to matter is searched by Optuna's Gaussian process: each
trial is a policy that is run on all training days, as long as it is not hopeless after some of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from optuna.trial import TrialState

from controller.arrays import F64
from controller.errors import UsageError, mismatch
from controller.observation import OBSERVATION_SIZE, input_index
from controller.policies.tiered import with_tiers
from controller.rule_arrays import KNOBS, NUM_KNOBS
from envs.world import World
from experiments.base_rule import BaseRule
from experiments.judging import MakePolicy, part_of
from experiments.objective import Score, score
from experiments.search import Search
from experiments.search_plan import Judged, SearchPlan, Settings, StopRule
from experiments.selection import Progress, Selection, Tensors, Validate, offer_validated
from experiments.stretches import Replay, StretchWorld, stretched
from experiments.study_summary import kernels_hash
from experiments.train_config import CONSTANT, ScheduledWeight, TrainConfig
from experiments.tuning import Range

FILE = "schedule.log"

_BATCH = 2
_LEAST_SD = 1e-6
_MOST_LOG_RATIO = 0.3
"""A trace counts as no more than this much better or worse (in logarithms): where quotas bind, and promises are broken
whatever is done, a small change costs or saves what all others together do not.
"""


@dataclass(frozen=True, eq=False)
class InputScale:
    """What inputs are on the training days under the rule: weights are per standard deviation from the mean."""

    mean: F64  # (D,)
    sd: F64  # (D,)


def input_scale(inputs: NDArray[np.float32]) -> InputScale:
    """Means and standard deviations of inputs (rows, D)."""
    return InputScale(inputs.mean(axis=0, dtype=np.float64), inputs.std(axis=0, dtype=np.float64))


def schedule_tensors(
    weights: Sequence[ScheduledWeight], values: Sequence[float], scale: InputScale
) -> dict[str, NDArray[np.float32]]:
    """A gain schedule as a policy file holds it: a network of one layer.

    Args:
        weights: What each value is of.
        values: As many.
        scale: Of the inputs; one that never changes turns nothing.
    """
    matrix, bias = np.zeros((NUM_KNOBS, OBSERVATION_SIZE)), np.zeros(NUM_KNOBS)
    for weight, value in zip(weights, values, strict=True):
        knob = KNOBS.index(weight.knob)
        if weight.of == CONSTANT:
            bias[knob] += value
            continue
        at = input_index(weight.of)
        if scale.sd[at] > _LEAST_SD:
            matrix[knob, at] += value / scale.sd[at]
            bias[knob] -= value / scale.sd[at] * scale.mean[at]
    return {"knobs.0.weight": matrix.astype(np.float32), "knobs.0.bias": bias.astype(np.float32)}


class DaysJudge:
    """What policies are worth on stretches of the training days, in parts, relative to the rule.

    A miss and accuracy are worth what they are in the reward of a step: `miss_weight` mean costs of a request under the
    rule, and `accuracy_weight` times the usual price of accuracy; misses beyond the promise cost `excess_weight` more.
    Accuracy above a floor is worth something to the rest of the day, so nothing on stretches that are whole days.

    Args:
        worlds: Plain or joint ones; each trace of each counts alike.
        config: Weights of the reward, and `schedule`.
        base: The rule.
        seed: Of the stretches and of everything random in them.

    Raises:
        UsageError: A world's classes have tiers, whose accuracy is a contract and has no price.
    """

    def __init__(self, worlds: Sequence[World], config: TrainConfig, base: BaseRule, seed: int) -> None:
        schedule = config.schedule
        self._config = config
        self._replays: list[list[tuple[Replay[StretchWorld], F64]]] = [[] for _ in range(schedule.parts)]
        self.decisions = 0  # of all stretches together
        for world in worlds:
            setting = world.setting
            if setting.tiers is not None:
                where = f"{setting.scenario.name}: learner"
                raise UsageError(mismatch(where, "another one for classes with tiers", config.learner))
            price = base.settings.arrays(setting).accuracy_usd * np.where(setting.workload.floor_each, 0.0, 1.0)
            length_s = schedule.window_s / setting.scenario.speed
            whole = stretched(world, schedule.windows or len(world.days), length_s, seed)
            cells = whole.cells((seed,))
            self.decisions += len(cells) * whole.cell_ticks // setting.control.ticks_per_decision
            for part, replays in enumerate(self._replays):
                if chosen := cells[part :: schedule.parts]:
                    replays.append((Replay(whole, seed, chosen), config.accuracy_weight * price))
        self._replays = [replays for replays in self._replays if replays]
        self._rule = [self._sums(part, rule_of(base)) for part in range(self.parts)]

    @property
    def parts(self) -> int:
        """How many there are."""
        return len(self._replays)

    def value(self, part: int, make: MakePolicy) -> float:
        """What a part costs, promises included, over what it costs under the rule: geometric mean over traces."""
        sums = self._sums(part, make)
        ratios = []
        for name, rule in self._rule[part].items():
            miss_usd = self._config.miss_weight * rule.usd / max(rule.arrivals, 1)
            weight = self._config.schedule.excess_weight
            ratios.append(sums[name].worth_usd(miss_usd, weight) / rule.worth_usd(miss_usd, weight))
        most = math.exp(_MOST_LOG_RATIO)
        return float(np.exp(np.mean(np.log(np.clip(ratios, 1.0 / most, most)))))

    def _sums(self, part: int, make: MakePolicy) -> dict[tuple[int, str], _Sums]:
        """Of each world and trace of a part."""
        found: dict[tuple[int, str], _Sums] = {}
        for index, (replay, price) in enumerate(self._replays[part]):
            setting = replay.world.setting
            outcome = replay.outcome(with_tiers(setting, make))
            traces = np.array([replay.world.parts[cell.day - 1][0] for cell in replay.cells])
            owed = outcome.answered * setting.workload.accuracy_floor - outcome.accuracy_sum
            if _are_days(replay.world):
                owed = np.maximum(owed, 0.0)  # nothing is bought at midnight for what a day had too much of
            owed = owed @ price
            for trace in dict.fromkeys(traces.tolist()):
                chosen = traces == trace
                usd = float(outcome.cost_usd[chosen].sum())
                own = part_of(outcome, chosen)
                found[index, trace] = _Sums(
                    usd,
                    usd + float(owed[chosen].sum()),
                    int(own.missed.sum()),
                    int(own.arrivals.sum()),
                    score(own, setting.workload, self._config.objective, 1.0).excess_miss,
                )
        return found


def _are_days(world: StretchWorld) -> bool:
    """Whether every stretch is from midnight to midnight."""
    day_s = world.setting.control.day_s
    return world.cell_s >= day_s and not np.any(np.mod(world.begins_s, day_s))


@dataclass(frozen=True)
class _Sums:
    """Over some stretches."""

    usd: float
    owed_usd: float  # with accuracy below the floors at its price, and less what is above
    missed: int
    arrivals: int
    excess_miss: float  # share of the arrivals beyond the promise, summed over classes

    def worth_usd(self, miss_usd: float, excess_weight: float) -> float:
        """What it costs, broken promises included."""
        return (self.owed_usd + miss_usd * self.missed) * (1.0 + excess_weight * self.excess_miss)


class TrialProgress(Progress, Protocol):
    """Told of trials too."""

    def trial(self, done: int, value: float, best: float) -> None:
        """Weights were tried."""


def rule_of(base: BaseRule) -> MakePolicy:
    """Makes the rule without knobs."""
    from controller.policies.predictive import MpcPolicy

    return lambda setting: MpcPolicy(setting, base.settings, base.forecast)


def schedule_seed(
    worlds: Sequence[World],
    config: TrainConfig,
    base: BaseRule,
    seed: int,
    folder: Path,
    validate: Validate,
    make: Callable[[Tensors], MakePolicy],
    scale: Callable[[], InputScale],
    *,
    rule: Score,
    config_sha256: str,
    resume: bool = False,
    progress: TrialProgress | None = None,
    stop_after_trials: int | None = None,
) -> Selection:
    """Searches the weights, and validates the best.

    Args:
        worlds: Of the training days.
        config: Settings.
        base: The rule.
        seed: Of the proposals, and of everything random in the days.
        folder: Holds the search.
        validate: Deterministic evaluation of a network at an aim on the validation days.
        make: The policy of a network.
        scale: Of the inputs.
        rule: What the rule comes to on the validation days, which is what weights of zero come to.
        config_sha256: Identifies the settings; a search of others is refused.
        resume: Go on with the search in `folder`, if there is one.
        progress: Told of every trial and validation.
        stop_after_trials: Stop, as an interruption would, once there are this many trials.

    Returns:
        The selection; its steps are decisions simulated so far, those of what was given up too.

    Raises:
        UsageError: The search cannot be used.
        KeyboardInterrupt: As given; what is finished is on disk.
    """
    schedule = config.schedule
    path = folder / FILE
    if not resume:
        path.unlink(missing_ok=True)
    days, inputs = DaysJudge(worlds, config, base, seed), scale()

    def tensors_of(settings: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
        return schedule_tensors(schedule.weights, [settings[one.name] for one in schedule.weights], inputs)

    def judge(asked: Sequence[tuple[Settings, int]]) -> list[Judged]:
        return [Judged(days.value(part, make(tensors_of(settings))), {}) for settings, part in asked]

    ranges = tuple(Range(one.name, -one.most, one.most) for one in schedule.weights)
    none: Settings = dict.fromkeys((one.name for one in ranges), 0.0)
    starts = (none, *({**none, **start} for start in schedule.starts))
    plan = SearchPlan(ranges, starts, days.parts, _BATCH, seed, schedule.give_up_above, is_near=True)
    search = Search(plan, path, {"config_sha256": config_sha256, "kernels": kernels_hash()})

    def decisions(until: int) -> int:
        judged = sum(len(trial.intermediate_values) for trial in search.trials[:until])
        return judged * days.decisions // days.parts

    def told() -> None:
        if progress is not None:
            value = search.trials[-1].value
            progress.trial(len(search.trials), math.inf if value is None else value, search.course[-1])
        if stop_after_trials is not None and len(search.trials) >= stop_after_trials:
            raise KeyboardInterrupt

    search.run(judge, StopRule(trials=schedule.trials), told)
    selection = Selection(rule, rule, 0, tensors_of(plan.starts[0]))
    done = [trial for trial in search.trials if trial.number > 0 and trial.state == TrialState.COMPLETE]
    for trial in sorted(done, key=lambda one: (one.value, one.number))[: schedule.finalists]:
        tensors = tensors_of(search.settings(trial.number, trial.params))
        offer_validated(selection, decisions(trial.number + 1), tensors, validate, config, progress)
    return selection
