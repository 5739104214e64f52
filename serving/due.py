"""Requests, or groups of them, by the time at which something of them is due."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

OneT = TypeVar("OneT")


@dataclass
class Due(Generic[OneT]):
    """A queue by time; what is due at the same time comes in the order in which it was added."""

    _heap: list[tuple[float, int, OneT]] = field(default_factory=list)
    _added: int = 0

    def add(self, at_s: float, one: OneT) -> None:
        """Something of one is due then."""
        self._added += 1
        heapq.heappush(self._heap, (at_s, self._added, one))

    def until(self, now_s: float) -> Iterator[OneT]:
        """Takes out what is due."""
        while self._heap and self._heap[0][0] <= now_s:
            yield heapq.heappop(self._heap)[2]

    @property
    def next_s(self) -> float:
        """When the next is due; infinite for never."""
        return self._heap[0][0] if self._heap else float("inf")
