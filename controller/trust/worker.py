"""Runs a policy's code under a deadline, in a thread that can be left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

ResultT = TypeVar("ResultT")


class DecisionTimeoutError(Exception):
    """A policy did not decide in time; the thread it runs in was left behind."""


class _Job(Generic[ResultT]):
    def __init__(self, call: Callable[[], ResultT]) -> None:
        self.call = call
        self.done: SimpleQueue[tuple[ResultT | None, Exception | None]] = SimpleQueue()

    def run(self) -> None:
        try:
            self.done.put((self.call(), None))
        except Exception as error:  # noqa: BLE001 - handed to the caller, who decides what it means
            self.done.put((None, error))
        except BaseException as error:  # noqa: BLE001 - a policy that calls `sys.exit` ends nothing but its own trust
            self.done.put((None, RuntimeError(repr(error))))


class DeadlineWorker:
    """One thread for one policy; after a time-out it is not used again.

    A thread cannot be ended from outside, so a policy that hangs keeps its thread until the process ends: it is a
    daemon, it delays nothing, and its late result is dropped. Code that holds the interpreter's lock for ever (a
    compiled extension that never returns) would hold up everything; only a process of its own could stop that.
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def call(self, call: Callable[[], ResultT], timeout_s: float) -> ResultT:
        """The result of `call`, or whatever it raises.

        Raises:
            DecisionTimeoutError: It took longer than `timeout_s` wall-clock seconds.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=_work, args=(self._jobs,), name="policy", daemon=True)
            self._thread.start()
        job = _Job(call)
        self._jobs.put(job)
        try:
            result, error = job.done.get(timeout=timeout_s)
        except Empty:
            self._jobs.put(None)  # should it ever come back, it ends
            raise DecisionTimeoutError(f"expected a decision within {timeout_s:g} s") from None
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # None only where `call` returns None

    def close(self) -> None:
        """Ends the thread once it is idle."""
        self._jobs.put(None)


def _work(jobs: SimpleQueue[_Job[Any] | None]) -> None:
    while (job := jobs.get()) is not None:
        job.run()
