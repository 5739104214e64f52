"""Which model an object is, or makes. Imports nothing of the project: a function of AWS Lambda carries this file."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Model = Callable[[list[Any]], list[Any]]


class ModelAnswer(NamedTuple):
    """What a model answers to one input."""

    output: Any
    confidence: float | None = None  # 0..1; None where the model tells none


class Cells(NamedTuple):
    """Input of a model with several cells, for one pass: as many inputs as it has cells, or fewer."""

    inputs: list[Any]


def made(found: Any) -> Model:
    """The model: the object itself, or what it makes where it is a class or a function without parameters.

    Raises:
        TypeError: That is no plain callable.
    """
    makes = inspect.isclass(found) or (inspect.isfunction(found) and not inspect.signature(found).parameters)
    model: Model = found() if makes else found
    if not callable(model) or asyncio.iscoroutinefunction(model):
        origin = " from the factory" if makes else ""
        raise TypeError(f"expected a plain callable{origin}, got {model!r:.80}")
    return model


def named(reference: str) -> Model:
    """The model that `module:callable` names.

    Raises:
        ImportError, AttributeError: It names nothing.
        TypeError: It names no model.
    """
    module, _, path = reference.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return made(found)


def run_model(model: Model, batch: list[Any]) -> list[Any]:
    """Outputs of one batch.

    Raises:
        ValueError: The model returned another number of outputs than it got inputs.
    """
    outputs = list(model(batch))
    if len(outputs) != len(batch):
        raise ValueError(f"model: expected {len(batch)} outputs, got {len(outputs)}")
    return outputs


def answers_of(model: Model, batch: list[Any]) -> list[ModelAnswer]:
    """Answers to one batch, with their confidences where the model tells them.

    It does where it has a method `with_confidence`, which takes a batch and returns its outputs and as many numbers
    within 0..1.

    A model with several cells gets a batch of lists of inputs, one for each pass, and returns a list of outputs, and of
    confidences, for each; the output of a pass is then the answers of its cells.

    Raises:
        ValueError: The model returned another number of outputs or confidences than it got inputs, or one out of range.
    """
    if batch and isinstance(batch[0], Cells):
        return _answers_of_passes(model, [cells.inputs for cells in batch])
    tells = getattr(model, "with_confidence", None)
    if tells is None:
        return paired(run_model(model, batch), None, len(batch))
    outputs, confidences = tells(batch)
    return paired(list(outputs), list(confidences), len(batch))


def _answers_of_passes(model: Model, passes: list[list[Any]]) -> list[ModelAnswer]:
    tells = getattr(model, "with_confidence", None)
    outputs, confidences = tells(passes) if tells is not None else (run_model(model, passes), [None] * len(passes))
    if len(outputs) != len(passes) or len(confidences) != len(passes):
        raise ValueError(f"model: expected outputs of {len(passes)} passes, got {len(outputs)}")
    rows = zip(outputs, confidences, passes, strict=True)
    return [ModelAnswer(paired(list(row), told, len(inputs))) for row, told, inputs in rows]


def paired(outputs: Sequence[Any], confidences: Sequence[float] | None, count: int) -> list[ModelAnswer]:
    """Outputs with their confidences, `count` of each; None for a model that tells none.

    Raises:
        ValueError: Another number of them, or a confidence out of range.
    """
    if len(outputs) != count:
        raise ValueError(f"model: expected {count} outputs, got {len(outputs)}")
    if confidences is None:
        return [ModelAnswer(output) for output in outputs]
    if len(confidences) != count:
        raise ValueError(f"model: expected {count} confidences, got {len(confidences)}")
    told = [float(confidence) for confidence in confidences]
    for confidence in told:
        if not 0.0 <= confidence <= 1.0:
            raise ValueError(f"model: expected confidences within 0..1, got {confidence}")
    return [ModelAnswer(output, confidence) for output, confidence in zip(outputs, told, strict=True)]


def plain(value: Any) -> Any:
    """An array or number of numpy or torch as plain values; anything else as it is."""
    return value.tolist() if hasattr(value, "tolist") else value
