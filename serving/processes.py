"""Processes of this machine as `/proc` tells of them (Linux): who is whose child, and by which words it was started."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path


def child_processes(root: int | None = None) -> set[int]:
    """Ids of all processes below one (this one by default), finished ones left out; empty without `/proc`."""
    parents = _parents()
    found: set[int] = set()
    here = {os.getpid() if root is None else root}
    while here:
        here = {pid for pid, parent in parents.items() if parent in here}
        found |= here
    return found


def command_line(pid: int) -> list[str]:
    """Words that a process was started by; empty where it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return []


def command_lines() -> Iterator[tuple[int, list[str]]]:
    """Every process with the words that it was started by."""
    for entry in Path("/proc").glob("[0-9]*"):
        yield int(entry.name), command_line(int(entry.name))


def kill_tree(root: int) -> None:
    """Kills a process and all below it, the root first, so that it starts none of them anew."""
    below = sorted(child_processes(root))
    for pid in (root, *below):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _parents() -> dict[int, int]:
    """Parent of each process that has not finished."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if fields[0] != "Z":
                parents[int(entry.name)] = int(fields[1])
    return parents
