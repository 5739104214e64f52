"""No limit is ever exceeded: a million random ticks, spot storms included, held to an oracle that shares no code.

Envs are ticks of their own here: plans with invalid numbers, fleets that jump about, storms that put all of spot under
notice, prices and spends near every edge of the budgets.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.arrays import (
    SERVERLESS,
    SPOT,
    LimitArrays,
    ObservationArrays,
    PlanArrays,
    StrictLimits,
    empty_actions,
    empty_plan,
)
from controller.compile import Setting, limits_for
from controller.loop import DecisionLoop
from controller.plan import DEGRADE, Reason
from envs.simulator import Simulator
from envs.supply import Supply
from tests.strategies import garbage_plan, random_observation, seeds
from tests.tiny import MEDIUM, SMALL, tiny_setting

pytestmark = pytest.mark.timeout(900)  # compiles the guard once

NUM_ENVS = 1000
DAY_S = 2000.0
USD = 1e-6

I64 = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
F64 = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Bool = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


def short_day_setting() -> Setting:
    """Days of 200 ticks, so that many of them begin and end."""
    setting = tiny_setting()
    return replace(setting, control=setting.control._replace(day_s=DAY_S))


def random_limits(setting: Setting, rng: np.random.Generator) -> tuple[LimitArrays, StrictLimits]:
    """Limits without regard to whether they can all be met: what is stronger has to win."""
    num_pools = setting.shape[1]
    most = rng.integers(0, 40, num_pools)
    limits = LimitArrays(
        pool_min=np.minimum(rng.integers(0, 4, num_pools) * (rng.random(num_pools) < 0.5), most),
        pool_max=most,
        on_demand_floor=int(rng.choice([0, 0, 3])),
        max_launch=rng.choice([1, 3, 1000], num_pools),
        max_drain=rng.choice([1, 3, 1000], num_pools),
        budget_usd_per_hour=float(rng.choice([np.inf, np.inf, 0.2, 3.0, 8.0])),
    )
    strict = StrictLimits(
        cool_down_s=rng.choice([0.0, 15.0, 60.0], num_pools),
        launch_cool_down_s=rng.choice([0.0, 15.0, 60.0], num_pools),
        budget_usd_per_day=float(rng.choice([np.inf, np.inf, 0.5, 4.0])),
        degrade=rng.permutation(len(DEGRADE))[: rng.integers(0, len(DEGRADE) + 1)],
        control=setting.control,
    )
    return limits, strict


def random_tick(obs: ObservationArrays, setting: Setting, rng: np.random.Generator) -> None:
    """Another fleet, another market and another spend; in a storm all of spot is under notice or gone."""
    usable = setting.catalog.usable
    for counts in (obs.ready, obs.starting, obs.draining, obs.doomed):
        counts[:] = rng.integers(-9, 10, counts.shape).clip(0) * usable
    is_spot = setting.catalog.market == SPOT
    obs.doomed[:, :, ~is_spot] = 0
    num_envs = len(obs.tick)
    calm = rng.random(num_envs) < 0.7
    obs.doomed[calm] = 0
    obs.available[:] = True
    obs.preempted[:] = 0
    storm = rng.random(num_envs) < 0.1
    spot = np.ix_(storm, np.arange(usable.shape[0]), np.flatnonzero(is_spot))
    obs.doomed[spot] += obs.ready[spot]
    obs.ready[spot] = 0
    obs.available[np.ix_(storm, np.flatnonzero(is_spot))] = False
    obs.preempted[np.ix_(storm, np.flatnonzero(is_spot))] = rng.integers(0, 4)
    obs.launch_failed[:] = rng.integers(0, 2, obs.launch_failed.shape) * (rng.random(obs.launch_failed.shape) < 0.1)
    obs.tick[:] += 1
    obs.time_s[:] = obs.tick * setting.control.tick_s
    obs.day_spend_usd[:] = rng.random(obs.day_spend_usd.shape) * rng.choice([0.0, 0.01, 0.1, 0.5], (num_envs, 1))


@dataclass
class Oracle:
    """What is allowed, worked out with whole arrays."""

    setting: Setting
    alive: I64
    scaled_in_s: F64

    @classmethod
    def of(cls, setting: Setting, num_envs: int) -> Oracle:
        shape = (num_envs, setting.shape[1])
        return cls(setting, np.full(shape, -1), np.full(shape, -np.inf))

    def see(self, obs: ObservationArrays) -> None:
        alive = (obs.ready + obs.starting + obs.doomed).sum(axis=1)
        has_shrunk = (self.alive >= 0) & (self.alive - obs.preempted - obs.launch_failed > alive)
        self.scaled_in_s = np.where(has_shrunk, obs.time_s[:, None], self.scaled_in_s)
        self.alive = alive

    def ceiling(self, limits: LimitArrays, strict: StrictLimits, obs: ObservationArrays) -> I64:
        """Replicas that each pool may have, (N, P): maximum, quota, launch ramp and launch cool-down."""
        have = (obs.ready + obs.starting).sum(axis=1)
        ceiling = np.minimum(np.minimum(limits.pool_max, self.setting.catalog.quota), have + limits.max_launch)
        is_trouble = (~obs.available | (obs.preempted > 0) | (obs.doomed.sum(axis=1) > 0)).any(axis=1)
        since_s = obs.time_s[:, None] - self.scaled_in_s
        is_held = (since_s < strict.launch_cool_down_s - 1e-3) & ~is_trouble[:, None]
        is_held[:, 0] &= have[:, 0] >= limits.on_demand_floor
        return np.where(is_held, np.minimum(ceiling, np.maximum(have, limits.pool_min)), ceiling)

    def meets_minima(self, limits: LimitArrays, strict: StrictLimits, obs: ObservationArrays, plan: PlanArrays) -> Bool:
        """Whether minima and floor are met as far as the ceilings allow, (N,)."""
        ceiling, in_pool = self.ceiling(limits, strict, obs), plan.replicas.sum(axis=1)
        has_floor = in_pool[:, 0] >= np.minimum(limits.on_demand_floor, ceiling[:, 0])
        found: Bool = (in_pool >= np.minimum(limits.pool_min, ceiling)).all(axis=1) & has_floor
        return found

    def check(self, limits: LimitArrays, strict: StrictLimits, obs: ObservationArrays, plan: PlanArrays) -> None:
        cat, ceiling = self.setting.catalog, self.ceiling(limits, strict, obs)
        in_pool, have = plan.replicas.sum(axis=1), (obs.ready + obs.starting).sum(axis=1)
        assert (plan.replicas >= 0).all()
        assert (plan.replicas[:, ~cat.usable] == 0).all()
        assert (in_pool <= ceiling).all()

        usd = 3600 * np.where(
            cat.market == SERVERLESS, cat.memory_gb * cat.provisioned_usd_per_gb_s, cat.price_usd_per_s
        )
        rental = in_pool @ usd
        assert (rental <= limits.budget_usd_per_hour + USD).all()
        left = self.left_usd(strict, obs, plan, usd)
        is_empty = (in_pool == 0).all(axis=1)
        assert ((left >= -USD) | is_empty).all()

        is_cut = (plan.reasons & int(Reason.BUDGET | Reason.DAY_BUDGET)) != 0
        assert (self.meets_minima(limits, strict, obs, plan) | is_cut).all()

        since_s = obs.time_s[:, None] - self.scaled_in_s
        drained = np.where(since_s < strict.cool_down_s - 1e-3, 0, limits.max_drain)
        is_short = in_pool < np.minimum(have - drained, ceiling)
        has_room = (rental[:, None] + usd < limits.budget_usd_per_hour) & (
            left[:, None] > usd * self.left_h(obs)[:, None] + USD
        )
        assert not (is_short & has_room).any()

    def left_h(self, obs: ObservationArrays) -> F64:
        elapsed = np.round(obs.time_s % DAY_S, 6)
        return np.maximum(DAY_S - elapsed, self.setting.control.tick_s) / 3600

    def left_usd(self, strict: StrictLimits, obs: ObservationArrays, plan: PlanArrays, usd: F64) -> F64:
        """What the day's budget leaves, $: less what was spent, the plan until midnight, and giving all of it up."""
        cat, tick_s = self.setting.catalog, self.setting.control.tick_s
        spent = np.where(np.round(obs.time_s % DAY_S, 6) >= tick_s, obs.day_spend_usd.sum(axis=1), 0.0)
        have = obs.ready + obs.starting
        count = (np.maximum(have, plan.replicas) + obs.doomed + obs.draining).sum(axis=1)
        leaving_s = np.where(cat.market == SPOT, np.maximum(tick_s, cat.notice_s), tick_s)
        each_s = tick_s + leaving_s + np.maximum(cat.min_billing_s, cat.release_lag_s)
        rental = plan.replicas.sum(axis=1) @ usd
        left: F64 = strict.budget_usd_per_day - spent - rental * self.left_h(obs) - count @ (usd * each_s / 3600)
        return left


def guard_all(setting: Setting, limits: LimitArrays, obs: ObservationArrays, plan: PlanArrays) -> None:
    from controller.kernels.guard import guard

    guard(setting.catalog, setting.workload, limits, obs, plan, 0, len(obs.tick))


def fresh_plan(base: PlanArrays, plan: PlanArrays, rng: np.random.Generator) -> None:
    for kept, first in zip(plan, base, strict=True):
        kept[:] = first
    strange = np.array([-5, 0, 0, 0, 1, 2, 3, 7, 40, 10**6, 2**60])
    plan.replicas[:] = rng.choice(strange, plan.replicas.shape)


def run_ticks(seed: int, ticks: int, num_envs: int = NUM_ENVS) -> int:
    """Random ticks under the oracle; returns how many plans a budget cut."""
    rng = np.random.default_rng(seed)
    setting = short_day_setting()
    values = setting.workload._replace(value_usd=np.array([0.002, 0.001]))
    setting = replace(setting, workload=values)
    base = garbage_plan(setting, seed, num_envs)
    plan = copy.deepcopy(base)
    obs = random_observation(setting, seed, num_envs)
    obs.tick[:] = rng.integers(0, 400, num_envs)
    memory = limits_for(tiny_setting(limits={"cool_down_s": 1.0}), num_envs).strict.memory
    oracle = Oracle.of(setting, num_envs)
    cut = 0
    for tick in range(ticks):
        if tick % 5 == 0:
            limits, strict = random_limits(setting, rng)
            template = limits_for(replace(setting, limits=limits, strict=strict), 1)
            limits = template._replace(strict=template.strict._replace(memory=memory))
        random_tick(obs, setting, rng)
        oracle.see(obs)
        fresh_plan(base, plan, rng)
        guard_all(setting, limits, obs, plan)
        oracle.check(limits, strict, obs, plan)
        cut += int(((plan.reasons & int(Reason.BUDGET | Reason.DAY_BUDGET)) != 0).sum())
        if tick % 20 == 0:
            again = copy.deepcopy(plan)
            guard_all(setting, limits, obs, again)
            oracle.check(limits, strict, obs, again)
            # Where the budgets do not pay for the minima, what is kept by a ramp may pay for them the second time.
            settled = oracle.meets_minima(limits, strict, obs, plan)
            for name, first, second in zip(PlanArrays._fields[:-1], plan, again, strict=False):
                np.testing.assert_array_equal(first[settled], second[settled], err_msg=f"{name} by a second pass")
    return cut


def test_no_limit_is_exceeded_in_sixty_thousand_random_ticks() -> None:
    assert run_ticks(0, 60) > 6_000  # the budgets were met often


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_limit_is_exceeded_in_a_million_random_ticks() -> None:
    assert sum(run_ticks(seed, 250) for seed in range(1, 5)) > 100_000


@settings(max_examples=20)
@given(seeds)
def test_no_limit_is_exceeded_by_any_seed(seed: int) -> None:
    run_ticks(seed, 3, 16)


def steps_taken(setting: Setting, order: tuple[str, ...], budget_usd_per_hour: float, seed: int) -> PlanArrays:
    """The same random plans, fleets and maxima under one order of degradation."""
    rng, num_envs = np.random.default_rng(seed), 400
    obs = random_observation(setting, seed, num_envs)
    limits, strict = random_limits(setting, rng)
    strict = strict._replace(
        degrade=np.array([DEGRADE.index(step) for step in order], np.int64), budget_usd_per_day=np.inf
    )
    limits = limits._replace(budget_usd_per_hour=budget_usd_per_hour, max_drain=np.full(setting.shape[1], 1000))
    strict = strict._replace(cool_down_s=np.zeros(setting.shape[1]))
    plan = empty_plan(num_envs, setting.shape)
    plan.replicas[:] = rng.integers(0, 9, plan.replicas.shape)
    guard_all(setting, limits_for(replace(setting, limits=limits, strict=strict), num_envs), obs, plan)
    return plan


def capacity(setting: Setting, plan: PlanArrays) -> F64:
    rps = np.array([20.0, 10.0, 5.0])[:, None] * (setting.catalog.market != SERVERLESS)
    total: F64 = (plan.replicas * rps).sum(axis=(1, 2))
    return total


@pytest.mark.parametrize("seed", range(3))
def test_a_later_step_begins_where_the_earlier_ones_end(seed: int) -> None:
    setting = tiny_setting()
    free = steps_taken(setting, DEGRADE, np.inf, seed)
    done = [steps_taken(setting, DEGRADE[:count], 2.0, seed) for count in (1, 2, 3)]
    bits = [Reason.CHEAPER_POOL, Reason.SMALLER_VARIANT, Reason.SHED]
    full = done[-1]
    has = [(full.reasons & int(bit)) != 0 for bit in bits]
    assert all(some.any() for some in has)
    assert (free.reasons & int(Reason.BUDGET) == 0).all()
    # Where the later steps did nothing, the first alone gives the same plan.
    for count in (1, 2):
        alone = ~np.any(has[count:], axis=0)
        np.testing.assert_array_equal(done[count - 1].replicas[alone], full.replicas[alone])
    # Capacity falls only where it is shed, and then nothing cheaper was left to do.
    kept = ~has[2]
    assert (capacity(setting, full)[kept] >= capacity(setting, free)[kept] - 1e-9).all()
    np.testing.assert_array_equal(full.replicas, done[1].replicas)  # what is not declared is cut likewise


class Storm:
    """Plans at random, each tick anew, more than can be paid for."""

    name = "storm"

    def __init__(self, setting: Setting, seed: int) -> None:
        self.setting, self.rng = setting, np.random.default_rng(seed)

    def reset(self, num_envs: int) -> None:
        self.num_envs = num_envs

    def decide(self, observation: ObservationArrays) -> PlanArrays:
        plan = empty_plan(self.num_envs, self.setting.shape)
        if self.rng.random() < 0.5:
            plan.replicas[:] = self.rng.integers(0, 12, plan.replicas.shape) * self.setting.catalog.usable
        else:
            plan.replicas[:, MEDIUM] = 3
        plan.replicas[:, SMALL:MEDIUM] *= self.rng.integers(0, 2)
        plan.overflow_fraction[:] = self.rng.choice([0.0, 0.5, 1.0])
        plan.overflow_after_s[:] = 0.1
        plan.shed_limit[:] = 1000
        return plan

    def raw_output(self) -> F64:
        return np.zeros((self.num_envs, 0))


def closed_loop(limits: dict[str, Any], seed: int, ticks: int = 450, envs: int = 8) -> list[ObservationArrays]:
    """Observations of a simulated world whose spot zones close together every few minutes."""
    rng = np.random.default_rng(seed)
    setting = tiny_setting(limits=limits, simulator={"max_instances": 128, "max_requests_held": 1024})
    control = setting.control._replace(day_s=DAY_S)
    strict = setting.strict._replace(control=control)
    setting = replace(setting, control=control, strict=strict)
    share = np.repeat((rng.random((1, 100)) < 0.7).astype(np.float64), 2, axis=0)
    rates = rng.choice([0.0, 2.0, 6.0], (2, ticks + 10))
    simulator = Simulator(setting, Supply(rates, 10.0, share, 60.0, 1.0), envs, 1)
    simulator.reset(np.arange(envs) + seed)
    loop = DecisionLoop(setting, Storm(setting, seed), envs)
    seen = []
    for _ in range(ticks):
        decision = loop.decide(simulator.observation)
        simulator.apply(decision.actions, decision.plan, decision.shares)
        simulator.advance()
        seen.append(copy.deepcopy(simulator.observation))
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("budget_usd", [0.3, 0.8])
@pytest.mark.parametrize("order", [DEGRADE, ()])
def test_no_day_costs_more_than_its_budget_while_storms_take_spot_away(
    budget_usd: float, order: tuple[str, ...]
) -> None:
    seen = closed_loop({"budget_usd_per_day": budget_usd, "degrade": list(order)}, seed=3)
    spent = np.array([obs.day_spend_usd.sum(axis=1) for obs in seen])
    assert spent.max() <= budget_usd + 1e-9
    assert spent.max() >= 0.7 * budget_usd  # and it is made use of
    assert sum(int(obs.preempted.sum()) for obs in seen) > 50


def test_no_pool_scales_in_twice_within_its_cool_down_while_storms_take_spot_away() -> None:
    cool_down_s = 60.0
    seen = closed_loop({"cool_down_s": cool_down_s, "budget_usd_per_hour": 50.0, "degrade": []}, seed=5)
    alive = np.array([(obs.ready + obs.starting + obs.doomed).sum(axis=1) for obs in seen])
    lost = np.array([obs.preempted + obs.launch_failed for obs in seen])
    scaled_in = alive[:-1] - lost[1:] > alive[1:]
    assert scaled_in.sum() > 20
    ticks = round(cool_down_s / 10.0)
    for n, p in np.ndindex(alive.shape[1:]):
        at = np.flatnonzero(scaled_in[:, n, p])
        assert (np.diff(at) > ticks).all()


@given(st.sampled_from([0.05, 0.3]), seeds)
@settings(max_examples=10)
def test_calls_are_bounded_by_what_the_hour_leaves(budget_usd_per_hour: float, seed: int) -> None:
    from controller.kernels.decide import settle

    limits = {"budget_usd_per_hour": budget_usd_per_hour, "degrade": ["shed"]}
    setting, num_envs = tiny_setting(limits=limits), 100
    obs = random_observation(setting, seed, num_envs)
    plan = garbage_plan(setting, seed, num_envs)
    num_variants, num_pools, num_classes = setting.shape
    shares = np.zeros((num_envs, num_classes, num_variants, num_pools))
    settle(
        setting.catalog, setting.workload, limits_for(setting, num_envs), setting.control, obs, plan,
        empty_actions(num_envs, setting.shape), shares, 0, num_envs,
    )  # fmt: skip
    cat = setting.catalog
    is_call = cat.market == SERVERLESS
    usd = 3600 * np.where(is_call, cat.memory_gb * cat.provisioned_usd_per_gb_s, cat.price_usd_per_s)
    ticks = np.minimum(obs.tick, 6)
    peak = np.zeros((num_envs, num_classes))
    for k in range(6):
        slot = (obs.tick - 1 - k) % obs.history.shape[2]
        peak = np.where((k < ticks)[:, None], np.maximum(peak, obs.history[np.arange(num_envs), :, slot]), peak)
    rate = peak / setting.control.tick_s
    call_usd = np.array([0.1, 0.2, 0.4]) * 1.5 * 1.66667e-5 + 2e-7
    sent = shares[:, :, :, is_call].sum(axis=3)
    over_option = setting.workload.overflow_option // num_pools
    # A request that overflows does so on arrival and again at every later step of its cascade.
    later = plan.cascade_variant[:, :, 1:]
    at_steps = np.where(later >= 0, call_usd[later], 0.0).sum(axis=2)
    may_go = rate * plan.overflow_fraction * ((1 - sent.sum(axis=2)) * call_usd[over_option] + at_steps)
    spend = 3600 * ((rate[:, :, None] * sent * call_usd).sum(axis=(1, 2)) + may_go.sum(axis=1))
    rental = plan.replicas.sum(axis=1) @ usd
    assert (rental + spend <= budget_usd_per_hour + USD).all()
    np.testing.assert_allclose(shares.sum(axis=(2, 3)), 1.0, atol=1e-9)
