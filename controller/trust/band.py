"""The canary's band: a policy's replicas held near the rule's, so that a bad policy can only do a little harm."""

from __future__ import annotations

import numpy as np

from controller.arrays import I64, PlanArrays
from controller.plan import Reason


def hold_within_band(plan: PlanArrays, rule: PlanArrays, share: float, least: int) -> None:
    """Moves a plan's replicas, in place, into the band around the rule's; every other lever stays the plan's.

    The band holds for each option (variant on a pool), so that the mix of variants cannot turn over at once, and for
    the sum over each pool, so that many options do not add up. It is `max(least, floor(share x the rule's replicas))`
    wide to both sides. A plan that was moved says so in its reasons.

    Args:
        plan: To hold, arrays of N envs.
        rule: The rule's plan after the guard, likewise.
        share: Of the rule's replicas.
        least: Replicas.
    """
    wanted, around = plan.replicas, rule.replicas
    held = np.clip(wanted, np.maximum(around - _width(around, share, least), 0), around + _width(around, share, least))
    of_pool = around.sum(axis=1)
    width = _width(of_pool, share, least)
    over = held.sum(axis=1) - (of_pool + width)
    under = (of_pool - width) - held.sum(axis=1)
    for n, p in np.argwhere(over > 0):
        _move(held[n, :, p], around[n, :, p], int(over[n, p]), -1)
    for n, p in np.argwhere(under > 0):
        _move(held[n, :, p], around[n, :, p], int(under[n, p]), 1)
    moved = (held != wanted).any(axis=(1, 2))
    plan.replicas[...] = held
    plan.reasons[moved] |= int(Reason.CANARY_BAND)


def _width(replicas: I64, share: float, least: int) -> I64:
    # The small number keeps 0.2 x 5, which is a little less than 1 in floats, at 1.
    width: I64 = np.maximum(least, np.floor(share * replicas + 1e-9).astype(np.int64))
    return width


def _move(held: I64, around: I64, count: int, direction: int) -> None:
    """Moves `count` replicas of one pool (V,) towards the rule's, always where the distance is largest.

    It never runs out: the distances on the far side of the rule's add up to at least what the sum is off by.
    """
    for _ in range(count):
        held[int(np.argmax(direction * (around - held)))] += direction
