"""Many ticks of a compiled rule in one call: what training, tuning and selection run instead of the Python loop.

The loop of `controller.loop` and `Simulator.apply` and `advance` says the same, tick by tick, for any policy; a tick
costs it five calls with some two hundred arrays each. Both ways give the same windows, plans and totals, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controller.arrays import F64, I64, ActionArrays, LimitArrays, PlanArrays, empty_actions
from controller.compile import Setting, limits_for
from controller.policies.forms import FormPolicy
from controller.policies.learned import LearnedPolicy
from controller.policies.predictive import MpcPolicy
from controller.policies.scheme import Scheme
from controller.ports import Policy
from controller.rival_arrays import SCHEMES
from controller.rule_arrays import UNTOLD, ForecastArrays, MpcArrays, MpcState
from envs.kernels.scratch import Scratch
from envs.simulator import Simulator


@dataclass(frozen=True, eq=False)
class MpcRun:
    """The `mpc` rule in the envs of a simulator: its arrays, and where plan, actions and shares are written."""

    limits: LimitArrays  # of this run alone, for what the guard remembers
    settings: MpcArrays
    forecast: ForecastArrays
    knobs: F64  # (N, K)
    dial: F64  # (N,)
    state: MpcState
    plan: PlanArrays
    actions: ActionArrays
    shares: F64  # (N, C, V, P)

    def ticks(self, simulator: Simulator, ticks: int, told: F64 = UNTOLD) -> None:
        """Runs every env for so many ticks under the knobs as they are.

        Args:
            simulator: Its envs.
            ticks: Of each env.
            told: (T, N, 2) what the rule is told of the rate at each tick (`MpcState.told`); T = 0: as it was.
        """
        from envs.kernels.episode import run_mpc

        setting = simulator.setting

        def part(lo: int, hi: int, scratch: Scratch) -> None:
            run_mpc(
                setting.catalog,
                setting.workload,
                self.limits,
                setting.control,
                simulator.supply_arrays,
                self.settings,
                self.forecast,
                self.knobs,
                self.dial,
                self.state,
                simulator.state,
                simulator.observation,
                simulator.totals,
                self.plan,
                self.actions,
                self.shares,
                setting.answers,
                scratch,
                told,
                ticks,
                lo,
                hi,
            )

        simulator.each_part(part)


@dataclass(frozen=True, eq=False)
class FormRun:
    """The `mpc` rule in the envs of a simulator under a rival form of the action (`controller.forms`)."""

    rule: MpcRun
    forms: I64  # (N,)
    acted: F64  # (N, A)

    def ticks(self, simulator: Simulator, ticks: int) -> None:
        """Runs every env for so many ticks under the actions as they are."""
        from envs.kernels.form_episode import run_forms

        setting, rule = simulator.setting, self.rule

        def part(lo: int, hi: int, scratch: Scratch) -> None:
            run_forms(
                setting.catalog,
                setting.workload,
                rule.limits,
                setting.control,
                simulator.supply_arrays,
                rule.settings,
                rule.forecast,
                rule.knobs,
                rule.dial,
                rule.state,
                simulator.state,
                simulator.observation,
                simulator.totals,
                rule.plan,
                rule.actions,
                rule.shares,
                setting.answers,
                scratch,
                self.forms,
                self.acted,
                ticks,
                lo,
                hi,
            )

        simulator.each_part(part)


@dataclass(frozen=True, eq=False)
class SchemeRun:
    """A rival scheme in the envs of a simulator."""

    limits: LimitArrays  # as of `MpcRun`
    scheme: Scheme  # type: ignore[type-arg]  # of any settings
    actions: ActionArrays
    shares: F64  # (N, C, V, P)

    def ticks(self, simulator: Simulator, ticks: int) -> None:
        """Runs every env for so many ticks."""
        from envs.kernels.scheme_episode import run_scheme

        setting, scheme = simulator.setting, self.scheme

        def part(lo: int, hi: int, scratch: Scratch) -> None:
            run_scheme(
                SCHEMES.index(scheme.kind),
                setting.catalog,
                setting.workload,
                self.limits,
                setting.control,
                simulator.supply_arrays,
                scheme.arrays,
                scheme.state,
                simulator.state,
                simulator.observation,
                simulator.totals,
                scheme.plan,
                self.actions,
                self.shares,
                setting.answers,
                scratch,
                ticks,
                lo,
                hi,
            )

        simulator.each_part(part)


def run_compiled(policy: Policy, simulator: Simulator, ticks: int) -> bool:
    """Runs a policy that is compiled from where the simulator stands; any other is left to the Python loop.

    Args:
        policy: Begins anew.
        simulator: Its envs are run on; its totals tell what they came to.
        ticks: Of each env.

    Returns:
        Whether it was run.
    """
    if not is_compiled(policy) or simulator.needs_events:
        return False
    policy.reset(simulator.num_envs)
    limits = limits_for(simulator.setting, simulator.num_envs)
    actions, shares = buffers(simulator.setting, simulator.num_envs)
    if isinstance(policy, Scheme):
        SchemeRun(limits, policy, actions, shares).ticks(simulator, ticks)
        return True
    assert isinstance(policy, MpcPolicy)
    rule = MpcRun(
        limits, policy.arrays, policy.forecast, policy.knobs, policy.dial, policy.state, policy.plan, actions, shares
    )
    run = FormRun(rule, policy.forms, policy.acted) if isinstance(policy, FormPolicy) else rule
    done = 0
    while done < ticks:
        policy.prepare(simulator.observation)
        span = ticks - done
        if policy.interval_ticks is not None:
            span = min(span, policy.interval_ticks - int(simulator.observation.tick[0]) % policy.interval_ticks)
        if isinstance(run, FormRun):
            run.ticks(simulator, span)
        else:
            run.ticks(simulator, span, policy.told_ahead(simulator.observation, span))
        done += span
    return True


def is_compiled(policy: Policy) -> bool:
    """Whether a policy decides by a compiled rule alone, and by no method of its own."""
    kind = type(policy)
    if isinstance(policy, MpcPolicy):
        return kind.decide in (MpcPolicy.decide, LearnedPolicy.decide, FormPolicy.decide)
    return isinstance(policy, Scheme) and kind.decide is Scheme.decide


def buffers(setting: Setting, num_envs: int) -> tuple[ActionArrays, F64]:
    """Where actions and shares (N, C, V, P) of `num_envs` envs are written."""
    num_variants, num_pools, num_classes = setting.shape
    return empty_actions(num_envs, setting.shape), np.zeros((num_envs, num_classes, num_variants, num_pools))
