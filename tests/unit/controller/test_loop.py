"""One decision: any policy's plan is guarded, reconciled and split, the same way for one env and for many."""

from pathlib import Path

import numpy as np
import pytest

from controller.arrays import PlanArrays, empty_actions, empty_plan
from controller.compile import Setting
from controller.errors import UsageError
from controller.loop import DecisionLoop
from controller.observation import FIELDS, OBSERVATION_SIZE, RuleView, describe_observation, encode_observation
from controller.policies.predictive import MpcPolicy
from controller.policies.registry import POLICIES, PolicySpec, make_policy
from controller.ports import Policy
from controller.rule_arrays import NUM_KNOBS
from tests.strategies import random_observation
from tests.tiny import MEDIUM, OD, steady_observation, tiny_setting


class TenMedium:
    """A user's own policy."""

    name = "ten"

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    def reset(self, num_envs: int) -> None:
        self.num_envs = num_envs

    def decide(self, observation: object) -> PlanArrays:
        plan = empty_plan(self.num_envs, self.setting.shape)
        plan.replicas[:, MEDIUM, OD] = 10
        plan.overflow_fraction[:] = np.nan
        return plan

    def raw_output(self) -> np.ndarray:
        return np.zeros((self.num_envs, 0))


class WrongShape(TenMedium):
    def decide(self, observation: object) -> PlanArrays:
        return super().decide(observation)._replace(replicas=np.zeros((1, 2, 2)))


@pytest.mark.parametrize("spec", POLICIES)
def test_every_kind_is_a_policy_that_decides(spec: str) -> None:
    policy = make_policy(spec, tiny_setting())
    assert isinstance(policy, Policy)
    assert policy.name == spec
    decision = DecisionLoop(tiny_setting(), policy).decide(steady_observation(tiny_setting(), 50.0))
    assert decision.plan.replicas.sum() > 0
    np.testing.assert_array_equal(decision.actions.launch, decision.plan.replicas)
    assert decision.raw.shape == (1, NUM_KNOBS if spec == "mpc" else 0)


def test_a_policy_of_ones_own_is_guarded() -> None:
    setting = tiny_setting(limits={"pools": {"od": {"max": 4}}})
    loop = DecisionLoop(setting, TenMedium(setting))
    decision = loop.decide(steady_observation(setting, 50.0))
    assert decision.plan.replicas[0, MEDIUM, OD] == 4
    assert np.isfinite(decision.plan.overflow_fraction).all()
    assert len(loop.decide_s) == 1


def test_a_plan_of_another_shape_is_refused_by_name() -> None:
    setting = tiny_setting()
    with pytest.raises(UsageError, match="plan of policy 'ten': replicas: expected 'int64 of shape|int64 of shape"):
        DecisionLoop(setting, WrongShape(setting)).decide(steady_observation(setting, 50.0))


def test_settings_come_from_yaml_or_a_spec(tmp_path: Path) -> None:
    file = tmp_path / "calm.yaml"
    file.write_text("kind: reactive\nsettings: {headroom: 2.0}\n")
    made = make_policy(str(file), tiny_setting())
    assert made.name == "calm"
    same = make_policy(PolicySpec(kind="reactive", settings={"headroom": 2.0}), tiny_setting())
    obs = steady_observation(tiny_setting(), 50.0)
    np.testing.assert_array_equal(made.decide(obs).replicas, same.decide(obs).replicas)


def test_fused_training_call_equals_the_loop() -> None:
    from controller.kernels.decide import decide_mpc

    setting = tiny_setting()
    for seed in range(10):
        obs = random_observation(setting, seed)
        loop = DecisionLoop(setting, MpcPolicy(setting), 4)
        policy = MpcPolicy(setting)
        policy.reset(4)
        plan, actions = empty_plan(4, setting.shape), empty_actions(4, setting.shape)
        shares = np.zeros((4, 2, 3, 4))
        decide_mpc(
            setting.catalog, setting.workload, setting.limits, setting.control, policy.arrays, policy.forecast,
            policy.knobs, policy.dial, policy.state, obs, plan, actions, shares, 0, 4,
        )  # fmt: skip
        decision = loop.decide(obs)
        for first, second in zip(
            (*plan, *actions, shares), (*decision.plan, *decision.actions, decision.shares), strict=True
        ):
            assert first.tobytes() == second.tobytes()


def test_envs_do_not_see_each_other() -> None:
    setting = tiny_setting()
    obs = random_observation(setting, 3)
    together = DecisionLoop(setting, MpcPolicy(setting), 4).decide(obs)
    for n in range(4):
        alone_obs = type(obs)(*(array[n : n + 1].copy() for array in obs))
        alone = DecisionLoop(setting, MpcPolicy(setting), 1).decide(alone_obs)
        assert alone.shares[0].tobytes() == together.shares[n].tobytes()
        assert alone.plan.replicas[0].tobytes() == together.plan.replicas[n].tobytes()


def test_every_number_of_an_observation_is_declared() -> None:
    from controller.kernels.encode import encode

    setting = tiny_setting()
    policy = MpcPolicy(setting)
    obs = steady_observation(setting, 50.0)
    out = np.full((1, OBSERVATION_SIZE + 5), np.nan, np.float32)
    encode(
        setting.catalog, setting.workload, setting.control, policy.arrays, policy.forecast, policy.knobs, policy.dial,
        policy.state, obs, policy.decide(obs), out, 0, 1,
    )  # fmt: skip
    assert np.isfinite(out[0, :OBSERVATION_SIZE]).all()
    assert np.isnan(out[0, OBSERVATION_SIZE:]).all()
    assert describe_observation().count("\n") == len(FIELDS) + 1


def test_observations_say_what_they_declare() -> None:
    setting = tiny_setting()
    policy = MpcPolicy(setting)
    obs = steady_observation(setting, 50.0)
    obs.ready[0, MEDIUM, OD] = 10
    obs.missed[0, 0] = 50
    policy.knobs[0, 2] = 0.5
    policy.dial[0] = np.e
    view = RuleView(policy.arrays, policy.forecast, policy.state, policy.knobs, policy.dial, policy.decide(obs))
    encoded = encode_observation(setting, view, obs)[0]
    seen, at = {}, 0
    for field in FIELDS:
        seen[field.name] = encoded[at : at + field.size].tolist()
        at += field.size
    assert seen["level"] == pytest.approx([0.0], abs=1e-6)
    assert seen["ready"][:2] == pytest.approx([np.log(2), np.log(2)])
    assert seen["misses"] == pytest.approx([5 * 50 / 250, 5 * 50 / 500], rel=1e-3)
    assert seen["knobs"] == [0, 0, 0.5, 0, 0, 0, 0]
    assert seen["dial"] == pytest.approx([1.0])
    assert seen["delays"] == pytest.approx([70 / 120, 10 / 120])
    # on spot a request costs 0.108 / 0.36 of on demand
    assert seen["prices"][0] == pytest.approx(np.log(0.3), abs=1e-5)
