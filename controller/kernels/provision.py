"""Demand to a mix of variants: the cheapest of the needed accuracy. Which pools are open, and which machines are held.

Helpers take single arrays, not tuples of them: a call with a whole catalog costs more than what they do.
"""

from __future__ import annotations

import numpy as np

from controller.arrays import F64, I64, SERVERLESS, Bool
from controller.kernels.compiled import kernel

ACCURACY_STEP = 0.005
"""What accuracy costs is measured over this much of it."""

ACCURACY_EPS = 1e-9
"""Accuracies nearer than this are the same."""


@kernel
def cheapest_mix(accuracy: F64, cost: F64, target: float, mix: F64) -> float:
    """Writes the cheapest mixture of variants whose mean accuracy is at least `target`; all 0 where none is offered.

    One or two variants are enough: this is a point on the lower convex hull of (accuracy, cost).

    Args:
        accuracy: (V,).
        cost: (V,) per request; infinite for a variant that is not offered.
        target: Wanted mean; above the best variant's accuracy it means the best variant.
        mix: (V,), written.

    Returns:
        Mean accuracy of the mixture, 0 where nothing is offered.
    """
    num_variants = accuracy.shape[0]
    top = -1
    for v in range(num_variants):
        mix[v] = 0.0
        if cost[v] < np.inf and (
            top < 0 or accuracy[v] > accuracy[top] or (accuracy[v] == accuracy[top] and cost[v] < cost[top])
        ):
            top = v
    if top < 0:
        return 0.0
    if target >= accuracy[top]:
        mix[top] = 1.0
        return accuracy[top]
    low, high, part, least = top, top, 0.0, cost[top]
    for a in range(num_variants):
        if not cost[a] < np.inf:
            continue
        if accuracy[a] >= target:
            if cost[a] < least:
                low, high, part, least = a, a, 0.0, cost[a]
            continue
        for b in range(num_variants):
            if accuracy[b] > target and cost[b] < np.inf:
                share = (target - accuracy[a]) / (accuracy[b] - accuracy[a])
                mixed = (1.0 - share) * cost[a] + share * cost[b]
                if mixed < least:
                    low, high, part, least = a, b, share, mixed
    mix[low] += 1.0 - part
    mix[high] += part
    return (1.0 - part) * accuracy[low] + part * accuracy[high]


@kernel
def weakest_from(allowed: Bool, market: I64, accuracy: F64, c: int, least: float, otherwise: float) -> float:
    """Accuracy of the least accurate variant of `least` or more that a class may use on a machine; else `otherwise`.

    Args:
        allowed: (C, V, P).
        market: (P,).
        accuracy: (V,).
        c: Class.
        least: Accuracy.
        otherwise: Also the most that is returned.
    """
    found = otherwise
    for v in range(accuracy.shape[0]):
        if least <= accuracy[v] < found:
            for p in range(market.shape[0]):
                if allowed[c, v, p] and market[p] != SERVERLESS:
                    found = accuracy[v]
                    break
    return found


@kernel
def accuracy_price(accuracy: F64, cost: F64, target: float, mix: F64) -> float:
    """$ per request that a unit of mean accuracy costs at `target`: the slope of the hull over `ACCURACY_STEP`.

    Args:
        accuracy: (V,).
        cost: (V,) per request; infinite for a variant that is not offered.
        target: Mean accuracy.
        mix: (V,), overwritten.

    Returns:
        The slope, 0 where nothing is offered.
    """
    most = -np.inf
    for v in range(accuracy.shape[0]):
        if cost[v] < np.inf:
            most = max(most, accuracy[v])
    if most == -np.inf:
        return 0.0
    low = min(target, most - ACCURACY_STEP)
    usd = 0.0
    for sign in (-1.0, 1.0):
        cheapest_mix(accuracy, cost, low if sign < 0.0 else low + ACCURACY_STEP, mix)
        for v in range(accuracy.shape[0]):
            if mix[v] > 0.0:
                usd += sign * mix[v] * cost[v]
    return max(0.0, usd / ACCURACY_STEP)


@kernel
def size_for_mean(accuracy: F64, mix: F64, ratio: float) -> None:
    """Sizes the more accurate variant of a mixture of two for another demand; the other one serves the rest.

    A floor holds on the mean of a day, so what is bought for its sake need not follow every peak, nor have headroom:
    what it lacks at a peak it has to spare after it.

    Args:
        accuracy: (V,).
        mix: (V,) shares of the demand, sum 1, changed.
        ratio: The other demand over that of the mixture.
    """
    top, low = -1, -1
    for v in range(mix.shape[0]):
        if mix[v] > 0.0:
            if top < 0 or accuracy[v] > accuracy[top]:
                top, low = v, top
            else:
                low = v
    if low >= 0:
        mix[top] = min(1.0, mix[top] * ratio)
        mix[low] = 1.0 - mix[top]


@kernel
def open_pools(available: Bool, ready: I64, n: int, trusted: Bool, is_open: Bool) -> None:
    """Writes which pools capacity is planned in: those available where a replica became ready since they last were not.

    A pool is available again some time after its last refusal, without anyone knowing whether it really is; planning
    a fleet there at once would turn the plan over at every retry.
    """
    for p in range(available.shape[1]):
        serving = 0
        for v in range(ready.shape[1]):
            serving += ready[n, v, p]
        if not available[n, p]:
            trusted[n, p] = False
        elif serving > 0:
            trusted[n, p] = True
        is_open[n, p] = available[n, p] and trusted[n, p]


@kernel
def probe_pools(
    allowed: Bool,
    rps: F64,
    usd: F64,
    market: I64,
    pool_max: I64,
    available: Bool,
    n: int,
    is_open: Bool,
    spot_spread: float,
    replicas: I64,
) -> None:
    """Plans one replica in each pool that may be back, of the dearest variant for which its price is good.

    Prices are of machines rented whole for what is planned of a variant: one probed with a variant that would hardly
    fill it has to be turned before it is of use. The dearest is the one that costs most as planned.
    """
    num_variants, num_pools = rps.shape
    for p in range(num_pools):
        if market[p] == SERVERLESS or is_open[n, p] or not available[n, p] or pool_max[p] < 1:
            continue
        best, most, planned = -1, 0.0, 0
        for v in range(num_variants):
            planned += replicas[n, v, p]
            suits = False
            for c in range(allowed.shape[0]):
                suits = suits or allowed[c, v, p]
            if not suits or not rps[v, p] > 0.0:
                continue
            filled = 0.0
            for other in range(num_pools):
                filled += replicas[n, v, other] * rps[v, other]
            if filled <= 0.0:
                continue
            least = np.inf
            for other in range(num_pools):
                least = min(least, usd[v, other] * max(1.0, rps[v, other] / filled))
            if not usd[v, p] * max(1.0, rps[v, p] / filled) <= least * (1.0 + spot_spread):
                continue
            if filled * least > most:
                best, most = v, filled * least
        if planned == 0 and best >= 0:
            replicas[n, best, p] = 1


@kernel
def rank_falling(values: F64, ranked: I64) -> None:
    """Writes indices by falling value (variants by accuracy, classes by what they are worth), in order among equals."""
    for i in range(values.shape[0]):
        at = i
        while at > 0 and values[ranked[at - 1]] < values[i]:
            ranked[at] = ranked[at - 1]
            at -= 1
        ranked[at] = i


@kernel
def hold_machines(
    market: I64, ready: I64, starting: I64, n: int, keep: float, held: F64, ranked: I64, replicas: I64
) -> bool:
    """Holds existing machines that the plan no longer needs, fewer every tick; returns whether any is held.

    Per pool, what is held above the plan shrinks by the factor `keep` a tick. Held machines keep their variant, most
    accurate first.

    Args:
        market: (P,).
        ready: (N, V, P).
        starting: (N, V, P).
        n: Env.
        keep: Factor per tick in [0, 1].
        held: (N, P) machines held so far, updated.
        ranked: (V,) variants by falling accuracy.
        replicas: (N, V, P) planned so far, raised in place.
    """
    num_variants, num_pools = replicas.shape[1], replicas.shape[2]
    has_held = False
    for p in range(num_pools):
        if market[p] == SERVERLESS:
            continue
        planned, existing = 0, 0
        for v in range(num_variants):
            planned += replicas[n, v, p]
            existing += ready[n, v, p] + starting[n, v, p]
        level = planned + max(0.0, min(held[n, p], float(existing)) - planned) * keep
        held[n, p] = level
        extra = int(np.floor(level + 0.5)) - planned
        for i in range(num_variants):
            if extra <= 0:
                break
            v = ranked[i]
            kept = min(extra, ready[n, v, p] + starting[n, v, p] - replicas[n, v, p])
            if kept > 0:
                replicas[n, v, p] += kept
                extra -= kept
                has_held = True
    return has_held
