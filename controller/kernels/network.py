"""A small network, env by env, so that an env's output does not depend on how envs are batched."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controller.arrays import F64, I64
from controller.kernels.compiled import kernel
from controller.kernels.local import floats


class NetworkArrays(NamedTuple):
    """A network of dense layers with L + 1 widths, flat, so that one compiled function serves any depth."""

    widths: I64  # (L + 1,) inputs first
    weights: F64  # of layer after layer, rows of inputs: weight[i, j] of a layer at i * J + j
    biases: F64  # of layer after layer


@kernel
def forward(net: NetworkArrays, seen: NDArray[np.float32], n: int, out: F64) -> None:
    """Writes the network's output for env n to `out[n]`: tanh within, clipped to [-1, 1] at the end.

    Args:
        net: The network.
        seen: (N, D) observations.
        n: Env.
        out: (N, K).
    """
    most = 0
    for width in net.widths:
        most = max(most, width)
    values, sums = floats(most), floats(most)
    for i in range(net.widths[0]):
        values[i] = seen[n, i]
    num_layers = net.widths.shape[0] - 1
    weight_at, bias_at = 0, 0
    for layer in range(num_layers):
        num_inputs, num_outputs = net.widths[layer], net.widths[layer + 1]
        for j in range(num_outputs):
            sums[j] = net.biases[bias_at + j]
        for i in range(num_inputs):
            value = values[i]
            for j in range(num_outputs):
                sums[j] += value * net.weights[weight_at + i * num_outputs + j]
        weight_at += num_inputs * num_outputs
        bias_at += num_outputs
        for j in range(num_outputs):
            values[j] = min(1.0, max(-1.0, sums[j])) if layer == num_layers - 1 else np.tanh(sums[j])
    for k in range(out.shape[1]):
        out[n, k] = values[k]
