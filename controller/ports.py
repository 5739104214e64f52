"""The seams between decisions and worlds.

`Policy` maps an observation to a plan, batched over envs. A world is reached through `Actuator` and `MetricsSource`,
timed by a `Clock`.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from controller.arrays import F64, ActionArrays, ObservationArrays, PlanArrays


@runtime_checkable
class Policy(Protocol):
    """Observation to plan. One instance serves `num_envs` independent envs and may keep state per env."""

    name: str

    def reset(self, num_envs: int) -> None:
        """Forgets all state and prepares for `num_envs` envs."""

    def decide(self, observation: ObservationArrays) -> PlanArrays:
        """The desired state for every env; called once per tick. May return the same buffers each time."""

    def raw_output(self) -> F64:
        """What was decided before any rule turned it into the last plan, (N, K); K = 0 for a policy without knobs."""


class Actuator(Protocol):
    """Applies actions and routing to a world."""

    def apply(self, actions: ActionArrays, plan: PlanArrays, shares: F64) -> None:
        """Starts every action and hands plan and shares to the routers; satisfied actions change nothing."""


class MetricsSource(Protocol):
    """Observes a world."""

    def observe(self) -> ObservationArrays:
        """Facts of the window that just ended."""


class Clock(Protocol):
    """Time of a world, seconds."""

    def now_s(self) -> float:
        """Seconds since the start of the run."""
