"""The ways kernels are compiled, all with IEEE division so that none raises.

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


_WITHOUT_MEMORY = {"nogil": True, "error_model": "numpy", "_nrt": False}
_WITH_MEMORY = {"nogil": True, "error_model": "numpy"}
_WITHOUT_WRAPPERS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}

kernel: Callable[..., Any] = cached(**_WITHOUT_MEMORY)
"""A function that Python or other kernels call: cached on disk, free of the GIL.

It owns no memory, so reference counting is switched off (`_nrt`): a field read from a tuple of arrays inside a loop
otherwise costs two atomic operations. One that allocates does not compile.
"""

inner: Callable[..., Any] = _njit(**_WITHOUT_MEMORY, **_WITHOUT_WRAPPERS)
"""A function that other kernels alone call; it owns no memory either."""

allocating: Callable[..., Any] = cached(**_WITH_MEMORY)
"""As `kernel`, for what makes arrays: best a few lines that make them and call a kernel with them."""

allocating_inner: Callable[..., Any] = _njit(**_WITH_MEMORY, **_WITHOUT_WRAPPERS)
"""As `inner`, for what makes arrays."""

merged: Callable[..., Any] = _njit(**_WITH_MEMORY, forceinline=True, **_WITHOUT_WRAPPERS)
"""A function called in one place of another, which may allocate: its arguments would all pass by the stack."""
