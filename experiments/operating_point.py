"""What a policy came to at its own point of its dials on one trace, pooled over days and random seeds.

`promise_kept` says whether every class is at its target over all days; `floors_missed` counts days and classes whose
accuracy lies below the floor. What only watched cells know is NaN where one was not watched. Of a group of training
seeds every number is the interquartile mean over its members, but for these two: each member must keep the promise,
and the floors missed are those of all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from controller.arrays import F64
from controller.compile import Setting
from experiments.benchmark_cells import DayResult
from experiments.statistics import interquartile_mean

_SAME = 1e-9  # sums of equal accuracies differ in the last bits


@dataclass(frozen=True, eq=False)
class OperatingPoint:
    """See the module; NaN where nothing was answered."""

    cost_usd: float  # per day
    attainment: float
    accuracy: float
    attainment_by_class: F64  # (C,)
    accuracy_by_class: F64  # (C,)
    promise_kept: bool
    floors_missed: int
    shed_share: float
    capacity_changes_per_hour: float
    flaps_per_hour: float
    preemptions_per_day: float
    rule_share: float


def operating_point(setting: Setting, members: Sequence[Sequence[DayResult]]) -> OperatingPoint:
    """Pools what the members came to.

    Args:
        setting: Of the days.
        members: Days of each member, under every random seed; at least one.
    """
    workload, tick_hours = setting.workload, setting.scenario.control.tick_s / 3600.0
    requests, missed, answered, accuracy_sum = (
        np.array([np.sum([getattr(day, name) for day in days], axis=0) for days in members], np.float64)
        for name in ("requests", "missed", "answered", "accuracy_sum")
    )  # (S, C) each
    attainment = 1.0 - missed / np.maximum(requests, 1.0)
    accuracy = _mean_accuracy(accuracy_sum, answered)
    is_short = accuracy < workload.accuracy_floor - _SAME

    def share(value: Callable[[DayResult], float | None], of: Callable[[DayResult], float] | None = None) -> float:
        """Of totals, or per day; NaN where one is not known."""
        ratios = [
            sum(_number(value(day)) for day in days) / (len(days) if of is None else max(sum(map(of, days)), 1e-9))
            for days in members
        ]
        return float(interquartile_mean(np.array(ratios)))

    def hours(day: DayResult) -> float:
        return day.ticks * tick_hours

    return OperatingPoint(
        cost_usd=share(lambda day: day.cost_usd),
        attainment=float(interquartile_mean(1.0 - missed.sum(axis=1) / np.maximum(requests.sum(axis=1), 1.0))),
        accuracy=float(interquartile_mean(_mean_accuracy(accuracy_sum.sum(axis=1), answered.sum(axis=1)))),
        attainment_by_class=interquartile_mean(attainment, axis=0),
        accuracy_by_class=interquartile_mean(accuracy, axis=0),
        promise_kept=bool((attainment >= workload.attainment_target).all() and not is_short.any()),
        floors_missed=sum(day.floor_breaches for days in members for day in days),
        shed_share=share(lambda day: day.shed, lambda day: sum(day.requests)),
        capacity_changes_per_hour=share(lambda day: day.capacity_changes, hours),
        flaps_per_hour=share(lambda day: day.flaps, hours),
        preemptions_per_day=share(lambda day: day.preemptions),
        rule_share=share(lambda day: day.ruled_ticks, lambda day: day.ticks),
    )


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _mean_accuracy(accuracy_sum: F64, answered: F64) -> F64:
    mean = np.full(answered.shape, np.nan)
    np.divide(accuracy_sum, answered, out=mean, where=answered > 0)
    return mean
