"""What the speed of the event kernel is measured on has every kind of redundancy in use."""

from dataclasses import replace

import pytest

from controller.scenario import load_scenario
from envs.world import WorldChoice, build_world
from experiments.bench_record import record
from experiments.bench_redundancy import CELLS, RedundantPolicy, redundant_setting

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # compiles the kernels


def test_requests_are_hedged_go_on_to_later_steps_and_gather_in_groups() -> None:
    scenario = load_scenario("default")
    setting = redundant_setting(scenario)
    world = replace(build_world(scenario, WorldChoice(days=scenario.splits.train), setting), setting=setting)
    recorded = record(world, RedundantPolicy(setting), num_envs=2, num_ticks=6)
    collage = setting.variant_names.index("collage")
    assert setting.catalog.cells[collage] == CELLS
    recorded.block()
    held, seen = recorded.simulator.state.held, recorded.simulator.observation
    assert held.escalated.sum() > 0
    assert held.pairs.sum() > 0
    assert seen.ready[:, collage].sum() > 0
    assert seen.busy_s[:, collage].sum() > 0
    for _, plan, _ in recorded.decisions:
        assert (plan.cascade_variant[:, 0, 1] >= 0).all()  # the guard found all of it valid
        assert (plan.collage_variant[:, 1] == collage).all()
