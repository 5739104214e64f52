"""Data versions of an image: how small and in which format a client sends it, with real encoders."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from controller.kernel_cache import cache_root

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class DataVersion:
    """One way to send an image.

    Attributes:
        name: In plans and tables.
        share: Of the full edge in pixels.
        quality: Of JPEG; None: PNG, without loss.
    """

    name: str
    share: float = 1.0
    quality: int | None = None

    def encode(self, pixels: Pixels) -> bytes:
        """An image's bytes, scaled by the mean of the pixels that become one."""
        image = Image.fromarray(pixels)
        side = max(1, round(self.share * pixels.shape[0]))
        if side != pixels.shape[0]:
            image = image.resize((side, side), Image.Resampling.BOX)
        stream = io.BytesIO()
        if self.quality is None:
            image.save(stream, "PNG", optimize=True)
        else:
            image.save(stream, "JPEG", quality=self.quality, optimize=True)
        return stream.getvalue()


def decode(data: bytes, side: int) -> Pixels:
    """The image of any version, at the full edge again."""
    image: Image.Image = Image.open(io.BytesIO(data))
    if image.width != side:
        image = image.resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8)


VERSIONS = (
    DataVersion("png-100"),
    DataVersion("jpeg-20", quality=20),
    DataVersion("png-70", share=0.7),
    DataVersion("png-50", share=0.5),
    DataVersion("png-36", share=0.36),
    DataVersion("png-25", share=0.25),
)
"""From large to small."""


@dataclass(frozen=True)
class Images:
    """Images of ten classes.

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


def found_images() -> Images:
    """Fashion-MNIST where the cache folder holds it, scikit-learn's digits otherwise; in a fixed random order.

    Source:
        Xiao, Rasul, Vollgraf, "Fashion-MNIST", 2017 (MIT).
    """
    path = cache_root() / "fashion-mnist" / "images.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as arrays:
            return _shuffled("Fashion-MNIST", arrays["pixels"], arrays["classes"], 12_000, 8_000)
    return digits()


def digits() -> Images:
    """The 1,797 digits of scikit-learn, 8 x 8 pixels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = (found.images * (255.0 / 16.0)).astype(np.uint8)
    return _shuffled("scikit-learn digits", pixels, found.target.astype(np.int64), 797, 1_000)


def _shuffled(name: str, pixels: Pixels, classes: NDArray[np.int64], train: int, held_out: int) -> Images:
    order = np.random.default_rng(12).permutation(len(classes))[: train + held_out]
    return Images(name, np.ascontiguousarray(pixels[order]), classes[order], train)
