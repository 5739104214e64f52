"""What happens in a worker, and what comes back from it: a result, or an error that names its item."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from controller.errors import ProvisorError, RunError

AHEAD = 2
"""Items handed out per worker, so that none waits for the next."""

_SHOWN_ITEM_CHARS = 120
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_is_worker = False


class Workers(Protocol):
    """Runs functions on items."""

    count: int

    def run(self, function: Callable[[ItemT], ResultT], items: Iterable[ItemT]) -> Iterator[tuple[int, ResultT]]:
        """Results with the index of their item, as they come.

        Args:
            function: Defined at the top of a module that workers can import.
            items: Plain data that can be pickled.

        Raises:
            ProvisorError: What the function raised, with the item named; of another error, a `RunError`.
        """


@dataclass(frozen=True)
class Attempt(Generic[ResultT]):
    """What a worker sends back: a result, or an error as text, since an exception need not survive the way."""

    result: ResultT | None
    message: str | None = None
    kind: type[ProvisorError] = RunError
    trace: str = ""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_here() -> int:
    """Threads that a computation may take: one in a worker, whose neighbours have the other cores; else all cores."""
    return 1 if _is_worker else cores()


def attempt(function: Callable[[ItemT], ResultT], item: ItemT) -> Attempt[ResultT]:
    """Calls the function in a worker."""
    try:
        return Attempt(function(item))
    except ProvisorError as error:
        return Attempt(None, str(error), type(error), traceback.format_exc())
    except Exception as error:  # noqa: BLE001 - whatever it is, it is raised again in the parent
        return Attempt(None, f"{type(error).__name__}: {error}", trace=traceback.format_exc())


def unwrapped(tried: Attempt[ResultT], item: object) -> ResultT:
    """The result of an attempt.

    Raises:
        ProvisorError: The function's error, naming the item.
    """
    if tried.message is not None:
        failure = tried.kind(f"{tried.message}\nwhile working on {shown(item)}")
        failure.add_note(tried.trace)
        raise failure
    return tried.result  # type: ignore[return-value] # a result of None is a result


def shown(item: object) -> str:
    """An item on part of a line."""
    text = repr(item)
    return text if len(text) <= _SHOWN_ITEM_CHARS else f"{text[: _SHOWN_ITEM_CHARS - 3]}..."


def take_one_core() -> None:
    """Makes this process a worker: one thread for each library that would take all cores."""
    global _is_worker  # noqa: PLW0603 - a fact about the process
    _is_worker = True
    # Read by the libraries when they are imported, which the first item does.
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = "1"
