"""The forecaster's network: inputs to quantiles of growth, one env at a time, so that batching changes no bit."""

from __future__ import annotations

import numpy as np

from controller.arrays import F64
from controller.kernels.compiled import kernel
from controller.kernels.local import floats
from controller.rule_arrays import ForecastArrays


@kernel
def _layer(inputs: F64, weight: F64, bias: F64, out: F64) -> None:
    """Writes `inputs @ weight + bias`; the sum runs over the inputs in order, so equal rows give equal bits."""
    num_inputs, num_outputs = weight.shape
    for j in range(num_outputs):
        out[j] = bias[j]
    for i in range(num_inputs):
        value = inputs[i]
        for j in range(num_outputs):
            out[j] += value * weight[i, j]


@kernel
def growth_quantiles(forecast: ForecastArrays, inputs: F64, out: F64) -> None:
    """Writes the quantiles of log(largest rate over the horizon / rate now), (Q,), rising with the level."""
    scaled = floats(inputs.shape[0])
    for i in range(scaled.shape[0]):
        scaled[i] = inputs[i] * forecast.input_scale[i]
    first = floats(forecast.b1.shape[0])
    _layer(scaled, forecast.w1, forecast.b1, first)
    for m in range(first.shape[0]):
        first[m] = np.tanh(first[m])
    second = floats(forecast.b2.shape[0])
    _layer(first, forecast.w2, forecast.b2, second)
    for m in range(second.shape[0]):
        second[m] = np.tanh(second[m])
    _layer(second, forecast.w3, forecast.b3, out)
    for q in range(1, out.shape[0]):
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
