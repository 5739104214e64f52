"""The policy under supervision: asked every tick until it fails, never trusted to come back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from controller.arrays import ObservationArrays, PlanArrays
from controller.errors import clipped
from controller.loop import DecisionLoop, Proposal
from controller.policies.solved import SolvedPolicy
from controller.policies.tiered import bare_policy
from controller.ports import Policy
from controller.trust.config import TrustConfig
from controller.trust.drift import DriftTest, KnowsItsInputs
from controller.trust.probation import Alarm
from controller.trust.store import FileWatch, PolicyEntry
from controller.trust.worker import DeadlineWorker, DecisionTimeoutError

_OURS = "controller.policies."


@dataclass(frozen=True)
class Answer:
    """What asking came to."""

    proposal: Proposal | None
    alarms: dict[Alarm, str] = field(default_factory=dict)
    is_lost: bool = False  # it failed on this tick and is not asked again


class Candidate:
    """A policy's loop, with all that is watched about it.

    Args:
        loop: Compiled and reset; None for one that failed already.
        entry: What the policy was made from.
        config: Of drift test and deadline.
        check: Raises for a plan that the world cannot carry out.
        fault: Why it failed, where it did.

    Attributes:
        loop: None once the policy failed.
        fault: Why.
        drift: Its drift test.
    """

    def __init__(
        self,
        loop: DecisionLoop | None,
        entry: PolicyEntry,
        config: TrustConfig,
        check: Callable[[PlanArrays], None],
        fault: str = "",
    ) -> None:
        policy = None if loop is None else loop.policy
        known = policy.input_range if isinstance(policy, KnowsItsInputs) else None
        self.loop = loop
        self.entry = entry
        self.fault = fault
        self.drift = DriftTest(config.drift, known)
        self._check = check
        self._timeout_s = config.decide_timeout_s
        self._watches: tuple[FileWatch, ...] = ()
        self._worker = DeadlineWorker()

    def ask(self, observation: ObservationArrays) -> Answer:
        """What the policy asks for at an observation (N = 1)."""
        loop = self.loop
        if loop is None:
            return Answer(None)
        # Of its own: a policy that writes into what it is given, or wakes up late, must not reach what others read.
        seen = ObservationArrays._make(array.copy() for array in observation)
        try:
            if is_ours(loop.policy):
                features, proposal = self._proposed(loop, seen)
            else:
                limit_s = min(self._timeout_s, 0.5 * loop.setting.control.tick_s)
                features, proposal = self._worker.call(lambda: self._proposed(loop, seen), limit_s)
        except DecisionTimeoutError as error:
            return self._lost(Alarm.TIMEOUT, str(error))
        except Exception as error:  # noqa: BLE001 - a user's policy may raise anything, and serving must go on
            return self._lost(Alarm.POLICY_ERROR, f"{type(error).__name__}: {error}")
        drifted = None if features is None else self.drift.update(features)
        return Answer(proposal, {} if drifted is None else {Alarm.DRIFT: drifted})

    def watch(self, watched: Mapping[Path, str]) -> None:
        """Files that must keep their SHA-256 while the policy may drive."""
        self._watches = tuple(FileWatch(path, sha256) for path, sha256 in watched.items())

    def changed_file(self) -> str | None:
        """What is wrong with a watched file; None while all are as they were."""
        return next((text for watch in self._watches if (text := watch.changed())), None)

    def close(self) -> None:
        """Ends the policy's thread, once it is idle."""
        self._worker.close()

    def _proposed(self, loop: DecisionLoop, seen: ObservationArrays) -> tuple[NDArray[np.float32] | None, Proposal]:
        policy = loop.policy
        features = policy.features(seen)[0] if self.drift.is_on and isinstance(policy, KnowsItsInputs) else None
        proposal = loop.propose(seen)
        if not np.isfinite(proposal.raw).all():
            raise ValueError("the policy's raw output: expected finite numbers")
        self._check(proposal.plan)
        return features, proposal

    def _lost(self, alarm: Alarm, text: str) -> Answer:
        self.loop, self.fault = None, clipped(text)
        return Answer(None, {alarm: self.fault}, is_lost=True)


def warm(loop: DecisionLoop, blank: ObservationArrays) -> PlanArrays:
    """Lets a loop decide once, so that all it runs on a tick is compiled, and reset; returns what it planned.

    Args:
        loop: Of one env.
        blank: An observation of nothing.
    """
    if isinstance(loop.policy, KnowsItsInputs) and loop.policy.input_range is not None:
        loop.policy.features(blank)
    plan = loop.decide(blank).plan
    loop.reset(1)
    return plan


def is_ours(policy: Policy) -> bool:
    """Whether a policy's code is compiled and shipped with this program, and so runs without a deadline.

    A program that a solver solves every minute has its own time limit, but that is no guarantee.
    """
    bare = bare_policy(policy)
    return type(bare).__module__.startswith(_OURS) and not isinstance(bare, SolvedPolicy)
