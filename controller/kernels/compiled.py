"""The one way kernels are compiled: cached on disk, free of the GIL, and with IEEE division, so that no input raises
inside one.
"""

from __future__ import annotations

from numba import njit

kernel = njit(cache=True, nogil=True, error_model="numpy")
