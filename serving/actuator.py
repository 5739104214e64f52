"""Carries decisions to Ray Serve and follows what becomes of them: `Actuator` and `MetricsSource` of the real world.

`apply` only changes the ledger and the rules, at once; `follow` is the input and output: it asks Serve for replica
states, moves the ledger on, sets replica targets, kills replicas whose instance was taken back, and tells the router
who serves. Full targets are asserted every time, so a lost call or a restarted Serve controller is mended by the next
one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from ray.exceptions import RayError

from controller.arrays import F64, I64, ActionArrays, ObservationArrays, PlanArrays
from controller.compile import Setting
from controller.measurements import WindowMeasurements
from serving import ray_compat
from serving.app import ROUTER, Layout
from serving.fleet import Fleet, Phase, reported
from serving.metrics import ObservationBuilder
from serving.ray_compat import ReplicaState
from serving.rules import Rules, router_tables, rules_of
from serving.tally import RouterStats

_CALL_TIMEOUT_S = 3.0
"""A router or Serve controller that does not answer within this is treated as away."""

_ASSERT_S = 5.0
"""All targets are set anew this often, changed or not: whatever reset them meanwhile is mended."""

AWAY = (RayError, asyncio.TimeoutError, ValueError, OSError, RuntimeError)
"""What a call to an actor that is restarting raises; `ValueError` is Ray's answer for a name that is not registered."""


class RayServe:
    """The world behind the ports, for one application.

    Args:
        setting: At the run's speed.
        layout: Of the deployed application.
        app: Name of the application.
        fleet: The ledger.
        builder: Of observations.
        clock: Seconds since the start of the run.
        is_dry_run: Decisions are not carried out: the first one's rules let the first fleet answer, and stay. Rules in
            front of somebody else's replicas go on, since those come and go by themselves.
    """

    def __init__(
        self,
        setting: Setting,
        layout: Layout,
        app: str,
        fleet: Fleet,
        builder: ObservationBuilder,
        clock: Callable[[], float],
        is_dry_run: bool,
    ) -> None:
        self.fleet = fleet
        self.stale_ticks = 0
        self._tables = router_tables(setting)
        self._layout = layout
        self._app = layout.app or app  # of the model deployments
        self._builder = builder
        self._now_s = clock
        self._is_dry_run = is_dry_run
        self._shape = setting.shape[:2]
        self._controller: Any = None
        self._router = ray_compat.deployment_handle(ROUTER, app)
        self._rules: Rules | None = None
        self._sent_serving: I64 | None = None
        self._victims: set[str] = set()
        self._targets: dict[str, int] = {}
        self._asserted_s = -float("inf")
        self._reading: RouterStats | None = None

    # Ports

    def blank_observation(self) -> ObservationArrays:
        """An observation of nothing, for compiling the decision path."""
        return self._builder.blank()

    def last_observation(self) -> ObservationArrays:
        """What was observed last; overwritten by the next `observe`."""
        return self._builder.observation

    def last_measurements(self) -> WindowMeasurements | None:
        """What was measured in the window observed last; None where the router could not be read."""
        return self._builder.measurements

    def serving(self) -> I64:
        """Replicas that take requests, by option."""
        return self.fleet.counts(Phase.SERVING, Phase.DOOMED).reshape(-1)

    def apply(self, actions: ActionArrays, plan: PlanArrays, shares: F64) -> None:
        """Starts every action in the ledger and prepares the routers' rules; `follow` carries both out."""
        if self._is_dry_run and not self._layout.is_attached and self._rules is not None:
            return
        if not self._is_dry_run:
            self.fleet.apply(actions, self._now_s())
        # Numbered by wall clock at first, so that a controller that takes over is newer than the one before it.
        sequence = time.time_ns() if self._rules is None else self._rules.sequence + 1
        self._rules = rules_of(plan, shares, self.serving(), self._coming(), self._tables, sequence)
        self._sent_serving = None

    def observe(self) -> ObservationArrays:
        """Facts of the window that just ended, from the last `read`."""
        now_s = self._now_s()
        if self._reading is None:
            self.stale_ticks += 1
            return self._builder.repeat(self.fleet, now_s)
        self.stale_ticks = 0
        return self._builder.close(self.fleet, self._reading, now_s)

    # Input and output

    async def read(self) -> bool:
        """Reads the router; False where it cannot be reached."""
        try:
            self._reading = await asyncio.wait_for(self._router.stats.remote(), _CALL_TIMEOUT_S)
        except AWAY:
            self._reading = None
        return self._reading is not None

    async def first_observation(self) -> ObservationArrays:
        """What is seen before the first tick.

        Raises:
            RuntimeError: The router cannot be reached.
        """
        if not await self.read() or self._reading is None:
            raise RuntimeError("the router does not answer")
        return self._builder.first(self.fleet, self._reading, self._now_s())

    async def follow(self, *, is_first: bool = False) -> bool:
        """Brings Serve, router and ledger together; False where one of them is away, to be tried again.

        Args:
            is_first: The fleet that a run begins with is brought up, in a dry run too.
        """
        try:
            if self._controller is None:
                self._controller = ray_compat.serve_controller()
            states = await asyncio.wait_for(ray_compat.replica_states(self._controller, self._app), _CALL_TIMEOUT_S)
            self._step(states)
            # The router first: nothing may be sent to a replica that is about to be told to go.
            await self._inform_router()
            # Replicas of somebody else stay what they are in a dry run, from the first.
            if not self._is_dry_run or (is_first and not self._layout.is_attached):
                await asyncio.wait_for(self._set_targets(), _CALL_TIMEOUT_S)
            self._kill(states)
        except AWAY:
            # Handles of a restarted actor are resolved anew by name.
            self._controller = None
            return False
        return True

    async def _set_targets(self) -> None:
        counts = self.fleet.targets().reshape(-1)
        targets = {name: int(counts[option]) for option, name in self._layout.names.items()}
        now_s = self._now_s()
        is_due = now_s - self._asserted_s >= _ASSERT_S
        changed = {name: n for name, n in targets.items() if is_due or self._targets.get(name) != n}
        self._targets = {}  # forgotten until the call is known to have arrived
        await ray_compat.set_targets(self._controller, self._app, changed)
        self._targets = targets
        self._asserted_s = now_s if is_due else self._asserted_s

    async def _inform_router(self) -> None:
        serving = self.serving()
        if self._rules is None or (self._sent_serving is not None and np.array_equal(serving, self._sent_serving)):
            return
        rules = Rules(**{**vars(self._rules), "serving": serving, "target": self._coming()})
        await asyncio.wait_for(self._router.set_rules.remote(rules), _CALL_TIMEOUT_S)
        self._sent_serving = serving

    def is_settled(self) -> bool:
        """Whether every replica asked for is running."""
        return not self.fleet.counts(Phase.BOOTING, Phase.LOADING).any()

    def _step(self, states: list[ReplicaState]) -> None:
        known = [(self._layout.option_of(s.deployment), s.state) for s in states]
        running, stopping = reported([(o, state) for o, state in known if o is not None], self._shape)
        self.fleet.step(self._now_s(), running, stopping)

    def _kill(self, states: list[ReplicaState]) -> None:
        """Kills as many stopping replicas as instances were taken back: Serve chose them, the kill does not wait."""
        targets = self.fleet.targets().reshape(-1)
        for option, count in list(self.fleet.kills.items()):
            name = self._layout.names[option]
            if sum(s.deployment == name for s in states) <= targets[option]:
                del self.fleet.kills[option]  # it was idle and stopped before it could be killed
                continue
            going = [s for s in states if s.deployment == name and s.state == "STOPPING"]
            for state in [s for s in going if s.actor_name not in self._victims][:count]:
                self._victims.add(state.actor_name)
                ray_compat.kill_replica(state.actor_name)
                count -= 1
            if count > 0:
                self.fleet.kills[option] = count
            else:
                del self.fleet.kills[option]

    def _coming(self) -> I64:
        return self.fleet.counts(Phase.BOOTING, Phase.LOADING, Phase.SERVING, Phase.DOOMED).reshape(-1)
