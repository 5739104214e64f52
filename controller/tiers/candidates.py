"""All rules over a calibration at once: mean error, response time and cost of every version, pair and threshold.

For one pair, sorting the requests by the first version's confidence makes every threshold a cut in that order, so the
means of all thresholds are prefix sums: some ten thousand rules over ten thousand requests take a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from controller.arrays import F64, I64
from controller.tiers.calibration import Calibration
from controller.tiers.rules import Form, Rule

THRESHOLDS = 200
"""Cuts of each pair: even shares of requests that the first version keeps."""


class Candidates(NamedTuple):
    """Rules (R) and what each comes to on the mean of the calibration."""

    rules: tuple[Rule, ...]
    error: F64  # (R,)
    latency_s: F64  # (R,)
    cost_usd: F64  # (R,)


def candidates(table: Calibration, thresholds: int = THRESHOLDS) -> Candidates:
    """Singles, and sequential and concurrent cascades of all ordered pairs.

    Args:
        table: Of the versions.
        thresholds: Cuts of each pair, >= 1.
    """
    rules: list[Rule] = []
    means: list[F64] = []
    for version in range(len(table.versions)):
        rules.append(Rule(Form.SINGLE, version, version, 0.0))
        columns = (table.error, table.latency_s, table.cost_usd)
        means.append(np.array([[column[:, version].mean() for column in columns]]))
    for first in range(len(table.versions)):
        order = np.argsort(-table.confidence[:, first], kind="stable")
        cuts, levels = _cuts(table.confidence[order, first], thresholds)
        for second in range(len(table.versions)):
            if second == first or not len(cuts):
                continue
            for form, found in _pair(table, order, cuts, first, second):
                rules += [Rule(form, first, second, float(level)) for level in levels]
                means.append(found)
    error, latency_s, cost_usd = np.concatenate(means).T
    return Candidates(tuple(rules), error, latency_s, cost_usd)


def _cuts(confidence: F64, thresholds: int) -> tuple[I64, F64]:
    """How many requests, sorted by falling confidence, the first version keeps at each threshold, and the thresholds.

    A threshold lies on a confidence that occurs, so equal confidences are on one side of it; all and none are left out.
    """
    count = len(confidence)
    wanted = np.unique(np.linspace(1, count - 1, thresholds).astype(np.int64))
    levels = np.unique(confidence[wanted - 1])[::-1]
    kept = np.searchsorted(-confidence, -levels, side="right").astype(np.int64)
    is_real = kept < count
    return kept[is_real], levels[is_real]


def _pair(table: Calibration, order: I64, cuts: I64, first: int, second: int) -> Iterator[tuple[Form, F64]]:
    """Means (G, 3) of error, response time and cost of a pair at every cut, of both cascades."""
    a_error, b_error = table.error[order, first], table.error[order, second]
    a_s, b_s = table.latency_s[order, first], table.latency_s[order, second]
    a_usd, b_usd = table.cost_usd[order, first], table.cost_usd[order, second]
    error = _kept(a_error, cuts) + _handed(b_error, cuts)
    until_sure = np.minimum(1.0, a_s / b_s) * b_usd
    sequential = (error, a_s.sum() + _handed(b_s, cuts), a_usd.sum() + _handed(b_usd, cuts))
    concurrent = (
        error,
        _kept(a_s, cuts) + _handed(np.maximum(a_s, b_s), cuts),
        a_usd.sum() + _kept(until_sure, cuts) + _handed(b_usd, cuts),
    )
    for form, columns in ((Form.SEQUENTIAL, sequential), (Form.CONCURRENT, concurrent)):
        yield form, np.stack(columns, axis=1) / len(table)


def _kept(values: F64, cuts: I64) -> F64:
    """Sums of the first so many values."""
    return np.asarray(np.concatenate(([0.0], np.cumsum(values)))[cuts])


def _handed(values: F64, cuts: I64) -> F64:
    """Sums of all but the first so many values."""
    return np.asarray(values.sum() - _kept(values, cuts))
