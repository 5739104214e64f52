"""A workflow with real models: two views of a digit, each told by a model of its own, and what fuses them.

The views are the upper and the lower half of the images that scikit-learn ships, as two sensors of one scene would see
them; neither half says what the digit is as surely as both. Each view has a small variant (logistic regression) and a
large one (hidden layers of 256 and 128 units). They answer logarithms of the digits' probabilities, which the
fusion adds. Trained here in seconds, stored without pickle.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.errors import RunError, mismatch
from controller.kernel_cache import cache_root
from serving import zoo
from serving.digit_model import LARGEST_PIXEL

VIEWS = ("upper", "lower")
VIEW_PIXELS = 32  # half of 8 x 8
HIDDEN: dict[str, tuple[int, ...]] = {"small": (), "large": (256, 128)}

_RECIPE = 1
_EPOCHS, _RATE, _DECAY = 150, 0.01, 1e-3
_LEAST = 1e-6  # probability, so that one view cannot rule a digit out alone


def view_of(images: NDArray[np.float32], view: str) -> NDArray[np.float32]:
    """The half of images (N, 64) that a view sees, (N, 32)."""
    return images[:, :VIEW_PIXELS] if view == "upper" else images[:, VIEW_PIXELS:]


class ViewModel:
    """Tells digits by one view.

    Args:
        view: One of `VIEWS`.
        size: One of `HIDDEN`.
    """

    def __init__(self, view: str, size: str) -> None:
        self.view = view
        self._weights = _load_or_train(view, size)

    def log_probabilities(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of the ten digits, (N, 10), by pixels (N, 32) in 0..16."""
        out = pixels / LARGEST_PIXEL
        layers = len(self._weights) // 2
        for layer in range(layers):
            out = out @ self._weights[f"weight{layer}"] + self._weights[f"bias{layer}"]
            if layer + 1 < layers:
                out = np.maximum(out, 0.0)
        odds = np.exp(out - out.max(axis=1, keepdims=True))
        return np.asarray(np.log(np.maximum(odds / odds.sum(axis=1, keepdims=True), _LEAST)), np.float32)

    def __call__(self, batch: Sequence[Mapping[str, Sequence[float]]]) -> list[list[float]]:
        """Logarithms of probabilities for each message of the view's source."""
        pixels = np.array([message[source_of(self.view)] for message in batch], np.float32)
        if pixels.shape[1:] != (VIEW_PIXELS,):
            raise ValueError(mismatch("input", f"{VIEW_PIXELS} pixels", pixels.shape[1:]))
        rounded = np.round(self.log_probabilities(pixels).astype(np.float64), 3)
        answers: list[list[float]] = rounded.tolist()
        return answers


def fuse(batch: Sequence[Mapping[str, Sequence[float]]]) -> list[int]:
    """The digit that both views together make most probable."""
    return [int(np.sum([message[name] for name in sorted(message)], axis=0).argmax()) for message in batch]


def upper_small() -> ViewModel:
    """The upper half, by the small model."""
    return ViewModel("upper", "small")


def upper_large() -> ViewModel:
    """The upper half, by the large model."""
    return ViewModel("upper", "large")


def lower_small() -> ViewModel:
    """The lower half, by the small model."""
    return ViewModel("lower", "small")


def lower_large() -> ViewModel:
    """The lower half, by the large model."""
    return ViewModel("lower", "large")


def _load_or_train(view: str, size: str) -> dict[str, NDArray[np.float32]]:
    from safetensors.numpy import load_file, save_file

    text = f"{_RECIPE} {view} {size} {HIDDEN[size]} {_EPOCHS} {_RATE} {_DECAY} {zoo.HELD_OUT}"
    path: Path = cache_root() / "two-views" / f"{view}-{size}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if path.is_file():
        return load_file(path)
    weights = _train(view, size)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        save_file(weights, partial)
        partial.replace(path)
    except OSError as error:
        raise RunError(f"{path}: expected a writable cache folder, got: {error.strerror or error}") from error
    return weights


def _train(view: str, size: str) -> dict[str, NDArray[np.float32]]:
    """Full-batch Adam on one thread; the same weights on the same machine every time."""
    import torch

    images, digits = zoo.images()[:2]
    inputs, targets = torch.from_numpy(view_of(images, view) / LARGEST_PIXEL), torch.from_numpy(digits)
    generator = torch.Generator().manual_seed(7)
    tensors = {}
    for n, (fan_in, fan_out) in enumerate(pairwise((VIEW_PIXELS, *HIDDEN[size], zoo.DIGITS))):
        weight = torch.randn(fan_in, fan_out, generator=generator) / math.sqrt(fan_in)
        tensors[f"weight{n}"] = weight.requires_grad_()
        tensors[f"bias{n}"] = torch.zeros(fan_out, requires_grad=True)
    # Decay keeps its probabilities from being all but certain.
    optimizer = torch.optim.Adam(tensors.values(), lr=_RATE, weight_decay=_DECAY)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    layers = len(tensors) // 2
    for _ in range(_EPOCHS):
        out = inputs
        for n in range(layers):
            out = out @ tensors[f"weight{n}"] + tensors[f"bias{n}"]
            out = out.relu() if n + 1 < layers else out
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(out, targets)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        optimizer.step()
    torch.set_num_threads(threads)
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}


def source_of(view: str) -> str:
    """What a view's messages come from."""
    return f"camera-{view}"


def as_input(image: Sequence[float]) -> dict[str, Any]:
    """What the sources send of one image of 64 pixels: a view each."""
    return {source_of("upper"): list(image[:VIEW_PIXELS]), source_of("lower"): list(image[VIEW_PIXELS:])}
