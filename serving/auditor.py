"""What audits of tiers have shown: how often the best version answers otherwise, and which contracts are broken.

Audits are counted from the router's start. `serving.audited` runs them; what is tested, and what that rests on, is in
`controller.tiers.audit`. Where the best variant of all does not serve, the best that does takes its place, against
which a rule can only look better.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from controller.arrays import F64, I64
from controller.keyed_random import stream_key, uniform
from controller.tiers.audit import MeanTest, may_differ, share_upper
from controller.tiers.audit_config import AuditConfig
from controller.tiers.generate import Tolerance
from controller.workload import ClassTier
from serving.model_object import plain
from serving.requests import Request
from serving.rules import Demotion, RouterTables

AUDIT = 1 << 16
"""Stream of draws, far from those of `controller.keyed_random`: no simulated world makes audits."""

_UNSAID = object()


@dataclass
class Audited:
    """A request of a tier that the best version answers as well."""

    request: Request
    given: Any  # what the caller got
    variant: int  # that answers beside the rule's
    best: Any = _UNSAID  # what it answered
    label: Any = _UNSAID  # the right answer, where the caller told it


@dataclass(frozen=True)
class AuditReading:
    """Counts of a router's audits since its start, and what they led to."""

    audited: I64  # (C,) both answers known
    differing: I64  # (C,) of them, with different answers
    labelled: I64  # (C,) of them, with the right answer
    dropped: I64  # (C,) never answered by the best version
    seconds: F64  # (O,) credits were held for audits
    usd: float  # what these seconds were of the rent; no other bill holds more for them
    demotions: tuple[Demotion, ...]


@dataclass
class _Watch:
    """The tests of one tier; None for one that nothing can be tested with."""

    differs: MeanTest | None
    degrades: MeanTest
    tolerance: Tolerance


@dataclass
class Auditor:
    """Draws audits, compares answers, and demotes.

    Args:
        tables: Of the router.
        config: Share, error rate and sizes.
        seed: Keys the draws.
        life: Of this router; begins the tokens, so that those of an earlier life mean nothing.
    """

    tables: RouterTables
    config: AuditConfig
    seed: int
    life: str
    demotions: dict[int, Demotion] = field(default_factory=dict)

    def __post_init__(self) -> None:
        num_classes = len(self.tables.class_names)
        self.audited, self.differing, self.labelled, self.dropped = (np.zeros(num_classes, np.int64) for _ in range(4))
        self.seconds = np.zeros(self.tables.num_options)
        self._key = stream_key(self.seed, AUDIT)
        self._counter = itertools.count()
        self._remembered: OrderedDict[str, Audited] = OrderedDict()
        alpha = self.config.alpha / 2.0  # two tests of each tier
        self._watches = {
            c: _watch(tier, c, self.tables, alpha) for c, tier in enumerate(self.tables.tiers) if tier is not None
        }

    def is_drawn(self, request: Request) -> bool:
        """Gives an answered request of a tier its token; returns whether it is audited.

        Draws are keyed by the count of such requests, not by the request, so no caller can choose them.
        """
        if request.request_class not in self._watches:
            return False
        number = next(self._counter)
        request.token = f"{self.life}-{number}"
        is_watched = request.request_class not in self.demotions
        return is_watched and uniform(self._key, number, 0) < self.config.share

    def remember(self, audited: Audited) -> None:
        """Waits for the right answer of an audited request, for as long as there is room."""
        self._remembered[audited.request.token] = audited
        if len(self._remembered) > self.config.remembered:
            self._remembered.popitem(last=False)

    def answered(self, audited: Audited, best: Any) -> Demotion | None:
        """The best version answered; returns the demotion that this leads to."""
        c = audited.request.request_class
        audited.best = best
        differs = not same(audited.given, best)
        self.audited[c] += 1
        self.differing[c] += differs
        test = self._watches[c].differs
        if test is not None and test.add(float(differs)):
            seen = f"{self.differing[c]} of {self.audited[c]} audited answers differ from the best version's"
            return self._demote(c, f"{seen}; expected at most {test.limit:.4g} of them")
        return self._labelled(audited)

    def drop(self, audited: Audited) -> None:
        """The best version will not answer."""
        self.dropped[audited.request.request_class] += 1
        self._remembered.pop(audited.request.token, None)

    def told(self, token: str, label: Any) -> tuple[bool, Demotion | None]:
        """A caller tells the right answer of a request.

        Returns:
            Whether it is of use, which it is for audited requests, once; and the demotion that it leads to.
        """
        audited = self._remembered.get(token)
        if audited is None or audited.label is not _UNSAID:
            return False, None
        audited.label = label
        return True, self._labelled(audited)

    def reading(self) -> AuditReading:
        """Counts so far."""
        return AuditReading(
            self.audited.copy(),
            self.differing.copy(),
            self.labelled.copy(),
            self.dropped.copy(),
            self.seconds.copy(),
            float(self.seconds @ self.tables.credit_usd_per_s),
            tuple(self.demotions.values()),
        )

    def _labelled(self, audited: Audited) -> Demotion | None:
        if audited.best is _UNSAID or audited.label is _UNSAID:
            return None
        self._remembered.pop(audited.request.token, None)
        c = audited.request.request_class
        self.labelled[c] += 1
        watch = self._watches[c]
        errors = (np.array([not same(answer, audited.label)], np.float64) for answer in (audited.given, audited.best))
        if watch.degrades.add(float(watch.tolerance.degradation(*errors)[0])):
            what = f"degradation is {watch.degrades.mean:.4g} over {self.labelled[c]} audited requests of known answer"
            return self._demote(c, f"{what}; expected at most {watch.degrades.limit:.4g}")
        return None

    def _demote(self, request_class: int, reason: str) -> Demotion | None:
        if request_class in self.demotions:
            return None
        demotion = Demotion(request_class, f"{reason} (wrongly so with probability {self.config.alpha:g} at most)")
        self.demotions[request_class] = demotion
        return demotion


def same(one: Any, other: Any) -> bool:
    """Whether two answers are equal, arrays and their lists alike."""
    try:
        return bool(plain(one) == plain(other))
    except (TypeError, ValueError):
        return False


def expected_disagreement(tier: ClassTier, request_class: int, tables: RouterTables, alpha: float) -> float | None:
    """Share of answers that differ from the best version's, at most, while the tier is what it was calibrated as.

    The tier's own figure, or what the catalog's measured answers leave possible at confidence 1 - alpha; None where
    there is neither, and nothing can be tested without labels.
    """
    if tier.disagreement is not None:
        return tier.disagreement
    confidence, right = tables.answers.confidence, tables.answers.right
    names = tables.variant_names
    asked = [names.index(name) for name in tier.variants]
    may_answer = tables.may_answer[request_class].reshape(-1, tables.num_pools).any(axis=1)
    best = int(np.where(may_answer, tables.accuracy, -1.0).argmax())
    if not len(right) or np.isnan(confidence[0, [*asked, best]]).any():
        return None
    differ = may_differ(confidence, right, asked, tier.thresholds, best)
    return share_upper(float(differ.mean()), len(differ), alpha)


def _watch(tier: ClassTier, request_class: int, tables: RouterTables, alpha: float) -> _Watch:
    tolerance = Tolerance(tier.tolerance, tier.is_relative)
    expected = expected_disagreement(tier, request_class, tables, alpha)
    differs = None
    if expected is not None:
        # Below 0 would be a bound that breaks the contract; what was calibrated is then all that is tested.
        slack = max(0.0, tolerance.limit - tier.bound)
        differs = MeanTest(min(1.0, expected + slack), 0.0, alpha)
    low = -(1.0 + tier.tolerance) if tier.is_relative else -1.0
    return _Watch(differs, MeanTest(tolerance.limit, low, alpha), tolerance)
