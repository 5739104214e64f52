"""Five image classifiers of rising size on Fashion-MNIST, trained here with one budget, and what each does.

70,000 images are split by a fixed shuffle into 50,000 for training and 20,000 that no version ever saw. Of these, each
version's answer, confidence (largest softmax output), time (of a core, one image at a time) and cost are measured.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from controller.arrays import F64
from controller.kernel_cache import cache_root
from controller.tiers.calibration import Calibration
from experiments.tiers.fashion import CLASSES, SIDE, Images
from experiments.tiers.prices import USD_PER_CORE_S

TRAINED, HELD_OUT = 50_000, 20_000
EPOCHS, BATCH, RATE = 8, 128, 2e-3
"""Of every version: one training budget for all."""

_RECIPE = 1
_SPLIT_SEED = 12


def _linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, CLASSES))


def _mlp(width: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, width), nn.ReLU(), nn.Linear(width, CLASSES))


def _cnn(width: int, blocks: int) -> nn.Module:
    layers: list[nn.Module] = []
    channels, side = 1, SIDE
    for block in range(blocks):
        out = width * 2**block
        layers += [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(), nn.MaxPool2d(2)]
        channels, side = out, side // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(channels * side * side, CLASSES))


VERSIONS: dict[str, Callable[[], nn.Module]] = {
    "linear": _linear,
    "mlp-64": lambda: _mlp(64),
    "cnn-8x2": lambda: _cnn(8, 2),
    "cnn-16x3": lambda: _cnn(16, 3),
    "cnn-32x3": lambda: _cnn(32, 3),
}
"""From cheap to dear."""


@dataclass(frozen=True)
class Split:
    """The images by their use; pixels (N, 1, 28, 28) in 0..1."""

    train_pixels: Tensor
    train_classes: Tensor
    held_pixels: Tensor
    held_classes: Tensor


def split(images: Images) -> Split:
    """The fixed split."""
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(images.classes))
    pixels = torch.from_numpy(images.pixels[order]).float().unsqueeze(1) / 255.0
    classes = torch.from_numpy(images.classes[order])
    return Split(pixels[:TRAINED], classes[:TRAINED], pixels[TRAINED:], classes[TRAINED:])


def trained(name: str, data: Split, say: Callable[[str], None]) -> nn.Module:
    """A version with its weights, from the cache folder or trained now.

    Args:
        name: One of `VERSIONS`.
        data: The split.
        say: Prints a line of progress.
    """
    path = _weights_path(name)
    torch.manual_seed(7)
    model = VERSIONS[name]()
    if path.is_file():
        model.load_state_dict(load_file(path))
        return model.eval()
    began_s = time.perf_counter()
    _train(model, data)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, partial)
    partial.replace(path)
    say(f"trained {name} in {time.perf_counter() - began_s:.0f} s")
    return model.eval()


def _train(model: nn.Module, data: Split) -> None:
    generator = torch.Generator().manual_seed(11)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    steps = EPOCHS * (TRAINED // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    model.train()
    for _ in range(EPOCHS):
        order = torch.randperm(TRAINED, generator=generator)
        for at in range(0, TRAINED - BATCH + 1, BATCH):
            chosen = order[at : at + BATCH]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(data.train_pixels[chosen]), data.train_classes[chosen])
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            optimizer.step()
            schedule.step()


def calibrate(data: Split, say: Callable[[str], None], names: Sequence[str] = tuple(VERSIONS)) -> Calibration:
    """What every version does with every held-out image.

    Args:
        data: The split.
        say: Prints a line of progress.
        names: Of the versions.
    """
    threads = torch.get_num_threads()
    columns: dict[str, list[F64]] = {"error": [], "confidence": [], "latency_s": []}
    for name in names:
        model = trained(name, data, say)
        torch.set_num_threads(1)
        try:
            answers, confidence, seconds = _measure(model, data.held_pixels)
        finally:
            torch.set_num_threads(threads)
        wrong = (answers != data.held_classes.numpy()).astype(np.float64)
        columns["error"].append(wrong)
        columns["confidence"].append(confidence)
        columns["latency_s"].append(seconds)
        say(f"{name}: {1.0 - wrong.mean():.2%} right, {np.median(seconds) * 1e3:.3f} ms an image")
    arrays: dict[str, Any] = {key: np.stack(values, axis=1) for key, values in columns.items()}
    source = f"Fashion-MNIST, {HELD_OUT} held-out images, {EPOCHS} epochs each, core time of one image at a time"
    return Calibration(tuple(names), cost_usd=arrays["latency_s"] * USD_PER_CORE_S, source=source, **arrays)


def batch_ms(model: nn.Module, pixels: Tensor, batch: int, repeats: int = 50) -> float:
    """Median milliseconds of one image in a batch.

    Args:
        model: Trained.
        pixels: At least a batch of them.
        batch: Size.
        repeats: Batches timed.
    """
    seconds = []
    with torch.inference_mode():
        for i in range(repeats + 5):
            at = (i * batch) % (len(pixels) - batch + 1)
            began_s = time.thread_time()
            model(pixels[at : at + batch])
            seconds.append(time.thread_time() - began_s)
    return float(np.median(seconds[5:])) * 1e3 / batch


def _measure(model: nn.Module, pixels: Tensor) -> tuple[NDArray[np.int64], F64, F64]:
    """Answers, confidences and seconds of each image by itself: of the core, so that other load does not count."""
    count = len(pixels)
    answers, confidence, seconds = np.empty(count, np.int64), np.empty(count), np.empty(count)
    with torch.inference_mode():
        for _ in range(50):
            model(pixels[:1])
        for i in range(count):
            one = pixels[i : i + 1]
            began_s = time.thread_time()
            outputs = torch.softmax(model(one), dim=1)
            seconds[i] = time.thread_time() - began_s
            best = int(outputs.argmax())
            answers[i], confidence[i] = best, min(1.0, float(outputs[0, best]))
    return answers, confidence, seconds


def _weights_path(name: str) -> Path:
    text = f"{_RECIPE} {name} {VERSIONS[name]()} {EPOCHS} {BATCH} {RATE} {TRAINED} {_SPLIT_SEED}"
    return cache_root() / "tiers" / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.safetensors"
