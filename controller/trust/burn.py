"""Burn rates: how many times too fast a budget of misses or of money is used up, over several windows at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from controller.arrays import F64, ObservationArrays
from controller.compile import Setting
from controller.trust.config import BudgetBurnConfig, BurnPair, SloBurnConfig

HOUR_S = 3600.0
_LEAST_BUDGET = 1e-9


class Windows:
    """Trailing sums of rows over windows of several lengths.

    Args:
        lengths: Ticks of each window, >= 1.
        width: Numbers in a row.
    """

    def __init__(self, lengths: Sequence[int], width: int) -> None:
        self._lengths = tuple(sorted(set(lengths)))
        self._rows: F64 = np.zeros((max(lengths), width))
        self._sums: dict[int, F64] = {length: np.zeros(width) for length in lengths}
        self._at = 0

    def add(self, row: F64) -> None:
        """One tick."""
        size = len(self._rows)
        for length in self._lengths:
            self._sums[length] += row - self._rows[(self._at - length) % size]
        self._rows[self._at % size] = row
        self._at += 1
        if self._at % size == 0:
            # Running sums of floats drift apart from their terms; once per round they are added up anew.
            for length in self._lengths:
                self._sums[length] = self._rows[size - length :].sum(axis=0)

    def sum(self, length: int) -> F64:
        """Sum over the last `length` ticks; ticks before the first count as zero."""
        return self._sums[length]

    def state(self) -> list[list[float]]:
        """Rows, oldest first."""
        order = (np.arange(len(self._rows)) + self._at) % len(self._rows)
        return [[float(x) for x in row] for row in self._rows[order]]

    def restore(self, state: Sequence[Sequence[float]]) -> None:
        """Takes over what `state` returned; rows that no longer fit are left out."""
        for row in list(state)[-len(self._rows) :]:
            if len(row) == self._rows.shape[1]:
                self.add(np.asarray(row, np.float64))


def ticks_of(span_s: float, setting: Setting) -> int:
    """Ticks of a span of control time; at least one."""
    return max(1, round(span_s / setting.scenario.speed / setting.control.tick_s))


class SloBurn:
    """Misses of each class against its error budget."""

    def __init__(self, config: SloBurnConfig, setting: Setting) -> None:
        self._config, self._names = config, setting.class_names
        self._day_ticks = setting.control.day_s / setting.control.tick_s
        self._budget: F64 = np.maximum(1.0 - setting.workload.attainment_target, _LEAST_BUDGET)
        self._pairs = [(pair, ticks_of(pair.long_s, setting), ticks_of(pair.short_s, setting)) for pair in config.pairs]
        lengths = sorted({n for _, long, short in self._pairs for n in (long, short)})
        self.windows = Windows(lengths, 2 * len(self._names))

    def update(self, observation: ObservationArrays, is_fresh: bool) -> str | None:
        """Adds a window and says what burns too fast; None where nothing does.

        Args:
            observation: N = 1.
            is_fresh: Whether it tells of a new window; one that was repeated adds nothing.
        """
        row = np.concatenate([observation.missed[0], observation.arrivals[0]]).astype(np.float64)
        self.windows.add(row if is_fresh else np.zeros_like(row))
        if not self._config.is_on:
            return None
        for c, name in enumerate(self._names):
            for pair, long, short in self._pairs:
                burning = [self._rate(n, c) for n in (long, short)]
                enough = self.windows.sum(long)[c] >= self._config.min_misses
                if enough and min(burning) > pair.rate and self._spent(observation, c, long) >= pair.spent:
                    return (
                        f"class {name} misses {burning[0]:.1f} times what its target allows over {pair.long_s:g} s "
                        f"and {burning[1]:.1f} times over {pair.short_s:g} s; the alarm is at {pair.rate:g}"
                    )
        return None

    def _spent(self, observation: ObservationArrays, c: int, length: int) -> float:
        """Misses of the day so far over what its requests permit; of these there are at least `least_day`."""
        per_tick = float(self.windows.sum(length)[len(self._names) + c]) / length
        arrivals = max(float(observation.day_arrivals[0, c]), self._config.least_day * self._day_ticks * per_tick, 1.0)
        return float(observation.day_missed[0, c]) / (float(self._budget[c]) * arrivals)

    def _rate(self, length: int, c: int) -> float:
        sums, num_classes = self.windows.sum(length), len(self._names)
        arrivals = float(sums[num_classes + c])
        return float(sums[c]) / arrivals / float(self._budget[c]) if arrivals > 0 else 0.0


class BudgetBurn:
    """Spend against the hour's and the day's budget; without budgets it never fires."""

    def __init__(self, config: BudgetBurnConfig, setting: Setting) -> None:
        self._config = config
        limits: Any = setting.scenario.limits
        self._day_usd: float | None = getattr(limits, "budget_usd_per_day", None)
        budgets = (
            [] if limits.budget_usd_per_hour is None else [(limits.budget_usd_per_hour, "hour", config.hour_pairs)]
        )
        if self._day_usd is not None:
            hours = setting.control.day_s * setting.scenario.speed / HOUR_S
            budgets.append((self._day_usd / hours, "day", config.day_pairs))
        self._tests: list[tuple[float, str, BurnPair, int, int]] = [
            (usd, name, pair, ticks_of(pair.long_s, setting), ticks_of(pair.short_s, setting))
            for usd, name, pairs in budgets
            for pair in pairs
        ]
        lengths = sorted({n for *_, long, short in self._tests for n in (long, short)}) or [1]
        self.windows = Windows(lengths, 1)

    def update(self, observation: ObservationArrays, is_fresh: bool) -> str | None:
        """Adds a window and says what is spent too fast; None where nothing is. Arguments as for `SloBurn`."""
        spent = float(observation.spend_usd[0].sum()) if is_fresh else 0.0
        self.windows.add(np.array([spent]))
        if not self._config.is_on:
            return None
        day_usd = float(observation.day_spend_usd[0].sum())
        if self._day_usd is not None and day_usd >= self._config.day_share * self._day_usd:
            return f"{day_usd:.4g} USD of the day's {self._day_usd:.4g} are spent"
        for usd_per_hour, name, pair, long, short in self._tests:
            # Over the whole window, also where the run is younger: what was not spent before it began is not known.
            rates = [
                float(self.windows.sum(ticks)[0]) / (usd_per_hour * span_s / HOUR_S)
                for ticks, span_s in ((long, pair.long_s), (short, pair.short_s))
            ]
            if min(rates) > pair.rate * (1.0 + 1e-9):
                return (
                    f"spend is {rates[0]:.2f} times the {name}'s budget over {pair.long_s:g} s and {rates[1]:.2f} "
                    f"times over {pair.short_s:g} s; the alarm is at {pair.rate:g}"
                )
        return None
