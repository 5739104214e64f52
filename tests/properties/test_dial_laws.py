"""The preference dial: neutral is the rule itself, and every weight pulls one way only."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.arrays import PlanArrays
from controller.compile import Setting
from controller.config import parse_config
from controller.dial import Adjustable, Preferences, set_preferences
from controller.errors import ConfigError, UsageError
from controller.policies.predictive import MpcPolicy, MpcSettings
from controller.policies.registry import make_policy
from tests.strategies import random_observation, seeds
from tests.tiny import steady_observation, tiny_setting

weights = st.one_of(st.just(0.0), st.just(1.0), st.floats(0.01, 100.0))


def decided(setting: Setting, preferences: Preferences | None, past: int) -> tuple[MpcPolicy, PlanArrays]:
    policy = MpcPolicy(setting)
    policy.reset(4)
    if preferences is not None:
        policy.set_preferences(preferences)
    return policy, policy.decide(random_observation(setting, past))


@given(seeds, weights)
@settings(max_examples=30)
def test_equal_weights_and_the_promised_attainment_are_the_rule_bit_for_bit(past: int, weight: float) -> None:
    setting = tiny_setting()
    _, plain = decided(setting, None, past)
    for preferences in (
        Preferences(),
        Preferences(weight_cost=weight, weight_latency=weight, weight_accuracy=weight),
        Preferences(target_attainment=0.99),
    ):
        _, plan = decided(setting, preferences, past)
        for name, first, second in zip(PlanArrays._fields, plain, plan, strict=True):
            assert first.tobytes() == second.tobytes(), name


@given(seeds, st.floats(0.51, 0.9999), st.floats(0.51, 0.9999), weights, weights)
@settings(max_examples=60)
def test_a_higher_target_never_plans_less(past: int, one: float, other: float, cost: float, latency: float) -> None:
    setting = tiny_setting()
    low, high = (
        decided(setting, Preferences(target_attainment=t, weight_cost=cost, weight_latency=latency), past)[1]
        for t in sorted((one, other))
    )
    assert (high.need_rps >= low.need_rps).all()
    assert (high.overflow_fraction >= low.overflow_fraction).all()


@given(seeds, weights, weights, weights, weights)
@settings(max_examples=60)
def test_weights_pull_one_way_only(past: int, one: float, other: float, latency: float, accuracy: float) -> None:
    setting = tiny_setting()
    few, many = sorted((one, other))

    def moved(change: Callable[[float], Preferences]) -> tuple[np.ndarray, np.ndarray]:
        """Growth of the capacity and of the accuracy aimed at from the lower weight to the higher one."""
        (before, less), (after, more) = (decided(setting, change(weight), past) for weight in (few, many))
        return more.need_rps - less.need_rps, after.state.target_accuracy - before.state.target_accuracy

    need, aim = moved(lambda w: Preferences(weight_cost=w, weight_latency=latency, weight_accuracy=accuracy))
    assert (need <= 0.0).all()
    assert (aim <= 0.0).all()
    need, aim = moved(lambda w: Preferences(weight_latency=w, weight_accuracy=accuracy))
    assert (need >= 0.0).all()
    assert (aim == 0.0).all()
    need, aim = moved(lambda w: Preferences(weight_accuracy=w, weight_latency=latency))
    assert (need == 0.0).all()
    assert (aim >= 0.0).all()


def test_the_dial_moves_what_is_rented_and_how_right_it_is() -> None:
    setting = tiny_setting()
    obs = steady_observation(setting, 50.0)
    policy = MpcPolicy(setting)
    usd = setting.catalog.price_usd_per_s

    def bought(preferences: Preferences) -> tuple[float, float]:
        """Rental, and mean accuracy of the machines by what they answer."""
        policy.reset(1)
        set_preferences(policy, preferences)
        replicas = policy.decide(obs).replicas[0].astype(np.float64)
        rps = replicas * np.array([20.0, 10.0, 5.0])[:, None]
        return float(replicas.sum(axis=0) @ usd), float((rps.sum(axis=1) @ setting.catalog.accuracy) / rps.sum())

    plain = bought(Preferences())
    assert bought(Preferences(weight_cost=8.0))[0] < plain[0]
    assert bought(Preferences(weight_latency=8.0))[0] > plain[0]
    assert bought(Preferences(weight_accuracy=8.0))[1] > plain[1] + 0.01
    assert bought(Preferences(target_attainment=0.9999))[0] > plain[0] > bought(Preferences(target_attainment=0.8))[0]
    assert bought(Preferences()) == plain


def test_settings_stay_in_their_declared_ranges_at_every_end_of_the_dial() -> None:
    policy = MpcPolicy(tiny_setting(), MpcSettings(headroom=2.9, miss_multiplier=50.0, accuracy_margin=0.1))
    for preferences in (
        Preferences(target_attainment=0.9999, weight_cost=0.0),
        Preferences(target_attainment=0.500001, weight_latency=0.0, weight_accuracy=0.0),
    ):
        policy.set_preferences(preferences)
        parse_config(policy.settings.model_dump(), MpcSettings, "settings under preferences")


def test_a_running_policy_keeps_what_it_remembers() -> None:
    setting = tiny_setting()
    policy = MpcPolicy(setting)
    policy.decide(steady_observation(setting, 50.0))
    state = policy.state
    policy.set_preferences(Preferences(weight_latency=4.0))
    assert policy.state is state
    assert policy.dial[0] == 1.0
    policy.set_preferences(Preferences(target_attainment=0.999))
    # odds of 999 over odds of 99
    assert policy.dial[0] == pytest.approx(999 / 99)
    policy.reset(1)
    assert policy.dial[0] == pytest.approx(999 / 99)


def test_preferences_come_back_from_what_a_journal_holds() -> None:
    preferences = Preferences(target_attainment=0.995, weight_cost=2.0)
    assert parse_config(preferences.model_dump(mode="json"), Preferences, "event") == preferences


@pytest.mark.parametrize("wrong", [{"target_attainment": 0.5}, {"target_attainment": 1.0}, {"weight_cost": -1.0}])
def test_preferences_out_of_range_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        parse_config(wrong, Preferences, "preferences")


@pytest.mark.parametrize("kind", ["reactive", "static"])
def test_a_policy_without_a_dial_says_so(kind: str) -> None:
    policy = make_policy(kind, tiny_setting())
    assert not isinstance(policy, Adjustable)
    with pytest.raises(UsageError, match=f"a policy with a preference dial .*got '{kind}'"):
        set_preferences(policy, Preferences())
