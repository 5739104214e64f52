"""JellyBean's algorithm as published: models by beam search, workers by a greedy choice inside a beam over operators.

After arXiv 2205.04713 and its authors' public code (`libertyeagle/JellyBean`, optimizer/worker_assignment.py, strategy
`multiple-tiers` with `greedy`, as their example's configuration says; MIT), written anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from controller.arrays import F64
from controller.planners.workflow.compiled import Instance, Placement, evaluate
from controller.planners.workflow.selection import select_variants

MAX_ORDERS = 10
BEST_ASSIGNMENTS = 10
"""Both of the authors' configuration."""

TIE = 1e-8
"""$ per hour under which two placements cost the same, and the more accurate wins."""


class _State(NamedTuple):
    total: float
    load: F64  # (V, W)
    tier: tuple[int, ...]  # per operator placed, its highest; -1 for others


def plan_published(instance: Instance) -> Placement | None:
    """The placement that the published algorithm finds; None where it finds none."""
    best: Placement | None = None
    best_cost, best_accuracy = np.inf, -np.inf
    for variants in select_variants(instance):
        for placement in assign_workers(instance, variants):
            cost = evaluate(instance, placement)
            total = cost.total_usd_per_hour
            if total < best_cost - TIE or (abs(total - best_cost) <= TIE and cost.accuracy > best_accuracy):
                best, best_cost, best_accuracy = placement, total, cost.accuracy
    return best


def assign_workers(instance: Instance, variants: tuple[int, ...]) -> list[Placement]:
    """The best placements of chosen variants that greedy assignment finds, at most ten, cheapest first.

    Args:
        instance: The problem.
        variants: Per operator.
    """
    found: list[_State] = []
    for number, order in enumerate(orders(instance)):
        if number == MAX_ORDERS:
            break
        shape = (instance.num_operators, len(instance.tier))
        states = [_State(0.0, np.zeros(shape), (-1,) * instance.num_operators)]
        for v in order:
            states = [new for state in states for new in _placed(instance, variants, state, v)]
            states = sorted(states, key=lambda s: s.total)[:BEST_ASSIGNMENTS]
        found = sorted([*found, *states], key=lambda s: s.total)[:BEST_ASSIGNMENTS]
    return [Placement(variants, state.load) for state in found]


def orders(instance: Instance) -> Iterator[tuple[int, ...]]:
    """Topological orders of the operators; in the authors' code those of sources count apart."""

    def extend(placed: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(placed) == instance.num_operators:
            yield placed
        for v in range(instance.num_operators):
            if v not in placed and set(instance.from_operators[v]) <= set(placed):
                yield from extend((*placed, v))

    return extend(())


def operator_cost(instance: Instance, variants: tuple[int, ...], load: F64, v: int) -> F64:
    """$ per hour of what operator `v` reads from operators placed in `load`, if all went to one worker, (W,)."""
    total = np.zeros(len(instance.tier))
    for u in instance.from_operators[v]:
        share = load[u] / instance.rate_rps[u]
        used = share > 0
        gib = instance.edge_gib_per_hour(u, variants[u], v, variants[v])
        if gib > 0:
            total = total + gib * (share[used] @ instance.link_usd_per_gib[used])
    return total


def _placed(instance: Instance, variants: tuple[int, ...], state: _State, v: int) -> Iterator[_State]:
    """A state with operator `v` on the tiers from its inputs' highest up to each one that there is."""
    lowest = max((state.tier[u] for u in instance.from_operators[v]), default=0)
    capacity, rate = instance.capacity_rps[v][variants[v]], float(instance.rate_rps[v])
    from_sources = instance.source_cost(v, variants[v])
    from_operators = operator_cost(instance, variants, state.load, v)
    is_free = (state.load.sum(axis=0) == 0) & (capacity > 0) & (instance.tier >= lowest)
    for highest in range(lowest, len(instance.problem.tiers)):
        workers = [int(w) for w in np.flatnonzero(is_free & (instance.tier <= highest))]
        load = _greedy(instance, workers, capacity, rate, from_sources, from_operators)
        if load is None:
            continue
        used = load > 0
        reading = from_sources[used] + from_operators[used]
        total = state.total + float(instance.usd_per_hour[used].sum() + (load[used] / rate) @ reading)
        tier = list(state.tier)
        tier[v] = int(instance.tier[used].max())
        loads = state.load.copy()
        loads[v] = load
        yield _State(total, loads, tuple(tier))


def _greedy(
    instance: Instance, workers: list[int], capacity: F64, rate: float, from_sources: F64, from_operators: F64
) -> F64 | None:
    """Loads (W,) of one operator, chosen worker by worker; None where all together serve less than the rate.

    If one worker of the lowest tier left serves the rest alone, the cheapest such; otherwise the one of the least cost
    per request at full load. A worker that serves the rest is charged with the reading of the rest from sources, but of
    the whole rate from operators: so does the authors' code.
    """
    load, left, price = np.zeros(len(capacity)), rate, instance.usd_per_hour

    def at_full_load(w: int) -> tuple[float, float]:
        cost = float(price[w] + (from_sources[w] + from_operators[w]) * capacity[w] / rate)
        return cost / float(capacity[w]), cost

    waiting = sorted(workers, key=at_full_load)
    while waiting:
        lowest = min(int(instance.tier[w]) for w in waiting)
        alone = [w for w in waiting if instance.tier[w] == lowest and capacity[w] >= left]
        if alone:
            chosen = min(
                alone, key=lambda w: (price[w] + from_sources[w] * left / rate + from_operators[w], capacity[w])
            )
            load[chosen] = left
            return load
        chosen = waiting.pop(0)
        load[chosen] = min(float(capacity[chosen]), left)
        left -= load[chosen]
        if left <= 0:
            return load
    return None
