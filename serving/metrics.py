"""Builds the observation of each tick from what the router counted and what the fleet ledger knows.

Counters are read cumulatively and differenced here, so a reading that fails only makes the next window longer. Day
sums and the ring of arrivals follow the simulator's rules, tick for tick.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from controller.arrays import (
    EGRESS,
    F64,
    HISTORY_TICKS,
    SERVERLESS,
    SERVERLESS_USE,
    ObservationArrays,
    empty_observation,
)
from controller.compile import Setting
from controller.measurements import WindowMeasurements
from serving.fleet import Fleet
from serving.instances import Phase
from serving.tally import RouterStats, Tally, difference

_DAY_SUMS = ("day_arrivals", "day_answered", "day_missed", "day_accuracy_sum", "day_spend_usd")


class ObservationBuilder:
    """Turns readings into observations with N = 1; one per run.

    Args:
        setting: At the run's speed.
        history: Expected arrivals per tick before the run, (C, H) in ring order; zeros where nothing is known.
    """

    def __init__(self, setting: Setting, history: F64 | None = None) -> None:
        self._setting = setting
        self.observation: ObservationArrays = empty_observation(1, setting.shape)
        self.measurements: WindowMeasurements | None = None
        """Of the window closed last; None where the router could not be read."""

        if history is not None:
            self.observation.history[0] = history
        self._previous: Tally | None = None
        self._day = -1
        self._unread = 0  # ticks since the last reading of the router

    def snapshot(self) -> dict[str, Any]:
        """All that `restore` needs, in values that JSON has words for; the history comes from the journal."""
        day_sums = {name: getattr(self.observation, name)[0].tolist() for name in _DAY_SUMS}
        previous = None if self._previous is None else self._previous.as_json()
        return {"tick": int(self.observation.tick[0]), "day": self._day, "day_sums": day_sums, "previous": previous}

    def restore(self, snapshot: Mapping[str, Any], history: F64) -> None:
        """Becomes what a builder of the same setting was; KeyError, TypeError or ValueError for anything else.

        Args:
            snapshot: What `snapshot` made.
            history: Arrivals per tick in ring order, (C, H).
        """
        obs = self.observation
        obs.tick[0] = int(snapshot["tick"])
        obs.time_s[0] = obs.tick[0] * self._setting.control.tick_s
        obs.history[0] = history
        self._day = int(snapshot["day"])
        for name in _DAY_SUMS:
            getattr(obs, name)[0] = snapshot["day_sums"][name]
        self._previous = None if snapshot["previous"] is None else Tally.of_json(snapshot["previous"])

    def blank(self) -> ObservationArrays:
        """An observation of nothing."""
        return empty_observation(1, self._setting.shape)

    def first(self, fleet: Fleet, stats: RouterStats, now_s: float) -> ObservationArrays:
        """What is seen before the first tick: the fleet, and nothing counted."""
        self._previous = stats.tally
        self._count_fleet(fleet, stats, now_s)
        fleet.open_window()
        return self.observation

    def close(self, fleet: Fleet, stats: RouterStats, now_s: float, tick: int | None = None) -> ObservationArrays:
        """Facts of the window that ends now; opens the next one.

        Args:
            fleet: The ledger, already stepped to `now_s`.
            stats: A reading taken now.
            now_s: Seconds since the start of the run.
            tick: That ends now; by default the one after the last observed.

        Returns:
            The observation; overwritten by the next call.
        """
        obs, setting = self.observation, self._setting
        num_variants, num_pools, _ = setting.shape
        window = difference(stats.tally, self._previous)
        self._previous = stats.tally
        self._unread += self._advance(tick)
        obs.arrivals[0] = window.arrived
        obs.answered[0] = window.answered
        obs.missed[0] = window.missed
        obs.shed[0] = window.shed
        obs.failed[0] = window.failed
        obs.accuracy_sum[0] = window.accuracy_sum
        obs.latency[0] = window.latency
        obs.busy_s[0] = window.busy_s.reshape(num_variants, num_pools)
        obs.invocations[0] = window.invocations
        obs.cold_starts[0] = window.cold_starts
        obs.throttled[0] = window.throttled
        fleet.accrue(now_s)
        on_machines = (setting.catalog.market != SERVERLESS)[None, :]
        fleet.settle(
            np.where(on_machines, obs.busy_s[0], 0.0),
            np.where(on_machines, window.lost_s.reshape(num_variants, num_pools), 0.0),
        )
        fleet.window.spend_usd[SERVERLESS_USE] += float(window.serverless_usd.sum())
        fleet.window.spend_usd[EGRESS] += window.egress_usd
        obs.spend_usd[0] = fleet.window.spend_usd
        obs.preempted[0] = fleet.window.preempted
        obs.launch_failed[0] = fleet.window.launch_failed
        self.measurements = window.measured.summary(stats.now_s)._replace(spans=tuple(fleet.window.spans))
        self._sum_day()
        # A window of several ticks, because readings failed or ticks were left out, is no burst: each had its part.
        for back in range(min(self._unread, HISTORY_TICKS)):
            obs.history[0, :, (int(obs.tick[0]) - 1 - back) % HISTORY_TICKS] = obs.arrivals[0] / self._unread
        self._unread = 0
        self._count_fleet(fleet, stats, now_s)
        fleet.open_window()
        return obs

    def repeat(self, fleet: Fleet, now_s: float, tick: int | None = None) -> ObservationArrays:
        """The last window once more, because the router could not be read: better than a silence that is none."""
        obs = self.observation
        self.measurements = None
        self._unread += self._advance(tick)
        obs.history[0, :, (int(obs.tick[0]) - 1) % HISTORY_TICKS] = obs.arrivals[0]
        self._count_machines(fleet, now_s)
        return obs

    def _advance(self, tick: int | None) -> int:
        """Goes on to a tick; returns how many ticks that is."""
        obs = self.observation
        passed = 1 if tick is None else max(1, tick - int(obs.tick[0]))
        obs.tick[0] += passed
        obs.time_s[0] = obs.tick[0] * self._setting.control.tick_s
        return passed

    def _sum_day(self) -> None:
        obs = self.observation
        day = int((obs.time_s[0] - self._setting.control.tick_s) / self._setting.control.day_s + 1e-9)
        if day != self._day:
            for name in _DAY_SUMS:
                getattr(obs, name)[0] = 0
            self._day = day
        obs.day_arrivals[0] += obs.arrivals[0]
        obs.day_answered[0] += obs.answered[0]
        obs.day_missed[0] += obs.missed[0]
        obs.day_accuracy_sum[0] += obs.accuracy_sum[0]
        obs.day_spend_usd[0] += obs.spend_usd[0]

    def _count_machines(self, fleet: Fleet, now_s: float) -> None:
        obs = self.observation
        obs.ready[0] = fleet.counts(Phase.SERVING)
        obs.starting[0] = fleet.counts(Phase.BOOTING, Phase.LOADING)
        obs.draining[0] = fleet.counts(Phase.DRAINING)
        obs.doomed[0] = fleet.counts(Phase.DOOMED)
        obs.available[0] = fleet.available(now_s)

    def _count_fleet(self, fleet: Fleet, stats: RouterStats, now_s: float) -> None:
        obs = self.observation
        self._count_machines(fleet, now_s)
        obs.ready[0] += stats.provisioned.reshape(obs.ready[0].shape)
        obs.waiting[0] = stats.waiting
        obs.queue[0] = stats.queue.reshape(obs.queue[0].shape)
        obs.warm[0] = stats.warm
