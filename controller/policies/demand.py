"""What a solver-based policy plans for: the demand of one env, and the program that answers it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controller.arrays import F64, I64, Bool, ObservationArrays
from controller.compile import Setting
from controller.linear_program import Program
from controller.rule_arrays import RATE_TICKS


@dataclass(frozen=True, eq=False)
class Demand:
    """What one env needs and has, and the options that its program chooses from; O of them."""

    rps: F64  # (C,) load now
    growth: float  # log of what the load is multiplied by at the horizon
    queued_rps: F64  # (C,) to work off what waits
    target: F64  # (C,) mean accuracy needed, no more than the best option has
    variant: I64  # (O,)
    pool: I64  # (O,)
    rps_each: F64  # (O,) requests/s of one replica
    existing: I64  # (O,) ready and starting
    most: I64  # (P,) replicas that a pool may hold: what it has where it takes no launches
    is_open: Bool  # (P,)
    headroom: F64  # (C,)

    @property
    def need_rps(self) -> F64:
        """Load to plan capacity for, (C,)."""
        return np.asarray(self.rps * np.exp(self.growth) * self.headroom + self.queued_rps)


@dataclass(frozen=True, eq=False)
class Stated:
    """A program and the columns whose values are the replicas to have now."""

    program: Program
    replicas: I64  # (O,) columns


def class_shares(setting: Setting, obs: ObservationArrays, n: int) -> F64:
    """Present share of each class, as the kernels estimate it: the last minute's counts with the workload as prior."""
    from controller.kernels.rates import PRIOR_REQUESTS

    length = obs.history.shape[2]
    known = min(RATE_TICKS, int(obs.tick[n]), length)
    slots = (int(obs.tick[n]) - 1 - np.arange(known)) % length
    seen = obs.history[n][:, slots]
    counts = np.where((seen > 0.0) & (seen < np.inf), seen, 0.0).sum(axis=1) + PRIOR_REQUESTS * setting.workload.share
    return np.asarray(counts / counts.sum(), np.float64)
