"""Trains the networks, each with the same images and epochs, and keeps their weights."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from controller.config import commit_of_code, versions
from controller.errors import ConfigError, mismatch
from controller.kernel_cache import cache_root
from experiments.collage.data import Split, Task, arrangement, collage
from experiments.collage.model import CollageNet, Design, macs

BATCHES = (1, 8, 32)
"""Passes at a time whose time is measured."""

_RECIPE = 1
_RATE = 5e-3
_PARTLY_BLANK = 0.2
# Share of the collages of training that are not full: a group that does not fill up is sent as it is.
_REPEATS = 30


@dataclass(frozen=True)
class Measured:
    """What a network does with images that it was not trained on.

    Attributes:
        accuracy: Of full collages.
        partly_blank: Of collages that are half empty; of a single image, the same as `accuracy`.
        confidence: Mean.
        sure: Share of answers with a confidence of 0.9 and more.
        sure_accuracy: Of these; None where there are none.
    """

    accuracy: float
    partly_blank: float
    confidence: float
    sure: float
    sure_accuracy: float | None


def trained(task: Task, data: Split, design: Design, seed: int, *, is_anew: bool = False) -> CollageNet:
    """A network with its weights, from the cache folder or trained now.

    Args:
        task: Its training budget.
        data: The seed's split.
        design: Its form.
        seed: Of the split, the first weights and the order of training.
        is_anew: Train even where weights are kept.
    """
    torch.manual_seed(seed)
    net = CollageNet(design)
    path = _kept_at(task, net, seed)
    if path.is_file() and not is_anew:
        net.load_state_dict(load_file(path))
        return net.eval()
    _train(net, task, data, torch.Generator().manual_seed(seed))
    _save(net, path)
    return net.eval()


def _train(net: CollageNet, task: Task, data: Split, generator: torch.Generator) -> None:
    k = net.design.cells
    per_step = max(1, task.batch // k)
    steps = task.epochs * -(-(len(data.train_classes) // k) // per_step)
    optimizer = torch.optim.Adam(net.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    net.train()
    for _ in range(task.epochs):
        for chosen in torch.split(arrangement(len(data.train_classes), k, generator), per_step):
            is_there = _filled(len(chosen), k, generator)
            cells = data.train_pixels[chosen].squeeze(2) * is_there[..., None, None]
            scores = net(collage(cells))[is_there]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(scores, data.train_classes[chosen][is_there])
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            optimizer.step()
            schedule.step()


def _filled(count: int, k: int, generator: torch.Generator) -> Tensor:
    """Which cells hold an image, at least one of each collage; shape (count, k)."""
    blank = torch.rand(count, 1, generator=generator) * (torch.rand(count, 1, generator=generator) < _PARTLY_BLANK)
    is_there = torch.rand(count, k, generator=generator) >= blank
    is_there[:, 0] |= ~is_there.any(dim=1)
    return is_there


def measure(net: CollageNet, task: Task, data: Split, seed: int) -> Measured:
    """Classifies the held-out images in collages of their own.

    Args:
        net: Trained.
        task: Says how often they are arranged anew.
        data: The seed's split.
        seed: Of the arrangements.
    """
    generator, k = torch.Generator().manual_seed(seed + 1000), net.design.cells
    right: list[Tensor] = []
    sure_of: list[Tensor] = []
    partly: list[Tensor] = []
    for _ in range(task.rounds):
        for chosen in torch.split(arrangement(len(data.held_classes), k, generator), 256):
            cells, classes = data.held_pixels[chosen].squeeze(2), data.held_classes[chosen]
            answers, confidence = net.classify(collage(cells))
            right.append((answers == classes).flatten())
            sure_of.append(confidence.flatten())
            is_there = torch.rand(chosen.shape, generator=generator) < (1.0 if k == 1 else 0.5)
            answers, _ = net.classify(collage(cells * is_there[..., None, None]))
            partly.append((answers == classes)[is_there])
    is_right, confidences = torch.cat(right).double(), torch.cat(sure_of).double()
    is_sure = confidences >= 0.9
    return Measured(
        accuracy=float(is_right.mean()),
        partly_blank=float(torch.cat(partly).double().mean()),
        confidence=float(confidences.mean()),
        sure=float(is_sure.double().mean()),
        sure_accuracy=float(is_right[is_sure].mean()) if is_sure.any() else None,
    )


def pass_s(net: CollageNet, passes: int) -> float:
    """Median core seconds of one pass among so many at a time.

    Args:
        net: Of any weights.
        passes: In the batch.
    """
    edge = net.design.w * net.design.side
    batch = torch.rand(passes, 1, edge, edge, generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = []
        for _ in range(_REPEATS + 5):
            # Of the core, so that other load does not count.
            began_s = time.thread_time()
            net.classify(batch)
            seconds.append(time.thread_time() - began_s)
    finally:
        torch.set_num_threads(threads)
    return float(np.median(seconds[5:])) / passes


def export(net: CollageNet, path: Path, details: dict[str, Any]) -> None:
    """Writes `path`, the manifest, and beside it the weights as `.safetensors`.

    Args:
        net: Trained.
        path: Ends in `.json`.
        details: Of its training, kept in the manifest.
    """
    weights = path.with_suffix(".safetensors")
    _save(net, weights)
    manifest = {
        "kind": "collage",
        "format_version": _RECIPE,
        "design": net.design.values(),
        "macs": macs(net.design),
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        **details,
        **commit_of_code(),
        "versions": versions(),
    }
    path.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> CollageNet:
    """A network that was exported.

    Args:
        path: Its manifest.

    Raises:
        ConfigError: The manifest or the weights are not what was written.
    """
    weights = path.with_suffix(".safetensors")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        values = dict(manifest["design"])
        expected = manifest["weights_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: expected a collage's manifest and weights, got: {error!r}") from error
    if digest != expected:
        raise ConfigError(mismatch(f"{weights}: SHA-256", expected, digest))
    net = CollageNet(Design(**{**values, "widths": tuple(values["widths"])}))
    net.load_state_dict(load_file(weights))
    return net.eval()


def _save(net: CollageNet, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file({key: value.contiguous() for key, value in net.state_dict().items()}, partial)
    partial.replace(path)


def _kept_at(task: Task, net: CollageNet, seed: int) -> Path:
    text = f"{_RECIPE} {net.design} {net} {task.epochs} {task.batch} {task.trained} {_RATE} {_PARTLY_BLANK} {seed}"
    name = f"{task.name}-w{net.design.w}-{seed}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return cache_root() / "collage" / f"{name}.safetensors"
