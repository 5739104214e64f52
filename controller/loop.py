"""One decision: policy, guard, reconcile, split. The same object decides in simulation, evaluation, replay and live."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from controller.arrays import F64, ActionArrays, ObservationArrays, PlanArrays, empty_actions, empty_plan
from controller.compile import Setting, limits_for
from controller.errors import UsageError, mismatch
from controller.plan import Reason
from controller.ports import Policy


@dataclass(frozen=True)
class Decision:
    """What one tick decided. The arrays are buffers of the loop, overwritten by the next: copy what must last."""

    plan: PlanArrays
    actions: ActionArrays
    shares: F64  # (N, C, V, P)
    raw: F64  # (N, K) what the policy itself put out; K = 0 without knobs
    proposed: PlanArrays | None = None  # the policy's plan before the guard, where the loop keeps it


@dataclass(frozen=True)
class Proposal:
    """What a policy asks for, before any limit is applied. The arrays are the policy's own buffers."""

    plan: PlanArrays
    raw: F64  # (N, K)


class DecisionLoop:
    """Turns observations into guarded plans, actions and shares.

    Args:
        setting: What is decided for.
        policy: Any policy; its plan is guarded whatever it says.
        num_envs: Independent envs, 1 when live.

    Attributes:
        limits: The hard limits, with what the guard remembers of this run.
        decide_s: Wall-clock seconds of every `decide` since `reset`; kept beside the decisions, never part of them.
        proposed: The policy's last plan before the guard, where proposals are kept; overwritten by the next.
        proposed_at: Tick that env 0's was made at; -1 before the first.
    """

    def __init__(self, setting: Setting, policy: Policy, num_envs: int = 1) -> None:
        self.setting = setting
        self.policy = policy
        self._keeps_proposals = self._keeps_plans = False
        self.reset(num_envs)

    def reset(self, num_envs: int) -> None:
        """Forgets all state, the policy's included."""
        self.policy.reset(num_envs)
        self.decide_s: list[float] = []
        self.limits = limits_for(self.setting, num_envs)
        num_variants, num_pools, num_classes = self.setting.shape
        self._actions = empty_actions(num_envs, self.setting.shape)
        self._shares = np.zeros((num_envs, num_classes, num_variants, num_pools))
        self._like = empty_plan(num_envs, self.setting.shape)
        self.proposed = empty_plan(num_envs, self.setting.shape) if self._keeps_proposals else None
        self.proposed_at = -1
        self._last = empty_plan(num_envs, self.setting.shape) if self._keeps_plans else None
        self._num_raw = 0

    def keep_proposals(self) -> None:
        """From now on every decision holds a copy of the policy's plan as it was before the guard."""
        self._keeps_proposals = True
        self.proposed = empty_plan(len(self._like.need_rps), self.setting.shape)

    def keep_plans(self) -> None:
        """From now on every plan is kept, as `hold` needs it."""
        self._keeps_plans = True
        self._last = empty_plan(len(self._like.need_rps), self.setting.shape)

    def decide(self, observation: ObservationArrays) -> Decision:
        """Decides for every env.

        Raises:
            UsageError: The policy's plan has arrays of other shapes or types than the setting asks for.
        """
        started_s = time.perf_counter()
        decision = self.settle(observation, self.propose(observation))
        self.decide_s.append(time.perf_counter() - started_s)
        return decision

    def propose(self, observation: ObservationArrays) -> Proposal:
        """What the policy asks for, the first half of `decide`; all code of the policy's own runs here.

        Raises:
            UsageError: The policy's plan has arrays of other shapes or types than the setting asks for.
        """
        plan = self.policy.decide(observation)
        self._check(plan)
        return Proposal(plan, self.policy.raw_output())

    def settle(self, observation: ObservationArrays, proposal: Proposal) -> Decision:
        """Guards a proposal, in place, and finds actions and shares; the second half of `decide`."""
        from controller.kernels.decide import settle

        plan, setting = proposal.plan, self.setting
        if self.proposed is not None:
            for kept, wanted in zip(self.proposed, plan, strict=True):
                kept[...] = wanted
            self.proposed_at = int(observation.tick[0])
        settle(
            setting.catalog,
            setting.workload,
            self.limits,
            setting.control,
            observation,
            plan,
            self._actions,
            self._shares,
            0,
            len(observation.tick),
        )
        if self._last is not None:
            for kept, decided in zip(self._last, plan, strict=True):
                kept[...] = decided
            self._num_raw = proposal.raw.shape[1]
        return Decision(plan, self._actions, self._shares, proposal.raw, self.proposed)

    def hold(self, observation: ObservationArrays) -> Decision:
        """Decides without the policy: what exists is kept, under a notice too, and all else is as it last was."""
        assert self._last is not None, "keep_plans comes first"
        plan = PlanArrays._make(array.copy() for array in self._last)
        plan.replicas[...] = observation.ready + observation.starting + observation.doomed
        plan.reasons[:] = int(Reason.RULE_FAILED)
        return self.settle(observation, Proposal(plan, np.zeros((len(observation.tick), self._num_raw))))

    def _check(self, plan: PlanArrays) -> None:
        for name, wanted, got in zip(PlanArrays._fields, self._like, plan, strict=True):
            if got.shape != wanted.shape or got.dtype != wanted.dtype:
                raise UsageError(
                    mismatch(
                        f"plan of policy '{self.policy.name}': {name}",
                        f"{wanted.dtype} of shape {wanted.shape}",
                        f"{got.dtype} of shape {got.shape}",
                    )
                )
