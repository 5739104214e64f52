"""Answers of dense networks held as named tensors, many rows at once; `controller.kernels.network` is the live form."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from controller.arrays import F64


def dense(tensors: Mapping[str, NDArray[np.float32]], seen: NDArray[np.floating], prefix: str = "knobs") -> F64:
    """Answers (N, K) of a network to what it sees, (N, D): tanh within, nothing at the end.

    Args:
        tensors: `PREFIX.L.weight` (outputs, inputs) and `PREFIX.L.bias` of each layer L; others are left alone.
        seen: Inputs.
        prefix: Name of the network.
    """
    values = np.asarray(seen, np.float64)
    layer = 0
    while f"{prefix}.{layer}.weight" in tensors:
        if layer:
            values = np.tanh(values)
        values = values @ tensors[f"{prefix}.{layer}.weight"].T.astype(np.float64) + tensors[f"{prefix}.{layer}.bias"]
        layer += 1
    return values
