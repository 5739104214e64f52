"""The span of a policy's inputs over all that it was shown while it learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.policies.policy_file import InputRange


@dataclass(frozen=True, eq=False)
class InputSpan:
    """Ends of each input's range; grows as more is seen."""

    low: NDArray[np.float32]  # (D,)
    high: NDArray[np.float32]  # (D,)
    samples: int

    @staticmethod
    def over(rows: NDArray[np.float32]) -> InputSpan:
        """Of rows (..., D), at least one."""
        flat = rows.reshape(-1, rows.shape[-1])
        return InputSpan(flat.min(axis=0), flat.max(axis=0), len(flat))

    def joined(self, other: InputSpan) -> InputSpan:
        """Of what both have seen."""
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return InputSpan(low, high, self.samples + other.samples)

    @property
    def range(self) -> InputRange:
        """As a policy file holds it."""
        low, high = (tuple(float(value) for value in ends) for ends in (self.low, self.high))
        return InputRange(low=low, high=high, samples=self.samples)

    def plain(self) -> list[Any]:
        """As plain values."""
        return [self.low.tolist(), self.high.tolist(), self.samples]

    @staticmethod
    def of(plain: Sequence[Any]) -> InputSpan:
        """What `plain` gave."""
        low, high, samples = plain
        return InputSpan(np.array(low, np.float32), np.array(high, np.float32), int(samples))
