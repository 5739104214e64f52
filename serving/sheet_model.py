"""The digits ladder on encoded sheets: a replica decodes what a client sent and tells all its digits."""

from __future__ import annotations

from typing import Any

import numpy as np

from serving import zoo
from serving.data_version import SHEET, decode, from_text, images_of
from serving.digit_model import LARGEST_PIXEL

SIDE = 8
"""Pixels along an edge of one digit."""

LARGEST_BYTE = 255.0


class SheetModel:
    """Sixteen digits of every sheet, in whatever data version it comes.

    Args:
        name: Of the ladder.
    """

    def __init__(self, name: str) -> None:
        self._classifier = zoo.classifier(name, zoo.load_or_train([name])[name].weights)

    def __call__(self, batch: list[Any]) -> list[list[int]]:
        """Digits of each sheet, row by row."""
        sheets = np.stack([decode(from_text(text), SHEET * SIDE) for text in batch])
        images = images_of(sheets).reshape(len(batch), -1, SIDE * SIDE) * (LARGEST_PIXEL / LARGEST_BYTE)
        return [self._classifier(rows.tolist()) for rows in images]


def small() -> SheetModel:
    """By a logistic regression on 4 x 4 pixels."""
    return SheetModel("digits-small")


def large() -> SheetModel:
    """By a network of 128 hidden units on 8 x 8 pixels."""
    return SheetModel("digits-large")
