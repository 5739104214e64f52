"""Measures a user's model on this machine: service times by batch size, loading, memory, and accuracy where it can be.

Two ideas are needed to read it. Batch sizes take turns, in an order drawn anew for each round, so that a machine that
grows slower spoils all of them alike. And the model runs as a replica runs it: the same loading, one torch thread,
inputs as JSON gives them.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from controller.config import load_object
from controller.errors import ConfigError, InputError, UsageError, mismatch
from experiments.fitting import Estimate, mean_of
from serving.bring_your_own import as_model
from serving.model_object import Model, run_model

LARGEST_BATCH = 64
"""Of a catalog."""

_SHOWN_CHARS = 300


class Inputs(NamedTuple):
    """What the model is fed with."""

    values: list[Any]
    labels: list[Any] | None
    source: str


class Loads(NamedTuple):
    """What loading took in fresh processes."""

    seconds: Estimate
    weights_bytes: float | None


@dataclass(frozen=True)
class Measured:
    """What a model was measured to do."""

    services_s: dict[int, tuple[float, ...]]  # by batch size
    loads: Loads
    accuracy: Estimate | None
    input_bytes: Estimate
    output_bytes: Estimate
    inputs: Inputs


class ModelError(InputError):
    """The user's model or inputs cannot be imported, or raise."""


def measure(
    reference: str,
    batches: Sequence[int],
    inputs: Inputs,
    *,
    repeats: int,
    warmup: int,
    load_repeats: int,
    say: Callable[[str], None],
) -> Measured:
    """Everything that a catalog entry holds.

    Args:
        reference: `module:callable`.
        batches: Different sizes.
        inputs: What it is fed with.
        repeats: Timed batches of each size, >= 2.
        warmup: Batches of each size before them.
        load_repeats: Fresh processes that load the model, >= 2.
        say: Prints one line of progress.

    Raises:
        InputError: The model cannot be loaded, or raises on a batch; says which.
    """
    from serving.replica import one_thread

    one_thread()
    model = load_model(reference)
    say(f"timing {reference} on {len(inputs.values)} inputs from {inputs.source}")
    services_s = time_batches(model, inputs.values, batches, repeats, warmup)
    accuracy, output_bytes = judge(model, inputs, max(batches))
    say(f"loading it in {load_repeats} fresh processes")
    loads = load_in_fresh_processes(reference, load_repeats)
    input_bytes = _mean([_json_bytes(value) for value in inputs.values])
    return Measured(services_s, loads, accuracy, input_bytes, output_bytes, inputs)


def look_here() -> None:
    """Lets modules of the current folder be imported, which the installed command does not look into.

    Behind all others: a file here must not hide a package.
    """
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))


def parse_batches(text: str) -> list[int]:
    """`1,2,4` as ascending sizes.

    Raises:
        UsageError: Another form, a size out of range, or one named twice.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and part.isascii() and 1 <= int(part) <= LARGEST_BATCH for part in parts):
        raise UsageError(mismatch("--batches", f"sizes in 1..{LARGEST_BATCH} with commas, such as 1,2,4,8", text))
    sizes = [int(part) for part in parts]
    if len(set(sizes)) != len(sizes):
        raise UsageError(mismatch("--batches", "each size once", text))
    return sorted(sizes)


def load_model(reference: str) -> Model:
    """The model that a reference names or makes, with whatever it raised as one line.

    Raises:
        ConfigError: No such module or name, or nothing callable.
        ModelError: The module or the factory raised.
    """
    try:
        return as_model(_imported(reference, "model"), "model")
    except InputError:
        raise
    except Exception as error:
        raise ModelError(f"model: expected {reference} to make a model, got {_shown(error)}") from error


def _imported(reference: str, path: str) -> Any:
    try:
        return load_object(reference, path)
    except InputError:
        raise
    except Exception as error:
        raise ModelError(f"{path}: expected an importable module, got {_shown(error)} from {reference}") from error


def read_inputs(source: str | None) -> Inputs:
    """Inputs of the model, as a replica gets them from JSON.

    Args:
        source: A file `*.npz` with an array `inputs` (n, ...) and, if they are known, `labels` (n,); a file `*.json`
            with a list of inputs; or `module:callable`, called without arguments for a list, in which arrays become
            lists; None: the digits that `provisor serve` sends.

    Raises:
        InputError: Nothing there, or of another form.
    """
    if source is None:
        from serving import zoo

        return Inputs([row.tolist() for row in zoo.images()[2]], None, "scikit-learn's digits (as `provisor serve`)")
    if source.endswith(".npz"):
        return _from_npz(Path(source))
    if source.endswith(".json"):
        return _from_json(Path(source))
    made = _imported(source, "--input")
    if not callable(made):
        raise ConfigError(mismatch("--input", "a callable that returns a list of inputs", made))
    try:
        values = list(made())
    except Exception as error:
        raise ModelError(f"--input: expected a list of inputs from {source}, got {_shown(error)}") from error
    if not values:
        raise UsageError(mismatch("--input", "at least one input", values))
    try:
        plain = json.loads(json.dumps(values, default=_listed))
    except (TypeError, ValueError) as error:
        raise UsageError(f"--input: expected values that JSON can hold from {source}, got {error}") from error
    return Inputs(plain, None, source)


def _from_json(path: Path) -> Inputs:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        detail = getattr(error, "strerror", None) or error
        raise UsageError(f"--input: expected a readable JSON file, got '{path}': {detail}") from error
    if not isinstance(values, list) or not values:
        raise UsageError(mismatch(f"--input: {path.name}", "a list of at least one input", values))
    return Inputs(values, None, path.name)


def _from_npz(path: Path) -> Inputs:
    try:
        # numpy by itself opens files of other kinds too.
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        detail = getattr(error, "strerror", None) or error
        raise UsageError(f"--input: expected a readable NPZ file without pickles, got '{path}': {detail}") from error
    if "inputs" not in arrays:
        raise UsageError(mismatch(f"--input: {path.name}", "an array 'inputs'", sorted(arrays)))
    values, labels = arrays["inputs"], arrays.get("labels")
    if values.ndim == 0 or len(values) == 0:
        raise UsageError(mismatch(f"--input: {path.name}: inputs", "shape (n, ...) with n >= 1", values.shape))
    if labels is not None and labels.shape != (len(values),):
        raise UsageError(mismatch(f"--input: {path.name}: labels", f"shape ({len(values)},)", labels.shape))
    return Inputs(values.tolist(), None if labels is None else labels.tolist(), path.name)


def time_batches(
    model: Model,
    values: Sequence[Any],
    batches: Sequence[int],
    repeats: int,
    warmup: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[int, tuple[float, ...]]:
    """Seconds of each timed batch, by size.

    Args:
        model: What is timed.
        values: Inputs, taken in turn.
        batches: Sizes.
        repeats: Timed batches of each size.
        warmup: Batches of each size that are not timed.
        clock: Monotonic, seconds.

    Raises:
        ModelError: The model raised, or gave another number of outputs.
    """
    order = random.Random(0)
    taken = 0
    seconds: dict[int, list[float]] = {size: [] for size in batches}
    for turn in range(-warmup, repeats):
        for size in order.sample(list(batches), len(batches)):
            batch = [values[(taken + i) % len(values)] for i in range(size)]
            taken += size
            began_s = clock()
            _run(model, batch)
            if turn >= 0:
                seconds[size].append(clock() - began_s)
    return {size: tuple(times) for size, times in seconds.items()}


def judge(model: Model, inputs: Inputs, batch: int) -> tuple[Estimate | None, Estimate]:
    """Share of right answers, where labels are known, and the size of an answer as JSON.

    Raises:
        ModelError: The model raised.
        UsageError: No answer equals its label.
    """
    outputs: list[Any] = []
    # Without labels a single batch tells the size of an answer.
    for first in range(0, batch if inputs.labels is None else len(inputs.values), batch):
        outputs += _run(model, inputs.values[first : first + batch])
    size = _mean([_json_bytes(output) for output in outputs])
    if inputs.labels is None:
        return None, size
    right = [bool(np.array_equal(output, label)) for output, label in zip(outputs, inputs.labels, strict=True)]
    if not any(right):
        raise UsageError(
            f"--input: expected labels that the model's outputs can equal, got {inputs.labels[0]!r:.40} "
            f"where the model says {outputs[0]!r:.40}, and none equal of {len(right)}"
        )
    share = sum(right) / len(right)
    return Estimate(share, float(np.sqrt(share * (1 - share) / len(right))), len(right)), size


def load_in_fresh_processes(reference: str, repeats: int) -> Loads:
    """What importing and making the model takes in processes that have done neither.

    Raises:
        ModelError: A process failed; its last line is shown.
    """
    seconds, grown = [], []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
    with tempfile.TemporaryDirectory(prefix="provisor-") as folder:
        out = Path(folder) / "load.json"
        for _ in range(repeats):
            # -P: else the current folder would come first, and a file there hide a package.
            words = [sys.executable, "-P", "-m", "serving.load_probe", reference, str(out)]
            done = subprocess.run(words, check=False, env=environment, capture_output=True, text=True, errors="replace")
            if done.returncode:
                last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
                raise ModelError(f"model: expected {reference} to load in a fresh process, got {last[:_SHOWN_CHARS]}")
            found = json.loads(out.read_text(encoding="utf-8"))
            seconds.append(float(found["load_s"]))
            grown.append(found["weights_bytes"])
    known = [float(size) for size in grown if size is not None]
    return Loads(mean_of(seconds), float(np.mean(known)) if known else None)


def _run(model: Model, batch: list[Any]) -> list[Any]:
    try:
        return run_model(model, batch)
    except Exception as error:
        raise ModelError(f"model: expected outputs for a batch of {len(batch)}, got {_shown(error)}") from error


def _json_bytes(value: Any) -> float:
    """Size as JSON; what JSON cannot hold counts as its text."""
    try:
        return float(len(json.dumps(value, default=_listed)))
    except (TypeError, ValueError):
        return float(len(str(value)))


def _listed(value: Any) -> Any:
    """An array or number of numpy or torch as plain values."""
    if not hasattr(value, "tolist"):
        raise TypeError(f"a {type(value).__name__}")
    return value.tolist()


def _mean(values: Sequence[float]) -> Estimate:
    return mean_of(values) if len(values) > 1 else Estimate(values[0], 0.0, 1)


def _shown(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:_SHOWN_CHARS]
