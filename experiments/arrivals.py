"""The requests of a cell as a list: the times, classes and identities that the simulator draws under the same seed.

A unit-rate renewal process is stretched by the trace's rate. The simulator does this tick by tick inside its kernels;
a live load needs the times beforehand, so they are computed here from the same keyed draws, and a test holds both
equal.
"""

from __future__ import annotations

import math

import numpy as np

from controller.arrays import F64, SHAPE_CELLS
from controller.keyed_random import CLASS, GAP, stream_key, uniform
from envs.world import Cell, World
from serving.load import Schedule


def schedule_of(world: World, cell: Cell, start_s: float, duration_s: float) -> Schedule:
    """Requests of the first `duration_s` seconds of a cell.

    Args:
        world: Names rates, classes and the renewal process.
        cell: Its seed keys the draws.
        start_s: Trace time at which it begins.
        duration_s: Seconds to cover.
    """
    supply = world.supply()
    gaps = None if supply.gap_cv == 1.0 else supply.gap_table()
    gap_key, class_key = stream_key(cell.env_seed, GAP), stream_key(cell.env_seed, CLASS)
    edges_s, mass = _cumulative(world, start_s, duration_s)
    times: list[float] = []
    total = _gap(gaps, uniform(gap_key, 0, 0))
    while total <= mass[-1]:
        times.append(total)
        total += _gap(gaps, uniform(gap_key, len(times), 0))
    arrival_s = np.interp(np.array(times), mass, edges_s)
    cumulative = np.cumsum(world.setting.workload.share)
    draws = np.array([uniform(class_key, identity, 0) for identity in range(len(times))])
    classes = np.minimum(np.searchsorted(cumulative, draws, side="right"), len(cumulative) - 1)
    return Schedule(arrival_s, classes.astype(np.int64), np.arange(len(times), dtype=np.int64))


def _gap(table: F64 | None, draw: float) -> float:
    if table is None:
        return -math.log1p(-draw)
    at = draw * SHAPE_CELLS
    cell = int(at)
    return float(table[cell] + (table[cell + 1] - table[cell]) * (at - cell))


def _cumulative(world: World, start_s: float, duration_s: float) -> tuple[F64, F64]:
    """Times at which the rate changes, and the expected requests up to each."""
    first, last = int(start_s / world.bin_s + 1e-9), int((start_s + duration_s) / world.bin_s + 1e-9)
    bins = world.rate_rps.shape[1]
    edges_s = np.clip(np.arange(first, last + 2) * world.bin_s - start_s, 0.0, duration_s)
    rates = world.rate_rps[0, np.clip(np.arange(first, last + 1), 0, bins - 1)]
    return edges_s, np.concatenate([[0.0], np.cumsum(rates * np.diff(edges_s))])
