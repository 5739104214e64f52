"""Keeps numbers that cannot be from reaching any decision: NaN, infinity and negative counts become what was seen last.

A NaN in one sum would otherwise stay in it for the rest of the day, in the rule's own state too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.arrays import ObservationArrays


class Repair:
    """Mends observations in place, from the last good value of each number."""

    def __init__(self) -> None:
        self._last: ObservationArrays | None = None

    def mend(self, observation: ObservationArrays) -> list[str]:
        """Replaces every impossible number by the last possible one at its place, else by 0.

        Returns:
            Names of the fields that held some.
        """
        mended = []
        for index, (name, array) in enumerate(zip(observation._fields, observation, strict=True)):
            wrong = _impossible(array)
            if wrong is not None:
                before = 0 if self._last is None else self._last[index]
                np.copyto(array, np.broadcast_to(np.asarray(before, array.dtype), array.shape), where=wrong)
                mended.append(name)
        if self._last is None:
            self._last = ObservationArrays._make(array.copy() for array in observation)
        else:
            for kept, array in zip(self._last, observation, strict=True):
                np.copyto(kept, array)
        return mended


def _impossible(array: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Where `array` is not finite, or a count is negative; None where all is possible.

    Money may be negative within a window, where idle time turns out to have been use.
    """
    if array.dtype == np.bool_:
        return None
    wrong: NDArray[np.bool_] = ~np.isfinite(array) if array.dtype.kind == "f" else array < 0
    return wrong if wrong.any() else None
