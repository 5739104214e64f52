"""Features of recent arrivals and quantiles of the largest rate over the horizon, catalog-free.

All windows are in ticks, so a run at another `--speed` sees the same features; the seconds named are at the default
tick of 10 s. `features_of` is written for one series, so training and deciding compute them with the same source.
"""

from __future__ import annotations

import numpy as np

from controller.arrays import F64, ControlArrays, ObservationArrays
from controller.kernels.compiled import kernel
from controller.rule_arrays import RATE_TICKS, ForecastArrays

NUM_FEATURES = 24
"""Length of the feature vector; `FEATURES` in `controller.forecast` names each."""

PSEUDO_COUNT = 0.5
"""Added to every mean count per tick before a logarithm, so that empty windows have finite ratios."""

LIMIT = 5.0
"""Features are clipped to +- this."""

SHIFT_RATIO = 1.5
"""The rate has shifted since it was last this much smaller (or larger) than now."""

ECHO_TICKS = 12
"""Length of the windows that look one period back, 120 s."""


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
def features_of_each(arrivals: F64, known: int, out: F64) -> None:
    """`features_of` for every row of `arrivals`, (N, T) by age, into `out`, (N, NUM_FEATURES)."""
    for n in range(arrivals.shape[0]):
        features_of(arrivals[n], known, out[n])


@kernel
def total_by_age(obs: ObservationArrays, n: int, out: F64) -> int:
    """Writes arrivals of all classes by age and returns how many are known; what is no count is taken as none."""
    length = obs.history.shape[2]
    known = min(obs.tick[n], length)
    at = (obs.tick[n] - 1) % length
    for age in range(known):
        total = 0.0
        for c in range(obs.history.shape[1]):
            arrived = obs.history[n, c, at]
            if arrived > 0.0 and arrived < 1e15:
                total += arrived
        out[age] = total
        at -= 1
        if at < 0:
            at = length - 1
    return known


@kernel
def growth_quantiles(forecast: ForecastArrays, features: F64, out: F64) -> None:
    """Writes the quantiles of log(largest rate over the horizon / rate now), (Q,), rising with the level."""
    num_features, hidden = forecast.w1.shape
    num_levels = forecast.levels.shape[0]
    for q in range(num_levels):
        out[q] = forecast.b2[q]
    for m in range(hidden):
        total = forecast.b1[m]
        for f in range(num_features):
            total += features[f] * forecast.feature_scale[f] * forecast.w1[f, m]
        active = np.tanh(total)
        for q in range(num_levels):
            out[q] += active * forecast.w2[m, q]
    for q in range(1, num_levels):
        raw = out[q]
        step = raw if raw > 30.0 else np.log1p(np.exp(raw))
        out[q] = out[q - 1] + step


@kernel
def quantile_at(levels: F64, growth: F64, log_odds: float) -> float:
    """Growth at a probability given by its log-odds: linear in log-odds between levels, held outside them."""
    last = levels.shape[0] - 1
    below = np.log(levels[0] / (1.0 - levels[0]))
    if not log_odds > below:
        return growth[0]
    for q in range(last):
        above = np.log(levels[q + 1] / (1.0 - levels[q + 1]))
        if log_odds <= above:
            part = (log_odds - below) / (above - below)
            return growth[q] + part * (growth[q + 1] - growth[q])
        below = above
    return growth[last]


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
    ctl: ControlArrays, forecast: ForecastArrays, obs: ObservationArrays, n: int, prior_rps: float, growth: F64
) -> float:
    """Writes the growth quantiles of env n, (Q,), and returns the rate now that they multiply, requests/s."""
    arrivals = np.empty(obs.history.shape[2])
    known = total_by_age(obs, n, arrivals)
    features = np.empty(NUM_FEATURES)
    features_of(arrivals, known, features)
    growth_quantiles(forecast, features, growth)
    return rate_now(ctl, arrivals, known, prior_rps)
