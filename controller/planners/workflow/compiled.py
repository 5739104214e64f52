"""A workflow problem as arrays, a placement on it, and what the placement costs.

Axes: V operators in topological order, W workers, S sources. Money is $ per hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from controller.arrays import F64, I64
from controller.errors import ConfigError
from controller.planners.workflow.problem import DEFAULT, Operator, WorkflowProblem

GIB_PER_HOUR = 3600.0 / 1024.0**2
"""Of one KiB per second."""

ROUNDING = 1e-9
"""Relative error of sums of rates that is not taken for a shortage."""


@dataclass(frozen=True)
class Instance:
    """A problem's arrays.

    Attributes:
        problem: What they are of.
        operators: In topological order.
        rate_rps: (V,) that each operator must serve.
        capacity_rps: Per operator (M, W): requests/s of a variant on a worker; 0 where it does not run.
        usd_per_hour: (W,) of a worker, rented whole.
        tier: (W,) rank of its tier.
        source_usd_per_gib: (S, W) of traffic from a source.
        link_usd_per_gib: (W, W) of traffic between workers; infinite from a higher tier to a lower one.
        from_sources: Per operator the sources that it reads.
        from_operators: Per operator the indices of operators that it reads.
    """

    problem: WorkflowProblem
    operators: tuple[Operator, ...]
    rate_rps: F64
    capacity_rps: tuple[F64, ...]
    usd_per_hour: F64
    tier: I64
    source_usd_per_gib: F64
    link_usd_per_gib: F64
    from_sources: tuple[tuple[int, ...], ...]
    from_operators: tuple[tuple[int, ...], ...]

    @property
    def num_operators(self) -> int:
        """Operators of the workflow."""
        return len(self.operators)

    @cached_property
    def to_operators(self) -> tuple[tuple[int, ...], ...]:
        """Per operator the indices of operators that read it."""
        every = range(self.num_operators)
        return tuple(tuple(v for v in every if u in self.from_operators[v]) for u in every)

    @cached_property
    def _kib(self) -> dict[tuple[str, str, str, str], float]:
        return {(m.source, m.target, m.source_variant, m.target_variant): m.kib for m in self.problem.messages}

    def gib_per_hour(self, source: str, source_variant: str, v: int, m: int) -> float:
        """Traffic of one edge into operator `v` under its variant `m`; 0 where no size is given."""
        target = self.operators[v]
        own = target.variants[m].name
        for pair in ((source_variant, own), (DEFAULT, own), (source_variant, DEFAULT), (DEFAULT, DEFAULT)):
            kib = self._kib.get((source, target.name, *pair))
            if kib is not None:
                return float(self.rate_rps[v]) * kib * GIB_PER_HOUR
        return 0.0

    def source_cost(self, v: int, m: int) -> F64:
        """$ per hour of what operator `v` reads from sources if all of it went to one worker, (W,)."""
        total = np.zeros(len(self.usd_per_hour))
        for s in self.from_sources[v]:
            total += self.gib_per_hour(self.problem.sources[s].name, DEFAULT, v, m) * self.source_usd_per_gib[s]
        return total

    def edge_gib_per_hour(self, u: int, m_u: int, v: int, m_v: int) -> float:
        """Traffic from operator `u` to operator `v` under their variants."""
        source = self.operators[u]
        return self.gib_per_hour(source.name, source.variants[m_u].name, v, m_v)

    @cached_property
    def _measured(self) -> dict[tuple[tuple[str, str], ...], float]:
        return {tuple(sorted(one.variants.items())): one.accuracy for one in self.problem.end_to_end}

    def accuracy(self, variants: tuple[int, ...]) -> float:
        """Accuracy of the sink; -inf where the tables say nothing about so inaccurate inputs.

        The measured accuracy of the whole where there is one. Otherwise operator by operator: the sample at just these
        inputs, or else the best one that needs no more of any input, which is what can be counted on.
        """
        chosen = {o.name: o.variants[m].name for o, m in zip(self.operators, variants, strict=True)}
        if self._measured:
            names = {name for key in self._measured for name, _ in key}
            found = self._measured.get(tuple(sorted((n, m) for n, m in chosen.items() if n in names)))
            if found is not None:
                return found
        reached: list[float] = []
        for v, operator in enumerate(self.operators):
            given = tuple(reached[u] for u in self.from_operators[v])
            samples = operator.variants[variants[v]].accuracy
            exact = [s.accuracy for s in samples if s.inputs == given]
            enough = [s.accuracy for s in samples if all(g >= i for g, i in zip(given, s.inputs, strict=True))]
            reached.append(exact[0] if exact else max(enough, default=-np.inf))
        return reached[-1]

    def combinations(self) -> list[tuple[int, ...]]:
        """Every choice of variants that reaches the accuracy asked for."""
        every = product(*(range(len(o.variants)) for o in self.operators))
        return [one for one in every if self.accuracy(one) >= self.problem.accuracy_target]


@dataclass(frozen=True)
class Placement:
    """Variants, and what each worker serves."""

    variants: tuple[int, ...]  # per operator
    load_rps: F64  # (V, W)

    def workers_of(self, v: int) -> I64:
        """Workers that serve operator `v`."""
        return np.flatnonzero(self.load_rps[v] > 0)


@dataclass(frozen=True)
class Cost:
    """What a placement costs and reaches.

    Attributes:
        compute_usd_per_hour: Rent of every worker used.
        communication_usd_per_hour: Traffic between tiers; a sender's messages are split over the receivers in
            proportion to their loads.
        accuracy: Of the sink.
        faults: What the placement breaks, in words; none where it may be used.
    """

    compute_usd_per_hour: float
    communication_usd_per_hour: float
    accuracy: float
    faults: tuple[str, ...] = ()

    @property
    def total_usd_per_hour(self) -> float:
        """Both terms."""
        return self.compute_usd_per_hour + self.communication_usd_per_hour


def compile_problem(problem: WorkflowProblem) -> Instance:
    """The arrays of a problem."""
    order: list[Operator] = []
    names = {o.name for o in problem.operators}
    while len(order) < len(problem.operators):
        placed = {o.name for o in order}
        order.append(
            next(o for o in problem.operators if o.name not in placed and not (set(o.inputs) & names) - placed)
        )
    index = {o.name: v for v, o in enumerate(order)}
    source_index = {one.name: s for s, one in enumerate(problem.sources)}
    ratio = {(one.source, one.target): one.ratio for one in problem.selectivities}
    rate = {s.name: s.rate_rps for s in problem.sources}
    for operator in order:
        rate[operator.name] = min(rate[i] * ratio.get((i, operator.name), 1.0) for i in operator.inputs)
    capacity = tuple(
        np.array(
            [[1.0 / m.latency_s[w.name] if w.name in m.latency_s else 0.0 for w in problem.workers] for m in o.variants]
        )
        for o in order
    )
    tier = np.array([problem.tiers.index(w.tier) for w in problem.workers], np.int64)
    source_link, link = _links(problem, tier)
    return Instance(
        problem=problem,
        operators=tuple(order),
        rate_rps=np.array([rate[o.name] for o in order]),
        capacity_rps=capacity,
        usd_per_hour=np.array([w.usd_per_hour for w in problem.workers]),
        tier=tier,
        source_usd_per_gib=source_link,
        link_usd_per_gib=link,
        from_sources=tuple(tuple(source_index[i] for i in o.inputs if i in source_index) for o in order),
        from_operators=tuple(tuple(index[i] for i in o.inputs if i in index) for o in order),
    )


def _links(problem: WorkflowProblem, tier: I64) -> tuple[F64, F64]:
    """Prices from sources (S, W) and between workers (W, W); traffic inside a tier is free."""
    given = {(one.source, one.target): one.usd_per_gib for one in problem.links}

    def price(senders: tuple[str, str], receiver: int) -> float:
        receivers = (problem.workers[receiver].name, problem.workers[receiver].tier)
        for pair in ((0, 0), (0, 1), (1, 0), (1, 1)):
            found = given.get((senders[pair[0]], receivers[pair[1]]))
            if found is not None:
                return found
        return 0.0

    num_workers = len(problem.workers)
    between, from_source = np.zeros((num_workers, num_workers)), np.zeros((len(problem.sources), num_workers))
    for b in range(num_workers):
        for a, worker in enumerate(problem.workers):
            if tier[a] > tier[b]:
                between[a, b] = np.inf
            elif tier[a] < tier[b]:
                between[a, b] = price((worker.name, worker.tier), b)
        for s, source in enumerate(problem.sources):
            if tier[b] > 0:
                from_source[s, b] = price((source.name, problem.tiers[0]), b)
    return from_source, between


def evaluate(instance: Instance, placement: Placement) -> Cost:
    """What a placement costs, and what it breaks; a placement with faults is still priced."""
    load = placement.load_rps
    used = load > 0
    share = load / instance.rate_rps[:, None]
    total = 0.0
    for v, m in enumerate(placement.variants):
        total += float(share[v] @ instance.source_cost(v, m))
        for u in instance.from_operators[v]:
            gib = instance.edge_gib_per_hour(u, placement.variants[u], v, m)
            own = instance.link_usd_per_gib[np.ix_(used[u], used[v])]
            total += gib * float(share[u, used[u]] @ np.where(np.isinf(own), 0.0, own) @ share[v, used[v]])
    return Cost(
        compute_usd_per_hour=float(instance.usd_per_hour[used.any(axis=0)].sum()),
        communication_usd_per_hour=total,
        accuracy=instance.accuracy(placement.variants),
        faults=tuple(_faults(instance, placement, used)),
    )


def checked(instance: Instance, placement: Placement) -> Cost:
    """What a placement costs.

    Raises:
        ConfigError: It may not be used; names everything it breaks.
    """
    cost = evaluate(instance, placement)
    if cost.faults:
        raise ConfigError("; ".join(cost.faults))
    return cost


def _faults(instance: Instance, placement: Placement, used: np.ndarray) -> list[str]:
    names = [w.name for w in instance.problem.workers]
    faults = [
        f"worker {names[w]}: expected one operator, got {int(used[:, w].sum())}"
        for w in np.flatnonzero(used.sum(axis=0) > 1)
    ]
    for v, operator in enumerate(instance.operators):
        load, most = placement.load_rps[v], instance.capacity_rps[v][placement.variants[v]]
        faults += [
            f"{operator.name} on {names[w]}: expected at most {most[w]:g} requests/s, got {load[w]:g}"
            for w in np.flatnonzero(load > most * (1.0 + ROUNDING))
        ]
        if abs(load.sum() - instance.rate_rps[v]) > ROUNDING * instance.rate_rps[v]:
            faults.append(f"{operator.name}: expected {instance.rate_rps[v]:g} requests/s in all, got {load.sum():g}")
        for u in instance.from_operators[v]:
            if used[u].any() and used[v].any() and instance.tier[used[u]].max() > instance.tier[used[v]].min():
                faults.append(f"{instance.operators[u].name} -> {operator.name}: expected no traffic to a lower tier")
    accuracy, target = instance.accuracy(placement.variants), instance.problem.accuracy_target
    if accuracy < target:
        faults.append(f"accuracy: expected at least {target:g}, got {accuracy:g}")
    return faults
