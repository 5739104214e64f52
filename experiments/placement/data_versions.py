"""Which data versions are measured, and the real images that they are measured on.

A request is a sheet of images (`serving.data_version`), so that what an encoder writes beside the pixels is shared by
sixteen of them and a model answers them in one batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller.errors import RunError
from experiments.tiers import fashion
from serving.data_version import DataVersion, Pixels

VERSIONS = (
    DataVersion("png-100"),
    DataVersion("jpeg50-100", quality=50),
    DataVersion("jpeg20-100", quality=20),
    DataVersion("jpeg10-100", quality=10),
    DataVersion("jpeg30-50", share=0.5, quality=30),
    DataVersion("jpeg50-36", share=0.36, quality=50),
)
"""From large to small; the second number is the edge in percent."""

_TRAIN, _HELD_OUT = 16_000, 12_800


@dataclass(frozen=True)
class Images:
    """Images of ten classes, as many as fill whole sheets.

    Attributes:
        name: Of the set.
        pixels: (N, S, S).
        classes: (N,).
        train: Images to train on; the rest no model sees.
    """

    name: str
    pixels: Pixels
    classes: NDArray[np.int64]
    train: int


def found_images(say: Callable[[str], None]) -> Images:
    """Fashion-MNIST, or digits where that cannot be had; in a fixed random order.

    Args:
        say: Prints a line that says so.
    """
    try:
        found = fashion.fetch()
    except RunError as error:
        say(f"{error}; scikit-learn's digits instead")
        return digits()
    return _shuffled("Fashion-MNIST", found.pixels, found.classes, _TRAIN, _HELD_OUT)


def digits() -> Images:
    """The digits of scikit-learn, 8 x 8 pixels: 1,792 of 1,797, which are whole sheets."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = (found.images * (255.0 / 16.0)).astype(np.uint8)
    return _shuffled("scikit-learn digits", pixels, found.target.astype(np.int64), 800, 992)


def _shuffled(name: str, pixels: Pixels, classes: NDArray[np.int64], train: int, held_out: int) -> Images:
    order = np.random.default_rng(12).permutation(len(classes))[: train + held_out]
    return Images(name, np.ascontiguousarray(pixels[order]), classes[order], train)
