"""Six image classifiers of rising size, trained here with one budget, and what each does.

A fixed shuffle splits the images into those for training and those that no version ever saw: 50,000 and 20,000 of
Fashion-MNIST, and where that cannot be had, 797 and 1,000 of scikit-learn's digits. Of the latter, each version's
answer, confidence (largest softmax output), time (one image at a time: of a core, or of a GPU with its copies) and cost
are measured, and the time of an image in batches.
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
from controller.errors import RunError
from controller.kernel_cache import cache_root
from controller.tiers.calibration import Calibration
from experiments.tiers import fashion
from experiments.tiers.fashion import CLASSES, Images
from experiments.tiers.prices import USD_PER_CORE_S

BATCHES = (1, 2, 8, 32)
"""Sizes at which an image's time in a batch is measured: what the shipped catalogs' replicas take, and a large one."""

_RECIPE = 1
_SPLIT_SEED = 12
_REPEATS = 50


@dataclass(frozen=True)
class Task:
    """Images and the training budget, which is one for all versions.

    Attributes:
        name: Of the images.
        images: All of them.
        most: Value of the brightest pixel.
        trained: Images for training.
        epochs: Over these.
        batch: Images of a step of training.
        rate: Largest learning rate.
    """

    name: str
    images: Images
    most: float
    trained: int
    epochs: int
    batch: int
    rate: float = 2e-3

    @property
    def side(self) -> int:
        """Pixels of an edge."""
        return int(self.images.pixels.shape[1])


def found_task(say: Callable[[str], None]) -> Task:
    """Fashion-MNIST, or digits where that cannot be had.

    Args:
        say: Prints a line that says so.
    """
    try:
        return Task("Fashion-MNIST", fashion.fetch(), 255.0, 50_000, 8, 128)
    except RunError as error:
        say(f"{error}; scikit-learn's digits instead")
        return digits_task()


def digits_task() -> Task:
    """The 1,797 digits of scikit-learn, 8 x 8 pixels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = Images(found.images.astype(np.uint8), found.target.astype(np.int64))
    return Task("scikit-learn digits", images, 16.0, 797, 60, 32)


def _linear(side: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(side * side, CLASSES))


def _mlp(width: int, side: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(side * side, width), nn.ReLU(), nn.Linear(width, CLASSES))


def _cnn(width: int, blocks: int, side: int) -> nn.Module:
    layers: list[nn.Module] = []
    channels = 1
    for block in range(blocks):
        out = width * 2**block
        layers += [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(), nn.MaxPool2d(2)]
        channels, side = out, side // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(channels * side * side, CLASSES))


VERSIONS: dict[str, Callable[[int], nn.Module]] = {
    "linear": _linear,
    "mlp-64": lambda side: _mlp(64, side),
    "mlp-512": lambda side: _mlp(512, side),
    "cnn-8x2": lambda side: _cnn(8, 2, side),
    "cnn-16x3": lambda side: _cnn(16, 3, side),
    "cnn-32x3": lambda side: _cnn(32, 3, side),
}
"""From cheap to dear, of images so many pixels wide."""


@dataclass(frozen=True)
class Split:
    """The images by their use; pixels (N, 1, S, S) in 0..1."""

    train_pixels: Tensor
    train_classes: Tensor
    held_pixels: Tensor
    held_classes: Tensor


def split(task: Task) -> Split:
    """The fixed split."""
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(task.images.classes))
    pixels = torch.from_numpy(task.images.pixels[order]).float().unsqueeze(1) / task.most
    classes = torch.from_numpy(task.images.classes[order])
    at = task.trained
    return Split(pixels[:at], classes[:at], pixels[at:], classes[at:])


def trained(name: str, task: Task, data: Split, say: Callable[[str], None], device: str = "cpu") -> nn.Module:
    """A version with its weights, from the cache folder or trained now.

    Args:
        name: One of `VERSIONS`.
        task: Its training budget.
        data: The split.
        say: Prints a line of progress.
        device: That it is trained on and returned on.
    """
    torch.manual_seed(7)
    model = VERSIONS[name](task.side)
    path = _weights_path(name, task, model)
    if path.is_file():
        model.load_state_dict(load_file(path))
        return model.to(device).eval()
    began_s = time.perf_counter()
    model.to(device)
    _train(model, task, data, device)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file({key: value.cpu().contiguous() for key, value in model.state_dict().items()}, partial)
    partial.replace(path)
    say(f"trained {name} in {time.perf_counter() - began_s:.0f} s")
    return model.eval()


def _train(model: nn.Module, task: Task, data: Split, device: str) -> None:
    generator = torch.Generator().manual_seed(11)
    optimizer = torch.optim.Adam(model.parameters(), lr=task.rate)
    steps = task.epochs * (task.trained // task.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, task.rate, total_steps=steps)
    pixels, classes = data.train_pixels.to(device), data.train_classes.to(device)
    model.train()
    for _ in range(task.epochs):
        order = torch.randperm(task.trained, generator=generator).to(device)
        for at in range(0, task.trained - task.batch + 1, task.batch):
            chosen = order[at : at + task.batch]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(pixels[chosen]), classes[chosen])
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            optimizer.step()
            schedule.step()


def calibrate(
    task: Task,
    say: Callable[[str], None],
    names: Sequence[str] = tuple(VERSIONS),
    *,
    device: str = "cpu",
    usd_per_s: float = USD_PER_CORE_S,
) -> Calibration:
    """What every version does with every held-out image.

    Args:
        task: The images.
        say: Prints a line of progress.
        names: Of the versions.
        device: "cpu", of which one core is used and its own time counts, or "cuda".
        usd_per_s: Price of a second of it.
    """
    data = split(task)
    threads = torch.get_num_threads()
    columns: dict[str, list[F64]] = {"error": [], "confidence": [], "latency_s": [], "batch_s": []}
    for name in names:
        model = trained(name, task, data, say, device)
        torch.set_num_threads(1)
        try:
            answers, confidence, seconds = _measure(model, data.held_pixels, device)
            in_batches = [batch_s(model, data.held_pixels, batch, device) for batch in BATCHES]
        finally:
            torch.set_num_threads(threads)
        # More digits than these mean nothing, and a stored table would be thrice as large.
        confidence, seconds = np.round(confidence, 4), np.maximum(np.round(seconds, 6), 1e-6)
        wrong = (answers != data.held_classes.numpy()).astype(np.float64)
        for key, values in zip(columns, (wrong, confidence, seconds, np.array(in_batches)), strict=True):
            columns[key].append(values)
        say(f"{name}: {1.0 - wrong.mean():.2%} right, {np.median(seconds) * 1e3:.3f} ms an image")
    arrays: dict[str, Any] = {key: np.stack(values, axis=1) for key, values in columns.items()}
    where = "core time" if device == "cpu" else f"time on {torch.cuda.get_device_name(device)}"
    source = f"{task.name}, {len(data.held_classes)} held-out images, {task.epochs} epochs each, {where} of an image"
    return Calibration(
        tuple(names), cost_usd=arrays["latency_s"] * usd_per_s, source=source, batch_sizes=BATCHES, **arrays
    )


def batch_s(model: nn.Module, pixels: Tensor, batch: int, device: str = "cpu") -> float:
    """Median seconds of one image in a batch.

    Args:
        model: Trained, on the device.
        pixels: At least a batch of them.
        batch: Size.
        device: As for `calibrate`.
    """
    now_s = _clock(device)
    seconds = []
    with torch.inference_mode():
        for i in range(_REPEATS + 5):
            at = (i * batch) % (len(pixels) - batch + 1)
            began_s = now_s()
            model(pixels[at : at + batch].to(device)).cpu()
            seconds.append(now_s() - began_s)
    return float(np.median(seconds[5:])) / batch


def _measure(model: nn.Module, pixels: Tensor, device: str) -> tuple[NDArray[np.int64], F64, F64]:
    """Answers, confidences and seconds of each image by itself."""
    count = len(pixels)
    answers, confidence, seconds = np.empty(count, np.int64), np.empty(count), np.empty(count)
    now_s = _clock(device)
    with torch.inference_mode():
        for _ in range(_REPEATS):
            model(pixels[:1].to(device))
        for i in range(count):
            one = pixels[i : i + 1]
            began_s = now_s()
            outputs = torch.softmax(model(one.to(device)), dim=1).cpu()
            seconds[i] = now_s() - began_s
            best = int(outputs.argmax())
            answers[i], confidence[i] = best, min(1.0, float(outputs[0, best]))
    return answers, confidence, seconds


def _clock(device: str) -> Callable[[], float]:
    """Of the core, so that other load does not count; with a GPU, of the wall, since the answer is waited for."""
    return time.thread_time if device == "cpu" else time.perf_counter


def _weights_path(name: str, task: Task, model: nn.Module) -> Path:
    text = f"{_RECIPE} {name} {model} {task.epochs} {task.batch} {task.rate} {task.trained} {_SPLIT_SEED}"
    return cache_root() / "tiers" / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.safetensors"
