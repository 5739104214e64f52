"""What the experiment of joint adaptation measures: planners over egress prices, and on random problems.

Over prices, the fast planner's plan and those of the baselines that it is held to are replayed request by request, on
the bytes and accuracies of requests that no plan has seen; savings compare what was billed there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from controller.arrays import F64, Bool
from controller.errors import RunError
from controller.planners.geo.compiled import GeoInstance, GeoPlan, compile_geo, evaluate_geo
from controller.planners.geo.program import GeoProgram
from controller.planners.geo.rivals import plan_greedy, restrictions
from controller.planners.geo.rounding import plan_rounded
from experiments.placement.geo_day import measure_day
from experiments.placement.geo_study import EGRESS_PRICES, study_problem
from experiments.placement.geo_world import Replayed, as_confirmed, replay
from experiments.placement.random_regions import random_regions
from experiments.placement.replanning import Ran
from experiments.placement.table import VariantTable

SINGLE_AXIS = ("model only", "data only")
FAST, NONE = "fast", "none"
SOLVED = 1e-6
"""To which linear programs are solved."""

GAP = 1e-4
"""Relative distance to its bound at which a mixed-integer program is done."""


@dataclass(frozen=True)
class PriceRow:
    """Costs in $ per hour at one egress price; None where nothing is feasible.

    Attributes:
        usd_per_gb: Egress price.
        fast: Of the fast planner, as planned.
        bound: Of its relaxation.
        greedy: Of the greedy planner.
        baselines: Of each restriction, as planned; those with a bar by the mixed-integer program.
        replayed: What was billed for the fast plan, for both single-axis baselines and for none adapted.
        kilobytes: Of a request, mean under the fast plan.
        service_ms: Of a request, mean under the fast plan.
        data_shares: Of requests by data version, under the fast plan.
        confirmed: Accuracy on images that no plan has seen, less what is promised, in standard errors; the worst
            region's.
        latency_share: Mean latency of the replay as a share of what is promised; the worst region's.
        answered: Share of the replay's requests answered within it.
        replay_off: Relative distance of what was billed to what was planned.
        solve_s: Time of a core, of the fast planner.
    """

    usd_per_gb: float
    fast: float
    bound: float
    greedy: float | None
    baselines: dict[str, float | None]
    replayed: dict[str, float | None]
    kilobytes: float
    service_ms: float
    data_shares: dict[str, float]
    confirmed: float
    latency_share: float
    answered: float
    replay_off: float
    solve_s: float


@dataclass(frozen=True)
class RoundingRow:
    """One random problem: costs over those of the mixed-integer program."""

    seed: int
    fast: float
    greedy: float | None
    proved: float  # ratio to the relaxation, before any rounding
    to_relaxation: float
    gap: float  # of the mixed-integer program
    instances: float  # least at a site that the relaxation uses
    solve_s: float


@dataclass(frozen=True)
class Adaptation:
    """All that is measured."""

    source: str
    num_models: int
    num_data: int
    prices: tuple[PriceRow, ...]
    roundings: tuple[RoundingRow, ...]
    day: tuple[Ran, ...]


def confirmed_accuracy(table: VariantTable, instance: GeoInstance, plan: GeoPlan) -> F64:
    """Accuracy less what is promised on images that no plan has seen, in standard errors of that difference, (R,).

    Every image is answered by each variant with the share that the plan gives it. What a plan believes is measured on
    as many other images, so the difference has the errors of both halves.
    """
    share = plan.served_rps.sum(axis=1) / instance.rate_rps[:, None]  # (R, V)
    halves = [half.reshape(len(half), -1) @ share.T for half in (table.calibration, table.confirmation)]
    error = np.sqrt(sum(answers.var(axis=0) / len(answers) for answers in halves))
    return np.asarray((halves[1].mean(axis=0) - instance.accuracy_floor) / error, np.float64)


def measure_price(table: VariantTable, usd_per_gb: float) -> PriceRow:
    """The fast and the greedy planner and every baseline of the study at one egress price.

    The program of all variants would take minutes to prove; the relaxation's bound says how far it can be.

    Raises:
        RunError: The study has no plan: the table's variants are too slow or too inaccurate.
    """
    instance = compile_geo(study_problem(table, usd_per_gb))
    rounded = plan_rounded(instance)
    if rounded is None:
        raise RunError(f"the study at {usd_per_gb:g} $/GB: expected a plan, found none")
    greedy = plan_greedy(instance)
    baselines = {name: _least(instance, name, allowed) for name, allowed in restrictions(instance).items()}
    seen = as_confirmed(instance, table)
    ran = replay(seen, rounded.plan)
    replayed = {name: _billed(seen, baselines[name]) for name in (*SINGLE_AXIS, NONE)}
    served = rounded.plan.served_rps.sum(axis=(0, 1)) / instance.rate_rps.sum()
    size = np.array([v.bytes for v in instance.problem.variants])
    seconds = np.array([v.service_s for v in instance.problem.variants])
    data = np.array([v.data for v in instance.problem.variants])
    return PriceRow(
        usd_per_gb=usd_per_gb,
        fast=rounded.total_usd_per_hour,
        bound=rounded.bound_usd_per_hour,
        greedy=None if greedy is None else _usd(instance, greedy),
        baselines={name: None if plan is None else _usd(instance, plan) for name, plan in baselines.items()},
        replayed={FAST: ran.total_usd_per_hour, **replayed},
        kilobytes=float(served @ size) / 1e3,
        service_ms=float(served @ seconds) * 1e3,
        data_shares={name: float(served[data == name].sum()) for name in table.data},
        confirmed=float(confirmed_accuracy(table, instance, rounded.plan).min()),
        latency_share=_latency_share(instance, ran),
        answered=ran.answered,
        replay_off=abs(ran.total_usd_per_hour / rounded.total_usd_per_hour - 1.0),
        solve_s=rounded.solve_s,
    )


def _least(instance: GeoInstance, name: str, allowed: Bool) -> GeoPlan | None:
    """A baseline at its best: by the program where a bar is on it, by the fast planner otherwise."""
    if name not in (*SINGLE_AXIS, NONE):
        rounded = plan_rounded(instance, allowed)
        return None if rounded is None else rounded.plan
    return GeoProgram(instance, allowed).solve_whole(GAP).plan


def _usd(instance: GeoInstance, plan: GeoPlan) -> float:
    return evaluate_geo(instance, plan).total_usd_per_hour


def _billed(seen: GeoInstance, plan: GeoPlan | None) -> float | None:
    return None if plan is None else replay(seen, plan).total_usd_per_hour


def _latency_share(instance: GeoInstance, ran: Replayed) -> float:
    promised = np.array([region.latency_s for region in instance.problem.regions])
    return float((ran.latency_s / promised).max())


def measure_roundings(count: int, say: Callable[[str], None]) -> list[RoundingRow]:
    """The fast and the greedy planner against the mixed-integer program on random problems that have a plan."""
    rows: list[RoundingRow] = []
    seed = -1
    while len(rows) < count:
        seed += 1
        instance = compile_geo(random_regions(seed))
        program = GeoProgram(instance)
        relaxed, rounded, exact = program.solve_relaxed(), plan_rounded(instance), program.solve_whole(GAP)
        if relaxed is None or rounded is None or exact.plan is None:
            continue
        greedy = plan_greedy(instance)
        by_site = relaxed[1].sum(axis=1)
        least = exact.total_usd_per_hour
        rows.append(
            RoundingRow(
                seed=seed,
                fast=rounded.total_usd_per_hour / least,
                greedy=None if greedy is None else _usd(instance, greedy) / least,
                proved=rounded.proved_ratio,
                to_relaxation=rounded.ratio,
                gap=exact.gap,
                instances=float(by_site[by_site > SOLVED].min()),
                solve_s=rounded.solve_s,
            )
        )
        if len(rows) % 10 == 0:
            say(f"{len(rows)} of {count} random problems")
    return rows


def measure_adaptation(table: VariantTable, num_random: int, say: Callable[[str], None]) -> Adaptation:
    """Measures everything anew on a table of variants.

    Raises:
        UsageError: `$PROVISOR_DATA` is not set.
        RunError: The study has no plan.
    """
    say(f"planning at {len(EGRESS_PRICES)} egress prices")
    prices = tuple(measure_price(table, usd_per_gb) for usd_per_gb in EGRESS_PRICES)
    say(f"rounding {num_random} random problems")
    roundings = tuple(measure_roundings(num_random, say))
    say("a day of rates that follow a trace")
    day = tuple(measure_day(table))
    return Adaptation(table.source, len(table.models), len(table.data), prices, roundings, day)


def better_single(row: PriceRow) -> float:
    """What was billed for the cheaper single-axis baseline; infinite where neither is feasible."""
    return min((cost for name in SINGLE_AXIS if (cost := row.replayed[name]) is not None), default=np.inf)


def savings(rows: Sequence[PriceRow]) -> tuple[F64, F64]:
    """Shares by which the fast plan was billed below the better single-axis baseline and below none, by price."""
    shares = []
    for row in rows:
        own, none_adapted = row.replayed[FAST], row.replayed[NONE]
        others = better_single(row), np.inf if none_adapted is None else none_adapted
        shares.append([-np.inf if own is None else 1.0 - own / other for other in others])
    better, none = np.array(shares).T
    return better, none


def crossovers(rows: Sequence[PriceRow]) -> list[float]:
    """Egress prices at which model only and data only cost the same, between neighbours by their logarithms."""
    found = []
    for a, b in pairwise(rows):
        low, high = _model_over_data(a), _model_over_data(b)
        if low is not None and high is not None and low * high < 0:
            part = low / (low - high)
            found.append(float(a.usd_per_gb * (b.usd_per_gb / a.usd_per_gb) ** part))
    return found


def _model_over_data(row: PriceRow) -> float | None:
    """Logarithm of the cost of model only over that of data only; None where one of them is not feasible."""
    model, data = (row.baselines[name] for name in SINGLE_AXIS)
    return None if model is None or data is None else float(np.log(model / data))
