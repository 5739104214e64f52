"""Per-request rules on scalars: predicted wait, option choice, overflow, shedding, hedging.

The simulator's kernels compile this very source; the live router runs it as it stands. So every function here is
plain arithmetic on numbers, free of closures and Python objects, and a test feeds both forms.
"""

from __future__ import annotations

from controller.arrays import F64


def predicted_wait_s(queued: int, in_service: int, num_credits: int, item_s: float) -> float:
    """Causal estimate of the wait of a request that arrives now.

    Args:
        queued: Requests waiting in the option's queue.
        in_service: Requests in service there.
        num_credits: Concurrency credits of the option's serving replicas.
        item_s: Mean profiled seconds per item of one credit at the option's batch size.

    Returns:
        Seconds, >= 0; infinite where nothing serves.
    """
    if num_credits <= 0:
        return float("inf")
    ahead = queued + in_service - num_credits + 1
    if ahead <= 0:
        return 0.0
    return ahead * item_s / num_credits


def overflows(wait_s: float, overflow_after_s: float, overflow_fraction: float, uniform: float) -> bool:
    """Whether a request that would join a queue goes to serverless: its wait were too long and its coin says so."""
    return wait_s > overflow_after_s and uniform < overflow_fraction


def is_shed(waiting_of_class: int, shed_limit: int, queue_limit: int) -> bool:
    """Whether an arriving request is refused because its class already fills its queue."""
    return waiting_of_class >= shed_limit or waiting_of_class >= queue_limit


def pick_option(cumulative_shares: F64, uniform: float) -> int:
    """Index of the option whose cumulative share first exceeds `uniform`; -1 where all shares are 0.

    Args:
        cumulative_shares: Running sums over options, shape (O,), last entry 1 (or 0 where nothing serves).
        uniform: Draw in [0, 1).
    """
    num_options = len(cumulative_shares)
    if num_options == 0 or cumulative_shares[num_options - 1] <= 0.0:
        return -1
    target = uniform * cumulative_shares[num_options - 1]
    picked = 0
    for option in range(num_options - 1):
        picked += target >= cumulative_shares[option]  # counted, not searched: a random exit is a mispredicted branch
    return int(picked)  # uncompiled, the sum of numpy's truth values is one of numpy's integers


def pick_other(cumulative_shares: F64, first: int, uniform: float) -> int:
    """Index of the option that a duplicate goes to, drawn by share among those other than the first copy's.

    Args:
        cumulative_shares: As for `pick_option`.
        first: Index of the first copy's option; -1 where it is not among them.
        uniform: Draw in [0, 1).

    Returns:
        The index; `first` where no other option has a share, -1 where none has one.
    """
    num_options = len(cumulative_shares)
    if num_options == 0 or cumulative_shares[num_options - 1] <= 0.0:
        return -1
    below = cumulative_shares[first - 1] if first > 0 else 0.0
    own = cumulative_shares[first] - below if first >= 0 else 0.0
    others = cumulative_shares[num_options - 1] - own
    if others <= 0.0:
        return first
    target = uniform * others
    if first >= 0 and target >= below:
        target += own
    picked = first
    for option in range(num_options):
        share = cumulative_shares[option] - (cumulative_shares[option - 1] if option > 0 else 0.0)
        if option != first and share > 0.0:
            picked = option
            if target < cumulative_shares[option]:
                break
    return picked


def hedges_at_s(arrival_s: float, hedge_after_s: float, deadline_s: float) -> float:
    """Moment at which a duplicate is sent; infinite where hedging is off or the deadline comes first."""
    at = arrival_s + hedge_after_s
    if at >= deadline_s:
        return float("inf")
    return at


def may_retry(now_s: float, deadline_s: float, attempt: int, max_attempts: int) -> bool:
    """Whether a request that lost its replica is queued again."""
    return now_s < deadline_s and attempt < max_attempts
