"""Compiled form of `controller.keyed_random`."""

from __future__ import annotations

import numpy as np
from numba import njit

from controller.kernels.compiled import cached

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_ONE = np.uint64(1)
_S11, _S27, _S30, _S31 = np.uint64(11), np.uint64(27), np.uint64(30), np.uint64(31)


@njit(inline="always")
def _mix(z: np.uint64) -> np.uint64:
    z = (z ^ (z >> _S30)) * _MIX_1
    z = (z ^ (z >> _S27)) * _MIX_2
    return z ^ (z >> _S31)


@cached()
def stream_key(seed: int, stream: int) -> np.uint64:
    """Key of one stream of one seed."""
    return _mix(np.uint64(seed) * _GOLDEN + np.uint64(stream) + _ONE)


@njit(inline="always")
def uniform(key: np.uint64, identity: int, attempt: int) -> float:
    """Draw in [0, 1) for a request id and attempt."""
    z = _mix(key + (np.uint64(identity) + _ONE) * _GOLDEN + np.uint64(attempt) * _MIX_2)
    return np.float64(np.int64(z >> _S11)) * 2.0**-53
