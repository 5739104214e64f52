"""The ways kernels are compiled: kept on disk, with IEEE division so that none raises, without reference counting.

Kernels own no memory, so nothing has to be counted (`_nrt`): an array read from a tuple of arrays otherwise costs two
atomic operations, which keep the compiler from much else. What allocates does not compile; work space is on the stack
(`controller.kernels.local`) or comes from outside.

A call from Python has to unpack every array of every tuple, and the code that does so is most of what there would be
to compile; so only what Python calls gets it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

from controller.kernel_cache import keyed_cache

_njit: Callable[..., Any] = numba.njit  # `_nrt` is a compiler flag that the published signature leaves out


def cached(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator that compiles with numba's `options` and keeps the result on disk until a source of it changes."""

    def declare(function: Callable[..., Any]) -> Any:
        with keyed_cache(function.__module__):
            return _njit(cache=True, **options)(function)

    return declare


kernel: Callable[..., Any] = cached(_nrt=False, nogil=True, error_model="numpy")
"""A function that Python or other kernels call, free of the GIL."""

_WITHOUT_WRAPPERS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}

inner: Callable[..., Any] = cached(_nrt=False, nogil=True, error_model="numpy", **_WITHOUT_WRAPPERS)
"""A function that other kernels alone call."""

merged: Callable[..., Any] = cached(_nrt=False, nogil=True, error_model="numpy", forceinline=True, **_WITHOUT_WRAPPERS)
"""A function called in one place of another: its arguments would all pass by the stack."""
