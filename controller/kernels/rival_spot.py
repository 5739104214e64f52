"""Spot pools as the rival schemes see them: which are open to capacity, how likely they are lost, what is left then."""

from __future__ import annotations

import numpy as np

from controller.arrays import F64, I64, SPOT, Bool, CatalogArrays, ControlArrays, ObservationArrays
from controller.kernels.compiled import inner, kernel
from controller.kernels.provision import open_pools
from controller.rival_arrays import RIBBON, SPOTHEDGE, TRIBUTARY, RivalArrays, RivalState


@kernel
def avoid_zones(
    market: I64,
    zone: I64,
    available: Bool,
    ready: I64,
    time_s: float,
    avoid_s: float,
    min_zones: int,
    n: int,
    avoided_until_s: F64,
    is_open: Bool,
) -> None:
    """Writes which spot pools are used: available, and in no zone that lately preempted or refused.

    A zone is avoided for `avoid_s`, or until a replica there is ready while it is available again. Where fewer than
    `min_zones` zones would be left, all are tried again at once (SpotHedge's rebalancing of its two lists).

    Args:
        market: (P,).
        zone: (P,) -1 for a pool without one, which stands for itself.
        available: (N, P).
        ready: (N, V, P).
        time_s: Now.
        avoid_s: Seconds.
        min_zones: Fewest zones to choose from.
        n: Env.
        avoided_until_s: (N, P), updated.
        is_open: (N, P), written; machines that are no spot are open while available.
    """
    num_pools = market.shape[0]
    for p in range(num_pools):
        is_open[n, p] = available[n, p]
        if market[p] != SPOT:
            continue
        serving = 0
        for v in range(ready.shape[1]):
            serving += ready[n, v, p]
        if available[n, p] and serving > 0:
            avoided_until_s[n, p] = -np.inf
    for p in range(num_pools):
        if market[p] == SPOT and not available[n, p]:
            for q in range(num_pools):
                if q == p or (market[q] == SPOT and zone[q] == zone[p] and zone[p] >= 0):
                    avoided_until_s[n, q] = time_s + avoid_s
    num_open = 0
    for p in range(num_pools):
        if market[p] != SPOT or avoided_until_s[n, p] > time_s:
            continue
        is_first = True
        for q in range(p):
            same = market[q] == SPOT and zone[q] == zone[p] and zone[p] >= 0
            is_first = is_first and not (same and avoided_until_s[n, q] <= time_s)
        num_open += is_first
    for p in range(num_pools):
        if market[p] != SPOT:
            continue
        if num_open < min_zones:
            avoided_until_s[n, p] = -np.inf
        is_open[n, p] = available[n, p] and avoided_until_s[n, p] <= time_s


@kernel
def loss_probability(losses: float, exposed_s: float, prior_per_s: float, prior_s: float, window_s: float) -> float:
    """Probability that a spot replica is lost within a window: a constant hazard, what was seen against a prior."""
    hazard = (prior_per_s * prior_s + losses) / (prior_s + exposed_s)
    return 1.0 - np.exp(-hazard * window_s)


@kernel
def surviving_rps(capacity: F64, lost: F64, zone: I64, confidence_z: float) -> float:
    """Capacity that survives with some confidence: its mean less `confidence_z` standard deviations.

    Pools of one zone are lost together, zones are independent of each other; so a portfolio over zones keeps more.

    Args:
        capacity: (P,) requests/s.
        lost: (P,) probability that a pool is lost.
        zone: (P,); -1 for a pool by itself.
        confidence_z: Of the normal law.
    """
    mean, variance = 0.0, 0.0
    for p in range(capacity.shape[0]):
        if capacity[p] <= 0.0:
            continue
        mean += capacity[p] * (1.0 - lost[p])
        is_first, deviation = True, 0.0
        for q in range(capacity.shape[0]):
            if q == p or (zone[q] == zone[p] and zone[p] >= 0):
                if q < p and capacity[q] > 0.0:
                    is_first = False
                deviation += capacity[q] * np.sqrt(lost[q] * (1.0 - lost[q]))
        if is_first:
            variance += deviation * deviation
    return mean - confidence_z * np.sqrt(variance)


@inner
def watch_spot(
    kind: int,
    cat: CatalogArrays,
    ctl: ControlArrays,
    settings: RivalArrays,
    state: RivalState,
    obs: ObservationArrays,
    n: int,
    lost: F64,
) -> None:
    """Updates what a scheme knows of the spot market: `state.is_open`, and `lost`, (P,), for a portfolio."""
    num_variants, num_pools = cat.usable.shape
    if kind == RIBBON:
        for p in range(num_pools):
            state.is_open[n, p] = True
    elif kind == SPOTHEDGE:
        avoid_zones(
            cat.market, cat.zone, obs.available, obs.ready, obs.time_s[n], settings.avoid_s, settings.min_zones, n,
            state.avoided_until_s, state.is_open,
        )  # fmt: skip
    else:
        open_pools(obs.available, obs.ready, n, state.trusted, state.is_open)
    for p in range(num_pools):
        lost[p] = 0.0
        if kind != TRIBUTARY or cat.market[p] != SPOT:
            continue
        for v in range(num_variants):
            state.exposed_s[n, p] += (obs.ready[n, v, p] + obs.doomed[n, v, p]) * ctl.tick_s
        state.losses[n, p] += max(0, obs.preempted[n, p])
        lost[p] = loss_probability(
            state.losses[n, p], state.exposed_s[n, p], settings.prior_losses_per_s, settings.prior_s,
            settings.loss_window_s,
        )  # fmt: skip
