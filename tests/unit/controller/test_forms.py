"""Forms of the action besides knobs: zero is the rule bit for bit, and what is said is what is bought."""

import numpy as np
import pytest

from controller.forms import FORMS, NUM_OPTION_FEATURES, form_size, option_features, seen_size
from controller.kernels.forms import CHEAPER, REACH, SHARE_LOGIT, TOTAL, add_residuals, direct_capacity, scored_prices
from controller.observation import OBSERVATION_SIZE
from controller.policies.forms import FormPolicy
from controller.policies.predictive import MpcPolicy, MpcSettings
from tests.tiny import FN, LARGE, MEDIUM, OD, SMALL, SPOT_A, SPOT_B, steady_observation, tiny_setting

pytestmark = pytest.mark.timeout(900)  # two large kernels may have to be compiled first

SETTINGS = MpcSettings(scale_in_s=0.0, accuracy_band=0.003)
OPTIONS = 12


class Says:
    """An actor that always says the same."""

    def __init__(self, action):
        self.action = np.asarray(action, float)
        self.seen = []

    def reset(self, num_envs):
        self.num_envs = num_envs

    def act(self, seen):
        self.seen.append(seen)
        return np.tile(self.action, (len(seen), 1))


@pytest.fixture(scope="module")
def setting():
    return tiny_setting()


def decided(policy, setting, rps=50.0):
    policy.reset(2)
    return policy.decide(steady_observation(setting, rps, num_envs=2))


def form_policy(setting, form, action):
    return FormPolicy(setting, SETTINGS, None, form, Says(action))


@pytest.mark.parametrize("form", [form for form in FORMS if form != "direct"])
def test_saying_nothing_is_the_rule_bit_for_bit(setting, form):
    nothing = np.zeros(form_size(form, setting.shape))
    rule = decided(MpcPolicy(setting, SETTINGS), setting)
    found = decided(form_policy(setting, form, nothing), setting)
    for name, one, other in zip(rule._fields, rule, found, strict=True):
        assert np.array_equal(one, other), name


def test_a_residual_buys_in_its_pool_the_share_it_names(setting):
    size = form_size("residual", setting.shape)
    rule = decided(MpcPolicy(setting, SETTINGS), setting)
    action = np.zeros(size)
    action[OD] = 0.4
    found = decided(form_policy(setting, "residual", action), setting)
    rps = SETTINGS.arrays(setting).rps

    def bought(plan, pool):
        return float((plan.replicas[0, :, pool] * rps[:, pool]).sum())

    # 0.4 x REACH of the need more on demand, to whole machines; nothing is taken from where it was.
    assert bought(found, OD) - bought(rule, OD) == pytest.approx(0.4 * REACH * rule.need_rps[0], abs=20.0)
    assert bought(found, SPOT_A) + bought(found, SPOT_B) >= bought(rule, SPOT_A) + bought(rule, SPOT_B) - 20.0


def test_residuals_by_hand():
    capacity = np.array([[10.0, 30.0, 0.0], [10.0, 0.0, 0.0]])
    rps = np.array([[20.0, 20.0, 20.0], [10.0, 10.0, 0.0]])
    acted = np.array([[0.2, -1.0, 0.1]])
    market = np.array([0, 1, 1])
    add_residuals(market, rps, acted, 0, 100.0, np.empty(2), capacity)
    # Pool 0: + 0.2 x 0.5 x 100 divided as what it has; pool 1: 50 less than its 30 is nothing; pool 2: 5 of the variant
    # that it can run.
    assert capacity == pytest.approx(np.array([[15.0, 0.0, 5.0], [15.0, 0.0, 0.0]]))
    serverless = np.array([[1.0]])
    add_residuals(np.array([2]), np.array([[5.0]]), np.array([[1.0]]), 0, 100.0, np.empty(1), serverless)
    assert serverless.tolist() == [[1.0]]


def test_direct_shares_by_hand():
    usd = np.array([[1.0, 2.0], [4.0, np.inf]])
    capacity = np.empty((2, 2))
    total = direct_capacity(usd, np.zeros((1, 5)), 0, 84.0, capacity)
    # Weights 1, 1/4, 1/16: 84 / 1.3125 = 64.
    assert CHEAPER == 2.0
    assert total == 84.0
    assert capacity == pytest.approx(np.array([[64.0, 16.0], [4.0, 0.0]]))
    total = direct_capacity(usd, np.array([[0.5, -1.0, 1.0, 0.0, 1.0]]), 0, 84.0, capacity)
    assert total == pytest.approx(84.0 * np.exp(0.5 * TOTAL))
    assert capacity.sum() == pytest.approx(total)
    assert capacity[0, 1] / capacity[0, 0] == pytest.approx(0.25 * np.exp(2.0 * SHARE_LOGIT))


def test_direct_buys_the_options_it_names(setting):
    action = -np.ones(form_size("direct", setting.shape))
    action[0], action[1 + LARGE * 4 + OD] = 0.0, 1.0
    plan = decided(form_policy(setting, "direct", action), setting)
    bought = plan.replicas[0] * SETTINGS.arrays(setting).rps
    assert np.unravel_index(plan.replicas[0].argmax(), bought.shape) == (LARGE, OD)
    assert bought.sum() == pytest.approx(plan.need_rps[0], abs=20.0)
    assert plan.replicas[0, :, FN].sum() == 0
    more = decided(form_policy(setting, "direct", np.where(np.arange(13) == 0, 1.0, action)), setting)
    assert more.need_rps[0] == pytest.approx(plan.need_rps[0] * np.exp(TOTAL))


def test_scores_move_the_rule_to_what_they_call_cheap(setting):
    usd = np.array([[1.0, np.inf], [3.0, 0.5]])
    out = np.empty((2, 2))
    scored_prices(usd, np.array([[0.0, 0.7, 1.0, -1.0]]), 0, out)
    assert out == pytest.approx(np.array([[1.0, np.inf], [3.0 * np.e, 0.5 / np.e]]))
    scores = np.zeros(OPTIONS).reshape(3, 4)
    scores[:, SPOT_A], scores[:, SPOT_B] = 1.0, -1.0
    plan = decided(form_policy(setting, "per_option", scores.ravel()), setting)
    rule = decided(MpcPolicy(setting, SETTINGS), setting)
    assert rule.replicas[0, :, SPOT_A].sum() > 0
    assert plan.replicas[0, :, SPOT_A].sum() == 0
    assert plan.replicas[0, :, SPOT_B].sum() > rule.replicas[0, :, SPOT_B].sum()


def test_a_scorer_sees_each_option(setting):
    observation = steady_observation(setting, 50.0, num_envs=1)
    observation.ready[0, MEDIUM, OD] = 3
    observation.available[0, SPOT_B] = False
    policy = MpcPolicy(setting, SETTINGS)
    features = option_features(setting, policy.arrays, policy.state, observation).reshape(3, 4, NUM_OPTION_FEATURES)
    assert not features[:, FN].any()  # no machine
    assert features[:, :FN, 0].all()
    assert features[MEDIUM, OD, 3] == pytest.approx(3 * 10.0 / 50.0)
    assert features[SMALL, SPOT_A, 1] == 0.0  # the cheapest of all
    assert features[SMALL, OD, 1] == pytest.approx(np.log(0.36 / 0.108))
    assert features[LARGE, SPOT_A, 1] == pytest.approx(np.log(4.0))  # a quarter as fast
    assert features[LARGE, SPOT_A, 2] == 0.0
    assert features[:, SPOT_B, 6].tolist() == [0.0] * 3
    assert features[:, OD, 6].tolist() == [1.0] * 3


def test_an_actor_sees_observation_and_last_action_once_per_interval(setting):
    policy = form_policy(setting, "residual", [0.1, 0.0, 0.0, 0.0])
    policy.reset(1)
    for tick in (60, 61, 65, 66):
        observation = steady_observation(setting, 50.0, ticks=tick)
        policy.decide(observation)
    seen = policy._actor.seen
    assert len(seen) == 2  # at 60, 66
    assert seen[0].shape == (1, seen_size("residual", setting.shape))
    assert seen[0][0, OBSERVATION_SIZE:].tolist() == [0.0] * 4
    assert seen[1][0, OBSERVATION_SIZE:] == pytest.approx([0.1, 0.0, 0.0, 0.0])
    assert policy.raw_output().tolist() == [[0.1, 0.0, 0.0, 0.0]]
