"""The digits ladder at work: numpy alone, so that a replica is up, and a function warm, in little time.

Imports nothing of the project: a function of AWS Lambda carries this file as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

PIXELS = 64
"""Numbers of one image: 8 x 8, row by row."""

LARGEST_PIXEL = 16.0


def resize_matrix(side: int) -> NDArray[np.float32]:
    """Area averaging from 8 x 8 to `side` x `side`, as one matrix (64, side**2); each column sums to 1."""
    rows = np.zeros((8, side), np.float64)
    for target in range(side):
        low, high = target * 8 / side, (target + 1) * 8 / side
        for source in range(8):
            rows[source, target] = max(0.0, min(high, source + 1) - max(low, source)) / (high - low)
    return np.asarray(np.kron(rows, rows), np.float32)


class Classifier:
    """A model of the ladder as a callable: a list of images (64 numbers each) to a list of digits.

    Args:
        side: Pixels of the input it reads, squared.
        weights: safetensors.
    """

    def __init__(self, side: int, weights: bytes) -> None:
        from safetensors.numpy import load

        self._tensors = load(weights)
        # Resizing and the first layer are both linear.
        self._first = resize_matrix(side) @ self._tensors["weight0"] / LARGEST_PIXEL

    def __call__(self, batch: list[Any]) -> list[Any]:
        """Digits."""
        digits: list[Any] = self._scores(batch).argmax(axis=1).tolist()
        return digits

    def with_confidence(self, batch: list[Any]) -> tuple[list[Any], list[float]]:
        """Digits, and the probability (softmax) of each."""
        scores = self._scores(batch)
        # The largest score becomes exp(0) = 1.
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        return scores.argmax(axis=1).tolist(), (1.0 / odds.sum(axis=1)).tolist()

    def _scores(self, batch: list[Any]) -> NDArray[np.float32]:
        tensors = self._tensors
        out = np.asarray(batch, np.float32) @ self._first + tensors["bias0"]
        if "weight1" in tensors:
            out = np.maximum(out, 0.0) @ tensors["weight1"] + tensors["bias1"]
        return np.asarray(out, np.float32)
