"""A geo plan in the simulated world, request by request, billed by the code that bills every policy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from controller.arrays import COMPUTE, EGRESS, F64, IDLE, START_UP
from controller.latency import bucket_edges
from controller.loop import DecisionLoop
from controller.planners.geo.compiled import GeoInstance, GeoPlan, compile_geo
from controller.planners.geo.plan import plan_of
from controller.policies.held import HeldPlans
from envs.simulator import Simulator
from envs.supply import Supply
from experiments.placement.geo_setting import TICK_S, setting_of
from experiments.placement.table import VariantTable

REPLAY_S = 30.0
_FOREVER_S = 1e12


@dataclass(frozen=True)
class Replayed:
    """What a span of requests came to.

    Attributes:
        requests: Arrivals.
        answered: Share of them answered within the span.
        compute_usd_per_hour: Rent, busy and idle.
        egress_usd_per_hour: Traffic out of the regions.
        accuracy: (R,) mean over answers.
        latency_s: (R,) mean over answers, from encoding to answer, within a sixteenth.
    """

    requests: int
    answered: float
    compute_usd_per_hour: float
    egress_usd_per_hour: float
    accuracy: F64
    latency_s: F64

    @property
    def total_usd_per_hour(self) -> float:
        """Both terms."""
        return self.compute_usd_per_hour + self.egress_usd_per_hour


def as_confirmed(instance: GeoInstance, table: VariantTable) -> GeoInstance:
    """The problem with accuracies and bytes of the requests that no plan has seen."""
    accuracy, size = table.confirmation.mean(axis=0), table.bytes_confirmed
    at = {(m, d): (i, j) for i, m in enumerate(table.models) for j, d in enumerate(table.data)}
    problem = instance.problem
    variants = []
    for one in problem.variants:
        i, j = at[one.model, one.data]
        variants.append(one.model_copy(update={"accuracy": float(accuracy[i, j]), "bytes": float(size[j])}))
    return compile_geo(problem.model_copy(update={"variants": tuple(variants)}))


def replay(instance: GeoInstance, plan: GeoPlan, seconds: float = REPLAY_S, seed: int = 0) -> Replayed:
    """Runs a plan request by request under Poisson arrivals at the regions' rates.

    The plan goes the way of every policy's: through guard, reconcile and split at each tick.

    Args:
        instance: The problem; what its variants do is what is booked.
        plan: Of it, or of one that differs from it in what variants do.
        seconds: Simulated.
        seed: Of arrivals and of the draws of options.
    """
    # What a plan was promised may not be what its variants do, and a floor above them is no scenario.
    floors = tuple(r.model_copy(update={"accuracy": 0.0, "floor": "mean"}) for r in instance.problem.regions)
    free = compile_geo(instance.problem.model_copy(update={"regions": floors}))
    setting = setting_of(free)
    wanted = plan_of(replace(free, service_s=instance.service_s), plan, setting)
    supply = Supply(
        np.full((1, 1), float(instance.rate_rps.sum())),
        _FOREVER_S,
        np.ones((max(1, len(setting.zones)), 1)),
        _FOREVER_S,
    )
    simulator = Simulator(setting, supply, 1)
    seen = simulator.reset(np.array([seed], np.int64), initial_replicas=wanted.replicas.copy())
    loop = DecisionLoop(setting, HeldPlans(wanted, "placement"), 1)
    num_ticks = max(1, round(seconds / TICK_S))
    for _ in range(num_ticks):
        decision = loop.decide(seen)
        simulator.apply(decision.actions, decision.plan, decision.shares)
        seen = simulator.advance()
    totals = simulator.totals
    answered = np.maximum(totals.answered[0], 1)
    edges = bucket_edges()
    per_hour = 3600.0 / (num_ticks * TICK_S)
    usd = totals.spend_usd[0]
    return Replayed(
        requests=int(totals.arrivals.sum()),
        answered=float(totals.answered.sum() / totals.arrivals.sum()),
        compute_usd_per_hour=float(usd[[COMPUTE, IDLE, START_UP]].sum()) * per_hour,
        egress_usd_per_hour=float(usd[EGRESS]) * per_hour,
        accuracy=totals.accuracy_sum[0] / answered,
        latency_s=(totals.latency[0] @ ((edges[:-1] + edges[1:]) / 2)) / answered,
    )
