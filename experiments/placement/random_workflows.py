"""Random workflow problems of a size at which every placement can be tried, and that trial."""

from __future__ import annotations

from itertools import product

import numpy as np

from controller.arrays import F64, I64
from controller.planners.workflow.compiled import ROUNDING, Instance, Placement, evaluate
from controller.planners.workflow.problem import (
    AccuracySample,
    Message,
    Operator,
    Source,
    Variant,
    Worker,
    WorkerLink,
    WorkflowProblem,
)

MAX_WORKERS, MAX_OPERATORS = 8, 4


def random_problem(seed: int) -> WorkflowProblem:
    """A problem of 4 to 8 workers on two or three tiers and 2 to 4 operators in a tree, of which some are feasible.

    Speed grows with price, with some luck; better variants are slower; links to higher tiers cost about as much as
    workers do.
    """
    rng = np.random.default_rng((9, seed))
    num_operators, num_workers = int(rng.integers(2, MAX_OPERATORS + 1)), int(rng.integers(4, MAX_WORKERS + 1))
    num_tiers = int(rng.integers(2, 4))
    tiers = np.sort(np.concatenate([np.arange(num_tiers), rng.integers(0, num_tiers, num_workers - num_tiers)]))
    power = rng.uniform(1.0, 6.0, num_workers) * (1.0 + tiers)
    names = [f"w{w}" for w in range(num_workers)]
    reader = [int(rng.integers(v + 1, num_operators)) for v in range(num_operators - 1)]
    operators: list[Operator] = []
    messages = []
    for v in range(num_operators):
        above = [f"op{u}" for u in range(num_operators - 1) if reader[u] == v]
        inputs = [*above, *([] if above and rng.random() < 0.7 else [f"source{v % 2}"])]
        work = rng.uniform(0.02, 0.12)
        variants = []
        for m in range(int(rng.integers(1, 4))):
            runs = rng.random(num_workers) < 0.95
            seconds = work * (1.0 + 0.7 * m) / power * rng.uniform(0.8, 1.25, num_workers)
            variants.append(
                Variant(
                    name=f"m{m}",
                    selection_cost=float(work * (1.0 + 0.7 * m)),
                    accuracy=_samples(m, [o for o in operators if o.name in above]),
                    latency_s={n: float(s) for n, s, r in zip(names, seconds, runs, strict=True) if r}
                    or {names[0]: 1.0},
                )
            )
        operators.append(Operator(name=f"op{v}", inputs=tuple(inputs), variants=tuple(variants)))
        for given in inputs:
            size = float(rng.lognormal(3.0, 1.2) if given.startswith("source") else rng.lognormal(1.0, 1.5))
            messages.append(Message(source=given, target=f"op{v}", kib=size))
    best = sum(len(o.variants) - 1 for o in operators)
    labels = [f"tier{t}" for t in range(num_tiers)]
    return WorkflowProblem(
        name=f"random-{seed}",
        accuracy_target=50.0 + float(rng.integers(0, best + 1)),
        sources=tuple(Source(name=f"source{s}", rate_rps=float(rng.uniform(10.0, 50.0))) for s in range(2)),
        operators=tuple(operators),
        messages=tuple(messages),
        tiers=tuple(labels),
        workers=tuple(
            Worker(name=n, tier=labels[t], usd_per_hour=float(p * 0.1 * rng.uniform(0.7, 1.4)))
            for n, t, p in zip(names, tiers, power, strict=True)
        ),
        links=tuple(
            WorkerLink(source=labels[a], target=labels[b], usd_per_gib=float(rng.uniform(0.02, 0.3)))
            for a in range(num_tiers)
            for b in range(a + 1, num_tiers)
        ),
    )


def _samples(m: int, inputs: list[Operator]) -> tuple[AccuracySample, ...]:
    """At all accuracies that the inputs can have: 50, and a point for every step of one's own variant and of theirs."""
    reachable = [sorted({s.accuracy for variant in o.variants for s in variant.accuracy}) for o in inputs]
    return tuple(
        AccuracySample(inputs=given, accuracy=50.0 + m + sum(one - 50.0 for one in given))
        for given in product(*reachable)
    )


def brute_force(instance: Instance) -> tuple[float, Placement | None]:
    """The least cost by trying every owner of every worker under every choice of variants, with every vertex of loads.

    Shares nothing with the exact planner but the cost of a placement, and prunes by rent alone.
    """
    num_workers, num_operators = len(instance.tier), instance.num_operators
    owners = np.array(list(product(range(-1, num_operators), repeat=num_workers)), np.int64)
    rent = (owners >= 0) @ instance.usd_per_hour
    one_way = np.ones(len(owners), np.bool_)
    highest, lowest = [], []
    for v in range(num_operators):
        own = owners == v
        highest.append(np.where(own, instance.tier, -1).max(axis=1))
        lowest.append(np.where(own, instance.tier, 99).min(axis=1))
        for u in instance.from_operators[v]:
            one_way &= highest[u] <= lowest[v]
    best: tuple[float, Placement | None] = (np.inf, None)
    for variants in instance.combinations():
        serves = one_way.copy()
        for v, m in enumerate(variants):
            serves &= (owners == v) @ instance.capacity_rps[v][m] >= instance.rate_rps[v] * (1.0 - ROUNDING)
        rows = np.flatnonzero(serves)
        for row in rows[np.argsort(rent[rows], kind="stable")]:
            if rent[row] >= best[0]:
                break
            for load in _vertices(instance, variants, owners[row]):
                placement = Placement(variants, load)
                total = evaluate(instance, placement).total_usd_per_hour
                if total < best[0]:
                    best = total, placement
    return best


def _vertices(instance: Instance, variants: tuple[int, ...], owner: I64) -> list[F64]:
    """Loads that fill all of an operator's workers but one, for every choice of that one."""
    choices = []
    for v, m in enumerate(variants):
        capacity = np.where(owner == v, instance.capacity_rps[v][m], 0.0)
        loads = []
        for last in np.flatnonzero(owner == v):
            load = capacity.copy()
            load[last] = instance.rate_rps[v] - (capacity.sum() - capacity[last])
            if load[last] > 0:
                loads.append(load)
        choices.append(loads)
    return [np.stack(loads) for loads in product(*choices)]
