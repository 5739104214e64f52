"""What the rival schemes take the demand to be: rates of the last minutes, lines through them, and how long it is held.

Sources and readings are in `controller.policies.rules` and its neighbours.
"""

from __future__ import annotations

import numpy as np

from controller.arrays import F64, I64, SERVERLESS, CatalogArrays, ControlArrays, ObservationArrays, WorkloadArrays
from controller.kernels.compiled import inner, kernel
from controller.kernels.local import floats
from controller.kernels.rates import history_sum, peak_rate
from controller.rival_arrays import (
    EXASCALE,
    INFAAS,
    MARK,
    PARAGON,
    PARAGON_PLUS,
    RIBBON,
    UTIL_AWARE,
    RivalArrays,
    RivalState,
)
from controller.rule_arrays import RATE_TICKS


@inner
def recent_rate(
    wl: WorkloadArrays, ctl: ControlArrays, obs: ObservationArrays, n: int, c: int, prior_rps: float
) -> float:
    """Rate of a class over the last minute, requests/s; ticks not seen yet count as the scenario's mean rate."""
    seen = min(RATE_TICKS, obs.tick[n], obs.history.shape[2])
    prior = prior_rps * wl.share[c] * (RATE_TICKS - seen)
    return (history_sum(obs, n, c, RATE_TICKS) / ctl.tick_s + prior) / RATE_TICKS


@inner
def _arrived(obs: ObservationArrays, n: int, c: int, age: int) -> float:
    """Arrivals of a class in the tick that ended `age` ticks ago; what is no count is taken as none."""
    arrived = obs.history[n, c, (obs.tick[n] - 1 - age) % obs.history.shape[2]]
    return arrived if arrived > 0.0 and arrived < np.inf else 0.0


@inner
def line_forecast(
    ctl: ControlArrays, obs: ObservationArrays, n: int, c: int, window_ticks: int, ahead_ticks: int
) -> float:
    """Least-squares line through the last ticks read `ahead_ticks` ahead, requests/s; -1 with fewer than 3 ticks."""
    count = min(window_ticks, obs.tick[n], obs.history.shape[2])
    if count < 3:
        return -1.0
    middle = (count - 1) / 2.0
    total, moment, spread = 0.0, 0.0, 0.0
    for age in range(count):
        arrived = _arrived(obs, n, c, age)
        total += arrived
        moment += (middle - age) * arrived
        spread += (middle - age) * (middle - age)
    return (total / count + moment / spread * (middle + ahead_ticks)) / ctl.tick_s


@inner
def _sort(values: F64) -> None:
    """Sorts in place, by Shell's method: numba's own sort allocates."""
    for gap in (57, 23, 10, 4, 1):
        for i in range(gap, values.shape[0]):
            value, at = values[i], i
            while at >= gap and values[at - gap] > value:
                values[at] = values[at - gap]
                at -= gap
            values[at] = value


@inner
def burstiness(obs: ObservationArrays, n: int, window_ticks: int) -> float:
    """Largest over median arrivals per tick, all classes, over the last `window_ticks`; 1 with fewer than 3 ticks."""
    count = min(window_ticks, obs.tick[n], obs.history.shape[2])
    if count < 3:
        return 1.0
    totals = floats(count)
    for age in range(count):
        for c in range(obs.history.shape[1]):
            totals[age] += _arrived(obs, n, c, age)
    _sort(totals)
    median = totals[count // 2]
    return totals[count - 1] / median if median > 0.0 else np.inf


@inner
def utilisation(cat: CatalogArrays, ctl: ControlArrays, obs: ObservationArrays, n: int, v: int, p: int) -> float:
    """Busy share of an option's credits in the last window; 1 where it should serve and nothing does."""
    num_credits = (obs.ready[n, v, p] + obs.doomed[n, v, p]) * cat.concurrency[v, p]
    return obs.busy_s[n, v, p] / (num_credits * ctl.tick_s) if num_credits > 0 else 1.0


@inner
def fleet_utilisation(cat: CatalogArrays, ctl: ControlArrays, obs: ObservationArrays, n: int) -> float:
    """`utilisation` of all machines together."""
    busy_s, num_credits = 0.0, 0
    for v in range(cat.usable.shape[0]):
        for p in range(cat.market.shape[0]):
            if cat.market[p] != SERVERLESS:
                busy_s += obs.busy_s[n, v, p]
                num_credits += (obs.ready[n, v, p] + obs.doomed[n, v, p]) * cat.concurrency[v, p]
    return busy_s / (num_credits * ctl.tick_s) if num_credits > 0 else 1.0


@kernel
def hold_demand(
    need_rps: F64, calm_ticks: I64, wanted_rps: F64, n: int, c: int, wanted: float, cooldown_ticks: int
) -> bool:
    """Follows `wanted` up at once, and down to the most wanted since once it stayed below for `cooldown_ticks`.

    Args:
        need_rps: (N, C) demand held, updated; likewise the two below.
        calm_ticks: (N, C) ticks since `wanted` last reached it.
        wanted_rps: (N, C) largest wanted during those ticks.
        n: Env.
        c: Class.
        wanted: Demand now, requests/s.
        cooldown_ticks: Ticks that less must be wanted.

    Returns:
        Whether more is held than wanted.
    """
    if wanted >= need_rps[n, c]:
        need_rps[n, c] = wanted
        calm_ticks[n, c] = 0
        wanted_rps[n, c] = 0.0
        return False
    calm_ticks[n, c] += 1
    wanted_rps[n, c] = max(wanted_rps[n, c], wanted)
    if calm_ticks[n, c] >= cooldown_ticks:
        need_rps[n, c] = wanted_rps[n, c]
        calm_ticks[n, c] = 0
        wanted_rps[n, c] = 0.0
    return need_rps[n, c] > wanted


@inner
def demand_of_class(
    kind: int,
    cat: CatalogArrays,
    wl: WorkloadArrays,
    ctl: ControlArrays,
    settings: RivalArrays,
    state: RivalState,
    obs: ObservationArrays,
    n: int,
    c: int,
    is_bursty: bool,
) -> float:
    """Requests/s that the scheme plans capacity for now, headroom included."""
    own_headroom = settings.class_headroom[c]
    if kind == RIBBON:
        return settings.headroom * own_headroom * settings.prior_rps * wl.share[c]
    rate = recent_rate(wl, ctl, obs, n, c, settings.prior_rps)
    if kind == EXASCALE:
        ahead = line_forecast(ctl, obs, n, c, settings.window_ticks, settings.ahead_ticks)
        most = peak_rate(ctl, obs, n, c, settings.window_ticks)
        if ahead >= 0.0:
            rate = max(ahead, most)
    if kind == MARK:
        rate = max(rate, line_forecast(ctl, obs, n, c, settings.window_ticks, settings.ahead_ticks))
    rate *= own_headroom
    if (kind in (PARAGON, PARAGON_PLUS)) and not is_bursty:
        return settings.headroom * settings.calm_headroom * rate
    if kind == INFAAS:
        return rate / settings.high_utilisation
    if kind == UTIL_AWARE:
        held = state.need_rps[n, c]
        if settings.adaptive_variant and held > 0.0:
            busy = fleet_utilisation(cat, ctl, obs, n)
            if settings.low_utilisation <= busy <= settings.high_utilisation:
                return held
        return rate / settings.target_utilisation
    return settings.headroom * rate
