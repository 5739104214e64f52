"""The tiers of a workload in array form: each class's cascade, and what it comes to by the measured answers.

A planner needs two facts of a cascade: how many requests reach each step, and how much work each step does. Both follow
from the rows of measured answers, which keep what the variants have in common. Where the catalog has none, every
request is taken to reach every step: capacity too much is the safe side.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from controller.arrays import CASCADE_STEPS, F64, I64, SERVERLESS, AnswerArrays, Bool, CatalogArrays, WorkloadArrays
from controller.errors import ScenarioError
from controller.workload import RequestClass


class TierArrays(NamedTuple):
    """What the classes of a workload were promised, by step (S) of their cascades."""

    variant: I64  # (C, S) asked in turn; -1 for no further step, first of all for a class without a tier
    threshold: F64  # (C, S - 1) the answer of a step is final from this confidence on
    is_concurrent: Bool  # (C,) both of two steps start at once
    is_measured: Bool  # (C,) the catalog has measured answers of all variants: the simulator can execute the cascade
    reach: F64  # (C, S) share of the class's requests that need a step's answer
    work: F64  # (C, S) requests' worth of work that a step does for one of the class; a cancelled one did a part
    accuracy: F64  # (C,) expected of an answer; NaN without a tier
    may_answer: Bool  # (C, V, P) options that may answer the class while it has no tier


def compile_tiers(
    classes: tuple[RequestClass, ...], names: tuple[str, ...], cat: CatalogArrays, answers: AnswerArrays
) -> TierArrays | None:
    """Array form of the tiers; None where no class has one.

    Args:
        classes: In the order of the C axis.
        names: Of the variants, in the order of the V axis.
        cat: Catalog.
        answers: Its measured answers.

    Returns:
        The tiers; what may answer without them follows from the workload.
    """
    if all(request_class.tier is None for request_class in classes):
        return None
    count = len(classes)
    tiers = TierArrays(
        variant=np.full((count, CASCADE_STEPS), -1, np.int64),
        threshold=np.zeros((count, CASCADE_STEPS - 1)),
        is_concurrent=np.zeros(count, np.bool_),
        is_measured=np.zeros(count, np.bool_),
        reach=np.zeros((count, CASCADE_STEPS)),
        work=np.zeros((count, CASCADE_STEPS)),
        accuracy=np.full(count, np.nan),
        may_answer=np.zeros((count, *cat.usable.shape), np.bool_),
    )
    for c, request_class in enumerate(classes):
        tier = request_class.tier
        if tier is None:
            continue
        steps = [names.index(name) for name in tier.variants]
        tiers.variant[c, : len(steps)] = steps
        tiers.threshold[c, : len(tier.thresholds)] = tier.thresholds
        tiers.is_concurrent[c] = tier.is_concurrent
        known = len(answers.confidence) > 0 and not np.isnan(answers.confidence[:, steps]).any()
        tiers.is_measured[c] = known
        reach = _reach(answers.confidence[:, steps], tier.thresholds) if known else np.ones((1, len(steps)))
        tiers.reach[c, : len(steps)] = reach.mean(axis=0)
        tiers.work[c, : len(steps)] = reach.mean(axis=0)
        if tier.is_concurrent:
            until_sure = min(1.0, _fastest_s(cat, steps[0]) / _fastest_s(cat, steps[1]))
            tiers.work[c, 1] += (1.0 - tiers.reach[c, 1]) * until_sure
        tiers.accuracy[c] = _accuracy(answers.right[:, steps], reach) if known else cat.accuracy[steps[-1]]
    return tiers


def within_tiers(wl: WorkloadArrays, tiers: TierArrays) -> WorkloadArrays:
    """The workload, with every class of a tier answered by the tier's variants alone: no other was proved."""
    allowed, collage = wl.allowed.copy(), wl.collage.copy()
    for c in np.flatnonzero(tiers.variant[:, 0] >= 0):
        others = np.setdiff1d(np.arange(allowed.shape[1]), tiers.variant[c])
        allowed[c, others] = False
        collage[c] = False
    return wl._replace(allowed=allowed, collage=collage)


def check_tiers(wl: WorkloadArrays, cat: CatalogArrays, tiers: TierArrays, classes: tuple[RequestClass, ...]) -> None:
    """Refuses tiers that cannot be kept.

    Raises:
        ScenarioError: A step has no option within the class's promises, all steps together take longer than the SLO, or
            the floor is above what the answers are right by.
    """
    for c in np.flatnonzero(tiers.variant[:, 0] >= 0):
        where, tier = f"workload.classes[{classes[c].name}]", classes[c].tier
        assert tier is not None  # it has steps
        for name, v in zip(tier.variants, tiers.variant[c], strict=False):
            if not wl.allowed[c, v].any():
                raise ScenarioError(
                    f"{where}.tier.variants: expected variants that may answer the class within its SLO and floor, "
                    f"got '{name}'"
                )
        needed_s = step_times_s(cat, wl, tiers, int(c))
        total_s = float(needed_s.max() if tiers.is_concurrent[c] else needed_s.sum())
        if total_s > wl.slo_s[c]:
            raise ScenarioError(
                f"{where}.slo_s: expected at least {total_s:.4g} s (the tier's steps {list(tier.variants)}), "
                f"got {wl.slo_s[c]:g}"
            )
        if tiers.accuracy[c] < wl.accuracy_floor[c] - 1e-9:
            raise ScenarioError(
                f"{where}.accuracy_floor: expected at most {tiers.accuracy[c]:.6g} (the tier's answers), "
                f"got {wl.accuracy_floor[c]:g}"
            )


def overflow_within_tiers(wl: WorkloadArrays, cat: CatalogArrays, tiers: TierArrays) -> Bool:
    """Options (C, V, P) that may take overflow: of a tier the first step's, so that its cascade goes on from there.

    A later step's where the first has no serverless option: answers are as accurate, at the price of a longer call.
    """
    allowed = wl.allowed.copy()
    for c in np.flatnonzero(tiers.variant[:, 0] >= 0):
        first = tiers.variant[c, 0]
        if (allowed[c, first] & (cat.market == SERVERLESS)).any():
            allowed[c, np.arange(allowed.shape[1]) != first] = False
    return allowed


def step_times_s(cat: CatalogArrays, wl: WorkloadArrays, tiers: TierArrays, c: int) -> F64:
    """Least seconds that each step of a class takes, without waiting: on a machine, where one can serve it."""
    times_s = []
    for v in tiers.variant[c][tiers.variant[c] >= 0]:
        taken_s = cat.service_s[v, :, 1] + wl.network_s[c, v]
        machines = wl.allowed[c, v] & (cat.market != SERVERLESS)
        times_s.append(taken_s[machines if machines.any() else wl.allowed[c, v]].min())
    return np.array(times_s)


def _reach(confidence: F64, thresholds: tuple[float, ...]) -> F64:
    """Whether each row needs the answer of each step, (R, S), 1 or 0."""
    unsure = confidence[:, : len(thresholds)] < np.array(thresholds)
    return np.concatenate((np.ones((len(confidence), 1)), np.cumprod(unsure, axis=1)), axis=1)


def _accuracy(right: F64, reach: F64) -> float:
    """Mean of `right` over the answers of each row's last step."""
    last = reach.sum(axis=1).astype(np.int64) - 1
    return float(np.take_along_axis(right, last[:, None], axis=1).mean())


def _fastest_s(cat: CatalogArrays, v: int) -> float:
    return float(cat.service_s[v, :, 1].min())
