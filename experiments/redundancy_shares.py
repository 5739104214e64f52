"""How a run's requests were served redundantly: under which mode, and what was sent beside their first copies."""

from __future__ import annotations

import numpy as np

from controller.arrays import F64, I64, ObservationArrays, PlanArrays

MODES = ("none", "re-send", "hedge", "replicate", "collage", "collage, two workers")
EXTRA, BY_COLLAGE = "extra per request", "by collage"
"""Beside the modes' shares: copies and passes sent beyond the first, and share of answers that a collage gave."""


def modes_of(plan: PlanArrays) -> I64:
    """Row of `MODES` of every class, (N, C)."""
    modes = np.where(plan.hedge_after_s < np.inf, np.where(plan.hedge_after_s > 0.0, 2, 3), 0)
    modes = np.where((modes > 0) & plan.hedge_replaces, 1, modes)
    found: I64 = np.where(plan.collage_variant >= 0, np.where(plan.collage_passes > 1, 5, 4), modes)
    return found


class RedundancyShares:
    """Running sums over the windows of N envs.

    Args:
        num_envs: N.
    """

    def __init__(self, num_envs: int) -> None:
        self._requests: F64 = np.zeros((num_envs, len(MODES)))
        self._modes: I64 | None = None
        self._sent: I64 = np.zeros((num_envs, 3), np.int64)
        self._answered: F64 = np.zeros(num_envs)

    def decided(self, plan: PlanArrays) -> None:
        """Notes the modes of the tick that begins."""
        self._modes = modes_of(plan)

    def observed(self, window: ObservationArrays) -> None:
        """Adds the window that ended."""
        self._answered += window.answered.sum(axis=1)
        if self._modes is not None:
            for mode in range(len(MODES)):
                self._requests[:, mode] += np.where(self._modes == mode, window.arrivals, 0).sum(axis=1)

    def ended(self, redundant: I64) -> None:
        """Takes what the simulated world counted: duplicates, passes and answers from collages, (N, C, 3)."""
        self._sent = redundant.sum(axis=1)

    def shares(self, env: int) -> dict[str, float] | None:
        """Share of requests by mode, of those that occurred, and what was sent; None where nothing was redundant."""
        if not self._requests[env, 1:].any() and not self._sent[env].any():
            return None
        total = max(float(self._requests[env].sum()), 1.0)
        found = {name: float(n) / total for name, n in zip(MODES, self._requests[env], strict=True) if n > 0.0}
        duplicates, passes, by_collage = (float(x) for x in self._sent[env])
        answered = max(float(self._answered[env]), 1.0)
        return found | {EXTRA: (duplicates + passes) / total, BY_COLLAGE: by_collage / answered}
