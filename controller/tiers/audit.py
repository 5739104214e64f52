"""Whether a tier still keeps its contract: tests of a mean that may be looked at after every audited request.

An audited request is answered by the tier's rule and by the best version. Without its right answer all that can be seen
is whether the two differ. With X = 1 where they do and D the degradation (error under the rule less what is allowed of
the best version's), X - D is never negative, since a rule does worse only where it answers otherwise. Its mean, the
harmless part of the disagreement, is E[X] - E[D] as calibrated; as long as it stays that, E[D] is within the contract's
limit exactly where E[X] is within `disagreement + (limit - bound)`. So that is what is tested, and what it rests on: a
shift that makes answers differ more where the best version is wrong too is taken for a broken contract. Where callers
tell right answers, the degradation itself is tested, which rests on nothing but that what they tell is not picked by
the outcome.

The tests bet: a capital of 1 grows by the factor 1 + b (x - limit) at each observation, with a bet b >= 0 that is
chosen before it. While the mean, given what came before, is at most the limit, no betting makes the capital grow on
average, so the probability that it ever reaches 1 / alpha is at most alpha (Ville's inequality), however often one
looks.

Source:
    Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 2024; Howard et al.,
    "Time-uniform Chernoff bounds via nonnegative supermartingales", 2020.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from controller.arrays import F64, Bool

_FIXED_BETS = 12
# Constant bets, each half the one before: one of them is within a factor 1.5 of the best constant one.
_WINDOWS = np.array([50.0, 200.0, 800.0])
# Observations after which moving bets have half forgotten. They stop betting while the contract is kept, so that their
# capital is still there when it is broken after a long time.
_LARGEST = 0.9
# Of the bet that could lose everything.


class MeanTest:
    """Tests that a mean is at most a limit, at a false-alarm rate of `alpha` over all time.

    Capital is split evenly between constant and moving bets; both halves are valid by themselves, so their mean is.

    Args:
        limit: Of the mean.
        low: What no observation is below; at most the limit.
        alpha: Probability of ever saying `is_broken` while the mean is at most the limit; 0..1, exclusive.
    """

    def __init__(self, limit: float, low: float, alpha: float) -> None:
        self.limit, self.low, self.alpha = limit, low, alpha
        self.count, self.total = 0, 0.0
        self.is_broken = False
        room = max(limit - low, 1e-9)
        self._most = _LARGEST / room
        self._fixed = self._most * 2.0 ** -np.arange(_FIXED_BETS, dtype=np.float64)
        self._excess = np.zeros(len(_WINDOWS))  # forgetting means of x - limit and of its square
        self._square = np.full(len(_WINDOWS), room)
        self._log_capital = np.zeros(_FIXED_BETS + len(_WINDOWS))
        self._log_weight = np.log(np.repeat([0.5 / _FIXED_BETS, 0.5 / len(_WINDOWS)], [_FIXED_BETS, len(_WINDOWS)]))

    @property
    def mean(self) -> float:
        """Of the observations; 0 without any."""
        return self.total / self.count if self.count else 0.0

    @property
    def evidence(self) -> float:
        """Capital now: what the bets against the limit have made of 1."""
        logs = self._log_capital + self._log_weight
        return float(np.exp(min(700.0, float(np.logaddexp.reduce(logs)))))

    def add(self, value: float) -> bool:
        """Takes an observation; returns whether the limit is known to be broken, now or before.

        Args:
            value: At least `low`.
        """
        excess = value - self.limit
        moving = np.clip(self._excess / self._square, 0.0, self._most)
        self._log_capital += np.log1p(np.concatenate((self._fixed, moving)) * excess)
        kept = 0.5 ** (1.0 / _WINDOWS)
        self._excess = kept * self._excess + (1.0 - kept) * excess
        self._square = np.maximum(kept * self._square + (1.0 - kept) * excess * excess, 1e-12)
        self.count += 1
        self.total += value
        self.is_broken = self.is_broken or self.evidence >= 1.0 / self.alpha
        return self.is_broken


def may_differ(confidence: F64, right: F64, variants: Sequence[int], thresholds: Sequence[float], best: int) -> Bool:
    """Measured requests on which a rule's answer can be another than the best version's; (R,).

    What was measured says which answers are right, not what they are: two right ones are the same, two wrong ones may
    differ and count as if they did.

    Args:
        confidence: (R, V) of each version's answers.
        right: (R, V) 1 for a right answer.
        variants: Columns, in the order in which the rule asks them.
        thresholds: Confidence from which each answer but the last is final.
        best: Column.
    """
    final = np.full(len(right), variants[-1])
    for step in reversed(range(len(thresholds))):
        final = np.where(confidence[:, variants[step]] >= thresholds[step], variants[step], final)
    given = right[np.arange(len(right)), final]
    return np.asarray((final != best) & ~((given >= 1.0) & (right[:, best] >= 1.0)))


def share_upper(share: float, count: int, alpha: float) -> float:
    """What a probability is not above, at confidence 1 - alpha, where a share of so many draws was seen.

    Source:
        Chernoff's bound: P(share of n draws <= s) <= exp(-n kl(s, p)) for s <= p.
    """
    if count < 1:
        return 1.0
    low, high, wanted = share, 1.0, math.log(1.0 / alpha) / count
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if _divergence(share, middle) < wanted else (low, middle)
    return high


def _divergence(p: float, q: float) -> float:
    """Kullback-Leibler divergence of two coins."""
    left = p * math.log(p / q) if p > 0.0 else 0.0
    right = (1.0 - p) * math.log((1.0 - p) / (1.0 - q)) if p < 1.0 and q < 1.0 else 0.0
    return left + right if q < 1.0 else math.inf
