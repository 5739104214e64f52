"""The compiled decision path: array kernels with a leading env axis, the same in training, evaluation and live serving.

Importing this package sets numba's cache folder, so import kernels only through it and only on use (numba costs 0.65
s).
"""

from __future__ import annotations

from controller.kernel_cache import use_keyed_cache

use_keyed_cache()
