"""Small real image classifiers: a ladder trained here in seconds on the digits that scikit-learn ships.

Three variants differ in the input they read (the resolution is part of a variant) and in width: `digits-small` is a
logistic regression on 4 x 4 pixels, `digits-medium` a network with 32 hidden units on 5 x 5, `digits-large` one with
128 on 8 x 8. Weights are stored as safetensors and never unpickled. The accuracy of each is measured on images held
out from its training.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.errors import RunError
from controller.kernel_cache import cache_root
from serving import digit_model
from serving.digit_model import LARGEST_PIXEL, resize_matrix

DIGITS = 10
SIDE = 8
"""Pixels of an image's edge."""
HELD_OUT = 360
"""Images kept for measuring, of 1797; one standard error of an accuracy near 0.95 is 1.1 points."""

_TRAIN_EPOCHS = 300
_LEARNING_RATE = 0.02
_RECIPE = 1
# Raised when training changes, so that stored weights of an older recipe are not taken for new ones.


@dataclass(frozen=True)
class Design:
    """One rung of the ladder."""

    side: int  # pixels of the input it reads, squared
    hidden: int  # units; 0 is a logistic regression


LADDER = {
    "digits-small": Design(side=4, hidden=0),
    "digits-medium": Design(side=5, hidden=32),
    "digits-large": Design(side=8, hidden=128),
}


@dataclass(frozen=True)
class Trained:
    """Weights of a variant and what they were measured to do."""

    name: str
    weights: bytes  # safetensors
    accuracy: float  # on the held-out images
    train_s: float  # 0 where they were stored


def images() -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Training images and digits, then the held-out ones; images are (n, 64) in 0..16. The split is fixed."""
    from sklearn.datasets import load_digits

    loaded: Any = load_digits()
    pixels, digits = np.asarray(loaded.data, np.float32), np.asarray(loaded.target, np.int64)
    order = np.random.default_rng(20).permutation(len(digits))
    held_out, rest = order[:HELD_OUT], order[HELD_OUT:]
    return pixels[rest], digits[rest], pixels[held_out], digits[held_out]


def train(name: str) -> Trained:
    """Trains one variant on one thread; the same weights on the same machine every time."""
    import torch
    from safetensors.torch import save

    began = time.perf_counter()
    design = LADDER[name]
    train_x, train_y, test_x, test_y = images()
    generator = torch.Generator().manual_seed(7)
    layers = [(design.side**2, design.hidden or DIGITS)] + ([(design.hidden, DIGITS)] if design.hidden else [])
    tensors = {}
    for i, (fan_in, fan_out) in enumerate(layers):
        weight = torch.randn(fan_in, fan_out, generator=generator) / math.sqrt(fan_in)
        tensors[f"weight{i}"] = weight.requires_grad_()
        tensors[f"bias{i}"] = torch.zeros(fan_out, requires_grad=True)
    inputs = torch.from_numpy(train_x / LARGEST_PIXEL @ resize_matrix(design.side))
    targets = torch.from_numpy(train_y)
    optimizer = torch.optim.Adam(tensors.values(), lr=_LEARNING_RATE, weight_decay=1e-4)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for _ in range(_TRAIN_EPOCHS):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(_forward(tensors, inputs), targets)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        optimizer.step()
    torch.set_num_threads(threads)
    weights = save({key: value.detach().contiguous() for key, value in tensors.items()})
    answers = classifier(name, weights)([row.tolist() for row in test_x])
    accuracy = float(np.mean(np.array(answers) == test_y))
    return Trained(name, weights, accuracy, time.perf_counter() - began)


def load_or_train(names: Sequence[str] = tuple(LADDER)) -> dict[str, Trained]:
    """The ladder, from the cache folder (`PROVISOR_CACHE`) where it was stored, else trained now and stored.

    Raises:
        RunError: A name is not on the ladder, or the cache cannot be written.
    """
    found: dict[str, Trained] = {}
    for name in names:
        if name not in LADDER:
            raise RunError(f"model: expected one of {sorted(LADDER)}, got '{name}'")
        design = LADDER[name]
        text = f"{_RECIPE} {name} {design} {_TRAIN_EPOCHS} {_LEARNING_RATE} {HELD_OUT}"
        folder = cache_root() / "zoo" / hashlib.sha256(text.encode()).hexdigest()[:16]
        stored = _load(name, folder)
        if stored is None:
            stored = train(name)
            _store(stored, folder)
        found[name] = stored
    return found


def classifier(name: str, weights: bytes) -> digit_model.Classifier:
    """The model as a callable: a list of images (64 numbers each) to a list of digits."""
    return digit_model.Classifier(LADDER[name].side, weights)


def input_fault(value: object, side: int = SIDE, largest: float = LARGEST_PIXEL) -> str:
    """Why a value is not an image of `side` x `side` pixels, the ladder's unless told; empty where it is one."""
    if not isinstance(value, list) or len(value) != side * side:
        return f"expected a list of {side * side} numbers ({side} x {side} pixels, row by row)"
    for i, pixel in enumerate(value):
        if isinstance(pixel, bool) or not isinstance(pixel, int | float) or not 0 <= pixel <= largest:
            return f"[{i}]: expected a number in 0..{largest:g}, got {str(pixel)[:40]!r}"
    return ""


def _forward(tensors: dict[str, Any], inputs: Any) -> Any:
    out = inputs @ tensors["weight0"] + tensors["bias0"]
    if "weight1" in tensors:
        out = out.relu() @ tensors["weight1"] + tensors["bias1"]
    return out


def _load(name: str, folder: Path) -> Trained | None:
    try:
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        weights = (folder / "weights.safetensors").read_bytes()
        digest, accuracy = facts["sha256"], float(facts["accuracy"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    # A half-written or damaged artefact is trained again rather than served.
    return Trained(name, weights, accuracy, 0.0) if hashlib.sha256(weights).hexdigest() == digest else None


def _store(trained: Trained, folder: Path) -> None:
    facts = {
        "name": trained.name,
        "accuracy": trained.accuracy,
        "held_out": HELD_OUT,
        "sha256": hashlib.sha256(trained.weights).hexdigest(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "weights.safetensors").write_bytes(trained.weights)
        (folder / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise RunError(f"{folder}: expected a writable cache folder, got: {error.strerror or error}") from error
