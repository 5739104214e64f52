"""Open-loop load on a live run for as long as an experiment takes, each request with its own fate.

Requests are sent at random times at a steady rate, whatever became of those before, in a thread of their own: what the
experiment does to the system must not slow down the sender.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from serving.client import ProvisorClient, RequestExpiredError, RequestImpossibleError

_TIMEOUT_S = 60.0
EXPIRED = 504
_SHED = 503


@dataclass(frozen=True)
class Sent:
    """One request."""

    at_s: float  # on the monotonic clock
    request_class: int
    slo_s: float
    status: int  # HTTP; 0 for a connection that failed
    took_s: float

    @property
    def is_answered(self) -> bool:
        """Whether an answer came, late ones included."""
        return self.status == 200

    @property
    def is_lost(self) -> bool:
        """Whether it failed although it had time left; a refusal that says when to come back is none."""
        return self.status not in (200, EXPIRED, _SHED) and self.took_s < self.slo_s

    @property
    def is_missed(self) -> bool:
        """Whether there was no answer in time."""
        return not self.is_answered or self.took_s > self.slo_s


class OpenLoad:
    """Sends until it is stopped.

    Args:
        url: Of the run.
        rate_rps: Mean.
        classes: Name, SLO in seconds and share of each request class.
        inputs: Taken in turn.
        seed: Keys times and classes.
        does_retry: By the shipped client, which repeats within the SLO; else each request is sent once.
    """

    def __init__(
        self,
        url: str,
        rate_rps: float,
        classes: Sequence[tuple[str, float, float]],
        inputs: Sequence[Any],
        seed: int,
        *,
        does_retry: bool = False,
    ) -> None:
        self._url, self._rate_rps, self._classes, self._inputs = url, rate_rps, classes, inputs
        self._seed, self._does_retry = seed, does_retry
        self.sent: list[Sent] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> OpenLoad:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_TIMEOUT_S)

    def between(self, begin_s: float, end_s: float) -> list[Sent]:
        """Requests sent in a stretch of the monotonic clock, as far as their fate is known."""
        return [one for one in self.sent if begin_s <= one.at_s < end_s]

    async def _run(self) -> None:
        rng = np.random.default_rng(self._seed)
        shares = np.array([share for _, _, share in self._classes])
        tasks: set[asyncio.Task[None]] = set()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        async with (
            httpx.AsyncClient(base_url=self._url, timeout=_TIMEOUT_S, limits=limits) as plain,
            ProvisorClient(self._url) as client,
        ):
            due_s = time.monotonic()
            number = 0
            while not self._stop.is_set():
                due_s += float(rng.exponential(1.0 / self._rate_rps))
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                c = int(rng.choice(len(shares), p=shares / shares.sum()))
                task = asyncio.create_task(self._send(number, c, plain, client))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                number += 1
            if tasks:
                await asyncio.wait(set(tasks))

    async def _send(self, number: int, c: int, plain: httpx.AsyncClient, client: ProvisorClient) -> None:
        name, slo_s, _ = self._classes[c]
        value = self._inputs[number % len(self._inputs)]
        began_s = time.monotonic()
        status = 0
        if self._does_retry:
            try:
                await client.infer(value, request_class=name, timeout_s=slo_s)
                status = 200
            except RequestExpiredError:
                status = EXPIRED
            except RequestImpossibleError:
                status = 422
        else:
            try:
                body = {"input": value, "request_class": name}
                status = (await plain.post("/v1/infer", json=body)).status_code
            except httpx.HTTPError:
                status = 0
        self.sent.append(Sent(began_s, c, slo_s, status, time.monotonic() - began_s))
