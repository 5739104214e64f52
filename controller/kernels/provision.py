"""Demand to replicas: the cheapest mix of variants of the needed accuracy, in whole replicas.

Helpers take single arrays, not tuples of them: a call with a whole catalog costs more than what they do.
"""

from __future__ import annotations

import numpy as np

from controller.arrays import F64, I64, SERVERLESS, Bool
from controller.kernels.compiled import kernel
from controller.kernels.local import integers

SLACK_REPLICAS = 1e-6
"""A demand this little above a whole number of replicas is not rounded up."""

ACCURACY_STEP = 0.005
"""What accuracy costs is measured over this much of it."""

STICKY = 0.5
"""An option keeps its replicas while this many fewer, or this many and one more, than wanted."""


STAYS = 0.8
"""What a replica costs that is there and would be given up, as a share of its rent: a launch is paid for, too."""


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
def _sticky(wanted: float, existing: int) -> int:
    """Whole replicas for a wanted number: what exists where it is near enough, else rounded up."""
    if wanted - STICKY <= existing <= wanted + 1.0 + STICKY:
        return existing
    return max(0, int(np.ceil(min(wanted - SLACK_REPLICAS, 1e9))))


@kernel
def whole_replicas(
    allowed: Bool,
    rps: F64,
    usd: F64,
    market: I64,
    pool_max: I64,
    available: Bool,
    ready: I64,
    starting: I64,
    n: int,
    capacity: F64,
    ranked: I64,
    replicas: I64,
) -> None:
    """Rounds `capacity`, (V, P) requests/s, to whole replicas in `replicas[n]`; serverless gets none.

    From the most accurate variant down, what a replica more can do beyond its demand is carried on, and taken off the
    demand of less accurate variants if every class may use it; a lack is carried on as well, unless a class that may
    use the variant may use no weaker one. So existing replicas can be kept wherever they are near what is wanted, and
    still only one replica in all is rounded up: where it costs least, of a variant that is wanted, because a replica of
    a weaker one would take up traffic as far as it is fast, and cost accuracy that has to be repaid. Survivors in pools
    that take no launches now are used before anything is launched elsewhere.

    Args:
        allowed: (C, V, P).
        rps: (V, P) of one replica.
        usd: (V, P) $ per request on a replica that is always busy; infinite for what is no machine.
        market: (P,).
        pool_max: (P,).
        available: (N, P).
        ready: (N, V, P).
        starting: (N, V, P).
        n: Env.
        capacity: (V, P) wanted.
        ranked: (V,) variants by falling accuracy.
        replicas: (N, V, P), row n is written.
    """
    num_variants, num_pools = rps.shape
    carried = 0.0
    used = integers(num_pools)
    last, spare = -1, -1  # the weakest variant that is wanted, and of all, that some pool has room for
    for i in range(num_variants):
        v = ranked[i]
        total = 0.0
        for p in range(num_pools):
            replicas[n, v, p] = 0
            total += capacity[v, p]
        for p in range(num_pools):
            existing = ready[n, v, p] + starting[n, v, p]
            is_closed = market[p] != SERVERLESS and not available[n, p] and rps[v, p] > 0.0 and capacity[v, p] <= 0.0
            if is_closed and existing > 0 and total > carried:
                count = min(existing, int(np.ceil(min((total - carried) / rps[v, p] - SLACK_REPLICAS, 1e9))))
                count = max(0, min(count, pool_max[p] - used[p]))
                replicas[n, v, p] = count
                used[p] += count
                carried += count * rps[v, p]
        for p in range(num_pools):
            if market[p] == SERVERLESS or rps[v, p] <= 0.0:
                continue
            if capacity[v, p] > 0.0:
                wanted = capacity[v, p] - carried
                count = _sticky(wanted / rps[v, p], ready[n, v, p] + starting[n, v, p])
                count = max(0, min(count, pool_max[p] - used[p]))
                used[p] += count
                replicas[n, v, p] = count
                carried = count * rps[v, p] - wanted
            elif not available[n, p]:
                continue
            if used[p] < pool_max[p]:
                spare = v
                if total > 0.0:
                    last = v
        if carried > 0.0 and not _suits_all(allowed, market, v):
            carried = 0.0
        if carried < 0.0 and total > 0.0 and not _hands_down(allowed, market, ranked, i):
            _make_up(rps, usd, market, pool_max, available, ready, starting, n, v, -carried, capacity, used, replicas)
            carried = 0.0
    v = last if last >= 0 else spare
    if v >= 0 and carried < 0.0:
        _make_up(rps, usd, market, pool_max, available, ready, starting, n, v, -carried, capacity, used, replicas)


@kernel
def _make_up(
    rps: F64,
    usd: F64,
    market: I64,
    pool_max: I64,
    available: Bool,
    ready: I64,
    starting: I64,
    n: int,
    v: int,
    lack: float,
    capacity: F64,
    used: I64,
    replicas: I64,
) -> None:
    """Adds whole replicas of a variant for a lack, where they cost least for as much of it as there is room for.

    Pools that it is wanted in come first: others may be left out on purpose. A replica that exists and is not planned
    costs `STAYS` of its rent: it need not be launched.

    Args:
        rps: As for `whole_replicas`, like all that is not named here.
        v: Variant.
        lack: Requests/s, > 0.
        used: (P,) machines of each pool that are planned, raised.
    """
    for turn in range(2 * market.shape[0]):
        best, least, most = -1, np.inf, 0
        for p in range(market.shape[0]):
            is_wanted = capacity[v, p] > 0.0
            if market[p] == SERVERLESS or rps[v, p] <= 0.0 or used[p] >= pool_max[p]:
                continue
            if not is_wanted and (turn < market.shape[0] or not available[n, p]):
                continue
            count = int(np.ceil(min(lack / rps[v, p] - SLACK_REPLICAS, 1e9)))
            if count <= 0:
                return
            count = min(count, pool_max[p] - used[p])
            there = max(0, min(count, ready[n, v, p] + starting[n, v, p] - replicas[n, v, p]))
            rent = usd[v, p] * rps[v, p] * (count - (1.0 - STAYS) * there)
            price = rent / min(lack, count * rps[v, p])
            if price < least:
                best, least, most = p, price, count
        if best >= 0:
            replicas[n, v, best] += most
            used[best] += most
            lack -= most * rps[v, best]


@kernel
def _suits_all(allowed: Bool, market: I64, v: int) -> bool:
    """Whether every class may use variant v on some machine pool."""
    for c in range(allowed.shape[0]):
        found = False
        for p in range(market.shape[0]):
            found = found or (allowed[c, v, p] and market[p] != SERVERLESS)
        if not found:
            return False
    return True


@kernel
def _hands_down(allowed: Bool, market: I64, ranked: I64, i: int) -> bool:
    """Whether every class that may use the i-th most accurate variant may use a less accurate one on a machine."""
    for c in range(allowed.shape[0]):
        is_used, goes_on = False, False
        for j in range(i, ranked.shape[0]):
            for p in range(market.shape[0]):
                if allowed[c, ranked[j], p] and market[p] != SERVERLESS:
                    if j == i:
                        is_used = True
                    else:
                        goes_on = True
        if is_used and not goes_on:
            return False
    return True


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
