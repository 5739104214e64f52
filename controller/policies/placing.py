"""What policies that place over sites share: when they plan anew, and when a new plan is worth its switching.

Two ideas are needed to read it. Planning anew costs time and moving costs money, so a policy looks only when demand or
profiles have drifted beyond a bound, or a period is over; and it moves only where what stands cannot serve any more, or
where what is saved within a horizon is more than the rent of instances that are still starting. Otherwise it keeps its
instances and divides requests over them anew, which costs nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
from pydantic import Field

from controller.arrays import F64, I64, ObservationArrays, PlanArrays, empty_plan
from controller.compile import Setting
from controller.config import StrictModel

_LEAST_RPS = 1e-3
"""A region that sends nothing is still placed."""


class PlacingSettings(StrictModel):
    """When to plan anew, and when to move."""

    problem: str = Field(min_length=1, description="path of the problem's YAML file")
    headroom: float = Field(default=1.15, ge=1.0, le=5.0, description="rate planned for over the rate seen")
    keep: float = Field(
        default=1.05, ge=0.5, le=5.0, description="rate over the one seen that what stands must serve, or it must move"
    )
    window_s: float = Field(default=120.0, gt=0, description="over which rates are averaged")
    rate_bound: float = Field(
        default=0.12, gt=0, le=2.0, description="drift of a rate, up or down, at which it is planned anew; as a share"
    )
    period_s: float = Field(default=3600.0, gt=0, description="it is planned anew at the latest after this")
    rest_s: float = Field(default=120.0, ge=0, description="it is not planned anew earlier after the last time")
    horizon_s: float = Field(default=1800.0, ge=0, description="within which a move must pay for its switching")


class PlacingCounts(NamedTuple):
    """What was decided since `reset`, over all envs."""

    plannings: int  # times that it was planned anew
    moves: int  # of these, plans with other instances that were taken, the first of each env included
    switched: int  # instances started by moves, those of first plans left out
    switching_usd: float  # their rent until they serve


class Wanted(NamedTuple):
    """A plan of one env and what it costs."""

    replicas: I64  # (V, P)
    shares: F64  # (C, V, P)
    usd_per_hour: float


SettingsT = TypeVar("SettingsT", bound=PlacingSettings)


class Placing(ABC, Generic[SettingsT]):
    """A policy that plans placements of one problem, env by env.

    Args:
        setting: What is decided for.
        settings: When to plan anew.
        name: Name in tables.
    """

    kind: ClassVar[str]

    def __init__(self, setting: Setting, settings: SettingsT, name: str | None = None) -> None:
        self.name = self.kind if name is None else name
        self.setting = setting
        self.settings = settings
        self.reset(1)

    def reset(self, num_envs: int) -> None:
        """Forgets all state; counts go to zero."""
        num_classes = self.setting.shape[2]
        self._held: list[Wanted | None] = [None] * num_envs
        self._before: list[Wanted | None] = [None] * num_envs  # that a move began from, until it is made
        self._plan = empty_plan(num_envs, self.setting.shape)
        self._planned_rps = np.zeros((num_envs, num_classes))
        self._planned_s = np.full(num_envs, -np.inf)
        self.counts = PlacingCounts(0, 0, 0, 0.0)

    def decide(self, observation: ObservationArrays) -> PlanArrays:
        """Plans every env that is due; the same buffers are returned each time."""
        need = self.need_factors(observation)
        for n in range(len(observation.tick)):
            seen_rps = self._seen_rps(observation, n)
            if self._is_due(observation, n, seen_rps):
                self._replan(observation, n, seen_rps, float(need[n]))
            held = self._in_force(observation, n)
            if held is not None:
                self._plan.replicas[n], self._plan.shares[n] = held.replicas, held.shares
                self._plan.need_rps[n] = float(self._planned_rps[n].sum() * need[n])
        self._plan.fixed_shares[:] = True
        self._plan.overflow_after_s[:] = np.inf
        self._plan.shed_limit[:] = self.setting.workload.queue_limit
        return self._plan

    def raw_output(self) -> F64:
        """No knobs."""
        return np.zeros((len(self._plan.need_rps), 0))

    def need_factors(self, observation: ObservationArrays) -> F64:
        """Rate planned for over the rate seen, (N,)."""
        return np.full(len(observation.tick), self.settings.headroom)

    def has_drifted(self, observation: ObservationArrays, n: int) -> bool:
        """Whether anything but rates has drifted beyond its bound."""
        del observation, n
        return False

    def on_the_way(self, observation: ObservationArrays, n: int, before: Wanted, wanted: Wanted) -> Wanted | None:
        """What is in force until a move is made, from a plan to another; None where it is, or nothing need wait."""
        del observation, n, before, wanted
        return None

    @abstractmethod
    def fresh(self, n: int, rate_rps: F64) -> Wanted | None:
        """A new plan for rates (C,); None where there is none."""

    @abstractmethod
    def adjusted(self, n: int, held: Wanted, rate_rps: F64) -> Wanted | None:
        """The instances of a plan with requests divided over them anew; None where they cannot serve the rates."""

    def _in_force(self, obs: ObservationArrays, n: int) -> Wanted | None:
        held, before = self._held[n], self._before[n]
        if held is None or before is None:
            return held
        way = self.on_the_way(obs, n, before, held)
        if way is None:
            self._before[n] = None
            return held
        return way

    def _is_due(self, obs: ObservationArrays, n: int, seen_rps: F64) -> bool:
        since_s = float(obs.time_s[n]) - self._planned_s[n]
        if self._held[n] is None or since_s >= self.settings.period_s:
            return True
        if since_s < self.settings.rest_s:
            return False
        drift = np.abs(seen_rps - self._planned_rps[n]) > self.settings.rate_bound * self._planned_rps[n]
        return bool(drift.any()) or self.has_drifted(obs, n)

    def _replan(self, obs: ObservationArrays, n: int, seen_rps: F64, factor: float) -> None:
        seen_rps, held = np.maximum(seen_rps, _LEAST_RPS), self._held[n]
        self._planned_rps[n], self._planned_s[n] = seen_rps, obs.time_s[n]
        self.counts = self.counts._replace(plannings=self.counts.plannings + 1)
        stays = None
        if held is not None:
            stays = self.adjusted(n, held, seen_rps * factor)
            if stays is None and self.settings.keep < factor:
                stays = self.adjusted(n, held, seen_rps * self.settings.keep)
        moved = self.fresh(n, seen_rps * factor)
        if moved is None:
            self._held[n] = held if stays is None else stays
            return
        started, usd = self._switching(None if held is None else held.replicas, moved.replicas)
        if stays is not None:
            saved_usd = (stays.usd_per_hour - moved.usd_per_hour) * self.settings.horizon_s / 3600.0
            if saved_usd <= usd:
                self._held[n] = stays
                return
        self._held[n] = moved
        if held is not None and np.array_equal(held.replicas, moved.replicas):
            return
        if self._before[n] is None:
            self._before[n] = held
        self.counts = self.counts._replace(
            moves=self.counts.moves + 1,
            switched=self.counts.switched + started,
            switching_usd=self.counts.switching_usd + usd,
        )

    def _switching(self, held: I64 | None, wanted: I64) -> tuple[int, float]:
        """Instances that a move starts, and their rent until they serve; none for a first plan."""
        if held is None:
            return 0, 0.0
        catalog = self.setting.catalog
        added = np.maximum(wanted - held, 0)
        starting_s = catalog.launch_s[None, :] + catalog.load_s
        return int(added.sum()), float((added * starting_s * catalog.price_usd_per_s[None, :]).sum())

    def _seen_rps(self, obs: ObservationArrays, n: int) -> F64:
        """Mean rates of the last ticks, (C,); the scenario's before there are any."""
        setting, length = self.setting, obs.history.shape[2]
        known = min(round(self.settings.window_s / setting.control.tick_s), int(obs.tick[n]), length)
        if known < 1:
            return np.asarray(setting.scenario.mean_rps * setting.workload.share, np.float64)
        slots = (int(obs.tick[n]) - 1 - np.arange(known)) % length
        return np.asarray(obs.history[n][:, slots].mean(axis=1) / setting.control.tick_s, np.float64)
