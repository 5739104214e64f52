"""Per-request rules on scalars for requests that are answered by more than one variant: cascades and collages.

As in `controller.routing`: the simulator's kernels compile this very source, the live router runs it as it stands, and
a test feeds both forms.
"""

from __future__ import annotations

from controller.arrays import I64

STEP_ATTEMPTS = 16
"""Attempts that each step of a cascade has to itself, so that its service draws are its own."""

COLLAGE_ATTEMPT = 15
"""Attempt that keys the draws of a group's collage, with the id of its first request."""

SECOND_PASS_ATTEMPT = STEP_ATTEMPTS + COLLAGE_ATTEMPT
"""The same of the pass that a second worker makes."""


def next_step(step: int, confidence: float, threshold: float, num_options: I64) -> int:
    """Step of a cascade that follows the answer of one.

    Args:
        step: Step that was answered; -1 to begin the cascade.
        confidence: Of its answer.
        threshold: The answer is final from this confidence on; infinite where it cannot be.
        num_options: Options that the class's shares hold for each step's variant, shape (S,); a step with none is
            skipped.

    Returns:
        The step; -1 where the answer is final: it is sure enough, or no later step has an option.
    """
    if confidence >= threshold:
        return -1
    for later in range(step + 1, len(num_options)):
        if num_options[later] > 0:
            return later
    return -1


def answer_row(uniform: float, num_rows: int) -> int:
    """Row of the table of measured answers that a draw in [0, 1) gives a request."""
    return min(int(uniform * num_rows), num_rows - 1)


def straggles_at_s(arrival_s: float, after_s: float) -> float:
    """Moment from which a request is a straggler: the collage of its group may answer it, if it has not been yet."""
    return arrival_s + after_s


def collage_is_full(num_unanswered: int, cells: int) -> bool:
    """Whether a group has as many unanswered requests as its collage has cells, so that it is sent at once.

    Until then requests join. A group that does not fill up is sent when its oldest unanswered request straggles, so no
    request waits for others: all of them were sent on their own when they arrived.
    """
    return num_unanswered >= cells
