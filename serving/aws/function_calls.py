"""Calls of functions by the router: what one answers, costs, and why it was not made.

The charge of a call is what Lambda reports of it, in the log's last lines that come back with the answer.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from controller.errors import clipped
from serving.aws.clients import aws_client
from serving.aws.faults import AwsError, Fault, call
from serving.aws.function_pool import FunctionPool
from serving.aws.terms import AwsTerms
from serving.model_object import ModelAnswer, paired
from serving.replica import ModelFaultError
from serving.requests import Dispatch
from serving.serverless import NotCalledError

MOST_BYTES = 6 * 1024 * 1024
"""Largest request, and largest answer, of a call that is waited for.

Source:
    AWS Lambda developer guide, "Lambda quotas": 6 MB each, synchronous.
"""

_BILLED = re.compile(r"\bBilled Duration: (\d+) ms")
_TOO_LARGE = "RequestTooLargeException"
_SLACK_S = 10.0
# Over a function's own timeout: for the way there and back, and for a start.

_log = logging.getLogger("provisor.aws")


@dataclass(frozen=True)
class Answered:
    """One call's answer."""

    answers: list[ModelAnswer]
    is_cold: bool  # its environment was made for it
    billed_s: float | None  # None: not reported
    took_s: float  # as the caller saw it


class FunctionFaultError(ModelFaultError):
    """The model raised in its function, which is charged for."""

    def __init__(self, text: str, billed_s: float | None) -> None:
        super().__init__(text)
        self.billed_s = billed_s


class FunctionCaller:
    """Calls functions, each call in a thread of its own.

    Args:
        terms: Of the account; must have those of functions.
        most: Calls at a time.
    """

    def __init__(self, terms: AwsTerms, most: int) -> None:
        own = terms.functions
        assert own is not None
        self._client = aws_client("lambda", terms, read_timeout_s=own.timeout_s + _SLACK_S, most=most)
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="function")

    async def infer(self, name: str, batch: list[Any]) -> Answered:
        """One call of a function.

        Raises:
            NotCalledError: Refused; nothing ran.
            FunctionFaultError: The model raised.
            AwsError: No answer: it may have run.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self.call, name, batch)

    def call(self, name: str, batch: list[Any]) -> Answered:
        """The same of a function by its name, in the caller's thread."""
        began_s = time.perf_counter()
        body = body_of(batch)
        if len(body) > MOST_BYTES:
            raise NotCalledError(f"{name}: a body of {len(body)} bytes", must_wait=False)
        try:
            answer = call(self._client, "invoke", FunctionName=name, LogType="Tail", Payload=body)
            payload = answer["Payload"].read()
        except AwsError as error:
            if error.fault is Fault.NO_ANSWER:
                raise
            raise NotCalledError(error.text, must_wait=error.code != _TOO_LARGE) from error
        log = base64.b64decode(answer.get("LogResult", "")).decode(errors="replace")
        reported = _BILLED.findall(log)
        billed_s = int(reported[-1]) / 1000.0 if reported else None
        if "FunctionError" in answer:
            raise FunctionFaultError(clipped(f"{name}: {payload.decode(errors='replace')}"), billed_s)
        found = json.loads(payload)
        try:
            answers = paired(found["outputs"], found.get("confidences"), len(batch))
        except ValueError as error:
            raise FunctionFaultError(clipped(f"{name}: {error}"), billed_s) from error
        return Answered(answers, bool(found["is_first"]), billed_s, time.perf_counter() - began_s)


def body_of(batch: list[Any]) -> bytes:
    """A batch as a function gets it."""
    return json.dumps({"inputs": batch}).encode()


class FunctionHost:
    """Makes the router's calls and keeps account of them, whatever becomes of each.

    Args:
        caller: Makes them.
        names: Function by option.
        pools: Ledgers by row of the pool.
        num_pools: Pools of all kinds.
    """

    def __init__(
        self, caller: FunctionCaller, names: Mapping[int, str], pools: Mapping[int, FunctionPool], num_pools: int
    ) -> None:
        self._caller, self._names = caller, names
        self._pools, self._num_pools = pools, num_pools

    async def infer(self, dispatch: Dispatch, clock: Callable[[], float]) -> list[ModelAnswer]:
        """Answers of one call.

        Args:
            dispatch: What is called; learns whether its environment was cold.
            clock: The router's.

        Raises:
            NotCalledError, FunctionFaultError, AwsError: As `FunctionCaller.infer`.
        """
        pool, environment = self._pools[dispatch.option % self._num_pools], dispatch.environment
        assert environment is not None
        try:
            answer = await self._caller.infer(self._names[dispatch.option], dispatch.payloads)
        except NotCalledError as error:
            _log.warning("not called: %s", error)
            pool.refused(environment, clock(), must_wait=error.must_wait)
            raise
        except FunctionFaultError as error:
            pool.answered(environment, error.billed_s, is_cold=False)
            raise
        except Exception as error:
            _log.warning("no answer of a function, charged as expected: %s: %s", type(error).__name__, error)
            pool.answered(environment, None, is_cold=False)
            raise
        pool.answered(environment, answer.billed_s, is_cold=answer.is_cold)
        if answer.is_cold:
            dispatch.cold_s = answer.took_s
        return answer.answers
