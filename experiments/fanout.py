"""The same function on many items, over the processes of this machine or the nodes of a Ray cluster, in any number.

Two ideas are needed to read it. An item is plain data and the function builds what it needs from it, so that a result
depends on the item alone and never on who computed it; what is dear to build is cached per process by the function's
own module. And a worker ends with whoever started it: each watches a pipe whose other end is held by the parent, so an
interrupt, an error and even a killed parent leave no process behind.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_any
from typing import Any, TypeVar

from controller.errors import RunError, UsageError, mismatch
from experiments.worker import AHEAD, Attempt, Workers, attempt, cores, shown, take_one_core, unwrapped

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def in_order(results: Iterable[tuple[int, ResultT]]) -> list[ResultT]:
    """Results in the order of their items."""
    held = dict(results)
    return [held[index] for index in range(len(held))]


@contextlib.contextmanager
def open_workers(workers: int | None, address: str | None = None) -> Iterator[Workers]:
    """Workers for the length of a `with`; on an error or an interrupt, what has begun is stopped too.

    Args:
        workers: Items worked on at a time; None: as many as there are cores, here or in the cluster. One without an
            address is this process.
        address: `host:port` of the head of a Ray cluster; None: processes of this machine.

    Raises:
        UsageError: `workers` is below 1, or the address has another form.
        ClusterError: The cluster cannot be joined, or runs other versions.
    """
    if workers is not None and workers < 1:
        raise UsageError(mismatch("--workers", "a number >= 1", workers))
    if address is not None:
        from experiments.ray_workers import open_ray_workers

        with open_ray_workers(address, workers) as cluster:
            yield cluster
    elif (workers or cores()) == 1:
        yield _ThisProcess()
    else:
        with _open_processes(workers or cores()) as local:
            yield local


class _ThisProcess:
    """One item after the other, here."""

    count = 1

    def run(self, function: Callable[[ItemT], ResultT], items: Iterable[ItemT]) -> Iterator[tuple[int, ResultT]]:
        for index, item in enumerate(items):
            yield index, unwrapped(attempt(function, item), item)


class _Processes:
    """Processes of this machine."""

    def __init__(self, executor: ProcessPoolExecutor, count: int) -> None:
        self.count = count
        self._executor = executor

    def run(self, function: Callable[[ItemT], ResultT], items: Iterable[ItemT]) -> Iterator[tuple[int, ResultT]]:
        waiting = enumerate(items)
        begun: dict[Future[Attempt[ResultT]], tuple[int, ItemT]] = {}
        try:
            while True:
                while len(begun) < AHEAD * self.count and (one := next(waiting, None)) is not None:
                    begun[self._submitted(function, one[1])] = one
                if not begun:
                    return
                done, _ = wait(begun, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=lambda future: begun[future][0]):
                    index, item = begun.pop(future)
                    yield index, unwrapped(_result(future, item), item)
        finally:
            for future in begun:
                future.cancel()

    def _submitted(self, function: Callable[[ItemT], ResultT], item: ItemT) -> Future[Attempt[ResultT]]:
        try:
            return self._executor.submit(attempt, function, item)
        except BrokenProcessPool as error:
            raise _lost(item) from error


def _lost(item: object) -> RunError:
    why = "too little memory for so many, or it cannot import the function"
    return RunError(f"a worker process ended by itself ({why}) while working on {shown(item)}")


def _result(future: Future[Attempt[ResultT]], item: object) -> Attempt[ResultT]:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise _lost(item) from error
    except (pickle.PicklingError, TypeError, AttributeError) as error:  # the function's own errors come as an attempt
        raise RunError(f"expected plain data in and out, got: {error}, for {shown(item)}") from error


@contextlib.contextmanager
def _open_processes(count: int) -> Iterator[Workers]:
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of threads that are not there
    watched, held = context.Pipe(duplex=False)
    executor = ProcessPoolExecutor(count, mp_context=context, initializer=_begin_process, initargs=(watched,))
    try:
        yield _Processes(executor, count)
        executor.shutdown(wait=True, cancel_futures=True)
    finally:
        # Whoever still works ends now; after a whole run nobody does.
        held.close()
        executor.shutdown(wait=True, cancel_futures=True)
        watched.close()


def _begin_process(watched: Connection) -> None:
    import signal

    # An interrupt of the terminal reaches every process; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    take_one_core()
    threading.Thread(target=_end_with_parent, args=(watched,), daemon=True).start()


def _end_with_parent(watched: Connection) -> None:
    """Waits until the parent closes its end of the pipe or is gone."""
    ends: Sequence[Any] = [watched]
    parent = multiprocessing.parent_process()
    if parent is not None:
        ends = [watched, parent.sentinel]
    wait_for_any(ends)
    os._exit(1)
