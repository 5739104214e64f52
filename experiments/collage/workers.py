"""The measured workers as a scenario: one class of requests on machines whose service times are those of the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from controller.arrays import F64, SHAPE_CELLS
from controller.catalog import Catalog
from controller.compile import Setting, compile_scenario
from controller.config import parse_config
from controller.scenario import Scenario

SINGLE, COLLAGE, POOL = "single", "collage", "box"
"""Names of the variants and of their pool."""

_CATALOG_FILE = "workers-catalog.yaml"


@dataclass(frozen=True)
class Workers:
    """What is served, and by what.

    Attributes:
        rate_rps: Mean of arrivals.
        cells: Of the collage.
        pass_ratio: Time of a pass over that of a request.
        slo_s: Of the class.
        accuracy: Of the single answer and of the collage's.
        concurrency: Requests that a machine serves at once; a quarter as many passes.
        machines: That may be rented.
    """

    rate_rps: float
    cells: int
    pass_ratio: float
    slo_s: float = 10.0
    accuracy: tuple[float, float] = (0.9, 0.9)
    concurrency: int = 1
    machines: int = 1000


def workers_setting(latency_s: F64, workers: Workers) -> Setting:
    """Two variants on one pool, whose service times are the measured ones.

    Args:
        latency_s: The measured latencies.
        workers: Load, collage and machines.
    """
    scenario, catalog = _values(latency_s, workers)
    return compile_scenario(
        parse_config(scenario, Scenario, "scenario of workers"), parse_config(catalog, Catalog, "catalog of workers")
    )


def write_workers(folder: Path, latency_s: F64, workers: Workers) -> Path:
    """Writes the scenario and its catalog, for other commands; returns the scenario's file.

    Args:
        folder: Made where it is missing.
        latency_s: The measured latencies.
        workers: Load, collage and machines.
    """
    scenario, catalog = _values(latency_s, workers)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "workers.yaml"
    for file, value in ((path, scenario | {"catalog": _CATALOG_FILE}), (folder / _CATALOG_FILE, catalog)):
        file.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")
    return path


def _values(latency_s: F64, workers: Workers) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scenario and catalog as their files hold them."""
    probabilities = np.linspace(0.0, 1.0, SHAPE_CELLS + 1)
    table = np.quantile(latency_s, probabilities)
    mean_s = float((table[1:] + table[:-1]).mean() / 2.0)
    shape = {
        "quantiles": {float(p): float(x) for p, x in zip(probabilities, table / mean_s, strict=True)},
        "derived": "the measured latencies",
    }
    variants = {
        SINGLE: (1, 1.0, workers.accuracy[0], workers.concurrency),
        COLLAGE: (workers.cells, workers.pass_ratio, workers.accuracy[1], max(1, workers.concurrency // 4)),
    }
    catalog = {
        "name": "workers",
        "sites": [{"name": "home"}],
        "variants": [
            {
                "name": name,
                "operator": "classify",
                "accuracy": _figure(accuracy),
                "cells": of,
                **{key: _figure(0.001) for key in ("weights_gb", "input_bytes", "output_bytes")},
            }
            for name, (of, _, accuracy, _) in variants.items()
        ],
        "pools": [
            {
                "name": "box",
                "site": "home",
                "instance_type": "box",
                "market": "on_demand",
                "price_usd_per_hour": _figure(1.0),
                "quota": workers.machines,
                "vcpus": _figure(1),
                "memory_gb": _figure(1),
                **{key: _figure(0) for key in ("launch_s", "min_billing_s", "release_lag_s")},
            }
        ],
        "profiles": [
            {
                "variant": name,
                "pool": "box",
                "service_intercept_s": _figure(0.0),
                "service_slope_s": _figure(mean_s * ratio),
                "service_shape": shape,
                "batch_max": 1,
                "concurrency": concurrency,
                "load_s": _figure(0),
                "swap_s": _figure(0),
            }
            for name, (_, ratio, _, concurrency) in variants.items()
        ],
    }
    scenario = {
        "name": "workers",
        "catalog": "workers",
        "workload": {
            "workflows": [{"name": "images", "operators": ["classify"]}],
            "classes": [
                {
                    "name": "all",
                    "source_site": "home",
                    "workflow": "images",
                    "share": 1.0,
                    "slo_s": workers.slo_s,
                    "attainment_target": 0.9,
                    "accuracy_floor": 0.5,
                }
            ],
        },
        "mean_rps": workers.rate_rps,
        "trace": {"kind": "generated", "days": 3},
        "splits": {"train": [1, 1], "validation": [2, 2], "test": [3, 3]},
        "simulator": {"max_instances": workers.machines, "max_requests_held": 4096},
    }
    return scenario, catalog


def _figure(value: float) -> dict[str, Any]:
    return {"value": value, "derived": "chosen for the comparison"}
