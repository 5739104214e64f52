"""When a pool may be bought from again: after failures not before a pause, which doubles and is drawn within bounds."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass
class Breaker:
    """A circuit breaker. Closed, everything passes; after a failure nothing until the pause is over, then one try.

    The pause is drawn between half and all of `base_s` x 2^failures, at most `most_s`: many owners that failed together
    do not come back together.

    Args:
        random: Draws the jitter.
        base_s: Pause after the first failure.
        most_s: Longest pause.
    """

    random: Random
    base_s: float = 5.0
    most_s: float = 300.0
    failures: int = 0  # in a row
    until_s: float = 0.0  # nothing passes before

    def is_open(self, now_s: float) -> bool:
        """Whether nothing may be tried now."""
        return now_s < self.until_s

    @property
    def is_trying(self) -> bool:
        """Whether a try would be the first after a failure, and so should ask for little."""
        return self.failures > 0

    def fail(self, now_s: float) -> float:
        """A try failed; returns the pause, s."""
        pause_s = min(self.most_s, self.base_s * 2.0 ** min(self.failures, 30))
        pause_s *= 0.5 + 0.5 * self.random.random()
        self.failures += 1
        self.until_s = now_s + pause_s
        return pause_s

    def succeed(self) -> None:
        """A try succeeded: everything passes again."""
        self.failures, self.until_s = 0, 0.0
