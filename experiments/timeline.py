"""The course of one cell, thinned to what a page can show."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from controller.arrays import BILL_TERMS, F64, LATENCY_BUCKETS, SERVERLESS, ObservationArrays
from controller.compile import Setting
from controller.latency import quantile
from controller.loop import Decision

POINTS = 288
"""Points over a cell: one per five minutes of a day."""


@dataclass(frozen=True, eq=False)
class Timeline:
    """Series of one cell under one policy; T points, each the mean or sum over the ticks since the one before."""

    policy: str
    scenario: str
    day: int
    seed: int
    pools: tuple[str, ...]
    is_serverless: tuple[bool, ...]
    classes: tuple[str, ...]
    slo_s: tuple[float, ...]
    terms: tuple[str, ...]
    hours: F64  # (T,) of trace time since the cell began, end of the span
    load_rps: F64  # (T, C)
    capacity: F64  # (T, P) instances that serve; serverless: warm environments
    p95_s: F64  # (T, C) of the answers in the span; NaN without any
    p99_s: F64  # (T, C)
    cost_usd: F64  # (T, terms) since the cell began


class TimelineRecorder:
    """Collects the series of one env of a rollout."""

    def __init__(self, setting: Setting, ticks: int, env: int = 0) -> None:
        """Watches `env` for `ticks` ticks."""
        num_pools, num_classes = setting.shape[1], setting.shape[2]
        self._setting = setting
        self._env = env
        self._stride = max(1, math.ceil(ticks / POINTS))
        self._is_serverless = setting.catalog.market == SERVERLESS
        self._ticks = 0
        self._arrivals = np.zeros(num_classes)
        self._capacity = np.zeros(num_pools)
        self._latency = np.zeros((num_classes, LATENCY_BUCKETS), np.int64)
        self._cost = np.zeros(len(BILL_TERMS))
        self._points: list[tuple[float, F64, F64, list[float], list[float], F64]] = []

    def decided(self, observation: ObservationArrays, decision: Decision, decide_s: float) -> None:
        """Nothing to note: the series are facts."""

    def observed(self, window: ObservationArrays) -> None:
        """Adds a window."""
        env = self._env
        serving = (window.ready[env] + window.doomed[env]).sum(axis=0)
        self._ticks += 1
        self._arrivals += window.arrivals[env]
        self._capacity += np.where(self._is_serverless, window.warm[env], serving)
        self._latency += window.latency[env]
        self._cost += window.spend_usd[env]
        if self._ticks % self._stride == 0:
            self._close()

    def _close(self) -> None:
        span_s = self._stride * self._setting.control.tick_s
        self._points.append(
            (
                self._ticks * self._setting.scenario.control.tick_s / 3600,
                self._arrivals / span_s,
                self._capacity / self._stride,
                [quantile(histogram, 0.95) for histogram in self._latency],
                [quantile(histogram, 0.99) for histogram in self._latency],
                self._cost.copy(),
            )
        )
        self._arrivals[:] = 0
        self._capacity[:] = 0
        self._latency[:] = 0

    def timeline(self, policy: str, day: int, seed: int) -> Timeline | None:
        """The series so far; None before the first point."""
        if not self._points:
            return None
        hours, load, capacity, p95, p99, cost = zip(*self._points, strict=True)
        return Timeline(
            policy=policy,
            scenario=self._setting.scenario.name,
            day=day,
            seed=seed,
            pools=self._setting.pool_names,
            is_serverless=tuple(bool(x) for x in self._is_serverless),
            classes=self._setting.class_names,
            slo_s=tuple(self._setting.workload.slo_s.tolist()),
            terms=BILL_TERMS,
            hours=np.array(hours),
            load_rps=np.array(load),
            capacity=np.array(capacity),
            p95_s=np.array(p95),
            p99_s=np.array(p99),
            cost_usd=np.array(cost),
        )
