"""One tick of policy and rule together: who decided what, by who drives. Live run and replay share this code."""

from __future__ import annotations

from dataclasses import dataclass

from controller.arrays import ObservationArrays
from controller.errors import shown
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


@dataclass(frozen=True)
class Ruled:
    """What the named rule decided; where it failed, what is done without it."""

    decision: Decision
    fault: str = ""


def ask_rule(rule: DecisionLoop, observation: ObservationArrays, *, has_failed: bool = False) -> Ruled:
    """Decides with the rule, or keeps what exists where that fails: behind the rule there is nobody else.

    Args:
        rule: Of the rule; keeps its plans.
        observation: What is seen.
        has_failed: Whether it failed at this observation before, which a replay knows; then it has failed again.
    """
    fault = "as before" if has_failed else ""
    try:
        proposal = rule.propose(observation)
    except Exception as error:  # noqa: BLE001 - an operator's own rule may raise anything, and serving must go on
        fault = shown(error)
    return Ruled(rule.hold(observation), fault) if fault else Ruled(rule.settle(observation, proposal))


def choose(
    driver: Driver,
    observation: ObservationArrays,
    ruled: Decision,
    policy: DecisionLoop | None,
    proposal: Proposal | None,
    band: Band,
) -> Choice:
    """Decides with both, after the rule; the loops' own state moves on whoever drives.

    Args:
        driver: Whose decision is taken; the rule's also where there is no proposal.
        observation: What is seen.
        ruled: What the named rule decided.
        policy: The policy's loop; None where there is none to ask.
        proposal: What it asked for at this observation; None where it was not asked or failed.
        band: Of a canary.
    """
    own = None
    if policy is not None and proposal is not None:
        if driver is Driver.CANARY:
            hold_within_band(proposal.plan, ruled.plan, band.share, band.least)
        own = policy.settle(observation, proposal)
    if driver is Driver.RULE or own is None:
        ruled.plan.reasons[:] |= int(Reason.FALLBACK_RULE)
        return Choice(ruled, own)
    return Choice(own, ruled)
