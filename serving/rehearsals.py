"""Faults that cannot be done to one process from outside without touching the machine.

A run takes them only where it was started for it. Blindness ends by itself; a clock that jumped stays where it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.errors import UsageError, mismatch

KINDS = ("blind_s", "clock_jump_s")


@dataclass
class Rehearsals:
    """What is broken at the moment.

    Args:
        clock: Seconds that only grow.
    """

    clock: Callable[[], float] = time.monotonic
    _blind_until_s: float = field(init=False, default=0.0)

    @property
    def is_blind(self) -> bool:
        """Whether the router cannot be read."""
        return self.clock() < self._blind_until_s

    def begin(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Begins one.

        Args:
            fields: `what`: `blind_s`, the router cannot be read for `value` seconds, or `clock_jump_s`, the wall clock
                of this process is off by `value` seconds from now on.

        Raises:
            UsageError: No such rehearsal, or no number.
        """
        what, value = fields.get("what"), fields.get("value")
        if what not in KINDS:
            raise UsageError(mismatch("what", f"one of {', '.join(KINDS)}", what))
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise UsageError(mismatch("value", "a number of seconds", value))
        if what == "blind_s":
            self._blind_until_s = self.clock() + float(value)
        else:
            _jump(float(value))
        return {"what": what, "value": value}


def _jump(seconds: float) -> None:
    real = time.time
    time.time = lambda: real() + seconds
