"""The `mpc` rule: what it plans in cases that can be worked out, and what knobs and dial change."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from controller.arrays import ObservationArrays, PlanArrays
from controller.catalog import Catalog
from controller.compile import Setting, compile_scenario
from controller.config import parse_config
from controller.forecast import persistence_forecast
from controller.kernels.mpc import repaying_accuracy, shifted
from controller.plan import Reason
from controller.policies.predictive import MpcPolicy, MpcSettings
from controller.rule_arrays import KNOBS
from tests.strategies import random_observation
from tests.tiny import (
    LARGE,
    MEDIUM,
    OD,
    RELAXED,
    SMALL,
    SPOT_A,
    SPOT_B,
    STRICT,
    catalog_document,
    steady_observation,
    tiny_setting,
)

RPS = np.array([20.0, 10.0, 5.0])[:, None]
NO_GROWTH = persistence_forecast((0.1, 0.5, 0.9), (-1e-12, 0.0, 1e-12))
PLAIN = MpcSettings(
    headroom=1.0,
    patient_headroom=1.0,
    over_provision=1.0,
    spot_share=0.0,
    on_demand_floor=0.0,
    accuracy_margin=0.0,
    scale_in_s=0.0,
)


def plan_for(obs: ObservationArrays, settings: MpcSettings = PLAIN, **knobs: float) -> PlanArrays:
    policy = MpcPolicy(tiny_setting(), settings, NO_GROWTH)
    policy.reset(len(obs.tick))
    for name, value in knobs.items():
        policy.knobs[:, KNOBS.index(name)] = value
    return copy.deepcopy(policy.decide(obs))


def capacity_rps(plan: PlanArrays) -> float:
    return float((plan.replicas[0] * RPS).sum())


def test_plain_settings_cover_the_rate_with_the_variants_the_floors_ask_for() -> None:
    plan = plan_for(steady_observation(tiny_setting(), 50.0))
    # 25/s relaxed on medium (three replicas hold 30), 25/s strict on small less the 5 that are left: one replica
    assert plan.replicas[0, MEDIUM, OD] == 3
    assert plan.replicas[0, SMALL, OD] == 1
    assert plan.replicas.sum() == 4
    assert plan.need_rps[0] == pytest.approx(50.0)


def test_spot_share_is_spread_over_zones_and_over_provisioned() -> None:
    settings = PLAIN.model_copy(update={"spot_share": 1.0, "over_provision": 1.5})
    plan = plan_for(steady_observation(tiny_setting(), 400.0), settings)
    on_spot = (plan.replicas[0] * RPS).sum(axis=0)
    assert on_spot[OD] == 0
    assert on_spot[SPOT_A] == pytest.approx(300, abs=20)
    assert on_spot[SPOT_B] == pytest.approx(300, abs=20)


def test_unavailable_zones_are_avoided() -> None:
    obs = steady_observation(tiny_setting(), 400.0)
    obs.available[0, SPOT_A] = False
    settings = PLAIN.model_copy(update={"spot_share": 1.0})
    plan = plan_for(obs, settings)
    assert plan.replicas[0, :, SPOT_A].sum() == 0
    assert plan.replicas[0, :, SPOT_B].sum() > 0


def test_with_every_pool_unavailable_the_cheapest_is_still_planned_and_said_so() -> None:
    obs = steady_observation(tiny_setting(), 50.0)
    obs.available[:] = False
    plan = plan_for(obs)
    assert plan.replicas.sum() > 0
    assert plan.reasons[0] & Reason.POOL_UNAVAILABLE


def test_accuracy_debt_raises_the_mix_and_credit_lowers_it() -> None:
    means = []
    for accuracy in (0.74, 0.76, 0.78):
        obs = steady_observation(tiny_setting(), 400.0, ticks=360)
        obs.day_answered[0, RELAXED] = 720_000
        obs.day_accuracy_sum[0, RELAXED] = accuracy * 720_000
        plan = plan_for(obs)
        capacity = plan.replicas[0] * RPS
        means.append(float((capacity * np.array([0.70, 0.76, 0.82])[:, None]).sum() / capacity.sum()))
    assert means[0] > means[1] + 0.005 > means[2] + 0.01


@pytest.mark.parametrize("ticks", [360, 8640 - 60])
def test_a_pressing_debt_asks_for_the_variant_that_repays_it_and_no_dearer_one(ticks: int) -> None:
    obs = steady_observation(tiny_setting(), 50.0, ticks=ticks)
    obs.day_answered[0, STRICT] = 25 * 10 * ticks
    obs.day_accuracy_sum[0, STRICT] = 0.67 * obs.day_answered[0, STRICT]
    # Nothing repays it within a minute; strict (floor 0.70) gets medium (0.76), and no half of a band above it.
    policy = MpcPolicy(tiny_setting(), PLAIN.model_copy(update={"repay_s": 60.0, "accuracy_band": 0.02}), NO_GROWTH)
    policy.decide(obs)
    assert policy.state.target_accuracy[0, STRICT] == 0.76


def test_a_debt_that_only_the_best_variant_repays_in_time_asks_for_it_at_once() -> None:
    obs = steady_observation(tiny_setting(), 50.0, ticks=8640 - 60)  # ten minutes left of the day
    obs.day_answered[0, RELAXED] = 2_000_000
    obs.day_accuracy_sum[0, RELAXED] = 0.755 * 2_000_000
    plan = plan_for(obs, accuracy_tilt=-1.0)
    assert plan.replicas[0, LARGE].sum() * 5 >= 25
    assert plan.reasons[0] & Reason.ACCURACY_DEBT


@pytest.mark.parametrize(
    ("floor", "expected"),
    [(0.75, 0.82), (0.74, 0.76), (0.71, 0.76), (0.77, 0.82)],
    ids=["next-is-too-near", "next-is-well-above", "low-floor", "only-the-best-is-above"],
)
def test_a_debt_is_repaid_by_the_next_variant_well_above_the_floor(floor: float, expected: float) -> None:
    setting = tiny_setting()
    wl, cat = setting.workload, setting.catalog
    floors = np.full_like(wl.accuracy_floor, floor)
    found = repaying_accuracy(wl.allowed, cat.market, cat.accuracy, floors, RELAXED, 0.82)
    assert found == pytest.approx(expected)


def test_a_late_debt_buys_no_more_accuracy_than_repays_it() -> None:
    setting = tiny_setting()
    workload = setting.workload._replace(accuracy_floor=np.where(np.arange(2) == RELAXED, 0.73, 0.0))
    setting = replace(setting, workload=workload)
    obs = steady_observation(setting, 50.0, ticks=8640 - 60)  # ten minutes left of the day
    obs.day_answered[0, RELAXED], obs.day_accuracy_sum[0, RELAXED] = 2_000_000, 0.729 * 2_000_000
    policy = MpcPolicy(setting, PLAIN, NO_GROWTH)
    policy.decide(obs)
    assert policy.state.target_accuracy[0, RELAXED] == pytest.approx(0.76)  # of 0.70, 0.76 and 0.82


def test_scale_in_is_slow_and_scale_out_at_once() -> None:
    setting = tiny_setting()
    policy = MpcPolicy(setting, PLAIN.model_copy(update={"scale_in_s": 100.0}), NO_GROWTH)
    obs = steady_observation(setting, 400.0)
    obs.ready[:] = policy.decide(obs).replicas
    before = int(obs.ready.sum())
    low = steady_observation(setting, 50.0)
    low.ready[:] = obs.ready
    plan = policy.decide(low)
    # the surplus shrinks by exp(-10 / 100) a tick
    assert int(plan.replicas.sum()) == pytest.approx(4 + (before - 4) * np.exp(-0.1), abs=1.0)
    assert plan.reasons[0] & Reason.HOLD_SCALE_IN
    assert policy.decide(obs).replicas.sum() == before


def test_demand_within_the_band_changes_nothing_and_beyond_it_is_followed() -> None:
    policy = MpcPolicy(tiny_setting(), PLAIN.model_copy(update={"need_band": 0.2}), NO_GROWTH)
    needs = []
    for rps in (100.0, 105.0, 95.0, 89.0, 87.0, 111.0):
        policy.decide(steady_observation(tiny_setting(), rps))
        needs.append(float(policy.state.need_rps.sum()))
    # Planned at first: 110, which holds from 88 to 110; then 95.7 and 122.1.
    assert needs == pytest.approx([110.0, 110.0, 110.0, 110.0, 95.7, 122.1])


def test_the_accurate_variant_does_not_follow_a_peak() -> None:
    planned = []
    for before_rps in (200.0, 50.0):
        obs = steady_observation(tiny_setting(), before_rps, ticks=360)
        peak = steady_observation(tiny_setting(), 200.0)
        latest = (obs.tick[0] - 1 - np.arange(6)) % obs.history.shape[2]
        obs.history[0][:, latest] = peak.history[0, :, 0, None]
        obs.day_answered[0, RELAXED], obs.day_accuracy_sum[0, RELAXED] = 100_000, 75_000  # a debt: large is needed
        plan = MpcPolicy(tiny_setting(), PLAIN, NO_GROWTH).decide(obs)
        planned.append((int(plan.replicas[0, LARGE].sum()), capacity_rps(plan)))
    (steady, whole), (after, peaked) = planned
    assert after < steady  # the minutes before count
    assert peaked == pytest.approx(whole, rel=0.1)  # the others serve the rest


def test_the_accuracy_aimed_at_is_held_within_its_band_and_raised_at_once() -> None:
    policy = MpcPolicy(tiny_setting(), PLAIN.model_copy(update={"accuracy_band": 0.02}), NO_GROWTH)
    targets = []
    for day_mean in (0.76, 0.765, 0.74, 0.79):
        obs = steady_observation(tiny_setting(), 400.0, ticks=360)
        obs.day_answered[0, RELAXED] = 720_000
        obs.day_accuracy_sum[0, RELAXED] = day_mean * 720_000
        policy.decide(obs)
        targets.append(float(policy.state.target_accuracy[0, RELAXED]))
    assert targets[0] == pytest.approx(0.77, abs=2e-4)
    assert targets[1] == targets[0]
    assert targets[2] == pytest.approx(0.79, abs=2e-4)
    assert targets[3] == pytest.approx(0.74, abs=2e-4)


def test_zero_knobs_and_dial_one_are_the_rule_bit_for_bit() -> None:
    setting = tiny_setting()
    settings = MpcSettings(spot_share=1.0, on_demand_floor=0.0, overflow_fraction=1.0)
    for seed in range(20):
        obs = random_observation(setting, seed)
        rule, knobbed = MpcPolicy(setting, settings), MpcPolicy(setting, settings)
        rule.reset(4)
        knobbed.reset(4)
        knobbed.knobs[:] = -0.0
        knobbed.dial[:] = np.exp(0.0)
        for name, first, second in zip(PlanArrays._fields, rule.decide(obs), knobbed.decide(obs), strict=True):
            assert first.tobytes() == second.tobytes(), name
        # settings at the edge of their range are left as they are, not moved in for the log-odds
        assert (knobbed.decide(obs).overflow_fraction == 1.0).all()


@pytest.mark.parametrize("fraction", [0.0, 0.004, 0.3, 1.0])
def test_a_fraction_moves_with_its_log_odds_without_a_jump(fraction: float) -> None:
    log_odds = np.linspace(-2.5, 2.5, 1001)  # 0 is among them
    found = np.array([shifted(fraction, x) for x in log_odds])
    assert found[500] == fraction
    steps = np.diff(found)
    assert (steps >= 0.0).all()
    assert steps.max() <= 0.005 / 4 + 1e-12  # a logistic curve rises by at most a quarter
    assert found[-1] - found[0] > 0.1
    assert ((found >= 0.0) & (found <= 1.0)).all()


@pytest.mark.parametrize(("value", "factor"), [(1.0, np.exp(0.7)), (-1.0, np.exp(-0.7))])
def test_headroom_knob_multiplies_the_need(value: float, factor: float) -> None:
    obs = steady_observation(tiny_setting(), 50.0)
    assert plan_for(obs, headroom=value).need_rps[0] == pytest.approx(50.0 * factor)


def test_every_knob_changes_the_plan() -> None:
    obs = steady_observation(tiny_setting(), 400.0)
    obs.ready[0, MEDIUM] = 60
    settings = MpcSettings(scale_in_s=100.0)
    base = plan_for(obs, settings)
    for name in KNOBS:
        low, high = plan_for(obs, settings, **{name: -1.0}), plan_for(obs, settings, **{name: 1.0})
        seen = [plan.replicas.tobytes() + plan.overflow_fraction.tobytes() for plan in (low, base, high)]
        assert seen[0] != seen[2], name


def test_a_dearer_miss_plans_more_capacity_and_more_overflow() -> None:
    obs = steady_observation(tiny_setting(), 400.0)
    plans = []
    for multiplier in (0.2, 1.0, 5.0):
        policy = MpcPolicy(tiny_setting(), MpcSettings(miss_multiplier=multiplier, overflow_fraction=0.5))
        plans.append(copy.deepcopy(policy.decide(obs)))
    assert plans[0].need_rps[0] < plans[1].need_rps[0] < plans[2].need_rps[0]
    fractions = [float(plan.overflow_fraction[0, 0]) for plan in plans]
    # log-odds of 0.5 are 0, so a multiplier m gives m / (1 + m)
    assert fractions == pytest.approx([0.2 / 1.2, 0.5, 5 / 6])


def test_overflow_waits_a_share_of_the_slack() -> None:
    plan = plan_for(steady_observation(tiny_setting(), 50.0), PLAIN.model_copy(update={"overflow_slack": 0.5}))
    # medium, the slowest planned option, takes 0.1 s: (1.5 - 0.1) / 2 and (10 - 0.1) / 2
    assert plan.overflow_after_s[0].tolist() == pytest.approx([0.7, 4.95])


def test_batches_grow_until_two_in_a_row_fill_the_share_of_the_tightest_slo() -> None:
    setting = tiny_setting(batch_max=8)
    plan = MpcPolicy(setting, MpcSettings(batch_slack=0.5)).decide(steady_observation(setting, 50.0))
    # strict: 2 x service <= 0.75 s. small 0.025 (1 + b) -> 8; medium 0.05 (1 + b) -> 6; large 0.1 (1 + b) -> 2
    assert plan.batch_size[0, :, OD].tolist() == [8, 6, 2]


def test_a_silent_start_plans_for_the_mean_rate_of_the_scenario() -> None:
    plan = plan_for(steady_observation(tiny_setting(), 50.0, ticks=0))
    assert plan.need_rps[0] == pytest.approx(50.0)
    assert capacity_rps(plan) >= 50


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValidationError, match="quantile"):
        MpcSettings(quantile=1.0)


def test_spans_shrink_with_speed() -> None:
    fast = MpcSettings().arrays(tiny_setting(speed=10.0))
    assert fast.scale_in_s == 30.0
    assert fast.repay_s == 360.0
    np.testing.assert_array_equal(fast.headroom, MpcSettings().arrays(tiny_setting()).headroom)


def test_a_class_with_time_to_wait_is_given_less_headroom() -> None:
    setting = tiny_setting()
    slo_s = setting.workload.slo_s
    policy = MpcPolicy(setting, PLAIN.model_copy(update={"headroom": 1.5, "patient_headroom": 0.5}), NO_GROWTH)
    policy.decide(steady_observation(setting, 50.0))
    need = policy.state.need_rps[0]
    assert need == pytest.approx(25.0 * 1.5 * 0.5 ** (slo_s / (slo_s + 10.0)))
    assert need[RELAXED] < need[STRICT]


def setting_without_functions() -> Setting:
    document = catalog_document()
    for part, key in (("pools", "name"), ("profiles", "pool")):
        document[part] = [one for one in document[part] if one[key] != "fn"]
    alone = parse_config(document, Catalog, source="tiny catalog without functions")
    return compile_scenario(tiny_setting().scenario, alone)


def test_a_class_without_serverless_is_not_given_less_than_its_demand() -> None:
    setting = setting_without_functions()
    settings = PLAIN.model_copy(update={"headroom": 0.8})
    for of, wanted in ((tiny_setting(), 0.8), (setting, 1.3)):
        assert settings.arrays(of).headroom.tolist() == [wanted, wanted]
    more = settings.model_copy(update={"headroom": 1.4})
    assert more.arrays(setting).headroom.tolist() == [1.4, 1.4]
    policy = MpcPolicy(setting, more, NO_GROWTH)
    policy.decide(steady_observation(setting, 50.0))
    assert (setting.workload.spare_rps > 0.0).all()
    assert policy.state.need_rps[0] == pytest.approx(1.4 * (25.0 + setting.workload.spare_rps))


def test_spot_is_over_provisioned_for_a_class_without_serverless_only() -> None:
    on_spot = PLAIN.model_copy(update={"spot_share": 1.0, "headroom": 1.4})
    for setting, factor in ((tiny_setting(), 1.0), (setting_without_functions(), 1.3)):
        for least in (1.0, 2.0):
            policy = MpcPolicy(setting, on_spot.model_copy(update={"over_provision": least}), NO_GROWTH)
            plan = policy.decide(steady_observation(setting, 400.0))
            bought = capacity_rps(plan) / policy.state.need_rps[0].sum()
            assert bought == pytest.approx(max(factor, least), rel=0.1), (factor, least)


def test_a_class_with_time_to_wait_has_its_own_part_of_overflow_and_queue() -> None:
    setting = tiny_setting()
    part = 0.25 ** (setting.workload.slo_s / (setting.workload.slo_s + 10.0))
    settings = PLAIN.model_copy(update={"overflow_fraction": 0.8, "shed_slack": 2.0})
    whole = plan_for(steady_observation(setting, 50.0), settings)
    parted = plan_for(
        steady_observation(setting, 50.0),
        settings.model_copy(update={"patient_overflow": 0.25, "patient_shed": 0.25}),
    )
    assert whole.overflow_fraction[0].tolist() == [0.8, 0.8]
    assert parted.overflow_fraction[0] == pytest.approx(0.8 * part)
    # Nothing serves yet, so a queue may hold what arrives within two slacks, 25/s of each class.
    assert whole.shed_limit[0].tolist() == [70, 495]
    assert parted.shed_limit[0].tolist() == np.ceil(50.0 * np.array([1.4, 9.9]) * part - 1e-9).tolist()


def test_a_class_that_spent_its_misses_is_not_refused_before_serverless_could_take_it() -> None:
    setting = tiny_setting()
    obs = steady_observation(setting, 50.0)
    obs.day_arrivals[0], obs.day_missed[0] = 6000, [60, 61]  # 1 % may be missed
    settings = PLAIN.model_copy(update={"overflow_fraction": 0.8, "overflow_slack": 0.6, "shed_slack": 0.3})

    def shed_limit(**changes: float) -> list[int]:
        found: list[int] = plan_for(obs, settings.model_copy(update=changes)).shed_limit[0].tolist()
        return found

    refused, admitted = 75, 223  # 25/s, a slack of 9.9 s; 0.3 of it, and 1.5 times the wait of 0.6
    assert shed_limit() == [11, admitted]
    assert shed_limit(shed_slack=2.0) == [70, 495]
    assert shed_limit(overflow_fraction=0.0) == [11, refused]
    assert shed_limit(overflow_slack=1.0) == [11, refused]
    obs.day_arrivals[0], obs.day_missed[0] = -1, -1  # unknown
    assert shed_limit() == [11, refused]


def test_a_class_with_time_to_wait_may_never_overflow() -> None:
    setting = tiny_setting()
    settings = PLAIN.model_copy(update={"overflow_fraction": 1.0, "patient_overflow": 0.0})
    assert plan_for(steady_observation(setting, 50.0), settings).overflow_fraction[0].tolist() == [0.0, 0.0]
    assert plan_for(steady_observation(setting, 50.0), settings, overflow_fraction=0.5).overflow_fraction.min() > 0.0


def serving(rps: float) -> ObservationArrays:
    """Ten minutes at a constant rate; one machine serves."""
    obs = steady_observation(tiny_setting(), rps)
    obs.ready[0, MEDIUM, OD] = 1
    return obs


def test_permitted_misses_are_let_happen_while_the_day_has_some_left() -> None:
    settings = PLAIN.model_copy(update={"overflow_fraction": 0.9, "miss_budget": 0.5})
    obs = serving(40.0)
    # 200 of each class arrive in a tick: half of what may be missed of 12,000 are 60, and three ticks are 600
    assert tiny_setting().workload.attainment_target.tolist() == [0.99, 0.99]
    assert plan_for(obs, settings).overflow_fraction[0] == pytest.approx([0.9 * (1 - 60 / 600)] * 2)
    obs.day_missed[0] = [30, 70]
    assert plan_for(obs, settings).overflow_fraction[0] == pytest.approx([0.9 * (1 - 30 / 600), 0.9])
    obs.day_arrivals[0] = 10**6
    assert plan_for(obs, settings).overflow_fraction[0].tolist() == [0.0, 0.0]
    assert plan_for(obs, PLAIN.model_copy(update={"overflow_fraction": 0.9})).overflow_fraction[0].tolist() == [0.9] * 2


def test_a_dearer_miss_is_permitted_less_often() -> None:
    settings = PLAIN.model_copy(update={"overflow_fraction": 1.0, "miss_budget": 0.5, "miss_multiplier": 9.0})
    # odds of 1 : 99 become 1 : 891
    assert plan_for(serving(40.0), settings).overflow_fraction[0] == pytest.approx([1 - 6000 / 892 / 600] * 2)


def test_a_class_without_a_machine_is_not_let_wait() -> None:
    settings = PLAIN.model_copy(update={"overflow_fraction": 1.0, "miss_budget": 1.0})
    assert plan_for(steady_observation(tiny_setting(), 40.0), settings).overflow_fraction[0].tolist() == [1.0, 1.0]
    young = steady_observation(tiny_setting(), 40.0, ticks=3)
    young.ready[0, MEDIUM, OD] = 1
    assert plan_for(young, settings).overflow_fraction[0].tolist() == [1.0, 1.0]


def test_a_pool_that_may_be_back_is_probed_with_one_replica_before_a_fleet_is_planned_there() -> None:
    setting = tiny_setting()
    policy = MpcPolicy(setting, PLAIN.model_copy(update={"spot_share": 1.0}), NO_GROWTH)
    obs = steady_observation(setting, 400.0)
    fleets = []
    for is_available, is_ready in ((True, False), (False, False), (True, False), (True, True)):
        obs.available[0, SPOT_B] = is_available
        obs.ready[0, MEDIUM, SPOT_B] = 1 if is_ready else 0
        fleets.append(int(policy.decide(obs).replicas[0, :, SPOT_B].sum()))
    assert fleets[1:3] == [0, 1]
    assert fleets[0] > 5
    assert fleets[3] > 5
