"""Days of several traces stand side by side in one world, each with its own history and market."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from controller.arrays import HISTORY_TICKS
from controller.errors import ScenarioError
from envs.joint_world import JointWorld, join_worlds
from envs.world import Cell, World, WorldChoice, build_world

DAY_S = 86_400.0


def world(make_setting: Callable, days: tuple[int, ...], level: float, spot_ticks: int = 2 * 288) -> World:
    """Days of `level` + day requests/s, and a market of 300 s ticks that offers level / 10 of the quota."""
    setting = make_setting()
    built = build_world(setting.scenario, WorldChoice(days=(1, 1)), setting)
    rates = np.repeat(level + np.arange(1, max(days) + 1), 1440)[None].astype(float)
    spot = np.full((built.spot_share.shape[0], spot_ticks), level / 10)
    return replace(
        built, rate_rps=rates, bin_s=60.0, spot_share=spot, spot_gap_s=300.0, days=days, trace_name=f"level-{level:g}"
    )


@pytest.fixture
def joint(make_setting: Callable) -> JointWorld:
    return join_worlds([world(make_setting, (2, 3), 1.0), world(make_setting, (1, 3), 5.0)])


def test_each_cell_is_a_day_of_its_own_trace(joint: JointWorld) -> None:
    assert joint.parts == (("level-1", 2), ("level-1", 3), ("level-5", 1), ("level-5", 3))
    assert joint.days == (1, 2, 3, 4)
    for begin_s, rate in zip(joint.begins_s, (3.0, 4.0, 6.0, 8.0), strict=True):
        first, last = round(begin_s / joint.bin_s), round((begin_s + DAY_S) / joint.bin_s)
        assert joint.rate_rps[0, first:last] == pytest.approx(rate)


def test_a_day_begins_with_the_history_of_its_own_trace(joint: JointWorld) -> None:
    cells = [Cell(day, 0) for day in joint.days]
    history = joint.history(cells).sum(axis=1)
    tick_s = joint.setting.control.tick_s
    assert history.shape == (4, HISTORY_TICKS)
    # The day before; day 1 has none, so its own first rate stands there.
    for row, rate in zip(history, (2.0, 3.0, 6.0, 7.0), strict=True):
        assert row == pytest.approx(rate * tick_s)


def test_a_cell_draws_from_the_market_of_its_own_part(joint: JointWorld) -> None:
    for cell in (Cell(day, seed) for day in joint.days for seed in range(5)):
        begin = round(float(joint.spot_start_s([cell])[0]) / joint.spot_gap_s)
        offered = joint.spot_share[:, begin : begin + 288]
        assert offered.shape[1] == 288
        assert (offered == (0.1 if cell.day <= 2 else 0.5)).all()


def test_equal_markets_are_held_once(make_setting: Callable) -> None:
    one, two = world(make_setting, (1,), 1.0), world(make_setting, (1,), 5.0)
    joint = join_worlds([one, replace(two, spot_share=one.spot_share)])
    assert joint.spot_share.shape == one.spot_share.shape
    assert joint.spot_spans_s[0] == joint.spot_spans_s[1]


@pytest.mark.parametrize("at", [0.0, 0.2499, 0.25, 0.6, 0.999, 1.0])
def test_an_episode_lies_within_one_day_and_its_market(joint: JointWorld, at: float) -> None:
    length_s = 7200.0
    start_s, spot_s = joint.episode_start(at, 1.0, length_s)
    cell = min(int(at * 4), 3)
    assert joint.begins_s[cell] <= start_s <= joint.begins_s[cell] + DAY_S - length_s
    low_s, high_s = joint.spot_spans_s[cell]
    assert low_s <= spot_s <= high_s - length_s


def test_worlds_that_differ_in_more_than_traffic_are_refused(make_setting: Callable) -> None:
    one, two = world(make_setting, (1,), 1.0), world(make_setting, (1,), 5.0)
    other = two.setting.scenario.model_copy(update={"mean_rps": 99.0})
    with pytest.raises(ScenarioError, match="worlds: mean_rps"):
        join_worlds([one, replace(two, setting=replace(two.setting, scenario=other))])
    with pytest.raises(ScenarioError, match="worlds: spot"):
        join_worlds([one, replace(two, spot_gap_s=60.0)])


def test_half_a_day_cannot_be_joined(make_setting: Callable) -> None:
    one = world(make_setting, (1,), 1.0)
    with pytest.raises(ScenarioError, match="whole days"):
        join_worlds([replace(one, rate_rps=one.rate_rps[:, :700])])


def test_traces_of_one_day_and_of_many_are_met_equally_often(make_setting: Callable) -> None:
    joint = join_worlds([world(make_setting, (1,), 1.0), world(make_setting, (1, 2, 3, 4), 5.0)])
    places = (np.arange(800) + 0.5) / 800
    starts_s = np.array([joint.episode_start(float(at), 0.0, 7200.0)[0] for at in places])
    cells = np.searchsorted(joint.begins_s, starts_s, side="right") - 1
    # Half of the episodes are of the first trace's only day; the other half are an eighth for each of four days.
    assert np.bincount(cells).tolist() == [400, 100, 100, 100, 100]
    assert [joint.stretch_start(at, 0.0)[0] for at in (0.0, 0.2, 0.5, 1.0)] == [0, 1, 2, 4]
