"""Compiled kernels of the simulated world.

Import on use only: the numba cache folder is set first, as for the decision kernels.
"""

from __future__ import annotations

from controller.kernel_cache import use_keyed_cache

use_keyed_cache()
