"""How little a day could have cost: a lower bound on the bill by hindsight, and how far a run is from it.

`experiments.relaxation` says what is bounded and why every run costs at least that. Here a solver looks for the prices
that make the bound high; the bound itself is worked out from the prices in closed form, so it holds whatever the solver
left inexact. What is random in a bill beyond the arrivals is the service times: the bound is lowered by `DEVIATIONS`
standard deviations of what they can add up to, so it is a statement of probability (5: about one day in 3 million),
not a certainty. Shapes are taken to be new-better-than-used: what a loss interrupts had not less to go than it was paid
for on average.

A bound that is to hold for a run takes the run's own arrivals, misses, late answers and accuracy, and the run answers
each request on one replica: a hedge, cascade or collage is another system.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controller.arrays import F64, SERVERLESS, ObservationArrays, PlanArrays
from controller.compile import Setting
from controller.errors import RunError, UsageError, mismatch
from controller.linear_program import INFEASIBLE
from controller.loop import Decision
from envs.world import Cell, World
from experiments.relaxation import cheaper_ways, least_usd, narrowed, prices_of, state, ways_used
from experiments.relaxed_cell import call_usd, relax

DEVIATIONS = 5.0
"""Standard deviations of the service times' sum that a bound leaves room for."""

SCREENED_STEPS = 400
"""Longer programs are shown only the ways to answer that one of coarser steps uses."""

SCREEN_FACTOR = 5
"""So much coarser."""

WORST_GAP = 0.002
"""A bound further below the solver's optimum, as a share of it, is sought again with the ways that were missing."""

_ROUNDING = 1e-9  # sums of equal accuracies differ in the last bits


@dataclass(frozen=True)
class Bound:
    """A lower bound on the bill of one cell."""

    cost_usd: float  # the bound
    margin_usd: float  # taken off for the luck of service times
    gap_usd: float  # what the solver's optimum lies above the bound before the margin
    status: str  # how the solver ended
    solve_s: float  # wall-clock, statement and solver together
    steps: int
    columns: int  # of the program that was solved


def hindsight_bound(
    world: World,
    cell: Cell,
    *,
    attainment: F64 | float | None = None,
    misses: F64 | None = None,
    accuracy: F64 | None = None,
    late: F64 | None = None,
    arrivals: F64 | None = None,
    ticks: int | None = None,
    step_s: float = 60.0,
) -> Bound:
    """Lower bound on the bill of a cell.

    Args:
        world: The world.
        cell: Day and seed; they choose rate and market.
        attainment: Share of requests in time, of all classes or (C,); the classes' targets by default.
        misses: (C,) permitted misses instead of an attainment.
        accuracy: (C,) mean accuracy of the answers, NaN for none; the classes' floors on the mean by default.
        late: (C,) misses that were answered all the same; all of them by default.
        arrivals: (C, ticks) what arrived; the expected arrivals of the cell's rate by default. The bound is convex in
            arrivals, so with expected ones it bounds the mean bill over all arrivals.
        ticks: Ticks of the cell, from its begin; all by default, or those of `arrivals`.
        step_s: Length of the program's steps, a multiple of the tick; coarser is faster and lower.

    Raises:
        UsageError: A step shorter than a tick or no multiple of it, an array of another shape, or a workflow of several
            operators.
        RunError: No fleet within the limits keeps the promises.
    """
    began = time.perf_counter()
    setting = world.setting
    step_ticks = step_ticks_of(setting, step_s)
    shape = (setting.shape[2], world.cell_ticks if ticks is None else ticks)
    counts = expected_arrivals(world, cell, shape[1]) if arrivals is None else np.asarray(arrivals, np.float64)
    if counts.ndim != 2 or counts.shape[0] != shape[0] or counts.shape[1] < 1:
        raise UsageError(mismatch("arrivals", f"an array of {shape[0]} classes by ticks", counts.shape))
    if misses is None:
        share = setting.workload.attainment_target if attainment is None else attainment
        misses = (1.0 - np.asarray(share, np.float64)) * counts.sum(axis=1)
    if accuracy is None:
        accuracy = np.where(setting.workload.floor_each, np.nan, setting.workload.accuracy_floor)
    wanted = np.asarray(accuracy, np.float64) - _ROUNDING
    late = misses if late is None else late
    relaxed = relax(world, cell, counts, step_ticks, misses, wanted, late)
    kept = np.ones(len(relaxed.klass), np.bool_)
    if len(relaxed.span_s) > SCREENED_STEPS:
        kept = ways_used(relax(world, cell, counts, SCREEN_FACTOR * step_ticks, misses, wanted, late))
    dual_usd = -np.inf
    while True:
        program, rows = state(narrowed(relaxed, kept))
        found = program.solve_interior()
        if found.status == INFEASIBLE:
            if kept.all():
                raise RunError(
                    f"bound of day {cell.day}: expected promises that some fleet within the limits keeps, got none"
                )
            kept[:] = True
            continue
        # All ways to answer count here, whichever the solver was shown.
        prices = prices_of(relaxed, rows, found)
        dual_usd = max(dual_usd, least_usd(relaxed, prices))
        gap_usd = found.objective * relaxed.unit_usd - dual_usd
        if kept.all() or gap_usd <= WORST_GAP * abs(dual_usd):
            break
        missing = cheaper_ways(relaxed, prices, kept)
        kept = kept | missing if missing.any() else np.ones(len(kept), np.bool_)
    margin_usd = DEVIATIONS * float(np.sqrt(2.0 * _dearest_luck(setting) * max(dual_usd, 0.0)))
    return Bound(
        cost_usd=max(0.0, dual_usd - margin_usd),
        margin_usd=margin_usd,
        gap_usd=gap_usd,
        status=found.status,
        solve_s=time.perf_counter() - began,
        steps=len(relaxed.span_s),
        columns=program.num_columns,
    )


class RunRecorder:
    """Collects what a bound needs to know of a run, for every env.

    Raises:
        UsageError: A plan hedges, or has a cascade or collages: met in `decided`.
    """

    def __init__(self) -> None:
        self._arrivals: list[F64] = []
        self._sums: dict[str, F64] = {}

    def decided(self, observation: ObservationArrays, decision: Decision, decide_s: float) -> None:
        """Checks that each request is answered on one replica."""
        _check_single_answers(decision.plan)

    def observed(self, window: ObservationArrays) -> None:
        """Adds a window."""
        self._arrivals.append(window.arrivals.astype(np.float64))
        for name in ("missed", "failed", "shed", "answered", "accuracy_sum"):
            value = getattr(window, name).astype(np.float64)
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def arrivals(self, env: int) -> F64:
        """(C, ticks)."""
        return np.stack([window[env] for window in self._arrivals], axis=1)

    def of_class(self, name: str, env: int) -> F64:
        """Sum of one field of the windows."""
        return np.asarray(self._sums[name][env], np.float64)


def bound_of_run(world: World, cell: Cell, run: RunRecorder, env: int = 0, step_s: float = 60.0) -> Bound:
    """Lower bound on the bill of a run, at its own arrivals, misses, late answers and accuracy.

    Args:
        world: The world it ran in.
        cell: The cell of the env.
        run: Watched it from its first tick.
        env: Which env of the run.
        step_s: As `hindsight_bound`.
    """
    answered = run.of_class("answered", env)
    accuracy = np.full(len(answered), np.nan)
    np.divide(run.of_class("accuracy_sum", env), answered, out=accuracy, where=answered > 0)
    missed = run.of_class("missed", env)
    # Every refused or failed request was booked as a miss; the misses left were answered late, or wait.
    late = np.maximum(missed - run.of_class("failed", env) - run.of_class("shed", env), 0.0)
    return hindsight_bound(
        world, cell, misses=missed, accuracy=accuracy, late=late, arrivals=run.arrivals(env), step_s=step_s
    )


def expected_arrivals(world: World, cell: Cell, ticks: int) -> F64:
    """Arrivals of each class and tick that the cell's rate leads to expect, (C, ticks)."""
    edges_s = float(world.start_s([cell])[0]) + np.arange(ticks + 1) * world.setting.control.tick_s
    summed = np.concatenate(([0.0], np.cumsum(world.rate_rps[0] * world.bin_s)))
    reached = np.interp(edges_s, np.arange(summed.size) * world.bin_s, summed)
    return np.asarray(world.setting.workload.share[:, None] * np.diff(reached)[None, :])


def step_ticks_of(setting: Setting, step_s: float) -> int:
    """Ticks of a step.

    Raises:
        UsageError: A step shorter than a tick or no multiple of it, or a workflow of several operators.
    """
    for name, count in zip(setting.class_names, setting.workload.num_operators, strict=True):
        if count > 1:
            raise UsageError(mismatch("bound", f"classes of one operator each, but '{name}' has several", int(count)))
    ticks = round(step_s / setting.scenario.control.tick_s)
    if ticks < 1 or abs(ticks * setting.scenario.control.tick_s - step_s) > 1e-6:
        expected = f"a multiple of the tick ({setting.scenario.control.tick_s:g} s)"
        raise UsageError(mismatch("step_s", expected, step_s))
    return ticks


def _dearest_luck(setting: Setting) -> float:
    """Largest price of a batch or call times the variance of its draw, $: what one draw adds per dollar of work."""
    cat = setting.catalog
    low, high = cat.shapes[:, :-1], cat.shapes[:, 1:]
    variance = np.maximum(((low * low + low * high + high * high) / 3.0).mean(axis=1) - 1.0, 0.0)
    most = 0.0
    for v, p in np.argwhere(cat.usable):
        if cat.market[p] == SERVERLESS:
            usd = float(call_usd(setting, int(p))[v])
        else:
            usd = float(cat.price_usd_per_s[p] * cat.service_s[v, p, cat.batch_max[v, p]] / cat.concurrency[v, p])
        most = max(most, usd * float(variance[cat.service_shape[v, p]]))
    return most


def _check_single_answers(plan: PlanArrays) -> None:
    used: Sequence[tuple[str, bool]] = (
        ("hedge_after_s", bool(np.isfinite(plan.hedge_after_s).any())),
        ("cascade_variant", bool((plan.cascade_variant[:, :, 0] >= 0).any())),
        ("collage_variant", bool((plan.collage_variant >= 0).any())),
    )
    for name, is_used in used:
        if is_used:
            raise UsageError(mismatch("bound", "a run that answers each request on one replica", f"plans with {name}"))
