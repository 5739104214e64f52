"""The rule that is told the rate to come: it knows a step before it happens, and nothing told changes nothing."""

from dataclasses import fields, replace

import numpy as np
import pytest

from controller.arrays import empty_observation
from controller.errors import ConfigError, UsageError
from controller.policies.predictive import MpcPolicy, MpcSettings
from controller.policies.registry import PolicySpec
from controller.scenario import load_scenario
from envs.world import Cell, World, build_world
from experiments.clairvoyant import CLAIRVOYANT, ClairvoyantMpc, policy_in
from experiments.day_outcome import DayJob, run_day
from experiments.rollout import prepare, roll
from experiments.stretches import Replay, stretched
from experiments.world_ref import WorldRef

STEP_S = 1000.0


@pytest.fixture(scope="module")
def world():
    return build_world(load_scenario("tiny"))


@pytest.fixture(scope="module")
def stepped(world):
    """10 requests/s until 1000 s, 40 after."""
    bins = np.arange(world.rate_rps.shape[1]) * world.bin_s
    return replace(world, rate_rps=np.where(bins < STEP_S, 10.0, 40.0)[None], days=(1,))


def seen_at(world, tick):
    """A minute of 10 requests/s has just passed."""
    observation = empty_observation(1, world.setting.shape)
    observation.tick[:] = tick
    observation.history[0] = 100.0 * world.setting.workload.share[:, None]
    observation.available[:] = True
    return observation


def test_a_step_is_known_a_horizon_before_it_and_not_earlier(stepped):
    # Horizon 200 s, ticks of 10 s: told 40 from tick 80 (800 s) on; the rate now stays 10 until tick 100.
    policy = ClairvoyantMpc(stepped, [Cell(1, 0)])
    told = []
    for tick in (60, 78, 81, 99, 100):
        policy.decide(seen_at(stepped, tick))
        told.append(policy.state.told[0].tolist())
    assert told == [[10.0, 10.0], [10.0, 10.0], [10.0, 40.0], [10.0, 40.0], [40.0, 40.0]]


def test_nothing_behind_the_end_of_a_cell_is_told(stepped):
    # A cell of 900 s ends before the step at 1000 s, which at 850 s is within the horizon.
    policy = ClairvoyantMpc(Short(**{one.name: getattr(stepped, one.name) for one in fields(World)}), [Cell(1, 0)])
    policy.decide(seen_at(stepped, 85))
    assert policy.state.told[0].tolist() == [10.0, 10.0]


def test_what_is_told_ahead_is_what_is_told_then(stepped):
    policy = ClairvoyantMpc(stepped, [Cell(1, 0)])
    ahead = policy.told_ahead(seen_at(stepped, 75), 30)
    told = []
    for tick in range(75, 105):
        policy.prepare(seen_at(stepped, tick))
        told.append(policy.state.told.copy())
    np.testing.assert_array_equal(ahead, told)
    assert len({tuple(row) for row in ahead[:, 0].tolist()}) == 3


class Short(World):
    """Cells of 900 s."""

    @property
    def cell_s(self):
        return 900.0


def test_capacity_is_planned_for_what_is_told(stepped):
    policy = ClairvoyantMpc(stepped, [Cell(1, 0)], MpcSettings(headroom=1.0))
    before = float(policy.decide(seen_at(stepped, 60)).need_rps[0])
    after = float(policy.decide(seen_at(stepped, 85)).need_rps[0])
    assert before == pytest.approx(10.0)
    assert after == pytest.approx(40.0)


def test_nothing_told_leaves_the_rule_as_it_is_bit_for_bit(stepped):
    plans = []
    for told in (np.nan, -1.0):
        policy = MpcPolicy(stepped.setting)
        policy.state.told[:] = told
        plan = policy.decide(seen_at(stepped, 60))
        plans.append([np.array(field, copy=True) for field in plan] + [policy.state.growth.copy()])
    assert all(np.array_equal(a, b) for a, b in zip(*plans, strict=True))


def test_it_runs_where_policies_run(world):
    short = stretched(world, 2, 300.0, seed=1)
    policy = ClairvoyantMpc(short, short.cells((1,)))
    assert Replay(short, seed=1).outcome(policy).arrivals.sum() > 0
    cells = short.cells((1,))
    tally = roll(short, prepare(short, cells), ClairvoyantMpc(short, cells), ticks=3)
    assert tally.arrivals.sum() > 0


def test_another_number_of_envs_or_no_horizon_is_refused(stepped):
    with pytest.raises(UsageError, match="horizon_s"):
        ClairvoyantMpc(stepped, [Cell(1, 0)], horizon_s=0.0)
    policy = ClairvoyantMpc(stepped, [Cell(1, 0)])
    with pytest.raises(UsageError, match="one for each cell"):
        policy.reset(3)
    with pytest.raises(UsageError, match="one for each cell"):
        policy.decide(empty_observation(2, stepped.setting.shape))


def test_it_is_named_where_policies_are_and_told_of_the_cells_it_runs(world):
    cells = world.cells((0,))
    tally = roll(world, prepare(world, cells), PolicySpec(kind=CLAIRVOYANT, settings={"headroom": 1.3}), ticks=30)
    own = roll(world, prepare(world, cells), ClairvoyantMpc(world, cells, MpcSettings(headroom=1.3)), ticks=30)
    assert tally.spend_usd.tolist() == own.spend_usd.tolist()
    with pytest.raises(ConfigError, match="headroom"):
        policy_in(world, cells, PolicySpec(kind=CLAIRVOYANT, settings={"headroom": -1.0}))


def test_a_day_of_a_study_is_run_by_it():
    ref = WorldRef(scenario="tiny", day=1)
    found = run_day(DayJob(CLAIRVOYANT, {}, ref)).outcome
    rule = run_day(DayJob("mpc", {}, ref)).outcome
    assert found.arrivals.tolist() == rule.arrivals.tolist()
    assert found.cost_usd[0] != rule.cost_usd[0]


def test_a_day_says_how_the_programs_of_a_solver_ended(world):
    day = run_day(DayJob("infadapter", {"replan_s": 600.0}, WorldRef(scenario="tiny", day=1)))
    assert day.solver["solves"] >= 1
    assert run_day(DayJob("mpc", {}, WorldRef(scenario="tiny", day=1))).solver is None
    cells = world.cells((0,))
    tally = roll(world, prepare(world, cells), "infadapter", ticks=12)
    assert tally.row(0, policy="p", trace="t", day=1, seed=0).solver["solves"] >= 2
