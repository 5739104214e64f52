"""Which weights are exported: what is best on the validation days, and the rule itself until something beats it.

The dial is chosen with the weights: too many misses on validation ask for a higher value of a miss, unused room for a
lower one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from experiments.objective import Score
from experiments.train_config import TrainConfig

Tensors = Mapping[str, NDArray[np.float32]]
Validate = Callable[[Tensors, float], Score]

DIAL_STEP = 1.4
"""Factor between the dial in use and the one tried beside it at each validation."""

DIAL_RANGE = (0.25, 4.0)
"""Dials that training has seen."""


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
    best_dial: float = 1.0
    dial: float = 1.0  # the one that suits the present weights
    since_best: int = 0  # validations
    last_steps: int = 0  # at the last validation
    curve: list[tuple[int, float]] = field(default_factory=list)  # (steps, value)

    def offer(self, steps: int, tensors: Tensors, score: Score, least_gain: float) -> bool:
        """Takes over weights better than the best, and than the rule by the least gain; says whether it did."""
        self.curve.append((steps, score.value))
        self.last_steps = steps
        is_better = score.value < min(self.best.value, self.rule.value * (1.0 - least_gain))
        if is_better:
            self.best, self.best_steps, self.best_dial, self.since_best = score, steps, self.dial, 0
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
            "best_dial": self.best_dial,
            "dial": self.dial,
            "since_best": self.since_best,
            "last_steps": self.last_steps,
            "curve": [list(point) for point in self.curve],
        }

    @staticmethod
    def of(plain: Mapping[str, Any]) -> Selection:
        """The selection a checkpoint holds."""
        return Selection(
            rule=_score_of(plain["rule"]),
            best=_score_of(plain["best"]),
            best_steps=plain["best_steps"],
            best_tensors={name: tensor.numpy() for name, tensor in plain["best_tensors"].items()},
            best_dial=plain["best_dial"],
            dial=plain["dial"],
            since_best=plain["since_best"],
            last_steps=plain["last_steps"],
            curve=[(int(steps), float(value)) for steps, value in plain["curve"]],
        )


def offer_validated(
    selection: Selection,
    steps: int,
    tensors: Tensors,
    validate: Validate,
    config: TrainConfig,
    progress: Progress | None = None,
) -> Score:
    """Evaluates weights at the dial in use, and at the one beside it, and offers the better; returns its score."""
    score = validate(tensors, selection.dial)
    if config.randomise_dial:
        other = selection.dial * (DIAL_STEP if score.excess_miss > 0 else 1.0 / DIAL_STEP)
        other = min(max(other, DIAL_RANGE[0]), DIAL_RANGE[1])
        beside = validate(tensors, other)
        if beside.value < score.value:
            score, selection.dial = beside, other
    selection.offer(steps, tensors, score, config.least_gain)
    if progress is not None:
        progress.validated(steps, score, selection.rule)
    return score


def _plain_score(score: Score) -> dict[str, Any]:
    return {**vars(score), "miss_share": list(score.miss_share), "accuracy": list(score.accuracy)}


def _score_of(plain: Mapping[str, Any]) -> Score:
    return Score(**{**plain, "miss_share": tuple(plain["miss_share"]), "accuracy": tuple(plain["accuracy"])})
