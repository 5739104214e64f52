"""The composition root of a simulated world: a scenario's trace and spot references become arrays on common clocks.

Two ideas are needed to read it. The rate is scaled by one constant, taken from the scenario's training days, or, for a
trace named on the command line, from all its recorded bins; the days that are evaluated never set it. And a *cell* is
one day under one seed: requests, service times and the market of a cell are the same whatever policy meets them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from controller.arrays import F64, HISTORY_TICKS
from controller.compile import Setting, compile_scenario
from controller.config import StrictModel
from controller.errors import ScenarioError, TraceError, UsageError, mismatch
from controller.scenario import DayRange, Scenario
from traces.generator import generate
from traces.intensity import intensity_of
from traces.readers import read_trace
from traces.spot import SpotAvailability, read_spot
from traces.spot_generator import STORM, generate_spot
from traces.trace import Trace

if TYPE_CHECKING:
    from envs.supply import Supply

DATA_VARIABLE = "PROVISOR_DATA"
_SPOT_STREAM = 0x5B07
_RAMP_S = 10.0
_SHORTEST_S = 600.0  # percentiles of fewer requests say nothing


class WorldChoice(StrictModel):
    """What a command line or run file puts in place of the scenario's own trace and market."""

    trace: str | None = None
    days: DayRange | None = None
    scale: float | None = None
    spot: str | None = None
    spot_days: DayRange | None = None


@dataclass(frozen=True)
class Cell:
    """One day under one seed."""

    day: int  # 1-based day of the trace
    seed: int

    @property
    def env_seed(self) -> int:
        """Seed of the cell's requests and draws; days of one seed are independent."""
        return int(np.random.SeedSequence([self.seed, self.day]).generate_state(1, np.uint64)[0] >> np.uint64(1))


@dataclass(frozen=True, eq=False)
class World:
    """A setting with what arrives in it and what the market offers; times in seconds of the (speeded) world."""

    setting: Setting
    trace_name: str
    scale: float  # constant the trace's rate was multiplied by
    rate_rps: F64  # (1, bins)
    bin_s: float
    spot_share: F64  # (Z, ticks) share of a pool's quota that its zone offers, 0..1, zones in the setting's order
    spot_gap_s: float
    days: tuple[int, ...]  # 1-based days to run

    @property
    def cell_s(self) -> float:
        """Length of a cell: a day, or the whole trace where that is shorter."""
        return float(min(self.setting.control.day_s, self.rate_rps.shape[1] * self.bin_s))

    @property
    def cell_ticks(self) -> int:
        """Whole ticks of a cell."""
        return int(self.cell_s / self.setting.control.tick_s + 1e-9)

    def cells(self, seeds: Sequence[int]) -> list[Cell]:
        """Every day under every seed, days first."""
        return [Cell(day, seed) for seed in seeds for day in self.days]

    def start_s(self, cells: Sequence[Cell]) -> F64:
        """Trace time at which each cell begins, shape (N,)."""
        return np.array([(cell.day - 1) * self.setting.control.day_s for cell in cells], np.float64)

    def spot_start_s(self, cells: Sequence[Cell]) -> F64:
        """Market time at which each cell begins, drawn by day and seed over all starts that leave room, shape (N,)."""
        room = int((self.spot_share.shape[1] * self.spot_gap_s - self.cell_s) / self.spot_gap_s + 1e-9)
        draws = [np.random.default_rng(spot_key(cell)).integers(0, room + 1) for cell in cells]
        return np.array(draws, np.float64) * self.spot_gap_s

    def episode_start(self, at: float, spot_at: float, length_s: float) -> tuple[float, float]:
        """Trace and market time of an episode within the days.

        Args:
            at: Where among all starts that leave room, 0..1.
            spot_at: Where in the market, likewise.
            length_s: Length of the episode.
        """
        day_s = self.setting.control.day_s
        first_s = (self.days[0] - 1) * day_s
        last_s = min(self.days[-1] * day_s, self.rate_rps.shape[1] * self.bin_s)
        spot_s = self.spot_share.shape[1] * self.spot_gap_s
        return first_s + at * max(0.0, last_s - first_s - length_s), spot_at * max(0.0, spot_s - length_s)

    def history(self, cells: Sequence[Cell]) -> F64:
        """Expected arrivals per tick of the hour before each cell, (N, C, H), laid out as at tick 0.

        Before the trace's begin its first rate is taken.
        """
        tick_s = self.setting.control.tick_s
        ages = np.arange(HISTORY_TICKS)
        slots = (-1 - ages) % HISTORY_TICKS
        cumulative = np.concatenate([[0.0], np.cumsum(self.rate_rps[0] * self.bin_s)])
        edges_s = np.arange(cumulative.size) * self.bin_s
        history = np.zeros((len(cells), self.setting.shape[2], HISTORY_TICKS))
        for env, start_s in enumerate(self.start_s(cells)):
            ends_s = start_s - ages * tick_s
            counts = np.interp(ends_s, edges_s, cumulative) - np.interp(ends_s - tick_s, edges_s, cumulative)
            counts[ends_s - tick_s < -1e-9] = self.rate_rps[0, 0] * tick_s
            history[env][:, slots] = self.setting.workload.share[:, None] * counts
        return history

    def supply(self) -> Supply:
        """The arrays the simulator reads."""
        from envs.supply import Supply

        return Supply(
            rate_rps=self.rate_rps,
            rate_bin_s=self.bin_s,
            spot_share=self.spot_share,
            spot_bin_s=self.spot_gap_s,
            gap_cv=self.setting.scenario.arrivals.cv,
        )


def spot_key(cell: Cell) -> np.random.SeedSequence:
    """What the place of a cell in the spot market is drawn from."""
    return np.random.SeedSequence([cell.seed, cell.day, _SPOT_STREAM])


def build_world(scenario: Scenario, choice: WorldChoice | None = None, setting: Setting | None = None) -> World:
    """Resolves a scenario.

    Args:
        scenario: The scenario.
        choice: What replaces its trace, days, scale, or market.
        setting: Its compiled form, where there is one already.

    Raises:
        ProvisorError: A file is missing or damaged, days lie outside it, or `$PROVISOR_DATA` is needed and not set.
    """
    choice = choice or WorldChoice()
    setting = world_setting(scenario) if setting is None else setting
    trace, scale, days = _load(scenario, choice)
    # Between the bins of a coarse trace the rate is ramped: a minute's count says nothing of a step at its begin.
    bin_s = min(trace.bin_seconds, _RAMP_S)
    rates = intensity_of(trace, bin_s=bin_s, smooth_s=max(scenario.arrivals.smooth_s, trace.bin_seconds))
    spot, most = _spot(scenario, choice)
    rows = list(spot.assign_zones(setting.zones).values())
    world = World(
        setting=setting,
        trace_name=trace.name,
        scale=scale,
        rate_rps=np.ascontiguousarray(rates.rate_rps * scale),
        bin_s=rates.bin_s / scenario.speed,
        spot_share=np.ascontiguousarray(spot.capacity[rows] / most, np.float64),
        spot_gap_s=spot.gap_s / scenario.speed,
        days=days,
    )
    if setting.zones and world.spot_share.shape[1] * world.spot_gap_s < world.cell_s:
        hours = spot.duration_s / 3600
        raise TraceError(f"{spot.name}: spot days: expected a market at least as long as a day, got {hours:.3g} h")
    return world


def world_setting(scenario: Scenario) -> Setting:
    """The setting in which a scenario is simulated.

    Raises:
        ScenarioError: It has a speed other than 1, and nothing tells how long replicas take at it.
        ProvisorError: As `compile_scenario`.
    """
    if scenario.speed != 1.0 and scenario.measured is None:
        raise ScenarioError(mismatch("measured", f"start_s and swap_s of a replica, at speed {scenario.speed:g}", None))
    return compile_scenario(scenario)


def expand_path(path: str, field: str) -> str:
    """The path with a leading `$PROVISOR_DATA` replaced.

    Raises:
        UsageError: The variable is not set.
    """
    for prefix in (f"${DATA_VARIABLE}", f"${{{DATA_VARIABLE}}}"):
        if path.startswith(prefix):
            root = os.environ.get(DATA_VARIABLE)
            if not root:
                raise UsageError(
                    f"{field}: expected {DATA_VARIABLE} to name the directory of the public traces, got nothing "
                    f"(needed for {path})"
                )
            return root + path[len(prefix) :]
    return path


def parse_days(text: str, field: str) -> tuple[int, int]:
    """`A:B`, or `A` for one day, as a 1-based range with both ends included.

    Raises:
        UsageError: The text has another form.
    """
    first, _, last = text.partition(":")
    last = last or first
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise UsageError(mismatch(field, "days A:B with 1 <= A <= B", text))
    return int(first), int(last)


def _load(scenario: Scenario, choice: WorldChoice) -> tuple[Trace, float, tuple[int, ...]]:
    """Trace as one row, the constant for its rate, and the days to run."""
    if choice.trace is not None:
        trace = read_trace(expand_path(choice.trace, "trace")).summed()
        training, days = trace, choice.days or (1, max(1, trace.days))
    else:
        source = scenario.trace
        equal_mean = source.kind != "file" or source.rows == "equal_mean"
        if source.kind == "file":
            rows = read_trace(expand_path(source.path, "trace.path"))
        else:
            rows = generate(source.preset, source.days, source.seed)
        for name, (first, last) in scenario.splits.model_dump().items():
            if last > rows.days:
                raise ScenarioError(
                    mismatch(f"splits.{name}", f"days within 1:{rows.days} of {rows.name}", [first, last])
                )
        part = rows.slice_days(*scenario.splits.train)
        trace, training = rows.summed(equal_mean, part), part.summed(equal_mean)
        days = choice.days or scenario.splits.test
    if days[1] > max(1, trace.days):
        raise UsageError(mismatch("days", f"A:B within 1:{max(1, trace.days)} of {trace.name}", f"{days[0]}:{days[1]}"))
    if choice.scale is None:
        scale = training.scale_for_mean(scenario.mean_rps)
    elif math.isfinite(choice.scale) and choice.scale > 0:
        scale = choice.scale
    else:
        raise UsageError(mismatch("scale", "a number > 0", choice.scale))
    if trace.duration_s < _SHORTEST_S:
        raise TraceError(f"{trace.name}: expected at least {_SHORTEST_S:g} s, got {trace.duration_s:g} s")
    return trace, scale, tuple(range(days[0], days[1] + 1))


def _spot(scenario: Scenario, choice: WorldChoice) -> tuple[SpotAvailability, int]:
    """The days of the market to draw from, and the instances that its zones give when fully open."""
    source = scenario.spot
    days = choice.spot_days
    if choice.spot is not None:
        spot = read_spot(expand_path(choice.spot, "spot"))
    elif source.kind == "file":
        spot = read_spot(expand_path(source.path, "spot.path"))
        days = days or source.days
    else:
        spot = generate_spot(source.days, source.seed, STORM if source.kind == "storm" else None)
    most = max(1, int(spot.capacity.max()))
    return spot if days is None else spot.slice_days(*days), most
