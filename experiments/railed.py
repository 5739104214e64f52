"""A policy in a simulated run with the rails that it has live: alarms, the named rule, and the way back.

What live runs decide by is one supervisor for one env, so an env with rails is run by itself. Only what the simulated
world can show raises an alarm here: promises or money burning, and inputs that were never seen in training.
"""

from __future__ import annotations

from controller.arrays import ObservationArrays
from controller.compile import Setting
from controller.loop import Decision, DecisionLoop
from controller.policies.registry import make_policy, plain_spec, policy_file, rule_behind
from controller.trust.store import PolicyEntry
from controller.trust.supervisor import Supervisor
from experiments.run_config import PolicyChoice


class RailedLoop(DecisionLoop):
    """A decision loop of one env in which the named rule takes over as it does live.

    Args:
        setting: What is decided for.
        policy: What `make_policy` takes; the rule behind it, which `provisor serve` has too, drives where it may not.

    Raises:
        ConfigError: The policy is wrong.
    """

    def __init__(self, setting: Setting, policy: PolicyChoice) -> None:
        rule = rule_behind(policy)
        self._rule_spec, self._entry = plain_spec(rule), PolicyEntry(name="policy", spec=plain_spec(policy))
        self._rule = DecisionLoop(setting, make_policy(rule, setting))
        super().__init__(setting, make_policy(policy, setting))

    def reset(self, num_envs: int) -> None:
        """Forgets all state, that of alarms and of the rule included.

        Raises:
            ValueError: There are several envs.
        """
        if num_envs != 1:
            raise ValueError(f"num_envs: expected 1 with rails, got {num_envs}")
        super().reset(num_envs)
        self._rule.reset(1)
        # It asks this loop for proposals and settles them, and never calls `decide`.
        self.supervisor = Supervisor(self._rule, self._rule_spec, self, self._entry)

    def decide(self, observation: ObservationArrays) -> Decision:
        """Decides with the policy while it may drive, else with the rule."""
        return self.supervisor.decide(observation).decision


def has_rails(policy: PolicyChoice) -> bool:
    """Whether there is a rule behind the policy: so it is with policy files."""
    return policy_file(policy) is not None
