"""The ways to be redundant, on equal terms: when requests are answered, and what is used for it.

All requests of a group arrive at once. A copy goes to a worker of its own, the first answer counts, and what is not
needed any more is withdrawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller.arrays import F64
from experiments.collage.draws import Draws


@dataclass(frozen=True)
class Outcome:
    """What became of G groups of k requests.

    Attributes:
        answer_s: Age of each at its answer, shape (G, k).
        by_collage: Whether the collage gave it, shape (G, k).
        extra: Requests and passes sent beyond the first, per request.
        servers: Workers held per request; a copy that is sent late counts by how often it is.
        busy_s: Seconds that workers ran, per request.
    """

    answer_s: F64
    by_collage: NDArray[np.bool_]
    extra: float
    servers: float
    busy_s: float


def unaided(draws: Draws) -> Outcome:
    """No redundancy."""
    own = draws.own
    return Outcome(own, np.zeros(own.shape, bool), 0.0, 1.0, float(own.mean()))


def resend(draws: Draws, after_s: float, *, is_withdrawn: bool = False) -> Outcome:
    """A request without an answer is sent once more.

    Args:
        draws: Latencies.
        after_s: Its age then; 0 replicates all at once.
        is_withdrawn: The first one is given up then; else the first answer counts.
    """
    is_late = draws.own > after_s
    again = after_s + draws.copies
    answer_s = np.where(is_late, again if is_withdrawn else np.minimum(draws.own, again), draws.own)
    extra = float(is_late.mean())
    first_s = np.where(is_late & is_withdrawn, after_s, answer_s)
    busy_s = float(first_s.mean() + np.where(is_late, answer_s - after_s, 0.0).mean())
    return Outcome(answer_s, np.zeros(is_late.shape, bool), extra, 1.0 + extra, busy_s)


def collage(draws: Draws, after_s: float, ratio: float, *, passes: int = 1, is_resent: bool = False) -> Outcome:
    """One pass over all of the group answers those that straggle.

    Args:
        draws: Latencies.
        after_s: Age from which a request straggles.
        ratio: Time of a pass over that of a request.
        passes: Workers that make it, of which the first one counts.
        is_resent: A request that straggles before the pass is there is sent once more.
    """
    k = draws.own.shape[1]
    pass_s = ratio * draws.passes[:, :passes].min(axis=1, keepdims=True)
    own = draws.own
    is_late = (own > after_s) & (pass_s > after_s) & is_resent
    without = np.where(is_late, np.minimum(own, after_s + draws.copies), own)
    there = np.maximum(pass_s, after_s)
    answer_s = np.minimum(without, there)
    needed_s = np.minimum(pass_s[:, 0], without.max(axis=1))
    resent = float(is_late.mean())
    copies_s = np.where(is_late, answer_s - after_s, 0.0).mean()
    return Outcome(
        answer_s,
        there < without,
        passes / k + resent,
        (k + passes) / k + resent,
        float(answer_s.mean() + copies_s + passes * needed_s.mean() / k),
    )
