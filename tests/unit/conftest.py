"""A world small enough to be worked by hand: variants of 0.8 and 0.9 on two machine pools, two request classes."""

from collections.abc import Callable
from typing import Any

import pytest

from controller.catalog import Catalog
from controller.compile import Setting, compile_scenario
from controller.config import parse_config
from controller.scenario import Scenario


def figure(value: float) -> dict[str, Any]:
    return {"value": value, "derived": "toy"}


def toy_catalog() -> Catalog:
    machine = {
        "site": "cloud",
        "instance_type": "toy",
        "vcpus": figure(1),
        "memory_gb": figure(2),
        "launch_s": figure(30),
        "min_billing_s": figure(60),
        "release_lag_s": figure(0),
        "quota": 50,
    }
    value = {
        "name": "toy",
        "sites": [{"name": "cloud"}],
        "variants": [
            {
                "name": name,
                "operator": "classify",
                "accuracy": figure(accuracy),
                "weights_gb": figure(0.1),
                "input_bytes": figure(1000),
                "output_bytes": figure(10),
            }
            for name, accuracy in (("small", 0.8), ("large", 0.9))
        ],
        "pools": [
            {**machine, "name": "steady", "market": "on_demand", "price_usd_per_hour": figure(0.36)},
            {
                **machine,
                "name": "cheap",
                "market": "spot",
                "price_usd_per_hour": figure(0.12),
                "notice_s": figure(120),
                "zone": "north",
            },
        ],
        "profiles": [
            {
                "variant": variant,
                "pool": pool,
                "service_intercept_s": figure(0.0),
                "service_slope_s": figure(seconds),
                "batch_max": 1,
                "concurrency": 1,
                "load_s": figure(5),
                "swap_s": figure(5),
            }
            for variant, seconds in (("small", 0.1), ("large", 0.2))
            for pool in ("steady", "cheap")
        ],
    }
    return parse_config(value, Catalog, "toy catalog")


def toy_scenario(**changes: Any) -> Scenario:
    value = {
        "name": "toy",
        "workload": {
            "workflows": [{"name": "images", "operators": ["classify"]}],
            "classes": [
                {
                    "name": name,
                    "source_site": "cloud",
                    "workflow": "images",
                    "share": 0.5,
                    "slo_s": slo_s,
                    "attainment_target": 0.99,
                    "accuracy_floor": floor,
                }
                for name, slo_s, floor in (("strict", 1.5, 0.8), ("relaxed", 20.0, 0.85))
            ],
        },
        "mean_rps": 5.0,
        "trace": {"kind": "generated", "preset": "twitter_like", "days": 4},
        "splits": {"train": [1, 2], "validation": [3, 3], "test": [4, 4]},
    }
    return parse_config({**value, **changes}, Scenario, "toy scenario")


@pytest.fixture
def toy_setting() -> Setting:
    return compile_scenario(toy_scenario(), toy_catalog())


@pytest.fixture
def make_scenario() -> Callable[..., Scenario]:
    """The toy scenario with fields replaced."""
    return toy_scenario


@pytest.fixture
def make_setting() -> Callable[..., Setting]:
    """The toy setting with fields of its scenario replaced."""
    return lambda **changes: compile_scenario(toy_scenario(**changes), toy_catalog())
