"""From nothing: one request in a world without machines wakes one, or is answered by serverless."""

from dataclasses import replace

import numpy as np
import pytest

from controller.compile import Setting
from controller.loop import DecisionLoop
from controller.policies.registry import make_policy
from tests.simulated import TICK_S, World, one_request, setting_with, supply_of
from tests.tiny import FN

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # compiles the kernels

SLO_S = 200.0


def silent(*, has_serverless: bool) -> Setting:
    """No traffic is expected; requests may take longer than a launch of 60 s and a load of 10 s."""
    setting = setting_with(workload={"slo_s": np.full(2, SLO_S)})
    workload = setting.workload
    if not has_serverless:
        allowed = workload.allowed.copy()
        allowed[:, :, FN] = False
        workload = workload._replace(allowed=allowed, overflow_option=np.full(2, -1))
    scenario = setting.scenario.model_copy(update={"mean_rps": 1e-9})
    return replace(setting, scenario=scenario, workload=workload)


@pytest.mark.parametrize("has_serverless", [False, True])
def test_one_request_in_an_empty_world_is_answered(has_serverless: bool) -> None:
    setting = silent(has_serverless=has_serverless)
    seed, arrival_s, rates = one_request(9.0)
    world = World(setting, supply_of(rates)).start({}, [seed])
    world.simulator.observation.history[:] = 0.0  # nobody expected it
    loop = DecisionLoop(setting, make_policy("mpc", setting))
    launched, answered_at = 0, -1
    for tick in range(20):
        decision = loop.decide(world.simulator.observation)
        world.plan, world.shares = decision.plan, decision.shares
        for taken, wanted in zip(world.actions, decision.actions, strict=True):
            taken[...] = wanted
        if tick == 0:
            assert not decision.actions.launch.any()
        launched += int(decision.actions.launch.sum())
        if world.tick().answered.any() and answered_at < 0:
            answered_at = tick
    totals = world.simulator.totals
    assert (totals.arrivals.sum(), totals.answered.sum(), totals.missed.sum()) == (1, 1, 0)
    # Called at once, or held until the machine that it woke is there, 70 s after the tick that saw it.
    assert answered_at == (0 if has_serverless else 8)
    assert has_serverless or launched == 1
    assert arrival_s < TICK_S
