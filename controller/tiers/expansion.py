"""Tiers as plain request classes: what a planner sees of cascades, and how its plan becomes one that has them.

Every step of a tier's cascade is a class of its own that only the step's variant may answer: as many requests as reach
the step, a part of the SLO, and no accuracy to choose. So any planner provisions every step without knowing cascades.
Folded back, a plan keeps its replicas, and a class takes the limits of its first step, where its requests arrive; its
later steps overflow by the same ones.

A tier that broke its contract is answered by the best version alone. Where that is no step of the cascade, it has a
row of its own that sees no request before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.arrays import F64, I64, Bool, ObservationArrays, PlanArrays, WorkloadArrays, empty_plan
from controller.compile import Setting
from controller.tiers.compiled import TierArrays, step_times_s
from controller.workload import RequestClass

LEAST_WORK = 1e-3
"""Work of a step, in requests per request of its class, where the measured answers never reach it: live ones may."""

_COUNTS = ("arrivals", "answered", "missed", "shed", "failed", "day_arrivals", "day_answered", "day_missed")
_OF_FIRST_STEP = ("overflow_after_s", "overflow_fraction", "hedge_after_s", "hedge_replaces", "shed_limit")
_OF_PLAIN_CLASS = (
    *("cascade_variant", "cascade_threshold", "cascade_concurrent"),
    *("collage_variant", "collage_after_s", "collage_passes", "shares"),
)
_OF_NO_CLASS = ("replicas", "batch_size", "batch_wait_s", "fixed_shares", "need_rps", "reasons")


@dataclass(frozen=True, eq=False)
class Expansion:
    """The classes (E) that a planner sees in place of those of a setting (C): plain ones, and steps of tiers.

    Attributes:
        setting: What the planner decides for, without tiers.
        tiers: Those of the real setting.
        classes: (E,) real class of each.
        steps: (E,) of its class's cascade, the one after its last for the best version that is none; -1 for a plain
            class.
        work: (E,) its requests per request of the real class.
        work_demoted: (E,) the same while the best version answers alone.
    """

    setting: Setting
    tiers: TierArrays
    classes: I64
    steps: I64
    work: F64
    work_demoted: F64

    @property
    def first(self) -> I64:
        """Row of each real class, (C,); of a tier its first step."""
        return np.flatnonzero(self.steps <= 0)

    @property
    def has_cascade(self) -> Bool:
        """Classes (C,) whose plan carries the tier's cascade.

        Of one variant it has a single step, unless the answers are not measured: then no other variant is allowed.
        """
        return np.asarray(self.tiers.is_measured | (self.tiers.variant[:, 1] >= 0))

    def seen(self, observation: ObservationArrays) -> ObservationArrays:
        """The observation by rows: a step sees its part of the class's requests, and its variant's part of the queue.

        Its answers have the accuracy of its variant, so none is ever owed.
        """
        is_step = self.steps >= 0
        demoted = self._by_row(observation.demoted)
        work = np.where(demoted, self.work_demoted, self.work)  # (N, E)
        parts: dict[str, Any] = {
            name: np.rint(self._by_row(getattr(observation, name)) * work).astype(np.int64) for name in _COUNTS
        }
        parts["history"] = self._by_row(observation.history) * work[:, :, None]
        parts["latency"] = np.rint(self._by_row(observation.latency) * work[:, :, None]).astype(np.int64)
        parts["demoted"] = demoted
        for total, count in (("accuracy_sum", "answered"), ("day_accuracy_sum", "day_answered")):
            of_variant = self.setting.workload.accuracy_floor * parts[count]
            parts[total] = np.where(is_step, of_variant, self._by_row(getattr(observation, total)))
        parts["waiting"] = self._waiting(observation)
        return observation._replace(**parts)

    def empty_plan(self, num_envs: int) -> PlanArrays:
        """Buffers for `fold`."""
        num_variants, num_pools, _ = self.setting.shape
        return empty_plan(num_envs, (num_variants, num_pools, len(self.first)))

    def fold(self, plan: PlanArrays, into: PlanArrays) -> PlanArrays:
        """The plan for the real classes.

        What is no class's own (replicas, batches, reasons) is shared with `plan`: a planner that looks at its last plan
        sees what the guard made of it. Shares that a planner fixes hold for plain classes; those of a tier follow the
        capacity of each step's variant.

        Args:
            plan: For the rows.
            into: Buffers of `empty_plan`, overwritten.
        """
        first, tiers = self.first, self.tiers
        is_plain = tiers.variant[:, 0] < 0
        for name in _OF_FIRST_STEP:
            getattr(into, name)[...] = getattr(plan, name)[:, first]
        for name in _OF_PLAIN_CLASS:
            getattr(into, name)[:, is_plain] = getattr(plan, name)[:, first[is_plain]]
        with_cascade = self.has_cascade
        into.cascade_variant[:, with_cascade] = tiers.variant[with_cascade]
        into.cascade_threshold[:, with_cascade] = tiers.threshold[with_cascade]
        into.cascade_concurrent[:, with_cascade] = tiers.is_concurrent[with_cascade]
        return into._replace(**{name: getattr(plan, name) for name in _OF_NO_CLASS})

    def _by_row(self, of_class: NDArray[Any]) -> NDArray[Any]:
        # An index would leave another order in memory, for which every kernel were compiled anew.
        return np.take(of_class, self.classes, axis=1)

    def _waiting(self, observation: ObservationArrays) -> I64:
        """Queued requests by row: a tier's are in its steps' queues as all requests there are."""
        waiting: I64 = self._by_row(observation.waiting)
        waiting[:, self.work == 0.0] = 0
        queued = observation.queue.sum(axis=2)
        seconds = np.flatnonzero((self.steps == 1) & (self.work > 0.0))
        for c, second in zip(self.classes[seconds], seconds, strict=True):
            steps = self.tiers.variant[c][self.tiers.variant[c] >= 0]
            by_step = queued[:, steps]
            total = np.maximum(by_step.sum(axis=1), 1)
            later = observation.waiting[:, c, None] * by_step[:, 1:] // total[:, None]
            waiting[:, second : second + len(steps) - 1] = later
            waiting[:, second - 1] -= later.sum(axis=1)
        # An index would leave another order in memory here too.
        in_demoted: I64 = self._by_row(observation.waiting) * (self.work_demoted > 0.0)
        return np.where(self._by_row(observation.demoted), in_demoted, waiting)


def expand(setting: Setting) -> Expansion:
    """The rows of a setting that has tiers.

    A class's time to wait (its SLO less the least that its steps take) is split evenly over steps that follow one
    another; steps that start together have all of it.
    """
    tiers, wl, cat = setting.tiers, setting.workload, setting.catalog
    assert tiers is not None
    classes: list[int] = []
    steps: list[int] = []
    variant: list[int] = []
    work: list[float] = []
    slo_s: list[float] = []
    for c in range(len(wl.share)):
        of_class = tiers.variant[c][tiers.variant[c] >= 0].tolist()
        count = max(1, len(of_class))
        work += np.maximum(tiers.work[c, :count], LEAST_WORK).tolist() if of_class else [1.0]
        slo_s += _step_slos_s(setting, c) if len(of_class) > 1 else [float(wl.slo_s[c])]
        if of_class and (best := _best(setting, c)) not in of_class:
            of_class, count = [*of_class, best], count + 1
            work.append(0.0)
            slo_s.append(float(wl.slo_s[c]))
        classes += [c] * count
        steps += list(range(count)) if of_class else [-1]
        variant += of_class or [-1]
    of = np.array(classes)
    share = wl.share[of] * work
    allowed, floor = wl.allowed[of].copy(), wl.accuracy_floor[of].copy()
    overflow, floor_each = wl.overflow_option[of].copy(), wl.floor_each[of].copy()
    for row, step in enumerate(steps):
        if step < 0:
            continue
        v = variant[row]
        allowed[row] = tiers.may_answer[of[row]]
        allowed[row, np.arange(len(cat.accuracy)) != v] = False
        allowed[row, v] &= cat.service_s[v, :, 1] + wl.network_s[of[row], v] <= slo_s[row] + 1e-12
        floor[row], floor_each[row] = cat.accuracy[v], False
        if step > 0:
            option = int(wl.step_overflow[of[row], v])
            overflow[row] = option if option >= 0 and allowed[row].flat[option] else -1
    by_row = {name: getattr(wl, name)[of] for name in WorkloadArrays._fields if name not in ("hop_s", "hop_usd")}
    by_row |= {"share": share / share.sum(), "slo_s": np.array(slo_s), "accuracy_floor": floor, "allowed": allowed}
    by_row |= {"overflow_option": overflow, "floor_each": floor_each}
    workload = wl._replace(**by_row)
    scenario = setting.scenario
    rows = tuple(
        _row_of(scenario.workload.classes[c], step, workload, row)
        for row, (c, step) in enumerate(zip(classes, steps, strict=True))
    )
    # A tick's requests are those of all steps: shares and mean rate count them so.
    expanded = scenario.model_copy(
        update={
            "workload": scenario.workload.model_copy(update={"classes": rows}),
            "mean_rps": scenario.mean_rps * float(share.sum()),
        }
    )
    seen = replace(setting, scenario=expanded, workload=workload, tiers=None)
    alone = [step < 0 or variant[row] == _best(setting, int(of[row])) for row, step in enumerate(steps)]
    return Expansion(seen, tiers, of, np.array(steps), np.array(work), np.array(alone, np.float64))


def _best(setting: Setting, c: int) -> int:
    """The most accurate variant that may answer class `c` without its tier."""
    assert setting.tiers is not None
    may_answer = setting.tiers.may_answer[c].any(axis=1)
    return int(np.where(may_answer, setting.catalog.accuracy, -1.0).argmax())


def _step_slos_s(setting: Setting, c: int) -> list[float]:
    """SLO of each step of class `c`."""
    tiers, wl = setting.tiers, setting.workload
    assert tiers is not None
    times_s = step_times_s(setting.catalog, wl, tiers, c)
    if tiers.is_concurrent[c]:
        return [float(wl.slo_s[c])] * len(times_s)
    slack_s = float(wl.slo_s[c] - times_s.sum())
    return [float(time_s) + slack_s / len(times_s) for time_s in times_s]


def _row_of(request_class: RequestClass, step: int, workload: WorkloadArrays, row: int) -> RequestClass:
    name = request_class.name if step <= 0 else f"{request_class.name}.{step + 1}"
    fields = {"share": float(workload.share[row]), "slo_s": float(workload.slo_s[row])}
    fields["accuracy_floor"] = float(workload.accuracy_floor[row])
    return request_class.model_copy(update={"name": name, "tier": None, **fields})
