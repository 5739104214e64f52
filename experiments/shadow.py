"""Whether a policy in shadow may drive: what receipts expected of its plans beside those that were carried out.

In shadow another decides, and each receipt's prediction has the policy's plan among the alternatives, under the same
simulated requests. So the comparison is paired tick by tick; neighbouring ticks see nearly the same state, so intervals
are over blocks of as many predictions as one horizon covers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from controller.alternatives import Expected
from controller.arrays import F64
from controller.errors import UsageError
from controller.journal import Journal
from controller.receipt_check import read_predictions
from controller.why import names_of
from experiments.statistics import Interval, bootstrap, relative_difference
from experiments.what_if import POINTS

POLICYS_PLAN: Final = "the policy's plan"
LEAST_BLOCKS: Final = 4
"""Horizons that a shadow run must cover at least."""


@dataclass(frozen=True)
class ShadowRun:
    """What was expected of the policy's plans less what was expected of those carried out.

    Attributes:
        count: Predictions that tell.
        cost: Relative.
        attainment: Difference.
        accuracy: Difference; None where nothing was answered.
    """

    count: int
    cost: Interval
    attainment: Interval
    accuracy: Interval | None

    def gate(self) -> list[str]:
        """What keeps the policy from driving; empty where it is surely no worse.

        A prediction looks minutes ahead, where a cheaper plan has mostly started no machine less yet: so the cost must
        not be dearer for sure, and attainment and accuracy must not fall by more than what the gate of what-if allows.
        """
        failed = []
        if not self.cost.low <= 0.0:
            failed.append(f"cost: expected an interval that reaches down to 0, got {self.cost.low:+.2%} or more")
        for name, change in (("attainment", self.attainment), ("accuracy", self.accuracy)):
            if change is not None and not change.low >= -POINTS:
                low = f"{100 * change.low:+.2f}"
                failed.append(f"{name}: expected an interval above {-100 * POINTS:g} points, got down to {low}")
        return failed


def read_shadow(journal: Journal, from_tick: int = 0) -> ShadowRun:
    """The comparison over a journal.

    Args:
        journal: Of a live run.
        from_tick: First tick that counts: since when the policy ran in shadow.

    Raises:
        UsageError: Too few predictions hold the policy's plan.
    """
    _, predictions = read_predictions(journal)
    pairs: list[tuple[Expected, Expected]] = []
    per_block = 1
    tick_s = names_of(journal.header).tick_s
    for one in predictions:
        if one.tick < from_tick:
            continue
        by_name = {expected.name: expected for expected in one.expected}
        policy = by_name.get(one.alike.get(POLICYS_PLAN, POLICYS_PLAN))
        if policy is not None:
            pairs.append((one.expected[0], policy))
            per_block = max(per_block, round(one.horizon_s / tick_s))
    if len(pairs) < 2:
        raise UsageError(
            f"{journal.path}: expected predictions of the policy's plan beside the rule's, got {len(pairs)}; "
            "they are made while a policy runs in shadow"
        )
    return _compared(pairs, min(per_block, len(pairs) // LEAST_BLOCKS) or 1)


def _compared(pairs: list[tuple[Expected, Expected]], block: int) -> ShadowRun:
    def both(field: str) -> tuple[F64, F64]:
        values = [(getattr(a, field), getattr(b, field)) for a, b in pairs]
        known = [pair for pair in values if None not in pair]
        chosen, policy = np.array(known, np.float64).reshape(-1, 2).T
        return chosen, policy

    cost_chosen, cost_policy = both("cost_usd")
    kept_chosen, kept_policy = both("attainment")
    right_chosen, right_policy = both("accuracy")
    return ShadowRun(
        count=len(pairs),
        cost=bootstrap([relative_difference(cost_policy, cost_chosen)[None, :]], block=block),
        attainment=bootstrap([(kept_policy - kept_chosen)[None, :]], block=block),
        accuracy=bootstrap([(right_policy - right_chosen)[None, :]], block=block) if right_chosen.size > 1 else None,
    )
