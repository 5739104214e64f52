"""Tunes the settings of any rule within the ranges its model declares: random search, then local mutation of the best.

A learned policy is compared with rules, and a rule that was not tuned is a weak rival, so this comes before every
training. It is small on purpose: no surrogate, one objective, and a search that is a function of its seed and of the
values seen, so that a recorded search continues where it stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import annotated_types
import numpy as np
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from controller.errors import UsageError, mismatch

RANDOM_SHARE = 0.1  # of the trials, anywhere in the ranges; the rest mutates the best so far
_LOG_FROM_RATIO = 10.0  # a positive range this wide is searched by its logarithm
_INSIDE = 0.01  # distance kept from a bound that is itself excluded, as a share of the range
_LEAST_STEP, _MOST_STEP = 0.02, 0.4  # standard deviation of a mutation, as a share of the range; drawn per trial
_MORE_CHANGED = 1.5  # settings changed in a mutation beside the first, on average

SettingsT = TypeVar("SettingsT", bound=BaseModel)


@dataclass(frozen=True)
class Range:
    """Declared range of one setting, both ends included."""

    name: str
    low: float
    high: float
    is_integer: bool = False
    is_flag: bool = False

    @property
    def is_log(self) -> bool:
        """Whether the range is searched by its logarithm."""
        return not self.is_flag and self.low > 0 and self.high / self.low >= _LOG_FROM_RATIO

    def value(self, unit: float) -> float | int | bool:
        """The setting at `unit` in [0, 1]."""
        unit = min(max(float(unit), 0.0), 1.0)
        if self.is_flag:
            return unit >= 0.5
        if self.is_log:
            number = self.low * math.exp(unit * math.log(self.high / self.low))
        else:
            number = self.low + unit * (self.high - self.low)
        number = min(max(number, self.low), self.high)
        return round(number) if self.is_integer else number

    def unit(self, value: float) -> float:
        """Where a setting lies in its range, 0..1; values outside count as the nearest end."""
        if self.is_flag:
            return float(bool(value))
        value = min(max(value, self.low), self.high)
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Tuned(Generic[SettingsT]):
    """Result of a search."""

    best: SettingsT
    value: float
    start_value: float
    values: tuple[float, ...]  # of every trial in order; trial 0 is the start


def ranges_of(model: type[BaseModel], fixed: Sequence[str] = ()) -> tuple[Range, ...]:
    """Ranges of all settings that declare both bounds, and of all flags, in the order of the model.

    Args:
        model: A settings model; bounds are `ge`/`le` (or `gt`/`lt`, taken just inside) of a field.
        fixed: Settings left as they are.

    Raises:
        UsageError: `fixed` names no field.
    """
    for name in fixed:
        if name not in model.model_fields:
            raise UsageError(mismatch("fixed", f"fields of {model.__name__}: {', '.join(model.model_fields)}", name))
    found = (_range_of(name, field) for name, field in model.model_fields.items() if name not in fixed)
    return tuple(one for one in found if one is not None)


def tune(
    start: SettingsT,
    objective: Callable[[SettingsT], float],
    *,
    trials: int,
    seconds: float = math.inf,
    seed: int = 0,
    fixed: Sequence[str] = (),
    recorded: Sequence[float] = (),
    on_trial: Callable[[int, float, float], None] | None = None,
) -> Tuned[SettingsT]:
    """Minimises `objective` over the declared ranges, from a start that is itself the first trial.

    Args:
        start: Settings to begin with; the result is never worse by the objective.
        objective: Cost of settings, lower is better; a value that is not finite counts as the worst.
        trials: Most trials, the start included, >= 1.
        seconds: No new trial begins later than this after the first.
        seed: Fixes the proposals.
        fixed: Settings left as they are in `start`.
        recorded: Values of the first trials of an earlier search with equal arguments; they are not computed again.
        on_trial: Called after each new trial with (trials done, its value, best value).

    Returns:
        The best settings and the values of all trials.
    """
    ranges = ranges_of(type(start), fixed)
    rng = np.random.default_rng([seed, 0x7D4E])
    began_s = time.monotonic()
    best, best_value = start, math.inf
    values: list[float] = []
    for trial in range(max(trials, 1)):
        if trial > 0 and (not ranges or time.monotonic() - began_s > seconds):
            break
        candidate = start if trial == 0 else _proposal(best, ranges, trial / max(trials, 1), rng)
        is_new = trial >= len(recorded)
        value = objective(candidate) if is_new else recorded[trial]
        value = value if math.isfinite(value) else math.inf
        values.append(value)
        if trial == 0:
            began_s = time.monotonic()  # the first trial also compiles
        if trial == 0 or value < best_value:
            best, best_value = candidate, value
        if is_new and on_trial is not None:
            on_trial(trial + 1, value, best_value)
    return Tuned(best, best_value, values[0], tuple(values))


def _proposal(best: SettingsT, ranges: Sequence[Range], done: float, rng: np.random.Generator) -> SettingsT:
    """Settings anywhere in the ranges during the first share of the search, then near the best."""
    # Draws are the same in number for both kinds, so that a search replays from its recorded values.
    anywhere, step, chosen = rng.random(len(ranges)), rng.standard_normal(len(ranges)), rng.random(len(ranges))
    forced = int(rng.integers(len(ranges)))
    width = _LEAST_STEP * (_MOST_STEP / _LEAST_STEP) ** rng.random()
    changed: dict[str, Any] = {}
    for index, one in enumerate(ranges):
        if done < RANDOM_SHARE:
            changed[one.name] = one.value(anywhere[index])
        elif index == forced or chosen[index] < _MORE_CHANGED / len(ranges):
            unit = one.unit(getattr(best, one.name))
            changed[one.name] = one.value(1.0 - unit if one.is_flag else unit + width * step[index])
    return type(best).model_validate({**best.model_dump(), **changed})


def _range_of(name: str, field: FieldInfo) -> Range | None:
    if field.annotation is bool:
        return Range(name, 0.0, 1.0, is_flag=True)
    if field.annotation not in (int, float):
        return None
    low, high = -math.inf, math.inf
    excluded_low = excluded_high = False
    for rule in field.metadata:
        if isinstance(rule, annotated_types.Ge | annotated_types.Gt):
            excluded_low = isinstance(rule, annotated_types.Gt)
            low = float(getattr(rule, "gt" if excluded_low else "ge"))
        elif isinstance(rule, annotated_types.Le | annotated_types.Lt):
            excluded_high = isinstance(rule, annotated_types.Lt)
            high = float(getattr(rule, "lt" if excluded_high else "le"))
    if not (math.isfinite(low) and math.isfinite(high)) or low >= high:
        return None
    is_integer = field.annotation is int
    inside = 1.0 if is_integer else _INSIDE * (high - low)
    return Range(name, low + inside * excluded_low, high - inside * excluded_high, is_integer)
