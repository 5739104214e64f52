"""What the tests of fan-out let workers do: they import it by name."""

import os
import time
from pathlib import Path

from controller.errors import ConfigError
from experiments.worker import threads_here


class PickyError(Exception):
    """Cannot be pickled back: its arguments are not its constructor's."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"{number}: {reason}")


def square(number: int) -> int:
    return number * number


def process_and_threads(number: int) -> tuple[int, int, str | None]:
    return os.getpid(), threads_here(), os.environ.get("OMP_NUM_THREADS")


def refuse_three(number: int) -> int:
    if number == 3:
        raise ConfigError("number: expected another one, got 3")
    return number


def fail_pickily(number: int) -> int:
    raise PickyError(number, "no")


def make_lock(number: int) -> object:
    import threading

    return threading.Lock()


def end_process(number: int) -> None:
    os._exit(7)


def note_and_hang(folder: str) -> None:
    """Notes its process and goes on for longer than any test waits."""
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(600)
