"""Carries decisions to Ray Serve and follows what becomes of them: `Actuator` and `MetricsSource` of the real world.

`apply` only changes the ledger and the rules, at once; `follow` is the input and output: it asks Serve for replica
states, moves the ledger on, sets replica targets, kills replicas whose instance was taken back, and tells the router
who serves. Full targets are asserted every time, so a lost call or a restarted Serve controller is mended by the next
one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ray.exceptions import RayError

from controller.arrays import F64, I64, ActionArrays, ObservationArrays, PlanArrays
from controller.compile import Setting
from controller.measurements import WindowMeasurements
from serving import ray_compat
from serving.app import ROUTER, Layout
from serving.demotion import DemotionLedger
from serving.fleet import Fleet
from serving.instances import RUNS, Phase, reported
from serving.metrics import ObservationBuilder
from serving.node_demand import NodeDemand
from serving.nodes import NodeOwner
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
        nodes: Starts and ends nodes, where every instance is one; needs a ledger with nodes.

    Attributes:
        is_holding: Decisions are not carried out: the first one's rules let the first fleet answer, and what is in
            force when it is set stays. Rules in front of somebody else's replicas go on, since those come and go by
            themselves.
        is_blind: Whether the router is to be left unread, in a rehearsal.
        demotions: Of tiers, as routers told them.
    """

    def __init__(
        self,
        setting: Setting,
        layout: Layout,
        app: str,
        fleet: Fleet,
        builder: ObservationBuilder,
        clock: Callable[[], float],
        nodes: NodeOwner | None = None,
        demand: NodeDemand | None = None,
    ) -> None:
        self.fleet = fleet
        self.stale_ticks = 0
        self._tables = router_tables(setting)
        self.demotions = DemotionLedger(setting.class_names)
        self._layout = layout
        self._app = layout.app or app  # of the model deployments
        self._builder = builder
        self._now_s = clock
        self._nodes, self._demand = nodes, demand
        self._pools = {name: p for p, name in enumerate(setting.pool_names)}
        self._drains: dict[str, float] = {}  # nodes to be drained, and when they are taken
        self.is_holding = False
        self.is_blind: Callable[[], bool] = lambda: False
        self._shape = setting.shape[:2]
        self._controller: Any = None
        self._router = ray_compat.deployment_handle(ROUTER, app)
        self._rules: Rules | None = None
        self._sent_serving: I64 | None = None
        self._victims: set[str] = set()
        self._targets: dict[str, int] = {}
        self._asserted_s = -float("inf")
        self._reading: RouterStats | None = None
        self._following = asyncio.Lock()  # a tick and the follower must not act on one reading twice

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

    def targets(self) -> dict[str, int]:
        """Replicas that Serve shall hold, by deployment."""
        counts = self.fleet.targets().reshape(-1)
        return {name: int(counts[option]) for option, name in self._layout.names.items()}

    def rules(self) -> Rules | None:
        """The routers' rules with what serves now; None before the first decision."""
        if self._rules is None:
            return None
        now = {"serving": self.serving(), "target": self._coming(), "demotions": self.demotions.all}
        return Rules(**{**vars(self._rules), **now})

    def apply(self, actions: ActionArrays, plan: PlanArrays, shares: F64) -> None:
        """Starts every action in the ledger and prepares the routers' rules; `follow` carries both out."""
        if self.is_holding and not self._layout.is_attached and self._rules is not None:
            return
        if not self.is_holding:
            self.fleet.apply(actions, self._now_s())
        # Numbered by wall clock at first, so that a controller that takes over is newer than the one before it; a clock
        # that was set back must not make it older.
        known = -1 if self._reading is None else self._reading.sequence
        sequence = max(time.time_ns(), known + 1) if self._rules is None else self._rules.sequence + 1
        self._rules = rules_of(plan, shares, self.serving(), self._coming(), self._tables, sequence)
        self._sent_serving = None

    def snapshot(self) -> dict[str, Any]:
        """What a controller that goes on needs to know of this world."""
        return {
            "fleet": self.fleet.snapshot(),
            "builder": self._builder.snapshot(),
            "demotions": self.demotions.snapshot(),
        }

    def restore(self, snapshot: Mapping[str, Any], history: F64) -> None:
        """Knows again what a snapshot holds; `history` comes from the journal."""
        self.fleet.restore(snapshot["fleet"])
        self._builder.restore(snapshot["builder"], history)
        self.demotions.restore(snapshot["demotions"])

    def observe(self, tick: int | None = None) -> ObservationArrays:
        """Facts of the window that just ended, from the last `read`; `tick` ends with it, by default the next one."""
        now_s = self._now_s()
        for one in self.demotions.all:
            self._builder.observation.demoted[0, one.request_class] = True
        if self._reading is None:
            self.stale_ticks += 1
            return self._builder.repeat(self.fleet, now_s, tick)
        self.stale_ticks = 0
        return self._builder.close(self.fleet, self._reading, now_s, tick)

    async def adopt(self) -> None:
        """Takes what Serve runs for the fleet: after a loss of the ledger."""
        if self._controller is None:
            self._controller = ray_compat.serve_controller()
        states = await asyncio.wait_for(ray_compat.replica_states(self._controller, self._app), _CALL_TIMEOUT_S)
        self.fleet.adopt(self._counts(states)[0], self._now_s())

    # Input and output

    async def read(self) -> bool:
        """Reads the router; False where it cannot be reached."""
        if self.is_blind():
            self._reading = None
            return False
        try:
            self._reading = await asyncio.wait_for(self._router.stats.remote(), _CALL_TIMEOUT_S)
        except AWAY:
            self._reading = None
        if self._reading is not None and self._reading.audits is not None:
            self.demotions.hear(self._reading.audits.demotions, self._now_s())
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
            is_first: The fleet that a run begins with is brought up, also where decisions are held.
        """
        async with self._following:
            return await self._follow(is_first)

    async def _follow(self, is_first: bool) -> bool:
        try:
            if self._controller is None:
                self._controller = ray_compat.serve_controller()
            states = await asyncio.wait_for(ray_compat.replica_states(self._controller, self._app), _CALL_TIMEOUT_S)
            if self._nodes is not None:
                await asyncio.wait_for(self._follow_nodes(self._nodes, states), _CALL_TIMEOUT_S)
            self._step(states)
            # The router first: nothing may be sent to a replica that is about to be told to go.
            await self._inform_router()
            # Replicas of somebody else stay what they are while decisions are held, from the first.
            if not self.is_holding or (is_first and not self._layout.is_attached):
                await asyncio.wait_for(self._set_targets(), _CALL_TIMEOUT_S)
            if self._demand is not None:
                wanted = {} if self.is_holding else self.targets()
                await asyncio.wait_for(self._demand.follow(wanted), _CALL_TIMEOUT_S)
            await self._take_back(states)
        except AWAY:
            # Handles of a restarted actor are resolved anew by name.
            self._controller = None
            return False
        return True

    async def _set_targets(self) -> None:
        targets = self.targets()
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
        await asyncio.wait_for(self._router.set_rules.remote(self.rules()), _CALL_TIMEOUT_S)
        self._sent_serving = serving

    def is_settled(self) -> bool:
        """Whether every replica asked for is running."""
        return not self.fleet.counts(Phase.BOOTING, Phase.LOADING).any()

    async def _follow_nodes(self, nodes: NodeOwner, states: list[ReplicaState]) -> None:
        now_s = self._now_s()
        wanted = self.fleet.nodes_wanted()
        occupied = frozenset(state.node_id for state in states if state.node_id)
        report = await nodes.follow({name: int(wanted[p]) for name, p in self._pools.items()}, occupied)
        for node, pool in report.lost.items():
            self.fleet.lose(node, self._pools[pool], now_s)
        options = {s.node_id: self._layout.option_of(s.deployment) for s in states if s.state in RUNS and s.node_id}
        self.fleet.bind({node: option for node, option in options.items() if option is not None})
        alive, failed = np.zeros(len(self._pools), np.int64), np.zeros(len(self._pools), np.int64)
        for name, p in self._pools.items():
            alive[p], failed[p] = len(report.alive.get(name, ())), report.failed.get(name, 0)
        self.fleet.node_counts(alive, failed, now_s)
        self._drains |= {node: now_s + left_s for node, left_s in self.fleet.drains_due(now_s)}

    def _step(self, states: list[ReplicaState]) -> None:
        running, stopping = self._counts(states)
        self.fleet.step(self._now_s(), running, stopping)

    def _counts(self, states: list[ReplicaState]) -> tuple[I64, I64]:
        known = [(self._layout.option_of(s.deployment), s.state) for s in states]
        return reported([(option, state) for option, state in known if option is not None], self._shape)

    async def _take_back(self, states: list[ReplicaState]) -> None:
        """Drains nodes under notice, ends those that were taken, and kills replicas whose instance was."""
        if self._nodes is not None:
            for node, at_s in list(self._drains.items()):
                ray_compat.drain_node(node, max(0.0, at_s - self._now_s()), "preemption notice")
                del self._drains[node]
            while self.fleet.takes:
                await self._nodes.take(self.fleet.takes.pop())
        self._kill(states)

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
