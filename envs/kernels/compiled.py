"""The decorators of the simulator's kernels.

Kernels own no memory: every array comes from outside and work space is passed in. So reference counting is switched
off (`_nrt`), which matters: a field read from a tuple of arrays inside a loop otherwise costs two atomic operations,
four times the useful work. A kernel that allocates does not compile, which is wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from controller.kernels.compiled import cached

njit: Callable[..., Any] = numba.njit  # `_nrt` is a compiler flag that the published signature leaves out

_INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Called by kernels only: unboxing 150 arrays from Python is most of what there would be to compile."""

kernel: Callable[..., Any] = cached(_nrt=False, error_model="numpy", **_INNER)
"""A function that other kernels call."""

merged: Callable[..., Any] = cached(_nrt=False, error_model="numpy", forceinline=True, **_INNER)
"""A function called in one place for every option or env: its several hundred arguments would all pass by the stack."""

inlined: Callable[..., Any] = njit(_nrt=False, error_model="numpy", inline="always", **_INNER)
"""A small function on the path of every request."""

entry: Callable[..., Any] = cached(_nrt=False, error_model="numpy", nogil=True)
"""A function that Python calls: cached on disk, free of the interpreter lock."""

unsigned: Any = np.uint64
"""Makes an array index known to be unsigned: one that may be negative costs a test and two more loads per access."""


@inlined
def place(option: int, num_pools: int) -> tuple[int, int]:
    """Variant and pool of an option, in one unsigned division."""
    v = unsigned(option) // unsigned(num_pools)
    return v, unsigned(option) - v * unsigned(num_pools)
