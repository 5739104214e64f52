"""Whether the policy is trusted: not from any alarm on, and again after quiet, of which more is asked each time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydantic import JsonValue

from controller.trust.config import TrustConfig


class Alarm(StrEnum):
    """What takes the wheel from the policy, all but the last."""

    SLO_BURN = "slo_burn"
    BUDGET_BURN = "budget_burn"
    DRIFT = "drift"
    STALE_METRICS = "stale_metrics"
    INVALID_METRICS = "invalid_metrics"
    POLICY_ERROR = "policy_error"
    TIMEOUT = "timeout"
    HASH_MISMATCH = "hash_mismatch"
    RULE_ERROR = "rule_error"  # which takes nothing from the policy: it would go to a rule that cannot decide


FAULTS = frozenset({Alarm.POLICY_ERROR, Alarm.TIMEOUT, Alarm.HASH_MISMATCH})
"""Alarms about the policy itself, which quiet alone does not mend: the quiet time is the longer one."""


@dataclass
class Probation:
    """Decides, tick by tick, whether the policy may drive. Times are control seconds of any fixed origin.

    A demotion that follows a promotion within `settle_s` is one of a row; each of a row doubles the quiet time, up to
    `max_backoff` times. So a signal that comes and goes cannot make the mode come and go with it.

    Args:
        config: Quiet times at speed 1.
        speed: Control time is divided by this.
    """

    config: TrustConfig
    speed: float = 1.0
    is_trusted: bool = True
    needed_s: float = 0.0  # of quiet, while demoted
    alarm_s: float = 0.0  # when the last alarm was on
    promoted_s: float | None = None  # when the policy was last given its place back
    row: int = 0  # demotions in a row, each soon after a promotion

    def step(self, now_s: float, alarms: Mapping[Alarm, str], can_drive: bool) -> bool:
        """One tick; returns whether the policy may drive now.

        Args:
            now_s: Time of the tick.
            alarms: Those that are on, with what they say.
            can_drive: Whether there is a policy to drive; one that failed is not there until it is loaded anew.
        """
        if alarms:
            if self.is_trusted:
                settle_s = self.config.settle_s / self.speed
                is_soon = self.promoted_s is not None and now_s - self.promoted_s <= settle_s
                self.row = self.row + 1 if is_soon else 1
                self.needed_s = 0.0
            self.is_trusted = False
            self.alarm_s = now_s
            self.needed_s = max(self.needed_s, self._quiet_s(alarms))
        elif not self.is_trusted and can_drive and self.is_quiet(now_s):
            self.is_trusted = True
            self.promoted_s = now_s
        return self.is_trusted

    def is_quiet(self, now_s: float) -> bool:
        """Whether there was no alarm for as long as is asked for."""
        return now_s - self.alarm_s >= self.needed_s - 1e-9

    def left_s(self, now_s: float) -> float:
        """Quiet that is still asked for, in seconds of the run's clock; 0 while the policy is trusted."""
        return 0.0 if self.is_trusted else max(0.0, self.needed_s - (now_s - self.alarm_s))

    def fail_again(self, now_s: float) -> None:
        """The policy could not be loaded anew: the next try waits longer."""
        self.row += 1
        self.alarm_s = now_s
        self.needed_s = self._quiet_s({Alarm.POLICY_ERROR: ""})

    def forgive(self) -> None:
        """Starts afresh: another policy was loaded, or a person set the mode."""
        self.is_trusted, self.needed_s, self.row, self.promoted_s = True, 0.0, 0, None

    def state(self, now_s: float) -> dict[str, JsonValue]:
        """As JSON, with ages in place of times, so that a run whose clock starts anew can take it over."""
        return {
            "is_trusted": self.is_trusted,
            "needed_s": self.needed_s,
            "alarm_age_s": now_s - self.alarm_s,
            "promoted_age_s": None if self.promoted_s is None else now_s - self.promoted_s,
            "row": self.row,
        }

    def restore(self, state: Mapping[str, JsonValue], now_s: float) -> None:
        """Takes over what `state` returned."""
        promoted = state["promoted_age_s"]
        self.is_trusted, self.row = bool(state["is_trusted"]), int(_number(state["row"]))
        self.needed_s = _number(state["needed_s"])
        self.alarm_s = now_s - _number(state["alarm_age_s"])
        self.promoted_s = None if promoted is None else now_s - _number(promoted)

    def _quiet_s(self, alarms: Mapping[Alarm, str]) -> float:
        config = self.config
        base_s = config.fault_quiet_s if FAULTS & alarms.keys() else config.quiet_s
        factor = min(1 << min(self.row - 1, 30), config.max_backoff)
        return base_s / self.speed * factor


def _number(value: JsonValue) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"expected a number, got {value!r}")
    return float(value)
