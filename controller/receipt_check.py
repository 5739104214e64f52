"""How good predictions were: what a journal's receipts expected of the chosen plans beside what then happened.

Two ideas are needed to read it. A prediction holds its plan over the horizon and knows no preemption to come, so what a
policy changes later, or the market does, is part of the difference: this checks the use of a prediction, not only the
model. And a prediction is the mean of R simulated runs with a standard error e, of which one real run differs by
chance alone with a standard deviation of e sqrt(R + 1).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from controller.alternatives import Prediction
from controller.arrays import F64, ObservationArrays
from controller.config import parse_config
from controller.journal import Journal, JournalEvent, JournalTick
from controller.receipts import PREDICTION, Receipt

METRICS: Final = ("cost_usd", "attainment", "accuracy")

_WITHIN_Z: Final = 1.96
_ROUNDING: Final = 1e-5  # receipts hold six digits

_Pair = tuple[Prediction, dict[str, float]]  # and what happened, by metric


@dataclass(frozen=True)
class PredictionCheck:
    """One metric of the chosen plans of a journal.

    Attributes:
        metric: `cost_usd`, `attainment` or `accuracy`, each over a horizon.
        count: Predictions whose horizon the journal covers.
        apart: How many of them do not overlap: only those tell of chance.
        predicted: Mean over those apart, likewise below.
        realised: Mean.
        bias: Mean of realised - predicted.
        bias_z: Bias over its standard error by the predictions' own errors; none where they have none.
        within: Share of realised values inside the 95 % interval of one run; none likewise.
    """

    metric: str
    count: int
    apart: int
    predicted: float
    realised: float
    bias: float
    bias_z: float | None
    within: float | None


@dataclass
class Windows:
    """Sums by tick, of env 0; entry k is the window that tick k closed."""

    cost_usd: list[float] = field(default_factory=list)
    arrived: list[int] = field(default_factory=list)
    missed: list[int] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    accuracy_sum: list[float] = field(default_factory=list)
    queued: list[int] = field(default_factory=list)  # at its end

    def add(self, seen: ObservationArrays) -> None:
        """One window."""
        self.cost_usd.append(float(seen.spend_usd[0].sum()))
        self.arrived.append(int(seen.arrivals[0].sum()))
        self.missed.append(int(seen.missed[0].sum()))
        self.answered.append(int(seen.answered[0].sum()))
        self.accuracy_sum.append(float(seen.accuracy_sum[0].sum()))
        self.queued.append(int(seen.queue[0].sum()))

    def realised(self, tick: int, ticks: int) -> dict[str, float] | None:
        """What happened in the `ticks` windows after a tick, as a rollout counts; None where they are not all there."""
        begin, end = tick + 1, tick + 1 + ticks
        if end > len(self.cost_usd):
            return None
        arrived = sum(self.arrived[begin:end]) + self.queued[tick]
        answered = sum(self.answered[begin:end])
        return {
            "cost_usd": sum(self.cost_usd[begin:end]),
            "attainment": 1.0 - sum(self.missed[begin:end]) / max(1, arrived),
            "accuracy": sum(self.accuracy_sum[begin:end]) / answered if answered else math.nan,
        }


def read_predictions(journal: Journal) -> tuple[Windows, list[Prediction]]:
    """Windows and predictions of a journal, those without a value left out."""
    windows = Windows()
    predictions: list[Prediction] = []
    for record in journal.records():
        if isinstance(record, JournalTick):
            windows.add(record.observation)
        elif record.kind == PREDICTION:
            predictions.append(prediction_of(record))
    return windows, [one for one in predictions if one.expected]


def prediction_of(event: JournalEvent) -> Prediction:
    """The prediction that an event holds.

    Raises:
        ConfigError: Fields of another version.
    """
    return parse_config(dict(event.fields), Prediction, f"line {event.line}")


def receipt_in(event: JournalEvent) -> Receipt:
    """The receipt that an event holds.

    Raises:
        ConfigError: Fields of another version.
    """
    return parse_config(dict(event.fields), Receipt, f"line {event.line}")


def check_predictions(windows: Windows, predictions: Iterable[Prediction], tick_s: float) -> list[PredictionCheck]:
    """Compares every prediction whose horizon is covered; metrics that nobody predicted are left out.

    Args:
        windows: Of the same journal.
        predictions: In order of ticks.
        tick_s: Seconds of a tick of the run.
    """
    found: list[_Pair] = []
    for one in predictions:
        realised = windows.realised(one.tick, max(1, round(one.horizon_s / tick_s)))
        if realised is not None:
            found.append((one, realised))
    apart: list[_Pair] = []
    free_from = -1
    for one, realised in found:
        if one.tick >= free_from:
            apart.append((one, realised))
            free_from = one.tick + max(1, round(one.horizon_s / tick_s))
    checks = [_checked(metric, found, apart) for metric in METRICS]
    return [check for check in checks if check is not None]


def _checked(metric: str, found: Sequence[_Pair], apart: Sequence[_Pair]) -> PredictionCheck | None:
    rows = []
    for one, realised in apart:
        mean, error = getattr(one.expected[0], metric), getattr(one.expected[0], f"{metric}_error")
        if mean is not None and math.isfinite(realised[metric]):
            spread = math.nan if error is None or one.replications < 1 else error * math.sqrt(one.replications + 1)
            rows.append((mean, realised[metric], spread))
    if not rows:
        return None
    predicted, realised_values, spread_of = (np.array(column, np.float64) for column in zip(*rows, strict=True))
    off = realised_values - predicted
    known = np.isfinite(spread_of)
    return PredictionCheck(
        metric=metric,
        count=len(found),
        apart=len(rows),
        predicted=float(predicted.mean()),
        realised=float(realised_values.mean()),
        bias=float(off.mean()),
        bias_z=_bias_z(off[known], spread_of[known], predicted[known]),
        within=float((np.abs(off) <= _WITHIN_Z * spread_of + _ROUNDING * np.abs(predicted))[known].mean())
        if known.any()
        else None,
    )


def _bias_z(off: F64, spread: F64, predicted: F64) -> float | None:
    """The mean difference over its standard error; None where the predictions say that nothing varies."""
    error = math.sqrt(float((spread**2).sum()))
    return float(off.sum()) / error if error > _ROUNDING * float(np.abs(predicted).max(initial=0.0)) else None
