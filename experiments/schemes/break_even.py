"""A machine by the hour against calls by the request: where their costs cross, and the law that says where.

Law: serverless is cheaper while a machine's busy share is below u* = price / (3600 mu c), with mu the requests/s of a
busy machine and c what an invocation costs. A machine costs the same busy or idle and calls cost in proportion, so
costs simulated at several rates cross once; the crossing is interpolated between two of them and compared with u*.

c counts what the bill counts: memory x warm duration rounded up, the fee per request and the expected share of a cold
start. How many calls start cold is no figure of the catalog: it is measured under another seed than the costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from controller.bill import serverless_usd
from controller.catalog import Catalog
from controller.catalog_changes import CatalogChanges
from controller.compile import Setting
from experiments.schemes.constant_load import Load, Outcome, constant_setting, full_rps, measure, smallest_fleets

MACHINE = "c5-large"
MEASURED_MEMORIES = ("lambda-1769", "lambda-3008", "lambda-10240")
"""The three memory sizes of the Lambda that the paper's authors measured (2021, with its overhead)."""

MODERN = "lambda-modern-3008"
SLO_S = 5.0
"""Every model keeps it on a machine and on a warm environment, so what is compared is money."""

UTILISATIONS = tuple(np.geomspace(0.002, 0.9, 18).tolist())
LEVELS_RPS = (0.1, 1.0, 5.0, 10.0, 20.0, 50.0)
_COST_SEED, _COLD_SEED = 0, 1


@dataclass(frozen=True)
class Crossing:
    """Where one model on one machine costs as much as on one serverless pool.

    Attributes:
        model, pool: Names.
        memory_gb: Of the pool.
        machine_rps: mu.
        warm_usd: Of a warm invocation.
        cold_share: Calls that start cold near the crossing, under the other seed.
        invocation_usd: c, with that share of cold starts.
        law: u*.
        law_warm: u* of warm invocations alone.
        measured: Busy share of the machine at which the simulated costs cross; None where they do not.
    """

    model: str
    pool: str
    memory_gb: float
    machine_rps: float
    warm_usd: float
    cold_share: float
    invocation_usd: float
    law: float
    law_warm: float
    measured: float | None

    @property
    def deviation(self) -> float:
        """Relative distance of the measured crossing from the law; infinite where there is none."""
        return math.inf if self.measured is None else self.measured / self.law - 1.0

    @property
    def deviation_warm(self) -> float:
        """The same from the law without cold starts."""
        return math.inf if self.measured is None else self.measured / self.law_warm - 1.0


@dataclass(frozen=True)
class Level:
    """One model at one constant rate: machines against serverless.

    Attributes:
        model, pool: Names.
        rate_rps: Requests/s.
        machines: Fewest machines that meet the attainment; None where none tried does.
        machine_usd_per_hour: Their rent.
        serverless_usd_per_hour: Charges of calls.
        serverless_attainment: Share of calls in time; cold starts and refusals miss.
    """

    model: str
    pool: str
    rate_rps: float
    machines: int | None
    machine_usd_per_hour: float | None
    serverless_usd_per_hour: float
    serverless_attainment: float


def break_even(price_usd_per_hour: float, machine_rps: float, invocation_usd: float) -> float:
    """Busy share of a machine below which serverless is cheaper.

    Args:
        price_usd_per_hour: Of one machine.
        machine_rps: Requests/s of one always busy machine, > 0.
        invocation_usd: Of one serverless call, > 0.
    """
    return price_usd_per_hour / (3600.0 * machine_rps * invocation_usd)


def crossing(at: Sequence[float], rising: Sequence[float], flat: Sequence[float]) -> float | None:
    """Where one cost overtakes another, linear between the first two points around it.

    Args:
        at: Points in rising order.
        rising: Cost that starts below.
        flat: Cost that starts above.

    Returns:
        The point; None where the first cost does not start below or never overtakes.
    """
    gap = [a - b for a, b in zip(rising, flat, strict=True)]
    if not gap or gap[0] >= 0.0:
        return None
    for i in range(1, len(gap)):
        if gap[i] >= 0.0:
            return at[i - 1] + (at[i] - at[i - 1]) * -gap[i - 1] / (gap[i] - gap[i - 1])
    return None


def warm_invocation_usd(setting: Setting, variant: int, pool: int) -> float:
    """Charge of one call of mean duration on an environment that is warm."""
    cat = setting.catalog
    return serverless_usd(
        float(cat.service_s[variant, pool, 1]),
        float(cat.billing_step_s[pool]),
        float(cat.memory_gb[pool]),
        float(cat.usd_per_gb_s[pool]),
        float(cat.usd_per_request[pool]),
    )


def cold_extra_usd(setting: Setting, variant: int, pool: int) -> float:
    """Charge of a mean cold start on top of its call."""
    cat = setting.catalog
    return float(cat.cold_start_s[variant, pool] * cat.memory_gb[pool] * cat.usd_per_gb_s[pool])


def comparison_setting(catalog: Catalog, machine: str, serverless: Sequence[str]) -> Setting:
    """The catalog with one machine pool and some serverless pools alone."""
    kept = {machine, *serverless}
    without = tuple(pool.name for pool in catalog.pools if pool.name not in kept)
    return constant_setting(CatalogChanges(without=without).applied_to(catalog), SLO_S)


def options(setting: Setting) -> list[tuple[int, int]]:
    """(variant, pool) of every serverless option, models first."""
    allowed = setting.workload.allowed[0]
    machine = machine_row(setting)
    return [(int(v), int(p)) for v, p in np.argwhere(allowed) if p != machine and allowed[v, machine]]


def machine_row(setting: Setting) -> int:
    """Row of the only machine pool."""
    return int(np.flatnonzero(setting.catalog.price_usd_per_s > 0)[0])


def crossings(setting: Setting, hours: float, say: Callable[[str], None]) -> list[Crossing]:
    """Simulates every model on one machine and on every serverless pool over rates, and finds where costs cross."""
    machine = machine_row(setting)
    pairs = options(setting)
    models = sorted({v for v, _ in pairs})
    rps = {v: full_rps(setting, v, machine) for v in models}
    loads = [Load(u * rps[v], v, machine, 1) for v in models for u in UTILISATIONS]
    loads += [Load(u * rps[v], v, p) for v, p in pairs for u in UTILISATIONS]
    outcomes = iter(measure(setting, loads, hours, _COST_SEED, say, "costs over rates"))
    rented = {v: [next(outcomes) for _ in UTILISATIONS] for v in models}
    called = {pair: [next(outcomes) for _ in UTILISATIONS] for pair in pairs}
    price = float(setting.catalog.price_usd_per_s[machine]) * 3600.0
    warm = {pair: warm_invocation_usd(setting, *pair) for pair in pairs}
    near = [min(0.9, break_even(price, rps[v], warm[v, p])) * rps[v] for v, p in pairs]
    again = [Load(rate, v, p) for rate, (v, p) in zip(near, pairs, strict=True)]
    cold = measure(setting, again, hours, _COLD_SEED, say, "cold starts under another seed")
    found = []
    for (v, p), outcome in zip(pairs, cold, strict=True):
        share = outcome.cold_starts / outcome.requests if outcome.requests else 0.0
        whole = warm[v, p] + share * cold_extra_usd(setting, v, p)
        found.append(
            Crossing(
                model=setting.variant_names[v],
                pool=setting.pool_names[p],
                memory_gb=float(setting.catalog.memory_gb[p]),
                machine_rps=rps[v],
                warm_usd=warm[v, p],
                cold_share=share,
                invocation_usd=whole,
                law=break_even(price, rps[v], whole),
                law_warm=break_even(price, rps[v], warm[v, p]),
                measured=_measured(rented[v], called[v, p]),
            )
        )
    return found


def _measured(rented: Sequence[Outcome], called: Sequence[Outcome]) -> float | None:
    at = [outcome.busy_share for outcome in rented]
    return crossing(at, [outcome.usd for outcome in called], [outcome.usd for outcome in rented])


def levels(setting: Setting, hours: float, say: Callable[[str], None]) -> list[Level]:
    """Fewest machines against serverless for every model at every rate of `LEVELS_RPS`."""
    machine = machine_row(setting)
    pairs = options(setting)
    models = sorted({v for v, _ in pairs})
    asked = [(rate, v, machine) for v in models for rate in LEVELS_RPS]
    fleets = dict(zip(asked, smallest_fleets(setting, asked, hours, say=say, what="fleets by rate"), strict=True))
    calls = [Load(rate, v, p) for v, p in pairs for rate in LEVELS_RPS]
    called = measure(setting, calls, hours, _COST_SEED, say, "serverless by rate")
    found = []
    for load, outcome in zip(calls, called, strict=True):
        fleet = fleets[load.rate_rps, load.variant, machine]
        found.append(
            Level(
                model=setting.variant_names[load.variant],
                pool=setting.pool_names[load.pool],
                rate_rps=load.rate_rps,
                machines=None if fleet is None else fleet[0],
                machine_usd_per_hour=None if fleet is None else fleet[1].usd * 3600.0 / fleet[1].span_s,
                serverless_usd_per_hour=outcome.usd * 3600.0 / outcome.span_s,
                serverless_attainment=outcome.attainment,
            )
        )
    return found
