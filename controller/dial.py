"""The preference dial: how much attainment is wanted, and what cost, latency and accuracy weigh, changed at run time.

Preferences move settings that a rule has anyway, relative to its own, so nothing is trained anew: a policy under
neutral preferences is itself, bit for bit. More attainment or weight on latency never plans less capacity, more weight
on accuracy never aims at less of it, more weight on cost never at more of either.
"""

from __future__ import annotations

import math
from typing import Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, Field

from controller.config import StrictModel
from controller.errors import UsageError, mismatch
from controller.ports import Policy

REACH = 3.0
"""Weights that differ by a factor of 2**REACH, or more, have the whole effect."""

LATENCY_HEADROOM = 1.5
"""What latency that outweighs cost by REACH multiplies the headroom with; cost that outweighs latency divides by it."""

ATTAINMENT_HEADROOM = 0.1
"""What one unit of log-odds of the target adds to the logarithm of the headroom: tenfold odds are a quarter more."""

SettingsT = TypeVar("SettingsT", bound=BaseModel)


class Preferences(StrictModel):
    """What an operator wants more or less of; the defaults are neutral."""

    target_attainment: float | None = Field(
        default=None,
        gt=0.5,
        le=0.9999,
        description="share of requests to answer in time; unset: what the policy was made for",
    )
    weight_cost: float = Field(default=1.0, ge=0, le=1000, description="against the weights of latency and accuracy")
    weight_latency: float = Field(default=1.0, ge=0, le=1000, description="more of it leaves more room for bursts")
    weight_accuracy: float = Field(
        default=1.0, ge=0, le=1000, description="more of it aims further above the floors, which hold in any case"
    )

    @property
    def is_neutral(self) -> bool:
        """Whether nothing is changed."""
        return self == Preferences()


@runtime_checkable
class Adjustable(Protocol):
    """A policy that has the dial."""

    def set_preferences(self, preferences: Preferences) -> None:
        """Decides by other preferences from the next decision on; what it remembers stays."""


def set_preferences(policy: Policy, preferences: Preferences) -> None:
    """Turns a running policy's dial.

    Raises:
        UsageError: The policy has none.
    """
    if not isinstance(policy, Adjustable):
        expected = "a policy with a preference dial (mpc, or a policy file)"
        raise UsageError(mismatch("preferences", expected, policy.name))
    policy.set_preferences(preferences)


def adjusted(own: SettingsT, preferences: Preferences, reference: float) -> SettingsT:
    """Settings of the `mpc` rule under preferences.

    Attainment moves the value of a miss by the odds of the target over those of `reference`, and the headroom with it,
    which goes on where the value of a miss ends. Latency against cost moves the headroom, accuracy against cost the
    margin above the floors. Everything stays within the ranges that the settings declare.

    Args:
        own: The policy's own settings; none of them is changed by neutral preferences.
        preferences: What is wanted.
        reference: Attainment that the settings were made for, in (0, 1).
    """
    if preferences.is_neutral:
        return own
    target = reference if preferences.target_attainment is None else preferences.target_attainment
    shift = _log_odds(target) - _log_odds(reference)
    latency = _balance(preferences.weight_latency, preferences.weight_cost)
    accuracy = _balance(preferences.weight_accuracy, preferences.weight_cost)
    values = own.model_dump()
    margin, most = values["accuracy_margin"], _bounds(own, "accuracy_margin")[1]
    changed = {
        "miss_multiplier": values["miss_multiplier"] * math.exp(shift),
        "headroom": values["headroom"] * math.exp(ATTAINMENT_HEADROOM * shift) * LATENCY_HEADROOM**latency,
        "accuracy_margin": margin + (most - margin) * accuracy if accuracy > 0.0 else margin * (1.0 + accuracy),
    }
    for name, value in changed.items():
        low, high = _bounds(own, name)
        changed[name] = min(high, max(low, value))
    return own.model_copy(update=changed)


def _log_odds(share: float) -> float:
    return math.log(share / (1.0 - share))


def _balance(weight: float, other: float) -> float:
    """-1 to 1: how far one weight exceeds another, in factors of two, as a share of REACH; 0 where they are equal."""
    if weight == other:
        return 0.0
    if weight <= 0.0 or other <= 0.0:
        return 1.0 if weight > other else -1.0
    return min(1.0, max(-1.0, math.log2(weight / other) / REACH))


def _bounds(settings: BaseModel, name: str) -> tuple[float, float]:
    """Declared range of a setting; a lower bound that is itself excluded is kept away from."""
    low, high = -math.inf, math.inf
    for one in type(settings).model_fields[name].metadata:
        low = max(low, getattr(one, "ge", low), getattr(one, "gt", low - 1e-3) + 1e-3)
        high = min(high, getattr(one, "le", high))
    return low, high
