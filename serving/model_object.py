"""Which model an object is, or makes. Imports nothing of the project: a function of AWS Lambda carries this file."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Callable
from typing import Any

Model = Callable[[list[Any]], list[Any]]


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
