"""Which weights are exported: what is best on the validation days, and the rule itself until something beats it.

Two numbers are chosen with the weights, since a reward prices promises and does not keep them: too many misses on
validation ask for a higher value of a miss, unused room for a lower one; and accuracy below a floor asks for a margin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from controller.policies.predictive import MpcSettings
from experiments.input_span import InputSpan
from experiments.objective import Score
from experiments.train_config import TrainConfig

Tensors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Aim:
    """What a network's rule is told beside its settings, so that promises are just kept."""

    dial: float = 1.0  # factor on the value of a miss
    margin: float = 0.0  # on top of `accuracy_margin`

    def of(self, settings: MpcSettings) -> MpcSettings:
        """The rule's settings with this aim."""
        return settings.model_copy(
            update={
                "miss_multiplier": self.dial * settings.miss_multiplier,
                "accuracy_margin": self.margin + settings.accuracy_margin,
            }
        )


AS_IS = Aim()
"""The rule's settings as they are."""

Validate = Callable[[Tensors, Aim], Score]

DIAL_STEP = 1.4
"""Factor between the dial in use and the one tried beside it at each validation."""

DIAL_RANGE = (0.25, 4.0)
"""Dials that training has seen."""

_LEAST_MARGIN = 1e-5


class Progress(Protocol):
    """Told how far a training is; shows it."""

    def rollout(self, steps: int, mean_return: float) -> None:
        """A rollout and its update are done."""

    def validated(self, steps: int, score: Score, rule: Score) -> None:
        """The policy was evaluated on the validation days."""


@dataclass
class Selection:
    """The best policy by validation so far; begins with the rule itself."""

    rule: Score
    best: Score
    best_steps: int  # 0: the rule, or what training began with
    best_tensors: dict[str, NDArray[np.float32]]
    best_aim: Aim = Aim()
    aim: Aim = Aim()  # the one that suits the present weights
    since_best: int = 0  # validations
    last_steps: int = 0  # at the last validation
    curve: list[tuple[int, float]] = field(default_factory=list)  # (steps, value)
    span: InputSpan | None = None  # of what was seen in training; None: the learner does not tell

    def offer(self, steps: int, tensors: Tensors, score: Score, least_gain: float) -> bool:
        """Takes over weights better than the best, and than the rule by the least gain; says whether it did."""
        self.curve.append((steps, score.value))
        self.last_steps = steps
        is_better = score.value < min(self.best.value, self.rule.value * (1.0 - least_gain))
        if is_better:
            self.best, self.best_steps, self.best_aim, self.since_best = score, steps, self.aim, 0
            self.best_tensors = {name: array.copy() for name, array in tensors.items()}
        else:
            self.since_best += 1
        return is_better

    def plain(self) -> dict[str, Any]:
        """As plain values and tensors, for a checkpoint."""
        import torch

        return {
            "rule": _plain_score(self.rule),
            "best": _plain_score(self.best),
            "best_steps": self.best_steps,
            "best_tensors": {name: torch.from_numpy(array.copy()) for name, array in self.best_tensors.items()},
            "best_aim": vars(self.best_aim),
            "aim": vars(self.aim),
            "since_best": self.since_best,
            "last_steps": self.last_steps,
            "curve": [list(point) for point in self.curve],
            "span": None if self.span is None else self.span.plain(),
        }

    @staticmethod
    def of(plain: Mapping[str, Any]) -> Selection:
        """The selection a checkpoint holds."""
        return Selection(
            rule=_score_of(plain["rule"]),
            best=_score_of(plain["best"]),
            best_steps=plain["best_steps"],
            best_tensors={name: tensor.numpy() for name, tensor in plain["best_tensors"].items()},
            best_aim=Aim(**plain["best_aim"]),
            aim=Aim(**plain["aim"]),
            since_best=plain["since_best"],
            last_steps=plain["last_steps"],
            curve=[(int(steps), float(value)) for steps, value in plain["curve"]],
            span=None if plain["span"] is None else InputSpan.of(plain["span"]),
        )


def offer_validated(
    selection: Selection,
    steps: int,
    tensors: Tensors,
    validate: Validate,
    config: TrainConfig,
    progress: Progress | None = None,
) -> Score:
    """Evaluates weights at the aim in use and at what is beside it, and offers the best; returns its score."""
    score = validate(tensors, selection.aim)
    for beside in (_other_dial, _other_margin) if config.randomise_dial else (_other_margin,):
        other = beside(selection.aim, score)
        if other != selection.aim and (found := validate(tensors, other)).value < score.value:
            score, selection.aim = found, other
    selection.offer(steps, tensors, score, config.least_gain)
    if progress is not None:
        progress.validated(steps, score, selection.rule)
    return score


def _other_dial(aim: Aim, score: Score) -> Aim:
    dial = aim.dial * (DIAL_STEP if score.excess_miss > 0 else 1.0 / DIAL_STEP)
    return replace(aim, dial=min(max(dial, DIAL_RANGE[0]), DIAL_RANGE[1]))


def _other_margin(aim: Aim, score: Score) -> Aim:
    """A margin larger by what lacks, or half of one that is not needed."""
    margin = aim.margin + score.accuracy_gap if score.accuracy_gap > 0 else aim.margin / 2.0
    return replace(aim, margin=margin if margin >= _LEAST_MARGIN else 0.0)


def _plain_score(score: Score) -> dict[str, Any]:
    return {**vars(score), "miss_share": list(score.miss_share), "accuracy": list(score.accuracy)}


def _score_of(plain: Mapping[str, Any]) -> Score:
    return Score(**{**plain, "miss_share": tuple(plain["miss_share"]), "accuracy": tuple(plain["accuracy"])})
