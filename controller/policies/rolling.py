"""A rolling-horizon MILP: the cheapest course of fleets over the next steps, of which the first is taken.

Capacity that is ordered serves only after its launch and load; until then there is what exists, and serverless for
the rest. Replicas are whole for the first steps and may be fractions later, where they only tell what is coming.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from controller.arrays import F64, I64, ON_DEMAND, SPOT
from controller.linear_program import Program
from controller.policies.demand import Demand, Stated
from controller.policies.solved import SolvedPolicy
from controller.policies.solver_settings import SolverSettings


class RollingMilpSettings(SolverSettings):
    """`rolling_milp`: forecast, launch delay and serverless over several steps ahead."""

    steps: int = Field(default=12, ge=2, le=24, description="steps planned ahead")
    step_s: float = Field(default=60.0, ge=10.0, le=300.0, description="length of a step")
    whole_steps: int = Field(default=1, ge=1, le=24, description="first steps in which replicas are whole numbers")
    launch_weight: float = Field(
        default=1.0, ge=0.0, le=10.0, description="charge of a launch, in rents of its launch and load"
    )
    swap_weight: float = Field(
        default=1.0, ge=0.0, le=10.0, description="charge of a change of variant, in rents of its swap"
    )
    overflow_weight: float = Field(
        default=1.0, ge=0.1, le=10.0, description="price of serverless in the program over its price in the catalog"
    )
    shortage_weight: float = Field(
        default=10.0, ge=1.0, le=100.0, description="price of a request that nothing answers, in dearest answers"
    )


class RollingMilpPolicy(SolvedPolicy):
    """`rolling_milp`; see `RollingMilpSettings`."""

    kind = "rolling_milp"
    Settings: ClassVar[type[SolverSettings]] = RollingMilpSettings
    settings: RollingMilpSettings

    def state_program(self, demand: Demand) -> Stated:
        """Planned replicas, loads, overflow and shortage of every step."""
        settings, cat = self.settings, self.setting.catalog
        step_s = settings.step_s / self.setting.scenario.speed
        v, p = demand.variant, demand.pool
        steps = settings.steps
        need = self._course(demand, step_s)
        price = cat.price_usd_per_s[p]

        program = Program()
        whole = np.arange(steps)[:, None] < settings.whole_steps
        count = program.add_columns(np.tile(price * step_s, (steps, 1)), 0.0, demand.most[p], whole)
        self._charge_changes(program, demand, count)
        flow, spilled = self._serve(program, demand, need, step_s)
        delay = np.ceil((cat.launch_s[p] + cat.load_s[v, p]) / step_s - 1e-9).astype(np.int64)
        over = np.where(cat.market[p] == SPOT, settings.over_provision, 1.0)
        each_rps = demand.rps_each / over
        # What serves in a step was planned without a gap since it was ordered; earlier it is at most what exists.
        for back in range(int(delay.max(initial=0)) + 1):
            late = np.flatnonzero(delay >= back)
            rows = program.add_rows(np.full((steps - min(back, steps), late.size), -np.inf), 0.0)
            if rows.size:
                program.add_entries(rows[:, None, :], flow[back:][:, :, late], 1.0)
                program.add_entries(rows, count[: steps - back][:, late], -each_rps[late])
        step, option = np.nonzero(np.arange(steps)[:, None] < delay[None, :])
        exists = program.add_rows(np.full(step.size, -np.inf), (each_rps * demand.existing)[option])
        program.add_entries(exists[:, None], flow[step, :, option], 1.0)
        # Until something that is ordered now serves, the mix is what it is. Waiting for the slowest option would let
        # every solve leave the faster ones to the next solve.
        first = min(int(delay.min(initial=steps)), steps - 1)
        self._limit(program, demand, count, flow, need, first)
        self._keep_accurate(program, demand, flow[first:], spilled[first:])
        return Stated(program, count[0])

    def _course(self, demand: Demand, step_s: float) -> F64:
        """Load of every step, (T, C): growth reached by the forecast's horizon, held after it."""
        part = np.minimum(1.0, (np.arange(self.settings.steps) + 1) * step_s / self.setting.control.horizon_s)
        grown = np.exp(np.maximum(demand.growth, 0.0) * part + min(demand.growth, 0.0))
        return np.asarray(grown[:, None] * demand.rps * demand.headroom + demand.queued_rps)

    def _charge_changes(self, program: Program, demand: Demand, count: I64) -> None:
        """Charges launches by pool and changes of variant by option."""
        settings, cat, v, p = self.settings, self.setting.catalog, demand.variant, demand.pool
        steps, num_pools = settings.steps, len(demand.most)
        price = cat.price_usd_per_s
        load_s = np.zeros(num_pools)
        np.maximum.at(load_s, p, cat.load_s[v, p])
        launched = program.add_columns(
            np.tile(settings.launch_weight * price * (cat.launch_s + load_s), (steps, 1)), 0.0, demand.most
        )
        turned = program.add_columns(np.tile(settings.swap_weight * price[p] * cat.swap_s[v, p], (steps, 1)))
        had = np.zeros(num_pools)
        np.add.at(had, p, demand.existing)
        for added, change, first in ((launched, p, had), (turned, np.arange(len(v)), demand.existing)):
            upper = np.zeros(added.shape)
            upper[0] = first
            rows = program.add_rows(np.full(added.shape, -np.inf), upper)
            program.add_entries(rows, added, -1.0)
            program.add_entries(rows[:, change], count, 1.0)
            program.add_entries(rows[1:][:, change], count[:-1], -1.0)

    def _serve(self, program: Program, demand: Demand, need: F64, step_s: float) -> tuple[I64, I64]:
        """Every request goes somewhere: flow (T, C, O), and what spills over to serverless (T, C)."""
        settings, wl = self.settings, self.setting.workload
        v, p = demand.variant, demand.pool
        steps, num_classes = need.shape
        usd = self._overflow_usd()
        dearest = max(float(usd[usd < np.inf].max(initial=0.0)), float(self._usd[v, p].max(initial=0.0)), 1e-9)
        flow = program.add_columns(
            np.zeros((steps, num_classes, len(v))), 0.0, np.where(wl.allowed[:, v, p], np.inf, 0.0)
        )
        can_spill = (usd < np.inf) & (self._overflow > 0.0)
        spill_usd = np.where(can_spill, settings.overflow_weight * np.where(can_spill, usd, 0.0) * step_s, 0.0)
        spilled = program.add_columns(np.tile(spill_usd, (steps, 1)), 0.0, np.where(can_spill, np.inf, 0.0))
        short = program.add_columns(np.full((steps, num_classes), settings.shortage_weight * dearest * step_s))
        served = program.add_rows(need, need)
        program.add_entries(served[:, :, None], flow, 1.0)
        program.add_entries(served, spilled, 1.0)
        program.add_entries(served, short, 1.0)
        return flow, spilled

    def _overflow_usd(self) -> F64:
        """Price of a request of each class on serverless, (C,); infinite where it has none."""
        cat, takes = self.setting.catalog, self.setting.workload.overflow_option
        v, p = np.divmod(np.maximum(takes, 0), len(cat.market))
        usd = cat.service_s[v, p, 1] * cat.memory_gb[p] * cat.usd_per_gb_s[p] + cat.usd_per_request[p]
        return np.where(takes >= 0, usd, np.inf)

    def _limit(self, program: Program, demand: Demand, count: I64, flow: I64, need: F64, first: int) -> None:
        """Pools and money hold from now on; the mix of markets once what is planned can serve."""
        settings, cat, p = self.settings, self.setting.catalog, demand.pool
        steps, num_pools = settings.steps, len(demand.most)
        within = program.add_rows(np.full((steps, num_pools), -np.inf), demand.most)
        program.add_entries(within[:, p], count, 1.0)
        budget = self.setting.limits.budget_usd_per_hour / 3600.0
        if budget < np.inf:
            rent = program.add_rows(np.full(steps, -np.inf), budget)
            program.add_entries(rent[:, None], count, cat.price_usd_per_s[p])
        on_spot = np.flatnonzero(cat.market[p] == SPOT)
        if not on_spot.size or not (cat.market[p] == ON_DEMAND).any():
            return
        total = need[first:].sum(axis=1)
        spot = program.add_rows(np.full(total.size, -np.inf), settings.most_on_spot * total)
        program.add_entries(spot[:, None, None], flow[first:][:, :, on_spot], 1.0)
        each = program.add_rows(np.full((total.size, num_pools), -np.inf), settings.pool_share * total[:, None])
        program.add_entries(each[:, p[on_spot]][:, None, :], flow[first:][:, :, on_spot], 1.0)

    def _keep_accurate(self, program: Program, demand: Demand, flow: I64, spilled: I64) -> None:
        """The mean accuracy of each class's answers in each step is what it needs; one step is not left to the next."""
        cat, takes = self.setting.catalog, self.setting.workload.overflow_option
        rows = program.add_rows(np.zeros(spilled.shape), np.inf)
        gain = cat.accuracy[demand.variant][None, :] - demand.target[:, None]
        program.add_entries(rows[:, :, None], flow, gain[None])
        by_overflow = cat.accuracy[np.maximum(takes, 0) // len(cat.market)] - demand.target
        program.add_entries(rows, spilled, by_overflow[None])
