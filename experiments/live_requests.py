"""What became of every request of a replayed stretch, as its client saw it, kept beside the journal of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from controller.arrays import F64, I64, Bool
from controller.errors import RunError, mismatch
from serving.load import LoadRecord, Schedule

REQUESTS = "requests.npz"
_ANSWERED = 200
_TOLD = (503, 504)  # a refusal that says when to come back, and a deadline that passed: missed, but not lost
_NOT_SENT = -1


@dataclass(frozen=True)
class Requests:
    """Fate of n requests in the order of their arrival."""

    arrival_s: F64  # (n,) seconds of the stretch at which it was to be sent
    request_class: I64  # (n,) row of the class
    status: I64  # (n,) HTTP; 0 for a failed connection, -1 where it was not sent
    latency_s: F64  # (n,) from sending to the answer; NaN without one
    late_s: F64  # (n,) that it was sent after its time; NaN where it was not sent

    @classmethod
    def of(cls, schedule: Schedule, record: LoadRecord, skipped: int = 0) -> Requests:
        """What a load came to, without the first `skipped` requests, which only warmed up."""
        late_s = np.where(record.status == _NOT_SENT, np.nan, record.sent_s - schedule.arrival_s)
        found = cls(schedule.arrival_s, schedule.request_class, record.status, record.latency_s, late_s)
        return found.rows(slice(skipped, None))

    def rows(self, chosen: slice | Bool) -> Requests:
        """Some of them."""
        return Requests(
            self.arrival_s[chosen],
            self.request_class[chosen],
            self.status[chosen],
            self.latency_s[chosen],
            self.late_s[chosen],
        )

    def since(self, begin_s: float) -> Requests:
        """Those to be sent from a second of the stretch on."""
        return self.rows(np.asarray(self.arrival_s >= begin_s))

    @property
    def is_answered(self) -> Bool:
        """Whether an answer came, late ones included, (n,)."""
        return np.asarray(self.status == _ANSWERED)

    @property
    def is_lost(self) -> Bool:
        """Whether it failed and nobody said why, (n,): neither answered, nor refused, nor out of time."""
        return ~self.is_answered & ~np.isin(self.status, (*_TOLD, _NOT_SENT))

    def is_missed(self, slo_s: F64) -> Bool:
        """Whether no answer came in time, (n,).

        Args:
            slo_s: By class, (C,).
        """
        with np.errstate(invalid="ignore"):  # without an answer there is no latency
            return ~self.is_answered | ~(self.latency_s <= slo_s[self.request_class])

    def latency_quantiles_s(self, probabilities: Sequence[float]) -> tuple[float | None, ...]:
        """Of the answers, late ones included; None where there are none."""
        waits = self.latency_s[self.is_answered]
        return tuple(float(np.quantile(waits, p)) if len(waits) else None for p in probabilities)


def write_requests(requests: Requests, folder: Path) -> Path:
    """Writes `requests.npz`."""
    path = folder / REQUESTS
    np.savez_compressed(path, **vars(requests))
    return path


def read_requests(folder: Path) -> Requests:
    """What `write_requests` wrote.

    Raises:
        RunError: The run left none.
    """
    path = folder / REQUESTS
    if not path.exists():
        raise RunError(mismatch(str(path), "the requests of a replay", "nothing"))
    with np.load(path) as found:
        return Requests(**{name: found[name] for name in Requests.__dataclass_fields__})
