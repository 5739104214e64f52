"""A day by name is plain data, and stands for the same world wherever it is built."""

import pickle

import numpy as np
import pytest

from controller.errors import ScenarioError, UsageError
from controller.scenario import load_scenario
from envs.world import WorldChoice, build_world
from experiments.world_ref import WorldRef, fingerprint, named_days, world_of

DAY_TWO = WorldRef(scenario="tiny", day=2)


def test_reference_survives_a_pickle_and_equal_ones_share_a_world() -> None:
    copy = pickle.loads(pickle.dumps(DAY_TWO))
    assert copy == DAY_TWO
    assert world_of(copy) is world_of(DAY_TWO)
    assert WorldRef.model_validate_json(DAY_TWO.model_dump_json()) == DAY_TWO


def test_world_is_that_of_the_scenario_on_that_day_alone() -> None:
    expected = build_world(load_scenario("tiny"), WorldChoice(days=(2, 2)))
    world = world_of(DAY_TWO)
    assert world.days == (2,)
    assert world.scale == expected.scale
    assert np.array_equal(world.rate_rps, expected.rate_rps)
    assert np.array_equal(world.spot_share, expected.spot_share)


def test_days_without_a_choice_are_the_first_of_validation() -> None:
    assert named_days(["tiny"]) == (DAY_TWO,)


def test_every_scenario_meets_every_trace_on_every_day() -> None:
    found = named_days(["tiny", "demo"], ["a.npz", "b.csv"], (1, 2))
    assert [one.label for one in found] == [
        f"{scenario} {trace} day {day}"
        for scenario in ("tiny", "demo")
        for trace in ("a.npz", "b.csv")
        for day in (1, 2)
    ]
    assert len(set(found)) == 8


def test_day_outside_the_trace_is_refused() -> None:
    with pytest.raises(UsageError, match="days: expected A:B within 1:3 .* got '4:4'"):
        world_of(WorldRef(scenario="tiny", day=4))
    with pytest.raises(ScenarioError, match="scenario: expected one of"):
        named_days(["tinny"])


def test_fingerprint_tells_worlds_of_one_name_apart() -> None:
    scaled = WorldRef(scenario="tiny", day=2, choice=WorldChoice(scale=2.0))
    assert scaled.label == DAY_TWO.label
    here, there = fingerprint(DAY_TWO), fingerprint(scaled)
    assert {name for name in here if here[name] != there[name]} == {"arrivals"}
