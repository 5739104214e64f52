"""Ends asyncio tasks, and reaches actors, for certain."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayActorError

_AGAIN_S = 0.2
_MOST_CHARS = 400


async def end_task(task: asyncio.Task[Any], again_s: float = _AGAIN_S) -> None:
    """Cancels a task until it is done, whatever it ends with.

    One cancellation can be lost: `asyncio.wait_for` (before Python 3.12) returns its result and forgets it where the
    call ends at the same moment, and whoever waits for the task would wait forever.

    Args:
        task: To end.
        again_s: Seconds after which it is cancelled once more.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=again_s)


def first_error(*tasks: asyncio.Task[Any] | None) -> str:
    """What the first of them that failed ended with, shortened; empty where none did."""
    for task in tasks:
        if task is not None and task.done() and not task.cancelled() and task.exception() is not None:
            return repr(task.exception())[:_MOST_CHARS]
    return ""


def call_until_reached(call: Callable[[], object], again_s: float = _AGAIN_S) -> None:
    """Calls an actor until the call arrives, whatever it returns.

    A call that meets an actor just as Ray starts it anew fails as "unavailable", and Ray does not say whether it was
    carried out: the actor must take a second one for nothing.

    Args:
        call: Waits for the answer of the actor; what the actor itself raises ends the attempts.
        again_s: Seconds between two attempts.
    """
    while True:
        try:
            call()
            return
        except RayActorError:
            time.sleep(again_s)


def call_oneself(method: str) -> None:
    """From an actor's `__init__`: calls one of its methods, once it can be called, and until that arrives.

    Args:
        method: Name of one that takes a second call for nothing.
    """
    handle: Any = ray.get_runtime_context().current_actor

    def call() -> None:
        call_until_reached(lambda: ray.get(getattr(handle, method).remote()))

    threading.Thread(target=call, daemon=True).start()
