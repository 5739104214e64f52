"""What the solver-based rivals share: when they plan anew, what for, and what becomes of a solve that fails.

Two ideas are needed to read it. A policy states a mixed-integer program for the demand forecast, every minute and at
once after a loss; between solves its plan is held. And a solve that ends without a plan changes nothing: the last plan
stays in force and the failure is counted. What a program looks like is each policy's own module.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import numpy as np

from controller.arrays import F64, I64, ON_DEMAND, SERVERLESS, Bool, ObservationArrays, PlanArrays, empty_plan
from controller.batching import by_patience, capacity_rps, largest_batches, machine_usd
from controller.compile import Setting
from controller.forecaster_file import DEFAULT, forecaster_named
from controller.linear_program import INFEASIBLE, LIMIT, OPTIMAL
from controller.plan import Reason
from controller.policies.choice import check_single_operators
from controller.policies.demand import Demand, Stated, class_shares
from controller.policies.solver_settings import SolverSettings
from controller.rule_arrays import ForecastArrays

PROBE_SPREAD = 0.3
"""A pool that may be back is probed where it costs at most this much more than the cheapest."""

WORST_GAP = 0.05
"""A plan found by the time limit that may be this much dearer than the best is worse than the relaxation rounded up."""

ROOM_TO_DOMINATE = 2.0
"""An option makes a dearer one needless only if its pool could hold the whole demand this many times."""


class SolveCounts(NamedTuple):
    """What the programs of one env, or of several together, came to since `reset`."""

    solves: int  # programs solved
    limit_hits: int  # of these, ended by the time limit
    rounded: int  # of these, so far from the best bound that the linear relaxation was rounded up instead
    infeasible: int  # programs without a solution; the last plan was kept, as for those that failed
    failed: int  # programs that ended in another way without a plan


class SolvedPolicy(ABC):
    """Plans by solving a program.

    Args:
        setting: What is decided for.
        settings: Levers and the solver's limits.
        forecast: Forecaster; the fitted one of the package by default.
        name: Name in tables.
    """

    kind: ClassVar[str]
    Settings: ClassVar[type[SolverSettings]]

    def __init__(
        self,
        setting: Setting,
        settings: SolverSettings | None = None,
        forecast: ForecastArrays | None = None,
        name: str | None = None,
    ) -> None:
        self.name = self.kind if name is None else name
        self.setting = setting
        self.settings = self.Settings() if settings is None else settings
        check_single_operators(setting, self.name)
        self.forecast = forecaster_named(DEFAULT) if forecast is None else forecast
        self._batch_size = largest_batches(setting.catalog, setting.workload, self.settings.batch_slack)
        self._rps = capacity_rps(setting.catalog, self._batch_size)
        self._usd = machine_usd(setting.catalog, self._rps)
        self._headroom = self.settings.headroom * by_patience(setting.workload, self.settings.patient_headroom)
        self._overflow = self.settings.overflow_fraction * by_patience(setting.workload, self.settings.patient_overflow)
        self._shed = self.settings.shed_slack * by_patience(setting.workload, self.settings.patient_shed)
        machines = setting.catalog.market != SERVERLESS
        self._offered = (self._rps > 0) & machines & setting.workload.allowed.any(axis=0)
        self._on_hull = self._offered & ~mixed_better(setting, self._usd)
        accuracy = setting.catalog.accuracy
        self._ranked = np.argsort(-accuracy, kind="stable").astype(np.int64)
        self.reset(1)

    def reset(self, num_envs: int) -> None:
        """Forgets all state; counts go to zero."""
        shape = self.setting.shape
        self._counts = np.zeros((num_envs, len(SolveCounts._fields)), np.int64)
        self._plan = empty_plan(num_envs, shape)
        # The guard writes into the plan it is given, so what is held is kept apart.
        self._held = empty_plan(num_envs, shape)
        self._has_plan = np.zeros(num_envs, np.bool_)
        self._planned_s = np.full(num_envs, -np.inf)
        self._doomed = np.zeros(num_envs, np.int64)
        self._levels = np.full((num_envs, shape[1]), np.inf)
        self._trusted = np.ones((num_envs, shape[1]), np.bool_)
        self._is_open = np.ones((num_envs, shape[1]), np.bool_)

    def decide(self, observation: ObservationArrays) -> PlanArrays:
        """Plans every env whose time has come; the same buffers are returned each time."""
        for n in range(len(observation.tick)):
            if self._is_due(observation, n):
                self._replan(observation, n)
                self._planned_s[n] = observation.time_s[n]
        for into, held in zip(self._plan, self._held, strict=True):
            into[...] = held
        self._let_wait(observation)
        return self._plan

    def counts(self, env: int | None = None) -> SolveCounts:
        """What the programs came to, of one env or of all together."""
        total = self._counts.sum(axis=0) if env is None else self._counts[env]
        return SolveCounts(*total.tolist())

    def raw_output(self) -> F64:
        """No knobs."""
        return np.zeros((len(self._plan.need_rps), 0))

    @abstractmethod
    def state_program(self, demand: Demand) -> Stated:
        """The program of one env."""

    def _is_due(self, obs: ObservationArrays, n: int) -> bool:
        """Whether it is time, or something was lost, will be lost, or was refused since the last tick."""
        doomed = int(obs.doomed[n].sum())
        is_hit = doomed > self._doomed[n] or bool(obs.preempted[n].any()) or bool(obs.launch_failed[n].any())
        self._doomed[n] = doomed
        span_s = self.settings.replan_s / self.setting.scenario.speed
        return is_hit or bool(obs.time_s[n] - self._planned_s[n] >= span_s - 1e-6)

    def _let_wait(self, obs: ObservationArrays) -> None:
        """Lets permitted misses happen; of every tick, as what was missed so far is known at every tick."""
        from controller.kernels.spending import share_let_wait

        setting, budget = self.setting, self.settings.miss_budget
        if budget > 0.0:
            for n, c in np.ndindex(self._plan.overflow_fraction.shape):
                let_wait = share_let_wait(setting.catalog, setting.workload, setting.control, obs, n, c, budget, 0.0)
                self._plan.overflow_fraction[n, c] *= 1.0 - let_wait

    def _replan(self, obs: ObservationArrays, n: int) -> None:
        demand = self._demand(obs, n)
        replicas, counted = self._solve(demand)
        self._counts[n] += counted
        if replicas is None:
            if self._has_plan[n]:
                return
            replicas = (obs.ready[n] + obs.starting[n]) * (self.setting.catalog.market != SERVERLESS)
        self._has_plan[n] = True
        self._write(obs, n, demand, replicas)

    def _solve(self, demand: Demand) -> tuple[I64 | None, SolveCounts]:
        """Replicas (V, P) of one env, None where the solve gave no plan, and what is counted of it."""
        replicas = np.zeros(self.setting.shape[:2], np.int64)
        if not demand.variant.size:  # serverless alone, which wakes by itself
            return replicas, SolveCounts(0, 0, 0, 0, 0)
        stated = self.state_program(demand)
        found = stated.program.solve_mixed(self.settings.mip_gap, self.settings.limit_s)
        counted = SolveCounts(1, int(found.status == LIMIT), 0, int(found.status == INFEASIBLE), 0)
        if found.status == LIMIT and found.gap > WORST_GAP:
            found = stated.program.solve_relaxed()
            counted = counted._replace(rounded=int(found.values is not None))
        if found.values is None or found.status not in (OPTIMAL, LIMIT):
            return None, counted._replace(failed=int(found.status != INFEASIBLE))
        # Whole numbers come back within a tolerance; what is a little too much is not a replica more.
        counts = np.ceil(found.values[stated.replicas] - 1e-4).astype(np.int64)
        np.add.at(replicas, (demand.variant, demand.pool), counts)
        return replicas, counted

    def _demand(self, obs: ObservationArrays, n: int) -> Demand:
        from controller.kernels.forecast import NUM_INPUTS, forecast_one
        from controller.kernels.mpc import needed_accuracy
        from controller.kernels.provision import open_pools
        from controller.kernels.quantiles import quantile_at

        setting, settings = self.setting, self.settings
        cat, wl, ctl = setting.catalog, setting.workload, setting.control
        speed = setting.scenario.speed
        growth = np.zeros(len(self.forecast.levels))
        rps = forecast_one(ctl, self.forecast, obs, n, setting.scenario.mean_rps, np.empty(NUM_INPUTS), growth)
        log_odds = np.log(settings.quantile / (1.0 - settings.quantile))
        open_pools(obs.available, obs.ready, n, self._trusted, self._is_open)
        load_rps = class_shares(setting, obs, n) * rps
        queued_rps = np.maximum(obs.waiting[n], 0) / (settings.backlog_s / speed)
        grown = min(5.0, float(quantile_at(self.forecast.levels, growth, log_odds)))
        need_rps = float((load_rps * np.exp(grown) * self._headroom + queued_rps).sum())
        existing = obs.ready[n] + obs.starting[n]
        variant, pool = self._options(existing, self._is_open[n], need_rps)
        has = existing.sum(axis=0)
        target = np.zeros(len(load_rps))
        for c in range(len(load_rps)):
            usable = np.unique(variant[wl.allowed[c, variant, pool]])
            best = float(cat.accuracy[usable].max()) if usable.size else 0.0
            wanted = needed_accuracy.py_func(
                cat, wl, ctl, obs, n, c, load_rps[c], settings.accuracy_margin, settings.repay_s / speed, best
            )
            target[c] = min(best, wanted)
        return Demand(
            rps=load_rps,
            growth=grown,
            queued_rps=queued_rps,
            target=target,
            variant=variant,
            pool=pool,
            rps_each=self._rps[variant, pool],
            existing=existing[variant, pool],
            most=np.where(self._is_open[n], setting.limits.pool_max, np.minimum(has, setting.limits.pool_max)),
            is_open=self._is_open[n].copy(),
            headroom=self._headroom,
        )

    def _options(self, existing: I64, is_open: Bool, need_rps: float) -> tuple[I64, I64]:
        """Machine options worth choosing from: those that exist, and those in open pools that no other dominates.

        One dominates another of its market (on spot, of its zone) if it is as accurate, as cheap per request, no
        dearer to take one more of, open to the same classes, and has room for everything. So do two variants on the
        pool of a third, of which a mixture is as accurate and as cheap.
        """
        cat, wl = self.setting.catalog, self.setting.workload
        variant, pool = np.nonzero((self._on_hull & is_open) | (self._offered & (existing > 0)))
        place = np.where(cat.market[pool] == ON_DEMAND, -1, cat.zone[pool])
        classes = wl.allowed[:, variant, pool]
        accuracy, usd, price = cat.accuracy[variant], self._usd[variant, pool], cat.price_usd_per_s[pool]
        room_rps = self.setting.limits.pool_max[pool] * self._rps[variant, pool]
        has_room = is_open[pool] & (room_rps >= ROOM_TO_DOMINATE * need_rps)
        # [a, b]: a is as good as b in every way; of two that are equal, the first stays.
        as_good = (
            (place[:, None] == place[None, :])
            & (accuracy[:, None] >= accuracy[None, :])
            & (usd[:, None] <= usd[None, :])
            & (price[:, None] <= price[None, :])
            & (classes[:, :, None] >= classes[:, None, :]).all(axis=0)
            & has_room[:, None]
        )
        index = np.arange(len(variant))
        dominated = (as_good & (~as_good.T | (index[:, None] < index[None, :]))).any(axis=0)
        kept = ~dominated | (existing[variant, pool] > 0)
        return variant[kept].astype(np.int64), pool[kept].astype(np.int64)

    def _write(self, obs: ObservationArrays, n: int, demand: Demand, replicas: I64) -> None:
        """Puts the plan of env n into force until the next one."""
        from controller.kernels.placing import admitted_slack, class_slack, serving_rps
        from controller.kernels.provision import hold_machines, probe_pools

        setting, settings, plan = self.setting, self.settings, self._held
        cat, wl = setting.catalog, setting.workload
        plan.replicas[n] = replicas
        plan.batch_size[n] = self._batch_size
        plan.need_rps[n] = float(demand.need_rps.sum())
        probe_pools(
            wl.allowed, self._rps, self._usd, cat.market, setting.limits.pool_max, obs.available, n,
            self._is_open, PROBE_SPREAD, plan.replicas,
        )  # fmt: skip
        since_s = max(0.0, float(obs.time_s[n] - self._planned_s[n]))  # infinite at first: nothing was held then
        scale_in_s = settings.scale_in_s / setting.scenario.speed
        keep = float(np.exp(-since_s / scale_in_s)) if scale_in_s > 0.0 else 0.0
        is_held = hold_machines(cat.market, obs.ready, obs.starting, n, keep, self._levels, self._ranked, plan.replicas)
        total_rps = float(demand.rps.sum())
        ready_rps = serving_rps(cat.market, obs.ready, obs.doomed, self._rps, n)
        for c in range(len(demand.rps)):
            slack_s = class_slack(
                wl.allowed, cat.market, cat.service_s, wl.network_s, self._batch_size, plan.replicas, wl.slo_s, n, c
            )
            plan.overflow_after_s[n, c] = settings.overflow_slack * slack_s
            plan.overflow_fraction[n, c] = self._overflow[c]
            share = demand.rps[c] / total_rps if total_rps > 0.0 else wl.share[c]
            slacks = admitted_slack(wl, obs, n, c, self._shed[c], settings.overflow_slack, self._overflow[c])
            room = slacks * slack_s * share * max(ready_rps, total_rps)
            plan.shed_limit[n, c] = max(1, int(min(np.ceil(room), 1e9)))
        reasons = Reason.FOLLOW_DEMAND
        reasons |= Reason.HOLD_SCALE_IN if is_held else Reason(0)
        reasons |= Reason.COVER_PREEMPTION if obs.doomed[n].any() else Reason(0)
        reasons |= Reason.OVERFLOW if self._overflow.any() and ready_rps < total_rps else Reason(0)
        plan.reasons[n] = int(reasons)


def mixed_better(setting: Setting, usd: F64) -> Bool:
    """Options (V, P) that a mixture of a less and a more accurate variant on the same pool replaces at no more cost.

    Args:
        setting: Names accuracies, and which classes may use what.
        usd: (V, P) per request; infinite for what is no machine.
    """
    accuracy, allowed = setting.catalog.accuracy, setting.workload.allowed
    replaced = np.zeros(usd.shape, np.bool_)
    for p in range(usd.shape[1]):
        ranked = [int(v) for v in np.argsort(accuracy) if usd[v, p] < np.inf]
        for v in ranked:
            fits = [u for u in ranked if (allowed[:, u, p] >= allowed[:, v, p]).all()]
            for low in (u for u in fits if accuracy[u] < accuracy[v]):
                for high in (u for u in fits if accuracy[u] > accuracy[v]):
                    part = (accuracy[v] - accuracy[low]) / (accuracy[high] - accuracy[low])
                    replaced[v, p] |= (1.0 - part) * usd[low, p] + part * usd[high, p] <= usd[v, p]
    return replaced
