"""Many result rows as one line per policy: means over days with their spread, and differences in pairs.

A day's value is its mean over seeds; means and standard deviations are then taken over days, because seeds of one day
share its load and say little about another day. The difference to the reference is taken day by day first, so what the
days have in common cancels; its interval is mean +- t(0.975, days - 1) * standard error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from experiments.redundancy_shares import BY_COLLAGE, EXTRA, MODES
from experiments.results import ResultRow

if TYPE_CHECKING:
    from rich.table import Table

# Two-sided 95 % points of Student's t by degrees of freedom; beyond the table the normal point.
_T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
_Z_975 = 1.960


@dataclass(frozen=True)
class Spread:
    """Mean over days and standard deviation between days; None where there is one day only."""

    mean: float
    deviation: float | None


@dataclass(frozen=True)
class SummaryLine:
    """One policy on one scenario."""

    scenario: str
    policy: str
    days: int
    seeds: int
    cost_usd: Spread
    attainment: Spread
    accuracy: Spread | None
    floor_breaches: int  # over all days and seeds
    shed_share: float
    flaps_per_hour: float
    preemptions: float
    rule_share: float
    decide_ms_p99: float | None  # the largest of all rows
    cost_difference: Spread | None  # to the reference, relative to its mean cost; deviation holds the interval's half
    attainment_difference: Spread | None  # to the reference; likewise


def summarise(rows: Sequence[ResultRow], reference: str | None = None) -> list[SummaryLine]:
    """Lines in the order in which scenarios and policies first appear.

    Args:
        rows: Results; within a scenario each policy may cover other days, pairs are formed where both have the day.
        reference: Policy that differences are taken to; None: the first of each scenario.
    """
    lines = []
    for scenario in dict.fromkeys(row.scenario for row in rows):
        of_scenario = [row for row in rows if row.scenario == scenario]
        policies = list(dict.fromkeys(row.policy for row in of_scenario))
        base_name = reference if reference in policies else policies[0]
        base = [row for row in of_scenario if row.policy == base_name]
        for policy in policies:
            own = [row for row in of_scenario if row.policy == policy]
            lines.append(_line(scenario, policy, own, None if policy == base_name else base))
    return lines


def _line(scenario: str, policy: str, rows: list[ResultRow], base: list[ResultRow] | None) -> SummaryLine:
    requests = sum(row.requests for row in rows)
    timings = [row.decide_ms_p99 for row in rows if row.decide_ms_p99 is not None]
    cost_difference = attainment_difference = None
    if base is not None:
        base_cost = _mean([row.cost_usd for row in base])
        difference = paired_difference(rows, base, lambda row: row.cost_usd)
        if difference is not None and base_cost > 0:
            half = None if difference.deviation is None else difference.deviation / base_cost
            cost_difference = Spread(difference.mean / base_cost, half)
        attainment_difference = paired_difference(rows, base, lambda row: row.attainment)
    return SummaryLine(
        scenario=scenario,
        policy=policy,
        days=len({row.day for row in rows}),
        seeds=len({row.seed for row in rows}),
        cost_usd=_spread(rows, lambda row: row.cost_usd),
        attainment=_spread(rows, lambda row: row.attainment),
        accuracy=_accuracy(rows),
        floor_breaches=sum(row.floor_breaches for row in rows),
        shed_share=sum(row.shed for row in rows) / requests if requests else 0.0,
        flaps_per_hour=_mean([row.flaps_per_hour for row in rows]),
        preemptions=_mean([row.preemptions for row in rows]),
        rule_share=_mean([row.rule_share for row in rows]),
        decide_ms_p99=max(timings) if timings else None,
        cost_difference=cost_difference,
        attainment_difference=attainment_difference,
    )


def paired_difference(
    rows: Sequence[ResultRow], base: Sequence[ResultRow], value: Callable[[ResultRow], float]
) -> Spread | None:
    """Mean over days of value(row) - value(base row), paired by day and seed, and half of its 95 % interval.

    Returns:
        None where no day and seed is in both; the half is None where there is one day only.
    """
    other = {(row.day, row.seed): value(row) for row in base}
    by_day: dict[int, list[float]] = {}
    for row in rows:
        if (row.day, row.seed) in other:
            by_day.setdefault(row.day, []).append(value(row) - other[row.day, row.seed])
    if not by_day:
        return None
    days = [_mean(values) for values in by_day.values()]
    spread = _deviation(days)
    if spread is None:
        return Spread(_mean(days), None)
    degrees = len(days) - 1
    t = _T_975[degrees - 1] if degrees <= len(_T_975) else _Z_975
    return Spread(_mean(days), t * spread / math.sqrt(len(days)))


def _spread(rows: Sequence[ResultRow], value: Callable[[ResultRow], float]) -> Spread:
    by_day: dict[int, list[float]] = {}
    for row in rows:
        by_day.setdefault(row.day, []).append(value(row))
    days = [_mean(values) for values in by_day.values()]
    return Spread(_mean(days), _deviation(days))


def _accuracy(rows: Sequence[ResultRow]) -> Spread | None:
    answered = [row for row in rows if row.accuracy is not None]
    return _spread(answered, lambda row: row.accuracy or 0.0) if answered else None


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _deviation(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    mean = _mean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def summary_cells(line: SummaryLine) -> dict[str, str]:
    """Column title to text, as the terminal's table and the report show it."""
    timing = line.decide_ms_p99
    return {
        "policy": line.policy,
        "cost $": _plus_minus(line.cost_usd, "{:.2f}"),
        "vs reference": _signed(line.cost_difference, 100, "{:+.1f}", " %"),
        "attainment %": _plus_minus(line.attainment, "{:.2f}", 100),
        "vs reference, points": _signed(line.attainment_difference, 100, "{:+.2f}", ""),
        "accuracy %": "-" if line.accuracy is None else _plus_minus(line.accuracy, "{:.2f}", 100),
        "floors missed": str(line.floor_breaches),
        "shed %": f"{100 * line.shed_share:.2f}",
        "flaps/h": f"{line.flaps_per_hour:.1f}",
        "preempted": f"{line.preemptions:.1f}",
        "rule %": f"{100 * line.rule_share:.1f}",
        "decide ms p99": "-" if timing is None else f"{timing:.3f}",
    }


def _plus_minus(spread: Spread, form: str, factor: float = 1.0) -> str:
    text = form.format(factor * spread.mean)
    return text if spread.deviation is None else f"{text} ± {form.format(factor * spread.deviation)}"


def _signed(spread: Spread | None, factor: float, form: str, unit: str) -> str:
    if spread is None:
        return "-"
    text = form.format(factor * spread.mean)
    if spread.deviation is None:
        return f"{text}{unit}"
    return f"{text} ± {form.replace('+', '').format(factor * spread.deviation)}{unit}"


def summary_table(lines: Sequence[SummaryLine], title: str) -> Table:
    """The lines of one scenario as a table for the terminal."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold")
    for index, line in enumerate(lines):
        cells = summary_cells(line)
        if index == 0:
            for name in cells:
                table.add_column(name, justify="left" if name == "policy" else "right")
        table.add_row(*cells.values())
    return table


def solver_lines(rows: Sequence[ResultRow]) -> list[str]:
    """What the programs of each policy that solves some came to, in words."""
    lines = []
    for policy in dict.fromkeys(row.policy for row in rows):
        counts: dict[str, int] = {}
        for row in rows:
            for name, count in (row.solver or {}).items() if row.policy == policy else ():
                counts[name] = counts.get(name, 0) + count
        if counts:
            lines.append(
                f"{policy}: {counts['solves']:,} programs solved, {counts['limit_hits']:,} of them ended by the time "
                f"limit ({counts['rounded']:,} then rounded up from the relaxation), {counts['infeasible']:,} without "
                f"a solution, {counts['failed']:,} failed"
            )
    return lines


def redundancy_lines(rows: Sequence[ResultRow]) -> list[str]:
    """What the redundancy of each policy that had some came to, in words; days count alike."""
    lines = []
    for policy in dict.fromkeys(row.policy for row in rows):
        found = [row.redundancy or {"none": 1.0} for row in rows if row.policy == policy]
        if all(one == {"none": 1.0} for one in found):
            continue
        mean = {name: sum(one.get(name, 0.0) for one in found) / len(found) for name in (*MODES, EXTRA, BY_COLLAGE)}
        shares = ", ".join(f"{name} {mean[name]:.1%}" for name in MODES if mean[name] > 0.0)
        lines.append(
            f"{policy}: redundancy by share of requests: {shares}; {mean[EXTRA]:.3f} more copies and passes for each "
            f"request; {mean[BY_COLLAGE]:.2%} of the answers from a collage"
        )
    return lines
