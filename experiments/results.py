"""What a run came to: one flat row per policy, scenario, day and seed, and the files and table made of such rows.

Two ideas are needed to read it. `Tally` adds up the windows of N envs while they run and knows nothing of files; a
`ResultRow` is its end for one env. And days are compared in pairs: equal seeds mean equal requests, so the difference
between two policies on the same day and seed says more than the difference of their means.

Definitions. `attainment` is 1 - misses / requests. `accuracy` is the mean over answered requests of the answering
variant's accuracy. A *floor breach* is a class whose mean accuracy over the day lies below its floor. A *flap* is a
change of the planned replicas of one variant on one machine pool in the direction opposite to the change before it,
within 30 minutes of it. `rule_share` is the share of ticks on which the named rule drove instead of the policy.
Latencies are those of answers, late ones included; dropped and refused requests have none and count as misses.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from controller.arrays import BILL_TERMS, F64, I64, LATENCY_BUCKETS, SERVERLESS, Bool, ObservationArrays, PlanArrays
from controller.compile import Setting
from controller.config import StrictModel
from controller.errors import ConfigError
from controller.latency import quantile
from controller.plan import Reason
from experiments.redundancy_shares import RedundancyShares

MOST_RULED = 0.05
"""Share of ticks; where the rule drove more, a run says nothing of its policy."""

FLAP_WINDOW_S = 1800.0
"""Two opposite changes further apart follow the day, not a nervous policy."""

_FLOOR_TOLERANCE = 1e-9  # sums of equal accuracies differ in the last bits


class ResultRow(StrictModel):
    """One policy on one day of one scenario under one seed. None stands where nothing was answered."""

    policy: str
    scenario: str
    trace: str
    day: int = Field(ge=1)
    seed: int
    cost_usd: float
    attainment: float
    accuracy: float | None
    floor_breaches: int = Field(ge=0)
    requests: int = Field(ge=0)
    misses: int = Field(ge=0)
    shed: int = Field(ge=0)
    flaps_per_hour: float = Field(ge=0)
    preemptions: int = Field(ge=0)
    rule_share: float = Field(ge=0, le=1)
    decide_ms_p99: float | None = Field(default=None, ge=0)
    solver: dict[str, int] | None = Field(
        default=None, description="programs solved, and how many ended otherwise; none where nothing is solved"
    )
    redundancy: dict[str, float] | None = Field(
        default=None, description="share of requests by mode, and what was sent beyond first copies; none without any"
    )
    cost_usd_by_term: dict[str, float]
    attainment_by_class: dict[str, float]
    accuracy_by_class: dict[str, float | None]
    p50_s: dict[str, float | None]
    p95_s: dict[str, float | None]
    p99_s: dict[str, float | None]


class Tally:
    """Running sums over the windows of N envs of one setting."""

    def __init__(self, setting: Setting, num_envs: int) -> None:
        """Starts at zero for `num_envs` envs."""
        num_variants, num_pools, num_classes = setting.shape
        by_class = (num_envs, num_classes)
        self._setting = setting
        self._machine: Bool = setting.catalog.market != SERVERLESS
        self.ticks = 0
        self.arrivals: I64 = np.zeros(by_class, np.int64)
        self.answered: I64 = np.zeros(by_class, np.int64)
        self.missed: I64 = np.zeros(by_class, np.int64)
        self.shed: I64 = np.zeros(by_class, np.int64)
        self.accuracy_sum: F64 = np.zeros(by_class)
        self.latency: I64 = np.zeros((*by_class, LATENCY_BUCKETS), np.int64)
        self.preempted: I64 = np.zeros(num_envs, np.int64)
        self.spend_usd: F64 = np.zeros((num_envs, len(BILL_TERMS)))
        self.ruled: I64 = np.zeros(num_envs, np.int64)
        self.flaps: I64 = np.zeros(num_envs, np.int64)
        self.solver: list[dict[str, int]] | None = None  # of a policy that solves programs, by env
        self.redundancy = RedundancyShares(num_envs)
        self._replicas: I64 | None = None
        self._direction: I64 = np.zeros((num_envs, num_variants, num_pools), np.int64)
        self._changed_s: F64 = np.full((num_envs, num_variants, num_pools), -np.inf)

    def decided(self, plan: PlanArrays) -> None:
        """Adds the plan of the tick that begins."""
        self.redundancy.decided(plan)
        self.ruled += (plan.reasons & int(Reason.FALLBACK_RULE)) != 0
        now_s = self.ticks * self._setting.scenario.control.tick_s
        if self._replicas is not None:
            direction = np.sign(plan.replicas - self._replicas) * self._machine
            turned = direction * self._direction < 0
            self.flaps += (turned & (now_s - self._changed_s <= FLAP_WINDOW_S)).sum(axis=(1, 2))
            changed = direction != 0
            self._direction = np.where(changed, direction, self._direction)
            self._changed_s = np.where(changed, now_s, self._changed_s)
        self._replicas = plan.replicas.copy()

    def observed(self, window: ObservationArrays) -> None:
        """Adds the window that ended."""
        self.redundancy.observed(window)
        self.ticks += 1
        self.arrivals += window.arrivals
        self.answered += window.answered
        self.missed += window.missed
        self.shed += window.shed
        self.accuracy_sum += window.accuracy_sum
        self.latency += window.latency
        self.preempted += window.preempted.sum(axis=1)
        self.spend_usd += window.spend_usd

    def row(
        self, env: int, *, policy: str, trace: str, day: int, seed: int, decide_ms_p99: float | None = None
    ) -> ResultRow:
        """The result of one env."""
        names = self._setting.class_names
        arrivals, misses = self.arrivals[env], self.missed[env]
        answered = self.answered[env]
        accuracy = [_ratio(s, n) for s, n in zip(self.accuracy_sum[env], answered, strict=True)]
        hours = max(self.ticks, 1) * self._setting.scenario.control.tick_s / 3600
        return ResultRow(
            policy=policy,
            scenario=self._setting.scenario.name,
            trace=trace,
            day=day,
            seed=seed,
            cost_usd=float(self.spend_usd[env].sum()),
            attainment=_attainment(int(arrivals.sum()), int(misses.sum())),
            accuracy=_ratio(float(self.accuracy_sum[env].sum()), int(answered.sum())),
            floor_breaches=floor_breaches(accuracy, self._setting.workload.accuracy_floor.tolist()),
            requests=int(arrivals.sum()),
            misses=int(misses.sum()),
            shed=int(self.shed[env].sum()),
            flaps_per_hour=float(self.flaps[env]) / hours,
            preemptions=int(self.preempted[env]),
            rule_share=float(self.ruled[env]) / max(self.ticks, 1),
            decide_ms_p99=decide_ms_p99,
            solver=None if self.solver is None else self.solver[env],
            redundancy=self.redundancy.shares(env),
            cost_usd_by_term=dict(zip(BILL_TERMS, self.spend_usd[env].tolist(), strict=True)),
            attainment_by_class={
                name: _attainment(int(n), int(m)) for name, n, m in zip(names, arrivals, misses, strict=True)
            },
            accuracy_by_class=dict(zip(names, accuracy, strict=True)),
            p50_s=self._quantiles(env, 0.50),
            p95_s=self._quantiles(env, 0.95),
            p99_s=self._quantiles(env, 0.99),
        )

    def _quantiles(self, env: int, probability: float) -> dict[str, float | None]:
        values = [quantile(histogram, probability) for histogram in self.latency[env]]
        pairs = zip(self._setting.class_names, values, strict=True)
        return {name: None if math.isnan(value) else value for name, value in pairs}


def floor_breaches(accuracy_by_class: Sequence[float | None], floors: Sequence[float]) -> int:
    """Classes whose mean accuracy lies below their floor; a class without answers breaches nothing."""
    pairs = zip(accuracy_by_class, floors, strict=True)
    return sum(accuracy is not None and accuracy < floor - _FLOOR_TOLERANCE for accuracy, floor in pairs)


def _attainment(requests: int, misses: int) -> float:
    return 1.0 - misses / requests if requests else 1.0


def _ratio(total: float, count: int) -> float | None:
    return float(total) / int(count) if count else None


def write_results(rows: Iterable[ResultRow], directory: Path) -> tuple[Path, Path]:
    """Writes `results.json` (a list of rows) and `results.csv` (tidy: one number per line).

    The CSV's columns are those that name the run, then `metric`, `key` (class or bill term; empty for a total) and
    `value`.

    Raises:
        ConfigError: The directory cannot be written.
    """
    values = [row.model_dump(mode="json") for row in rows]
    as_json, as_csv = directory / "results.json", directory / "results.csv"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        as_json.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        with as_csv.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow([*_NAMING, "metric", "key", "value"])
            for value in values:
                writer.writerows(_tidy(value))
    except OSError as error:
        raise ConfigError(f"{directory}: expected a writable directory, got: {error.strerror or error}") from error
    return as_json, as_csv


_NAMING = ("policy", "scenario", "trace", "day", "seed")


def _tidy(row: dict[str, Any]) -> list[list[Any]]:
    naming = [row[name] for name in _NAMING]
    lines = []
    for metric, value in row.items():
        if metric in _NAMING or (metric in ("solver", "redundancy") and value is None):
            continue
        for key, number in value.items() if isinstance(value, dict) else [("", value)]:
            lines.append([*naming, metric, key, "" if number is None else repr(number)])
    return lines
