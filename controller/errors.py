"""Errors that a user of Provisor can cause or must act on, each with the exit code of the command that meets it.

Exit codes of every verb: 0 done, 1 a run or a check failed, 2 wrong usage or input, 130 interrupted. An error outside
this hierarchy is a defect of the program; the command line reports it with exit code 1 and names `--debug`.
"""

from collections.abc import Iterable
from typing import ClassVar

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_WRONG_INPUT = 2
EXIT_INTERRUPTED = 130

_SHOWN_CHARS = 400
_SHOWN_VALUE_CHARS = 80


class ProvisorError(Exception):
    """Failure that is explained by its message alone; `exit_code` is what the command line exits with."""

    exit_code: ClassVar[int] = EXIT_FAILED


class InputError(ProvisorError):
    """Something the user gave is wrong: the same command fails again until the input is changed."""

    exit_code: ClassVar[int] = EXIT_WRONG_INPUT


class ConfigError(InputError):
    """A configuration file is unreadable or a field of it has a value outside what is allowed."""


class CatalogError(InputError):
    """The catalog contradicts itself, or its limits cannot be met by anything that can be bought."""


class ScenarioError(InputError):
    """A scenario names something that does not exist or cannot be simulated as described."""


class TraceError(InputError):
    """A trace is empty, unsorted, malformed, or does not cover the time that was asked for."""


class PolicyFileError(InputError):
    """A policy file is truncated, altered, or made for other observations, actions or catalog."""


class UsageError(InputError):
    """A command or function was called with arguments that do not go together."""


class RunError(ProvisorError):
    """A run was started correctly and did not finish, or a check found a difference."""


class ClusterError(RunError):
    """The live cluster cannot be reached, refuses, or runs versions that do not fit."""


def mismatch(path: str, expected: str, got: object) -> str:
    """One line naming a field, what it must be and what it is.

    Args:
        path: Where the value stands, such as `pools[0].price_usd_per_h`; empty for the whole document.
        expected: What would be accepted, such as `a number >= 0`.
        got: The value found; shown by `repr`, cut to 80 characters.

    Example:
        >>> mismatch("pools[0].price_usd_per_h", "a number >= 0", -1)
        'pools[0].price_usd_per_h: expected a number >= 0, got -1'
    """
    value = repr(got)
    if len(value) > _SHOWN_VALUE_CHARS:
        value = value[: _SHOWN_VALUE_CHARS - 3] + "..."
    line = f"expected {expected}, got {value}"
    return f"{path}: {line}" if path else line


def shown(error: BaseException) -> str:
    """An error that is somebody else's, as it is told in one line: its type and the beginning of its text."""
    return clipped(f"{type(error).__name__}: {error}")


def clipped(text: str) -> str:
    """A text that is somebody else's, as much of it as a journal or an answer holds."""
    return text[:_SHOWN_CHARS]


def one_screen(lines: Iterable[str], limit: int = 20) -> str:
    """Lines joined by newlines; beyond `limit` the rest is replaced by a count, so that a message fits one screen.

    Args:
        lines: Any number of single lines.
        limit: Most lines shown before the count, >= 1.
    """
    every = list(lines)
    if len(every) > limit:
        every = [*every[:limit], f"... and {len(every) - limit} more"]
    return "\n".join(every)
