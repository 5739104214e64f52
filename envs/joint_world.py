"""Several traces in one world: days of all of them side by side, so that one policy is tuned or trained on all at once.

Each cell of a joint world is one whole day of one of its parts. The parts have the same catalog, classes and limits and
differ in what arrives and in the days of the spot market; their rates are laid one after the other, each with the hour
before its first day, so that no day begins with the history of another trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from controller.arrays import F64, HISTORY_TICKS
from controller.errors import ScenarioError, mismatch
from envs.world import Cell, World, spot_key

_BIN_S = 5.0
"""Rates of joint worlds are means over this long, at speed 1: traces of a second are smoothed by as much anyway."""


@dataclass(frozen=True, eq=False)
class JointWorld(World):
    """A world whose cell `day` k is the k-th of the days that were joined, counted from 1."""

    begins_s: tuple[float, ...] = ()  # of each cell in the joint rates
    spot_spans_s: tuple[tuple[float, float], ...] = ()  # of the market that each cell draws from
    parts: tuple[tuple[str, int], ...] = ()  # trace and its own day, of each cell

    @property
    def cell_s(self) -> float:
        """Length of a cell: a day."""
        return float(self.setting.control.day_s)

    def start_s(self, cells: Sequence[Cell]) -> F64:
        """Time of the joint rates at which each cell begins, shape (N,)."""
        return np.array([self.begins_s[cell.day - 1] for cell in cells], np.float64)

    def spot_start_s(self, cells: Sequence[Cell]) -> F64:
        """Market time at which each cell begins, drawn within its part's market, shape (N,)."""
        return np.array([self._spot_start_s(cell) for cell in cells], np.float64)

    def episode_start(self, at: float, spot_at: float, length_s: float) -> tuple[float, float]:
        """Trace and market time of an episode within one of the days; every trace is as likely as any other.

        A trace of a month would else be learned from ten times as often as one of three days.

        Args:
            at: Which trace, which of its days and where in it, 0..1.
            spot_at: Where in the day's market, 0..1.
            length_s: Length of the episode.
        """
        cells = self._cells_by_trace
        place = min(at, 1.0 - 1e-12) * len(cells)
        own = cells[int(place)]
        within = (place - int(place)) * len(own)
        cell = own[min(int(within), len(own) - 1)]
        low_s, high_s = self.spot_spans_s[cell]
        start_s = self._start_in(cell, within - int(within), length_s)
        return start_s, low_s + spot_at * max(0.0, high_s - low_s - length_s)

    def stretch_start(self, at: float, length_s: float) -> tuple[int, float]:
        """Cell, counted from 0, and trace time of a stretch within it; every day is as likely as any other.

        Args:
            at: Where among all days, 0..1.
            length_s: Length of the stretch.
        """
        place = min(at, 1.0 - 1e-12) * len(self.begins_s)
        return int(place), self._start_in(int(place), place - int(place), length_s)

    def _start_in(self, cell: int, within: float, length_s: float) -> float:
        return self.begins_s[cell] + within * max(0.0, self.cell_s - length_s)

    @cached_property
    def _cells_by_trace(self) -> tuple[tuple[int, ...], ...]:
        """Cells, counted from 0, of each trace, in the order in which traces come first."""
        names = [trace for trace, _ in self.parts]
        return tuple(tuple(i for i, one in enumerate(names) if one == name) for name in dict.fromkeys(names))

    def _spot_start_s(self, cell: Cell) -> float:
        low_s, high_s = self.spot_spans_s[cell.day - 1]
        room = int((high_s - low_s - self.cell_s) / self.spot_gap_s + 1e-9)
        return low_s + float(np.random.default_rng(spot_key(cell)).integers(0, room + 1)) * self.spot_gap_s


def join_worlds(worlds: Sequence[World]) -> JointWorld:
    """One world of all days of several.

    Args:
        worlds: At least one; equal in all of their setting but trace, splits and name.

    Raises:
        ScenarioError: They differ in more than what arrives, or a day is not whole.
    """
    first = worlds[0]
    control = first.setting.control
    lead_s = HISTORY_TICKS * control.tick_s
    bin_s = _BIN_S / first.setting.scenario.speed
    rates: list[F64] = []
    spots: dict[int, tuple[World, float]] = {}
    begins: list[float] = []
    spans: list[tuple[float, float]] = []
    parts: list[tuple[str, int]] = []
    end_s = spot_end_s = 0.0
    for world in worlds:
        _check_alike(first, world)
        key = id(world.spot_share)
        if key not in spots:
            spots[key] = (world, spot_end_s)
            spot_end_s += world.spot_share.shape[1] * world.spot_gap_s
        low_s = spots[key][1]
        for run in _runs(world.days):
            from_s, to_s = (run[0] - 1) * control.day_s, run[-1] * control.day_s
            rates += [_resampled(world, from_s - lead_s, to_s, bin_s)]
            for day in run:
                begins.append(end_s + lead_s + (day - run[0]) * control.day_s)
                spans.append((low_s, low_s + world.spot_share.shape[1] * world.spot_gap_s))
                parts.append((world.trace_name, day))
            end_s += lead_s + to_s - from_s
    inherited = {one.name: getattr(first, one.name) for one in fields(World)}
    inherited |= {
        "trace_name": "+".join(dict.fromkeys(name for name, _ in parts)),
        "rate_rps": np.concatenate(rates)[None],
        "bin_s": bin_s,
        "spot_share": np.concatenate([world.spot_share for world, _ in spots.values()], axis=1),
        "days": tuple(range(1, len(begins) + 1)),
    }
    return JointWorld(**inherited, begins_s=tuple(begins), spot_spans_s=tuple(spans), parts=tuple(parts))


def _resampled(world: World, from_s: float, to_s: float, bin_s: float) -> F64:
    """Mean rates over bins of `bin_s` from `from_s` to `to_s`; before the trace's begin its first rate."""
    edges_s = np.arange(world.rate_rps.shape[1] + 1) * world.bin_s
    if to_s > edges_s[-1] + world.bin_s:
        raise ScenarioError(f"{world.trace_name}: expected whole days to join, got one that ends at {edges_s[-1]:g} s")
    cumulative = np.concatenate([[0.0], np.cumsum(world.rate_rps[0] * world.bin_s)])
    wanted_s = from_s + np.arange(round((to_s - from_s) / bin_s) + 1) * bin_s
    before = np.minimum(wanted_s, 0.0) * world.rate_rps[0, 0]
    return np.asarray(np.diff(np.interp(wanted_s, edges_s, cumulative) + before) / bin_s)


def _runs(days: Sequence[int]) -> list[list[int]]:
    """Days in groups that follow each other."""
    groups: list[list[int]] = []
    for day in days:
        if groups and day == groups[-1][-1] + 1:
            groups[-1].append(day)
        else:
            groups.append([day])
    return groups


def _check_alike(first: World, other: World) -> None:
    apart = {"name", "description", "trace", "splits", "arrivals"}
    one, two = (w.setting.scenario.model_dump(mode="json", exclude=apart) for w in (first, other))
    one["cv"], two["cv"] = first.setting.scenario.arrivals.cv, other.setting.scenario.arrivals.cv
    if first.spot_gap_s != other.spot_gap_s:
        raise ScenarioError(
            mismatch("worlds: spot", f"ticks of {first.spot_gap_s:g} s as in the first", other.spot_gap_s)
        )
    for field, value in one.items():
        if two.get(field) != value and field != "spot":
            raise ScenarioError(mismatch(f"worlds: {field}", f"as in {first.setting.scenario.name}", two.get(field)))
