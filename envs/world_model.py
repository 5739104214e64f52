"""The simulator as a `WorldModel`: what a few plans would cost and promise from here on, before one is chosen.

Every plan meets the same requests (common random numbers), so differences between plans are sharper than the standard
errors of each. What the model does not know it holds: the rate, unless a forecast is given, the mix of classes as the
scenario has it, and the spot market as it was observed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from controller.arrays import F64, SPOT, ObservationArrays, PlanArrays
from controller.compile import Setting
from controller.errors import UsageError, mismatch
from controller.loop import DecisionLoop
from controller.policies.held import HeldPlans
from controller.policies.predictive import recent_rate_rps
from controller.ports import Rollout
from envs.simulator import Simulator
from envs.starting import check_single
from envs.supply import Supply

RateForecast = Callable[[ObservationArrays, float], F64]
"""From an observation and a horizon in seconds to the rates of the coming ticks, requests/s; the last one holds on."""

_FOREVER_S = 1e12


class SimulatedWorldModel:
    """Predicts plans by simulating them.

    Args:
        setting: What is decided for.
        forecast: Rates to come; the mean of the last minute, held, by default.
        num_replications: Envs per plan, >= 1; with one there is no standard error.
        seed: Equal seeds give equal predictions, >= 0.
        threads: Threads that share the envs; results do not depend on it.

    Raises:
        UsageError: `num_replications` is below 1.
    """

    def __init__(
        self,
        setting: Setting,
        forecast: RateForecast | None = None,
        num_replications: int = 16,
        seed: int = 0,
        threads: int = 1,
    ) -> None:
        if num_replications < 1:
            raise UsageError(mismatch("num_replications", "a number >= 1", num_replications))
        # A zone per spot pool: what was observed is the pools, not the zones behind them.
        zone = np.where(setting.catalog.market == SPOT, np.arange(setting.shape[1]), -1)
        self.setting = replace(setting, catalog=setting.catalog._replace(zone=zone), zones=setting.pool_names)
        self.num_replications = num_replications
        self.seed = seed
        self._forecast = forecast
        self._threads = threads

    def rollout(self, observation: ObservationArrays, plans: PlanArrays, horizon_s: float) -> Rollout:
        """Simulates each plan, held for the horizon, from the observed state.

        Args:
            observation: Of one env.
            plans: K plans, each array with K in front.
            horizon_s: Seconds, at least one tick; whole ticks are run.

        Returns:
            Means and standard errors by plan. Requests that were queued at the start count as arrived.

        Raises:
            UsageError: The horizon is shorter than a tick, or the arrays do not fit the setting.
            ScenarioError: The scenario's simulator has too few slots for what was observed.
        """
        tick_s = self.setting.control.tick_s
        if not (math.isfinite(horizon_s) and horizon_s >= tick_s * (1.0 - 1e-9)):
            raise UsageError(mismatch("horizon_s", f"at least one tick ({tick_s:g} s)", horizon_s))
        check_single(observation)
        num_plans = len(plans.need_rps)
        if num_plans < 1:
            raise UsageError(mismatch("plans", "at least one plan", num_plans))
        size = num_plans * self.num_replications
        simulator = Simulator(self.setting, self._supply(observation, horizon_s), size, self._threads)
        seeds = np.random.SeedSequence(self.seed).generate_state(self.num_replications, np.uint64) >> np.uint64(1)
        seen = simulator.start_from(observation, np.tile(seeds.astype(np.int64), num_plans))
        queued = int(observation.queue[0].sum())
        wanted = PlanArrays._make(np.repeat(array, self.num_replications, axis=0) for array in plans)
        loop = DecisionLoop(self.setting, HeldPlans(wanted), size)
        for _ in range(int(horizon_s / tick_s + 1e-9)):
            decision = loop.decide(seen)
            simulator.apply(decision.actions, decision.plan, decision.shares)
            seen = simulator.advance()
        totals = simulator.totals
        arrived = totals.arrivals.sum(axis=1) + queued
        answered = totals.answered.sum(axis=1)
        right = totals.accuracy_sum.sum(axis=1)
        shape = (num_plans, self.num_replications)
        accuracy = np.divide(right, answered, out=np.full(size, np.nan), where=answered > 0)
        cost, cost_error = _mean_and_error(totals.spend_usd.sum(axis=1).reshape(shape))
        attained, attained_error = _mean_and_error(
            1.0 - totals.missed.sum(axis=1).reshape(shape) / np.maximum(1, arrived.reshape(shape))
        )
        accurate, accurate_error = _mean_and_error(accuracy.reshape(shape))
        return Rollout(cost, attained, accurate, cost_error, attained_error, accurate_error)

    def _supply(self, observation: ObservationArrays, horizon_s: float) -> Supply:
        """The forecast rate, and of each spot pool its quota where it is available, else what is there."""
        if self._forecast is None:
            rates = np.array([recent_rate_rps(self.setting, observation)])
        else:
            rates = np.asarray(self._forecast(observation, horizon_s), np.float64)
            if rates.ndim != 1 or rates.size == 0:
                raise UsageError(mismatch("forecast", "at least one rate, in one dimension", f"shape {rates.shape}"))
        there = (observation.ready[0] + observation.starting[0] + observation.draining[0]).sum(axis=0)
        share = np.where(observation.available[0], 1.0, there / np.maximum(1, self.setting.catalog.quota))
        return Supply(
            rate_rps=rates[None],
            rate_bin_s=self.setting.control.tick_s,
            spot_share=share.clip(0.0, 1.0)[:, None],
            spot_bin_s=_FOREVER_S,
            gap_cv=self.setting.scenario.arrivals.cv,
        )


def _mean_and_error(values: F64) -> tuple[F64, F64]:
    """Mean and standard error over the second axis of what is a number; NaN where there are too few."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    nan = np.full(len(values), np.nan)
    mean = np.divide(np.where(known, values, 0.0).sum(axis=1), count, out=nan.copy(), where=count > 0)
    squares = np.where(known, (values - mean[:, None]) ** 2, 0.0).sum(axis=1)
    error = np.sqrt(np.divide(squares, count * (count - 1.0), out=nan.copy(), where=count > 1))
    return mean, error
