"""What the measurement says: every value beside its bar, and each finding of the paper, reproduced or not and why.

The paper's findings are stated as remembered (no full text was at hand) and carry no numbers of it. Bars are those of
this project. A sentence that explains is only said where the measurement bears it out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import mean

from experiments.checks import Check, at_least, at_most
from experiments.schemes.break_even import MEASURED_MEMORIES
from experiments.schemes.constrained_choice import saving
from experiments.schemes.courses import (
    APPLICATIONS,
    FLAT,
    FLAT_LARGE,
    MACHINES_ONLY,
    NASA,
    SCHEMES,
    TWITTER,
    TWITTER_MODERN,
    WITHOUT_CALM_HEADROOM,
)
from experiments.schemes.lambda_memory import differ
from experiments.schemes.measurement import Measurement

CROSSING_BAR = 0.05
INTERIOR_BAR = 2
PLATEAU_BAR = 2
SAVING_BAR = 0.20
FLAT_BAR = 0.05
RECORDED = (TWITTER.name, NASA.name)
_OVER_PROVISIONING = ("util_aware", "exascale")
_CALM = str(WITHOUT_CALM_HEADROOM.name)


@dataclass(frozen=True)
class Finding:
    """One statement of the paper, and what was measured of it.

    Attributes:
        statement: As we read the paper.
        measured: The values.
        reproduces: Whether they agree.
        why: What explains the values; empty where the measurement explains nothing.
    """

    statement: str
    measured: str
    reproduces: bool
    why: str = ""


def ratio(one: float, other: float) -> float:
    """One over the other; 1 where both are 0, infinite where only the other is."""
    if other > 0.0:
        return one / other
    return math.inf if one > 0.0 else 1.0


def checks_of(found: Measurement) -> Iterator[Check]:
    """Every value that has a bar; where a part was not measured, a check that falls short."""
    if found.is_partial:
        yield Check("the measurement", "interrupted", "complete", holds=False)
        return
    yield from _crossing_checks(found)
    yield from _memory_checks(found)
    for pool in ("iso-latency", "iso-accuracy"):
        asked = [one for one in found.choices if one.pool == pool]
        what = f"{pool} pool: aware choice cheaper than naive, mean over {len(asked)} requests asked"
        yield at_least(what, 100 * saving(asked), 100 * SAVING_BAR, " %")
    for name in RECORDED:
        yield from _scheme_checks(found, name)
    costs = {scheme: found.day(FLAT.name, scheme).cost_usd_per_day for scheme in SCHEMES}
    what = f"flat: dearest scheme over cheapest, of five ({_listed(costs, '{:.2f}')} $/day)"
    yield at_most(what, 100 * (max(costs.values()) / min(costs.values()) - 1), 100 * FLAT_BAR, " %")


def _crossing_checks(found: Measurement) -> Iterator[Check]:
    whole = {one.model for one in found.crossings if one.pool in MEASURED_MEMORIES}
    yield at_least("break-even: models compared at three memory sizes", len(whole), 4)
    for one in found.crossings:
        measured = "at none" if one.measured is None else f"at {100 * one.measured:.4g} %"
        what = (
            f"break-even: {one.model} on {one.pool} crosses {measured} of a machine, law {100 * one.law:.4g} % (warm "
            f"calls alone {100 * one.law_warm:.4g} %), off by"
        )
        yield at_most(what, 100 * abs(one.deviation), 100 * CROSSING_BAR, " %")


def _memory_checks(found: Measurement) -> Iterator[Check]:
    measured = [verdict for verdict in found.memory_verdicts if verdict.sweep == "measured"]
    interior = [f"{v.model} {v.cheapest_mb} MB ({v.why} below)" for v in measured if v.is_interior]
    what = f"memory: models cheapest inside the sweep: {', '.join(interior) or 'none'}"
    yield at_least(what, len(interior), INTERIOR_BAR)
    flat = [f"{v.model} -{100 * v.last_step:.1f} %" for v in measured if v.has_plateau]
    what = f"memory: models whose latency the last step shortens by less than 10 %: {', '.join(flat) or 'none'}"
    yield at_least(what, len(flat), PLATEAU_BAR)


def _scheme_checks(found: Measurement, name: str) -> Iterator[Check]:
    day = {scheme: found.day(name, scheme) for scheme in SCHEMES}
    violated = {scheme: 100 * day[scheme].violations for scheme in SCHEMES}
    shown = f"({_listed(violated, '{:.3f}')} %)"
    worst_other = max(violated[s] for s in SCHEMES if s != "reactive")
    yield at_least(
        f"{name}: violations of reactive over the worst other {shown}",
        ratio(violated["reactive"], worst_other),
        1.0,
        "x",
    )
    least = min(violated[s] for s in MACHINES_ONLY)
    most = max(violated["mixed"], violated["paragon"])
    what = f"{name}: violations, least of the machine-only schemes over most of mixed and paragon"
    yield at_least(what, ratio(least, most), 1.0, "x")
    extra = {scheme: day[scheme].over_provisioning for scheme in SCHEMES}
    least_over = min(extra[s] for s in _OVER_PROVISIONING)
    what = f"{name}: rented over needed, less of util_aware and exascale over reactive ({_listed(extra, '{:.3f}')})"
    yield at_least(what, ratio(least_over, extra["reactive"]), 1.0, "x")
    share = {scheme: 100 * day[scheme].serverless_share for scheme in SCHEMES}
    what = f"{name}: serverless share of paragon over mixed ({_listed(share, '{:.3f}')} %)"
    yield at_most(what, ratio(share["paragon"], share["mixed"]), 1.0, "x")
    cost = {scheme: day[scheme].cost_usd_per_day for scheme in SCHEMES}
    what = f"{name}: cost of paragon over mixed ({_listed(cost, '{:.2f}')} $/day)"
    yield at_most(what, cost["paragon"] / cost["mixed"], 1.0, "x")


def _listed(values: dict[str, float], form: str) -> str:
    return ", ".join(f"{name} {form.format(value)}" for name, value in values.items())


def findings_of(found: Measurement) -> list[Finding]:
    """The paper's statements; none for a measurement that was interrupted."""
    if found.is_partial:
        return []
    parts: tuple[Callable[[Measurement], Finding], ...] = (
        _sporadic,
        _gap_by_size,
        _memory,
        _over_provisioning,
        _fewer_violations_for_money,
        _mixed_is_cheaper,
        _mixed_is_cheaper_today,
        *(_paragon_on(name) for name in RECORDED),
        _flat_is_alike,
    )
    return [part(found) for part in parts]


def _sporadic(found: Measurement) -> Finding:
    old = [c.measured or 0.0 for c in found.crossings if c.pool in MEASURED_MEMORIES]
    new = [c.measured or 0.0 for c in found.crossings if c.pool not in MEASURED_MEMORIES]
    measured = (
        f"serverless is cheaper below {100 * min(old):.1f} to {100 * max(old):.1f} % of one machine with the Lambda of "
        f"2021, below {100 * min(new):.0f} to {100 * max(new):.0f} % with today's"
    )
    return Finding("Serverless wins only at low or sporadic rates", measured, max(old + new) < 0.5)


def _gap_by_size(found: Measurement) -> Finding:
    levels = [one for one in found.levels if one.pool == "lambda-3008" and one.machine_usd_per_hour is not None]
    top = max(one.rate_rps for one in levels)
    at_top = [one for one in levels if one.rate_rps == top]  # in the order of the catalog: by size
    gap = [one.serverless_usd_per_hour - (one.machine_usd_per_hour or 0.0) for one in at_top]
    times = [one.serverless_usd_per_hour / (one.machine_usd_per_hour or 1.0) for one in at_top]
    shown = ", ".join(f"{o.model} {g:.2f} ({r:.0f}x)" for o, g, r in zip(at_top, gap, times, strict=True))
    why = "The gap grows in dollars; as a ratio it falls, for a call's overhead weighs less in a longer run."
    return Finding(
        f"At sustained load machines are cheaper, and the gap grows with the model ({top:g} requests/s, 3008 MB)",
        f"$/h by which serverless is dearer, and times: {shown}",
        all(g > 0 for g in gap) and gap == sorted(gap),
        why if times[-1] < times[0] else "",
    )


def _memory(found: Measurement) -> Finding:
    cheapest = {v.model: v.cheapest_mb for v in found.memory_verdicts if v.sweep == "measured"}
    by_speed = [
        f"for {v.model} ({'beyond' if differ(v.model, v.below_mb, v.cheapest_mb) else 'within'} two standard errors)"
        for v in found.memory_verdicts
        if v.sweep == "measured" and v.is_interior and v.why == "slower" and v.below_mb is not None
    ]
    for_speed = f"only {', '.join(by_speed)}" if by_speed else "for none"
    measured = f"cheapest size in MB: {', '.join(f'{model} {size}' for model, size in cheapest.items())}"
    why = (
        f"Where a model is cheapest inside the sweep, the size below mostly does not hold it; a size that does is "
        f"dearer {for_speed}. CPU share grows in proportion to memory and so does the price, so speed alone leaves the "
        "cost flat until the plateau."
    )
    return Finding("The cheapest memory depends on the model", measured, len(set(cheapest.values())) > 1, why)


def _over_provisioning(found: Measurement) -> Finding:
    over = {
        name: {s: found.day(name, s).over_provisioning for s in ("reactive", *_OVER_PROVISIONING)}
        for name in (*RECORDED, FLAT.name)
    }
    measured = "; ".join(f"{name}: {_listed(values, '{:.2f}')}" for name, values in over.items())
    holds = all(min(over[n][s] for s in _OVER_PROVISIONING) > over[n]["reactive"] for n in RECORDED)
    return Finding(
        "Schemes that over-provision hold more machines than reactive, least so on a flat trace", measured, holds
    )


def _fewer_violations_for_money(found: Measurement) -> Finding:
    told, holds = [], True
    for name in RECORDED:
        reactive = found.day(name, "reactive")
        for scheme in _OVER_PROVISIONING:
            day = found.day(name, scheme)
            told.append(
                f"{scheme} on {name}: violations x {ratio(day.violations, reactive.violations):.2f}, "
                f"cost x {day.cost_usd_per_day / reactive.cost_usd_per_day:.2f}"
            )
            holds &= day.violations < reactive.violations and day.cost_usd_per_day > reactive.cost_usd_per_day
    return Finding("They buy fewer violations with higher cost", "; ".join(told), holds)


def _mixed_is_cheaper(found: Measurement) -> Finding:
    told, holds = [], True
    for name in RECORDED:
        mixed, others = found.day(name, "mixed"), [found.day(name, s) for s in _OVER_PROVISIONING]
        dearest = min(day.cost_usd_per_day for day in others)
        told.append(f"{name}: {mixed.cost_usd_per_day:.2f} against {dearest:.2f} $/day or more")
        holds &= mixed.cost_usd_per_day < dearest and mixed.violations < min(day.violations for day in others)
    dearer = mean(
        1 / c.law_warm for c in found.crossings if c.pool == "lambda-3008" and c.model in ("resnet50", "resnet101")
    )
    why = (
        f"A warm call to the Lambda of 2021 costs {dearer:.0f} times a busy machine's share, for its overhead is "
        "billed; where bursts are tall and frequent the calls outweigh the machines saved."
    )
    statement = "Mixed has few violations at lower cost than over-provisioning"
    return Finding(statement, "; ".join(told), holds, "" if holds else why)


def _mixed_is_cheaper_today(found: Measurement) -> Finding:
    name = TWITTER_MODERN.name
    cost = {s: found.day(name, s).cost_usd_per_day for s in SCHEMES}
    violated = {s: 100 * found.day(name, s).violations for s in SCHEMES}
    least = min(cost[s] for s in _OVER_PROVISIONING)
    measured = f"{_listed(cost, '{:.2f}')} $/day; violations {_listed(violated, '{:.3f}')} %"
    modern = next(c for c in found.crossings if c.pool not in MEASURED_MEMORIES and c.model == APPLICATIONS["strict"])
    cold_usd = (modern.invocation_usd - modern.warm_usd) / modern.cold_share if modern.cold_share else 0.0
    why = (
        f"A warm call costs {1 / modern.law_warm:.1f} times a busy machine's share, but "
        f"{100 * found.day(name, 'mixed').cold_share:.0f} % of the calls start cold and each of these costs "
        f"{1 + cold_usd / modern.warm_usd:.0f} times a warm one: a burst is the worst moment for it. "
        f"Exascale is cheaper at {ratio(violated['exascale'], violated['mixed']):.0f} times the violations."
    )
    holds = cost["mixed"] < least
    return Finding("The same with today's Lambda, on Twitter", measured, holds, "" if holds else why)


def _paragon_on(name: str) -> Callable[[Measurement], Finding]:
    def finding(found: Measurement) -> Finding:
        mixed, paragon, calm = (found.day(name, s) for s in ("mixed", "paragon", _CALM))
        machines = paragon.machine_usd_per_day - mixed.machine_usd_per_day
        calls = paragon.serverless_usd_per_day - mixed.serverless_usd_per_day
        measured = (
            f"{paragon.cost_usd_per_day:.2f} against {mixed.cost_usd_per_day:.2f} $/day (machines {machines:+.2f}, "
            f"calls {calls:+.2f}); violations {100 * paragon.violations:.3f} against {100 * mixed.violations:.3f} %"
        )
        holds = paragon.cost_usd_per_day <= mixed.cost_usd_per_day
        why = (
            f"While load is calm paragon holds its calm_headroom more machines than mixed; without it it would cost "
            f"{calm.cost_usd_per_day:.2f} $/day. The paper states no such number: it is our reading of machines in "
            "place of serverless under calm load."
        )
        return Finding(
            f"Paragon costs less than mixed at like violations, on {name}", measured, holds, "" if holds else why
        )

    return finding


def _flat_is_alike(found: Measurement) -> Finding:
    told, spread = [], []
    for name in (FLAT.name, FLAT_LARGE.name):
        costs = [found.day(name, scheme).cost_usd_per_day for scheme in SCHEMES]
        spread.append(max(costs) / min(costs) - 1)
        told.append(f"{name}: {100 * spread[-1]:.1f} % between dearest and cheapest")
    large = [found.day(FLAT_LARGE.name, scheme).over_provisioning for scheme in SCHEMES]
    why = (
        "With a few machines per class their whole number hides that the schemes' published headrooms differ; with ten "
        f"times as many machines it shows ({min(large):.2f} to {max(large):.2f} of what is needed)."
    )
    return Finding(
        "On a flat trace the schemes cost alike",
        "; ".join(told),
        max(spread) <= FLAT_BAR,
        why if spread[1] > spread[0] else "",
    )
