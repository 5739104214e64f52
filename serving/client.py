"""A client that asks again: for callers who want an answer within a time and do not care what failed on the way.

Inference changes nothing, so a request may be sent twice. A request that met a connection that broke, a router that
was starting, or a queue that was full is sent again, with the same identity, until it is answered or its time is up.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

import httpx

from controller.errors import InputError, ProvisorError, RunError, mismatch

if TYPE_CHECKING:
    from serving.data_version import Pixels, Sent

_TOLD = ("output", "variant", "pool", "request_class", "accuracy")
_AGAIN = (500, 502, 503)
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_LEAST_LEFT_S = 0.01


class RequestImpossibleError(InputError):
    """No class can keep what was asked for, or the input is none; asking again is useless."""


class RequestExpiredError(RunError):
    """No answer came within the time; what was met last is said."""


@dataclass(frozen=True)
class Answer:
    """What came of one request."""

    output: Any
    variant: str
    pool: str
    request_class: str
    accuracy: float
    latency_s: float  # from the first sending to the answer
    sent: int  # times
    data: str | None = None  # version of the data that was sent, where the client chose one
    data_bytes: int = 0  # of it, encoded


class ProvisorClient:
    """Sends requests and repeats them within their time.

    Args:
        url: Base address, such as `http://127.0.0.1:8000`.
        timeout_s: Time of a request from the first sending to the answer, where the call names none.
        transport: Of httpx, for tests and proxies.
        pause: Returns a number in [0, 1) by which a pause is shortened, so that clients do not come back in step.
    """

    def __init__(
        self,
        url: str,
        timeout_s: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
        pause: Callable[[], float] = random.random,
    ) -> None:
        if not timeout_s > 0:
            raise InputError(mismatch("timeout_s", "seconds > 0", timeout_s))
        self._timeout_s = timeout_s
        self._pause = pause
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self._http = httpx.AsyncClient(base_url=url, transport=transport, limits=limits)

    async def infer(self, value: Any, *, timeout_s: float | None = None, **asked: Any) -> Answer:
        """Answers one request.

        Args:
            value: Input of the model.
            timeout_s: In place of the client's.
            asked: Constraints: `request_class`, or `max_latency_ms` and `min_accuracy`; `id` where draws are to be
                keyed by it.

        Raises:
            RequestImpossibleError: The service says that it cannot be answered (422).
            RequestExpiredError: The time is up.
        """
        began_s = time.monotonic()
        end_s = began_s + (self._timeout_s if timeout_s is None else timeout_s)
        body = {"input": value, **asked}
        # The same at every sending, so that a service can tell a repetition from a new request.
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        pause_s, sent, last = _FIRST_PAUSE_S, 0, "nothing"
        while (left_s := end_s - time.monotonic()) > _LEAST_LEFT_S:
            wait_s = pause_s
            sent += 1
            try:
                response = await self._http.post("/v1/infer", json=body, headers=headers, timeout=left_s)
            except httpx.TimeoutException:
                last = "silence"
                break
            except httpx.HTTPError as error:
                last = f"{type(error).__name__}: {error}"
            else:
                if response.status_code == 200:
                    return _answer(response.json(), time.monotonic() - began_s, sent)
                last = f"{response.status_code}: {_detail(response)}"
                if response.status_code == 422:
                    raise RequestImpossibleError(_detail(response))
                if response.status_code not in _AGAIN:
                    break
                wait_s = max(pause_s, _retry_after_s(response))
            await asyncio.sleep(min(wait_s * (1.0 - 0.5 * self._pause()), max(0.0, end_s - time.monotonic())))
            pause_s = min(2.0 * pause_s, _LONGEST_PAUSE_S)
        raise RequestExpiredError(f"expected an answer within {end_s - began_s:g} s, met {last} ({sent} times sent)")

    async def infer_image(
        self, pixels: Pixels, mix: Sequence[Sent], *, draw: float | None = None, **asked: Any
    ) -> Answer:
        """Encodes an image as one of the data versions that its region sends, and has it answered.

        Args:
            pixels: A square one, of gray values.
            mix: The region's versions with the classes that answer them, as a placement has chosen them.
            draw: In [0, 1), chooses the version by the mix's shares; drawn at random where it is left out.
            asked: As for `infer`, but no class.

        Raises:
            RequestImpossibleError: The service says that it cannot be answered (422).
            RequestExpiredError: The time is up.
        """
        # numpy, which clients that send other inputs need not load.
        from serving.data_version import as_text, drawn

        chosen = drawn(mix, random.random() if draw is None else draw)
        data = chosen.version.encode(pixels)
        answer = await self.infer(as_text(data), request_class=chosen.request_class, **asked)
        return replace(answer, data=chosen.version.name, data_bytes=len(data))

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> ProvisorClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def infer(url: str, value: Any, *, timeout_s: float = 30.0, **asked: Any) -> Answer:
    """One request from code that does not use asyncio; as `ProvisorClient.infer`."""

    async def once() -> Answer:
        async with ProvisorClient(url, timeout_s) as client:
            return await client.infer(value, **asked)

    return asyncio.run(once())


def _answer(body: dict[str, Any], latency_s: float, sent: int) -> Answer:
    try:
        told = {name: body[name] for name in _TOLD}
    except KeyError as error:
        raise ProvisorError(mismatch("answer", ", ".join(_TOLD), sorted(body))) from error
    return Answer(**told, latency_s=latency_s, sent=sent)


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]


def _retry_after_s(response: httpx.Response) -> float:
    # A router says how long its queues will take; waiting that long with little time left would be giving up.
    try:
        return min(float(response.headers.get("Retry-After", 0.0)), _LONGEST_PAUSE_S)
    except ValueError:
        return 0.0
