"""Requests, collages and copies event by event, under the rules that the simulator and the router follow.

Slow and plain: it holds the study's array formulas to account, and shows what arrivals that are spread in time change.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from controller.errors import RunError
from controller.redundancy import collage_is_full, straggles_at_s


class _Event(IntEnum):
    """In the order in which what happens at one moment is dealt with: an own answer comes before the collage's."""

    ANSWER = 0
    PASS = 1
    STRAGGLES = 2
    ARRIVES = 3


@dataclass(frozen=True)
class Rules:
    """How a group is served.

    Attributes:
        cells: Of a collage.
        after_s: Age from which a request straggles.
        passes: Workers that make a group's pass.
        is_resent: A request that straggles before the pass is there is sent once more.
    """

    cells: int
    after_s: float
    passes: int = 1
    is_resent: bool = False


@dataclass(frozen=True)
class Replayed:
    """What became of N requests.

    Attributes:
        answer_s: Age of each at its answer.
        by_collage: Whether the collage gave it.
        sent_again: Copies.
        collages: Groups whose collage was sent.
        busy_s: Seconds that workers ran, in all.
    """

    answer_s: list[float]
    by_collage: list[bool]
    sent_again: int
    collages: int
    busy_s: float


@dataclass
class _Group:
    waiting: set[int] = field(default_factory=set)
    sent_s: float | None = None
    is_there: bool = False


class _Stream:
    """The run of one replay."""

    def __init__(
        self, arrival_s: Sequence[float], own_s: Sequence[float], copies_s: Sequence[float], passes_s: Iterator[float]
    ) -> None:
        self.arrival_s, self.own_s, self.copies_s, self.passes_s = arrival_s, own_s, copies_s, passes_s
        self.events = [(at, _Event.ARRIVES, i) for i, at in enumerate(arrival_s)]
        heapq.heapify(self.events)
        count = len(arrival_s)
        self.answer_s: list[float | None] = [None] * count
        self.by_collage = [False] * count
        self.copy_sent_s: dict[int, float] = {}
        self.group_of: list[int] = [-1] * count
        self.groups: list[_Group] = []
        self.busy_s = 0.0

    def run(self, rules: Rules) -> Replayed:
        while self.events:
            now_s, event, at = heapq.heappop(self.events)
            if event is _Event.ARRIVES:
                self._arrive(rules, at, now_s)
            elif event is _Event.ANSWER:
                if self.answer_s[at] is None:
                    self._answer(rules, at, now_s, by_collage=False)
            elif event is _Event.PASS:
                self._pass(rules, self.groups[at], now_s)
            elif self.answer_s[at] is None:
                self._straggle(rules, at, now_s)
        ages = [age for age in self.answer_s if age is not None]
        if len(ages) != len(self.answer_s):
            raise RunError(f"replay: expected {len(self.answer_s)} answers, got {len(ages)}")
        sent = sum(group.sent_s is not None for group in self.groups)
        return Replayed(ages, self.by_collage, len(self.copy_sent_s), sent, self.busy_s)

    def _arrive(self, rules: Rules, i: int, now_s: float) -> None:
        if not self.groups or self.groups[-1].sent_s is not None:
            self.groups.append(_Group())
        group, self.group_of[i] = self.groups[-1], len(self.groups) - 1
        group.waiting.add(i)
        heapq.heappush(self.events, (now_s + self.own_s[i], _Event.ANSWER, i))
        heapq.heappush(self.events, (straggles_at_s(now_s, rules.after_s), _Event.STRAGGLES, i))
        if collage_is_full(len(group.waiting), rules.cells):
            self._send(rules, self.group_of[i], now_s)

    def _send(self, rules: Rules, at: int, now_s: float) -> None:
        self.groups[at].sent_s = now_s
        first_s = min(next(self.passes_s) for _ in range(rules.passes))
        heapq.heappush(self.events, (now_s + first_s, _Event.PASS, at))

    def _straggle(self, rules: Rules, i: int, now_s: float) -> None:
        group = self.groups[self.group_of[i]]
        if group.sent_s is None:
            self._send(rules, self.group_of[i], now_s)
        elif group.is_there:
            self._answer(rules, i, now_s, by_collage=True)
        elif rules.is_resent:
            self.copy_sent_s[i] = now_s
            heapq.heappush(self.events, (now_s + self.copies_s[i], _Event.ANSWER, i))

    def _pass(self, rules: Rules, group: _Group, now_s: float) -> None:
        if not group.waiting or group.sent_s is None:
            return
        group.is_there = True
        self.busy_s += rules.passes * (now_s - group.sent_s)
        for i in sorted(group.waiting):
            if straggles_at_s(self.arrival_s[i], rules.after_s) <= now_s:
                self._answer(rules, i, now_s, by_collage=True)

    def _answer(self, rules: Rules, i: int, now_s: float, *, by_collage: bool) -> None:
        if self.answer_s[i] is not None:
            raise RunError(f"replay: expected one answer of request {i}, got another")
        self.answer_s[i], self.by_collage[i] = now_s - self.arrival_s[i], by_collage
        self.busy_s += now_s - self.arrival_s[i]
        if i in self.copy_sent_s:
            self.busy_s += now_s - self.copy_sent_s[i]
        group = self.groups[self.group_of[i]]
        group.waiting.discard(i)
        if not group.waiting and group.sent_s is not None and not group.is_there:
            self.busy_s += rules.passes * (now_s - group.sent_s)


def replay(
    arrival_s: Sequence[float],
    own_s: Sequence[float],
    copies_s: Sequence[float],
    passes_s: Iterator[float],
    rules: Rules,
) -> Replayed:
    """Serves requests as they arrive, in groups that are sent when full or when their oldest request straggles.

    Args:
        arrival_s: Of each request.
        own_s: What each takes.
        copies_s: What each takes where it is sent again.
        passes_s: What each pass takes, in the order they are sent.
        rules: How groups are served.

    Raises:
        RunError: A request got no answer, or two.
    """
    return _Stream(arrival_s, own_s, copies_s, passes_s).run(rules)
