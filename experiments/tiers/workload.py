"""What tiers save a whole service: one mixed-tolerance workload, answered in three ways, at equal attainment.

The ways are *one size* (the best version answers all), *single versions* and *cascades* (the tiers of a generator that
may use those). Classes, SLOs, arrivals and seeds are the same in all, and so is the policy, the `mpc` rule as it comes,
which plans the fleet of each. Rules are generated from one part of the calibration and the simulated requests are drawn
from the other, so a tier can break its promise here; a calibration of fewer than `LEAST_ROWS` requests is too small to
be parted, and serves for both.

The policy is swept over its headroom, and the cost of each way is read off where it misses as many requests
(`experiments.frontier`): as the way does that misses most at the policy's own settings. Where the
best version takes less than `LEAST_S`, requests are simulated thinned: one stands for many and takes as many times
longer, so a fleet of the same size meets fewer requests.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from controller.arrays import F64
from controller.catalog import Catalog
from controller.compile import compile_scenario
from controller.scenario import Scenario, load_scenario
from controller.tiers.calibration import Calibration
from controller.tiers.generate import Objective, Tier, Tolerance, generate
from controller.tiers.guarantee import Bound
from controller.tiers.rules import Form, Rule
from controller.workload import ClassTier
from envs.world import DATA_VARIABLE, WorldChoice, build_world
from experiments.dials import Dial, Dials, points_of, with_settings
from experiments.frontier import Place, Sweep, Target, daily_cost, own_target, place_at, pooled
from experiments.rollout import new_simulator, prepare, roll
from experiments.statistics import Interval, bootstrap, relative_difference
from experiments.tiers.scenarios import Part, catalog_of, scenario_of
from experiments.tiers.study import CALIBRATED, TOLERANCES

POLICY = "mpc"
WAYS = ("one size", "single versions", "cascades")
MIX_SHARES = (0.2, 0.2, 0.2, 0.2, 0.2)
"""Of the tolerances of the study; half of each asks for response time, half for cost."""

POOLS = (
    *("m5-large", "c5-large", "c5-xlarge", "m5-large-spot", "c5-large-spot-f", "c5-large-spot-d", "c5-xlarge-spot"),
    "lambda-modern-3008",
)
"""Of the default catalog: those that a program of one thread can be put on, and the newer serverless profile."""

SEEDS = 5
HEADROOM = Dial(setting="headroom", factors=(0.6, 0.72, 0.85, 1.2))
"""The sweep. The usual dial of the rule, the value of a miss, hardly moves a fleet that serverless helps out."""

LEAST_ROWS = 2000
HOURS = 6.0
BUSY_CORES = 40.0
"""Cores that the best version keeps busy at the mean rate: a fleet large enough that whole machines are no rounding."""

CHANCE = 3.1
"""Standard errors, one-sided at the tiers' own confidence of 99.9 %: the best version alone is off by one or two."""

LEAST_S = 0.4
"""Time of the best version from which requests are simulated one by one."""


@dataclass(frozen=True)
class TierOutcome:
    """What one tier's requests came to under its own settings of the policy, in one way.

    Attributes:
        name: Of the class.
        rule: That answers, in words.
        tolerance: In points of error.
        promised: Accuracy: that of the best version less the tolerance.
        realised: Accuracy of the answers, request by request.
        answered: How many those are.
        attainment: Share of requests answered within the SLO.
    """

    name: str
    rule: str
    tolerance: float
    promised: float
    realised: float
    answered: int
    attainment: float

    @property
    def is_broken(self) -> bool:
        """Whether the answers are worse than promised by more than drawing so many requests explains."""
        error = np.sqrt(self.promised * (1.0 - self.promised) / max(self.answered, 1))
        return bool(self.realised < self.promised - CHANCE * error)


@dataclass(frozen=True)
class WayOutcome:
    """What one way of answering came to.

    Attributes:
        name: One of `WAYS`.
        usd_per_1000: At the policy's own settings.
        attainment: Likewise.
        accuracy: Likewise.
        status: Whether the attainment that is compared at is met: `equal`, `better`, `not reachable`.
        equal_usd_per_1000: Cost there; NaN where it is not reachable.
        relative: Difference of that cost to one size's, over paired seeds.
        to_singles: To that of single versions.
        swept_attainment: At each point of the dial.
        swept_usd_per_1000: Likewise.
        tiers: By class.
    """

    name: str
    usd_per_1000: float
    attainment: float
    accuracy: float
    status: str
    equal_usd_per_1000: float
    relative: Interval
    to_singles: Interval
    swept_attainment: tuple[float, ...]
    swept_usd_per_1000: tuple[float, ...]
    tiers: tuple[TierOutcome, ...]


@dataclass(frozen=True)
class WorkloadStudy:
    """A task's mixed-tolerance workload.

    Attributes:
        name: Of the task.
        trace: That arrives.
        day: Of the trace.
        hours: Of it that are run.
        mean_rps: Requests/s of the service, at the mean of the trace's training days.
        stands_for: Requests of the service that a simulated one stands for.
        seeds: Of requests, services and market.
        requests: Simulated, of all seeds together.
        is_parted: Whether the requests are others than the rules were generated from.
        equal_attainment: That the costs are compared at.
        ways: In the order of `WAYS`.
    """

    name: str
    trace: str
    day: int
    hours: float
    mean_rps: float
    stands_for: float
    seeds: int
    requests: int
    is_parted: bool
    equal_attainment: float
    ways: tuple[WayOutcome, ...]

    @property
    def broken(self) -> int:
        """Tiers of any way whose answers are worse than promised."""
        return sum(tier.is_broken for way in self.ways for tier in way.tiers)


@dataclass(frozen=True, eq=False)
class _Run:
    """One way at every point of the dial; the seeds (D) are its days."""

    sweep: Sweep
    own: int  # point of the policy's own settings
    right: F64  # (D, C) sums of what measured answers were right by, at that point
    trace: str
    day: int


def study_workload(
    name: str, table: Calibration, say: Callable[[str], None], *, seeds: int = SEEDS, hours: float = HOURS
) -> WorkloadStudy:
    """Runs a task's workload in all ways.

    Args:
        name: Of the task.
        table: What every version did.
        say: Prints a line of progress.
        seeds: At least two: intervals are over them.
        hours: Of the day that are run.
    """
    calibrated = answered = table
    if len(table) >= LEAST_ROWS:
        calibrated, answered = table.parts(int(len(table) * CALIBRATED), 0)
    best_s = float(table.latency_s[:, table.best].mean())
    stands_for = max(1.0, LEAST_S / best_s)
    base = load_scenario("twitter" if os.environ.get(DATA_VARIABLE) else "default")
    catalog = catalog_of(answered, base.load_catalog(), f"{name}-tiers", POOLS, stands_for)
    simulated_rps = BUSY_CORES / (best_s * stands_for)
    asked = [Tolerance(value) for value in TOLERANCES]
    mix = [
        Part(one, objective, share / 2) for one, share in zip(asked, MIX_SHARES, strict=True) for objective in Objective
    ]
    cascades = generate(calibrated, asked)
    singles = generate(calibrated, asked, forms=(Form.SINGLE,))
    sized = [_best_alone(one, calibrated.best) for one in cascades]
    runs: dict[str, _Run] = {}
    scenarios: dict[str, Scenario] = {}
    for way, tiers in zip(WAYS, (sized, singles, cascades), strict=True):
        scenarios[way] = scenario_of(answered, tiers, mix, base, catalog, f"{name}-tiers", mean_rps=simulated_rps)
        runs[way] = _run(scenarios[way], catalog, seeds, hours, partial(_say, say, f"{name}, {way}"))
    reference = runs[WAYS[0]]
    target = _target(runs)
    places = {way: place_at(run.sweep, target) for way, run in runs.items()}
    costs = {way: daily_cost(run.sweep, places[way], target) for way, run in runs.items()}
    best_right = float(1.0 - answered.error[:, calibrated.best].clip(0.0, 1.0).mean())
    ways = tuple(_outcome(way, runs[way], places[way], costs, scenarios[way], best_right, stands_for) for way in WAYS)
    requests = int(reference.sweep.requests[reference.own, 0].sum())
    return WorkloadStudy(
        name,
        reference.trace,
        reference.day,
        hours,
        simulated_rps * stands_for,
        stands_for,
        seeds,
        requests,
        answered is not table,
        1.0 - float(target.miss_share[0]),
        ways,
    )


def _target(runs: dict[str, _Run]) -> Target:
    """What one size comes to by itself, but as many misses as the way has that misses most by itself."""
    reference = runs[WAYS[0]]
    own = own_target(reference.sweep, (reference.own, 0))
    most = max(float(pooled(run.sweep, 1)[0][run.own, 0, 0]) for run in runs.values())
    # Accuracy is what the ways differ in by intention.
    return replace(own, miss_share=np.full(1, most), accuracy=np.full(1, -np.inf))


def _say(say: Callable[[str], None], what: str, line: str) -> None:
    say(f"{what}: {line}")


def _best_alone(tier: Tier, best: int) -> Tier:
    return replace(tier, rule=Rule(Form.SINGLE, best, best, 0.0), bound=Bound(0.0, 0.0, 0))


def _run(scenario: Scenario, catalog: Catalog, seeds: int, hours: float, say: Callable[[str], None]) -> _Run:
    """Runs the policy at every point of its dial, all under the same seeds of one day."""
    day = scenario.splits.test[0]
    world = build_world(scenario, WorldChoice(days=(day, day)), compile_scenario(scenario, catalog))
    cells = world.cells(range(seeds))
    start, simulator = prepare(world, cells), new_simulator(world, len(cells))
    ticks = min(world.cell_ticks, round(hours * 3600.0 / scenario.control.tick_s))
    # Steps of tiers have one variant each: there is no accuracy to turn a dial of.
    points = points_of(POLICY, Dials(attainment=HEADROOM))
    own = points.own[0]
    num_points, num_classes = points.shape[0], len(scenario.workload.classes)
    cost = np.zeros((num_points, 1, seeds))
    counts = np.zeros((4, num_points, 1, seeds, num_classes))
    right = np.zeros((seeds, num_classes))
    for point in points.points:
        i = point.attainment
        tally = roll(world, start, with_settings(POLICY, point.settings), ticks=ticks, simulator=simulator)
        cost[i, 0] = tally.spend_usd.sum(axis=1)
        counts[:, i, 0] = tally.arrivals, tally.missed, tally.answered, tally.accuracy_sum
        if i == own:
            right = simulator.totals.right.copy()
        say(f"${cost[i].mean():.2f}, attainment {1 - tally.missed.sum() / tally.arrivals.sum():.4f}")
    return _Run(Sweep(cost, *counts), own, right, world.trace_name, day)


def _outcome(
    way: str, run: _Run, place: Place, costs: dict[str, F64], scenario: Scenario, best_right: float, stands_for: float
) -> WayOutcome:
    sweep, own = run.sweep, run.own
    arrivals, missed, answered = (one[own, 0] for one in (sweep.requests, sweep.missed, sweep.answered))  # (D, C)
    thousands = float(arrivals.sum()) * stands_for / 1000.0
    realised = run.right.sum(axis=0) / np.maximum(answered.sum(axis=0), 1.0)
    attainment = 1.0 - missed.sum(axis=0) / np.maximum(arrivals.sum(axis=0), 1.0)
    tiers = []
    for c, request_class in enumerate(scenario.workload.classes):
        tier = request_class.tier
        assert tier is not None  # every class is a part of the mix
        promised = best_right - tier.tolerance
        tiers.append(
            TierOutcome(
                request_class.name, _in_words(tier), tier.tolerance, promised,
                float(realised[c]), int(answered[:, c].sum()), float(attainment[c]),
            )
        )  # fmt: skip
    return WayOutcome(
        name=way,
        usd_per_1000=float(sweep.cost_usd[own].sum()) / thousands,
        attainment=1.0 - float(missed.sum() / arrivals.sum()),
        accuracy=float(run.right.sum() / answered.sum()),
        status=place.status,
        equal_usd_per_1000=float(costs[way].sum()) / thousands,
        relative=_difference(costs[way], costs[WAYS[0]]),
        to_singles=_difference(costs[way], costs[WAYS[1]]),
        swept_attainment=tuple((1.0 - sweep.missed.sum(axis=(1, 2, 3)) / sweep.requests.sum(axis=(1, 2, 3))).tolist()),
        swept_usd_per_1000=tuple((sweep.cost_usd.sum(axis=(1, 2)) / thousands).tolist()),
        tiers=tuple(tiers),
    )


def _difference(own: F64, reference: F64) -> Interval:
    if not (np.isfinite(own).all() and np.isfinite(reference).all()):
        return Interval(float("nan"), float("nan"), float("nan"))
    return bootstrap([relative_difference(own, reference)[None, :]], block=1)


def _in_words(tier: ClassTier) -> str:
    if len(tier.variants) == 1:
        return tier.variants[0]
    form = "both at once" if tier.is_concurrent else "in turn"
    return f"{' -> '.join(tier.variants)} ({form}, sure from {tier.thresholds[0]:.3f})"
