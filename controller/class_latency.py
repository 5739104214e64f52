"""How long a class's requests take on the machines that are planned for it, where none waits."""

from __future__ import annotations

import numpy as np

from controller.arrays import F64, SERVERLESS
from controller.compile import Setting

LEVELS = 400
"""Equally likely latencies that stand for an option's distribution."""


def machine_weights(setting: Setting, c: int, replicas: F64) -> F64:
    """Share of a class's requests that each machine option would take by its capacity, (V, P); 0 where none may.

    Args:
        setting: What is decided for.
        c: Row of the class.
        replicas: Planned, (V, P).
    """
    cat = setting.catalog
    may_answer = setting.workload.allowed[c] & (cat.market != SERVERLESS)
    capacity = np.zeros(cat.usable.shape)
    seconds = cat.service_s[:, :, 1]
    np.divide(replicas * cat.concurrency, seconds, out=capacity, where=may_answer & (seconds > 0.0))
    total = capacity.sum()
    weights: F64 = capacity / total if total > 0.0 else capacity
    return weights


def class_latency_s(setting: Setting, c: int, weights: F64) -> F64:
    """Equally likely latencies of a class, ascending; empty where it has no machine.

    Args:
        setting: What is decided for.
        c: Row of the class.
        weights: Of the options, (V, P).
    """
    cat, wl = setting.catalog, setting.workload
    values, chances = [np.zeros(0)], [np.zeros(0)]
    for v, p in np.argwhere(weights > 0.0):
        table = cat.shapes[cat.service_shape[v, p]]
        at = (np.arange(LEVELS) + 0.5) / LEVELS
        drawn = np.interp(at, np.linspace(0.0, 1.0, len(table)), table)
        values.append(cat.service_s[v, p, 1] * drawn + wl.network_s[c, v, p])
        chances.append(np.full(LEVELS, weights[v, p] / LEVELS))
    every, chance = np.concatenate(values), np.concatenate(chances)
    if not len(every):
        return every
    order = np.argsort(every, kind="stable")
    reached = np.cumsum(chance[order])
    places = np.searchsorted(reached, (np.arange(LEVELS) + 0.5) / LEVELS * reached[-1])
    found: F64 = every[order][np.minimum(places, len(every) - 1)]
    return found
