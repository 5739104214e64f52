"""The FIFO and the credits of one option."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from serving.requests import Copy, Stage


@dataclass
class OptionQueue:
    """Copies that wait at one option, and how much of its capacity is in use.

    A withdrawn copy stays in the deque until it reaches the head: taking it out of the middle would cost a scan.
    """

    credits: int = 0
    credits_used: int = 0
    audits: int = 0  # credits that audits of tiers hold, apart from those used
    in_service: int = 0  # copies
    waiting: int = 0  # copies, withdrawn ones left out
    waiting_of: Counter[int] = field(default_factory=Counter)  # the same by request class
    _copies: deque[Copy] = field(default_factory=deque)

    @property
    def has_room(self) -> bool:
        """Whether a batch could start now."""
        return self.credits_used + self.audits < self.credits

    def push(self, copy: Copy) -> None:
        """Joins in order of arrival: at the tail, unless it waited elsewhere before."""
        at = len(self._copies)
        while at > 0 and self._copies[at - 1].queued_at_s > copy.queued_at_s:
            at -= 1
        self._copies.insert(at, copy)
        self._count(copy, 1)

    def head(self) -> Copy | None:
        """The oldest copy; None for an empty queue."""
        while self._copies and self._copies[0].stage is not Stage.QUEUED:
            self._copies.popleft()
        return self._copies[0] if self._copies else None

    def take(self, most: int) -> list[Copy]:
        """Removes the oldest copies, at most `most`."""
        taken: list[Copy] = []
        while len(taken) < most and self.head() is not None:
            taken.append(self._copies.popleft())
            self._count(taken[-1], -1)
        return taken

    def withdraw(self, copy: Copy) -> None:
        """Takes a waiting copy out."""
        copy.stage = Stage.GONE
        self._count(copy, -1)

    def _count(self, copy: Copy, change: int) -> None:
        self.waiting += change
        self.waiting_of[copy.request.request_class] += change
