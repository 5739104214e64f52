"""One day of a simulated world by name: plain data that a worker builds the world from, once per process."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from pydantic import Field, JsonValue, model_validator

from controller.compile import Setting
from controller.config import StrictModel
from controller.errors import mismatch
from controller.scenario import load_scenario
from envs.world import World, WorldChoice, build_world, world_setting
from experiments.stretches import Replay
from experiments.suite import GENERATED, HELD_OUT, TRACES, split_of_day, suite_world, tuning_day

ALL_TRACES = (*TRACES, *GENERATED, *HELD_OUT)
"""Names that stand for a suite's trace instead of a file."""

_MOST_HELD = 64  # worlds and replays per process; a trace is some 10 MB


class WorldRef(StrictModel):
    """A day of a scenario under a seed; equal ones give equal requests, service times and market everywhere."""

    scenario: str = Field(description="name of a shipped scenario or path of one")
    suite_trace: str | None = Field(
        default=None, description="trace of the suite in place of the scenario's; the market is that of the day's split"
    )
    rate_factor: float = Field(default=1.0, gt=0, description="of the scenario's mean rate, with a suite's trace")
    choice: WorldChoice = Field(
        default=WorldChoice(), description="replaces trace, scale or market; `days` is not read"
    )
    day: int = Field(ge=1, description="day of the trace, 1-based")
    seed: int = Field(default=0, ge=0, description="of requests, service times and market")

    @model_validator(mode="after")
    def _one_trace(self) -> WorldRef:
        if self.suite_trace is None and self.rate_factor != 1.0:
            raise ValueError(mismatch("rate_factor", "1 without a suite's trace", self.rate_factor))
        if self.suite_trace is not None and self.choice != WorldChoice():
            raise ValueError(mismatch("choice", "nothing beside a suite's trace", self.choice.model_dump()))
        return self

    @property
    def label(self) -> str:
        """Name in tables and messages."""
        parts = [Path(self.scenario).stem]
        if self.suite_trace is not None:
            parts.append(self.suite_trace if self.rate_factor == 1.0 else f"{self.suite_trace} x{self.rate_factor:g}")
        if self.choice.trace is not None:
            parts.append(Path(self.choice.trace).name)
        return " ".join([*parts, f"day {self.day}"])


def world_of(ref: WorldRef) -> World:
    """The world, with that day as its only one; built on the first call in a process.

    Raises:
        ProvisorError: The scenario, its files or the day are wrong.
    """
    return _world_of(ref)


def replay_of(ref: WorldRef) -> Replay[World]:
    """Judges policies on that day; made on the first call in a process.

    Raises:
        ProvisorError: As `world_of`.
    """
    return _replay_of(ref)


def named_days(
    scenarios: Sequence[str], traces: Sequence[str] = (), days: tuple[int, int] | None = None
) -> tuple[WorldRef, ...]:
    """Every scenario with every trace on every day.

    Args:
        scenarios: Names or paths.
        traces: Names of the suite's traces, or files, in place of the scenarios' own; none: their own.
        days: 1-based, both ends included; None: of a suite's trace its tuning day, else the first of the scenario's
            validation days.
    """
    found = []
    for scenario in scenarios:
        for trace in traces or (None,):
            is_suite = trace in ALL_TRACES
            if days is not None:
                first, last = days
            elif is_suite:
                first = last = tuning_day(scenario, str(trace))
            else:
                first = last = load_scenario(scenario).splits.validation[0]
            trace_fields = {"suite_trace": trace} if is_suite else {"choice": WorldChoice(trace=trace)}
            found += [WorldRef(scenario=scenario, day=day, **trace_fields) for day in range(first, last + 1)]
    return tuple(found)


def fingerprint(ref: WorldRef) -> dict[str, JsonValue]:
    """What a world is made of, short: two that differ in it give other results under the same name."""
    world = world_of(ref)
    scenario = world.setting.scenario.model_dump_json(exclude={"description"})
    return {
        "scenario": hashlib.sha256(scenario.encode()).hexdigest()[:16],
        "catalog": str(world.setting.source.fingerprint),
        "arrivals": hashlib.sha256(world.rate_rps.tobytes()).hexdigest()[:16],
        "market": hashlib.sha256(world.spot_share.tobytes()).hexdigest()[:16],
    }


@lru_cache(_MOST_HELD)
def _world_of(ref: WorldRef) -> World:
    if ref.suite_trace is not None:
        split = split_of_day(ref.suite_trace, ref.day)
        return suite_world(ref.scenario, ref.suite_trace, split, (ref.day, ref.day), ref.rate_factor)
    choice = ref.choice.model_copy(update={"days": (ref.day, ref.day)})
    setting = _setting_of(ref.scenario)
    return build_world(setting.scenario, choice, setting)


@lru_cache(_MOST_HELD)
def _setting_of(scenario: str) -> Setting:
    return world_setting(load_scenario(scenario))


@lru_cache(_MOST_HELD)
def _replay_of(ref: WorldRef) -> Replay[World]:
    return Replay(world_of(ref), ref.seed)
