"""One tick of policy and rule together: who decided what, by who drives. Live run and replay share this code."""

from __future__ import annotations

from dataclasses import dataclass

from controller.arrays import ObservationArrays
from controller.loop import Decision, DecisionLoop, Proposal
from controller.plan import Reason
from controller.trust.band import hold_within_band
from controller.trust.mode import Driver


@dataclass(frozen=True)
class Band:
    """How far a canary may go from the rule."""

    share: float
    least: int


@dataclass(frozen=True)
class Choice:
    """What the tick's line holds, and the other decision where there was one."""

    decision: Decision
    beside: Decision | None


def choose(
    driver: Driver,
    observation: ObservationArrays,
    rule: DecisionLoop,
    policy: DecisionLoop | None,
    proposal: Proposal | None,
    band: Band,
) -> Choice:
    """Decides with both, the rule first; the loops' own state moves on whoever drives.

    Args:
        driver: Whose decision is taken; the rule's also where there is no proposal.
        observation: What is seen.
        rule: The named rule.
        policy: The policy's loop; None where there is none to ask.
        proposal: What it asked for at this observation; None where it was not asked or failed.
        band: Of a canary.
    """
    ruled = rule.decide(observation)
    own = None
    if policy is not None and proposal is not None:
        if driver is Driver.CANARY:
            hold_within_band(proposal.plan, ruled.plan, band.share, band.least)
        own = policy.settle(observation, proposal)
    if driver is Driver.RULE or own is None:
        ruled.plan.reasons[:] |= int(Reason.FALLBACK_RULE)
        return Choice(ruled, own)
    return Choice(own, ruled)
