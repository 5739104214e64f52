"""A geo problem as arrays, a plan for it, and what the plan costs.

Axes: R regions, I sites, V variants (model on data version), M what an instance holds: models, or variants where the
problem says so. Money is $ per hour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controller.arrays import F64, I64, Bool
from controller.planners.geo.problem import GeoProblem

ROUNDING = 1e-6
"""Of rates and accuracies, within which linear programs are solved."""


@dataclass(frozen=True)
class GeoInstance:
    """A problem's arrays.

    Attributes:
        problem: What they are of.
        models: Names of what an instance holds, in the order of their first variant.
        rate_rps: (R,).
        accuracy_floor: (R,).
        usd_per_hour: (I,) of an instance.
        model: (V,) index of what holds it.
        accuracy: (V,).
        service_s: (I, V) of an instance per request.
        latency_s: (R, I, V) mean, at the utilisation planned for; infinite without a route.
        egress_usd_per_hour: (R, I, V) of one request a second.
        usable: (R, I, V) in time, and accurate enough where each answer must be.
    """

    problem: GeoProblem
    models: tuple[str, ...]
    rate_rps: F64
    accuracy_floor: F64
    usd_per_hour: F64
    model: I64
    accuracy: F64
    service_s: F64
    latency_s: F64
    egress_usd_per_hour: F64
    usable: Bool

    @property
    def hourly_usd(self) -> F64:
        """(R, I, V) of one request a second, if instances could be rented in parts."""
        busy_usd = self.usd_per_hour[:, None] * self.service_s / self.problem.utilisation
        return np.asarray(self.egress_usd_per_hour + busy_usd, np.float64)


@dataclass(frozen=True)
class GeoPlan:
    """Instances, and who is served by what."""

    served_rps: F64  # (R, I, V)
    instances: I64  # (I, M)


@dataclass(frozen=True)
class GeoCost:
    """What a plan costs and reaches.

    Attributes:
        compute_usd_per_hour: Rent.
        egress_usd_per_hour: Traffic out of the regions.
        accuracy: (R,) mean.
        latency_s: (R,) mean.
        faults: What the plan breaks, in words; none where it may be used.
    """

    compute_usd_per_hour: float
    egress_usd_per_hour: float
    accuracy: F64
    latency_s: F64
    faults: tuple[str, ...] = ()

    @property
    def total_usd_per_hour(self) -> float:
        """Both terms."""
        return self.compute_usd_per_hour + self.egress_usd_per_hour


def compile_geo(problem: GeoProblem) -> GeoInstance:
    """The arrays of a problem.

    A request's latency is its encoding, the network's round trip and transfer, and service with its wait: of an M/D/1
    queue at utilisation u, u / (2 (1 - u)) services on average.

    Source:
        Pollaczek-Khinchine for constant service times; Gross et al., Fundamentals of Queueing Theory, sec. 5.1.
    """
    by_model = problem.instance_serves == "model"
    held = [v.model if by_model else f"{v.model} on {v.data}" for v in problem.variants]
    models = tuple(dict.fromkeys(held))
    regions, sites = [r.name for r in problem.regions], [s.name for s in problem.sites]
    shape = (len(regions), len(sites))
    rtt_s, usd_per_gb, bytes_per_s = np.full(shape, np.inf), np.zeros(shape), np.ones(shape)
    for route in problem.routes:
        at = regions.index(route.region), sites.index(route.site)
        rtt_s[at], usd_per_gb[at], bytes_per_s[at] = route.rtt_s, route.usd_per_gb, route.bytes_per_s
    size, encode_s = np.array([v.bytes for v in problem.variants]), np.array([v.encode_s for v in problem.variants])
    accuracy, speed = np.array([v.accuracy for v in problem.variants]), np.array([s.speed for s in problem.sites])
    service_s = np.array([v.service_s for v in problem.variants]) / speed[:, None]
    floor = np.array([r.accuracy for r in problem.regions])
    u = problem.utilisation
    latency_s = rtt_s[:, :, None] + encode_s + size / bytes_per_s[:, :, None] + service_s * (1 + u / (2 * (1 - u)))
    usable = latency_s <= np.array([r.latency_s for r in problem.regions])[:, None, None]
    each = np.array([r.floor == "each" for r in problem.regions])
    usable &= ~each[:, None, None] | (accuracy >= floor[:, None, None])
    return GeoInstance(
        problem=problem,
        models=models,
        rate_rps=np.array([r.rate_rps for r in problem.regions]),
        accuracy_floor=floor,
        usd_per_hour=np.array([s.usd_per_hour for s in problem.sites]),
        model=np.array([models.index(name) for name in held], np.int64),
        accuracy=accuracy,
        service_s=service_s,
        latency_s=latency_s,
        egress_usd_per_hour=size * 3600.0 / 1e9 * usd_per_gb[:, :, None],
        usable=usable,
    )


def evaluate_geo(instance: GeoInstance, plan: GeoPlan) -> GeoCost:
    """What a plan costs, and what it breaks; a plan with faults is still priced."""
    served = plan.served_rps
    by_region = served.sum(axis=(1, 2))
    mean_accuracy = (served * instance.accuracy).sum(axis=(1, 2)) / np.maximum(by_region, ROUNDING)
    latency_s = np.where(served > 0, instance.latency_s, 0.0)
    return GeoCost(
        compute_usd_per_hour=float((plan.instances.sum(axis=1) * instance.usd_per_hour).sum()),
        egress_usd_per_hour=float((served * instance.egress_usd_per_hour).sum()),
        accuracy=mean_accuracy,
        latency_s=(served * latency_s).sum(axis=(1, 2)) / np.maximum(by_region, ROUNDING),
        faults=tuple(_faults(instance, plan, by_region, mean_accuracy)),
    )


def busy_instances(instance: GeoInstance, served_rps: F64) -> F64:
    """Instances' worth of planned time in use, (I, M)."""
    busy = (served_rps.sum(axis=0) * instance.service_s) / instance.problem.utilisation
    return np.stack([busy[:, instance.model == m].sum(axis=1) for m in range(len(instance.models))], axis=1)


def _faults(instance: GeoInstance, plan: GeoPlan, by_region: F64, mean_accuracy: F64) -> list[str]:
    faults = []
    problem = instance.problem
    for r, region in enumerate(problem.regions):
        if abs(by_region[r] - region.rate_rps) > ROUNDING * region.rate_rps:
            faults.append(f"{region.name}: expected {region.rate_rps:g} requests/s served, got {by_region[r]:g}")
        if mean_accuracy[r] < region.accuracy - ROUNDING:
            faults.append(f"{region.name}: expected a mean accuracy of {region.accuracy:g}, got {mean_accuracy[r]:g}")
        for i, v in np.argwhere((plan.served_rps[r] > ROUNDING * region.rate_rps) & ~instance.usable[r]):
            faults.append(
                f"{region.name} at {problem.sites[i].name}: expected a variant in time and accurate enough, got "
                f"{problem.variants[v].model} on {problem.variants[v].data}"
            )
    needed = busy_instances(instance, plan.served_rps)
    for i, m in np.argwhere(needed > plan.instances * (1 + ROUNDING) + ROUNDING):
        faults.append(
            f"{instance.models[m]} at {problem.sites[i].name}: expected {needed[i, m]:.3f} instances or more, "
            f"got {plan.instances[i, m]}"
        )
    return faults
