"""What Ray Serve's own autoscaler is given to run: one deployment, on machines it can have, with settings at speed.

Serve scales one kind of replica by how many requests are under way. It knows no variants, so it gets the cheapest that
keeps every class's floor; no spot market and no serverless, so it gets on-demand machines alone. A replica is one
credit: a machine of several counts as so many replicas, each at its part of the price.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from controller.arrays import ON_DEMAND
from controller.compile import Setting
from controller.config import parse_config
from controller.errors import ConfigError, UsageError, mismatch
from controller.policies.autoscalers import RayServeSettings
from controller.policies.registry import read_spec

KIND = "ray_serve"
_METRICS_INTERVAL_S = 10.0  # Serve's default: how often it is told of requests under way


@dataclass(frozen=True)
class NativePlan:
    """A deployment, and what a replica of it costs; seconds are live ones."""

    variant: int
    pool: int  # whose service times and launches its replicas have
    most: int  # replicas there are machines for
    service_s: float  # mean, of one request
    price_usd_per_s: float  # of a replica
    launch_s: float
    min_billing_s: float
    release_lag_s: float


def read_native_settings(path: Path) -> RayServeSettings:
    """Settings that `provisor tune --policy ray_serve` found.

    Raises:
        ConfigError: The file is missing or wrong.
        UsageError: Settings of another kind.
    """
    spec = read_spec(str(path))
    if spec.kind != KIND:
        raise UsageError(mismatch(f"{path}: kind", KIND, spec.kind))
    return parse_config(spec.settings, RayServeSettings, str(path))


def native_plan(setting: Setting) -> NativePlan:
    """The one deployment of a setting (at the run's speed).

    Raises:
        ConfigError: No variant on on-demand machines keeps every class's promises.
    """
    catalog, workload = setting.catalog, setting.workload
    is_own = (catalog.market == ON_DEMAND)[None, :] & workload.allowed.all(axis=0)
    is_right = catalog.accuracy >= workload.accuracy_floor.max() - 1e-9
    usd = catalog.price_usd_per_s[None, :] * catalog.service_s[:, :, 1] / np.maximum(catalog.concurrency, 1)
    usd = np.where(is_own & is_right[:, None], usd, np.inf)
    variant, pool = np.unravel_index(int(np.argmin(usd)), usd.shape)
    if not np.isfinite(usd[variant, pool]):
        raise ConfigError(mismatch("catalog", "a variant on on-demand machines for all classes at once", "none"))
    # Machines whose credits serve as fast at the same price: to Serve, so many more replicas of the same kind.
    service_s = catalog.service_s[variant, :, 1]
    is_alike = np.isclose(service_s, service_s[pool]) & np.isclose(usd[variant], usd[variant, pool])
    num_credits = setting.limits.pool_max * catalog.concurrency[variant]
    return NativePlan(
        variant=int(variant),
        pool=int(pool),
        most=int(num_credits[is_alike].sum()),
        service_s=float(service_s[pool]),
        price_usd_per_s=float(catalog.price_usd_per_s[pool] / catalog.concurrency[variant, pool]),
        launch_s=float(catalog.launch_s[pool]),
        min_billing_s=float(catalog.min_billing_s[pool]),
        release_lag_s=float(catalog.release_lag_s[pool]),
    )


def first_replicas(settings: RayServeSettings, plan: NativePlan, rate_rps: float) -> int:
    """Replicas that a run begins with: what the autoscaler itself comes to at a steady rate."""
    under_way = rate_rps * plan.service_s
    wanted = math.ceil(max(under_way, under_way / settings.target_ongoing_requests) - 1e-9)
    low, high = replica_range(settings, plan)
    return min(max(wanted, low, 1), high)


def replica_range(settings: RayServeSettings, plan: NativePlan) -> tuple[int, int]:
    """Fewest and most replicas; there are never more than machines."""
    high = max(1, min(plan.most, max(settings.max_replicas, settings.min_replicas)))
    return min(settings.min_replicas, high), high


def autoscaling_config(settings: RayServeSettings, plan: NativePlan, speed: float, first: int) -> dict[str, Any]:
    """`autoscaling_config` of the deployment: spans divided by the speed, counts and ratios as they are.

    Args:
        settings: Tuned in trace time.
        plan: Of the same setting.
        speed: Of the run.
        first: Replicas to begin with.
    """
    low, high = replica_range(settings, plan)
    to_zero_s = settings.downscale_to_zero_delay_s
    look_back_s = settings.look_back_period_s / speed
    return {
        "min_replicas": low,
        "max_replicas": high,
        "initial_replicas": first,
        "target_ongoing_requests": settings.target_ongoing_requests,
        "upscale_delay_s": settings.upscale_delay_s / speed,
        "downscale_delay_s": settings.downscale_delay_s / speed,
        "downscale_to_zero_delay_s": None if to_zero_s is None else to_zero_s / speed,
        "upscaling_factor": settings.upscaling_factor,
        "downscaling_factor": settings.downscaling_factor,
        "look_back_period_s": look_back_s,
        "aggregation_function": settings.aggregation_function,
        # Serve wants more than one report in what it looks back on.
        "metrics_interval_s": min(_METRICS_INTERVAL_S / speed, look_back_s / 2),
    }
