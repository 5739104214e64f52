"""Judges candidates on stretches of several worlds, each trace of each world by itself.

A promise is made per service, so misses of one trace are not made up for by another: an outcome is scored for every
trace of every world, relative to what the first candidate cost there, and the scores are averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from controller.compile import Setting
from controller.policies.tiered import with_tiers
from controller.ports import Policy
from envs.world import World
from experiments.objective import ObjectiveConfig, Outcome, Score, score
from experiments.stretches import Replay, stretched

_LEAST_VALUE = 1e-9  # of what costs nothing

MakePolicy = Callable[[Setting], Policy]


@dataclass(frozen=True)
class PartScore:
    """The score on one trace of one world."""

    scenario: str
    trace: str
    score: Score
    relative_cost: float  # to that of the reference


class Judge:
    """Scores policies on equal stretches.

    Args:
        worlds: Plain or joint ones.
        windows: Stretches of each world; of a joint world a multiple of its days treats them alike.
        window_s: Length of each, at speed 1.
        seed: Of the stretches and of everything random in them.
        objective: Weights and margins.
    """

    def __init__(
        self, worlds: Sequence[World], windows: int, window_s: float, seed: int, objective: ObjectiveConfig
    ) -> None:
        self._objective = objective
        self._replays = [
            Replay(stretched(world, windows, window_s / world.setting.scenario.speed, seed), seed) for world in worlds
        ]
        self._references: dict[tuple[int, str], float] = {}

    def set_reference(self, make: MakePolicy) -> None:
        """Costs of this policy count as 1 from now on; without it those of the first policy that is judged."""
        self._references.clear()
        self.parts(make)

    def parts(self, make: MakePolicy) -> list[PartScore]:
        """Scores by world and trace."""
        found = []
        for index, replay in enumerate(self._replays):
            setting = replay.world.setting
            outcome = replay.outcome(with_tiers(setting, make))
            names = np.array([trace for trace, _ in replay.world.parts])
            for trace in dict.fromkeys(names.tolist()):
                part = part_of(outcome, names == trace)
                reference = self._references.setdefault((index, trace), float(part.cost_usd.mean()))
                scored = score(part, setting.workload, self._objective, reference)
                found.append(PartScore(setting.scenario.name, trace, scored, scored.cost_usd / reference))
        return found

    def score(self, make: MakePolicy) -> Score:
        """Those of all worlds and traces as one (`mean_score`); costs are relative to the reference."""
        return mean_score([one.score for one in self.parts(make)])


def mean_score(scores: Sequence[Score]) -> Score:
    """Several scores as one: means, of values geometric, and of excess and gap the largest; one alone stays as it is.

    Where a world's promises cannot be kept its value is many times that of the others, and a plain mean would be about
    that world alone.
    """
    if len(scores) == 1:
        return scores[0]
    return Score(
        value=float(np.exp(np.mean(np.log(np.maximum([one.value for one in scores], _LEAST_VALUE))))),
        cost_usd=float(np.mean([one.cost_usd for one in scores])),
        excess_miss=max(one.excess_miss for one in scores),
        accuracy_gap=max(one.accuracy_gap for one in scores),
        miss_share=(max(max(one.miss_share) for one in scores),),
        accuracy=(),
    )


def part_of(outcome: Outcome, chosen: np.ndarray) -> Outcome:
    """Some of an outcome's episodes."""
    return Outcome(
        cost_usd=outcome.cost_usd[chosen],
        arrivals=outcome.arrivals[chosen],
        missed=outcome.missed[chosen],
        answered=outcome.answered[chosen],
        accuracy_sum=outcome.accuracy_sum[chosen],
    )
