"""Inputs from recent arrivals and quantiles of the largest rate over the horizon, catalog-free and without a clock.

All windows are in ticks, so a run at another `--speed` sees the same inputs; the seconds named are at the default
tick of 10 s. `inputs_of` is written for one series, so training and deciding compute them with the same source.
"""

from __future__ import annotations

import numpy as np

from controller.arrays import F64, I64, ControlArrays, ObservationArrays
from controller.kernels.compiled import kernel
from controller.kernels.local import floats
from controller.kernels.quantiles import growth_quantiles
from controller.rule_arrays import RATE_TICKS, ForecastArrays

NUM_FEATURES = 24
"""Length of the feature vector; `FEATURES` in `controller.forecast` names each."""

WINDOW_EDGES = (0, 1, 2, 3, 4, 6, 9, 12, 18, 24, 30, 36, 48, 60, 75, 90, 120, 150, 180, 210, 240, 300, 360)
"""Ages at which one window of the network's inputs ends and the next begins: narrow lately, wide an hour ago."""

NUM_WINDOWS = len(WINDOW_EDGES) - 1

NUM_INPUTS = NUM_FEATURES + NUM_WINDOWS + 1
"""Inputs of the network: features, windows, horizon; `INPUTS` in `controller.forecast` names each."""

REFERENCE_TICKS = 18.0
"""Horizon at which the network's input for it is 0, 180 s."""

PSEUDO_COUNT = 0.5
"""Added to every mean count per tick before a logarithm, so that empty windows have finite ratios."""

LIMIT = 5.0
"""Features are clipped to +- this."""

SHIFT_RATIO = 1.5
"""The rate has shifted since it was last this much smaller (or larger) than now."""

ECHO_TICKS = 12
"""Length of the windows that look one period back, 120 s."""

_LEAST_RPS = 1e-9


@kernel
def _log_ratio(value: float, base: float) -> float:
    ratio = np.log((max(value, 0.0) + PSEUDO_COUNT) / (base + PSEUDO_COUNT))
    return min(LIMIT, max(-LIMIT, ratio))


@kernel
def _mean(arrivals: F64, known: int, first: int, last: int) -> float:
    """Mean count per tick of ages first..last-1; of what is known of them; -1 where nothing is."""
    end = min(last, known)
    if end <= first:
        return -1.0
    total = 0.0
    for age in range(first, end):
        total += arrivals[age]
    return total / (end - first)


@kernel
def _largest(arrivals: F64, known: int, first: int, last: int) -> float:
    most = -1.0
    for age in range(first, min(last, known)):
        most = max(most, arrivals[age])
    return most


@kernel
def _smallest(arrivals: F64, known: int, last: int) -> float:
    least = np.inf
    for age in range(min(last, known)):
        least = min(least, arrivals[age])
    return least


@kernel
def _trend(arrivals: F64, known: int, ticks: int) -> float:
    """Least-squares change over the window relative to its mean; 0 with fewer than 3 ticks."""
    count = min(ticks, known)
    if count < 3:
        return 0.0
    middle = (count - 1) / 2.0
    mean = _mean(arrivals, known, 0, count)
    moment, spread = 0.0, 0.0
    for age in range(count):
        moment += (middle - age) * arrivals[age]
        spread += (middle - age) * (middle - age)
    change = moment / spread * count / (mean + PSEUDO_COUNT)
    return min(LIMIT, max(-LIMIT, change))


@kernel
def _dispersion(arrivals: F64, known: int, ticks: int) -> float:
    """Standard deviation of the counts over their mean; 0 with fewer than 3 ticks."""
    count = min(ticks, known)
    if count < 3:
        return 0.0
    mean = _mean(arrivals, known, 0, count)
    total = 0.0
    for age in range(count):
        total += (arrivals[age] - mean) ** 2
    return min(LIMIT, np.sqrt(total / count) / (mean + PSEUDO_COUNT))


@kernel
def features_of(arrivals: F64, known: int, out: F64) -> None:
    """Writes the features of one series.

    Args:
        arrivals: Counts per tick by age: `arrivals[0]` is the window that just ended.
        known: How many entries are real; 0 gives all-zero features.
        out: (NUM_FEATURES,).
    """
    for i in range(NUM_FEATURES):
        out[i] = 0.0
    if known <= 0:
        return
    now = _mean(arrivals, known, 0, RATE_TICKS)
    windows = (1, 3, 18, 60, 180, 360)
    for i in range(6):
        out[i] = _log_ratio(_mean(arrivals, known, 0, windows[i]), now)
    peaks = (6, 18, 60, 180, 360)
    for i in range(5):
        out[6 + i] = _log_ratio(_largest(arrivals, known, 0, peaks[i]), now)
    before = _mean(arrivals, known, RATE_TICKS, 2 * RATE_TICKS)
    if before >= 0.0:
        out[11] = _log_ratio(before, now)
    out[12] = _trend(arrivals, known, 6)
    out[13] = _trend(arrivals, known, 18)
    out[14] = _trend(arrivals, known, 60)
    out[15] = _dispersion(arrivals, known, 18)
    out[16] = _dispersion(arrivals, known, 60)
    out[17] = 1.0 / np.sqrt(now * RATE_TICKS + 1.0)
    out[18] = _log_ratio(_smallest(arrivals, known, 60), now)
    _shift_ages(arrivals, known, now, out)
    echoes = (60, 180, 360)
    for i in range(3):
        seen = _largest(arrivals, known, echoes[i] - ECHO_TICKS, echoes[i])
        if seen >= 0.0:
            out[21 + i] = _log_ratio(seen, now)


@kernel
def _shift_ages(arrivals: F64, known: int, now: float, out: F64) -> None:
    """Ages of the last upward and the last downward shift on a log scale, 0 (just now) to 1 (none known)."""
    full = np.log(1.0 + 360.0)
    out[19], out[20] = 1.0, 1.0
    total = 0.0
    rose, fell = False, False
    for age in range(known):
        total += arrivals[age]
        if age >= RATE_TICKS:
            total -= arrivals[age - RATE_TICKS]
        if age < RATE_TICKS - 1:
            continue
        past = (total / RATE_TICKS + PSEUDO_COUNT) / (now + PSEUDO_COUNT)
        if not rose and past < 1.0 / SHIFT_RATIO:
            rose = True
            out[19] = min(1.0, np.log(1.0 + age) / full)
        if not fell and past > SHIFT_RATIO:
            fell = True
            out[20] = min(1.0, np.log(1.0 + age) / full)
        if rose and fell:
            return


@kernel
def _windows_of(arrivals: F64, known: int, out: F64) -> None:
    """Writes log mean of each window / rate now after the features; 0 where nothing of a window is known."""
    now = _mean(arrivals, known, 0, RATE_TICKS)
    first = WINDOW_EDGES[0]
    for i in range(NUM_WINDOWS):
        last = WINDOW_EDGES[i + 1]
        mean = _mean(arrivals, known, first, last)
        out[NUM_FEATURES + i] = _log_ratio(mean, now) if mean >= 0.0 else 0.0
        first = last


@kernel
def inputs_of(arrivals: F64, known: int, horizon_ticks: float, out: F64) -> None:
    """Writes the network's inputs for one series.

    Args:
        arrivals: As for `features_of`.
        known: As for `features_of`; 0 gives the inputs of a steady service.
        horizon_ticks: Ticks ahead that are forecast, > 0.
        out: (NUM_INPUTS,).
    """
    features_of(arrivals, known, out)
    if known <= 0:
        # Zeros, but for "no shift is known": what is unknown is taken for steady until a tick is over.
        out[19], out[20] = 1.0, 1.0
    _windows_of(arrivals, known, out)
    out[NUM_INPUTS - 1] = min(LIMIT, max(-LIMIT, np.log(max(horizon_ticks, 1e-9) / REFERENCE_TICKS)))


@kernel
def features_of_each(arrivals: F64, known: int, out: F64) -> None:
    """`features_of` for every row of `arrivals`, (N, T) by age, into `out`, (N, NUM_FEATURES)."""
    for n in range(arrivals.shape[0]):
        features_of(arrivals[n], known, out[n])


@kernel
def inputs_of_each(arrivals: F64, known: I64, horizon_ticks: float, out: F64) -> None:
    """`inputs_of` for every row of `arrivals`, (N, T) by age with known[n] of them real, into (N, NUM_INPUTS)."""
    for n in range(arrivals.shape[0]):
        inputs_of(arrivals[n], known[n], horizon_ticks, out[n])


@kernel
def total_by_age(obs: ObservationArrays, n: int, out: F64) -> int:
    """Writes arrivals of all classes by age and returns how many are known; what is no count is taken as none.

    Known are the ticks that were seen, and those before in which something arrived: nobody writes counts into the
    history that were not told, and an hour without any is not taken for a recorded one.
    """
    length = obs.history.shape[2]
    seen = min(obs.tick[n], length)
    at = (obs.tick[n] - 1) % length
    for age in range(length):
        total = 0.0
        for c in range(obs.history.shape[1]):
            arrived = obs.history[n, c, at]
            if arrived > 0.0 and arrived < 1e15:
                total += arrived
        if age >= seen and total <= 0.0:
            return age
        out[age] = total
        at -= 1
        if at < 0:
            at = length - 1
    return length


@kernel
def rate_now(ctl: ControlArrays, arrivals: F64, known: int, prior_rps: float) -> float:
    """Rate over the last minute, requests/s; ticks that have not been seen yet count as `prior_rps`."""
    seen = min(known, RATE_TICKS)
    total = 0.0
    for age in range(seen):
        total += arrivals[age]
    return (total / ctl.tick_s + prior_rps * (RATE_TICKS - seen)) / RATE_TICKS


@kernel
def forecast_one(
    ctl: ControlArrays,
    forecast: ForecastArrays,
    obs: ObservationArrays,
    n: int,
    prior_rps: float,
    inputs: F64,
    growth: F64,
) -> float:
    """Forecasts env n.

    Args:
        ctl: Control spans; the horizon is theirs.
        forecast: Network.
        obs: Observation.
        n: Env.
        prior_rps: Rate of ticks not seen yet, requests/s.
        inputs: (NUM_INPUTS,), written.
        growth: (Q,) growth quantiles, written.

    Returns:
        The rate now that they multiply, requests/s.
    """
    arrivals = floats(obs.history.shape[2])
    known = total_by_age(obs, n, arrivals)
    inputs_of(arrivals, known, ctl.horizon_s / ctl.tick_s, inputs)
    growth_quantiles(forecast, inputs, growth)
    return rate_now(ctl, arrivals, known, prior_rps)


@kernel
def told_rate(told: F64, n: int, own_rps: float, growth: F64) -> float:
    """The rate now; what env n was told replaces the rule's own, and every growth quantile.

    Args:
        told: (N, 2) rate now and largest rate to come, requests/s; anything but numbers >= 0 tells nothing.
        n: Env.
        own_rps: The rule's own rate now, requests/s.
        growth: (Q,), overwritten where something is told.
    """
    now, most = told[n, 0], told[n, 1]
    if not (now >= 0.0 and most >= 0.0 and now < np.inf and most < np.inf):
        return own_rps
    # The rule caps growth at exp(LIMIT): out of silence, the rate now is raised so far that the cap gives what is told.
    base = max(now, most * np.exp(-LIMIT), _LEAST_RPS)
    growth[:] = np.log(max(most, _LEAST_RPS) / base)
    return base
