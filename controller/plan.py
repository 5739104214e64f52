"""Reasons of a plan, and readable views of plans and actions.

The arrays of `controller.arrays` are what is decided; the dataclasses here are what a person or a journal reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

import numpy as np

from controller.arrays import ActionArrays, PlanArrays


class Reason(IntFlag):
    """Why a plan is what it is; a bit set."""

    FOLLOW_DEMAND = 1
    COVER_PREEMPTION = 2
    HOLD_SCALE_IN = 4
    ACCURACY_DEBT = 8
    OVERFLOW = 16
    POOL_UNAVAILABLE = 32
    POOL_MAX = 64
    POOL_MIN = 128
    ON_DEMAND_FLOOR = 256
    BUDGET = 512
    RAMP = 1024
    INVALID_PLAN = 2048
    FALLBACK_RULE = 4096
    CHEAPER_POOL = 8192
    SMALLER_VARIANT = 16384
    SHED = 32768
    COOL_DOWN = 65536
    DAY_BUDGET = 131072
    SERVERLESS_BUDGET = 262144
    SHED_BY_VALUE = 1 << 19
    CANARY_BAND = 1 << 20
    RULE_FAILED = 1 << 21


DEGRADE = ("cheaper_pool", "smaller_variant", "shed")
"""Steps by which a plan over budget is made cheaper; `LimitArrays` holds their places in this tuple."""

REASON_TEXT = {
    Reason.FOLLOW_DEMAND: "capacity follows forecast demand",
    Reason.COVER_PREEMPTION: "replacements for replicas under a preemption notice",
    Reason.HOLD_SCALE_IN: "scale-in is held back by the decay",
    Reason.ACCURACY_DEBT: "a more accurate mix repays the accuracy debt",
    Reason.OVERFLOW: "overflow to serverless is allowed",
    Reason.POOL_UNAVAILABLE: "a pool refused launches and is avoided",
    Reason.POOL_MAX: "limited by a pool's maximum or quota",
    Reason.POOL_MIN: "raised to a pool's minimum",
    Reason.ON_DEMAND_FLOOR: "raised to the on-demand floor",
    Reason.BUDGET: "cut to the budget of an hour",
    Reason.DAY_BUDGET: "cut to what is left of the day's budget",
    Reason.CHEAPER_POOL: "over budget: capacity moved to cheaper pools",
    Reason.SMALLER_VARIANT: "over budget: capacity moved to smaller variants",
    Reason.SHED: "over budget: capacity cut, and the least valuable classes are shed first",
    Reason.SHED_BY_VALUE: "more is asked for than the machines serve: less valuable classes wait in shorter queues",
    Reason.SERVERLESS_BUDGET: "serverless calls limited to what the budget leaves",
    Reason.COOL_DOWN: "limited by a pool's cool-down after it scaled in",
    Reason.RAMP: "limited by the ramp",
    Reason.INVALID_PLAN: "the policy's plan held invalid numbers, replaced by safe ones",
    Reason.FALLBACK_RULE: "the named rule drives",
    Reason.RULE_FAILED: "the named rule failed: what exists is kept, and replaced where it is lost",
    Reason.CANARY_BAND: "held within the canary's band around the named rule's plan",
}


def reason_texts(reasons: int) -> list[str]:
    """Readable reasons of one env's bit set."""
    return [text for reason, text in REASON_TEXT.items() if reasons & reason]


@dataclass(frozen=True)
class Launch:
    """Start `count` replicas of a variant on a pool."""

    variant: str
    pool: str
    count: int


@dataclass(frozen=True)
class Swap:
    """Reload another variant on `count` running instances of a pool."""

    pool: str
    variant: str
    to_variant: str
    count: int


@dataclass(frozen=True)
class Drain:
    """Let `count` serving replicas finish what they accepted and go."""

    variant: str
    pool: str
    count: int


@dataclass(frozen=True)
class Stop:
    """Give back `count` replicas that are still starting."""

    variant: str
    pool: str
    count: int


Action = Launch | Swap | Drain | Stop


def actions_of(arrays: ActionArrays, env: int, variants: tuple[str, ...], pools: tuple[str, ...]) -> list[Action]:
    """Readable actions of one env, in catalog order."""
    found: list[Action] = []
    for kind, counts in ((Launch, arrays.launch), (Drain, arrays.drain), (Stop, arrays.stop)):
        found += [kind(variants[v], pools[p], int(counts[env, v, p])) for v, p in np.argwhere(counts[env] > 0)]
    found += [
        Swap(pools[p], variants[a], variants[b], int(arrays.swap[env, p, a, b]))
        for p, a, b in np.argwhere(arrays.swap[env] > 0)
    ]
    return found


def replicas_of(plan: PlanArrays, env: int, variants: tuple[str, ...], pools: tuple[str, ...]) -> dict[str, int]:
    """Planned replicas of one env as `variant@pool` -> count, zeros left out."""
    return {f"{variants[v]}@{pools[p]}": int(plan.replicas[env, v, p]) for v, p in np.argwhere(plan.replicas[env] > 0)}
