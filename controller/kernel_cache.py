"""Keeps compiled kernels in a folder named by a hash of every kernel source.

numba's on-disk cache does not see a change in a function that lives in another file: it would go on returning results
of the old callee. A folder per hash of all sources that kernels are compiled from makes any edit start a fresh cache.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

KERNEL_SOURCES = (
    "controller.kernels",
    "envs.kernels",
    "controller.routing",
    "controller.redundancy",
    "controller.latency",
    "controller.bill",
    "controller.keyed_random",
    "controller.arrays",
    "controller.rule_arrays",
    "controller.plan",
)
"""Packages and modules whose text decides what the compiled code does."""


def source_hash() -> str:
    """Hash of all kernel sources and of the versions that compile them, 16 hex digits."""
    digest = hashlib.sha256(
        f"{sys.version_info[:3]} {version('numba')} {version('numpy')} {platform.machine()}".encode()
    )
    for name in KERNEL_SOURCES:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            continue
        origin = Path(spec.origin)
        files = sorted(origin.parent.glob("*.py")) if origin.name == "__init__.py" else [origin]
        for file in files:
            digest.update(file.name.encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def cache_root() -> Path:
    """Folder that holds one cache per hash: `PROVISOR_CACHE`, or the user's cache folder."""
    chosen = os.environ.get("PROVISOR_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))) / "provisor"


def use_keyed_cache() -> Path:
    """Points numba at the folder of the current sources; must run before the first kernel is defined."""
    folder = cache_root() / "kernels" / source_hash()
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    if "numba" in sys.modules:
        from numba.core import config

        vars(config)["CACHE_DIR"] = str(folder)  # absent from numba's published types
    return folder
