"""Levers that every scheme is offered, worked out on the tiny catalog."""

import numpy as np
import pytest

from controller.arrays import ObservationArrays
from controller.errors import ConfigError
from controller.policies.levers import ADDED_LEVERS, Levers, added_levers
from controller.policies.registry import POLICIES, make_policy, settings_model
from controller.rival_arrays import SCHEMES
from tests.tiny import FN, LARGE, MEDIUM, OD, RELAXED, SMALL, SPOT_A, SPOT_B, steady_observation, tiny_setting


def medium(spec: str, obs: ObservationArrays | None = None) -> list[int]:
    """Medium replicas on od, spot-a, spot-b and fn at 50 requests/s, of which relaxed has 25 on medium (10/s each)."""
    setting = tiny_setting()
    obs = steady_observation(setting, 50.0) if obs is None else obs
    return make_policy(spec, setting).decide(obs).replicas[0, MEDIUM].tolist()


def test_every_scheme_but_the_published_paragon_has_every_lever() -> None:
    assert set(SCHEMES) < set(POLICIES)
    for kind in SCHEMES:
        assert issubclass(settings_model(kind), Levers) == (kind != "paragon")
        for name, field in settings_model(kind).model_fields.items():
            assert field.description, f"{kind}.{name}"
    assert "adaptive_variant" in ADDED_LEVERS


def test_what_was_added_to_a_scheme_leaves_what_it_was_published_with() -> None:
    added = {kind: set(added_levers(settings_model(kind))) for kind in SCHEMES}
    assert added["paragon"] == set()
    assert added["reactive"] == ADDED_LEVERS
    assert ADDED_LEVERS - added["mixed"] == ADDED_LEVERS - added["mark"] == {"overflow_fraction", "overflow_slack"}
    assert ADDED_LEVERS - added["spothedge"] == {"over_provision", "spot_spread"}
    assert not {"spot_share", "batch_slack"} & set().union(*added.values())
    assert added_levers(settings_model("mpc")) == ()


def test_over_provision_raises_what_is_bought_on_spot_alone() -> None:
    # 25 x 1.5 on spot-a; half of 25 on demand and half x 1.5 = 18.75 on spot
    assert medium("reactive:headroom=1.0,spot_share=1.0,over_provision=1.5") == [0, 4, 0, 0]
    assert medium("reactive:headroom=1.0,spot_share=0.5,over_provision=1.5") == [2, 2, 0, 0]


def test_a_part_is_on_demand_in_any_case() -> None:
    # 0.4 x 25 = 10 on demand, 15 on spot
    assert medium("reactive:headroom=1.0,spot_share=1.0,on_demand_floor=0.4") == [1, 2, 0, 0]


def test_spot_of_a_similar_price_shares_the_load() -> None:
    # spot-b is 17 % dearer than spot-a: 12.5 on each
    assert medium("reactive:headroom=1.0,spot_share=1.0,spot_spread=0.1") == [0, 3, 0, 0]
    assert medium("reactive:headroom=1.0,spot_share=1.0,spot_spread=0.3") == [0, 2, 2, 0]


def test_spot_that_costs_more_than_on_demand_once_over_provisioned_is_left() -> None:
    obs = steady_observation(tiny_setting(), 50.0)
    obs.available[0, SPOT_A] = False
    # three times 0.126 is more than 0.36, three times 0.108 is not
    assert medium("reactive:headroom=1.0,spot_share=1.0,over_provision=3.0") == [0, 8, 0, 0]
    assert medium("reactive:headroom=1.0,spot_share=1.0,over_provision=3.0", obs) == [3, 0, 0, 0]


def test_what_stands_in_a_closed_zone_counts_and_a_zone_that_may_be_back_is_asked_with_one_replica() -> None:
    setting = tiny_setting()
    policy = make_policy("reactive:headroom=1.0,spot_share=1.0", setting)
    obs = steady_observation(setting, 50.0)
    obs.available[0, SPOT_A] = False
    obs.ready[0, MEDIUM, SPOT_A] = 1
    assert policy.decide(obs).replicas[0, MEDIUM].tolist() == [0, 1, 2, 0]
    obs.ready[0, MEDIUM, SPOT_A] = 0
    obs.available[0, SPOT_A] = True
    policy.reset(1)
    obs.available[0, SPOT_A] = False
    policy.decide(obs)
    obs.available[0, SPOT_A] = True
    assert policy.decide(obs).replicas[0, MEDIUM].tolist() == [0, 1, 3, 0]
    obs.ready[0, MEDIUM, SPOT_A] = 1
    assert policy.decide(obs).replicas[0, MEDIUM, SPOT_A] == 3


@pytest.mark.parametrize("kind", [kind for kind in SCHEMES if kind not in ("paragon", "ribbon")])
def test_accuracy_in_credit_buys_a_cheaper_mix(kind: str) -> None:
    setting = tiny_setting()
    plain = steady_observation(setting, 50.0)
    rich = steady_observation(setting, 50.0)
    rich.time_s[0] = 36000.0  # ten hours at 0.82, worked off within one
    rich.day_answered[0] = 900000
    rich.day_accuracy_sum[0] = 900000 * 0.82
    policy = make_policy(f"{kind}:adaptive_variant=true", setting)
    owed = policy.decide(plain).replicas[0].copy()
    policy.reset(1)
    in_credit = policy.decide(rich).replicas[0].copy()
    assert owed[MEDIUM].sum() + owed[LARGE].sum() > 0  # relaxed needs 0.76 on the mean
    assert in_credit[MEDIUM].sum() + in_credit[LARGE].sum() == 0
    assert in_credit[SMALL].sum() > 0
    assert in_credit.sum() < owed.sum()
    assert not owed[:, FN].any()


def test_a_mix_is_held_as_demand() -> None:
    setting = tiny_setting()
    policy = make_policy("reactive:adaptive_variant=true,cooldown_s=30,headroom=1.0", setting)
    policy.decide(steady_observation(setting, 100.0))
    seen = [float(policy.decide(steady_observation(setting, 50.0)).need_rps[0]) for _ in range(4)]
    assert seen == pytest.approx([100.0, 100.0, 50.0, 50.0])


def test_overflow_is_offered_to_schemes_without_serverless() -> None:
    plan = make_policy("reactive:overflow_fraction=0.7,overflow_slack=0.5", tiny_setting()).decide(
        steady_observation(tiny_setting(), 50.0)
    )
    assert plan.overflow_fraction[0].tolist() == [0.7, 0.7]
    assert plan.overflow_after_s[0, RELAXED] == pytest.approx(0.5 * 9.9)


def test_a_scheme_overflows_less_of_what_can_wait() -> None:
    setting = tiny_setting()
    policy = make_policy("reactive:overflow_fraction=0.8,patient_overflow=0.25", setting)
    fractions = policy.decide(steady_observation(setting, 50.0)).overflow_fraction[0]
    assert fractions == pytest.approx(0.8 * 0.25 ** (setting.workload.slo_s / (setting.workload.slo_s + 10.0)))


def test_a_scheme_lets_permitted_misses_happen() -> None:
    setting = tiny_setting()
    obs = steady_observation(setting, 40.0)
    obs.ready[0, MEDIUM, OD] = 1
    fractions = make_policy("reactive:overflow_fraction=0.8,miss_budget=0.5", setting).decide(obs).overflow_fraction[0]
    assert fractions == pytest.approx([0.8 * (1 - 60 / 600)] * 2)  # as worked out for `mpc`


def test_paragon_plus_overflows_in_part_and_while_load_is_bursty_only() -> None:
    setting = tiny_setting()
    policy = make_policy("paragon_plus:overflow_fraction=0.4", setting)
    obs = steady_observation(setting, 50.0)
    assert policy.decide(obs).overflow_fraction[0].tolist() == [0.0, 0.0]
    obs.history[0, :, 40] *= 4.0
    assert policy.decide(obs).overflow_fraction[0].tolist() == [0.4, 0.4]


def test_batches_follow_their_slack() -> None:
    setting = tiny_setting(batch_max=8)
    obs = steady_observation(setting, 50.0)
    # strict's two batches of b take b x 0.05 + 0.05 s of 1.5 s
    few = make_policy("reactive:batch_slack=0.1", setting).decide(obs).batch_size[0, SMALL, OD]
    many = make_policy("reactive:batch_slack=1.0", setting).decide(obs).batch_size[0, SMALL, OD]
    assert (int(few), int(many)) == (2, 8)


@pytest.mark.parametrize("field", ["variant=small", "pool=od"])
def test_a_mix_takes_no_named_choice(field: str) -> None:
    with pytest.raises(ConfigError, match="none where adaptive_variant is true"):
        make_policy(f"reactive:adaptive_variant=true,{field}", tiny_setting())


def test_utilisation_of_all_machines_moves_a_mix_outside_the_band_only() -> None:
    setting = tiny_setting()
    policy = make_policy("util_aware:adaptive_variant=true,cooldown_s=0", setting)
    obs = steady_observation(setting, 48.0)
    assert policy.decide(obs).need_rps[0] == pytest.approx(60.0)
    obs = steady_observation(setting, 56.0)
    obs.ready[0, SMALL, OD], obs.ready[0, MEDIUM, OD] = 2, 3
    obs.busy_s[0, SMALL, OD], obs.busy_s[0, MEDIUM, OD] = 10.0, 25.0  # 35 of 50
    assert policy.decide(obs).need_rps[0] == pytest.approx(60.0)
    obs.busy_s[0, SMALL, OD] = 20.0
    assert policy.decide(obs).need_rps[0] == pytest.approx(70.0)
    assert np.isfinite(policy.decide(obs).overflow_after_s).all()


def test_spot_pools_are_left_alone_by_schemes_that_plan_none() -> None:
    obs = steady_observation(tiny_setting(), 50.0)
    obs.available[0, [SPOT_A, SPOT_B]] = False
    policy = make_policy("reactive", tiny_setting())
    policy.decide(obs)
    obs.available[:] = True
    assert policy.decide(obs).replicas[0, :, [SPOT_A, SPOT_B]].sum() == 0


@pytest.mark.parametrize("kind", SCHEMES)
def test_a_scheme_decides_alike_at_any_speed(kind: str) -> None:
    fleets = []
    for setting in (tiny_setting(), tiny_setting(speed=20.0)):
        policy = make_policy(kind, setting)
        planned = []
        for tick in range(80):
            obs = steady_observation(setting, 50.0 if tick < 10 or tick > 40 else 90.0, ticks=60 + tick)
            obs.ready[0] = planned[-1] if planned else 0
            obs.busy_s[0] = (0.5 if tick < 20 else 0.95) * obs.ready[0] * setting.control.tick_s
            obs.preempted[0, SPOT_A] = tick == 50
            planned.append(policy.decide(obs).replicas[0].copy())
        fleets.append(np.array(planned))
    np.testing.assert_array_equal(fleets[0], fleets[1])
