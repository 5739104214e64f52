"""Ends asyncio tasks for certain."""

from __future__ import annotations

import asyncio
from typing import Any

_AGAIN_S = 0.2


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
