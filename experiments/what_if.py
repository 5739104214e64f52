"""What other policies would have cost and kept on the traffic that a run captured, beside the policy that ran.

Two ideas are needed to read it. All policies meet the same requests under the same seeds, so differences are taken
pair by pair: hour by hour where the capture has at least `LEAST_HOURS`, else seed by seed. And the recorded policy is
simulated as well: how far that is from what the run itself came to says how far to trust the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from controller.arrays import F64, ObservationArrays
from controller.errors import UsageError, mismatch
from controller.loop import Decision
from experiments.recorded import LiveTotals, Recorded
from experiments.rollout import Progress, Ticker, new_loop, roll
from experiments.run_config import PolicyChoice, policy_labels
from experiments.statistics import Interval, bootstrap, relative_difference

LEAST_HOURS: Final = 4
"""Hours of control time from which intervals are over hours."""

POINTS: Final = 0.002
"""Attainment and accuracy that a policy may lose and still pass the gate."""


@dataclass(frozen=True)
class PolicyOutcome:
    """What one policy came to on the captured traffic.

    Attributes:
        policy: Label.
        is_recorded: Whether it is the one that ran.
        cost_usd_per_hour: Of control time, likewise below.
        attainment: Share of requests in time.
        accuracy: Mean over answers.
        cost_change: Relative to the recorded policy, paired; None for that itself, likewise below.
        attainment_change: Difference.
        accuracy_change: Difference.
    """

    policy: str
    is_recorded: bool
    cost_usd_per_hour: Interval
    attainment: Interval
    accuracy: Interval
    cost_change: Interval | None = None
    attainment_change: Interval | None = None
    accuracy_change: Interval | None = None

    def gate(self) -> list[str]:
        """What keeps this policy from being promoted; empty where it is surely no dearer and keeps what was promised.

        Intervals decide: its cost must lie below the recorded policy's, and attainment and accuracy must not fall by
        more than `POINTS`.
        """
        if self.cost_change is None or self.attainment_change is None or self.accuracy_change is None:
            return ["it is the recorded policy itself"]
        failed = []
        if not self.cost_change.high < 0.0:
            failed.append(f"cost: expected an interval below 0, got up to {self.cost_change.high:+.2%}")
        for name, change in (("attainment", self.attainment_change), ("accuracy", self.accuracy_change)):
            if not change.low >= -POINTS:
                failed.append(
                    f"{name}: expected an interval above {-100 * POINTS:g} points, got down to {100 * change.low:+.2f}"
                )
        return failed


@dataclass(frozen=True)
class WhatIf:
    """The comparison.

    Attributes:
        outcomes: The recorded policy first.
        unit: What intervals are over.
        units: How many.
        live: What the run itself came to.
        hours: Control time.
    """

    outcomes: tuple[PolicyOutcome, ...]
    unit: Literal["hours", "seeds"]
    units: int
    live: LiveTotals
    hours: float

    @property
    def gap(self) -> dict[str, float]:
        """The recorded policy simulated less the run itself: cost relative, the others absolute."""
        recorded = self.outcomes[0]
        cost = self.live.cost_usd / self.hours
        return {
            "cost": recorded.cost_usd_per_hour.estimate / cost - 1.0 if cost > 0.0 else float("nan"),
            "attainment": recorded.attainment.estimate - self.live.attainment,
            "accuracy": recorded.accuracy.estimate - self.live.accuracy,
        }


class _Blocks:
    """Sums of N envs by block of ticks: (N, B) each."""

    def __init__(self, num_envs: int, ticks: int, ticks_per_block: int) -> None:
        self.count = max(1, ticks // ticks_per_block)
        self._per_block, self._tick = ticks_per_block, 0
        self.cost, self.arrived, self.missed, self.answered, self.right = np.zeros((5, num_envs, self.count))

    def decided(self, observation: ObservationArrays, decision: Decision, decide_s: float) -> None:
        """Only what came of it counts."""

    def observed(self, window: ObservationArrays) -> None:
        """One window; what is left after whole blocks belongs to the last."""
        at = min(self._tick // self._per_block, self.count - 1)
        self._tick += 1
        self.cost[:, at] += window.spend_usd.sum(axis=1)
        self.arrived[:, at] += window.arrivals.sum(axis=1)
        self.missed[:, at] += window.missed.sum(axis=1)
        self.answered[:, at] += window.answered.sum(axis=1)
        self.right[:, at] += window.accuracy_sum.sum(axis=1)


def what_if(
    recorded: Recorded,
    recorded_policy: PolicyChoice,
    policies: Sequence[PolicyChoice],
    num_seeds: int,
    progress: Progress | None = None,
) -> WhatIf:
    """Runs the recorded policy and others on a run's captured traffic.

    Args:
        recorded: The run.
        recorded_policy: What decided in it.
        policies: Others; one that is the recorded policy is not run twice.
        num_seeds: Seeds 0..n-1, >= 1.
        progress: Told what goes on.

    Raises:
        UsageError: No other policy, or no seed.
        ProvisorError: A policy is unknown or does not fit; found before anything is run.
    """
    every = [recorded_policy, *(policy for policy in policies if policy != recorded_policy)]
    if len(set(policy_labels(every))) < 2:
        raise UsageError("--policy: expected at least one other than the recorded policy")
    if num_seeds < 1:
        raise UsageError(mismatch("--seeds", "a number >= 1", num_seeds))
    for policy in every:
        new_loop(recorded.world, policy, 1)
    progress = progress or Progress()
    progress.started(len(every) * recorded.ticks)
    start, simulator = recorded.start(range(num_seeds)), recorded.simulator(num_seeds)
    found: list[_Blocks] = []
    for policy, label in zip(every, policy_labels(every), strict=True):
        progress.working_on(label)
        blocks = _Blocks(num_seeds, recorded.ticks, round(3600 / recorded.world.setting.scenario.control.tick_s))
        roll(recorded.world, start, policy, [blocks, Ticker(progress)], recorded.ticks, simulator)
        found.append(blocks)
    is_hourly = found[0].count >= LEAST_HOURS
    own = [_outcome(label, b, found[0], recorded.hours) for label, b in zip(policy_labels(every), found, strict=True)]
    units = found[0].count if is_hourly else num_seeds
    return WhatIf(tuple(own), "hours" if is_hourly else "seeds", units, recorded.live, recorded.hours)


def _outcome(label: str, own: _Blocks, reference: _Blocks, hours: float) -> PolicyOutcome:
    cost, base = _units(own, own.cost), _units(reference, reference.cost)
    attained, accurate = _attained(own), _ratio(_units(own, own.right), _units(own, own.answered))
    # Hours add up to the run, seeds each are the run.
    per_hour = (own.count if _is_hourly(own) else 1) / hours
    outcome = PolicyOutcome(
        policy=label,
        is_recorded=own is reference,
        cost_usd_per_hour=_interval(own, cost * per_hour),
        attainment=_interval(own, attained),
        accuracy=_interval(own, accurate),
    )
    if own is reference:
        return outcome
    rate = _ratio(_units(reference, reference.right), _units(reference, reference.answered))
    changes = {
        "cost_change": _interval(own, relative_difference(cost, base)) if base.mean() > 0.0 else None,
        "attainment_change": _interval(own, attained - _attained(reference)),
        "accuracy_change": _interval(own, accurate - rate),
    }
    return PolicyOutcome(**{**vars(outcome), **changes})


def _is_hourly(blocks: _Blocks) -> bool:
    return blocks.count >= LEAST_HOURS


def _units(blocks: _Blocks, values: F64) -> F64:
    """(U,) of hours, each the mean over seeds, or of seeds, each the sum over the run."""
    return np.asarray(values.mean(axis=0) if _is_hourly(blocks) else values.sum(axis=1), np.float64)


def _attained(blocks: _Blocks) -> F64:
    return 1.0 - _ratio(_units(blocks, blocks.missed), _units(blocks, blocks.arrived))


def _ratio(part: F64, whole: F64) -> F64:
    """(U,) whose mean is sum(part) / sum(whole) and whose spread is that of this ratio: its linear form."""
    mean = float(whole.mean())
    if mean <= 0.0:
        return np.full(part.shape, np.nan)
    ratio = float(part.mean()) / mean
    return np.asarray(ratio + (part - ratio * whole) / mean, np.float64)


def _interval(blocks: _Blocks, values: F64) -> Interval:
    return bootstrap([values[None, :]], block=None if _is_hourly(blocks) else 1)
