"""Decides the ticks of a journal again, whoever drove: with the events between them, as the live run decided."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from controller.arrays import F64, PlanArrays
from controller.compile import Setting
from controller.config import parse_config
from controller.journal import JournalError, JournalEvent, JournalTick
from controller.journal_codec import EmptyArrays
from controller.loop import Decision, DecisionLoop
from controller.plan import Reason
from controller.policies.registry import PolicySpec, make_policy
from controller.ports import Policy
from controller.trust.choose import Band, choose
from controller.trust.config import TrustConfig
from controller.trust.events import BESIDE, DRIVE, LOST, POLICY, TRUST, read_beside
from controller.trust.mode import Driver
from controller.trust.store import PolicyStore, entry_of


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


class DecideAgain:
    """The decision path of a journal.

    Args:
        setting: Of the journal's header.
        folder: That the journal lies in, with the policies that were pushed in the run.
        policy: What decided at first.
    """

    def __init__(self, setting: Setting, folder: Path, policy: str | PolicySpec) -> None:
        self._setting = setting
        self._store = PolicyStore(folder)
        self._first = policy
        self._policy: DecisionLoop | None = self._loop(make_policy(policy, setting))
        self._rule: DecisionLoop | None = None
        self._driver = Driver.POLICY
        self._band = Band(0.0, 0)
        self._empty = EmptyArrays(setting.shape)
        self._beside: tuple[str, F64, PlanArrays] | None = None

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
        beside, self._beside = self._beside, None
        if self._rule is None:
            return self._without_a_rule(tick)
        loops = {"rule": self._rule, "policy": self._policy}
        recorded = {"rule" if self._driver is Driver.RULE else "policy": tick.raw}
        if beside is not None:
            recorded[beside[0]] = beside[1]
        for name, raw in recorded.items():
            loop = loops.get(name)
            if loop is not None and isinstance(loop.policy, RawReplayable):
                loop.policy.force_raw(raw)
        proposal = None if self._policy is None else self._policy.propose(tick.observation)
        choice = choose(self._driver, tick.observation, self._rule, self._policy, proposal, self._band)
        other = () if beside is None or choice.beside is None else ((*beside, choice.beside),)
        return TickAgain(self._driver, choice.decision, other)

    def _without_a_rule(self, tick: JournalTick) -> TickAgain:
        """A journal that names no rule: a simulated one, or a live one from before they did."""
        assert self._policy is not None  # only events take it away
        if isinstance(self._policy.policy, RawReplayable):
            self._policy.policy.force_raw(tick.raw)
        decision = self._policy.decide(tick.observation)
        is_ruled = bool(tick.plan.reasons[0] & Reason.FALLBACK_RULE)
        return TickAgain(Driver.RULE if is_ruled else Driver.POLICY, None if is_ruled else decision, ())

    def _take(self, event: JournalEvent) -> None:
        fields: Any = event.fields
        if event.kind == TRUST:
            self._begin(fields, f"line {event.line}")
        elif event.kind == POLICY:
            is_lost = fields["why"] == LOST
            self._policy = None if is_lost else self._loop(self._store.make(entry_of(fields), self._setting))
        elif event.kind == DRIVE:
            self._driver = Driver(fields["driver"])
        elif event.kind == BESIDE:
            self._beside = read_beside(fields, self._empty)

    def _begin(self, fields: Any, where: str) -> None:
        """The run begins, or goes on after a restart: both loops are new."""
        config = parse_config(fields["config"], TrustConfig, where)
        rule = fields["rule"]
        spec = rule if isinstance(rule, str) else parse_config(rule, PolicySpec, where)
        is_restart = self._rule is not None
        self._rule = self._loop(make_policy(spec, self._setting))
        self._driver = Driver(fields["driver"])
        self._band = Band(config.canary_share, config.canary_least)
        if is_restart:
            self._policy = self._loop(self._store.make(entry_of(fields["policy"]), self._setting))

    def _loop(self, policy: Policy) -> DecisionLoop:
        return DecisionLoop(self._setting, policy, 1)
