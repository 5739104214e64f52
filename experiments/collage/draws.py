"""Latencies of the workers that serve groups of requests, drawn from the measured file in three ways.

Independent draws are the practice of the file's authors. In the file, neighbours are nearly equal: its slow entries are
mostly one run. Blocks keep such runs together, in time (a worker that is slow stays so for many groups) or in a group
(what slows one worker slows all of the group, the redundant ones too). Rotation is the remedy of either: the roles go
round among the workers from group to group, or what is redundant goes to workers of another block.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np

from controller.arrays import F64
from controller.errors import InputError

FILE = Path("collage") / "worker_latency_s.npz"
"""Within `$PROVISOR_DATA`."""

BLOCK_GROUPS = 200
"""Groups that a worker serves along one stretch of the file."""


class Kind(StrEnum):
    """How latencies are drawn."""

    INDEPENDENT = "independent"
    TIME = "blocks in time"
    TIME_ROTATED = "blocks in time, rotated"
    GROUP = "blocks in a group"
    GROUP_ROTATED = "blocks in a group, rotated"


class Draws(NamedTuple):
    """What every worker of every group takes, seconds."""

    own: F64  # (G, k) of the requests as they were first sent
    copies: F64  # (G, k) of what is sent again
    passes: F64  # (G, 2) of collages, at pass ratio 1


def read_latency_s(root: Path) -> F64:
    """The file, in its order.

    Args:
        root: What `$PROVISOR_DATA` names.

    Raises:
        InputError: It is not there.
    """
    path = root / FILE
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return np.asarray(arrays["latency_s"], np.float64)
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: expected the workers' latencies, got: {error!r}") from error


def draw(latency_s: F64, kind: Kind, k: int, num_groups: int, rng: np.random.Generator) -> Draws:
    """Latencies of groups in a row.

    Args:
        latency_s: The file, seconds.
        kind: How they are drawn.
        k: Requests of a group.
        num_groups: G.
        rng: What is drawn with.
    """
    workers = 2 * k + 2
    if kind is Kind.INDEPENDENT:
        table = rng.choice(latency_s, (num_groups, workers))
    elif kind in (Kind.TIME, Kind.TIME_ROTATED):
        table = _in_time(latency_s, num_groups, workers, rng)
        if kind is Kind.TIME_ROTATED:
            groups, roles = np.arange(num_groups)[:, None], np.arange(workers)
            table = table[groups, (groups + roles) % workers]
    else:
        starts = rng.integers(len(latency_s), size=(num_groups, 2))
        # One of each for all of a group, or another one for what is redundant.
        shift = starts[:, [0] * workers]
        if kind is Kind.GROUP_ROTATED:
            shift[:, k:] = starts[:, 1:]
        table = latency_s[(shift + np.arange(workers)) % len(latency_s)]
    return Draws(table[:, :k], table[:, k + 2 :], table[:, k : k + 2])


def _in_time(latency_s: F64, num_groups: int, workers: int, rng: np.random.Generator) -> F64:
    """Each worker along stretches of the file, which change at moments of its own; shape (G, workers)."""
    phase = rng.integers(BLOCK_GROUPS, size=workers)
    at = np.arange(num_groups)[:, None] + phase
    starts = rng.integers(len(latency_s), size=(num_groups // BLOCK_GROUPS + 2, workers))
    begins = np.take_along_axis(starts, at // BLOCK_GROUPS, axis=0)
    table: F64 = latency_s[(begins + at % BLOCK_GROUPS) % len(latency_s)]
    return table
