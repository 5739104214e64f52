"""The suite's splits are dated and disjoint, in requests and in the market, and its tuning days follow their rule."""

from pathlib import Path

import numpy as np
import pytest

from controller.errors import UsageError
from experiments.suite import (
    HELD_OUT,
    SCENARIOS,
    SPOT_DAYS,
    TRACES,
    joint_world,
    split_of_day,
    suite_scenario,
    suite_world,
    tuning_day,
)


def test_at_least_six_traces_and_three_scenarios() -> None:
    assert len(TRACES) >= 6
    assert len(SCENARIOS) >= 3
    assert not set(TRACES) & set(HELD_OUT)


def test_no_day_of_the_market_is_in_two_splits() -> None:
    days = [set(range(first, last + 1)) for first, last in SPOT_DAYS.values()]
    assert sum(map(len, days)) == len(set.union(*days))


def test_a_day_is_in_one_split_or_named_as_in_none() -> None:
    assert split_of_day("twitter", 13) == "validation"
    with pytest.raises(UsageError, match="day"):
        split_of_day("twitter", 18)
    with pytest.raises(UsageError, match="trace: expected one of twitter"):
        suite_scenario("suite-cpu", "facebook")


def test_a_trace_is_scaled_by_its_training_days(data_dir: Path) -> None:
    for trace in TRACES:
        world = suite_world("suite-cpu", trace, "train")
        per_day = round(86_400 / world.bin_s)
        rates = world.rate_rps[0, (world.days[0] - 1) * per_day : world.days[-1] * per_day]
        # Gaps that were never recorded are bridged by a line, so the mean is near, not equal.
        assert rates.mean() == pytest.approx(world.setting.scenario.mean_rps, rel=0.03), trace


def test_test_days_lie_outside_training(data_dir: Path) -> None:
    world = suite_world("suite-cpu", "faro", "test")
    assert world.days == (10, 11)
    with pytest.raises(UsageError, match="days"):
        suite_world("suite-cpu", "faro", "test", (9, 10))


def test_the_tuning_day_is_more_demanding_than_most(data_dir: Path) -> None:
    day = tuning_day("suite-cpu", "twitter")
    assert split_of_day("twitter", day) != "test"
    world = suite_world("suite-cpu", "twitter", "train")
    ratios = {}
    for each in world.days:
        rate = world.rate_rps[0, (each - 1) * 86_400 : each * 86_400].reshape(-1, 600).mean(axis=1)
        ratios[each] = rate.max() / rate.mean()
    assert sum(ratio <= ratios[day] for ratio in ratios.values()) >= 0.6 * len(ratios)


def test_a_joint_world_has_the_days_it_was_asked_for(data_dir: Path) -> None:
    joint = joint_world("suite-cpu", {"twitter": [10], "faro": [4, 9]})
    assert [day for _, day in joint.parts] == [10, 4, 9]
    # Day 9 of faro is a validation day, whose market no training day has.
    assert joint.spot_spans_s[0] == joint.spot_spans_s[1] != joint.spot_spans_s[2]
    first = round(joint.begins_s[0] / joint.bin_s)
    rate = suite_world("suite-cpu", "twitter", "train", (10, 10)).rate_rps[0, 9 * 86_400 : 10 * 86_400]
    per_bin = round(joint.bin_s)
    expected = rate.reshape(-1, per_bin).mean(axis=1)
    assert np.allclose(joint.rate_rps[0, first : first + len(expected)], expected)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenarios_scale_with_the_rate(scenario: str) -> None:
    plain, small, large = (suite_scenario(scenario, "twitter", scale) for scale in (1.0, 0.3, 10.0))
    assert small.mean_rps == pytest.approx(0.3 * plain.mean_rps)
    assert small.changes == plain.changes
    quotas = [[pool.quota for pool in one.load_catalog().pools] for one in (plain, large)]
    assert quotas[1] == [10 * quota for quota in quotas[0]]
    limits = [[one.queue_limit for one in each.workload.classes] for each in (plain, small, large)]
    assert limits == [limits[0], limits[0], [10 * limit for limit in limits[0]]]
    assert large.simulator.max_instances == 10 * plain.simulator.max_instances
