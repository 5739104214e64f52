"""Images that collages are made of, their split, and collages of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

CLASSES = 10


@dataclass(frozen=True)
class Task:
    """Images and the training budget, which is one for all networks.

    Attributes:
        name: Of the images.
        pixels: All of them, in 0..1, shape (N, 1, S, S).
        classes: What is on them, shape (N,).
        trained: Images for training.
        held: Others, that are held out.
        epochs: Over these.
        batch: Images of a step of training, in collages or not.
        rounds: Times that the held-out images are arranged into collages.
    """

    name: str
    pixels: Tensor
    classes: Tensor
    trained: int
    held: int
    epochs: int
    batch: int
    rounds: int

    @property
    def side(self) -> int:
        """Pixels of an edge."""
        return int(self.pixels.shape[-1])


@dataclass(frozen=True)
class Split:
    """Images by their use; pixels (N, 1, S, S), classes (N,)."""

    train_pixels: Tensor
    train_classes: Tensor
    held_pixels: Tensor
    held_classes: Tensor


def digits() -> Task:
    """The 1,797 digits of scikit-learn, 8 x 8 pixels: 1,000 for training."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = torch.from_numpy((found.images / 16.0).astype(np.float32)).unsqueeze(1)
    return Task("digits", pixels, torch.from_numpy(found.target.astype(np.int64)), 1000, 797, 40, 64, 5)


def fashion() -> Task:
    """The 70,000 images of Fashion-MNIST, 28 x 28 pixels: 30,000 for training, 10,000 held out.

    Raises:
        RunError: They cannot be had.
    """
    from experiments.tiers.fashion import fetch

    found = fetch()
    pixels = torch.from_numpy(found.pixels).float().unsqueeze(1) / 255.0
    return Task("fashion", pixels, torch.from_numpy(found.classes), 30_000, 10_000, 3, 128, 1)


TASKS = {"digits": digits, "fashion": fashion}


def split(task: Task, seed: int) -> Split:
    """A seed's split; every network of the seed is trained on the same images.

    Args:
        task: The images.
        seed: Of the shuffle.
    """
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(task.classes)))
    train, held = order[: task.trained], order[task.trained :][: task.held]
    return Split(task.pixels[train], task.classes[train], task.pixels[held], task.classes[held])


def collage(cells: Tensor) -> Tensor:
    """Collages, row by row of cells.

    Args:
        cells: Images, shape (N, K, S, S), K a square.

    Returns:
        Shape (N, 1, w S, w S), w the root of K.
    """
    count, k, side, _ = cells.shape
    w = side_of(k)
    return cells.view(count, w, w, side, side).permute(0, 1, 3, 2, 4).reshape(count, 1, w * side, w * side)


def side_of(k: int) -> int:
    """Cells of an edge of a collage of k images."""
    w = math.isqrt(k)
    if w * w != k:
        raise ValueError(f"cells: expected a square number, got {k}")
    return w


def arrangement(count: int, k: int, generator: torch.Generator) -> Tensor:
    """Which image is where: each once, those over after the last whole collage left out; shape (count // k, k)."""
    order = torch.randperm(count, generator=generator)
    return order[: count // k * k].view(-1, k)
