"""AWS's own Runtime Interface Emulator, which runs a function's code as Lambda does: one process for one environment.

The program is part of the package `aws-sam-cli`, of which nothing else is used. One process takes one call at a time;
a second one ends it, so whoever runs several keeps a process for each.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import platform
import re
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.errors import RunError, mismatch
from serving.processes import kill_tree

VARIABLE = "PROVISOR_LAMBDA_EMULATOR"
"""Environment variable with the program's path, where it lies elsewhere."""

_HOST = "127.0.0.1"
_PATH = "/2015-03-31/functions/function/invocations"
_START_TIMEOUT_S, _REPORT_TIMEOUT_S, _STEP_S = 30.0, 5.0, 0.005
_ARCHITECTURES = {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
_REPORT = re.compile(rb"^REPORT RequestId: .*$", re.MULTILINE)


def emulator() -> Path:
    """The program.

    Raises:
        RunError: It is not there; says how it comes.
    """
    named = os.environ.get(VARIABLE)
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    inside = Path("local", "rapid", f"aws-lambda-rie-{architecture}")
    places = [Path(named)] if named else [Path(sys.prefix, "emulator", "samcli") / inside]
    package = importlib.util.find_spec("samcli")
    if package is not None and package.submodule_search_locations:
        places.append(Path(package.submodule_search_locations[0]) / inside)
    for place in places:
        if place.is_file():
            return place
    raise RunError(mismatch("emulator of Lambda", f"a file at {places[0]} (make test brings it), or {VARIABLE}", None))


@dataclass(frozen=True)
class Answer:
    """What a call came to."""

    body: bytes
    report: str  # the emulator's line: duration, what is charged for, memory
    has_failed: bool  # the code raised, or took too long


class Environment:
    """One execution environment: a process that has loaded a function's code once.

    Args:
        folder: The unpacked package.
        handler: `module.function`.
        memory_mb: As the function is told.
        timeout_s: Of one call.
        name: Of the function.
        log: File for what it prints.
        variables: Of its environment, besides.
    """

    def __init__(
        self,
        folder: Path,
        handler: str,
        memory_mb: int,
        timeout_s: int,
        name: str,
        log: Path,
        variables: Mapping[str, str],
    ) -> None:
        program = emulator()
        if not os.access(program, os.X_OK):
            program.chmod(0o755)
        self._log, self._port = log, _free_port()
        inner = _free_port()
        self.calls = 0
        words = [str(program), "--runtime-interface-emulator-address", f"{_HOST}:{self._port}"]
        words += ["--runtime-api-address", f"{_HOST}:{inner}", sys.executable, "-m", "awslambdaric", handler]
        told = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "LAMBDA_TASK_ROOT": str(folder),
            "AWS_LAMBDA_FUNCTION_NAME": name,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb),
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout_s),
            **variables,
        }
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                words, cwd=folder, env=told, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        self._wait()

    def invoke(self, body: bytes, timeout_s: float) -> Answer:
        """Makes one call; only one at a time.

        Raises:
            RunError: The process ended, or did not answer.
        """
        self.calls += 1
        seen = self._log.stat().st_size
        connection = http.client.HTTPConnection(_HOST, self._port, timeout=timeout_s)
        try:
            connection.request("POST", _PATH, body=body, headers={"Content-Type": "application/json"})
            answered = connection.getresponse()
            content = answered.read()
        except (OSError, http.client.HTTPException) as error:
            raise RunError(f"an environment of a function: expected an answer, got {error!r}") from error
        finally:
            connection.close()
        return Answer(content, self._report_after(seen), answered.status != 200 or _is_error(content))

    def close(self) -> None:
        """Ends the process and what it started."""
        kill_tree(self._process.pid)
        self._process.wait()

    def _wait(self) -> None:
        end_s = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < end_s:
            if self._process.poll() is not None:
                break
            with socket.socket() as probe:
                if probe.connect_ex((_HOST, self._port)) == 0:
                    return
            time.sleep(_STEP_S)
        self.close()
        raise RunError(f"an environment of a function did not come up: {self._log.read_text(errors='replace')[-400:]}")

    def _report_after(self, seen: int) -> str:
        """The line that follows a call, which is written about when the call is answered."""
        end_s = time.monotonic() + _REPORT_TIMEOUT_S
        while time.monotonic() < end_s:
            with self._log.open("rb") as file:
                file.seek(seen)
                found = _REPORT.findall(file.read())
            if found:
                return str(found[-1].decode(errors="replace"))
            time.sleep(_STEP_S)
        return ""


def _is_error(body: bytes) -> bool:
    """Whether an answer is what the emulator gives where the code raised: it leaves out the mark that Lambda sets."""
    return body.startswith(b'{"errorMessage"') or (b'"errorType"' in body[:4096] and b'"errorMessage"' in body[:4096])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])
