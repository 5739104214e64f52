"""Cascades as the router serves them: what an answer of one step leads to, and what a final one is worth.

A request of a cascade is one copy that goes from step to step; where both steps start at once, it is two. Which step a
copy is at follows from its variant and the cascade in force, so a decision may change the cascade of requests that are
under way. Which step comes next is `controller.redundancy.next_step`, in both worlds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controller.arrays import F64, I64, AnswerArrays
from controller.redundancy import next_step
from serving.requests import Answer, Request

_UNTOLD = float("-inf")
# A model that tells no confidence is never sure: where a later step has an option, the request goes there.


@dataclass(frozen=True)
class Cascade:
    """What the rules in force say of one class; without variants it has no cascade."""

    variants: tuple[int, ...]
    thresholds: tuple[float, ...]  # one less than variants
    is_concurrent: bool
    num_options: I64  # (S,) that the class's shares hold for each step's variant

    def step_of(self, variant: int) -> int:
        """Step of a variant; -1 where it is none."""
        return self.variants.index(variant) if variant in self.variants else -1

    def from_step(self, step: int) -> int:
        """The step itself, or where it has no option the next one that has; -1 for none."""
        return next_step(step - 1, _UNTOLD, float("inf"), self.num_options)

    def after(self, step: int, confidence: float | None) -> int:
        """Step that follows an answer; -1 where it is final."""
        return next_step(step, _told(confidence), self._threshold(step), self.num_options)

    def is_sure(self, step: int, confidence: float | None) -> bool:
        """Whether an answer of a step is final whatever other steps answer; of the last step it always is."""
        return _told(confidence) >= self._threshold(step)

    def _threshold(self, step: int) -> float:
        return self.thresholds[step] if step + 1 < len(self.variants) else _UNTOLD


@dataclass(frozen=True)
class Verdict:
    """What becomes of a request one of whose copies was answered."""

    final: Answer | None = None  # the answer that counts
    step: int = -1  # that it goes on to; -1 without `final`: another copy, in another step, is waited for


def verdict(cascade: Cascade, request: Request, num_pools: int) -> Verdict:
    """What the latest answer of a request leads to; the copy that gave it is held no more.

    A sure answer is final. An unsure one leaves the request to a copy in a later step, or to the answer that a later
    step gave already, or sends it to the next step with an option; where there is none it stands. The answer of a later
    step waits for a copy in an earlier one, which may be sure enough.
    """
    answer = request.answers[-1]
    step = cascade.step_of(answer.option // num_pools)
    if step < 0:
        return Verdict(answer)
    others = [cascade.step_of(copy.option // num_pools) for copy in request.held]
    others = [other for other in others if other not in (-1, step)]
    is_sure = cascade.is_sure(step, answer.confidence)
    if others and (not is_sure or min(others) < step):
        return Verdict()
    if is_sure:
        return Verdict(answer)
    kept = {cascade.step_of(earlier.option // num_pools): earlier for earlier in request.answers}
    if max(kept) > step:
        return Verdict(kept[max(kept)])
    following = cascade.after(step, answer.confidence)
    return Verdict(step=following) if following >= 0 else Verdict(answer)


class Worth:
    """Expected accuracy of final answers.

    Args:
        answers: Measured ones; may have no rows.
        accuracy: Of the variants, (V,).
    """

    def __init__(self, answers: AnswerArrays, accuracy: F64) -> None:
        self._answers, self._accuracy = answers, accuracy
        self._known: dict[tuple[tuple[int, ...], tuple[float, ...], int, int], float] = {}

    def of(self, cascade: Cascade, request: Request, final: Answer, num_pools: int) -> float:
        """Of the answer that counts.

        That is how often measured requests that take the same way through the cascade are answered right, as in the
        simulator; without measured answers of all its variants, or where none takes that way, the variant's accuracy.
        """
        variant = final.option // num_pools
        last = cascade.step_of(variant)
        if last < 0 or not self._is_measured(cascade.variants):
            return float(self._accuracy[variant])
        steps = {cascade.step_of(answer.option // num_pools) for answer in request.answers}
        latest = cascade.step_of(request.answers[-1].option // num_pools)
        taken = sum(1 << step for step in steps if 0 <= step < latest) | 1 << max(latest, 0) | 1 << last
        stands = last if last == latest and not cascade.is_sure(last, final.confidence) else -1
        key = (cascade.variants, cascade.thresholds, taken, stands)
        if key not in self._known:
            self._known[key] = self.of_way(cascade, taken, last, stands >= 0)
        return self._known[key]

    def _is_measured(self, variants: Sequence[int]) -> bool:
        confidence = self._answers.confidence
        return len(confidence) > 0 and not np.isnan(confidence[0, list(variants)]).any()

    def of_way(self, cascade: Cascade, taken: int, last: int, stands: bool) -> float:
        """Of a way through a cascade.

        Args:
            cascade: All of whose variants were measured.
            taken: Bit for each step that answered.
            last: Step whose answer counts.
            stands: Whether it counts though it is unsure, because no later step has an option.
        """
        takes = np.ones(len(self._answers.right), np.bool_)
        for step, threshold in enumerate(cascade.thresholds):
            if step <= last and taken & 1 << step:
                is_sure = self._answers.confidence[:, cascade.variants[step]] >= threshold
                takes &= is_sure == (step == last and not stands)
        right = self._answers.right[takes, cascade.variants[last]]
        return float(right.mean()) if right.size else float(self._accuracy[cascade.variants[last]])


def _told(confidence: float | None) -> float:
    return _UNTOLD if confidence is None else confidence
