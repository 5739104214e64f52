"""How a request of a tier is answered: by one version, or by a fast one that hands on what it is not sure of."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import numpy as np

from controller.arrays import F64
from controller.tiers.calibration import Calibration


class Form(StrEnum):
    """Of a rule."""

    SINGLE = "single"
    SEQUENTIAL = "sequential"  # the second is asked where the first is not sure
    CONCURRENT = "concurrent"  # both are asked; the second is cancelled where the first is sure


class Rule(NamedTuple):
    """One rule; versions are columns of the calibration."""

    form: Form
    first: int
    second: int  # the same as `first` for one version
    threshold: float  # confidence from which the first one's answer counts; 0 for one version


class Outcome(NamedTuple):
    """What each request of a calibration would have come to, (N,) each."""

    error: F64
    latency_s: F64
    cost_usd: F64


def outcome(rule: Rule, table: Calibration) -> Outcome:
    """Runs a rule over a calibration.

    A concurrent second version that is cancelled has run, and is paid for, until the first one's answer was there.

    Args:
        rule: What is run.
        table: Of the same versions.
    """
    a, b = rule.first, rule.second
    first = Outcome(table.error[:, a], table.latency_s[:, a], table.cost_usd[:, a])
    if rule.form is Form.SINGLE:
        return first
    second = Outcome(table.error[:, b], table.latency_s[:, b], table.cost_usd[:, b])
    is_sure = table.confidence[:, a] >= rule.threshold
    error = np.where(is_sure, first.error, second.error)
    if rule.form is Form.SEQUENTIAL:
        handed = ~is_sure
        return Outcome(error, first.latency_s + handed * second.latency_s, first.cost_usd + handed * second.cost_usd)
    latency_s = np.where(is_sure, first.latency_s, np.maximum(first.latency_s, second.latency_s))
    ran = np.where(is_sure, np.minimum(1.0, first.latency_s / second.latency_s), 1.0)
    return Outcome(error, latency_s, first.cost_usd + ran * second.cost_usd)
