"""`provisor experiment a2`: what is measured, its bars, and the files it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import yaml

from controller.arrays import F64
from controller.errors import RunError
from controller.planners.geo.compiled import GeoInstance, GeoPlan, compile_geo, evaluate_geo
from controller.planners.geo.program import GeoProgram
from controller.planners.geo.rivals import plan_greedy, restrictions
from controller.planners.geo.rounding import plan_rounded
from experiments.checks import Check, at_least, at_most, show_checks, write_checks
from experiments.placement.geo_study import EGRESS_PRICES, REAL_PRICES, study_problem
from experiments.placement.random_regions import LEAST_INSTANCES, random_regions
from experiments.placement.table import SHIPPED, VariantTable, read_table, write_table

SINGLE_AXIS = ("model only", "data only")
BETTER_BAR, NONE_BAR = 0.30, 0.50
MEAN_BAR, WORST_BAR = 1.10, 1.30
SECONDS_BAR = 2.0
MODELS_BAR, DATA_BAR = 4, 5
_EQUAL = 1e-9
_SOLVED = 1e-6  # to which linear programs are
_SHIPPED_PRICE = REAL_PRICES["between regions"]
_NORMAL_95 = 1.96


@dataclass(frozen=True)
class PriceRow:
    """Costs in $ per hour at one egress price; None where nothing is feasible.

    Attributes:
        usd_per_gb: Egress price.
        fast: Of the fast planner.
        bound: Of its relaxation.
        exact: Of the mixed-integer program.
        greedy: Of the greedy planner.
        baselines: Of each restriction, by the mixed-integer program.
        kilobytes: Of a request, mean under the fast plan.
        service_ms: Of a request, mean under the fast plan.
        data_shares: Of requests by data version, under the fast plan.
        confirmed: Accuracy on images that no plan has seen, less what is promised, in standard errors; the worst
            region's.
        solve_s: Wall-clock time of the fast planner.
    """

    usd_per_gb: float
    fast: float
    bound: float
    exact: float | None
    greedy: float | None
    baselines: dict[str, float | None]
    kilobytes: float
    service_ms: float
    data_shares: dict[str, float]
    confirmed: float
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
    """Every planner and baseline of the study at one egress price.

    Raises:
        RunError: The study has no plan: the table's variants are too slow or too inaccurate.
    """
    instance = compile_geo(study_problem(table, usd_per_gb))
    rounded = plan_rounded(instance)
    if rounded is None:
        raise RunError(f"the study at {usd_per_gb:g} $/GB: expected a plan, found none")
    exact, greedy = GeoProgram(instance).solve_whole(), plan_greedy(instance)
    served = rounded.plan.served_rps.sum(axis=(0, 1)) / instance.rate_rps.sum()
    size = np.array([v.bytes for v in instance.problem.variants])
    seconds = np.array([v.service_s for v in instance.problem.variants])
    data = np.array([v.data for v in instance.problem.variants])
    return PriceRow(
        usd_per_gb=usd_per_gb,
        fast=rounded.total_usd_per_hour,
        bound=rounded.bound_usd_per_hour,
        exact=None if exact.plan is None else exact.total_usd_per_hour,
        greedy=None if greedy is None else evaluate_geo(instance, greedy).total_usd_per_hour,
        baselines={name: _least(instance, allowed) for name, allowed in restrictions(instance).items()},
        kilobytes=float(served @ size) / 1e3,
        service_ms=float(served @ seconds) * 1e3,
        data_shares={name: float(served[data == name].sum()) for name in table.data},
        confirmed=float(confirmed_accuracy(table, instance, rounded.plan).min()),
        solve_s=rounded.solve_s,
    )


def _least(instance: GeoInstance, allowed: np.ndarray) -> float | None:
    solved = GeoProgram(instance, allowed).solve_whole()
    return None if solved.plan is None else solved.total_usd_per_hour


def measure_roundings(count: int, say: Callable[[str], None]) -> list[RoundingRow]:
    """The fast and the greedy planner against the mixed-integer program on random problems that have a plan."""
    rows: list[RoundingRow] = []
    seed = -1
    while len(rows) < count:
        seed += 1
        instance = compile_geo(random_regions(seed))
        program = GeoProgram(instance)
        relaxed, rounded, exact = program.solve_relaxed(), plan_rounded(instance), program.solve_whole()
        if relaxed is None or rounded is None or exact.plan is None:
            continue
        greedy = plan_greedy(instance)
        by_site = relaxed[1].sum(axis=1)
        least = exact.total_usd_per_hour
        rows.append(
            RoundingRow(
                seed=seed,
                fast=rounded.total_usd_per_hour / least,
                greedy=None if greedy is None else evaluate_geo(instance, greedy).total_usd_per_hour / least,
                proved=rounded.proved_ratio,
                to_relaxation=rounded.ratio,
                gap=exact.gap,
                instances=float(by_site[by_site > _EQUAL].min()),
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
    return Adaptation(table.source, len(table.models), len(table.data), prices, roundings)


def better_single(row: PriceRow) -> float:
    """Cost of the cheaper single-axis baseline; infinite where neither is feasible."""
    return min((cost for name in SINGLE_AXIS if (cost := row.baselines[name]) is not None), default=np.inf)


def savings(rows: Sequence[PriceRow]) -> tuple[F64, F64]:
    """Shares by which the fast planner is below the better single-axis baseline and below none, by price."""
    better = np.array([1.0 - row.fast / better_single(row) for row in rows])
    none = np.array([1.0 - row.fast / cost if (cost := row.baselines["none"]) is not None else 1.0 for row in rows])
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


def checks_of(found: Adaptation) -> list[Check]:
    """Every value beside its bar."""
    better, none = savings(found.prices)
    prices = [row.usd_per_gb for row in found.prices]
    worst = float((1.0 - better).max())
    ratios = np.array([row.fast for row in found.roundings])
    slack = max(row.to_relaxation / row.proved for row in found.roundings)
    slowest = max([row.solve_s for row in found.prices] + [row.solve_s for row in found.roundings])
    return [
        at_least("models measured", found.num_models, MODELS_BAR),
        at_least("data versions measured", found.num_data, DATA_BAR),
        Check(
            "fast planner over the better single-axis baseline, worst over egress prices",
            f"{worst:.6f}",
            "<= 1",
            worst <= 1.0 + _EQUAL,
        ),
        _most("below the better single-axis baseline", better, prices, BETTER_BAR),
        _most("below none adapted", none, prices, NONE_BAR),
        at_least(
            "accuracy on images no plan has seen, over the promise, worst region and price",
            min(row.confirmed for row in found.prices),
            -_NORMAL_95,
            " standard errors",
        ),
        at_least(
            "least instances at a site used, random problems",
            min(row.instances for row in found.roundings) + _SOLVED,
            LEAST_INSTANCES,
        ),
        at_most(
            f"rounding over the program's optimum, mean of {len(ratios)} random problems",
            float(ratios.mean()),
            MEAN_BAR,
        ),
        at_most("rounding over the program's optimum, worst", float(ratios.max()), WORST_BAR),
        at_most("proved gap of the program's optimum, worst", max(row.gap for row in found.roundings), _SOLVED),
        at_most("rounding over the relaxation, as a share of its proved ratio, worst", slack, 1.0),
        Check(
            "seconds of the fast planner, 5 regions x 5 sites x 24 variants, worst",
            f"{slowest:.3f} s",
            f"< {SECONDS_BAR:g} s",
            slowest < SECONDS_BAR,
        ),
    ]


def _most(what: str, shares: F64, prices: Sequence[float], bar: float) -> Check:
    """A saving that must be reached at some egress price."""
    best = int(shares.argmax())
    measured = f"{100 * shares[best]:.1f} % (at {prices[best]:.4g} $/GB)"
    return Check(f"{what}, at some egress price", measured, f">= {100 * bar:g} %", bool(shares[best] >= bar))


def notes_of(found: Adaptation) -> list[str]:
    """What has no bar and belongs beside the values."""
    better, none = savings(found.prices)
    prices = np.array([row.usd_per_gb for row in found.prices])
    notes = [f"variants: {found.source}"]
    for name, price in REAL_PRICES.items():
        near = int(np.abs(np.log(prices / price)).argmin())
        notes.append(
            f"near {price:g} $/GB, EC2's price {name}: {100 * better[near]:.1f} % below the better single-axis "
            f"baseline, {100 * none[near]:.1f} % below none"
        )
    greedy = [row.greedy for row in found.roundings if row.greedy is not None]
    if greedy:
        notes.append(f"greedy over the program's optimum: mean {np.mean(greedy):.3f}, worst {np.max(greedy):.3f}")
    crossed = crossovers(found.prices)
    told = ", ".join(f"{price:.4g} $/GB" for price in crossed) if crossed else "no price of the sweep"
    notes.append(f"model only and data only cost the same at {told}")
    return notes


def run_geo(directory: Path, num_random: int, is_measured: bool, say: Callable[[str], None]) -> bool:
    """Measures, writes tables, figure, config and page, and prints values beside bars; returns whether all hold."""
    if is_measured:
        # torch takes seconds to import, and only training needs it.
        from experiments.placement.data_versions import found_images
        from experiments.placement.measured import measure

        table = measure(found_images(), say)
        say(f"wrote {write_table(table, directory / SHIPPED.name)}")
    else:
        table = read_table()
    found = measure_adaptation(table, num_random, say)
    checks, notes = checks_of(found), notes_of(found)
    write_checks(checks, directory / "checks.json")
    (directory / "results.json").write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")
    problem = study_problem(table, _SHIPPED_PRICE).model_dump(mode="json")
    (directory / "regions.yaml").write_text(yaml.safe_dump(problem, sort_keys=False), encoding="utf-8")
    from experiments.placement.geo_page import write_geo_page

    page = write_geo_page(found, table, checks, notes, directory)
    holds = show_checks("models and data versions over regions", checks)
    for note in notes:
        say(note)
    say(f"written: {page}")
    return holds
