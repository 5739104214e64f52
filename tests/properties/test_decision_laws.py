"""Laws of the decision path that hold for every observation, plan, limit and knob."""

import copy

import numpy as np
import pytest
from hypothesis import example, given, settings

from controller.arrays import (
    SERVERLESS,
    ActionArrays,
    LimitArrays,
    ObservationArrays,
    PlanArrays,
    empty_actions,
    empty_plan,
)
from controller.compile import Setting
from controller.observation import CLIP, RuleView, encode_observation
from controller.policies.predictive import MpcPolicy
from controller.policies.registry import make_policy
from controller.ports import Policy
from controller.rival_arrays import SCHEMES
from tests.strategies import feasible_limits, garbage_plan, random_observation, seeds
from tests.tiny import steady_observation, tiny_setting

NUM_ENVS = 4


def guarded(setting: Setting, limits: LimitArrays, obs: ObservationArrays, plan: PlanArrays) -> PlanArrays:
    from controller.kernels.guard import guard

    guard(setting.catalog, setting.workload, limits, obs, plan, 0, len(obs.tick))
    return plan


def reconciled(setting: Setting, obs: ObservationArrays, plan: PlanArrays) -> ActionArrays:
    from controller.kernels.reconcile import reconcile

    actions = empty_actions(len(obs.tick), setting.shape)
    reconcile(setting.catalog, setting.workload, setting.control, obs, plan, actions, 0, len(obs.tick))
    return actions


def split_of(setting: Setting, obs: ObservationArrays, plan: PlanArrays) -> np.ndarray:
    from controller.kernels.split import split

    num_variants, num_pools, num_classes = setting.shape
    shares = np.full((len(obs.tick), num_classes, num_variants, num_pools), np.nan)
    actions = reconciled(setting, obs, plan)
    split(setting.catalog, setting.workload, setting.control, obs, plan, actions, shares, 0, len(obs.tick))
    return shares


def staying(setting: Setting, obs: ObservationArrays, plan: PlanArrays) -> np.ndarray:
    """Where somebody serves until the next decision, (N, V, P)."""
    actions = reconciled(setting, obs, plan)
    leaving = actions.drain + actions.swap.sum(axis=3).transpose(0, 2, 1)
    serves: np.ndarray = obs.ready - leaving + obs.doomed > 0
    serves[:, :, 3] &= plan.replicas[:, :, 3] > 0
    return serves


def rental_usd_per_hour(setting: Setting, plan: PlanArrays) -> np.ndarray:
    cat = setting.catalog
    reserved = cat.memory_gb * cat.provisioned_usd_per_gb_s
    usd_per_s = np.where(cat.market == SERVERLESS, reserved, cat.price_usd_per_s)
    return (plan.replicas.sum(axis=1) * usd_per_s).sum(axis=1) * 3600


@given(seeds, seeds, seeds)
def test_guard_exceeds_no_limit_and_leaves_only_valid_numbers(past: int, plans: int, bounds: int) -> None:
    setting = tiny_setting()
    obs, limits = random_observation(setting, past), feasible_limits(setting, bounds)
    plan = guarded(setting, limits, obs, garbage_plan(setting, plans))
    in_pool = plan.replicas.sum(axis=1)
    have = (obs.ready + obs.starting).sum(axis=1)
    assert (plan.replicas >= 0).all()
    assert (plan.replicas[:, ~setting.catalog.usable] == 0).all()
    assert (in_pool <= limits.pool_max).all()
    assert (in_pool <= setting.catalog.quota).all()
    assert (in_pool - have <= limits.max_launch).all()
    assert (rental_usd_per_hour(setting, plan) <= limits.budget_usd_per_hour + 1e-6).all()
    assert ((plan.batch_size >= 1) & (plan.batch_size <= np.maximum(setting.catalog.batch_max, 1))).all()
    assert ((plan.overflow_fraction >= 0) & (plan.overflow_fraction <= 1)).all()
    assert (plan.overflow_after_s >= 0).all()
    assert (plan.hedge_after_s >= 0).all()
    assert (plan.shed_limit >= 1).all()
    assert np.isfinite(plan.need_rps).all()
    assert np.isfinite(plan.batch_wait_s).all()
    assert np.isfinite(plan.shares[plan.fixed_shares]).all()
    assert not np.isnan(plan.cascade_threshold).any()
    may_answer = setting.workload.allowed.any(axis=2)
    for n, c in np.ndindex(plan.cascade_variant.shape[:2]):
        steps = plan.cascade_variant[n, c]
        used = steps[steps >= 0]
        assert (steps[: len(used)] == used).all()
        assert (steps[len(used) :] == -1).all()
        assert len(set(used)) == len(used)
        assert may_answer[c, used].all()
        assert len(used) == 2 or not plan.cascade_concurrent[n, c]


@given(seeds, seeds, seeds)
def test_guard_is_idempotent(past: int, plans: int, bounds: int) -> None:
    setting = tiny_setting()
    obs, limits = random_observation(setting, past), feasible_limits(setting, bounds)
    once = guarded(setting, limits, obs, garbage_plan(setting, plans))
    twice = guarded(setting, limits, obs, copy.deepcopy(once))
    for name, first, second in zip(PlanArrays._fields, once, twice, strict=True):
        np.testing.assert_array_equal(first, second, err_msg=name)


@given(seeds, seeds)
def test_guard_meets_minima_and_floor_where_ramps_leave_room(past: int, bounds: int) -> None:
    setting = tiny_setting()
    obs = random_observation(setting, past)
    many = np.full(setting.shape[1], 1000)
    limits = feasible_limits(setting, bounds)._replace(max_launch=many, max_drain=many)
    plan = guarded(setting, limits, obs, empty_plan(NUM_ENVS, setting.shape))
    in_pool = plan.replicas.sum(axis=1)
    assert (in_pool >= limits.pool_min).all()
    assert (in_pool[:, 0] >= limits.on_demand_floor).all()


@given(seeds)
def test_a_satisfied_plan_needs_no_action(past: int) -> None:
    setting = tiny_setting()
    obs = random_observation(setting, past)
    plan = empty_plan(NUM_ENVS, setting.shape)
    plan.replicas[:] = obs.ready + obs.starting
    for counts in reconciled(setting, obs, plan):
        assert not counts.any()


@settings(max_examples=60)
@given(seeds, seeds)
def test_repeating_reconcile_against_an_ideal_world_converges(past: int, plans: int) -> None:
    setting = tiny_setting()
    obs = random_observation(setting, past)
    obs.available[:] = True
    obs.doomed[:] = 0
    plan = empty_plan(NUM_ENVS, setting.shape)
    plan.replicas[:] = np.random.default_rng(plans).integers(0, 9, plan.replicas.shape)
    for _ in range(30):
        actions = reconciled(setting, obs, plan)
        apply_ideally(obs, actions)
        assert (obs.ready >= 0).all()
        assert (obs.starting >= 0).all()
        assert (obs.ready + obs.starting).sum(axis=1).max() <= setting.catalog.quota.max()
    assert not any(counts.any() for counts in reconciled(setting, obs, plan))
    np.testing.assert_array_equal(obs.ready, plan.replicas)


def apply_ideally(obs: ObservationArrays, actions: ActionArrays) -> None:
    """What was starting is ready, what was draining is gone, then the actions begin."""
    obs.starting[:] -= actions.stop
    was_starting = obs.starting.copy()
    obs.ready[:] -= actions.drain + actions.swap.sum(axis=3).transpose(0, 2, 1)
    obs.starting[:] = actions.launch + actions.swap.sum(axis=2).transpose(0, 2, 1)
    obs.ready[:] += was_starting
    obs.draining[:] = actions.drain


@given(seeds, seeds)
def test_swaps_leave_ready_capacity_for_the_need_or_for_the_plan(past: int, plans: int) -> None:
    setting = tiny_setting()
    obs = random_observation(setting, past)
    plan = empty_plan(NUM_ENVS, setting.shape)
    plan.replicas[:] = np.random.default_rng(plans).integers(0, 9, plan.replicas.shape)
    actions = reconciled(setting, obs, plan)
    rps = np.array([20.0, 10.0, 5.0])[:, None] * (setting.catalog.market != SERVERLESS)
    for n in range(NUM_ENVS):
        if not actions.swap[n].any():
            continue
        left = ((obs.ready[n] - actions.swap[n].sum(axis=2).T) * rps).sum()
        ticks = min(int(obs.tick[n]), 6)
        at = [(int(obs.tick[n]) - 1 - k) % obs.history.shape[2] for k in range(ticks)]
        peak = obs.history[n][:, at].max(axis=1, initial=0.0).sum() / setting.control.tick_s
        assert left >= min(1.1 * peak, (plan.replicas[n] * rps).sum()) - 1e-6


@given(seeds, seeds)
@example(0, 0)
def test_shares_of_every_class_sum_to_one_over_allowed_options(past: int, plans: int) -> None:
    setting = tiny_setting()
    obs = random_observation(setting, past)
    plan = guarded(setting, setting.limits, obs, garbage_plan(setting, plans))
    shares = split_of(setting, obs, plan)
    np.testing.assert_allclose(shares.sum(axis=(2, 3)), 1.0, atol=1e-9)
    assert (shares >= -1e-12).all()
    assert (shares[:, ~setting.workload.allowed] == 0).all()
    serves = staying(setting, obs, plan) & setting.workload.allowed.any(axis=0)
    for n in np.flatnonzero(serves.any(axis=(1, 2))):
        plain = plan.cascade_variant[n, :, 0] < 0
        assert (shares[n][plain][:, ~serves[n]] == 0).all()


@given(seeds, seeds)
def test_a_cascade_has_shares_of_its_variants_and_of_no_other(past: int, plans: int) -> None:
    setting = tiny_setting()
    obs = random_observation(setting, past)
    plan = guarded(setting, setting.limits, obs, garbage_plan(setting, plans))
    plan.fixed_shares[:] = False
    shares = split_of(setting, obs, plan).sum(axis=3)
    serves = (staying(setting, obs, plan)[:, None] & setting.workload.allowed).any(axis=3)
    for n, c in np.argwhere(plan.cascade_variant[:, :, 0] >= 0):
        used = plan.cascade_variant[n, c][plan.cascade_variant[n, c] >= 0]
        if not serves[n, c, used].any():
            continue
        last = np.flatnonzero(serves[n, c, used])[-1]
        # One that does not serve is skipped, but for those after the last that does: there requests wait.
        expected = [v for k, v in enumerate(used) if serves[n, c, v] or k > last]
        np.testing.assert_allclose(shares[n, c, expected], 1.0 / len(expected), atol=1e-12)
        assert shares[n, c].sum() == pytest.approx(1.0)


@given(seeds, seeds)
def test_any_knobs_and_any_dial_give_a_valid_plan(past: int, knobs: int) -> None:
    setting = tiny_setting()
    obs = random_observation(setting, past)
    policy = MpcPolicy(setting)
    policy.reset(NUM_ENVS)
    rng = np.random.default_rng(knobs)
    policy.knobs[:] = rng.choice([-1.0, 1.0, 0.0, 0.3, np.nan, np.inf, -7.0], policy.knobs.shape)
    policy.dial[:] = rng.choice([0.01, 1.0, 50.0, np.nan, 0.0, np.inf], NUM_ENVS)
    plan = policy.decide(obs)
    before = copy.deepcopy(plan)
    guarded(setting, setting.limits, obs, plan)
    for name, first, second in zip(PlanArrays._fields[:-1], before, plan, strict=False):
        np.testing.assert_array_equal(first, second, err_msg=f"{name} was not valid as planned")


@given(seeds)
def test_observations_are_finite_clipped_and_of_fixed_length(past: int) -> None:
    setting = tiny_setting()
    policy = MpcPolicy(setting)
    policy.reset(NUM_ENVS)
    obs = random_observation(setting, past)
    plan = policy.decide(obs)
    view = RuleView(policy.arrays, policy.forecast, policy.state, policy.knobs, policy.dial, plan)
    encoded = encode_observation(setting, view, obs)
    assert encoded.dtype == np.float32
    assert np.isfinite(encoded).all()
    assert (np.abs(encoded) <= CLIP).all()


@pytest.mark.parametrize("ticks", [0, 1, 7, 400])
def test_nan_in_the_past_never_reaches_a_plan(ticks: int) -> None:
    setting = tiny_setting()
    obs = steady_observation(setting, 50.0, ticks=ticks)
    obs.history[0, 0, ::3] = np.nan
    obs.history[0, 1, ::5] = np.inf
    obs.day_accuracy_sum[:] = np.nan
    plan = MpcPolicy(setting).decide(obs)
    assert np.isfinite(plan.need_rps).all()
    assert (plan.replicas >= 0).all()
    assert (plan.replicas < 200).all()
    np.testing.assert_allclose(split_of(setting, obs, plan).sum(axis=(2, 3)), 1.0)


def every_lever(kind: str) -> Policy:
    """A scheme with all that was added turned on, where it has it."""
    if kind == "paragon":
        return make_policy("paragon:spot_share=0.7", tiny_setting())
    levers = "spot_share=0.7,over_provision=1.3,spot_spread=0.5,on_demand_floor=0.2,overflow_fraction=0.5"
    return make_policy(f"{kind}:adaptive_variant=true,{levers}", tiny_setting())


RIVALS = [*SCHEMES, *(f"{kind}:spot_share=0.7,over_provision=1.3" for kind in SCHEMES if kind != "paragon")]


@pytest.mark.parametrize("spec", [*RIVALS, *(f"every lever of {kind}" for kind in SCHEMES)])
def test_a_rival_plans_validly_and_alike_in_any_batch(spec: str) -> None:
    setting = tiny_setting()

    def made() -> Policy:
        kind = spec.removeprefix("every lever of ")
        return make_policy(spec, setting) if kind == spec else every_lever(kind)

    together, alone = made(), [made() for _ in range(NUM_ENVS)]
    together.reset(NUM_ENVS)
    for past in range(12):
        obs = random_observation(setting, past)
        plan = together.decide(obs)
        before = copy.deepcopy(plan)
        for n, policy in enumerate(alone):
            single = policy.decide(ObservationArrays(*(array[n : n + 1] for array in obs)))
            for name, first, second in zip(PlanArrays._fields, before, single, strict=True):
                assert first[n : n + 1].tobytes() == second.tobytes(), f"{name} of env {n} depends on its batch"
        guarded(setting, setting.limits, obs, plan)
        for name, first, second in zip(PlanArrays._fields[:-1], before, plan, strict=False):
            if name != "replicas":  # cut to what pools hold
                np.testing.assert_array_equal(first, second, err_msg=f"{name} was not valid as planned")
        assert (before.replicas >= 0).all()
        assert (before.replicas[:, :, setting.catalog.market == SERVERLESS] == 0).all()
        assert (before.replicas[:, ~setting.catalog.usable] == 0).all()


@pytest.mark.parametrize("kind", SCHEMES)
@pytest.mark.parametrize("ticks", [0, 1, 7, 400])
def test_nan_in_the_past_never_reaches_a_rivals_plan(kind: str, ticks: int) -> None:
    setting = tiny_setting()
    obs = steady_observation(setting, 50.0, ticks=ticks)
    obs.history[0, 0, ::3] = np.nan
    obs.history[0, 1, ::5] = np.inf
    obs.day_accuracy_sum[:] = np.nan
    for policy in (make_policy(kind, setting), every_lever(kind)):
        plan = policy.decide(obs)
        assert np.isfinite(plan.need_rps).all()
        assert (plan.replicas >= 0).all()
        assert (plan.replicas <= 100).all()


@pytest.mark.parametrize("kind", sorted(set(SCHEMES) - {"ribbon"}))
def test_a_rival_plans_next_to_nothing_once_traffic_has_ended(kind: str) -> None:
    setting = tiny_setting()
    obs = steady_observation(setting, 50.0)
    for policy in (make_policy(kind, setting), every_lever(kind)):
        policy.decide(obs)
        for tick in range(61, 61 + 400):
            obs = steady_observation(setting, 0.0, ticks=tick)
            plan = policy.decide(obs)
            obs.ready[0] = plan.replicas[0] * (setting.catalog.market != SERVERLESS)
        assert plan.replicas.sum() <= 6  # a replica or two of each deployment and market
