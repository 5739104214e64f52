"""Versions of data in which a client may send a request: a sheet of images, how small and in which format.

A sheet holds 4 x 4 images, all of which are to be told. Client and server share this file: one encodes, the other
decodes and takes the sheet apart.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller.errors import InputError, mismatch

SHEET = 4
"""Images along an edge of a sheet."""

PER_SHEET = SHEET * SHEET

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
        """A square image's bytes, scaled by the mean of the pixels that become one."""
        # A tenth of a second to import, which a client that sends no images need not wait for.
        from PIL import Image

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
    """The square image of any version, at the full edge again.

    Raises:
        OSError: The bytes are no image.
    """
    from PIL import Image

    image: Image.Image = Image.open(io.BytesIO(data)).convert("L")
    if image.width != side or image.height != side:
        image = image.resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8)


@dataclass(frozen=True)
class Sent:
    """What a region sends of its requests as one data version, and under which class the router answers it.

    Attributes:
        version: How it is encoded.
        request_class: Of the router.
        share: Of the region's requests; shares of all its versions sum to 1.
    """

    version: DataVersion
    request_class: str
    share: float


def drawn(mix: Sequence[Sent], draw: float) -> Sent:
    """The version that a number in [0, 1) falls on.

    Raises:
        InputError: There is none to choose from.
    """
    if not mix:
        raise InputError(mismatch("mix", "at least one data version", list(mix)))
    cumulative = np.cumsum([one.share for one in mix])
    return mix[min(int(np.searchsorted(cumulative, draw * cumulative[-1], side="right")), len(mix) - 1)]


def as_text(data: bytes) -> str:
    """Bytes as JSON can carry them."""
    return base64.b64encode(data).decode("ascii")


def from_text(text: object) -> bytes:
    """The bytes again.

    Raises:
        InputError: The text is none of `as_text`.
    """
    try:
        if not isinstance(text, str):
            raise TypeError
        return base64.b64decode(text, validate=True)
    except (TypeError, binascii.Error, ValueError) as error:
        raise InputError(mismatch("input", "an encoded image in base64", text)) from error


def sheets_of(pixels: Pixels) -> Pixels:
    """Images (N, S, S) sixteen to a sheet, row by row: (N / 16, 4 S, 4 S)."""
    side = pixels.shape[1]
    grid = pixels.reshape(-1, SHEET, SHEET, side, side).transpose(0, 1, 3, 2, 4)
    return np.ascontiguousarray(grid.reshape(-1, SHEET * side, SHEET * side))


def images_of(sheets: Pixels) -> Pixels:
    """The images of sheets, in the order that they were put in."""
    side = sheets.shape[1] // SHEET
    grid = sheets.reshape(-1, SHEET, side, SHEET, side).transpose(0, 1, 3, 2, 4)
    return np.ascontiguousarray(grid.reshape(-1, side, side))
