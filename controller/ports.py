"""The seams between decisions and worlds.

`Policy` maps an observation to a plan, batched over envs. A world is reached through `Actuator` and `MetricsSource`,
timed by a `Clock`. A `WorldModel` predicts what plans would do in it; whoever composes a run injects it, and asks it
after a decision was applied, never inside one.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

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


@runtime_checkable
class Explaining(Protocol):
    """A policy that can say what its last plan was made for; asked after a decision, never inside one."""

    def explain(self, observation: ObservationArrays) -> dict[str, float]:
        """Named numbers of env 0 behind the plan made for this observation; units are in the names."""


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


class Rollout(NamedTuple):
    """Predicted outcome of K plans over a horizon, each the mean over replications, with its standard error.

    NaN where nothing can be said: an error of one replication, the accuracy of no answer.
    """

    cost_usd: F64  # (K,)
    attainment: F64  # (K,) share of the requests whose deadline did not pass unanswered within the horizon
    accuracy: F64  # (K,) mean accuracy of the variants that answered
    cost_usd_error: F64  # (K,)
    attainment_error: F64  # (K,)
    accuracy_error: F64  # (K,)


@runtime_checkable
class WorldModel(Protocol):
    """Predicts what would follow from plans."""

    def rollout(self, observation: ObservationArrays, plans: PlanArrays, horizon_s: float) -> Rollout:
        """Outcome of K plans, each held for the horizon, from the state that an observation of one env tells of.

        Plans go through the same guard and split as any policy's.
        """
