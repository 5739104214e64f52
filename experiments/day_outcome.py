"""What a policy comes to on one day: the unit of work that tuning hands to its workers."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pydantic import JsonValue

from controller.errors import InputError
from controller.policies.registry import PolicySpec
from controller.policies.solved import SolvedPolicy
from controller.policies.tiered import bare_policy
from controller.ports import Policy
from envs.world import World
from experiments.clairvoyant import policy_in
from experiments.objective import Outcome
from experiments.world_ref import WorldRef, replay_of, world_of


@dataclass(frozen=True)
class DayJob:
    """A policy, by kind and settings, on a day."""

    kind: str
    settings: dict[str, JsonValue]
    world: WorldRef


@dataclass(frozen=True, eq=False)
class DayOutcome:
    """What happened, or why these settings cannot be run."""

    outcome: Outcome | None
    seconds: float  # of this worker's processor
    failure: str = ""
    solver: dict[str, int] | None = None  # of a policy that solves programs: how many, and how they ended


def run_day(job: DayJob) -> DayOutcome:
    """Runs a policy for a whole day.

    Settings that the policy refuses are an outcome too, since a search proposes such; a world that cannot be built is
    an error.

    Raises:
        ProvisorError: The world is wrong.
    """
    began_s = time.process_time()
    world = world_of(job.world)
    try:
        policy = policy_for(job.kind, job.settings, world)
    except InputError as error:
        return DayOutcome(None, time.process_time() - began_s, str(error))
    outcome = replay_of(job.world).outcome(policy)
    bare = bare_policy(policy)
    solver = bare.counts()._asdict() if isinstance(bare, SolvedPolicy) else None
    return DayOutcome(outcome, time.process_time() - began_s, solver=solver)


def policy_for(kind: str, settings: dict[str, JsonValue], world: World) -> Policy:
    """The policy that settings stand for in a world.

    Args:
        kind: Of the registry, or `module:Class`.
        settings: As in a policy's YAML file.
        world: What it decides for.

    Raises:
        ConfigError: The settings are refused.
    """
    return policy_in(world, world.cells((0,)), PolicySpec(kind=kind, settings=settings))
