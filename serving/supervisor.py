"""Decides with the policy while it can be trusted, else with the named rule.

A policy that raises, or plans what cannot be served live, is not asked again in this run. While the router cannot be
read, the rule decides on the last facts known.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from controller.arrays import ObservationArrays
from controller.loop import Decision, DecisionLoop
from controller.plan import Reason
from serving.rules import check_served

STALE_TICKS = 3
"""Readings that may fail in a row before the rule takes over."""


@dataclass
class Supervisor:
    """A policy and the rule behind it.

    Args:
        policy: Decides unless something is wrong.
        rule: Decides otherwise; sees every observation, so that its own state is current when it takes over.
    """

    policy: DecisionLoop
    rule: DecisionLoop
    fault: str = ""
    ticks: int = 0
    rule_ticks: int = 0
    decide_s: list[float] = field(default_factory=list)

    def decide(self, observation: ObservationArrays, stale_ticks: int) -> Decision:
        """One decision; the plan's reasons say when the rule made it."""
        began = time.perf_counter()
        decision: Decision | None = None
        self.ticks += 1
        if not self.fault and stale_ticks < STALE_TICKS:
            try:
                planned = self.policy.decide(observation)
                check_served(planned.plan)
                decision = planned
            except Exception as error:  # noqa: BLE001 - a user's policy may raise anything, and serving must go on
                self.fault = f"{type(error).__name__}: {error}"[:400]
        ruled = self.rule.decide(observation)
        if decision is None:
            decision = ruled
            decision.plan.reasons[:] |= int(Reason.FALLBACK_RULE)
            self.rule_ticks += 1
        self.decide_s.append(time.perf_counter() - began)
        return decision
