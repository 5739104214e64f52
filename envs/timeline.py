"""The course of one episode, a point per decision: what `ServingEnv.render` shows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from controller.arrays import F64, I64, ON_DEMAND, SERVERLESS, SPOT, Bool
from controller.latency import quantile
from controller.rule_arrays import RATE_TICKS
from envs.kernels.state import TotalArrays
from envs.stepper import Stepper


class Point(NamedTuple):
    """One decision: sums are over its ticks, counts are of its end."""

    hours: float  # of trace time since the episode began
    load_rps: F64  # (C,)
    capacity_rps: F64  # (3,) on demand, spot, spot under notice, of replicas that serve
    serverless_rps: float  # calls to serverless
    instances: I64  # (P,) that serve; 0 for serverless
    starting: int
    p95_s: F64  # (C,) latency of the answers; NaN without any
    missed: I64  # (C,)
    cost_usd: F64  # (T,) since the episode began
    accuracy: float  # of the answers; NaN without any


class EpisodeTimeline:
    """Points of the episode of a stepper's first env.

    Attributes:
        stepper: Whose episode it is.
        points: What happened so far; the first is the state before the first decision.
    """

    def __init__(self, stepper: Stepper) -> None:
        self.stepper = stepper
        self.points: tuple[Point, ...] = ()
        self._before: TotalArrays | None = None

    def begin(self) -> None:
        """Forgets the last episode and notes the start of this one."""
        observed, tick_s = self.stepper.simulator.observation, self.stepper.setting.control.tick_s
        self._before = None
        self.points = (self._point(observed.history[0][:, -RATE_TICKS:].mean(axis=1) / tick_s),)
        self._before = self._totals()

    def add(self) -> None:
        """Notes the decision that was just carried out."""
        if self._before is None:  # from a snapshot of an environment that was not rendered
            self.begin()
            return
        arrivals = self._totals().arrivals - self._before.arrivals
        self.points += (self._point(arrivals / self.stepper.step_s),)
        self._before = self._totals()

    def resume(self, points: tuple[Point, ...]) -> None:
        """Goes on from points noted earlier; the stepper stands where the last of them was noted."""
        self.points = points
        self._before = self._totals() if points else None

    @property
    def span_hours(self) -> float:
        """Hours of trace time that an episode takes."""
        return self.stepper.options.episode_decisions * self._step_hours

    @property
    def _step_hours(self) -> float:
        control = self.stepper.setting.scenario.control
        return control.tick_s * control.ticks_per_decision / 3600

    def _totals(self) -> TotalArrays:
        """Sums of the episode, copied, without the env axis."""
        return TotalArrays._make(array[0].copy() for array in self.stepper.simulator.totals)

    def _point(self, load_rps: F64) -> Point:
        observed, setting = self.stepper.simulator.observation, self.stepper.setting
        now, before, market = self._totals(), self._before, setting.catalog.market
        if before is None:
            before = TotalArrays._make(np.zeros_like(array) for array in now)
        rps = self.stepper.rule_arrays.rps
        ready, doomed = observed.ready[0], observed.doomed[0]
        is_machine: Bool = market != SERVERLESS
        spot = market == SPOT
        answered = int((now.answered - before.answered).sum())
        return Point(
            hours=float(self.stepper.decisions[0]) * self._step_hours,
            load_rps=load_rps,
            capacity_rps=np.array(
                [
                    ((ready + doomed) * rps)[:, market == ON_DEMAND].sum(),
                    (ready * rps)[:, spot].sum(),
                    (doomed * rps)[:, spot].sum(),
                ]
            ),
            serverless_rps=float((now.invocations - before.invocations).sum()) / self.stepper.step_s,
            instances=np.where(is_machine, (ready + doomed).sum(axis=0), 0),
            starting=int(observed.starting[0][:, is_machine].sum()),
            p95_s=np.array([quantile(histogram, 0.95) for histogram in now.latency - before.latency]),
            missed=now.missed - before.missed,
            cost_usd=now.spend_usd,
            accuracy=float((now.accuracy_sum - before.accuracy_sum).sum()) / answered if answered else float("nan"),
        )
