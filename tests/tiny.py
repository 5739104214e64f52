"""A catalog and scenario small enough to work out by hand, for tests of any package.

Axes: variants small, medium, large; pools od, spot-a, spot-b, fn (serverless); classes strict, relaxed. On `od` and the
spot pools a replica answers 20, 10 and 5 requests/s of small, medium and large (service 0.05, 0.1, 0.2 s, one credit,
batches of one).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from controller.arrays import ObservationArrays, empty_observation
from controller.catalog import Catalog
from controller.compile import Setting, compile_scenario
from controller.config import parse_config
from controller.scenario import Scenario

SMALL, MEDIUM, LARGE = range(3)
OD, SPOT_A, SPOT_B, FN = range(4)
STRICT, RELAXED = range(2)

ACCURACY = (0.70, 0.76, 0.82)
SERVICE_S = (0.05, 0.1, 0.2)
PRICE_USD_PER_HOUR = {"od": 0.36, "spot-a": 0.108, "spot-b": 0.126}


def _figure(value: float) -> dict[str, Any]:
    return {"value": value, "derived": "chosen for tests"}


def _machine(name: str, market: str, zone: str | None) -> dict[str, Any]:
    pool: dict[str, Any] = {
        "name": name,
        "site": "home",
        "instance_type": "box",
        "market": market,
        "vcpus": _figure(2),
        "memory_gb": _figure(4),
        "price_usd_per_hour": _figure(PRICE_USD_PER_HOUR[name]),
        "launch_s": _figure(60),
        "min_billing_s": _figure(60),
        "release_lag_s": _figure(0),
        "quota": 100,
    }
    if market == "spot":
        pool |= {"zone": zone, "notice_s": _figure(30)}
    return pool


def catalog_document(batch_max: int = 1, concurrency: int = 1) -> dict[str, Any]:
    """The tiny catalog as plain values; with batches, one of b takes (1 + b) / 2 single service times."""
    pools = [
        _machine("od", "on_demand", None),
        _machine("spot-a", "spot", "zone-a"),
        _machine("spot-b", "spot", "zone-b"),
        {
            "name": "fn",
            "site": "home",
            "instance_type": "function",
            "market": "serverless",
            "vcpus": _figure(1),
            "memory_gb": _figure(1.5),
            "launch_s": _figure(0),
            "quota": 50,
            "usd_per_gb_s": _figure(1.66667e-5),
            "usd_per_request": _figure(2e-7),
            "provisioned_usd_per_gb_s": _figure(4.1667e-6),
            "provisioned_compute_usd_per_gb_s": _figure(9.7222e-6),
            "billing_step_s": _figure(0.001),
            "keep_alive_s": _figure(300),
        },
    ]
    names = ("small", "medium", "large")
    profiles = []
    for v, variant in enumerate(names):
        profiles.extend(
            {
                "variant": variant,
                "pool": pool,
                "service_intercept_s": _figure(SERVICE_S[v] / 2 if batch_max > 1 else 0.0),
                "service_slope_s": _figure(SERVICE_S[v] / 2 if batch_max > 1 else SERVICE_S[v]),
                "batch_max": batch_max,
                "concurrency": concurrency,
                "load_s": _figure(10),
                "swap_s": _figure(10),
            }
            for pool in ("od", "spot-a", "spot-b")
        )
        profiles.append(
            {
                "variant": variant,
                "pool": "fn",
                "service_intercept_s": _figure(0.0),
                "service_slope_s": _figure(2 * SERVICE_S[v]),
                "batch_max": 1,
                "concurrency": 1,
                "load_s": _figure(0),
                "cold_start_s": _figure(3),
            }
        )
    return {
        "name": "tiny",
        "sites": [{"name": "home"}],
        "variants": [
            {
                "name": name,
                "operator": "classify",
                "accuracy": _figure(ACCURACY[v]),
                "weights_gb": _figure(0.1),
                "input_bytes": _figure(1e5),
                "output_bytes": _figure(1e3),
            }
            for v, name in enumerate(names)
        ],
        "pools": pools,
        "profiles": profiles,
    }


def scenario_document(**changes: Any) -> dict[str, Any]:
    """The tiny scenario as plain values: 50 requests/s, half strict (1.5 s, floor 0.70), half relaxed (10 s, floor
    0.76).
    """
    common = {"source_site": "home", "workflow": "vision", "share": 0.5}
    document = {
        "name": "tiny",
        "catalog": "tiny",
        "workload": {
            "workflows": [{"name": "vision", "operators": ["classify"]}],
            "classes": [
                {"name": "strict", "slo_s": 1.5, "attainment_target": 0.99, "accuracy_floor": 0.70, **common},
                {"name": "relaxed", "slo_s": 10.0, "attainment_target": 0.99, "accuracy_floor": 0.76, **common},
            ],
        },
        "mean_rps": 50.0,
        "trace": {"kind": "generated", "days": 3},
        "splits": {"train": [1, 1], "validation": [2, 2], "test": [3, 3]},
    }
    return document | changes


def tiny_catalog(batch_max: int = 1, concurrency: int = 1) -> Catalog:
    """The tiny catalog."""
    return parse_config(catalog_document(batch_max, concurrency), Catalog, source="tiny catalog")


@functools.cache
def _cached_setting() -> Setting:
    return compile_scenario(parse_config(scenario_document(), Scenario, source="tiny scenario"), tiny_catalog())


def tiny_setting(batch_max: int = 1, concurrency: int = 1, **changes: Any) -> Setting:
    """The tiny scenario compiled; `changes` replace top-level fields of the scenario document."""
    if batch_max == 1 and concurrency == 1 and not changes:
        return _cached_setting()
    scenario = parse_config(scenario_document(**changes), Scenario, source="tiny scenario")
    return compile_scenario(scenario, tiny_catalog(batch_max, concurrency))


def steady_observation(setting: Setting, rps: float, num_envs: int = 1, ticks: int = 60) -> ObservationArrays:
    """An observation after `ticks` ticks of constant arrivals, split by class share; nothing runs."""
    observation = empty_observation(num_envs, setting.shape)
    per_tick = rps * setting.control.tick_s * setting.workload.share
    observation.tick[:] = ticks
    observation.time_s[:] = ticks * setting.control.tick_s
    observation.history[:, :, : min(ticks, observation.history.shape[2])] = per_tick[None, :, None]
    observation.arrivals[:] = np.rint(per_tick).astype(np.int64)
    observation.day_arrivals[:] = np.rint(per_tick * ticks).astype(np.int64)
    return observation
