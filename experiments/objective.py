"""What tuning and training minimise: money, raised where a promise is broken.

Cost alone is cheapest at zero capacity and attainment alone at infinite; the objective is cost relative to a reference,
and more by the excess over what was promised. Inside the promises only money counts. The excess is charged on what was
paid, and on no less than the reference: charged on the cost alone, next to no capacity is cheap however much is missed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from controller.arrays import F64, I64, WorkloadArrays
from controller.config import StrictModel


@dataclass(frozen=True, eq=False)
class Outcome:
    """What happened in E episodes (say, days × seeds) with C request classes."""

    cost_usd: F64  # (E,)
    arrivals: I64  # (E, C)
    missed: I64  # (E, C)
    answered: I64  # (E, C)
    accuracy_sum: F64  # (E, C) sum of the answering variants' accuracy

    @property
    def miss_share(self) -> F64:
        """Misses / arrivals by class over all episodes, (C,); 0 where nothing arrived."""
        return np.asarray(self.missed.sum(axis=0) / np.maximum(self.arrivals.sum(axis=0), 1), np.float64)

    @property
    def accuracy(self) -> F64:
        """Mean accuracy of the answers by class over all episodes, (C,); NaN where nothing was answered."""
        answered = self.answered.sum(axis=0)
        mean = np.full(answered.shape, np.nan)
        np.divide(self.accuracy_sum.sum(axis=0), answered, out=mean, where=answered > 0)
        return mean


class ObjectiveConfig(StrictModel):
    """Weights and margins of the objective.

    The margins are there because the days that select are never the days that count: without them the search ends on
    the edge of the promise, and half of the unseen days lie beyond it.
    """

    miss_weight: float = Field(default=40.0, ge=0, description="share of the cost added per unit of excess miss share")
    accuracy_weight: float = Field(
        default=200.0, ge=0, description="share of the cost added per unit of accuracy below the floor"
    )
    miss_room: float = Field(default=0.8, gt=0, le=1, description="share of the allowed misses that may be used up")
    accuracy_room: float = Field(
        default=0.00005, ge=0, description="accuracy kept above the floor; half of what the split of traffic aims at"
    )


@dataclass(frozen=True)
class Score:
    """An outcome in numbers; `value` is what is minimised."""

    value: float
    cost_usd: float  # per episode
    excess_miss: float  # summed over classes
    accuracy_gap: float  # summed over classes
    miss_share: tuple[float, ...]  # by class
    accuracy: tuple[float, ...]  # by class, 0 where nothing was answered


def score(outcome: Outcome, workload: WorkloadArrays, config: ObjectiveConfig, reference_usd: float) -> Score:
    """Scores an outcome.

    Misses and accuracy are pooled over the episodes: these are hours where the promise speaks of a day, and a
    deficit of one hour is repaid in the next.

    Args:
        outcome: What happened.
        workload: Targets and floors of the classes.
        config: Weights and margins.
        reference_usd: Cost per episode that counts as 1, > 0, and the least that broken promises are charged on.
    """
    allowed = (1.0 - workload.attainment_target) * config.miss_room
    excess_miss = float(np.maximum(outcome.miss_share - allowed, 0.0).sum())
    accuracy = outcome.accuracy
    # A floor on each request is kept by the choice of variants; where nothing is answered, no mean is broken.
    short = workload.accuracy_floor + config.accuracy_room - accuracy
    accuracy_gap = float(np.maximum(np.where(workload.floor_each | np.isnan(accuracy), 0.0, short), 0.0).sum())
    cost_usd = float(outcome.cost_usd.mean())
    penalty = config.miss_weight * excess_miss + config.accuracy_weight * accuracy_gap
    return Score(
        value=(cost_usd + penalty * max(cost_usd, reference_usd)) / reference_usd,
        cost_usd=cost_usd,
        excess_miss=excess_miss,
        accuracy_gap=accuracy_gap,
        miss_share=tuple(float(x) for x in outcome.miss_share),
        accuracy=tuple(float(x) for x in np.nan_to_num(accuracy)),
    )
