"""The ILP of InfAdapter: a set of variants and their replicas, as accurate as is worth its money.

After "Reconciling High Accuracy, Cost-Efficiency, and Low Latency of Inference Serving Systems" (EuroMLSys 2023, arXiv
2304.10892): maximise a weighted sum of the average accuracy, less cost, less the cost of loading variants, with
capacity for the predicted load within a budget. There: one pool of CPU cores and one class. Here: pools with prices
and limits instead of cores, several classes with floors on their mean accuracy, options limited to those that meet a
class's SLO, and the levers of the other rivals around it.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from controller.arrays import ON_DEMAND, SPOT
from controller.linear_program import Program
from controller.policies.demand import Demand, Stated
from controller.policies.solved import SolvedPolicy
from controller.policies.solver_settings import SolverSettings


class InfAdapterSettings(SolverSettings):
    """`infadapter`: accuracy, cost and loading in one weighted sum; cost is relative to the most accurate fleet's."""

    accuracy_weight: float = Field(
        default=0.5, ge=0.0, le=50.0, description="worth of accuracy 1, in rents of the most accurate fleet"
    )
    loading_weight: float = Field(
        default=1.0, ge=0.0, le=10.0, description="weight of the rent paid while launches and variants load"
    )


class InfAdapterPolicy(SolvedPolicy):
    """`infadapter`; see `InfAdapterSettings`."""

    kind = "infadapter"
    Settings: ClassVar[type[SolverSettings]] = InfAdapterSettings
    settings: InfAdapterSettings

    def state_program(self, demand: Demand) -> Stated:
        """One moment: whole replicas, and the load of each class on each option."""
        settings, cat, wl = self.settings, self.setting.catalog, self.setting.workload
        v, p = demand.variant, demand.pool
        num_options, num_classes = len(v), len(demand.rps)
        need = demand.need_rps
        total = float(need.sum())
        price = cat.price_usd_per_s[p]
        reference = self._reference_usd_per_s(demand)
        load_s = np.where(demand.existing > 0, 0.0, cat.launch_s[p]) + cat.load_s[v, p]
        over = np.where(cat.market[p] == SPOT, settings.over_provision, 1.0)

        program = Program()
        count = program.add_columns(price / reference, 0.0, demand.most[p], True)
        replan_s = settings.replan_s / self.setting.scenario.speed
        loaded = program.add_columns(settings.loading_weight * price * load_s / (reference * replan_s))
        worth = settings.accuracy_weight * cat.accuracy[v] / max(total, 1e-9)
        open_to = wl.allowed[:, v, p]
        flow = program.add_columns(-np.tile(worth, (num_classes, 1)), 0.0, np.where(open_to, np.inf, 0.0))

        option = np.arange(num_options)
        served = program.add_rows(need, need)
        program.add_entries(served[:, None], flow, 1.0)
        capacity = program.add_rows(np.full(num_options, -np.inf), 0.0)
        program.add_entries(capacity, flow, 1.0)
        program.add_entries(capacity, count, -demand.rps_each / over)
        started = program.add_rows(np.full(num_options, -np.inf), demand.existing)
        program.add_entries(started, count, 1.0)
        program.add_entries(started, loaded, -1.0)
        accurate = program.add_rows(np.zeros(num_classes), np.inf)
        program.add_entries(accurate[:, None], flow, cat.accuracy[v][None, :] - demand.target[:, None])
        within = program.add_rows(np.full(len(demand.most), -np.inf), demand.most)
        program.add_entries(within[p], count, 1.0)
        budget = self.setting.limits.budget_usd_per_hour / 3600.0
        if budget < np.inf:
            program.add_entries(program.add_rows(-np.inf, budget), count, price)
        on_spot = option[cat.market[p] == SPOT]
        if on_spot.size and (cat.market[p] == ON_DEMAND).any():
            program.add_entries(program.add_rows(-np.inf, settings.most_on_spot * total), flow[:, on_spot], 1.0)
            each = program.add_rows(np.full(len(demand.most), -np.inf), settings.pool_share * total)
            program.add_entries(each[p[on_spot]][None, :], flow[:, on_spot], 1.0)
        return Stated(program, count)

    def _reference_usd_per_s(self, demand: Demand) -> float:
        """Rent of serving everything with each class's most accurate variant, where that is cheapest."""
        cat, wl, v, p = self.setting.catalog, self.setting.workload, demand.variant, demand.pool
        total = 0.0
        for c, need in enumerate(demand.need_rps):
            usable = wl.allowed[c, v, p]
            if usable.any():
                best = usable & (cat.accuracy[v] >= cat.accuracy[v][usable].max())
                total += need * float(self._usd[v, p][best].min())
        return max(total, 1e-9)
