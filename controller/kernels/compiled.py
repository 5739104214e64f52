"""The one way kernels are compiled: cached on disk, free of the GIL, with IEEE division so that none raises."""

from __future__ import annotations

from numba import njit

kernel = njit(cache=True, nogil=True, error_model="numpy")
