"""Replicas of a plan, by pool and market; and those that serve on after a decision."""

from __future__ import annotations

from controller.arrays import I64, ON_DEMAND, ActionArrays, ObservationArrays
from controller.kernels.compiled import inner, kernel


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


@inner
def swapped_away(actions: ActionArrays, n: int, v: int, p: int) -> int:
    """Replicas of an option that a decision turns into other variants."""
    total = 0
    for target in range(actions.swap.shape[3]):
        total += actions.swap[n, p, v, target]
    return total


@inner
def staying_replicas(obs: ObservationArrays, actions: ActionArrays, n: int, v: int, p: int) -> int:
    """Replicas of an option that serve until the next decision, those under notice included.

    What this decision drains or swaps is none of them: requests sent there would find nobody for a whole tick.
    """
    return obs.ready[n, v, p] - actions.drain[n, v, p] - swapped_away(actions, n, v, p) + obs.doomed[n, v, p]
