"""The published measurements that the shipped catalog is made from, read from `$PROVISOR_DATA`.

Each reader returns one small table in SI units; what is made of them is in `experiments.catalog_derivation`. Nothing
here is estimated.
"""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from controller.errors import ConfigError

RIBBON_LARGEST_BATCH = 100
"""Batches above this are far from any batch a catalog allows and would rule the fit."""

LAMBDA_INIT_SINCE = "2025"
LAMBDA_INIT_ROWS = ("image", "1024", "x86_64")
_QUANTILES = {0.05: "p05_ms", 0.5: "p50_ms", 0.9: "p90_ms", 0.95: "p95_ms", 0.99: "p99_ms"}


@dataclass(frozen=True)
class InstancePrice:
    """One EC2 type in us-east-1."""

    vcpus: float
    memory_gib: float
    on_demand_usd_per_hour: float
    spot_usd_per_hour: float
    spot_saving_percent: float


@dataclass(frozen=True)
class BatchLatency:
    """Ribbon: latency of one model on one instance type, fitted as intercept + slope x batch."""

    intercept_s: float
    slope_s: float
    at_ten_s: float
    spread: dict[float, float]  # probability -> value / mean, averaged over the fitted batches


@dataclass(frozen=True)
class Weights:
    """timm: one set of pretrained weights."""

    top1: float  # share
    parameters: float


@dataclass(frozen=True)
class LambdaCall:
    """Cocktail: one model on AWS Lambda."""

    warm_run_s: float
    warm_overhead_s: float
    cold_total_s: float
    warm_total_s: float


@dataclass(frozen=True)
class Sources:
    """All tables."""

    instances: dict[str, InstancePrice]
    lambda_usd: dict[str, float]
    ribbon: dict[tuple[str, str], BatchLatency]
    saturation_rps: dict[tuple[int, int], float]  # InfAdapter: (ResNet depth, cores) -> best over thread settings
    weights: dict[tuple[str, int], Weights]  # timm: (name, image side)
    cpu_step_s: dict[tuple[str, int], float]  # timm, Core i9-10940X, batch 1
    gpu_rps: dict[tuple[str, int], float]  # timm, RTX 3090, mixed precision
    lambda_calls: dict[str, LambdaCall]
    lambda_init_s: dict[str, float]  # min, median, mean, max of ten cold starts, averaged over days and runtimes
    boot_s: tuple[float, ...]  # cold launches of CPU types, API call to SSH
    boot_us_east_1_s: float


def read_sources(data: Path) -> Sources:
    """Reads every table the catalog needs.

    Args:
        data: Directory that `PROVISOR_DATA` names.

    Raises:
        ConfigError: A table is missing.
    """
    lambda_usd = {
        f"{r['item']}": float(r["usd"])
        for r in _rows(data / "prices/aws_lambda_prices.csv")
        if r["arch"] in ("any", "x86_64")
    }
    boots = [r for r in _rows(data / "startup/ec2_boot/ec2_boot.csv") if r["how"].startswith("cold launch")]
    timm = data / "profiles/timm"
    return Sources(
        instances=_instances(data),
        lambda_usd=lambda_usd,
        ribbon=_ribbon(data),
        saturation_rps=_saturation(data),
        weights={
            (r["model"], int(r["img_size"])): Weights(
                float(r["top1"]) / 100, float(r["param_count"].replace(",", "")) * 1e6
            )
            for r in _rows(timm / "results-imagenet.csv.gz")
        },
        cpu_step_s={
            (r["model"], int(r["infer_img_size"])): float(r["infer_step_time"]) / 1e3
            for r in _rows(timm / "benchmark-infer-fp32-nchw-pt240-cpu-i9_10940x-dynamo.csv.gz")
        },
        gpu_rps={
            (r["model"], int(r["infer_img_size"])): float(r["infer_samples_per_sec"])
            for r in _rows(timm / "benchmark-infer-amp-nhwc-pt240-cu124-rtx3090.csv.gz")
        },
        lambda_calls={
            r["Model"]: LambdaCall(
                float(r["warm_execution"]) / 1e3,
                float(r["Untitled 1"]) / 1e3,
                float(r["Untitled 2"]) / 1e3,
                float(r["RTT2"]) / 1e3,
            )
            for r in _rows(data / "profiles/cocktail/cold-starts.csv")
        },
        lambda_init_s=_lambda_init(data),
        boot_s=tuple(float(r["total_s"]) for r in boots),
        boot_us_east_1_s=next(float(r["total_s"]) for r in boots if r["region"] == "us-east-1"),
    )


def _rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            yield from csv.DictReader(file)
    except OSError as error:
        raise ConfigError(f"{path}: expected a readable table, got: {error.strerror or error}") from error


def _instances(data: Path) -> dict[str, InstancePrice]:
    return {
        r["instance_type"]: InstancePrice(
            float(r["vcpus"]),
            float(r["memory_mib"]) / 1024,
            float(r["ondemand_usd_h"]),
            float(r["spot_usd_h_estimate"]),
            float(r["spot_savings_pct_2025_06"]),
        )
        for r in _rows(data / "prices/aws_ec2_us_east_1.csv.gz")
        if r["ondemand_usd_h"] and r["spot_usd_h_estimate"]
    }


def _ribbon(data: Path) -> dict[tuple[str, str], BatchLatency]:
    runs: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for row in _rows(data / "profiles/ribbon/latency_ms_by_batch.csv"):
        if int(row["batch"]) <= RIBBON_LARGEST_BATCH:
            runs[row["model"], row["instance_type"]].append(row)
    fits = {}
    for key, rows in runs.items():
        batch = np.array([float(r["batch"]) for r in rows])
        mean_s = np.array([float(r["mean_ms"]) for r in rows]) / 1e3
        slope, intercept = np.polyfit(batch, mean_s, 1)
        spread = {
            p: float(np.mean([float(r[column]) / float(r["mean_ms"]) for r in rows]))
            for p, column in _QUANTILES.items()
        }
        fits[key] = BatchLatency(float(intercept), float(slope), float(mean_s[batch == 10].mean()), spread)
    return fits


def _saturation(data: Path) -> dict[tuple[int, int], float]:
    best: dict[tuple[int, int], float] = defaultdict(float)
    for row in _rows(data / "profiles/infadapter/resnet_cpu_capacity.csv.gz"):
        key = int(row["arch"]), int(row["cpu"])
        best[key] = max(best[key], float(row["saturation_tp"]))
    return dict(best)


def _lambda_init(data: Path) -> dict[str, float]:
    columns = ("min", "median", "mean", "max")
    kept = [
        [float(r[f"init_ms_{c}"]) / 1e3 for c in columns]
        for r in _rows(data / "startup/aws_lambda_cold_start/python_init.csv.gz")
        if r["date"] >= LAMBDA_INIT_SINCE and (r["package"], r["memory_mb"], r["arch"]) == LAMBDA_INIT_ROWS
    ]
    return dict(zip(columns, np.mean(kept, axis=0).tolist(), strict=True))
