"""One rented instance and its phases, and what a window of the ledger counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import numpy as np

from controller.arrays import F64, I64
from controller.measurements import Span, SpanKind

RUNS = ("RUNNING", "PENDING_MIGRATION", "RECOVERING", "UPDATING")
"""States of Serve in which a replica answers: after a restart of its controller, Serve calls those it finds recovering
until it has asked each of them, and they answer all the while.
"""


class Phase(Enum):
    """What an instance is doing."""

    BOOTING = auto()  # launch, emulated or of a node; no replica yet
    LOADING = auto()  # its replica was asked for and is not running yet
    SERVING = auto()
    DOOMED = auto()  # serving under a preemption notice
    DRAINING = auto()  # finishing what it accepted


@dataclass(eq=False)
class Instance:
    """One instance: emulated, or with a node of its own."""

    option: int
    launched_s: float
    phase: Phase
    phase_since_s: float
    boots_until_s: float = 0.0
    killed_at_s: float = float("inf")
    loading: SpanKind | None = None  # what ends when it serves; None for the first fleet and after a crash
    loading_since_s: float = 0.0
    node: str = ""  # id of its node, once a replica of it is seen there; empty where instances have no nodes

    def as_json(self) -> dict[str, Any]:
        """For a checkpoint; infinity as text."""
        return {**vars(self), "phase": self.phase.name, "killed_at_s": repr(self.killed_at_s)}

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Instance:
        """What `as_json` made; KeyError, TypeError or ValueError for anything else."""
        return cls(**{**value, "phase": Phase[value["phase"]], "killed_at_s": float(value["killed_at_s"])})


@dataclass
class Window:
    """What happened in the current window, by pool (P) or bill term (T)."""

    preempted: I64
    launch_failed: I64
    spend_usd: F64
    spans: list[Span]


def bind_nodes(instances: Iterable[Instance], options: Mapping[str, int]) -> None:
    """Tells instances their nodes.

    Args:
        instances: Of a ledger.
        options: Which option's replica runs on each node.
    """
    bound: set[str] = set()
    for instance in instances:
        if options.get(instance.node) == instance.option:
            bound.add(instance.node)
        else:
            instance.node = ""
    for instance in instances:
        if not instance.node and instance.phase in (Phase.SERVING, Phase.DOOMED, Phase.DRAINING):
            free = (node for node, option in options.items() if option == instance.option and node not in bound)
            instance.node = next(free, "")
            bound.add(instance.node)


def housed(ready: Iterable[Instance], instances: Iterable[Instance], alive: I64) -> list[Instance]:
    """Of instances that boot, those that there is a node for, oldest first.

    Args:
        ready: That boot.
        instances: All of the ledger.
        alive: Living nodes by pool (P,).
    """
    num_pools = len(alive)
    held = np.zeros(num_pools, np.int64)
    for instance in instances:
        held[instance.option % num_pools] += instance.phase is not Phase.BOOTING
    found: list[Instance] = []
    for instance in sorted(ready, key=lambda i: i.launched_s):
        p = instance.option % num_pools
        if held[p] < alive[p]:
            held[p] += 1
            found.append(instance)
    return found


def reported(states: Iterable[tuple[int, str]], shape: tuple[int, int]) -> tuple[I64, I64]:
    """Running and stopping replicas, (V, P) each, from (option, Serve's state) pairs."""
    running, stopping = np.zeros(shape[0] * shape[1], np.int64), np.zeros(shape[0] * shape[1], np.int64)
    for option, state in states:
        if state in RUNS:
            running[option] += 1
        elif state == "STOPPING":
            stopping[option] += 1
    return running.reshape(shape), stopping.reshape(shape)
