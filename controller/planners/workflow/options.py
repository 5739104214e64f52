"""What an operator can run on: sets of workers with their loads, each an *option*.

Loads need no search of their own. With the loads of all other operators held, the cost is linear in those of one, over
all loads within the workers' capacities that sum to the rate; so some vertex of that set is as cheap, where every
worker but one is fully loaded or idle. Idle ones can be given back, which frees money and no constraint. Hence an
option is a set of workers and which of them takes the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from controller.arrays import F64, I64, Bool
from controller.planners.workflow.compiled import ROUNDING, Instance

SMALL_SETS = 3
"""Candidates hold all sets up to this size."""

SMALL_SETS_OF = 16
"""Workers up to which they do; of more, all pairs."""


@dataclass(frozen=True)
class Options:
    """Options of one operator under one variant, K of them."""

    used: Bool  # (K, W)
    share: F64  # (K, W) of the rate
    usd: F64  # (K,) rent and reading from sources, $ per hour
    lowest: I64  # (K,) tier
    highest: I64  # (K,) tier

    def free(self, taken: Bool) -> Bool:
        """Which options use none of the workers taken, (K,)."""
        return np.logical_not(self.used[:, taken].any(axis=1))

    def least(self, taken: Bool) -> float:
        """Cost of the cheapest option that uses none of the workers taken; infinite without any."""
        return float(self.usd[self.free(taken)].min(initial=np.inf))


def every_option(instance: Instance, v: int, m: int) -> Options:
    """All options of an operator's variant; their number may double with each worker."""
    able = np.flatnonzero(instance.capacity_rps[v][m] > 0)
    return _options(instance, v, m, _subsets(able, len(able)))


def candidate_options(instance: Instance, v: int, m: int) -> Options:
    """Some options of an operator's variant: polynomially many.

    All small sets; and larger ones as a knapsack is filled, tier by tier: the first workers by cost per request, by
    price or by capacity, with each single worker that serves the rest.
    """
    capacity, rate = instance.capacity_rps[v][m], float(instance.rate_rps[v])
    able = np.flatnonzero(capacity > 0)
    sets = set(_subsets(able, SMALL_SETS if len(able) <= SMALL_SETS_OF else 2))
    price = instance.usd_per_hour + instance.source_cost(v, m) * np.minimum(capacity / rate, 1.0)
    for lowest in range(len(instance.problem.tiers)):
        for highest in range(lowest, len(instance.problem.tiers)):
            here = able[(instance.tier[able] >= lowest) & (instance.tier[able] <= highest)]
            for key in (price[here] / capacity[here], price[here], -capacity[here]):
                ordered = [int(w) for w in here[np.argsort(key, kind="stable")]]
                for size in range(SMALL_SETS, len(ordered)):
                    first = ordered[:size]
                    sets.add(tuple(sorted(first)))
                    sets.update(tuple(sorted((*first, w))) for w in ordered[size:])
                    if capacity[first].sum() >= rate:
                        break
    return _options(instance, v, m, sorted(sets))


def _subsets(workers: I64, largest: int) -> Iterator[tuple[int, ...]]:
    for size in range(1, min(largest, len(workers)) + 1):
        yield from combinations((int(w) for w in workers), size)


def _options(instance: Instance, v: int, m: int, sets: Iterable[tuple[int, ...]]) -> Options:
    capacity, rate = instance.capacity_rps[v][m], float(instance.rate_rps[v])
    loads = []
    for workers in sets:
        own = list(workers)
        total = float(capacity[own].sum())
        if total < rate * (1.0 - ROUNDING):
            continue
        for last in own:
            rest = rate - (total - float(capacity[last]))
            if rest > rate * ROUNDING:
                load = np.zeros(len(capacity))
                load[own] = capacity[own]
                load[last] = rest
                loads.append(load)
    share = np.array(loads).reshape(-1, len(capacity)) / rate
    used = share > 0
    most = len(instance.problem.tiers)
    return Options(
        used=used,
        share=share,
        usd=used @ instance.usd_per_hour + share @ instance.source_cost(v, m),
        lowest=np.where(used, instance.tier, most).min(axis=1, initial=most),
        highest=np.where(used, instance.tier, 0).max(axis=1, initial=0),
    )


class Search:
    """Partial placements of a choice of variants, and what extending them costs.

    Args:
        instance: The problem.
        options: Per operator and variant.
        variants: Per operator.
    """

    def __init__(self, instance: Instance, options: list[list[Options]], variants: tuple[int, ...]) -> None:
        self.variants = variants
        self.of = [options[v][m] for v, m in enumerate(variants)]
        self._instance = instance
        self._gib = {
            (u, v): instance.edge_gib_per_hour(u, variants[u], v, variants[v])
            for v in range(instance.num_operators)
            for u in instance.from_operators[v]
        }

    def extensions(self, chosen: dict[int, int], taken: Bool, v: int) -> tuple[I64, F64]:
        """Options of operator `v` that fit, and the cost that each adds, $ per hour; cheapest first.

        Args:
            chosen: Option of each operator placed, the inputs of `v` among them and none of its readers.
            taken: (W,) workers in use.
            v: Operator.
        """
        options, link = self.of[v], self._instance.link_usd_per_gib
        inputs = self._instance.from_operators[v]
        floor = max((int(self.of[u].highest[chosen[u]]) for u in inputs), default=0)
        fitting = np.flatnonzero(options.free(taken) & (options.lowest >= floor))
        cost = options.usd[fitting]
        for u in inputs:
            if self._gib[u, v] > 0:
                share = self.of[u].share[chosen[u]]
                sending = share > 0
                # Infinite prices stand only where the floor lets nothing be sent.
                prices = np.where(np.isinf(link[sending]), 0.0, link[sending])
                cost = cost + self._gib[u, v] * (options.share[fitting] @ (share[sending] @ prices))
        order = np.argsort(cost, kind="stable")
        return fitting[order], cost[order]

    def rest(self, taken: Bool, operators: Iterable[int]) -> float:
        """Bound on what these operators cost, each by itself on workers not taken."""
        return sum(self.of[v].least(taken) for v in operators)

    def load_rps(self, chosen: dict[int, int]) -> F64:
        """Loads of a whole placement, (V, W)."""
        shares = np.stack([self.of[v].share[chosen[v]] for v in range(len(self.of))])
        return np.asarray(shares * self._instance.rate_rps[:, None], np.float64)
