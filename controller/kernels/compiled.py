"""The two ways kernels are compiled, both with IEEE division so that none raises.

A call from Python has to unpack every array of every tuple, and the code that does so is most of what there would be
to compile; so only what Python calls gets it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

from controller.kernel_cache import keyed_cache

_njit: Callable[..., Any] = numba.njit


def cached(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator that compiles with numba's `options` and keeps the result on disk until a source of it changes."""

    def declare(function: Callable[..., Any]) -> Any:
        with keyed_cache(function.__module__):
            return _njit(cache=True, **options)(function)

    return declare


kernel: Callable[..., Any] = cached(nogil=True, error_model="numpy")
"""A function that Python or other kernels call: cached on disk, free of the GIL."""

_WITHOUT_WRAPPERS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}

inner: Callable[..., Any] = _njit(nogil=True, error_model="numpy", **_WITHOUT_WRAPPERS)
"""A function that other kernels alone call."""

merged: Callable[..., Any] = _njit(nogil=True, error_model="numpy", forceinline=True, **_WITHOUT_WRAPPERS)
"""A function called in one place of another, which may allocate: its arguments would all pass by the stack."""
