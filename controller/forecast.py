"""The forecaster of the `mpc` rule: how much the arrival rate may grow over the launch delay.

Two ideas are needed to read it. It predicts the *largest* rate over the horizon, because capacity must be there before
the load; and it predicts quantiles of the logarithm of its ratio to the rate now, so that one network fits a service of
any size. Inputs are computed by the kernel that decides (`controller.kernels.forecast`), in training as well; the
horizon is one of them, the time of day is not. The fitted network that comes with the package is read by
`controller.forecaster_file`.
"""

from __future__ import annotations

import hashlib
import itertools
import json

import numpy as np

from controller.arrays import F64, I64
from controller.errors import UsageError, mismatch
from controller.rule_arrays import RATE_TICKS, ForecastArrays

FEATURES = (
    *(f"log mean of the last {t} ticks / rate now" for t in (1, 3, 18, 60, 180, 360)),
    *(f"log largest tick of the last {t} / rate now" for t in (6, 18, 60, 180, 360)),
    "log mean of the 6 ticks before the last 6 / rate now",
    *(f"relative linear change over the last {t} ticks" for t in (6, 18, 60)),
    *(f"standard deviation / mean over the last {t} ticks" for t in (18, 60)),
    "1 / sqrt(requests behind the rate now + 1)",
    "log smallest tick of the last 60 / rate now",
    "log age of the last rise by half, 0..1",
    "log age of the last fall by a third, 0..1",
    *(f"log largest tick of the 12 that followed {t} ticks ago / rate now" for t in (60, 180, 360)),
)
"""Meaning of each feature; all are clipped to +-5 and 0 where the history is too short."""

WINDOW_EDGES = (0, 1, 2, 3, 4, 6, 9, 12, 18, 24, 30, 36, 48, 60, 75, 90, 120, 150, 180, 210, 240, 300, 360)
"""Ages in ticks at which one window ends and the next begins; the kernel's own, where numba is not imported."""

INPUTS = (
    *FEATURES,
    *(f"log mean of ticks {a} to {b} ago / rate now" for a, b in itertools.pairwise(WINDOW_EDGES)),
    "log horizon / 18 ticks",
)
"""Meaning of each input of the network: the features, then windows that widen with age, then the horizon."""

LEVELS = (0.05, 0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
"""Default quantile levels."""


def inputs_sha256() -> str:
    """Identity of the network's inputs: their meanings in order."""
    return hashlib.sha256(json.dumps(INPUTS).encode()).hexdigest()


def forecast_features(history: F64) -> F64:
    """Features of many histories.

    Args:
        history: (N, T) arrivals per tick, oldest first, all T known; T may be 0. Only the last 360 ticks are used.

    Returns:
        (N, F) features, as the decision path computes them.

    Raises:
        UsageError: `history` is not two-dimensional.
    """
    from controller.kernels.forecast import NUM_FEATURES, features_of_each

    if history.ndim != 2:
        raise UsageError(mismatch("history", "an array of shape (N, T)", history.shape))
    by_age = np.ascontiguousarray(history[:, ::-1][:, :360], dtype=np.float64)
    out = np.zeros((len(by_age), NUM_FEATURES))
    features_of_each(by_age, by_age.shape[1], out)
    return out


def forecast_inputs(history: F64, horizon_ticks: float, known: I64 | None = None) -> F64:
    """Inputs of the network for many histories.

    Args:
        history: As for `forecast_features`.
        horizon_ticks: Ticks ahead that are forecast, > 0.
        known: (N,) how many of the newest ticks of each history are known; None: all.

    Returns:
        (N, F), as the decision path computes them.

    Raises:
        UsageError: `history` is not two-dimensional.
    """
    from controller.kernels.forecast import NUM_INPUTS, inputs_of_each

    if history.ndim != 2:
        raise UsageError(mismatch("history", "an array of shape (N, T)", history.shape))
    by_age = np.ascontiguousarray(history[:, ::-1][:, :360], dtype=np.float64)
    if known is None:
        known = np.full(len(by_age), by_age.shape[1], np.int64)
    out = np.zeros((len(by_age), NUM_INPUTS))
    inputs_of_each(by_age, np.ascontiguousarray(known, np.int64), float(horizon_ticks), out)
    return out


def forecast_targets(arrivals: F64, horizon_ticks: int, window_ticks: int = 3) -> F64:
    """What the forecaster learns: log(largest rate within the horizon / rate now).

    Args:
        arrivals: (T,) counts per tick of one series.
        horizon_ticks: Ticks ahead, >= 1.
        window_ticks: The largest is taken over means of this many ticks, so that one noisy tick does not set the
            target; 1 to horizon.

    Returns:
        (T - horizon_ticks - RATE_TICKS + 1,): entry i belongs to the moment after tick i + RATE_TICKS - 1.

    Raises:
        UsageError: The series is shorter than one rate window and horizon, or the window does not fit the horizon.
    """
    count = len(arrivals) - horizon_ticks - RATE_TICKS + 1
    if count < 1:
        raise UsageError(mismatch("arrivals", f"at least {horizon_ticks + RATE_TICKS} ticks", len(arrivals)))
    if not 1 <= window_ticks <= horizon_ticks:
        raise UsageError(mismatch("window_ticks", f"a whole number in 1..{horizon_ticks}", window_ticks))
    sums = np.concatenate(([0.0], np.cumsum(arrivals)))
    now = (sums[RATE_TICKS:] - sums[:-RATE_TICKS])[:count] / RATE_TICKS
    means = (sums[window_ticks:] - sums[:-window_ticks]) / window_ticks
    ahead = np.lib.stride_tricks.sliding_window_view(means[RATE_TICKS:], horizon_ticks - window_ticks + 1).max(axis=1)
    return np.asarray(np.log((ahead[:count] + 0.5) / (now + 0.5)))


def new_forecast(levels: tuple[float, ...], hidden: tuple[int, int] = (64, 32)) -> ForecastArrays:
    """A network of zeros with the right shapes, to be filled by training.

    Args:
        levels: Rising probabilities.
        hidden: Units of the two layers.

    Raises:
        UsageError: Levels are not rising within (0, 1).
    """
    if not levels or any(not 0 < q < 1 for q in levels) or any(b <= a for a, b in itertools.pairwise(levels)):
        raise UsageError(mismatch("levels", "rising probabilities within (0, 1)", levels))
    num_inputs, num_levels = len(INPUTS), len(levels)
    first, second = hidden
    return ForecastArrays(
        input_scale=np.ones(num_inputs),
        w1=np.zeros((num_inputs, first)),
        b1=np.zeros(first),
        w2=np.zeros((first, second)),
        b2=np.zeros(second),
        w3=np.zeros((second, num_levels)),
        b3=np.zeros(num_levels),
        levels=np.array(levels, np.float64),
    )


def persistence_forecast(
    levels: tuple[float, ...] = LEVELS,
    growth: tuple[float, ...] = (-0.10, -0.03, 0.03, 0.12, 0.18, 0.25, 0.37, 0.47, 0.60),
) -> ForecastArrays:
    """The rate stays as it is, times stated growth quantiles, whatever came before and however far ahead.

    Args:
        levels: Rising probabilities.
        growth: Quantile of log(largest rate / rate now) at each level, strictly rising. The default is a judgement for
            bursty web traffic over two minutes.

    Raises:
        UsageError: Lengths differ or growth does not rise.
    """
    if len(growth) != len(levels) or any(b <= a for a, b in itertools.pairwise(growth)):
        raise UsageError(mismatch("growth", f"{len(levels)} rising numbers", growth))
    return new_forecast(levels, hidden=(1, 1))._replace(b3=np.concatenate(([growth[0]], raw_steps(np.diff(growth)))))


def raw_steps(steps: F64) -> F64:
    """Inverse of softplus, in which the network writes the distances between neighbouring quantiles; steps > 0."""
    return np.asarray(np.log(np.expm1(steps)))


def growth_of(forecast: ForecastArrays, inputs: F64) -> F64:
    """Growth quantiles in numpy for many rows of inputs: the reference that the kernel is tested against.

    Args:
        forecast: The network.
        inputs: (N, F).

    Returns:
        (N, Q), rising along Q.
    """
    first = np.tanh((inputs * forecast.input_scale) @ forecast.w1 + forecast.b1)
    raw = np.tanh(first @ forecast.w2 + forecast.b2) @ forecast.w3 + forecast.b3
    steps = np.logaddexp(0.0, raw[:, 1:])
    return np.asarray(np.concatenate((raw[:, :1], raw[:, :1] + np.cumsum(steps, axis=1)), axis=1))
