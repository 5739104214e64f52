"""The flap index: how often a controller changes capacity, and how often it takes a change back.

What Kubernetes calls flapping or thrashing of an autoscaler, per deployment; a deployment is a variant on a pool. A
*change* is a tick at which a deployment's count differs from that of the tick before, by however many replicas. A
*reversal* is a change that goes the other way than the deployment's change before it, if that is no longer than a
window ago: up and down with the day is no flapping. Both are summed over deployments and given per hour of the trace.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controller.arrays import F64, I64
from controller.errors import UsageError, mismatch
from controller.journal import Journal

WINDOW_S = 1800.0
"""Seconds within which a change back counts as a reversal: longer than autoscalers look back (300 s in HPA, 600 s in
Ray Serve, by default).
"""


@dataclass(frozen=True)
class FlapIndex:
    """Changes and reversals of a run after its warm-up."""

    hours: float
    changes: I64  # (V, P)
    reversals: I64  # (V, P) of the changes

    @property
    def changes_per_hour(self) -> float:
        """Of all deployments together."""
        return float(self.changes.sum() / self.hours)

    @property
    def reversals_per_hour(self) -> float:
        """Of all deployments together: the flap index."""
        return float(self.reversals.sum() / self.hours)


def flap_index(replicas: I64, tick_s: float, *, window_s: float = WINDOW_S, warm_up_s: float = 0.0) -> FlapIndex:
    """Changes and reversals of a sequence of counts.

    Args:
        replicas: (T, V, P) planned replicas at each tick, or those that are ready or start; T >= 2 after the warm-up.
        tick_s: Seconds between two of them, of the trace (not divided by a run's speed).
        window_s: Longest time between a change and its reversal.
        warm_up_s: What begins before this is left out, as is the change that ends it.

    Raises:
        UsageError: The sequence has another form, or ends before two ticks after the warm-up.
    """
    if replicas.ndim != 3:
        raise UsageError(mismatch("replicas", "an array of shape (ticks, variants, pools)", replicas.shape))
    kept = np.asarray(replicas[int(np.ceil(warm_up_s / tick_s - 1e-9)) :], np.int64)
    if len(kept) < 2:
        expected = f"at least two ticks after a warm-up of {warm_up_s:g} s"
        raise UsageError(mismatch("replicas", expected, len(replicas)))
    direction = np.sign(np.diff(kept, axis=0))
    last_way = np.zeros(direction.shape[1:], np.int64)
    last_s: F64 = np.full(direction.shape[1:], -np.inf)
    reversals = np.zeros(direction.shape[1:], np.int64)
    for tick, way in enumerate(direction):
        has_changed = way != 0
        is_recent = tick * tick_s - last_s <= window_s + 1e-9
        reversals += has_changed & (way == -last_way) & is_recent
        last_way = np.where(has_changed, way, last_way)
        last_s = np.where(has_changed, tick * tick_s, last_s)
    changes: I64 = (direction != 0).sum(axis=0)
    return FlapIndex((len(kept) - 1) * tick_s / 3600.0, changes, reversals)


def flaps_of_journal(journal: Journal, *, window_s: float = WINDOW_S, warm_up_s: float = 0.0) -> FlapIndex:
    """The flap index of what a journal's run had, ready or starting; spans are of the trace at any speed.

    What was asked for and refused, such as a probe of a spot pool that is closed, changed no capacity.

    Raises:
        JournalError: The journal is damaged.
        UsageError: It ends before two ticks after the warm-up.
    """
    control = journal.header.scenario["control"]
    assert isinstance(control, dict)  # the header holds a whole scenario
    tick_s = float(control["tick_s"])  # type: ignore[arg-type]  # a number, by the scenario's model
    counts = [tick.observation.ready[0] + tick.observation.starting[0] for tick in journal.ticks()]
    shape = (len(counts), *journal.header.shape[:2])
    return flap_index(np.reshape(counts, shape).astype(np.int64), tick_s, window_s=window_s, warm_up_s=warm_up_s)
