"""The fast planner: a beam over operators, each on some of its options, for any number of workers.

It differs from the published algorithm in three ways. Of each operator many sets of workers are tried, not one greedy
one per tier. States are ranked by their cost and a bound on what is still to be placed. And more choices of variants
are looked at, those whose bound is above the best placement so far excepted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from controller.arrays import Bool
from controller.planners.workflow.compiled import Instance, Placement, evaluate
from controller.planners.workflow.options import Options, Search, candidate_options
from controller.planners.workflow.published import orders, plan_published
from controller.planners.workflow.selection import select_variants

SELECTION_WIDTH = 60
"""States of model selection; the published algorithm keeps 10."""

BEAM_WIDTH = 12
"""States kept after each operator."""

MAX_ORDERS = 4
"""Topological orders tried."""


class _State(NamedTuple):
    rank: float
    usd: float
    chosen: dict[int, int]
    taken: Bool


def plan_fast(instance: Instance) -> Placement | None:
    """The cheapest placement found; never dearer than the published algorithm's. None where nothing is found."""
    best = plan_published(instance)
    usd = np.inf if best is None else evaluate(instance, best).total_usd_per_hour
    known: dict[tuple[int, int], Options] = {}

    def options(v: int, m: int) -> Options:
        if (v, m) not in known:
            known[v, m] = candidate_options(instance, v, m)
        return known[v, m]

    every = [[options(v, m) for m in range(len(o.variants))] for v, o in enumerate(instance.operators)]
    nothing = np.zeros(len(instance.tier), np.bool_)
    searches = [Search(instance, every, variants) for variants in select_variants(instance, SELECTION_WIDTH)]
    bounds = [search.rest(nothing, range(instance.num_operators)) for search in searches]
    for i in np.argsort(bounds, kind="stable"):
        if bounds[i] >= usd:
            break
        for number, order in enumerate(orders(instance)):
            if number == MAX_ORDERS:
                break
            found = _beam(searches[i], order, nothing, usd)
            if found is not None and found.usd < usd:
                usd, best = found.usd, Placement(searches[i].variants, searches[i].load_rps(found.chosen))
    return best


def _beam(search: Search, order: tuple[int, ...], nothing: Bool, most_usd: float) -> _State | None:
    """The cheapest whole placement that one order leads to, below a cost; None without any."""
    states = [_State(0.0, 0.0, {}, nothing)]
    for place, v in enumerate(order):
        extended: list[_State] = []
        for state in states:
            fitting, cost = search.extensions(state.chosen, state.taken, v)
            for k, added in zip(fitting[:BEAM_WIDTH].tolist(), cost[:BEAM_WIDTH].tolist(), strict=True):
                taken = state.taken | search.of[v].used[k]
                usd = state.usd + added
                rank = usd + search.rest(taken, order[place + 1 :])
                if rank < most_usd:
                    extended.append(_State(rank, usd, {**state.chosen, v: k}, taken))
        states = sorted(extended, key=lambda s: s.rank)[:BEAM_WIDTH]
    return states[0] if states else None
