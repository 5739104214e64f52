"""Every scheme plans for every shipped scenario, in silence, under load and with its spot market closed."""

import functools
from importlib import resources

import numpy as np
import pytest

from controller.arrays import SERVERLESS, SPOT
from controller.compile import Setting, compile_scenario
from controller.policies.registry import make_policy
from controller.rival_arrays import SCHEMES
from controller.scenario import load_scenario
from tests.tiny import steady_observation

SCENARIOS = sorted(file.name.removesuffix(".yaml") for file in (resources.files("controller") / "scenarios").iterdir())
LEVERS = "spot_share=0.8,over_provision=1.2,spot_spread=0.3,on_demand_floor=0.1"


@functools.cache
def shipped(name: str) -> Setting:
    return compile_scenario(load_scenario(name))


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("kind", SCHEMES)
def test_capacity_follows_demand_on_every_shipped_scenario(kind: str, name: str) -> None:
    setting = shipped(name)
    machines = setting.catalog.market != SERVERLESS
    specs = [kind] if kind == "paragon" else [kind, f"{kind}:{LEVERS}", f"{kind}:{LEVERS},adaptive_variant=true"]
    for spec in specs:
        policy = make_policy(spec, setting)
        policy.reset(3)
        obs = steady_observation(setting, setting.scenario.mean_rps, num_envs=3)
        obs.history[1] = 0.0
        obs.available[2, setting.catalog.market == SPOT] = False
        plan = policy.decide(obs)
        capacity = (plan.replicas * policy._arrays.rps * machines).sum(axis=(1, 2))
        assert capacity[0] >= 0.99 * setting.scenario.mean_rps, spec
        assert capacity[2] >= 0.99 * setting.scenario.mean_rps or kind == "ribbon", spec
        assert (plan.replicas.sum(axis=1) <= np.maximum(setting.limits.pool_max, 1)).all(), spec
        assert not plan.replicas[:, :, ~machines].any(), spec
