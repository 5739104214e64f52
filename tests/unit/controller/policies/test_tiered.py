"""Tiers around every policy: cascades in each plan, capacity for each step, and nothing where no class has a tier."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.dial import Adjustable, Preferences, set_preferences
from controller.loop import DecisionLoop
from controller.policies.learned import LearnedPolicy
from controller.policies.predictive import MpcPolicy
from controller.policies.registry import POLICIES, make_policy
from controller.policies.solved import SolvedPolicy
from controller.policies.tiered import TieredPolicy, bare_policy, with_tiers
from controller.ports import Explaining
from controller.rule_arrays import NUM_KNOBS
from controller.trust.again import RawReplayable
from controller.trust.candidate import is_ours
from controller.trust.drift import KnowsItsInputs
from tests.networks import SETTINGS, forecaster, make_content
from tests.tiered import ALONE, HANDED_ON, IN_TURN, mixed_setting, request_class, tiered_setting
from tests.tiny import FN, LARGE, MEDIUM, SERVICE_S, SMALL, steady_observation, tiny_setting


def rps_of(replicas):
    """Requests/s that each variant's machines answer, (N, V)."""
    return replicas[:, :, :3].sum(axis=2) / np.array(SERVICE_S)


def test_without_tiers_a_policy_is_made_as_it_is():
    assert type(make_policy("mpc", tiny_setting())) is MpcPolicy
    given = []
    with_tiers(tiny_setting(), lambda setting: given.append(setting) or MpcPolicy(setting))
    assert given[0] is tiny_setting()


@pytest.mark.parametrize("kind", POLICIES)
def test_every_policys_plan_carries_the_cascades(kind):
    setting = mixed_setting()
    policy = make_policy(kind, setting)
    plan = DecisionLoop(setting, policy, 2).decide(steady_observation(setting, 50.0, 2)).plan
    steps = [[SMALL, LARGE, -1], [SMALL, LARGE, -1], [MEDIUM, -1, -1], [-1, -1, -1]]
    np.testing.assert_array_equal(plan.cascade_variant[0], steps)
    np.testing.assert_array_equal(plan.cascade_variant[1], steps)
    assert isinstance(policy, TieredPolicy)
    assert policy.name == kind
    assert is_ours(policy) == (not isinstance(bare_policy(policy), SolvedPolicy))


@pytest.mark.parametrize("kind", ["mpc", "reactive", "hpa", "mark", "paragon", "tributary"])
def test_both_steps_of_a_cascade_get_machines_for_what_reaches_them(kind):
    setting = tiered_setting(request_class("turn", 1.0, IN_TURN))
    observation = steady_observation(setting, 50.0)
    plan = DecisionLoop(setting, make_policy(kind, setting)).decide(observation).plan
    small, medium, large = rps_of(plan.replicas)[0]
    assert small >= 0.99 * 50.0
    assert large >= 0.99 * 50.0 * HANDED_ON
    assert large < 50.0  # not for all of them
    assert medium == 0.0


@settings(max_examples=40)
@given(rps=st.floats(1.0, 150.0), cascade=st.floats(0.1, 0.9))
def test_mpc_covers_every_step_at_any_rate_and_mix(rps, cascade):
    setting = tiered_setting(request_class("turn", cascade, IN_TURN), request_class("alone", 1.0 - cascade, ALONE))
    plan = DecisionLoop(setting, make_policy("mpc", setting)).decide(steady_observation(setting, rps)).plan
    needed = rps * np.array([cascade, 1.0 - cascade, HANDED_ON * cascade])
    assert (rps_of(plan.replicas)[0] >= needed * (1 - 1e-9)).all()


@pytest.mark.parametrize("kind", ["mpc", "reactive", "paragon", "tributary"])  # which wait for nothing
def test_once_a_tier_is_demoted_the_best_version_gets_machines_for_all_its_requests(kind):
    setting = tiered_setting(request_class("turn", 0.5, IN_TURN), request_class("alone", 0.5, ALONE))
    loop = DecisionLoop(setting, make_policy(kind, setting))
    observation = steady_observation(setting, 50.0)
    before = rps_of(loop.decide(observation).plan.replicas)[0].copy()
    observation.demoted[:] = True
    after = rps_of(loop.decide(observation).plan.replicas)[0]
    assert before[LARGE] < 50.0 <= after[LARGE] / 0.99
    assert before[[SMALL, MEDIUM]].min() >= 0.99 * 25.0


def test_shares_of_a_cascade_send_each_step_to_its_variants_machines():
    setting = tiered_setting(request_class("turn", 1.0, IN_TURN))
    observation = steady_observation(setting, 50.0)
    loop = DecisionLoop(setting, make_policy("mpc", setting))
    observation.ready[:] = loop.decide(observation).plan.replicas
    by_variant = loop.decide(observation).shares[0, 0].sum(axis=1)
    np.testing.assert_allclose(by_variant, [0.5, 0.0, 0.5])  # each step is drawn by itself


def test_while_nothing_serves_every_step_has_its_own_serverless_option():
    setting = tiered_setting(request_class("turn", 1.0, IN_TURN))
    shares = DecisionLoop(setting, make_policy("mpc", setting)).decide(steady_observation(setting, 50.0)).shares
    # Else a request that the first step is not sure of could not be handed on, and its answer would stand.
    expected = np.zeros(setting.shape[:2])
    expected[[SMALL, LARGE], FN] = 0.5
    np.testing.assert_array_equal(shares[0, 0], expected)


def test_a_policy_keeps_its_dial_and_says_what_each_step_needs():
    setting = mixed_setting()
    policy = make_policy("mpc", setting)
    assert isinstance(policy, Adjustable)
    assert not isinstance(make_policy("reactive", setting), Adjustable)
    observation = steady_observation(setting, 50.0)
    before = policy.decide(observation).replicas.sum()
    set_preferences(policy, Preferences(target_attainment=0.9999))
    assert policy.decide(observation).replicas.sum() != before
    assert isinstance(policy, Explaining)
    assert policy.explain(observation)["need_rps turn.2"] > 0.0
    assert make_policy("reactive", setting).explain(observation) == {}


def test_a_learned_policy_sees_the_steps_and_a_network_of_zeros_is_its_rule():
    setting = mixed_setting()
    content = make_content(setting)
    learned = with_tiers(setting, lambda rows: LearnedPolicy(rows, content))
    rule = with_tiers(setting, lambda rows: MpcPolicy(rows, SETTINGS, forecaster()))
    observation = steady_observation(setting, 50.0)
    for found, expected in zip(learned.decide(observation), rule.decide(observation), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert isinstance(learned, KnowsItsInputs)
    assert not isinstance(rule, KnowsItsInputs)
    assert isinstance(learned, RawReplayable)
    assert np.isfinite(learned.features(observation)).all()
    forced = np.full((1, NUM_KNOBS), 0.5)
    learned.force_raw(forced)
    before = rule.decide(observation).replicas.sum()
    assert learned.decide(observation).replicas.sum() > before
    assert learned.is_known_catalog
