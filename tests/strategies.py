"""Hypothesis strategies for observations, plans and limits on the tiny catalog, drawn by numpy from seeds."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from controller.arrays import LimitArrays, ObservationArrays, PlanArrays, empty_observation, empty_plan
from controller.compile import Setting

seeds = st.integers(0, 2**32 - 1)


def random_observation(setting: Setting, seed: int, num_envs: int = 4) -> ObservationArrays:
    """Any fleet and any past, envs differing: silent ones, young ones, and days with every accuracy."""
    rng = np.random.default_rng(seed)
    obs = empty_observation(num_envs, setting.shape)
    obs.tick[:] = rng.choice([0, 1, 3, 20, 400, 5000], num_envs)
    obs.time_s[:] = obs.tick * setting.control.tick_s
    scale = rng.choice([0.0, 3.0, 300.0, 3000.0], (num_envs, 1, 1))
    obs.history[:] = rng.poisson(scale, obs.history.shape)
    obs.arrivals[:] = rng.poisson(scale[:, 0], obs.arrivals.shape)
    usable = setting.catalog.usable
    for counts in (obs.ready, obs.starting, obs.draining, obs.doomed):
        counts[:] = rng.integers(0, 12, counts.shape) * rng.integers(0, 2, counts.shape) * usable
    obs.available[:] = rng.random(obs.available.shape) < 0.7
    obs.waiting[:] = rng.integers(0, 500, obs.waiting.shape)
    obs.missed[:] = rng.integers(0, 100, obs.missed.shape)
    obs.busy_s[:] = rng.random(obs.busy_s.shape) * 100
    obs.answered[:] = obs.arrivals
    obs.day_arrivals[:] = rng.integers(0, 10**6, obs.day_arrivals.shape)
    obs.day_answered[:] = (obs.day_arrivals * rng.random(obs.day_arrivals.shape)).astype(np.int64)
    obs.day_accuracy_sum[:] = obs.day_answered * rng.uniform(0.6, 0.85, obs.day_answered.shape)
    obs.spend_usd[:] = rng.random(obs.spend_usd.shape)
    return obs


def garbage_plan(setting: Setting, seed: int, num_envs: int = 4) -> PlanArrays:
    """A plan with negative, huge, NaN and infinite numbers among ordinary ones."""
    rng = np.random.default_rng(seed)
    plan = empty_plan(num_envs, setting.shape)
    strange_counts = np.array([-5, 0, 1, 2, 3, 7, 40, 10**6, 2**62])
    strange_numbers = np.array([-1.0, 0.0, 0.3, 1.0, 7.5, np.inf, -np.inf, np.nan])
    for name in ("replicas", "batch_size", "shed_limit"):
        array = getattr(plan, name)
        array[:] = rng.choice(strange_counts, array.shape)
    for name in ("overflow_after_s", "overflow_fraction", "hedge_after_s", "batch_wait_s", "shares", "need_rps"):
        array = getattr(plan, name)
        array[:] = rng.choice(strange_numbers, array.shape)
    plan.cascade_variant[:] = rng.permuted(
        np.broadcast_to([-1, 0, 1, 2], (*plan.cascade_variant.shape[:2], 4)), axis=2
    )[..., :3]
    strange_steps = rng.random(plan.cascade_variant.shape) < 0.1
    plan.cascade_variant[strange_steps] = rng.choice([-2, -1, 1, 3, 2**40], strange_steps.sum())
    plan.cascade_threshold[:] = rng.choice(
        strange_numbers, plan.cascade_threshold.shape, p=[0.1, *[0.15] * 5, 0.1, 0.05]
    )
    plan.cascade_concurrent[:] = rng.random(plan.cascade_concurrent.shape) < 0.4
    strange_variants = [-7, -1, 0, 2, 2**40]
    plan.collage_variant[:] = rng.choice(strange_variants, plan.collage_variant.shape, p=[0.05, 0.6, 0.1, 0.2, 0.05])
    plan.collage_after_s[:] = rng.choice(strange_numbers, plan.collage_after_s.shape)
    plan.collage_passes[:] = rng.choice([-1, 0, 1, 2, 3, 2**40], plan.collage_passes.shape)
    plan.hedge_replaces[:] = rng.random(plan.hedge_replaces.shape) < 0.4
    plan.fixed_shares[:] = rng.integers(0, 2, num_envs).astype(bool)
    return plan


def feasible_limits(setting: Setting, seed: int) -> LimitArrays:
    """Limits that a scenario may state: minima within maxima, and a budget that pays for minima and floor."""
    rng = np.random.default_rng(seed)
    num_pools = setting.shape[1]
    most = rng.integers(1, 60, num_pools)
    least = np.minimum(rng.integers(0, 4, num_pools), most) * (setting.catalog.market != 2)
    floor = int(rng.integers(0, most[0] + 1))
    price = setting.catalog.price_usd_per_s * 3600
    must = float((least * price).sum() + max(0, floor - least[0]) * price[0])
    budget = np.inf if rng.random() < 0.3 else must * (1 + rng.exponential(1.0)) + 1e-6
    return LimitArrays(
        pool_min=least,
        pool_max=most,
        on_demand_floor=floor,
        max_launch=rng.choice([1, 3, 1000], num_pools),
        max_drain=rng.choice([1, 3, 1000], num_pools),
        budget_usd_per_hour=float(budget),
    )
