"""The learned policies against one rival, trace by trace at equal attainment and accuracy, and which rival is hardest.

Costs are compared at what the tuned rule `mpc` itself came to on a trace; and where that rival, or one of ours, cannot
get there, at what the rival came to. A rival that misses twice what is promised, or more, is not judged: what it saves
it takes from its users.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controller.arrays import F64
from experiments.benchmark import Case
from experiments.evidence_plan import LEARNED
from experiments.leaderboard import Leaderboard
from experiments.row_keys import RowKey, overall_key
from experiments.statistics import Interval, bootstrap, interquartile_mean, mean_over_traces
from experiments.tuned_rivals import RULE, SOLVED

LEAST_JUDGED = 0.98
"""Attainment of a rival below which its cost says nothing."""


@dataclass(frozen=True, eq=False)
class Versus:
    """A policy against a rival on every trace.

    Attributes:
        policy: Name of a row.
        rival: A single policy.
        strata: By trace each day's part in the relative difference of costs, (S, D).
        targets: By trace whose attainment and accuracy both are held to; None where they cannot meet.
        reasons: Why, where they cannot.
        interval: Of the mean over traces.
    """

    policy: str
    rival: str
    cases: tuple[Case, ...]
    strata: list[F64]
    targets: list[str | None]
    reasons: list[str]
    interval: Interval

    @property
    def is_known(self) -> bool:
        """Whether they meet on every trace."""
        return None not in self.targets

    @property
    def by_case(self) -> F64:
        """Relative cost on each trace, NaN where they do not meet."""
        return np.array([interquartile_mean(one.mean(axis=1)) for one in self.strata])

    @property
    def by_seed(self) -> F64:
        """Relative cost of each training seed, mean over traces."""
        return np.asarray(np.mean([one.mean(axis=1) for one in self.strata], axis=0))


def versus(board: Leaderboard, policy: str, rival: str, beside: str | None = None) -> Versus:
    """Compares a policy with a rival, on each trace at the first target that both, and `beside`, can reach.

    Args:
        board: Whose plan has the rule and the rival among its references.
        policy: Name of a row.
        rival: Costs are relative to its.
        beside: Another row that has to be there too, so that both can be set against the rival at the same target.
    """
    config, cases = board.plan.config, tuple(board.plan.worlds)
    wanted = _targets(board, rival)
    strata: list[F64] = []
    targets: list[str | None] = []
    reasons: list[str] = []
    for case in cases:
        met = next((one for one in wanted if _is_met(board, case, (policy, beside), rival, one)), None)
        found = board.against(case, policy, rival, wanted[-1] if met is None else met)
        targets.append(met)
        strata.append(np.full(found.difference.shape, np.nan) if met is None else found.difference)
        if met is None:
            reasons.append(f"{case.scenario}/{case.trace}: {_brief(found.reason)}")
    interval = bootstrap(strata, block=config.block_days, resamples=config.resamples)
    return Versus(policy, rival, cases, strata, targets, reasons, interval)


def apart_keys(board: Leaderboard) -> list[RowKey]:
    """Rows of ours at a rival's own point, on the traces where it or one of ours cannot come to what the rule did.

    Args:
        board: Whose rows at what the rule came to are finished.
    """
    config = board.plan.config
    known = [name for name in config.references if name != RULE]
    rivals = judged(board, [name for name in known if name not in SOLVED]) + [name for name in known if name in SOLVED]
    ours = [name for name in config.row_names if name not in config.references]
    return [
        RowKey(case.scenario, case.trace, policy, rival)
        for rival in rivals
        for case in board.plan.worlds
        if not any(_is_met(board, case, ours, rival, one) for one in _targets(board, rival) if one != rival)
        for policy in ours
    ]


def _targets(board: Leaderboard, rival: str) -> list[str]:
    """At whose attainment and accuracy ours is compared with a rival, the first that all can come to."""
    return [name for name in dict.fromkeys((RULE, rival)) if name in board.plan.config.references]


def _is_met(board: Leaderboard, case: Case, policies: Sequence[str | None], rival: str, target: str) -> bool:
    """Whether a rival and all the others come to a target."""
    return all(
        np.isfinite(board.against(case, policy, rival, target).difference).all()
        for policy in policies
        if policy is not None
    )


def gap_closed(ours: Sequence[F64], told: Sequence[F64]) -> list[F64]:
    """Each day's part in the share of a gap that is closed.

    Its mean over traces, as `bootstrap` takes it, is r = ours / told, both relative to the rule whose gap it is; the
    value of a day is r + (ours - r told) / told's mean, the ratio's linear form.

    Args:
        ours: By trace (S seeds, D days), parts in the relative difference of our costs to the rule's.
        told: By trace (1, D), likewise of the rule that is told what comes; their mean is below 0.
    """
    of = float(np.mean([one.mean() for one in told]))
    share = mean_over_traces(ours) / of
    return [share + (mine - share * its) / of for mine, its in zip(ours, told, strict=True)]


def hardest(board: Leaderboard, rivals: Sequence[str]) -> tuple[list[Versus], list[str]]:
    """The learned policy against those of the rivals that are judged, hardest first; and the others' names.

    A rival that it cannot be compared with is among the first, for nobody knows how hard it is.
    """
    those = judged(board, rivals)
    found = [versus(board, LEARNED, name) for name in those]
    found.sort(key=lambda one: (one.is_known, -one.interval.estimate if one.is_known else 0.0))
    return found, [name for name in rivals if name not in those]


def judged(board: Leaderboard, rivals: Sequence[str]) -> list[str]:
    """Rivals whose cost says something: see the module."""
    first = board.plan.config.compared_to[0]
    return [name for name in rivals if board.row(overall_key(board.plan, name, first)).own_attainment >= LEAST_JUDGED]


def _brief(reason: str) -> str:
    """The first of the reasons that a group's members have."""
    first, *others = reason.split(", ")
    return f"{first} (and {len(others)} more)" if others else first
