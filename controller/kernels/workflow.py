"""Where the messages of workflows go: each operator has a split of its own."""

from __future__ import annotations

import numpy as np

from controller.arrays import F64, ObservationArrays, PlanArrays, WorkloadArrays
from controller.kernels.compiled import inner


@inner
def workflow_split(
    wl: WorkloadArrays,
    obs: ObservationArrays,
    plan: PlanArrays,
    n: int,
    c: int,
    serving: F64,
    shares: F64,
) -> None:
    """Shares of a class whose workflow has several operators; those of each operator sum to 1, or to 0 without options.

    The plan's own ones where it fixes them and they serve, else in proportion to capacity. An operator that nothing
    serves waits where most is starting, else planned.
    """
    num_variants, num_pools = serving.shape
    for operator in range(wl.num_operators[c]):
        total, fixed = 0.0, 0.0
        starting, most_starting, most_planned = -1, -1, -1
        for v in range(num_variants):
            for p in range(num_pools):
                if wl.operator[c, v] != operator or not wl.allowed[c, v, p]:
                    continue
                if serving[v, p] > 0.0:
                    total += serving[v, p]
                    own = plan.shares[n, c, v, p]
                    fixed += own if plan.fixed_shares[n] and own > 0.0 and own < np.inf else 0.0
                begun, planned = obs.starting[n, v, p], plan.replicas[n, v, p]
                if begun > most_starting or (begun == most_starting and planned > most_planned):
                    starting, most_starting, most_planned = v * num_pools + p, begun, planned
        if total <= 0.0:
            if starting >= 0:
                shares[n, c, starting // num_pools, starting % num_pools] = 1.0
            continue
        for v in range(num_variants):
            for p in range(num_pools):
                if wl.operator[c, v] != operator or not wl.allowed[c, v, p] or serving[v, p] <= 0.0:
                    continue
                own = plan.shares[n, c, v, p]
                if fixed > 0.0:
                    shares[n, c, v, p] = own / fixed if own > 0.0 and own < np.inf else 0.0
                else:
                    shares[n, c, v, p] = serving[v, p] / total
