"""Decides with the policy while it can be trusted, else with the named rule, and says why.

Every tick asks both, so that each one's own state is current whoever drives. What is wrong with the world (stale or
impossible numbers, promises or money burning), with the policy (error, time-out, changed file) or between them (inputs
it never saw in training) takes the wheel from it on the same tick; `Probation` says when it gets it back. All that
depends on time takes it from the observation, so equal observations give equal decisions.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from controller.arrays import ObservationArrays, PlanArrays
from controller.errors import UsageError
from controller.journal_codec import EmptyArrays
from controller.loop import Decision, DecisionLoop, Proposal
from controller.trust.again import DecideAgain, Remembered
from controller.trust.candidate import Candidate
from controller.trust.choose import Band, ask_rule, choose
from controller.trust.config import TrustConfig
from controller.trust.events import ALARM, DRIVE, LOST, MODE, POLICY, PREFERENCES, TRUST, Event, beside_event
from controller.trust.mode import ALLOWED, Driver, Mode
from controller.trust.preferences import turn_dial
from controller.trust.probation import Alarm, Probation
from controller.trust.store import PolicyEntry
from controller.trust.world_watch import WorldWatch


@dataclass(frozen=True)
class Verdict:
    """One tick. The arrays are buffers of the loops, overwritten by the next."""

    decision: Decision
    driver: Driver
    mode: Mode  # nothing is applied in `replay`
    events: tuple[Event, ...]  # to be journalled before the tick's line


def _accept(_plan: PlanArrays) -> None:
    """No plan is refused."""


class Supervisor:
    """A policy and the rule behind it. All methods may be called from any thread.

    Args:
        rule: Drives whenever the policy may not; trusted to come back. Where it fails, the fleet stays as it is.
        rule_spec: What it was made from, for the journal.
        policy: The policy's loop, compiled and reset.
        entry: What it was made from.
        mode: To begin in.
        config: Alarms and quiet times.
        check: Raises for a plan that the world cannot carry out.
    """

    def __init__(
        self,
        rule: DecisionLoop,
        rule_spec: JsonValue,
        policy: DecisionLoop,
        entry: PolicyEntry,
        *,
        mode: Mode = Mode.ACTIVE,
        config: TrustConfig | None = None,
        check: Callable[[PlanArrays], None] = _accept,
    ) -> None:
        setting = rule.setting
        self.config = config or TrustConfig()
        self.rule, self._rule_spec = rule, rule_spec
        rule.keep_plans()
        self.candidate = Candidate(policy, entry, self.config, check)
        self.mode = mode
        self.driver = ALLOWED[mode]
        self.probation = Probation(self.config, setting.scenario.speed)
        self.preferences: dict[str, JsonValue] = {}  # none: the policy's own
        self.alarms: dict[Alarm, str] = {}
        self.now_s = 0.0
        self.ticks = self.rule_ticks = 0
        self.decide_s: list[float] = []
        self._setting, self._check = setting, check
        self._world = WorldWatch(self.config, setting)
        self._empty = EmptyArrays(setting.shape)
        self._pending: list[Event] = []
        self._has_begun = False
        self._lock = threading.RLock()

    # The tick

    def decide(self, observation: ObservationArrays, stale_ticks: int = 0) -> Verdict:
        """One decision of an env (N = 1).

        Args:
            observation: What is seen; impossible numbers in it are mended in place.
            stale_ticks: Readings in a row that failed before this observation, which then repeats the last.
        """
        with self._lock:
            began = time.perf_counter()
            events = self._begun()
            alarms = self._world.update(observation, stale_ticks)
            self.now_s = float(observation.time_s[0])
            proposal = self._ask(observation, alarms, events)
            is_trusted = self.probation.step(self.now_s, alarms, proposal is not None)
            driver = self._driver(is_trusted, proposal)
            ruled = ask_rule(self.rule, observation)
            if ruled.fault:
                alarms[Alarm.RULE_ERROR] = ruled.fault
            events += self._changes(alarms, driver)
            band = Band(self.config.canary_share, self.config.canary_least)
            choice = choose(driver, observation, ruled.decision, self.candidate.loop, proposal, band)
            if choice.beside is not None and (driver is Driver.RULE or self.mode is Mode.REPLAY):
                by = Driver.POLICY if driver is Driver.RULE else Driver.RULE
                events.append(beside_event(by, choice.beside, self._empty))
            self.ticks += 1
            self.rule_ticks += driver is Driver.RULE
            self.decide_s.append(time.perf_counter() - began)
            return Verdict(choice.decision, driver, self.mode, tuple(events))

    def _ask(self, observation: ObservationArrays, alarms: dict[Alarm, str], events: list[Event]) -> Proposal | None:
        changed = self.candidate.changed_file()
        if changed is not None:
            alarms[Alarm.HASH_MISMATCH] = changed
        answer = self.candidate.ask(observation)
        alarms |= answer.alarms
        if answer.is_lost:
            reason = next(iter(answer.alarms)).value
            lost = {"why": LOST, "reason": reason, "detail": self.candidate.fault, **self.entry.as_json()}
            events.append(Event(POLICY, lost))
        return answer.proposal

    def _driver(self, is_trusted: bool, proposal: Proposal | None) -> Driver:
        # What is not applied cannot do harm: in replay mode the alarms are journalled, and the policy is watched on.
        if proposal is None or not (is_trusted or self.mode is Mode.REPLAY):
            return Driver.RULE
        return ALLOWED[self.mode]

    def _changes(self, alarms: dict[Alarm, str], driver: Driver) -> list[Event]:
        """Events of what is different from the tick before."""
        events = []
        for alarm in Alarm:
            if (alarm in alarms) != (alarm in self.alarms):
                is_on = alarm in alarms
                detail = alarms[alarm] if is_on else ""
                events.append(Event(ALARM, {"alarm": alarm.value, "is_on": is_on, "detail": detail}))
        self.alarms = alarms
        if driver is not self.driver:
            reason = "; ".join(f"{alarm}: {text}" for alarm, text in alarms.items())
            fields: dict[str, JsonValue] = {
                "driver": driver.value,
                "from": self.driver.value,
                "mode": self.mode.value,
                "reason": reason or self._quiet_reason(driver),
                "quiet_s": self.probation.left_s(self.now_s),
            }
            events.append(Event(DRIVE, fields))
            self.driver = driver
        return events

    def _quiet_reason(self, driver: Driver) -> str:
        if driver is not Driver.RULE and self.probation.promoted_s == self.now_s:
            return f"quiet for {self.probation.needed_s * self._setting.scenario.speed:g} s"
        return f"mode {self.mode}" if self.candidate.loop is not None else f"no policy: {self.fault}"

    def _begun(self) -> list[Event]:
        events, self._pending = self._pending, []
        if self._has_begun:
            return events
        self._has_begun = True
        fields: dict[str, JsonValue] = {
            "mode": self.mode.value,
            "driver": self.driver.value,
            "rule": self._rule_spec,
            "policy": self.entry.as_json(),
            "config": self.config.model_dump(mode="json"),
            "drift_is_tested": self.candidate.drift.is_on,
        }
        return [Event(TRUST, fields), *events]

    # What an operator does, between two ticks

    def set_mode(self, mode: Mode, by: str = "operator") -> None:
        """Changes the mode from the next tick on; whoever sets it vouches for the policy, so a probation ends.

        A policy that failed stays out until it is loaded anew, which is then due at once.
        """
        with self._lock:
            self._pending.append(Event(MODE, {"mode": mode.value, "from": self.mode.value, "by": by}))
            self.mode = mode
            if self.candidate.loop is None:
                self.probation.needed_s = 0.0
            else:
                self.probation.forgive()

    def set_preferences(self, fields: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """Turns the dial of the policy, and of the rule where it has one, from the next tick on; returns all of them.

        Raises:
            UsageError: The policy has no dial.
            ConfigError: A field is wrong; nothing was changed.
        """
        with self._lock:
            if self.candidate.loop is None:
                raise UsageError(f"preferences: expected a policy that decides, got one that failed: {self.fault}")
            self.preferences = turn_dial(self.candidate.loop.policy, fields)
            self._turn(self.rule)
            self._pending.append(Event(PREFERENCES, self.preferences))
            return self.preferences

    def _turn(self, loop: DecisionLoop | None) -> None:
        """Gives a loop the preferences that are set; one without a dial goes on as it is."""
        if self.preferences and loop is not None:
            with suppress(UsageError):
                turn_dial(loop.policy, self.preferences)

    def install(self, loop: DecisionLoop, entry: PolicyEntry, why: str, watched: Mapping[Path, str]) -> None:
        """Puts another policy, compiled and reset, in the place of the present one from the next tick on.

        Args:
            loop: Its loop.
            entry: What it was made from.
            why: `push`, `rollback` or `retry`; after a retry the probation goes on.
            watched: Files that must stay as they are, with their digests.
        """
        with self._lock:
            self.candidate.close()
            self.candidate = Candidate(loop, entry, self.config, self._check)
            self.candidate.watch(watched)
            self._turn(loop)
            if why != "retry":
                self.probation.forgive()
            self._pending.append(Event(POLICY, {"why": why, **entry.as_json()}))

    def begin_with(self, loop: DecisionLoop, entry: PolicyEntry, watched: Mapping[Path, str]) -> None:
        """Takes another policy before the first tick, which then tells of it; arguments as for `install`."""
        with self._lock:
            self.candidate = Candidate(loop, entry, self.config, self._check)
            self.candidate.watch(watched)

    def remember(self, observation: ObservationArrays, is_fresh: bool) -> None:
        """Counts a window of a run that was cut off towards its burn rates; arguments as for `SloBurn.update`."""
        with self._lock:
            self._world.remember(observation, is_fresh)

    def go_on(self, again: DecideAgain, watched: Mapping[Path, str]) -> None:
        """Takes the place of a run that was cut off, loops and all: its journal needs no new beginning.

        Args:
            again: The run's journal, decided again to its end.
            watched: As for `install`.

        Raises:
            UsageError: The journal names no rule.
        """
        with self._lock:
            if again.rule is None:
                raise UsageError("journal: expected one that names the rule of its run, got one that does not")
            self.rule = again.rule
            self.candidate = Candidate(again.policy, again.entries[-1], self.config, self._check, again.fault)
            self.candidate.watch(watched)
            self.mode, self.driver, self.preferences = again.mode, again.driver, again.preferences
            self.now_s = 0.0 if again.last is None else float(again.last.time_s[0])
            self._has_begun = True
            if self.driver is Driver.RULE and ALLOWED[self.mode] is not Driver.RULE:
                # Why, and for how much longer, is in the snapshot, if there is one; without it the time begins anew.
                unknown = Alarm.STALE_METRICS if again.policy is not None else Alarm.POLICY_ERROR
                self.probation.step(self.now_s, {unknown: ""}, False)

    def write_down(
        self, entries: tuple[PolicyEntry, ...], last: ObservationArrays, write: Callable[[Remembered], bool]
    ) -> bool:
        """Hands over the decision path as it stands; nothing decides or changes until `write` returns.

        Args:
            entries: Policies that can be rolled back to, and the one in charge.
            last: What was decided on last.
            write: Takes the run's own loops; returns whether they were written.

        Returns:
            What `write` does; False where something has changed since the last tick, which is not in the journal yet.
        """
        with self._lock:
            if self._pending:
                return False
            run = Remembered(
                policy=self.candidate.loop,
                rule=self.rule,
                driver=self.driver,
                mode=self.mode,
                entries=entries,
                is_stale=Alarm.STALE_METRICS in self.alarms,
                has_rule_failed=Alarm.RULE_ERROR in self.alarms,
                preferences=self.preferences,
                fault=self.fault,
                last=last,
                band=Band(self.config.canary_share, self.config.canary_least),
            )
            return write(run)

    def watch(self, watched: Mapping[Path, str]) -> None:
        """Files that must keep their SHA-256 while the policy may drive."""
        with self._lock:
            self.candidate.watch(watched)

    @property
    def entry(self) -> PolicyEntry:
        """What the policy was made from."""
        return self.candidate.entry

    @property
    def fault(self) -> str:
        """Why the policy is not asked; empty while it is."""
        return self.candidate.fault

    @property
    def is_retry_due(self) -> bool:
        """Whether a policy that failed has waited long enough to be loaded anew."""
        with self._lock:
            return self.candidate.loop is None and self.probation.is_quiet(self.now_s)

    def retry_failed(self, text: str) -> None:
        """The policy could not be loaded anew; the next try waits longer."""
        with self._lock:
            self.candidate.fault = text
            self.probation.fail_again(self.now_s)

    def close(self) -> tuple[Event, ...]:
        """Ends the policy's thread; returns events that no tick has taken."""
        with self._lock:
            self.candidate.close()
            events, self._pending = self._pending, []
            return tuple(events)

    # Readings

    def status(self) -> dict[str, JsonValue]:
        """What a person asks first."""
        with self._lock:
            return {
                "mode": self.mode.value,
                "driver": self.driver.value,
                "is_trusted": self.probation.is_trusted,
                "quiet_left_s": self.probation.left_s(self.now_s),
                "alarms": {alarm.value: text for alarm, text in self.alarms.items()},
                "policy": self.entry.as_json(),
                "policy_fault": self.fault,
                "preferences": self.preferences,
                "drift_is_tested": self.candidate.drift.is_on,
                "drift_outside_share": self.candidate.drift.outside_share,
                "ticks": self.ticks,
                "rule_ticks": self.rule_ticks,
            }

    def state(self) -> dict[str, JsonValue]:
        """All that outlives a restart, as JSON; the loops' own state does not."""
        with self._lock:
            return {
                "mode": self.mode.value,
                "driver": self.driver.value,
                "probation": self.probation.state(self.now_s),
                "fault": self.fault,
                "windows": self._world.state(),
                "preferences": self.preferences,
                "ticks": self.ticks,
                "rule_ticks": self.rule_ticks,
            }

    def restore(self, state: Mapping[str, Any], now_s: float = 0.0) -> None:
        """Takes over what `state` returned; to be called before the first tick.

        After `go_on`, whose journal says who drove. Without, a policy that had failed was loaded anew by the restart;
        its quiet time goes on.
        """
        with self._lock:
            if not self._has_begun:
                self.mode, self.driver = Mode(state["mode"]), Driver(state["driver"])
                if state["preferences"]:
                    self.set_preferences(state["preferences"])
            elif self.mode.value != state["mode"]:
                self.set_mode(Mode(state["mode"]), "restart")  # was changed after the last tick
            self.now_s = now_s
            self.probation.restore(state["probation"], now_s)
            self._world.restore(state["windows"])
            self.ticks, self.rule_ticks = int(state["ticks"]), int(state["rule_ticks"])
