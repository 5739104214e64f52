"""Replicas of a plan, by pool and market."""

from __future__ import annotations

from controller.arrays import I64, ON_DEMAND
from controller.kernels.compiled import kernel


@kernel
def count_in_pool(replicas: I64, n: int, p: int) -> int:
    """Replicas of a pool, all variants."""
    total = 0
    for v in range(replicas.shape[1]):
        total += replicas[n, v, p]
    return total


@kernel
def count_on_demand(market: I64, replicas: I64, n: int) -> int:
    """Replicas of all on-demand pools."""
    total = 0
    for p in range(market.shape[0]):
        if market[p] == ON_DEMAND:
            total += count_in_pool(replicas, n, p)
    return total
