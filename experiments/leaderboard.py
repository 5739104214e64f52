"""The rows of a benchmark: what each policy costs at equal attainment and accuracy, and what it came to by itself.

A row is one policy on one trace of one scenario, or on the mean over the traces (`mean`), or over those of all
scenarios (`all`), held to one target: what a reference policy came to (its attainment and accuracy, all classes
together), or the promise (each class's). Every policy has its row for every target, in the order of the configuration
and whatever it came to; where a target is not reachable the row says so and why. A group of training seeds has the
interquartile mean over its members, each interpolated on its own frontier; one that does not reach the target keeps the
group from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from pydantic import Field

from controller.arrays import F64
from controller.config import StrictModel
from experiments.benchmark import Case, Member, Plan, Results
from experiments.benchmark_cells import BenchmarkCell, CellResult, DayResult, cell_key
from experiments.benchmark_config import PROMISE
from experiments.frontier import Status, Sweep, Target, daily_cost, own_target, place_at, promised_target
from experiments.needed_points import Needed, Stretch, needed_points, own_stretch
from experiments.operating_point import OperatingPoint, operating_point
from experiments.row_keys import RowKey, reference_of
from experiments.run_config import PolicyChoice, policy_labels
from experiments.separable import separated
from experiments.statistics import bootstrap, interquartile_mean, relative_difference


class LeaderboardRow(StrictModel):
    """One row; numbers that cannot be known are None. Costs are USD per day."""

    row: str = Field(description="SCENARIO/TRACE/POLICY@TARGET, what `--only` takes")
    scenario: str
    trace: str
    policy: str
    target: str = Field(description="policy whose own attainment and accuracy count, or `promise`")
    reference: str = Field(description="policy that costs are relative to")
    members: int = Field(description="training seeds; 1 for a policy that has none")
    days: int
    seeds: int = Field(description="random seeds")
    status: Status
    reason: str
    cost_difference: float | None = Field(description="cost / cost of the reference - 1, both at the target")
    cost_difference_low: float | None = Field(description="lower end of the 95 % interval")
    cost_difference_high: float | None
    cost_usd: float | None = Field(description="at the target")
    attainment_at: float | None = Field(description="read off there; of the worst class for the promise")
    accuracy_at: float | None
    own_cost_usd: float = Field(description="at the policy's own point, as all that follows")
    own_attainment: float
    own_accuracy: float | None
    attainment_by_class: dict[str, float]
    accuracy_by_class: dict[str, float | None]
    promise_kept: bool
    floors_missed: int
    shed_share: float
    capacity_changes_per_hour: float | None = Field(description="as flaps and share of the rule, None if not watched")
    flaps_per_hour: float | None
    preemptions_per_day: float
    rule_share: float | None
    command: str = Field(description="computes this row anew from nothing")


@dataclass(frozen=True, eq=False)
class AtTarget:
    """A policy at a target on one trace, beside another at the same target."""

    difference: F64  # (S, D) parts in the relative difference of costs; NaN where one of the two cannot reach it
    cost_usd: float
    attainment: float
    accuracy: float
    status: Status
    reason: str


class Leaderboard:
    """Computes rows of a plan whose cells are finished.

    Args:
        plan: The plan.
        finished: At least the cells that a row asked for needs, which `missing` tells.
        command: A row's id to the command that computes it.
    """

    def __init__(self, plan: Plan, finished: Results, command: Callable[[str], str]) -> None:
        self.plan = plan
        self._finished = finished
        self._command = command
        self._cells = cache(self._found_cells)
        self._sweep = cache(self._swept)
        self._target = cache(self._found_target)
        self._at_target = cache(self._found_at_target)
        self._own = cache(self._found_own)

    def missing(self, keys: Iterable[RowKey]) -> dict[str, BenchmarkCell]:
        """Cells by key that rows need and that are not finished, world by world, as far as they can be told by now.

        What a `needed` grid needs is known by and by, so it is to be asked anew, of a new leaderboard, until there is
        none.
        """
        wanted: dict[tuple[Case, str, str], None] = {}
        for key in keys:
            for case in key.cases(self.plan):
                wanted |= dict.fromkeys(
                    (case, name, key.target) for name in (reference_of(self.plan, key.target), key.policy)
                )
        order = {case: number for number, case in enumerate(self.plan.worlds)}
        found: dict[str, BenchmarkCell] = {}
        for case, name, target in sorted(wanted, key=lambda one: order[one[0]]):
            for index, member in enumerate(self.plan.members(name, case.scenario)):
                for k in self._missing_points(case, name, index, target):
                    cells = self._cells(case, member, k)
                    found |= {key: cell for key, cell in cells.items() if key not in self._finished}
        return found

    def row(self, key: RowKey) -> LeaderboardRow:
        """One row."""
        cases, reference = key.cases(self.plan), reference_of(self.plan, key.target)
        found = [self.against(case, key.policy, reference, key.target) for case in cases]
        own = [self._own(case, key.policy) for case in cases]
        missing = [one.reason for one in found if one.status == "not reachable"]
        names = [f"{case.scenario}/{case.trace}: " if len(cases) > 1 else "" for case in cases]
        reasons = [name + one.reason for name, one in zip(names, found, strict=True) if one.reason]
        config = self.plan.config
        interval = bootstrap(
            [one.difference for one in found],
            block=config.block_days,
            resamples=config.resamples,
            seed=int.from_bytes(hashlib.sha256(key.text.encode()).digest()[:4]),
        )
        is_better = any(one.status == "better" for one in found)
        classes = [self.plan.world(case).setting.class_names for case in cases]
        return LeaderboardRow(
            row=key.text,
            scenario=key.scenario,
            trace=key.trace,
            policy=key.policy,
            target=key.target,
            reference=reference,
            members=len(self.plan.members(key.policy, cases[0].scenario)),
            days=sum(len(self.plan.world(case).days) for case in cases),
            seeds=len(config.seeds),
            status="not reachable" if missing else "better" if is_better else "equal",
            reason="; ".join(reasons),
            cost_difference=_known(interval.estimate),
            cost_difference_low=_known(interval.low),
            cost_difference_high=_known(interval.high),
            cost_usd=_known(_mean([one.cost_usd for one in found])),
            attainment_at=_known(_mean([one.attainment for one in found])),
            accuracy_at=_known(_mean([one.accuracy for one in found])),
            own_cost_usd=_mean([one.cost_usd for one in own]),
            own_attainment=_mean([one.attainment for one in own]),
            own_accuracy=_known(_mean([one.accuracy for one in own])),
            attainment_by_class={
                n: v or 0.0 for n, v in _by_class(classes, [o.attainment_by_class for o in own]).items()
            },
            accuracy_by_class=_by_class(classes, [o.accuracy_by_class for o in own]),
            promise_kept=all(one.promise_kept for one in own),
            floors_missed=sum(one.floors_missed for one in own),
            shed_share=_mean([one.shed_share for one in own]),
            capacity_changes_per_hour=_known(_mean([one.capacity_changes_per_hour for one in own])),
            flaps_per_hour=_known(_mean([one.flaps_per_hour for one in own])),
            preemptions_per_day=_mean([one.preemptions_per_day for one in own]),
            rule_share=_known(_mean([one.rule_share for one in own])),
            command=self._command(key.text),
        )

    def against(self, case: Case, policy: str, reference: str, target: str) -> AtTarget:
        """A policy on one trace, its cost relative to another's, both at a target.

        Args:
            case: The trace.
            policy: Name of a row.
            reference: A single policy.
            target: One of the plan's, by whose own point both are held, or the promise.
        """
        return self._at_target(case, policy, reference, target)

    def own_results(self, case: Case, policy: str) -> list[CellResult]:
        """Results of all members of a policy at their own points."""
        members = self.plan.members(policy, case.scenario)
        return [result for member in members for result in self._own_of(case, member)]

    def _own_of(self, case: Case, member: Member) -> list[CellResult]:
        return self._results(case, member, member.own)

    def _results(self, case: Case, member: Member, index: int) -> list[CellResult]:
        return [self._finished[key] for key in self._cells(case, member, index)]

    def _found_cells(self, case: Case, member: Member, index: int) -> dict[str, BenchmarkCell]:
        return {cell_key(cell): cell for cell in self.plan.cells_at(member, index, case)}

    def _is_run(self, case: Case, member: Member, index: int) -> bool:
        return all(key in self._finished for key in self._cells(case, member, index))

    def _missing_points(self, case: Case, policy: str, member: int, target: str) -> list[int]:
        """Points of a member that a target needs and that are not run, as far as they can be told by now."""
        one = self.plan.members(policy, case.scenario)[member]
        if self.plan.config.grid != "needed":
            return [k for k in self.plan.run_points(one) if not self._is_run(case, one, k)]
        (reference,) = self.plan.members(reference_of(self.plan, target), case.scenario)
        own = [one.own] if not self._is_run(case, one, one.own) else []
        return own if not self._is_run(case, reference, reference.own) else self._needed(case, one, target).missing

    def _needed(self, case: Case, member: Member, target: str) -> Needed:
        return needed_points(
            member.points,
            self._target(case, target),
            lambda k: self._is_run(case, member, k),
            lambda stretch: self._sweep_over(case, member, stretch),
        )

    def _swept(self, case: Case, policy: str, member: int, target: str) -> Sweep:
        """The points of a member by which it is compared at a target."""
        one = self.plan.members(policy, case.scenario)[member]
        if self.plan.config.grid == "needed":
            return self._sweep_over(case, one, self._needed(case, one, target).stretch)
        shape = one.points.shape
        return self._sweep_over(case, one, Stretch(range(shape[0]), range(shape[1])))

    def _sweep_over(self, case: Case, member: Member, stretch: Stretch) -> Sweep:
        run = set(self.plan.run_points(member))
        indices = stretch.all(member.points)
        by_point = [self._results(case, member, k if k in run else member.own) for k in indices]
        shape = len(stretch.attainment), len(stretch.accuracy)

        def grid(value: Callable[[DayResult], float | Sequence[float]], combine: Callable[..., F64]) -> F64:
            values = np.array([[[value(day) for day in r.days] for r in results] for results in by_point], np.float64)
            combined = combine(values, axis=1)  # (points, seeds, days, ...) over random seeds
            return np.asarray(combined.reshape(*shape, *combined.shape[1:]))

        sweep = Sweep(
            cost_usd=grid(lambda day: day.cost_usd, np.mean),
            requests=grid(lambda day: day.requests, np.sum),
            missed=grid(lambda day: day.missed, np.sum),
            answered=grid(lambda day: day.answered, np.sum),
            accuracy_sum=grid(lambda day: day.accuracy_sum, np.sum),
        )
        return sweep if run.issuperset(indices) else separated(sweep, stretch.own(member.points))

    def _found_target(self, case: Case, name: str) -> Target:
        (member,) = self.plan.members(reference_of(self.plan, name), case.scenario)
        own = self._sweep_over(case, member, own_stretch(member.points))
        if name != PROMISE:
            return own_target(own, (0, 0))
        workload = self.plan.world(case).setting.workload
        return promised_target(own, workload.attainment_target, workload.accuracy_floor)

    def _found_at_target(self, case: Case, policy: str, reference: str, target_name: str) -> AtTarget:
        target = self._target(case, target_name)
        base_sweep = self._sweep(case, reference, 0, target_name)
        base = place_at(base_sweep, target)
        base_cost = daily_cost(base_sweep, base, target)
        costs, places = [], []
        members = self.plan.members(policy, case.scenario)
        for index in range(len(members)):
            sweep = self._sweep(case, policy, index, target_name)
            places.append(place_at(sweep, target))
            costs.append(daily_cost(sweep, places[-1], target))
        daily = np.array(costs)  # (S, D)
        reasons = [
            one.reason if len(places) == 1 else f"{_called(member.policy)}: {one.reason}"
            for member, one in zip(members, places, strict=True)
            if one.reason
        ]
        statuses = [one.status for one in places]
        status: Status = "better" if "better" in statuses else "equal"
        if "not reachable" in statuses:
            status = "not reachable"
        if base.status == "not reachable":
            status, reasons = "not reachable", [*reasons, f"the reference {reference}: {base.reason}"]
        known = np.isfinite(daily).all() and np.isfinite(base_cost).all()
        return AtTarget(
            difference=relative_difference(daily, base_cost) if known else np.full(daily.shape, np.nan),
            cost_usd=float(interquartile_mean(daily.mean(axis=1))),
            attainment=float(interquartile_mean(np.array([1.0 - one.miss_share.max() for one in places]))),
            accuracy=float(interquartile_mean(np.array([one.accuracy.min() for one in places]))),
            status=status,
            reason=", ".join(reasons),
        )

    def _found_own(self, case: Case, policy: str) -> OperatingPoint:
        members = self.plan.members(policy, case.scenario)
        days = [[day for result in self._own_of(case, one) for day in result.days] for one in members]
        return operating_point(self.plan.world(case).setting, days)


def _called(policy: PolicyChoice) -> str:
    return policy_labels([policy])[0]


def _by_class(classes: Sequence[tuple[str, ...]], values: Sequence[F64]) -> dict[str, float | None]:
    """Means by name of the class over all that have it."""
    found: dict[str, list[float]] = {}
    for names, numbers in zip(classes, values, strict=True):
        for name, number in zip(names, numbers.tolist(), strict=True):
            found.setdefault(name, []).append(number)
    return {name: _known(_mean(numbers)) for name, numbers in found.items()}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None
