"""Any policy under tiers: it plans for the steps of their cascades, and its plans carry the cascades.

One wrapper gives every rule, rival and learned policy the same lever. Settings without tiers never meet it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from controller.arrays import F64, ObservationArrays, PlanArrays
from controller.compile import Setting
from controller.dial import Adjustable, Preferences
from controller.policies.learned import LearnedPolicy
from controller.policies.policy_file import InputRange
from controller.ports import Explaining, Policy
from controller.tiers.expansion import Expansion, expand


class TieredPolicy:
    """A policy that plans for the rows of an expansion.

    Args:
        bare: Made for `expansion.setting`.
        expansion: Of the real setting.

    Attributes:
        bare: The policy itself.
    """

    def __init__(self, bare: Policy, expansion: Expansion) -> None:
        self.bare: Policy = bare
        self.name = bare.name
        self._expansion = expansion
        self._plan = expansion.empty_plan(1)

    def reset(self, num_envs: int) -> None:
        """Forgets all state and prepares for `num_envs` envs."""
        self.bare.reset(num_envs)
        self._plan = self._expansion.empty_plan(num_envs)

    def decide(self, observation: ObservationArrays) -> PlanArrays:
        """Plans every env; the same buffers are returned each time."""
        return self._expansion.fold(self.bare.decide(self._expansion.seen(observation)), self._plan)

    def raw_output(self) -> F64:
        """The policy's own."""
        return self.bare.raw_output()

    def explain(self, observation: ObservationArrays) -> dict[str, float]:
        """What the policy says; a later step's numbers carry the class's name and the step's, `gold.2`."""
        if not isinstance(self.bare, Explaining):
            return {}
        return self.bare.explain(self._expansion.seen(observation))


class TieredAdjustable(TieredPolicy):
    """The same of a policy that has the preference dial."""

    def set_preferences(self, preferences: Preferences) -> None:
        """Decides by other preferences from the next decision on; what it remembers stays."""
        assert isinstance(self.bare, Adjustable)
        self.bare.set_preferences(preferences)


class TieredLearned(TieredAdjustable):
    """The same of a learned policy, which sees the steps as classes."""

    def __init__(self, bare: LearnedPolicy, expansion: Expansion) -> None:
        super().__init__(bare, expansion)
        self._learned = bare
        self.is_known_catalog = bare.is_known_catalog

    @property
    def input_range(self) -> InputRange | None:
        """What the inputs were in training; None where the file does not say."""
        return self._learned.input_range

    def features(self, observation: ObservationArrays) -> NDArray[np.float32]:
        """The network's inputs if it looked now, (N, D); to be asked before `decide`, and changes nothing."""
        return self._learned.features(self._expansion.seen(observation))

    def force_raw(self, raw: F64) -> None:
        """The next plan is made from `raw` (N, K), as a journal recorded it."""
        self._learned.force_raw(raw)


def with_tiers(setting: Setting, make: Callable[[Setting], Policy]) -> Policy:
    """A policy for a setting: made as it is where no class has a tier, else under the tiers.

    Args:
        setting: What is decided for.
        make: Makes the policy for the setting that it is given.
    """
    if setting.tiers is None:
        return make(setting)
    expansion = expand(setting)
    bare = make(expansion.setting)
    if isinstance(bare, LearnedPolicy):
        return TieredLearned(bare, expansion)
    return (TieredAdjustable if isinstance(bare, Adjustable) else TieredPolicy)(bare, expansion)


def bare_policy(policy: Policy) -> Policy:
    """The policy itself, without tiers around it."""
    return policy.bare if isinstance(policy, TieredPolicy) else policy
