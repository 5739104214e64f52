"""Decides the ticks of a journal again, whoever drove: with the events between them, as the live run decided."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pydantic import JsonValue

from controller.arrays import F64, ObservationArrays, PlanArrays
from controller.compile import Setting
from controller.config import parse_config
from controller.errors import UsageError
from controller.journal import JournalError, JournalEvent, JournalTick
from controller.journal_codec import EmptyArrays
from controller.loop import Decision, DecisionLoop
from controller.plan import Reason
from controller.policies.registry import PolicySpec, make_policy
from controller.ports import Policy
from controller.trust.choose import Band, ask_rule, choose
from controller.trust.config import TrustConfig
from controller.trust.events import ALARM, BESIDE, DRIVE, LOST, MODE, POLICY, PREFERENCES, TRUST, read_beside
from controller.trust.mode import Driver, Mode
from controller.trust.preferences import turn_dial
from controller.trust.probation import Alarm
from controller.trust.store import PolicyEntry, PolicyStore, entry_of


@runtime_checkable
class RawReplayable(Protocol):
    """A policy whose plan can be made from a recorded raw output.

    Another machine's float arithmetic gives raw output that is equal within a tolerance only, and a plan rounds it. So
    the plan is decided from the recorded output, and the policy's own is compared with it.
    """

    def force_raw(self, raw: F64) -> None:
        """The next `decide` uses `raw` (N, K) instead of what the policy computes, which `raw_output` still returns."""


@dataclass(frozen=True)
class TickAgain:
    """One tick, decided again. Arrays of decisions are buffers that the next tick overwrites."""

    driver: Driver
    decision: Decision | None  # None: of a rule that the journal does not name
    beside: tuple[tuple[str, F64, PlanArrays, Decision], ...]  # whose, recorded raw and plan, and decided again


@dataclass(frozen=True)
class Remembered:
    """A run's decision path at a place in its journal; fields as the attributes of `DecideAgain`.

    The loops are those of the run itself: they must not decide before this was written down or copied.
    """

    policy: DecisionLoop | None
    rule: DecisionLoop
    driver: Driver
    mode: Mode
    entries: tuple[PolicyEntry, ...]
    is_stale: bool
    preferences: dict[str, JsonValue]
    fault: str
    last: ObservationArrays
    band: Band
    has_rule_failed: bool = False


class DecideAgain:
    """The decision path of a journal.

    Args:
        setting: Of the journal's header.
        folder: That the journal lies in, with the policies that were pushed in the run.
        policy: What decided at first, or the entry of it; or all as it was at the place to go on from.

    Attributes:
        policy: Loop of the policy, in the state that the run had it in; None after it failed.
        rule: Likewise of the rule; None where the journal names none.
        driver: Who drove last.
        mode: The last one.
        entries: Policies, as they can be rolled back to; the last one is in charge.
        is_stale: Whether the router could not be read at the next tick.
        has_rule_failed: Whether the rule could not decide at the next tick.
        preferences: Those that were set last; none: the policy's own.
        fault: Why the policy failed; empty while it did not.
        last: Observation of the last tick; None before the first.
    """

    def __init__(self, setting: Setting, folder: Path, policy: str | PolicySpec | PolicyEntry | Remembered) -> None:
        self._setting = setting
        self._store = PolicyStore(folder)
        self._empty = EmptyArrays(setting.shape)
        self._beside: tuple[str, F64, PlanArrays] | None = None
        if isinstance(policy, Remembered):
            self._go_on(policy)
        else:
            self._start(policy)

    def _go_on(self, run: Remembered) -> None:
        self.policy: DecisionLoop | None = run.policy
        self.rule: DecisionLoop | None = run.rule
        self.driver, self.mode, self.entries = run.driver, run.mode, run.entries
        self.is_stale, self.preferences, self.fault = run.is_stale, run.preferences, run.fault
        self.has_rule_failed = run.has_rule_failed
        self.last: ObservationArrays | None = run.last
        self._band = run.band

    def _start(self, policy: str | PolicySpec | PolicyEntry) -> None:
        setting = self._setting
        first = self._store.make(policy, setting) if isinstance(policy, PolicyEntry) else make_policy(policy, setting)
        self.policy = self._loop(first)
        self.rule = None
        self.driver = Driver.POLICY
        self.mode = Mode.ACTIVE
        self.entries = ()
        self.is_stale = False
        self.has_rule_failed = False
        self.preferences = {}
        self.fault = ""
        self.last = None
        self._band = Band(0.0, 0)

    def happened(self, event: JournalEvent) -> None:
        """Takes in what stands before the next tick.

        Raises:
            JournalError: The event is damaged; its line is named.
            PolicyFileError: A policy that was pushed is not beside the journal, or is another one.
        """
        try:
            self._take(event)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise JournalError(f"line {event.line}: expected an event, got damaged fields ({error!r})") from error

    def decide(self, tick: JournalTick) -> TickAgain:
        """Decides one tick."""
        self.last = tick.observation
        beside, self._beside = self._beside, None
        if self.rule is None:
            return self._without_a_rule(tick)
        loops = {"rule": self.rule, "policy": self.policy}
        recorded = {"rule" if self.driver is Driver.RULE else "policy": tick.raw}
        if beside is not None:
            recorded[beside[0]] = beside[1]
        for name, raw in recorded.items():
            loop = loops.get(name)
            if loop is not None and isinstance(loop.policy, RawReplayable):
                loop.policy.force_raw(raw)
        proposal = None if self.policy is None else self.policy.propose(tick.observation)
        ruled = ask_rule(self.rule, tick.observation, has_failed=self.has_rule_failed).decision
        choice = choose(self.driver, tick.observation, ruled, self.policy, proposal, self._band)
        other = () if beside is None or choice.beside is None else ((*beside, choice.beside),)
        return TickAgain(self.driver, choice.decision, other)

    def _without_a_rule(self, tick: JournalTick) -> TickAgain:
        """A journal that names no rule: a simulated one, or a live one from before they did."""
        assert self.policy is not None  # only events take it away
        if isinstance(self.policy.policy, RawReplayable):
            self.policy.policy.force_raw(tick.raw)
        decision = self.policy.decide(tick.observation)
        is_ruled = bool(tick.plan.reasons[0] & Reason.FALLBACK_RULE)
        return TickAgain(Driver.RULE if is_ruled else Driver.POLICY, None if is_ruled else decision, ())

    def _take(self, event: JournalEvent) -> None:
        fields: Any = event.fields
        if event.kind == TRUST:
            self._begin(fields, f"line {event.line}")
        elif event.kind == POLICY and fields["why"] == LOST:
            self.policy, self.fault = None, str(fields["detail"])
        elif event.kind == POLICY:
            entry = entry_of(fields)
            self.policy, self.fault = self._loop(self._store.make(entry, self._setting)), ""
            self._turn(self.policy)
            earlier = {"push": self.entries, "rollback": self.entries[:-2]}.get(str(fields["why"]), self.entries[:-1])
            self.entries = (*earlier, entry)
        elif event.kind == ALARM and fields["alarm"] == Alarm.STALE_METRICS:
            self.is_stale = bool(fields["is_on"])
        elif event.kind == ALARM and fields["alarm"] == Alarm.RULE_ERROR:
            self.has_rule_failed = bool(fields["is_on"])
        elif event.kind == PREFERENCES:
            self.preferences = fields
            for loop in (self.policy, self.rule):
                self._turn(loop)
        elif event.kind == MODE:
            self.mode = Mode(fields["mode"])
        elif event.kind == DRIVE:
            self.driver = Driver(fields["driver"])
        elif event.kind == BESIDE:
            self._beside = read_beside(fields, self._empty)

    def _begin(self, fields: Any, where: str) -> None:
        """The run begins, or goes on after a restart: both loops are new."""
        config = parse_config(fields["config"], TrustConfig, where)
        rule = fields["rule"]
        spec = rule if isinstance(rule, str) else parse_config(rule, PolicySpec, where)
        is_restart = self.rule is not None
        self.preferences = {}
        self.entries = (entry_of(fields["policy"]),)
        self.mode = Mode(fields["mode"])
        self.rule = self._loop(make_policy(spec, self._setting))
        self.rule.keep_plans()
        self.driver = Driver(fields["driver"])
        self._band = Band(config.canary_share, config.canary_least)
        if is_restart:
            self.policy = self._loop(self._store.make(entry_of(fields["policy"]), self._setting))

    def _turn(self, loop: DecisionLoop | None) -> None:
        """As `Supervisor` does."""
        if self.preferences and loop is not None:
            with suppress(UsageError):
                turn_dial(loop.policy, self.preferences)

    def _loop(self, policy: Policy) -> DecisionLoop:
        return DecisionLoop(self._setting, policy, 1)
