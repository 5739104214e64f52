"""The drift test: whether what a policy is shown lies outside what it was trained on."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from controller.arrays import F64, ObservationArrays
from controller.observation import FIELDS
from controller.policies.policy_file import InputRange
from controller.trust.config import DriftConfig

LEAST_WIDTH = 0.1
"""Range that every input counts to have at least. Inputs are ratios of about 1; one that never moved in training has no
range of its own, and would be outside by the last bit.
"""

_SHOWN = 3


@runtime_checkable
class KnowsItsInputs(Protocol):
    """A policy that can say what it is shown and what it was shown in training."""

    input_range: InputRange | None

    def features(self, observation: ObservationArrays) -> NDArray[np.float32]:
        """The inputs of an observation, (N, D); asked before `decide`, and changes nothing."""


class DriftTest:
    """Fires when enough inputs lie outside for enough ticks in a row.

    Args:
        config: Margin, share and ticks.
        known: The training range; None: the test never fires.
    """

    def __init__(self, config: DriftConfig, known: InputRange | None) -> None:
        self._config = config
        self.is_on = config.is_on and known is not None
        self.outside_share = 0.0
        self.ticks_outside = 0
        low = np.zeros(0) if known is None else np.array(known.low)
        high = np.zeros(0) if known is None else np.array(known.high)
        beyond = config.margin * np.maximum(high - low, LEAST_WIDTH)
        self._low: F64 = low - beyond
        self._high: F64 = high + beyond

    def update(self, features: NDArray[np.float32]) -> str | None:
        """One tick's inputs, (D,); says what is outside while the test fires, else None."""
        if not self.is_on:
            return None
        beyond = np.maximum(self._low - features, features - self._high)
        self.outside_share = float((beyond > 0).mean())
        self.ticks_outside = self.ticks_outside + 1 if self.outside_share >= self._config.share else 0
        if self.ticks_outside < self._config.ticks:
            return None
        worst = np.argsort(-beyond)[:_SHOWN]
        shown = ", ".join(f"{input_name(int(i))} {features[i]:.2f}" for i in worst)
        return (
            f"{self.outside_share:.0%} of the policy's inputs are outside what it saw in training, "
            f"{self.ticks_outside} ticks in a row: {shown}"
        )


def input_name(index: int) -> str:
    """Name of one number of the observation, `field` or `field[i]`."""
    for field in FIELDS:
        if index < field.size:
            return field.name if field.size == 1 else f"{field.name}[{index}]"
        index -= field.size
    return str(index)
