"""The rule of every tier: the cheapest whose degradation is proved to stay within the tolerance.

Rules are ranked on a third of the calibration and proved on the rest, so the search cannot flatter what it finds, and a
proof, which needs more requests than a ranking, has most of them. The ranking of a tier is a chain from safe to cheap;
its rules are proved in that order, each at the tier's confidence, and the last before the first that fails is taken.
Testing in an order fixed beforehand and stopping at the first failure keeps the error rate of the whole chain at that
of one test.

Source:
    Halpern et al., "One Size Does Not Fit All: Quantifying and Exposing the Accuracy-Latency Trade-off in Machine
    Learning Cloud Service APIs via Tolerance Tiers", ISPASS 2019 (rule generator); Angelopoulos et al., "Learn then
    Test", 2021 (fixed-sequence testing).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from controller.arrays import F64
from controller.errors import InputError, mismatch
from controller.tiers.calibration import Calibration
from controller.tiers.candidates import THRESHOLDS, Candidates, candidates
from controller.tiers.guarantee import Bound, upper_bound
from controller.tiers.rules import Form, Rule, outcome

CONFIDENCE = 0.999
_SEARCHED = 1.0 / 3.0
_CHAIN = 40
# Rules of a chain at most: each is a bootstrap, and neighbours on the frontier differ by little.


class Objective(StrEnum):
    """What a tier saves."""

    RESPONSE_TIME = "response_time"
    COST = "cost"


@dataclass(frozen=True)
class Tolerance:
    """How much more error than the best version's a caller bears.

    Attributes:
        value: Points of error, 0.01 for one, or a share of the best version's error where relative.
        is_relative: Which of them.
    """

    value: float
    is_relative: bool = False

    def degradation(self, error: F64, best: F64) -> F64:
        """What must not exceed `limit` on the mean, of each request."""
        return np.asarray(error - best * (1.0 + self.value)) if self.is_relative else np.asarray(error - best)

    @property
    def limit(self) -> float:
        """Largest mean degradation."""
        return 0.0 if self.is_relative else self.value


@dataclass(frozen=True)
class Tier:
    """A contract and the rule that keeps it.

    Attributes:
        tolerance: That a caller states.
        objective: That a caller states.
        rule: That answers.
        bound: Of its degradation, on the part of the calibration that it is proved on.
        latency_s: Mean response time there.
        cost_usd: Mean cost of a request there.
        confidence: Of the bound.
    """

    tolerance: Tolerance
    objective: Objective
    rule: Rule
    bound: Bound
    latency_s: float
    cost_usd: float
    confidence: float


def generate(
    table: Calibration,
    tolerances: Sequence[Tolerance],
    objectives: Sequence[Objective] = tuple(Objective),
    *,
    confidence: float = CONFIDENCE,
    thresholds: int = THRESHOLDS,
    forms: Collection[Form] = tuple(Form),
    seed: int = 0,
) -> list[Tier]:
    """The tiers of a calibration, by objective and rising tolerance.

    The best version itself keeps every contract, so every tier has a rule.

    Args:
        table: Of the versions.
        tolerances: Of tiers.
        objectives: Of tiers.
        confidence: 0.5..0.99999.
        thresholds: Cuts of each pair.
        forms: That a rule may have.
        seed: Of the parts and the resamples.

    Raises:
        InputError: A tolerance or the confidence is out of range, or the calibration is too small to be parted.
    """
    if not 0.5 <= confidence < 1.0:
        raise InputError(mismatch("confidence", "a number in 0.5..1", confidence))
    for tolerance in tolerances:
        if not (np.isfinite(tolerance.value) and tolerance.value >= 0.0):
            raise InputError(mismatch("tolerance", "a number >= 0", tolerance.value))
    if len(table) < 4:
        raise InputError(mismatch("calibration", "at least four requests", len(table)))
    searched, proved = table.parts(int(len(table) * _SEARCHED), seed)
    found = candidates(searched, thresholds)
    best = table.best
    rng = np.random.default_rng([seed, 1])
    tiers: list[Tier] = []
    for objective in objectives:
        last: Tier | None = None
        for tolerance in sorted(tolerances, key=lambda one: (one.is_relative, one.value)):
            chain = _chain(found, searched, best, tolerance, objective, forms)
            tier = _proved(chain, proved, best, tolerance, objective, confidence, rng)
            # What is proved for less tolerance holds for more of the same kind.
            if last is not None and last.tolerance.is_relative == tolerance.is_relative:
                tier = tier if _saved(tier) < _saved(last) else replace(last, tolerance=tolerance)
            tiers.append(tier)
            last = tier
    return tiers


def _chain(
    found: Candidates,
    searched: Calibration,
    best: int,
    tolerance: Tolerance,
    objective: Objective,
    forms: Collection[Form],
) -> list[Rule]:
    """Rules that save something and seem to keep the contract, from safe to cheap, each best at its price."""
    values = found.latency_s if objective is Objective.RESPONSE_TIME else found.cost_usd
    error = float(searched.error[:, best].mean())
    allowed = error * (1.0 + tolerance.value) if tolerance.is_relative else error + tolerance.value
    frontier: list[int] = []
    least = np.inf
    for i in np.lexsort((found.error, values)):
        if values[i] >= values[best]:
            break
        if found.error[i] < least and found.rules[i].form in forms:
            least = float(found.error[i])
            if least <= allowed:
                frontier.append(int(i))
    frontier.reverse()
    if len(frontier) > _CHAIN:
        frontier = [frontier[at] for at in np.unique(np.linspace(0, len(frontier) - 1, _CHAIN).astype(int))]
    return [found.rules[i] for i in frontier]


def _proved(
    chain: Sequence[Rule],
    proved: Calibration,
    best: int,
    tolerance: Tolerance,
    objective: Objective,
    confidence: float,
    rng: np.random.Generator,
) -> Tier:
    """The last rule of the chain before the first that is not proved; the best version where that is the first."""
    kept, bound = Rule(Form.SINGLE, best, best, 0.0), Bound(0.0, 0.0, 0)
    reference = proved.error[:, best]
    worst = max(1.0, float(proved.error.max()))
    for rule in chain:
        degradation = tolerance.degradation(outcome(rule, proved).error, reference)
        now = upper_bound(degradation, confidence, rng, worst)
        if now.upper > tolerance.limit:
            break
        kept, bound = rule, now
    result = outcome(kept, proved)
    return Tier(
        tolerance, objective, kept, bound, float(result.latency_s.mean()), float(result.cost_usd.mean()), confidence
    )


def _saved(tier: Tier) -> float:
    return tier.latency_s if tier.objective is Objective.RESPONSE_TIME else tier.cost_usd
