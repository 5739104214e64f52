from dataclasses import replace

import numpy as np
import pytest

from controller.arrays import empty_actions, empty_plan
from controller.compile import compile_scenario
from controller.scenario import load_scenario
from envs.world import Cell, World
from experiments.arrivals import schedule_of


def world(cv=1.0):
    scenario = load_scenario("tiny")
    if cv != 1.0:
        arrivals = scenario.arrivals.model_copy(update={"kind": "gamma", "cv": cv})
        scenario = scenario.model_copy(update={"arrivals": arrivals})
    rates = np.array([[5.0, 0.0, 20.0, 8.0, 0.0, 3.0, 50.0, 1.0]])
    return World(
        setting=compile_scenario(scenario),
        trace_name="steps",
        scale=1.0,
        rate_rps=rates,
        bin_s=7.0,
        spot_share=np.ones((1, 1)),
        spot_gap_s=1000.0,
        days=(1,),
    )


@pytest.mark.parametrize("cv", [1.0, 2.5])
def test_requests_are_those_the_simulator_draws(cv):
    from envs.simulator import Simulator

    of = world(cv)
    cell = Cell(1, 3)
    simulator = Simulator(of.setting, of.supply(), 1)
    simulator.reset(np.array([cell.env_seed]))
    counts = []
    for _ in range(5):
        shape = of.setting.shape
        simulator.apply(empty_actions(1, shape), empty_plan(1, shape), np.zeros((1, shape[2], shape[0], shape[1])))
        counts.append(simulator.advance().arrivals[0].copy())
    schedule = schedule_of(of, cell, 0.0, 50.0)
    ticks = (schedule.arrival_s / 10.0).astype(int)
    ours = [[int(((ticks == t) & (schedule.request_class == c)).sum()) for c in range(2)] for t in range(5)]
    assert ours == np.array(counts).tolist()
    assert sum(map(sum, ours)) == len(schedule.arrival_s) > 200


def test_requests_come_in_order_and_none_where_the_rate_is_zero():
    schedule = schedule_of(world(), Cell(1, 0), 0.0, 56.0)
    assert (np.diff(schedule.arrival_s) >= 0).all()
    bins = (schedule.arrival_s / 7.0).astype(int)
    assert not np.isin(bins, [1, 4]).any()
    assert schedule.identity.tolist() == list(range(len(schedule.identity)))


def test_stretch_may_begin_anywhere_in_the_trace():
    of = world()
    later = schedule_of(of, Cell(1, 0), 14.0, 7.0)
    moved = replace(of, rate_rps=of.rate_rps[:, 2:])
    assert later.arrival_s == pytest.approx(schedule_of(moved, Cell(1, 0), 0.0, 7.0).arrival_s)
