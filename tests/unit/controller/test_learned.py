"""The learned policy is the rule with its knobs set by the file's network, and nothing else."""

import numpy as np
import pytest

from controller.compile import compile_scenario
from controller.dial import Preferences, set_preferences
from controller.errors import PolicyFileError
from controller.loop import DecisionLoop
from controller.observation import CLIP, RuleView, encode_observation
from controller.policies.learned import LearnedPolicy, knob_references
from controller.policies.policy_file import PolicyContent, save_policy_file
from controller.policies.predictive import MpcPolicy
from controller.policies.registry import make_policy
from controller.ports import Policy
from controller.rule_arrays import KNOBS, NUM_KNOBS
from controller.scenario import load_scenario
from tests.networks import SETTINGS, forecaster, make_content, network
from tests.tiny import steady_observation


@pytest.fixture(scope="module")
def setting():
    return compile_scenario(load_scenario("tiny"))


def play(setting, policy, ticks=40, num_envs=3):
    """Plans of a policy in a simulated world, tick by tick."""
    from envs.simulator import Simulator
    from envs.world import build_world

    simulator = Simulator(setting, build_world(load_scenario("tiny"), setting=setting).supply(), num_envs)
    seen = simulator.reset(np.arange(num_envs), np.linspace(0, 40_000, num_envs))
    loop = DecisionLoop(setting, policy, num_envs)
    plans, raw = [], []
    for _ in range(ticks):
        decision = loop.decide(seen)
        plans.append([array.copy() for array in decision.plan])
        raw.append(decision.raw)
        simulator.apply(decision.actions, decision.plan, decision.shares)
        seen = simulator.advance()
    return plans, np.array(raw)


def same(plans, others):
    return all(
        np.array_equal(a, b) for one, other in zip(plans, others, strict=True) for a, b in zip(one, other, strict=True)
    )


def test_network_of_zeros_is_the_rule_bit_for_bit(setting):
    learned, raw = play(setting, LearnedPolicy(setting, make_content(setting)))
    rule, _ = play(setting, MpcPolicy(setting, SETTINGS, forecaster()))
    assert same(learned, rule)
    assert not raw.any()


def test_preferences_turn_a_running_policy_as_they_turn_the_rule(setting):
    learned, rule = LearnedPolicy(setting, make_content(setting)), MpcPolicy(setting, SETTINGS, forecaster())
    seen = steady_observation(setting, 50.0)
    plain = learned.decide(seen).need_rps[0]
    wanted = Preferences(target_attainment=0.999, weight_accuracy=4.0)
    for policy in (learned, rule):
        set_preferences(policy, wanted)
    plan, other = learned.decide(seen), rule.decide(seen)
    assert plan.need_rps[0] == other.need_rps[0] > plain
    assert np.array_equal(plan.replicas, other.replicas)


def test_network_moves_the_plan(setting):
    learned, raw = play(setting, LearnedPolicy(setting, make_content(setting, scale=0.5)))
    rule, _ = play(setting, MpcPolicy(setting, SETTINGS, forecaster()))
    assert not same(learned, rule)
    assert raw.shape == (40, 3, NUM_KNOBS)
    assert np.abs(raw).max() <= 1.0


def test_knobs_are_held_within_a_decision_interval_and_renewed_after(setting):
    ticks = setting.control.ticks_per_decision
    _, raw = play(setting, LearnedPolicy(setting, make_content(setting, scale=0.3)), ticks=3 * ticks)
    held = raw.reshape(3, ticks, 3, NUM_KNOBS)
    assert (held == held[:, :1]).all()
    assert not np.array_equal(held[0, 0], held[1, 0])


def test_knobs_are_the_networks_answer_to_the_encoded_observation(setting):
    from controller.arrays import empty_observation

    policy = LearnedPolicy(setting, make_content(setting, scale=0.3))
    observation = empty_observation(2, setting.shape)
    observation.history[1, :, -3:] = 40.0
    observation.tick[:] = (0, 3)
    view = RuleView(policy.arrays, policy.forecast, policy.state, policy.knobs, policy.dial, policy._plan)
    policy.reset(2)
    view = RuleView(policy.arrays, policy.forecast, policy.state, policy.knobs, policy.dial, policy._plan)
    encoded = encode_observation(setting, view, observation).astype(np.float64)
    assert np.abs(encoded).max() <= CLIP
    policy.decide(observation)
    values, tensors = encoded, network(0.3)
    for layer in range(3):
        values = values @ tensors[f"knobs.{layer}.weight"].T.astype(np.float64) + tensors[f"knobs.{layer}.bias"]
        values = np.tanh(values) if layer < 2 else np.clip(values, -1, 1)
    assert policy.raw_output() == pytest.approx(values, abs=1e-9)


def test_env_decides_the_same_alone_and_among_others(setting):
    # The sums of the network run in a fixed order, whatever the batch; numpy's would not.
    _, among = play(setting, LearnedPolicy(setting, make_content(setting, scale=0.5)), ticks=14, num_envs=3)
    _, alone = play(setting, LearnedPolicy(setting, make_content(setting, scale=0.5)), ticks=14, num_envs=1)
    assert np.array_equal(among[:, :1], alone)


def test_file_decides_as_the_content_it_was_saved_from(setting, tmp_path):
    content = make_content(setting, scale=0.5)
    path = tmp_path / "night.provisor"
    save_policy_file(path, content)
    policy = make_policy(str(path), setting)
    assert isinstance(policy, Policy)
    assert policy.name == "night"
    assert same(play(setting, policy, ticks=14)[0], play(setting, LearnedPolicy(setting, content), ticks=14)[0])


def test_dial_of_the_file_is_the_default_and_can_be_turned(setting):
    content = make_content(setting, dial_default=2.0)
    policy = LearnedPolicy(setting, content)
    assert policy.dial.tolist() == [2.0]
    assert LearnedPolicy(setting, content, miss_multiplier=3.0).dial.tolist() == [3.0]


def test_fixed_policy_refuses_another_catalog_and_any_does_not(setting):
    other = compile_scenario(load_scenario("demo"))
    with pytest.raises(PolicyFileError, match="catalog: fixed"):
        LearnedPolicy(other, make_content(setting, catalog="fixed"))
    assert LearnedPolicy(setting, make_content(setting, catalog="fixed")).is_known_catalog
    assert not LearnedPolicy(other, make_content(setting)).is_known_catalog


def test_other_observation_is_refused_by_name(setting):
    content = make_content(setting)
    other = content.manifest.observation.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(PolicyFileError, match="observation: expected .* got .*0000"):
        LearnedPolicy(
            setting, PolicyContent(content.manifest.model_copy(update={"observation": other}), content.tensors)
        )


def test_other_knobs_are_refused_by_name(setting):
    knobs = knob_references()
    for other in (knobs[::-1], (knobs[0].model_copy(update={"scale": 0.6}), *knobs[1:])):
        with pytest.raises(PolicyFileError, match="knobs: expected"):
            LearnedPolicy(setting, make_content(setting, knobs=other))


def test_every_knob_has_a_scale():
    assert tuple(knob.name for knob in knob_references()) == KNOBS


def test_settings_this_version_does_not_take_are_refused(setting):
    settings = {**SETTINGS.model_dump(mode="json"), "headroom": 99.0, "novelty": 1}
    with pytest.raises(PolicyFileError, match=r"(?s)headroom: expected a number <= 3.*novelty: unknown key"):
        LearnedPolicy(setting, make_content(setting, settings=settings))


def test_text_of_a_policy_file_may_replace_settings_of_its_rule(setting, tmp_path):
    path = tmp_path / "night.provisor"
    save_policy_file(path, make_content(setting))
    plain = make_policy(str(path), setting)
    turned = make_policy(f"{path}:miss_multiplier=2.5,accuracy_margin=0.01", setting)
    assert turned.dial.tolist() == [2.5]
    assert turned.settings.accuracy_margin == 0.01
    assert turned.settings.headroom == plain.settings.headroom
    assert (plain.name, turned.name) == ("night", f"{path}:miss_multiplier=2.5,accuracy_margin=0.01")
    with pytest.raises(PolicyFileError, match="nonsense"):
        make_policy(f"{path}:nonsense=1", setting)
