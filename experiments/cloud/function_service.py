"""Functions and their environments as AWS Lambda keeps them, over real processes.

What Lambda does and is kept here, each with a test: one call at a time in an environment; the one used last first; a
limit of calls at a time for the account; a limit of new environments in ten seconds for each function; idle ones given
back; a largest request; a charge for each call, reported with it.

Source:
    AWS Lambda developer guide: "Lambda quotas", "Understanding Lambda function scaling", "Configuring reserved
    concurrency", and "Invoke" in the API reference.
"""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import threading
import time
import uuid
import zipfile
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.errors import RunError
from experiments.cloud.emulator import Environment

ARN = "arn:aws:lambda:us-east-1:123456789012:function:{name}"
MOST_BYTES = 6 * 1024 * 1024
_BURST_SPAN_S = 10.0
_STEP_S = 0.2


class RefusedError(Exception):
    """A call is refused, with the service's status, code and text."""

    def __init__(self, status: int, code: str, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.status, self.code, self.text, self.reason = status, code, text, reason


@dataclass
class Limits:
    """Of an account; small ones make what refuses a call happen on one machine."""

    concurrency: int = 1000  # calls at a time
    burst: int = 1000  # new environments of a function in ten seconds
    keep_alive_s: float = 300.0
    refuse_next: int = 0  # calls that are refused whatever runs, as for another function's load


@dataclass(frozen=True)
class Invocation:
    """One call, as it is charged."""

    function: str
    request_id: str
    is_cold: bool
    billed_ms: int
    memory_mb: int
    took_s: float
    has_failed: bool


@dataclass(frozen=True)
class Called:
    """What a call is answered with."""

    body: bytes
    log: str
    has_failed: bool
    request_id: str


@dataclass(eq=False)
class _Idle:
    environment: Environment
    since_s: float


@dataclass(eq=False)
class _Function:
    settings: dict[str, Any]
    folder: Path
    sha256: str
    size: int
    tags: dict[str, str]
    revision: int = 0
    idle: list[_Idle] = field(default_factory=list)
    busy: int = 0
    started_s: deque[float] = field(default_factory=deque)


class FunctionService:
    """Functions of one account.

    Args:
        folder: For packages and logs.
        limits: Of the account.
        clock: Seconds.
    """

    def __init__(self, folder: Path, limits: Limits | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = Limits() if limits is None else limits
        self.invocations: list[Invocation] = []
        self.refused: list[str] = []  # codes
        self._folder, self._clock = folder, clock
        self._functions: dict[str, _Function] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._expire_now_and_then, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends every environment."""
        self._stop.set()
        self._thread.join()
        for name in list(self._functions):
            self.delete(name)

    # Functions

    def create(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """A function from a call's parameters; returns its configuration."""
        name = str(settings["FunctionName"])
        with self._lock:
            if name in self._functions:
                raise RefusedError(409, "ResourceConflictException", f"Function already exist: {name}")
            kept = {key: value for key, value in settings.items() if key not in ("Code", "Tags")}
            function = _Function(kept, Path(), "", 0, dict(settings.get("Tags") or {}))
            self._unpack(function, base64.b64decode(settings["Code"]["ZipFile"]))
            self._functions[name] = function
            return self._told(name)

    def update_code(self, name: str, package: bytes) -> dict[str, Any]:
        """New code: environments with the old one end when they are idle."""
        with self._lock:
            function = self._named(name)
            gone, function.idle = function.idle, []
            function.revision += 1
            self._unpack(function, package)
        _end(gone)
        return self.configuration(name)

    def update_settings(self, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """New settings, likewise."""
        with self._lock:
            function = self._named(name)
            gone, function.idle = function.idle, []
            function.revision += 1
            function.settings |= {key: value for key, value in settings.items() if key != "FunctionName"}
        _end(gone)
        return self.configuration(name)

    def delete(self, name: str) -> None:
        """A function and its idle environments; those that are busy end with their call."""
        with self._lock:
            function = self._named(name)
            del self._functions[name]
            gone, function.idle = function.idle, []
            function.revision += 1
        _end(gone)

    def names(self) -> list[str]:
        """Of all functions, in order."""
        with self._lock:
            return sorted(self._functions)

    def configuration(self, name: str) -> dict[str, Any]:
        """As it is told."""
        with self._lock:
            return self._told(name)

    def tags(self, arn: str) -> dict[str, str]:
        """Of the function of an ARN."""
        with self._lock:
            return dict(self._named(arn.rpartition(":")[2]).tags)

    # Calls

    def invoke(self, name: str, body: bytes) -> Called:
        """Makes a call and waits for it.

        Raises:
            RefusedError: It is not made.
        """
        if len(body) > MOST_BYTES:
            self._refuse(413, "RequestTooLargeException", f"Request must be smaller than {MOST_BYTES} bytes")
        function, environment, revision = self._take(name)
        is_cold, began_s = environment is None, time.perf_counter()
        has_failed = True
        try:
            if environment is None:
                environment = self._start(name, function)
            answer = environment.invoke(body, float(function.settings["Timeout"]) + 30.0)
            has_failed = answer.has_failed
        except RunError as error:
            if environment is not None:
                environment.close()
                environment = None
            raise RefusedError(500, "ServiceException", str(error)) from error
        finally:
            self._give_back(function, environment, revision)
        took_s = time.perf_counter() - began_s
        request = str(uuid.uuid4())
        billed_ms = _billed_ms(answer.report, took_s)
        memory_mb = int(function.settings["MemorySize"])
        self.invocations.append(Invocation(name, request, is_cold, billed_ms, memory_mb, took_s, has_failed))
        log = (
            f"START RequestId: {request} Version: $LATEST\nEND RequestId: {request}\n"
            f"REPORT RequestId: {request}\tDuration: {billed_ms}.00 ms\tBilled Duration: {billed_ms} ms\t"
            f"Memory Size: {memory_mb} MB\tMax Memory Used: {memory_mb} MB\t\n"
        )
        return Called(answer.body, log, has_failed, request)

    @property
    def running(self) -> int:
        """Environments that exist."""
        with self._lock:
            return sum(len(one.idle) + one.busy for one in self._functions.values())

    def expire(self) -> None:
        """Gives back what was idle for long."""
        now_s, gone = self._clock(), []
        with self._lock:
            for function in self._functions.values():
                old = [one for one in function.idle if now_s - one.since_s >= self.limits.keep_alive_s]
                function.idle = [one for one in function.idle if one not in old]
                gone += old
        _end(gone)

    # Steps

    def _take(self, name: str) -> tuple[_Function, Environment | None, int]:
        """Room for a call, in the environment used last or, where none is idle, in a new one."""
        with self._lock:
            function = self._named(name)
            limits, now_s = self.limits, self._clock()
            if limits.refuse_next > 0:
                limits.refuse_next -= 1
                self._refuse(429, "TooManyRequestsException", "Rate Exceeded.", "ConcurrentInvocationLimitExceeded")
            if sum(one.busy for one in self._functions.values()) >= limits.concurrency:
                self._refuse(429, "TooManyRequestsException", "Rate Exceeded.", "ConcurrentInvocationLimitExceeded")
            if function.idle:
                taken = max(function.idle, key=lambda one: one.since_s)
                function.idle.remove(taken)
                function.busy += 1
                return function, taken.environment, function.revision
            while function.started_s and now_s - function.started_s[0] >= _BURST_SPAN_S:
                function.started_s.popleft()
            if len(function.started_s) >= limits.burst:
                self._refuse(429, "TooManyRequestsException", "Rate Exceeded.", "FunctionInvocationRateLimitExceeded")
            function.started_s.append(now_s)
            function.busy += 1
            return function, None, function.revision

    def _give_back(self, function: _Function, environment: Environment | None, revision: int) -> None:
        with self._lock:
            function.busy -= 1
            if environment is not None and revision == function.revision:
                function.idle.append(_Idle(environment, self._clock()))
                return
        if environment is not None:
            environment.close()

    def _start(self, name: str, function: _Function) -> Environment:
        settings = function.settings
        variables: Mapping[str, str] = (settings.get("Environment") or {}).get("Variables") or {}
        log = self._folder / f"{uuid.uuid4().hex}.log"
        return Environment(
            function.folder,
            str(settings["Handler"]),
            int(settings["MemorySize"]),
            int(settings["Timeout"]),
            name,
            log,
            variables,
        )

    def _unpack(self, function: _Function, package: bytes) -> None:
        if function.folder != Path():
            shutil.rmtree(function.folder, ignore_errors=True)
        function.folder = self._folder / uuid.uuid4().hex
        with zipfile.ZipFile(io.BytesIO(package)) as archive:
            archive.extractall(function.folder)
        function.sha256 = base64.b64encode(hashlib.sha256(package).digest()).decode()
        function.size = len(package)

    def _named(self, name: str) -> _Function:
        if name not in self._functions:
            raise RefusedError(404, "ResourceNotFoundException", f"Function not found: {ARN.format(name=name)}")
        return self._functions[name]

    def _told(self, name: str) -> dict[str, Any]:
        function = self._named(name)
        told = {**function.settings, "FunctionArn": ARN.format(name=name), "CodeSha256": function.sha256}
        told |= {"CodeSize": function.size, "State": "Active", "LastUpdateStatus": "Successful", "Version": "$LATEST"}
        told["Layers"] = [{"Arn": arn} for arn in function.settings.get("Layers") or ()]
        return told

    def _refuse(self, status: int, code: str, text: str, reason: str = "") -> None:
        self.refused.append(code)
        raise RefusedError(status, code, text, reason)

    def _expire_now_and_then(self) -> None:
        while not self._stop.wait(_STEP_S):
            self.expire()


def _end(gone: list[_Idle]) -> None:
    for one in gone:
        one.environment.close()


def _billed_ms(report: str, took_s: float) -> int:
    """As the emulator reports; where it does not, as long as the call took."""
    _, _, after = report.partition("Billed Duration: ")
    word = after.partition(" ms")[0]
    return int(word) if word.isdigit() else max(1, int(took_s * 1e3) + 1)
