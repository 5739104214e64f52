"""What the geo planners are compared with: one choice taken away, or made greedily."""

from __future__ import annotations

import numpy as np

from controller.arrays import Bool
from controller.planners.geo.compiled import GeoInstance, GeoPlan
from controller.planners.geo.program import whole_instances


def restrictions(instance: GeoInstance) -> dict[str, Bool]:
    """What each baseline may use, (R, I, V) by its name; sites, rates and instances are still chosen at best.

    `none` sends full data to the most accurate model; `model only` adapts the model, `data only` the data; `nearest`
    and `cheapest` fix the site by round trip or by price of an instance.
    """
    variants = instance.problem.variants
    size = np.array([v.bytes for v in variants])
    full = np.array([v.data for v in variants]) == variants[int(np.argmax(size))].data
    best = variants[np.flatnonzero(full)[np.argmax(instance.accuracy[full])]]
    largest = np.array([v.model == best.model for v in variants])
    shape = instance.usable.shape
    near = np.zeros(shape, np.bool_)
    # Of all variants' latencies at a site the least differs from others' by the network alone.
    near[np.arange(shape[0]), instance.latency_s.min(axis=2).argmin(axis=1)] = True
    cheap = np.zeros(shape, np.bool_)
    cheap[:, int(instance.usd_per_hour.argmin())] = True
    return {
        "none": np.broadcast_to(full & largest, shape),
        "model only": np.broadcast_to(full, shape),
        "data only": np.broadcast_to(largest, shape),
        "nearest": near,
        "cheapest": cheap,
    }


def single_axis(instance: GeoInstance) -> tuple[Bool, Bool]:
    """What may be used where only the model, or only the data, is adapted."""
    allowed = restrictions(instance)
    return allowed["model only"], allowed["data only"]


def plan_greedy(instance: GeoInstance, allowed: Bool | None = None) -> GeoPlan | None:
    """Each region, the busiest first, wholly served by the site and variant that add least to the bill so far.

    None where some region has no variant in time that is accurate enough by itself.
    """
    usable = instance.usable if allowed is None else instance.usable & allowed
    served = np.zeros(usable.shape)
    count = np.zeros((len(instance.usd_per_hour), len(instance.models)), np.int64)
    for r in np.argsort(-instance.rate_rps, kind="stable"):
        best_usd, best = np.inf, None
        for i, v in np.argwhere(usable[r] & (instance.accuracy >= instance.accuracy_floor[r])):
            tried = served.copy()
            tried[r, i, v] = instance.rate_rps[r]
            added = whole_instances(instance, tried) - count
            usd = float(added.sum(axis=1) @ instance.usd_per_hour)
            usd += float(instance.egress_usd_per_hour[r, i, v] * instance.rate_rps[r])
            if usd < best_usd:
                best_usd, best = usd, tried
        if best is None:
            return None
        served, count = best, whole_instances(instance, best)
    return GeoPlan(served, count)
