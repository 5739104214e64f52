"""Plans that are wanted whatever is seen: what a world model asks about, one per env."""

from __future__ import annotations

import numpy as np

from controller.arrays import F64, ObservationArrays, PlanArrays


class HeldPlans:
    """A policy that wants the same plans at every tick; the guard and the split are applied to them afresh.

    Args:
        plans: One per env.
        name: Name in messages.
    """

    def __init__(self, plans: PlanArrays, name: str = "held") -> None:
        self.name = name
        self._plans = plans
        self._given = PlanArrays._make(array.copy() for array in plans)

    def reset(self, num_envs: int) -> None:
        """Nothing to forget."""

    def decide(self, observation: ObservationArrays) -> PlanArrays:
        """The plans, copied, because the guard works in place."""
        for given, wanted in zip(self._given, self._plans, strict=True):
            given[...] = wanted
        return self._given

    def raw_output(self) -> F64:
        """No knobs."""
        return np.zeros((len(self._plans.need_rps), 0))
