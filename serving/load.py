"""Open-loop load: every request is sent at its appointed time, whatever became of those before.

A closed loop would slow down with the system and so hide what it does under overload. Lateness of the sender itself
is recorded, so that a run on a busy machine can be told from a slow system.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from controller.arrays import F64, I64

_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Schedule:
    """Requests to send; times in seconds after the start, ascending."""

    arrival_s: F64  # (n,)
    request_class: I64  # (n,)
    identity: I64  # (n,)


@dataclass(frozen=True)
class LoadRecord:
    """What the client saw; rows as in the schedule, as far as they were sent."""

    sent_s: F64  # (n,) NaN where not sent
    latency_s: F64  # (n,) NaN where not answered
    status: I64  # (n,) HTTP status; 0 for a failed connection, -1 where not sent
    variant: tuple[str, ...]
    is_right: I64  # (n,) 1 right, 0 wrong, -1 unknown

    @property
    def num_sent(self) -> int:
        """Requests sent."""
        return int((self.status != -1).sum())

    def lateness_s(self, schedule: Schedule) -> float:
        """99th percentile of how late requests were sent, seconds; 0 where none was."""
        sent = self.status != -1
        return float(np.quantile((self.sent_s - schedule.arrival_s)[sent], 0.99)) if sent.any() else 0.0


async def send_all(
    url: str,
    schedule: Schedule,
    class_names: Sequence[str],
    inputs: Sequence[Any],
    truths: Sequence[Any] | None,
    began_at: float,
    until: asyncio.Event,
    progress: Callable[[int], None] | None = None,
) -> LoadRecord:
    """Sends a schedule and waits for the answers.

    Args:
        url: Base address of the application.
        schedule: What to send.
        class_names: Names by row of the schedule's classes.
        inputs: Request i carries `inputs[identity % len(inputs)]`.
        truths: Right outputs of the inputs; None where unknown.
        began_at: `time.monotonic()` of second 0.
        until: Set to stop sending; requests on their way are still waited for.
        progress: Called with the number sent so far.
    """
    num = len(schedule.arrival_s)
    sent_s, latency_s = np.full(num, np.nan), np.full(num, np.nan)
    status, is_right = np.full(num, -1, np.int64), np.full(num, -1, np.int64)
    variant = [""] * num

    async def send(i: int, client: httpx.AsyncClient) -> None:
        identity = int(schedule.identity[i])
        at = identity % len(inputs)
        body = {"input": inputs[at], "request_class": class_names[schedule.request_class[i]], "id": identity}
        sent_s[i] = time.monotonic() - began_at
        status[i] = 0
        try:
            response = await client.post("/v1/infer", json=body)
        except httpx.HTTPError:
            return
        status[i] = response.status_code
        if response.status_code == 200:
            latency_s[i] = time.monotonic() - began_at - sent_s[i]
            answer = response.json()
            variant[i] = answer["variant"]
            if truths is not None:
                is_right[i] = int(answer["output"] == truths[at])

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    async with httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S, limits=limits) as client:
        tasks: set[asyncio.Task[None]] = set()
        for i in range(num):
            delay_s = float(schedule.arrival_s[i]) - (time.monotonic() - began_at)
            if delay_s > 0 and await _stopped_within(until, delay_s):
                break
            if until.is_set():
                break
            task = asyncio.create_task(send(i, client))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            if progress is not None:
                progress(i + 1)
        if tasks:
            await asyncio.wait(set(tasks))
    return LoadRecord(sent_s, latency_s, status, tuple(variant), is_right)


async def _stopped_within(until: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set before the time has passed."""
    try:
        await asyncio.wait_for(until.wait(), seconds)
    except TimeoutError:
        return False
    return True
