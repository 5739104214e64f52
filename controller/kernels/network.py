"""One layer of a small network, env by env, so that an env's output does not depend on how envs are batched."""

from __future__ import annotations

import numpy as np

from controller.arrays import F64
from controller.kernels.compiled import kernel


@kernel
def dense(inputs: F64, weight: F64, bias: F64, is_last: bool, out: F64, lo: int, hi: int) -> None:
    """Writes `tanh(inputs @ weight + bias)`, or for the last layer the sum clipped to [-1, 1], for envs lo..hi-1.

    Args:
        inputs: (N, I).
        weight: (I, J); the sum runs over I in order, whatever N is.
        bias: (J,).
        is_last: The layer gives actions.
        out: (N, J).
        lo: First env.
        hi: One after the last.
    """
    num_inputs, num_outputs = weight.shape
    for n in range(lo, hi):
        for j in range(num_outputs):
            out[n, j] = bias[j]
        for i in range(num_inputs):
            value = inputs[n, i]
            for j in range(num_outputs):
                out[n, j] += value * weight[i, j]
        for j in range(num_outputs):
            out[n, j] = min(1.0, max(-1.0, out[n, j])) if is_last else np.tanh(out[n, j])
