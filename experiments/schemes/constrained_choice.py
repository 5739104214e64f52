"""A model and a resource chosen by what is asked, against a choice that knows only half of it.

The paper's two pools: *iso-latency*, all models that keep one latency bound, asked for several accuracies; and
*iso-accuracy*, all models above one accuracy, asked for several latencies. The aware choice takes the cheapest option
(model on a kind of machine, or serverless) that meets both. The naive ones know the pool's bound alone:

- iso-latency: always the most accurate model of the pool, on its cheapest resource, whatever accuracy is asked;
- iso-accuracy: always the option with the shortest idle latency, whatever latency is asked.

What an option costs is simulated: the fewest machines that answer 99 % of a constant load within the latency asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from controller.arrays import SERVERLESS
from controller.catalog import Catalog, Market
from controller.catalog_changes import CatalogChanges
from experiments.schemes.constant_load import ATTAINMENT, Load, constant_setting, measure, smallest_fleets

RATE_RPS = 50.0
"""As in the default scenario."""

LATENCY_BOUND_S = 1.5
"""Of the iso-latency pool: what the default scenario promises its strict class."""

ACCURACY_BOUND = 0.80
"""Of the iso-accuracy pool: ResNet-50 and better."""

LATENCIES_S = (0.25, 0.5, 1.5, 5.0, 20.0)
ACCURACIES = (0.70, 0.75, 0.80, 0.815, 0.85)
"""Between the models' own, so that each asks for another one."""

GPU_ROOM = 64
"""The default catalog allows one GPU; what is compared is price, not an account's limit."""


@dataclass(frozen=True)
class Priced:
    """One option under one latency bound.

    Attributes:
        model, pool: Names.
        accuracy: Of the model.
        idle_s: Latency when nothing waits, network included.
        latency_s: Bound.
        machines: Fewest that meet the attainment; 0 for serverless.
        usd_per_million: Rent or charges per million requests.
    """

    model: str
    pool: str
    accuracy: float
    idle_s: float
    latency_s: float
    machines: int
    usd_per_million: float


@dataclass(frozen=True)
class Asked:
    """One request for an accuracy within a latency, and what the two choices cost.

    Attributes:
        pool: `iso-latency` or `iso-accuracy`.
        accuracy, latency_s: What is asked.
        aware, naive: The options chosen.
        typical_usd: Mean cost of all options that meet both, a choice that knows the bounds but no price.
    """

    pool: str
    accuracy: float
    latency_s: float
    aware: Priced
    naive: Priced
    typical_usd: float

    @property
    def saving(self) -> float:
        """Share by which the aware choice is cheaper than the naive one."""
        return 1.0 - self.aware.usd_per_million / self.naive.usd_per_million


def cheapest(options: Iterable[Priced], accuracy: float) -> Priced | None:
    """The cheapest option of at least an accuracy, the more accurate of equals; None where there is none."""
    fit = [option for option in options if option.accuracy >= accuracy]
    # Sums of equal rents differ in the last bits.
    return min(fit, key=lambda option: (round(option.usd_per_million, 6), -option.accuracy)) if fit else None


def most_accurate(options: Sequence[Priced]) -> Priced:
    """The most accurate model on its cheapest resource."""
    return min(options, key=lambda option: (-option.accuracy, option.usd_per_million))


def fastest(options: Sequence[Priced]) -> Priced:
    """The option with the shortest idle latency, the cheaper one of equals."""
    return min(options, key=lambda option: (option.idle_s, option.usd_per_million))


def iso_latency(options: Sequence[Priced], latency_s: float, accuracies: Sequence[float]) -> list[Asked]:
    """The aware and the naive choice for every accuracy asked within one latency bound; impossible ones are left out.

    Args:
        options: All that meet the attainment, at any bound.
        latency_s: Bound of the pool.
        accuracies: Asked.
    """
    pool = [option for option in options if option.latency_s == latency_s]
    found = []
    for accuracy in accuracies:
        aware = cheapest(pool, accuracy)
        if aware is not None:
            typical = mean(option.usd_per_million for option in pool if option.accuracy >= accuracy)
            found.append(Asked("iso-latency", accuracy, latency_s, aware, most_accurate(pool), typical))
    return found


def iso_accuracy(options: Sequence[Priced], accuracy: float, latencies_s: Sequence[float]) -> list[Asked]:
    """The aware and the naive choice for every latency asked above one accuracy; impossible ones are left out.

    The naive option is one and the same for all latencies; it is priced under each, for with more time to wait fewer
    machines do.

    Args:
        options: All that meet the attainment, at any bound.
        accuracy: Bound of the pool.
        latencies_s: Asked.
    """
    able = [option for option in options if option.accuracy >= accuracy]
    found = []
    for latency_s in latencies_s:
        pool = [option for option in able if option.latency_s == latency_s]
        if not pool:
            continue
        aware = cheapest(pool, accuracy)
        assert aware is not None
        found.append(
            Asked(
                "iso-accuracy",
                accuracy,
                latency_s,
                aware,
                fastest(pool),
                mean(option.usd_per_million for option in pool),
            )
        )
    return found


def saving(asked: Sequence[Asked]) -> float:
    """Share by which the aware choices are cheaper than the naive ones, all requests asked for equally often."""
    aware = sum(one.aware.usd_per_million for one in asked)
    return 1.0 - aware / sum(one.naive.usd_per_million for one in asked)


def priced_options(
    catalog: Catalog, latencies_s: Sequence[float], hours: float, say: Callable[[str], None]
) -> list[Priced]:
    """Every option without spot under every bound that it can keep.

    Args:
        catalog: Whose on-demand and serverless pools are offered.
        latencies_s: Bounds.
        hours: Length of each run.
        say: Told what is done.
    """
    spot = tuple(pool.name for pool in catalog.pools if pool.market is Market.SPOT)
    gpus = {p.name: GPU_ROOM for p in catalog.pools if p.accelerator and p.market is Market.ON_DEMAND}
    offered = CatalogChanges(without=spot, quota=gpus).applied_to(catalog)
    found: list[Priced] = []
    for latency_s in latencies_s:
        setting = constant_setting(offered, latency_s)
        market, allowed = setting.catalog.market, setting.workload.allowed[0]
        machines = [(int(v), int(p)) for v, p in np.argwhere(allowed) if market[p] != SERVERLESS]
        calls = [(int(v), int(p)) for v, p in np.argwhere(allowed) if market[p] == SERVERLESS]
        what = f"options within {latency_s:g} s"
        fleets = smallest_fleets(setting, [(RATE_RPS, v, p) for v, p in machines], hours, None, say, what)
        outcomes = measure(setting, [Load(RATE_RPS, v, p) for v, p in calls], hours, say=say, what=f"{what}, calls")
        kept = [(at, *fleet) for at, fleet in zip(machines, fleets, strict=True) if fleet is not None]
        kept += [(at, 0, o) for at, o in zip(calls, outcomes, strict=True) if o.attainment >= ATTAINMENT]
        for (v, p), count, outcome in kept:
            idle_s = float(setting.catalog.service_s[v, p, 1] + setting.workload.network_s[0, v, p])
            found.append(
                Priced(
                    model=setting.variant_names[v],
                    pool=setting.pool_names[p],
                    accuracy=float(setting.catalog.accuracy[v]),
                    idle_s=idle_s,
                    latency_s=latency_s,
                    machines=count,
                    usd_per_million=outcome.usd_per_million,
                )
            )
    return found
