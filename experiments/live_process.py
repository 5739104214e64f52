"""`provisor serve` as its users run it: a process of its own, watched through its admin API and its processes.

What is done to a live run from outside (experiments that break things, comparisons) goes through here, so that nothing
in it is reached that an operator could not reach.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from controller.errors import RunError
from serving.processes import child_processes, command_line, kill_tree

_READY = re.compile(r"replicas serve after [0-9.]+ s at (\S+)")
_POLL_S = 0.1
_STOP_TIMEOUT_S = 90.0


class ServeProcess:
    """A live run from start to end.

    Args:
        words: Of `provisor serve`, beside those that say where.
        folder: For journal and log.
        say: Prints a line of progress.
        environment: Of the process, beside this one's.
    """

    def __init__(
        self,
        words: Sequence[str],
        folder: Path,
        say: Callable[[str], None],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self._environment = folder, environment or {}
        self.url = ""
        self._words = list(words)
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._admin: httpx.Client | None = None

    @property
    def log(self) -> Path:
        """What the run printed."""
        return self.folder / "serve.log"

    @property
    def journal(self) -> Path:
        """Of its decisions."""
        return self.folder / "journal.jsonl"

    def start(self, timeout_s: float) -> None:
        """Starts the run and waits until it serves.

        Raises:
            RunError: It ended, or does not serve in time; its last words are told.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        port, admin_port = free_port(), free_port()
        command = "import sys; from controller.cli import main; sys.exit(main())"
        words = [sys.executable, "-c", command, "serve", *self._words]
        words += ["--port", str(port), "--admin-port", str(admin_port), "--out", str(self.folder)]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                words,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **self._environment},
            )
        end_s = time.monotonic() + timeout_s
        access = self.folder / "admin.json"
        access.unlink(missing_ok=True)  # of an earlier run in this folder
        while not ((found := _READY.search(self._told())) and access.exists()):
            if self._process.poll() is not None or time.monotonic() > end_s:
                self.stop()
                raise RunError(f"provisor serve: expected to serve within {timeout_s:g} s, got:\n{self._told()[-800:]}")
            time.sleep(_POLL_S)
        self.url = found.group(1)
        told = json.loads(access.read_text(encoding="utf-8"))
        token = Path(told["token_file"]).read_text(encoding="utf-8").strip()
        self._admin = httpx.Client(base_url=told["url"], headers={"Authorization": f"Bearer {token}"}, timeout=10.0)

    def _told(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> int:
        """Ends the run as Ctrl-C does; returns its exit status."""
        if self._admin is not None:
            self._admin.close()
            self._admin = None
        process = self._process
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            return process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            for pid in (process.pid, *child_processes(process.pid)):
                os.kill(pid, signal.SIGKILL)
            return process.wait()

    def wait(self, timeout_s: float) -> None:
        """Until a run of a given duration has ended by itself.

        Raises:
            RunError: It failed, or takes too long; its last words are told.
        """
        assert self._process is not None
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise RunError(f"provisor serve: expected an end within {timeout_s:g} s") from error
        if code:
            raise RunError(f"provisor serve: expected exit code 0, got {code}:\n{self._told()[-800:]}")

    # The admin API

    def status(self) -> dict[str, Any] | None:
        """The controller's status; None while it does not answer."""
        try:
            return self.ask("GET", "/v1/status")
        except (httpx.HTTPError, RunError):
            return None

    def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """One call of the admin API.

        Raises:
            RunError: It refuses; what it says is told.
            httpx.HTTPError: It does not answer.
        """
        if self._admin is None:
            raise RunError(f"{method} {path}: expected a run, got none")
        response = self._admin.request(method, path, json=body)
        answer: dict[str, Any] = response.json()
        if response.status_code != 200:
            raise RunError(f"{method} {path}: {response.status_code}: {answer.get('error', answer)}")
        return answer

    def until(self, holds: Callable[[dict[str, Any]], bool], timeout_s: float) -> float | None:
        """Seconds until the status satisfies a condition; None where it does not in time."""
        began_s = time.monotonic()
        while time.monotonic() - began_s < timeout_s:
            status = self.status()
            if status is not None and holds(status):
                return time.monotonic() - began_s
            time.sleep(_POLL_S)
        return None

    # Its processes

    def processes(self, title: str) -> list[int]:
        """Ids of its processes whose title or command line begins with a text, oldest first."""
        root = 0 if self._process is None else self._process.pid
        return sorted(pid for pid in child_processes(root) if (command_line(pid) or [""])[0].startswith(title))

    def nodes(self, pool: str = "") -> list[int]:
        """Roots of the process trees of its local nodes, those of one pool or all."""
        root = 0 if self._process is None else self._process.pid
        mark = re.compile(rf"provisor-node=\w+\.{re.escape(pool)}-" if pool else "provisor-node=")
        found = []
        for pid in child_processes(root):
            words = " ".join(command_line(pid))
            if " start " in f" {words} " and mark.search(words):
                found.append(pid)
        return sorted(found)


def run_to_end(words: Sequence[str], log: Path, timeout_s: float) -> None:
    """Runs a command that ends by itself; whatever keeps it from that ends it with all that it started.

    Args:
        words: Of the command.
        log: For what it prints.
        timeout_s: It is ended as Ctrl-C does after this.

    Raises:
        RunError: It failed, or did not end in time; its last words are told.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    status: int | None = None
    with log.open("wb") as stream:
        process = subprocess.Popen(words, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = process.wait(timeout_s)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                kill_tree(process.pid)
                process.wait()
    if status != 0:
        ended = f"within {timeout_s:g} s" if status is None else f"well, got status {status}"
        said = log.read_text(encoding="utf-8", errors="replace")[-800:]
        raise RunError(f"{log.parent.name}: expected to end {ended}; its last words:\n{said}")


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
