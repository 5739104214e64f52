"""One day of a simulated world by name: plain data that a worker builds the world from, once per process."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from pydantic import Field, JsonValue

from controller.compile import Setting, compile_scenario
from controller.config import StrictModel
from controller.scenario import load_scenario
from envs.world import World, WorldChoice, build_world
from experiments.stretches import Replay

_MOST_HELD = 64  # worlds and replays per process; a trace is some 10 MB


class WorldRef(StrictModel):
    """A day of a scenario under a seed; equal ones give equal requests, service times and market everywhere."""

    scenario: str = Field(description="name of a shipped scenario or path of one")
    choice: WorldChoice = Field(
        default=WorldChoice(), description="replaces trace, scale or market; `days` is not read"
    )
    day: int = Field(ge=1, description="day of the trace, 1-based")
    seed: int = Field(default=0, ge=0, description="of requests, service times and market")

    @property
    def label(self) -> str:
        """Name in tables and messages."""
        parts = [Path(self.scenario).stem]
        if self.choice.trace is not None:
            parts.append(Path(self.choice.trace).name)
        return " ".join([*parts, f"day {self.day}"])


def world_of(ref: WorldRef) -> World:
    """The world, with that day as its only one; built on the first call in a process.

    Raises:
        ProvisorError: The scenario, its files or the day are wrong.
    """
    return _world_of(ref)


def replay_of(ref: WorldRef) -> Replay:
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
        traces: In place of the scenarios' own; none: their own.
        days: 1-based, both ends included; None: the first of each scenario's validation days.
    """
    found = []
    for scenario in scenarios:
        first = load_scenario(scenario).splits.validation[0]
        first, last = days or (first, first)
        choices = [WorldChoice(trace=trace) for trace in traces] or [WorldChoice()]
        found += [
            WorldRef(scenario=scenario, choice=choice, day=day) for choice in choices for day in range(first, last + 1)
        ]
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
    choice = ref.choice.model_copy(update={"days": (ref.day, ref.day)})
    setting = _setting_of(ref.scenario)
    return build_world(setting.scenario, choice, setting)


@lru_cache(_MOST_HELD)
def _setting_of(scenario: str) -> Setting:
    return compile_scenario(load_scenario(scenario))


@lru_cache(_MOST_HELD)
def _replay_of(ref: WorldRef) -> Replay:
    return Replay(world_of(ref), ref.seed)
