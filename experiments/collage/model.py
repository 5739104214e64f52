"""The network: one trunk over the whole collage, whose output has one position for each cell.

Every block halves the map while a cell's edge is even, so cells stay aligned with the map, and the head, as large as
what is left of a cell, steps from cell to cell. The trunk's convolutions see over the edges of a cell; training teaches
them what belongs to it. With one cell it is the single-image network that collages are compared with.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.collage.data import CLASSES

_KERNEL = 3


@dataclass(frozen=True)
class Design:
    """Form of a network.

    Attributes:
        w: Cells of an edge; 1 for a single image.
        side: Pixels of an image's edge.
        cell: Pixels that it is shrunk to in the collage.
        widths: Channels of each block.
        is_strided: Blocks halve by the step of their convolution, a quarter of the work of pooling after it.
    """

    w: int
    side: int
    cell: int
    widths: tuple[int, ...]
    is_strided: bool

    @property
    def cells(self) -> int:
        """Images of a pass."""
        return self.w * self.w

    def values(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {**asdict(self), "widths": list(self.widths)}


class CollageNet(nn.Module):
    """Scores of the classes of every cell.

    Args:
        design: Its form.
    """

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.design = design
        layers: list[nn.Module] = []
        channels, left = 1, design.cell
        for width in design.widths:
            halves = left % 2 == 0
            stride = 2 if halves and design.is_strided else 1
            layers += [nn.Conv2d(channels, width, _KERNEL, stride, _KERNEL // 2, bias=False)]
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            if halves and not design.is_strided:
                layers.append(nn.MaxPool2d(2))
            channels, left = width, left // 2 if halves else left
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Conv2d(channels, CLASSES, left, stride=left)

    def forward(self, collages: Tensor) -> Tensor:
        """Scores.

        Args:
            collages: Of images of `side` pixels, shape (N, 1, w side, w side).

        Returns:
            Row by row of cells, shape (N, w w, classes).
        """
        design = self.design
        if design.cell != design.side:
            collages = F.interpolate(collages, size=(design.w * design.cell,) * 2, mode="area")
        scores: Tensor = self.head(self.trunk(collages))
        return scores.flatten(2).transpose(1, 2)

    @torch.inference_mode()
    def classify(self, collages: Tensor) -> tuple[Tensor, Tensor]:
        """Class and confidence (largest softmax output) of every cell, each of shape (N, w w)."""
        confidence, classes = self(collages).softmax(dim=2).max(dim=2)
        return classes, confidence


def macs(design: Design) -> int:
    """Multiply-accumulates of the convolutions of one pass, padding counted as the kernel runs over it."""
    total = 0

    def count(layer: nn.Module, _: Any, output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        total_here = output[0].numel() * layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1]
        nonlocal total
        total += total_here

    net = CollageNet(design).eval()
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    edge = design.w * design.side
    with torch.inference_mode():
        net(torch.zeros(1, 1, edge, edge))
    return total


SINGLE = "single"
FULL, SHRUNK = "full", "shrunk"
"""Cells at the images' resolution under a thin strided trunk, or shrunk, as in the paper, under the single's trunk."""

_WIDTHS: dict[str, dict[str, tuple[tuple[int, ...], ...]]] = {
    # For w = 2 to 5. Chosen by their work alone: about that of one pass of the single-image network.
    "digits": {FULL: ((16, 32, 48), (12, 16, 32), (8, 16, 32), (8, 12, 16))},
    "fashion": {
        FULL: ((12, 24, 32), (8, 16, 20), (8, 12, 12), (8, 8, 8)),
        SHRUNK: ((16, 32, 48), (16, 24, 32), (16, 32, 48), (12, 24, 36)),
    },
}
_SHRUNK_CELL = {2: 16, 3: 12, 4: 8, 5: 8}
_SINGLE_WIDTHS = (16, 32, 64)
_SIDES = {"digits": 8, "fashion": 28}


def designs(task: str, w: int) -> dict[str, Design]:
    """The networks of a task by the name of their form.

    Args:
        task: One of `data.TASKS`.
        w: 2 to 5; 1 for the single-image network.
    """
    side = _SIDES[task]
    if w == 1:
        return {SINGLE: Design(1, side, side, _SINGLE_WIDTHS, is_strided=False)}
    if w not in _SHRUNK_CELL:
        raise ValueError(f"w: expected 2 to 5, got {w}")
    return {
        form: Design(w, side, side if form == FULL else _SHRUNK_CELL[w], widths[w - 2], is_strided=form == FULL)
        for form, widths in _WIDTHS[task].items()
    }
