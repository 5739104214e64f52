"""What either side reports about its replications, in the same terms."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from controller.arrays import F64, I64, LATENCY_BUCKETS
from controller.latency import bucket_edges


@dataclass(frozen=True)
class Replications:
    """Counts over the whole horizon; R replications, C classes, B latency buckets.

    Attributes:
        arrivals: Requests that arrived, shape (R, C); likewise the following.
        answered: Answered by the horizon.
        missed: Answered late, dropped, refused, or unanswered with the deadline passed by the horizon.
        failed: Dropped at their deadline.
        shed: Refused at arrival.
        latency: Answers by bucket, shape (R, C, B).
        in_system: Requests waiting or in service, mean over the ends of all ticks, shape (R, C).
        busy_s: Seconds in service over all servers, shape (R,).
    """

    arrivals: I64
    answered: I64
    missed: I64
    failed: I64
    shed: I64
    latency: I64
    in_system: F64
    busy_s: F64

    def __len__(self) -> int:
        return len(self.busy_s)

    def part(self, lo: int, hi: int) -> Replications:
        """Replications lo..hi - 1."""
        return Replications(*(getattr(self, field.name)[lo:hi] for field in fields(self)))


def joined(parts: list[Replications]) -> Replications:
    """All replications of several parts."""
    return Replications(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Replications)))


def bucketed(latencies_s: F64) -> I64:
    """Histogram of latencies in the buckets of the simulator, found by searching their edges, shape (B,)."""
    buckets = np.searchsorted(bucket_edges()[1:-1], latencies_s, side="right")
    return np.bincount(buckets, minlength=LATENCY_BUCKETS)
