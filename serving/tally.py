"""What a router has counted since it started.

Counts only grow; whoever reads them takes differences, so a lost reading loses nothing and several readers do not
disturb each other.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from controller.arrays import F64, I64, LATENCY_BUCKETS
from controller.latency import bucket_of
from serving.auditor import AuditReading
from serving.measured import Measured


@dataclass
class Tally:
    """Cumulative counts by class (C), option (O) or pool (P). `epoch` changes when a router starts anew from zero."""

    shape: tuple[int, int, int]  # (C, O, P)
    epoch: str = field(default_factory=lambda: uuid.uuid4().hex)
    bin_s: float = 1.0  # of the bins that arrivals are counted in
    arrived: I64 = field(init=False)  # (C,)
    answered: I64 = field(init=False)  # (C,)
    missed: I64 = field(init=False)  # (C,)
    shed: I64 = field(init=False)  # (C,) shed and refused
    failed: I64 = field(init=False)  # (C,) dropped at the deadline or lost
    accuracy_sum: F64 = field(init=False)  # (C,)
    latency: I64 = field(init=False)  # (C, B)
    egress_usd: float = 0.0
    retried: int = 0
    hedged: int = 0
    passes: int = 0  # over collages, sent
    from_collage: int = 0  # answers
    overflowed: I64 = field(init=False)  # (C,)
    busy_s: F64 = field(init=False)  # (O,) credit-seconds
    answers: I64 = field(init=False)  # (C, O)
    batches: I64 = field(init=False)  # (O,)
    lost: I64 = field(init=False)  # (O,) batches whose replica went away
    lost_s: F64 = field(init=False)  # (O,) credit-seconds spent on them
    invocations: I64 = field(init=False)  # (P,)
    cold_starts: I64 = field(init=False)  # (P,)
    throttled: I64 = field(init=False)  # (P,)
    serverless_usd: F64 = field(init=False)  # (P,)
    measured: Measured = field(init=False)

    def __post_init__(self) -> None:
        num_classes, num_options, num_pools = self.shape
        for name in ("arrived", "answered", "missed", "shed", "failed", "overflowed"):
            setattr(self, name, np.zeros(num_classes, np.int64))
        self.accuracy_sum = np.zeros(num_classes)
        self.latency = np.zeros((num_classes, LATENCY_BUCKETS), np.int64)
        self.busy_s = np.zeros(num_options)
        self.lost_s = np.zeros(num_options)
        self.answers = np.zeros((num_classes, num_options), np.int64)
        for name in ("batches", "lost"):
            setattr(self, name, np.zeros(num_options, np.int64))
        for name in ("invocations", "cold_starts", "throttled"):
            setattr(self, name, np.zeros(num_pools, np.int64))
        self.serverless_usd = np.zeros(num_pools)
        self.measured = Measured(num_classes=num_classes, bin_s=self.bin_s)

    def as_json(self) -> dict[str, Any]:
        """For a checkpoint: the counts, as lists; of single durations only how many there were."""
        counts = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("shape", "epoch", "measured")}
        counts = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in counts.items()}
        return {
            "shape": list(self.shape),
            "epoch": self.epoch,
            "counts": counts,
            "measured": [self.measured.num_services, self.measured.num_gaps],
        }

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Tally:
        """What `as_json` made, good for taking differences; KeyError, TypeError or ValueError for anything else."""
        num_classes, num_options, num_pools = value["shape"]
        tally = cls((num_classes, num_options, num_pools), str(value["epoch"]))
        for name, count in value["counts"].items():
            blank = getattr(tally, name)
            given = np.array(count, blank.dtype) if isinstance(blank, np.ndarray) else type(blank)(count)
            if np.shape(given) != np.shape(blank):
                raise ValueError(f"{name}: shape {np.shape(given)}")
            setattr(tally, name, given)
        tally.measured.num_services, tally.measured.num_gaps = value["measured"]
        return tally

    def arrive(self, request_class: int, now_s: float) -> None:
        """Counts a request."""
        self.arrived[request_class] += 1
        self.measured.arrived(now_s, request_class)

    def answer(self, request_class: int, option: int, accuracy: float, latency_s: float) -> None:
        """Counts an answer."""
        self.answered[request_class] += 1
        self.answers[request_class, option] += 1
        self.accuracy_sum[request_class] += accuracy
        self.latency[request_class, bucket_of(latency_s)] += 1

    def lose(self, option: int, seconds: float) -> None:
        """Counts a batch that its replica will not answer, and the credit-seconds spent on it."""
        self.lost[option] += 1
        self.lost_s[option] += seconds


@dataclass(frozen=True)
class RouterStats:
    """One reading of a router: its cumulative tally and what holds now."""

    tally: Tally
    now_s: float
    sequence: int  # of the rules in force
    waiting: I64  # (C,)
    in_service: I64  # (C,)
    queue: I64  # (O,)
    credits_used: I64  # (O,)
    warm: I64  # (P,) serverless environments
    provisioned: I64  # (O,) serverless environments reserved and warm
    audits: AuditReading | None = None  # None for a router that makes none


def difference(later: Tally, earlier: Tally | None) -> Tally:
    """Counts between two readings; all of `later` where the router started anew in between."""
    if earlier is None or earlier.epoch != later.epoch:
        return later
    window = Tally(later.shape, later.epoch, later.bin_s)
    for item in fields(Tally):
        if item.name not in ("shape", "epoch", "bin_s", "measured"):
            setattr(window, item.name, getattr(later, item.name) - getattr(earlier, item.name))
    window.measured = later.measured.since(earlier.measured)
    return window
