"""Variations of a scenario: other prices, delays, quotas, models, classes and rates, for policies that serve any.

A generalist is trained in many of them at once. Every draw is a scenario like any other, checked: each class can be
served, and the machines there are suffice for a multiple of the mean rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from controller.arrays import SERVERLESS
from controller.batching import capacity_rps, largest_batches
from controller.catalog import Catalog, Market
from controller.catalog_changes import CatalogChanges
from controller.compile import Setting, compile_scenario
from controller.errors import ProvisorError, ScenarioError
from controller.linear_program import Program
from controller.scenario import Scenario
from controller.workload import RequestClass
from envs.world import World

_TRIES = 200
_PEAK = 3.0
"""Machines must suffice for this many times the mean rate."""

_FEWEST = 5.0
"""And as many machines be needed for it: of two or three there is little to choose."""

_BATCH_SLACK = 0.5

_SLO_S = {"strict": (0.6, 3.0), "relaxed": (5.0, 40.0)}
_RPS = (15.0, 150.0)


def vary(scenario: Scenario, seed: int, index: int) -> Scenario:
    """A variation of a scenario; equal arguments give equal ones.

    Args:
        scenario: Gives catalog, market, control and the kind of requests.
        seed: Of the draws.
        index: Number of the variation.

    Raises:
        ScenarioError: None of many draws could be served, so the scenario is no base for variations.
    """
    rng = np.random.default_rng([seed, index, 0x7A21])
    catalog = scenario.load_catalog()
    for _ in range(_TRIES):
        drawn = _drawn(scenario, catalog, rng, f"{scenario.name}.v{index}")
        try:
            setting = compile_scenario(drawn)
        except ProvisorError:
            continue
        if _suffices(setting):
            return drawn
    raise ScenarioError(
        f"{scenario.name}: expected a scenario that can be varied, and none of {_TRIES} draws can be served"
    )


def varied_world(world: World, seed: int, index: int) -> World:
    """The world of a variation of a world's scenario, on the same traces and days.

    Args:
        world: Plain or joint.
        seed: As for `vary`.
        index: As for `vary`.
    """
    base = world.setting
    setting = compile_scenario(vary(base.scenario, seed, index))
    factor = setting.scenario.mean_rps / base.scenario.mean_rps
    rows = [base.zones.index(zone) for zone in setting.zones]
    return replace(
        world,
        setting=setting,
        scale=world.scale * factor,
        rate_rps=world.rate_rps * factor,
        spot_share=np.ascontiguousarray(world.spot_share[rows]),
    )


def _drawn(scenario: Scenario, catalog: Catalog, rng: np.random.Generator, name: str) -> Scenario:
    changes = _changes(catalog, rng)
    left = [v.accuracy.value for v in catalog.variants if v.name not in changes.without]
    classes = _classes(scenario.workload.classes[0], sorted(left), rng)
    return scenario.model_copy(
        update={
            "name": name,
            "changes": changes,
            "workload": scenario.workload.model_copy(update={"classes": classes}),
            "mean_rps": _between(rng, *_RPS),
        }
    )


def _changes(catalog: Catalog, rng: np.random.Generator) -> CatalogChanges:
    variants, pools = [v.name for v in catalog.variants], list(catalog.pools)
    without = [name for name in variants if rng.random() < 0.2][: max(0, len(variants) - 3)]
    for market, dropped in ((Market.ON_DEMAND, 0.3), (Market.SPOT, 0.3), (Market.SERVERLESS, 0.3)):
        names = [pool.name for pool in pools if pool.market is market]
        gone = [one for one in names if rng.random() < dropped]
        if len(gone) == len(names) and (market is not Market.SERVERLESS or rng.random() < 0.8):
            gone = gone[1:]
        without += gone
    return CatalogChanges(
        price_factor={
            Market.SPOT: _between(rng, 0.65, 1.6),
            Market.SERVERLESS: _between(rng, 0.4, 2.0),
        },
        launch_factor=_between(rng, 0.5, 2.5),
        load_factor=_between(rng, 0.5, 3.0),
        service_factor={name: _between(rng, 0.8, 1.25) for name in variants},
        quota={pool.name: _quota(pool.quota, pool.accelerator is not None, rng) for pool in pools},
        notice_s=float(rng.choice([30.0, 120.0])),
        without=tuple(without),
    )


def _quota(quota: int, is_gpu: bool, rng: np.random.Generator) -> int:
    return int(rng.integers(0, 17)) if is_gpu else math.ceil(quota * _between(rng, 0.7, 2.0))


def _classes(like: RequestClass, accuracies: Sequence[float], rng: np.random.Generator) -> tuple[RequestClass, ...]:
    """One to four classes with floors between the least and the most accurate variant."""
    shares = rng.dirichlet(np.full(int(rng.integers(1, 5)), 4.0))
    shares = np.round(shares, 4)
    shares[-1] = round(1.0 - shares[:-1].sum(), 4)
    found = []
    for index, share in enumerate(shares):
        kind = "strict" if rng.random() < 0.5 else "relaxed"
        part = rng.uniform(0.1, 0.9)
        at = part * (len(accuracies) - 1)
        floor = float(np.interp(at, np.arange(len(accuracies)), accuracies))
        found.append(
            like.model_copy(
                update={
                    "name": f"{kind}-{index}",
                    "share": float(share),
                    "slo_s": _between(rng, *_SLO_S[kind]),
                    "accuracy_floor": round(floor, 4),
                    "attainment_target": float(rng.choice([0.98, 0.99, 0.995])),
                    "floor": "mean" if rng.random() < 0.85 else "each",
                    "queue_limit": 500 if kind == "strict" else 2000,
                }
            )
        )
    return tuple(found)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """A number whose logarithm is uniform, with four digits."""
    return float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.4g}")


def _suffices(setting: Setting) -> bool:
    """Whether machines within the quotas serve `_PEAK` times the mean rate as accurately as promised, and how many do.

    A linear program for the cheapest such fleet, so that what is drawn depends on no policy.
    """
    cat, wl = setting.catalog, setting.workload
    rps = capacity_rps(cat, largest_batches(cat, wl, _BATCH_SLACK))
    klass, variant, pool = np.nonzero(wl.allowed & ((rps > 0.0) & (cat.market != SERVERLESS))[None])
    machines = 1.0 / rps[variant, pool]  # of a request each second
    program = Program()
    served = program.add_columns(machines * cat.price_usd_per_s[pool])
    wanted = _PEAK * setting.scenario.mean_rps * wl.share
    balance = program.add_rows(wanted, wanted)
    program.add_entries(balance[klass], served, 1.0)
    accurate = program.add_rows(np.zeros(len(wanted)), np.inf)
    program.add_entries(accurate[klass], served, cat.accuracy[variant] - wl.accuracy_floor[klass])
    within = program.add_rows(np.full(len(cat.market), -np.inf), cat.quota.astype(np.float64))
    program.add_entries(within[pool], served, machines)
    found = program.solve_relaxed()
    if found.values is None:
        return False
    return _FEWEST <= float(found.values @ machines) <= setting.scenario.simulator.max_instances // 2
