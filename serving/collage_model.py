"""Networks that classify a whole collage of images in one pass, at work: numpy alone, so that a replica is up quickly.

They are trained by `provisor collage train`, which writes a manifest and weights. A pass gets as many images as the
collage has cells, or fewer: the cells that are left stay blank.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.errors import ConfigError, mismatch

F32 = NDArray[np.float32]

_KERNEL, _PADDING = 3, 1
_NORM_EPSILON = 1e-5
_LARGEST_PIXEL = {"digits": 16.0, "fashion": 255.0}
# Of an image as callers send it, by task; networks see 0..1.


@dataclass(frozen=True)
class CollageWeights:
    """A trained network, as it travels to a replica.

    Attributes:
        w: Cells of an edge; 1 for a single image.
        side: Pixels of an image's edge.
        cell: Pixels that it is shrunk to in the collage.
        widths: Channels of each block.
        is_strided: Blocks halve by the step of their convolution; else by pooling after it.
        largest_pixel: Of an image as callers send it.
        weights: safetensors.
    """

    w: int
    side: int
    cell: int
    widths: tuple[int, ...]
    is_strided: bool
    largest_pixel: float
    weights: bytes

    @property
    def cells(self) -> int:
        """Images of a pass."""
        return self.w * self.w


def read_weights(path: Path) -> CollageWeights:
    """A network that was written by `provisor collage train`.

    Args:
        path: Its manifest; the weights are beside it.

    Raises:
        ConfigError: The manifest or the weights are not what was written.
    """
    weights = path.with_suffix(".safetensors")
    try:
        manifest, content = json.loads(path.read_text(encoding="utf-8")), weights.read_bytes()
        design, expected = manifest["design"], str(manifest["weights_sha256"])
        found = CollageWeights(
            int(design["w"]),
            int(design["side"]),
            int(design["cell"]),
            tuple(int(width) for width in design["widths"]),
            bool(design["is_strided"]),
            _LARGEST_PIXEL[manifest["task"]],
            content,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: expected a collage network's manifest and weights, got: {error!r}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected:
        raise ConfigError(mismatch(f"{weights}: SHA-256", expected, digest))
    return found


class CollageModel:
    """A network as a callable: of a batch of images, or of passes, each a list of images, to classes.

    Args:
        network: Trained.
    """

    def __init__(self, network: CollageWeights) -> None:
        from safetensors.numpy import load

        self._network = network
        tensors: dict[str, F32] = load(network.weights)
        self._shrink = _averages(network.w * network.side, network.w * network.cell)
        self._blocks: list[tuple[F32, F32, int, bool]] = []  # kernel, bias, step, whether it pools
        at, left = 0, network.cell
        for _ in network.widths:
            halves = left % 2 == 0
            step = 2 if halves and network.is_strided else 1
            pools = halves and not network.is_strided
            self._blocks.append((*_folded(tensors, at), step, pools))
            at, left = at + 3 + pools, left // 2 if halves else left
        self._head, self._head_bias, self._left = tensors["head.weight"], tensors["head.bias"], left

    def __call__(self, batch: list[Any]) -> list[Any]:
        """Classes."""
        return self.with_confidence(batch)[0]

    def with_confidence(self, batch: list[Any]) -> tuple[list[Any], list[Any]]:
        """Classes, and the probability (softmax) of each."""
        is_single = self._network.w == 1
        passes = [[image] for image in batch] if is_single else batch
        scores = self._scores(passes)
        odds = np.exp(scores - scores.max(axis=2, keepdims=True))
        classes, confidence = scores.argmax(axis=2), 1.0 / odds.sum(axis=2)
        rows = [(classes[i, : len(p)].tolist(), confidence[i, : len(p)].tolist()) for i, p in enumerate(passes)]
        if is_single:
            return [row[0][0] for row in rows], [row[1][0] for row in rows]
        return [row[0] for row in rows], [row[1] for row in rows]

    def _scores(self, passes: list[list[Any]]) -> F32:
        """Scores of the classes, shape (passes, cells, classes)."""
        network = self._network
        w, side = network.w, network.side
        images = np.zeros((len(passes), network.cells, side * side), np.float32)
        for i, inputs in enumerate(passes):
            images[i, : len(inputs)] = inputs
        collages = (images / np.float32(network.largest_pixel)).reshape(len(passes), w, w, side, side)
        x = collages.transpose(0, 1, 3, 2, 4).reshape(len(passes), 1, w * side, w * side)
        if network.cell != side:
            x = self._shrink @ x @ self._shrink.T
        for kernel, bias, step, pools in self._blocks:
            padded = np.pad(x, ((0, 0), (0, 0), (_PADDING, _PADDING), (_PADDING, _PADDING)))
            x = np.maximum(_convolved(padded, kernel, bias, step), 0.0)
            if pools:
                count, channels, height, width = x.shape
                x = x.reshape(count, channels, height // 2, 2, width // 2, 2).max(axis=(3, 5))
        scores = _convolved(x, self._head, self._head_bias, self._left)
        return scores.reshape(len(passes), scores.shape[1], -1).transpose(0, 2, 1)


def _folded(tensors: dict[str, F32], at: int) -> tuple[F32, F32]:
    """Kernel and bias of a block's convolution, the normalisation after it taken in."""
    norm = {name: tensors[f"trunk.{at + 1}.{name}"] for name in ("weight", "bias", "running_mean", "running_var")}
    scale = norm["weight"] / np.sqrt(norm["running_var"] + np.float32(_NORM_EPSILON))
    kernel = tensors[f"trunk.{at}.weight"] * scale[:, None, None, None]
    return kernel, norm["bias"] - norm["running_mean"] * scale


def _convolved(x: F32, kernel: F32, bias: F32, step: int) -> F32:
    """Convolution without padding of x (N, C, H, W) with a kernel (O, C, K, K); shape (N, O, H', W')."""
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], axis=(2, 3))[:, :, ::step, ::step]
    out = np.tensordot(windows, kernel, axes=((1, 4, 5), (1, 2, 3))) + bias
    return np.asarray(out.transpose(0, 3, 1, 2), np.float32)


def _averages(edge: int, into: int) -> F32:
    """Matrix (into, edge) that averages the pixels which each of fewer pixels covers, in full or in part."""
    rows = np.zeros((into, edge), np.float32)
    for target in range(into):
        low, high = target * edge // into, -(-(target + 1) * edge // into)
        rows[target, low:high] = 1.0 / (high - low)
    return rows
