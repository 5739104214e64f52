"""Accuracy, bytes and seconds of model versions on data versions, measured here on sheets of real images.

Every model is trained on all data versions mixed, since a server answers whatever is sent. What is kept is whether each
held-out image was answered right under each variant, and the bytes of each sheet: the first half of them says what a
variant's accuracy and size are, the second confirms what plans promise.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from controller.arrays import F64, I64, Bool
from controller.errors import RunError
from controller.kernel_cache import cache_root
from experiments.placement.data_versions import VERSIONS, Images
from experiments.placement.table import VariantTable
from serving.data_version import PER_SHEET, decode, images_of, sheets_of

CLASSES = 10
EPOCHS, BATCH, RATE = 4, 64, 2e-3
_TIMED = 200
_RECIPE = 1


def _mlp(width: int, side: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(side * side, width), nn.ReLU(), nn.Linear(width, CLASSES))


def _cnn(widths: tuple[int, ...], side: int) -> nn.Module:
    layers: list[nn.Module] = []
    before = 1
    for width in widths:
        layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
        before, side = width, side // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * side * side, CLASSES))


MODELS: dict[str, Callable[[int], nn.Module]] = {
    "mlp-32": lambda side: _mlp(32, side),
    "cnn-8": lambda side: _cnn((8, 16), side),
    "cnn-16": lambda side: _cnn((16, 32), side),
    "cnn-32": lambda side: _cnn((32, 64, 64), side),
}
"""From cheap to dear, of images so many pixels wide."""


@dataclass(frozen=True)
class _Sent:
    """Images as they arrive under every data version."""

    pixels: list[NDArray[np.uint8]]  # per version (N, S, S)
    sizes: I64  # (sheets, D) bytes of held-out sheets
    encode_s: F64  # (D,) of a sheet
    decode_s: F64  # (D,) of a sheet


def measure(images: Images, say: Callable[[str], None], epochs: int = EPOCHS) -> VariantTable:
    """Trains every model and measures it on every data version, on one core.

    Args:
        images: Real ones.
        say: Prints a line of progress.
        epochs: Over the images for training.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measure(images, say, epochs)
    finally:
        torch.set_num_threads(threads)


def _measure(images: Images, say: Callable[[str], None], epochs: int) -> VariantTable:
    sent = _send(images)
    right: list[Bool] = []
    service_s: list[F64] = []
    for name, build in MODELS.items():
        began_s = time.perf_counter()
        model = _trained(name, build, images, sent, epochs)
        model_s = _seconds(model, sent.pixels[0][images.train :])
        held_out = images.classes[images.train :, None]
        right.append(np.stack([_answers(model, p[images.train :]) for p in sent.pixels], axis=1) == held_out)
        service_s.append(sent.decode_s + model_s)
        shares = ", ".join(f"{share:.1%}" for share in right[-1].mean(axis=0))
        say(f"{name}: {model_s * 1e3:.3f} ms, {shares} right, in {time.perf_counter() - began_s:.0f} s")
    return VariantTable(
        source=f"{images.name}, {images.train} images trained on, {len(images.classes) - images.train} held out, "
        f"{epochs} epochs; {PER_SHEET} images to a request; seconds of one core",
        models=tuple(MODELS),
        data=tuple(version.name for version in VERSIONS),
        sizes=sent.sizes,
        encode_s=sent.encode_s,
        service_s=np.stack(service_s),
        right=np.stack(right, axis=1),
    )


def _send(images: Images) -> _Sent:
    """Encodes and decodes every sheet under every version; times a part of the held-out ones."""
    sheets, held_out = sheets_of(images.pixels), images.train // PER_SHEET
    side = sheets.shape[1]
    pixels, sizes, encode_s, decode_s = [], [], [], []
    for version in VERSIONS:
        encoded = [version.encode(one) for one in sheets]
        pixels.append(images_of(np.stack([decode(data, side) for data in encoded])))
        sizes.append([len(data) for data in encoded[held_out:]])
        timed = range(held_out, min(held_out + _TIMED, len(encoded)))
        encode_s.append(_median_s([partial(version.encode, sheets[i]) for i in timed]))
        decode_s.append(_median_s([partial(decode, encoded[i], side) for i in timed]))
    return _Sent(pixels, np.array(sizes, np.int64).T, np.array(encode_s), np.array(decode_s))


def _trained(name: str, build: Callable[[int], nn.Module], images: Images, sent: _Sent, epochs: int) -> nn.Module:
    """A model with its weights, from the cache folder or trained now."""
    torch.manual_seed(7)
    model = build(images.pixels.shape[1])
    told = hashlib.sha256(f"{_RECIPE} {model} {images.name} {images.train} {epochs} {VERSIONS}".encode())
    path: Path = cache_root() / "placement" / f"{name}-{told.hexdigest()[:16]}.safetensors"
    if path.is_file():
        model.load_state_dict(load_file(path))
        return model.eval()
    _train(model, images, sent, epochs)
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".partial")
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, half)
    half.replace(path)
    return model


def _train(model: nn.Module, images: Images, sent: _Sent, epochs: int) -> None:
    classes = torch.from_numpy(images.classes)
    rng = np.random.default_rng(11)
    steps = epochs * (images.train // BATCH)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    every = np.stack([p[: images.train] for p in sent.pixels])
    model.train()
    for _ in range(epochs):
        order = rng.permutation(images.train)
        for at in range(0, images.train - BATCH + 1, BATCH):
            chosen = order[at : at + BATCH]
            batch = every[rng.integers(0, len(every), BATCH), chosen]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(_tensor(batch)), classes[chosen])
            if not torch.isfinite(loss):
                raise RunError("training: expected a finite loss, got another")
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            optimizer.step()
            schedule.step()
    model.eval()


def _answers(model: nn.Module, pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    with torch.inference_mode():
        return np.concatenate([model(_tensor(part)).argmax(1).numpy() for part in np.array_split(pixels, 16)])


def _seconds(model: nn.Module, pixels: NDArray[np.uint8]) -> float:
    """Of one sheet's images."""
    sheets = pixels.reshape(-1, PER_SHEET, *pixels.shape[1:])
    with torch.inference_mode():
        return _median_s([partial(_answer, model, one) for one in sheets[:_TIMED]])


def _answer(model: nn.Module, pixels: NDArray[np.uint8]) -> Tensor:
    answer: Tensor = model(_tensor(pixels))
    return answer


def _median_s(calls: list[Callable[[], object]]) -> float:
    """Median time that a call takes of its core: other load on the machine does not count."""
    seconds = []
    for call in calls:
        began_s = time.thread_time()
        call()
        seconds.append(time.thread_time() - began_s)
    return float(np.median(seconds))


def _tensor(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels).float().unsqueeze(1) / 255.0
