"""The `mpc` rule under tiers in the envs of a simulator: what `envs.compiled_runs.MpcRun` is for plain classes.

Cascades need the event kernel and their plans are folded, so a tick takes a few calls where plain classes take none.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.arrays import PlanArrays
from controller.tiers.expansion import Expansion
from envs.compiled_runs import MpcRun
from envs.simulator import Simulator


@dataclass(frozen=True, eq=False)
class TieredRun:
    """A rule that plans for the rows of an expansion.

    Attributes:
        rule: Its settings, knobs, state and plan are by row; its actions and shares by the real classes.
        expansion: Of the simulator's setting.
        buffers: Of `Expansion.empty_plan`.
    """

    rule: MpcRun
    expansion: Expansion
    buffers: PlanArrays

    @property
    def applied(self) -> PlanArrays:
        """The plan in force, for the real classes; its arrays are overwritten by the next tick."""
        return self.expansion.fold(self.rule.plan, self.buffers)

    def ticks(self, simulator: Simulator, ticks: int) -> None:
        """Runs every env for so many ticks under the knobs as they are."""
        from controller.kernels.decide import settle
        from controller.kernels.mpc import mpc

        rule, setting, rows = self.rule, simulator.setting, self.expansion.setting
        for _ in range(ticks):
            observed = simulator.observation
            mpc(
                rows.catalog,
                rows.workload,
                rows.limits,
                rows.control,
                rule.settings,
                rule.forecast,
                rule.knobs,
                rule.dial,
                rule.state,
                self.expansion.seen(observed),
                rule.plan,
                0,
                simulator.num_envs,
            )
            plan = self.applied
            settle(
                setting.catalog,
                setting.workload,
                rule.limits,
                setting.control,
                observed,
                plan,
                rule.actions,
                rule.shares,
                0,
                simulator.num_envs,
            )
            simulator.apply(rule.actions, plan, rule.shares)
            simulator.advance()
