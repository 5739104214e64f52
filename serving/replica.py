"""The Serve deployments that run models: one per (variant, pool) in use, and one for all serverless environments.

Both compute a real forward pass and then wait until the service time drawn by the router has passed, because one
machine cannot show several kinds of hardware: queueing and service times are then those of the emulated pool.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from typing import Any

from controller.errors import ProvisorError, shown
from serving.bring_your_own import ModelSpec
from serving.model_object import Model, ModelAnswer, answers_of


class ModelFaultError(ProvisorError):
    """The model raised or broke its contract: running the same batch again would fail again."""


class Replica:
    """One replica: a model and `concurrency` credits."""

    def __init__(self, spec: ModelSpec, concurrency: int) -> None:
        self._model = loaded(spec)
        self._credits = asyncio.Semaphore(concurrency)

    async def infer(self, batch: list[Any], service_s: float) -> list[ModelAnswer]:
        """Answers to one batch, after `service_s` seconds of service."""
        async with self._credits:
            return await run_for(self._model, batch, service_s)


class ServerlessHost:
    """Runs the calls of every emulated serverless environment; which of them are warm is the router's knowledge."""

    def __init__(self, specs: Mapping[str, ModelSpec]) -> None:
        self._models = {name: loaded(spec) for name, spec in specs.items()}

    async def infer(self, variant: str, batch: list[Any], service_s: float, cold_s: float) -> list[ModelAnswer]:
        """Answers of one call, after its cold start and its service."""
        if cold_s > 0:
            await asyncio.sleep(cold_s)
        return await run_for(self._models[variant], batch, service_s)


async def run_for(model: Model, batch: list[Any], service_s: float) -> list[ModelAnswer]:
    """Runs a model and returns its answers when `service_s` seconds have passed, or at once where it took longer.

    Raises:
        ModelFaultError: The model raised.
    """
    began = time.perf_counter()
    try:
        answers = answers_of(model, batch)
    except Exception as error:
        raise ModelFaultError(shown(error)) from error
    left_s = service_s - (time.perf_counter() - began)
    if left_s > 0:
        await asyncio.sleep(left_s)
    return answers


def loaded(spec: ModelSpec) -> Model:
    """The model; where it needs torch, on one thread."""
    model = spec.load()
    if "torch" in sys.modules:
        one_thread()
    return model


def one_thread() -> None:
    """Keeps torch to one thread: replicas share cores, and a pool of threads each would fight over them."""
    import torch

    torch.set_num_threads(1)
