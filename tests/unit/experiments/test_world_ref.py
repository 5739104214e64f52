"""A day by name is plain data, and stands for the same world wherever it is built."""

import pickle

import numpy as np
import pytest
from pydantic import ValidationError

from controller.errors import ScenarioError, UsageError
from controller.scenario import load_scenario
from envs.world import WorldChoice, build_world
from experiments.suite import suite_world, tuning_day
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


def test_name_of_a_suites_trace_stands_for_its_world_and_market() -> None:
    day = named_days(["demo"], ["generated-burst"], (8, 8))[0]
    assert day == WorldRef(scenario="demo", suite_trace="generated-burst", day=8)
    assert day.label == "demo generated-burst day 8"
    expected = suite_world("demo", "generated-burst", "test", (8, 8))
    assert np.array_equal(world_of(day).rate_rps, expected.rate_rps)
    assert np.array_equal(world_of(day).spot_share, expected.spot_share)
    assert fingerprint(day.model_copy(update={"day": 7}))["market"] != fingerprint(day)["market"]


def test_suites_trace_without_days_means_its_tuning_day() -> None:
    assert named_days(["demo"], ["generated-burst"])[0].day == tuning_day("demo", "generated-burst")


def test_rate_factor_is_of_the_mean_rate() -> None:
    one, twice = (WorldRef(scenario="demo", suite_trace="generated-burst", day=8, rate_factor=f) for f in (1.0, 2.0))
    assert world_of(twice).scale == pytest.approx(2.0 * world_of(one).scale)
    assert twice.label == "demo generated-burst x2 day 8"


@pytest.mark.parametrize(
    "fields",
    [{"rate_factor": 2.0}, {"suite_trace": "twitter", "choice": WorldChoice(scale=1.0)}, {"day": 0}, {"seed": -1}],
)
def test_reference_that_says_two_things_is_refused(fields) -> None:
    with pytest.raises(ValidationError):
        WorldRef(**{"scenario": "tiny", "day": 1, **fields})
