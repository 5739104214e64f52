"""The ledger of instances: what was launched, what it is doing, and what it costs.

Serve only knows replicas; instances with launch delays, notices and prices exist here. An instance is launched, boots
for the emulated launch delay, and only then is its Serve replica asked for; it serves once Serve reports that replica
running. Where instances have nodes, it boots at least until its pool has a node for it, and is lost with that node.
The rules are those of the simulator's fleet. Time is an argument everywhere and nothing here does input or output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from controller.arrays import (
    BILL_TERMS,
    COMPUTE,
    F64,
    I64,
    IDLE,
    PREEMPTION_WASTE,
    SERVERLESS,
    SPOT,
    START_UP,
    ActionArrays,
    CatalogArrays,
)
from controller.bill import release_charge_s
from controller.keyed_random import LAUNCH, stream_key, uniform
from controller.measurements import Span
from serving.instances import Instance, Phase, Window, bind_nodes, housed
from serving.market import Market
from serving.rules import quantile_of

_STOP_GRACE_S = 1.0
# Serve needs a control loop or two before a drained replica shows as stopping; until then its absence means nothing.
_NO_INSTANCE = Instance(-1, 0.0, Phase.BOOTING, 0.0)


@dataclass
class Fleet:
    """All instances of a run.

    Args:
        catalog: At the run's speed.
        market: Spot availability.
        seed: Keys the launch delays.
        retry_after_s: A pool whose launch failed, or that was preempted, counts as unavailable this long.
        has_nodes: Every instance is a node of the cluster, which an owner starts and ends.
        drain_lead_s: With nodes: one under notice is drained this long before it is taken; until then it serves.
    """

    catalog: CatalogArrays
    market: Market
    seed: int
    retry_after_s: float
    has_nodes: bool = False
    drain_lead_s: float = 0.0
    instances: list[Instance] = field(default_factory=list)
    kills: dict[int, int] = field(default_factory=dict)
    """Replicas by option that must be killed, not drained: their instance was taken back. Without nodes."""

    takes: list[str] = field(default_factory=list)
    """Nodes to end at once: their instance was taken back."""

    warned: dict[str, float] = field(default_factory=dict)
    """Nodes under notice on which nothing serves yet, and when they are taken."""
    window: Window = field(init=False)
    _launches: int = field(init=False, default=0)
    _billed_until_s: float = field(init=False, default=0.0)
    _unavailable_until_s: F64 = field(init=False)

    def __post_init__(self) -> None:
        self._num_variants, self._num_pools = self.catalog.usable.shape
        self._unavailable_until_s = np.full(self._num_pools, -1.0)
        self._alive = np.zeros(self._num_pools, np.int64)
        self._key = stream_key(self.seed, LAUNCH)
        self.open_window()

    # Readings

    def counts(self, *phases: Phase) -> I64:
        """Instances in any of the phases, shape (V, P)."""
        found = np.zeros(self._num_variants * self._num_pools, np.int64)
        for instance in self.instances:
            if instance.phase in phases:
                found[instance.option] += 1
        return found.reshape(self._num_variants, self._num_pools)

    def targets(self) -> I64:
        """Replicas that Serve must hold, shape (V, P)."""
        return self.counts(Phase.LOADING, Phase.SERVING, Phase.DOOMED)

    def nodes_wanted(self) -> I64:
        """Nodes that shall exist, by pool (P,): one for every instance until it is released."""
        pools = [instance.option % self._num_pools for instance in self.instances]
        return np.bincount(np.array(pools, np.int64), minlength=self._num_pools).astype(np.int64)

    def available(self, now_s: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Pools without a failed launch or preemption lately, shape (P,)."""
        return np.asarray(now_s >= self._unavailable_until_s)

    # Events

    def begin(self, replicas: I64, now_s: float) -> None:
        """Starts with instances that boot at once, (V, P): the fleet that a run finds when it begins."""
        for option, count in enumerate(replicas.reshape(-1)):
            if self.catalog.market[option % self._num_pools] != SERVERLESS:
                phase = Phase.BOOTING if self.has_nodes else Phase.LOADING
                self.instances += [Instance(option, now_s, phase, now_s, now_s) for _ in range(int(count))]

    def apply(self, actions: ActionArrays, now_s: float) -> None:
        """Starts the actions of env 0. Serverless pools have no instances and are left out."""
        self.accrue(now_s)
        for p in range(self._num_pools):
            if self.catalog.market[p] == SERVERLESS:
                continue
            for v in range(self._num_variants):
                option = v * self._num_pools + p
                for _ in range(int(actions.stop[0, v, p])):
                    self._stop(option, now_s)
                for to in range(self._num_variants):
                    for _ in range(int(actions.swap[0, p, v, to])):
                        instance = self._newest(option, Phase.SERVING)
                        if instance is not None:
                            instance.option = to * self._num_pools + p
                            self._enter(instance, Phase.LOADING, now_s)
                            instance.loading, instance.loading_since_s = "swap", now_s
                for _ in range(int(actions.drain[0, v, p])):
                    instance = self._newest(option, Phase.SERVING)
                    if instance is not None:
                        self._enter(instance, Phase.DRAINING, now_s)
        for p in range(self._num_pools):
            if self.catalog.market[p] != SERVERLESS:
                for v in range(self._num_variants):
                    for _ in range(int(actions.launch[0, v, p])):
                        self._launch(v * self._num_pools + p, now_s)

    def step(self, now_s: float, running: I64, stopping: I64) -> None:
        """Time has passed and Serve reports its replicas, each of shape (V, P)."""
        self.accrue(now_s)
        for instance in self._booted(now_s):
            self._enter(instance, Phase.LOADING, now_s)
            # Seen a little after it booted; that delay is real time, which a run's speed leaves as it is, so it belongs
            # to the load. A node's start is real too, but it is the launch.
            booted_s = now_s if self.has_nodes else instance.boots_until_s
            instance.loading, instance.loading_since_s = "load", booted_s
            self.window.spans.append(Span("launch", instance.option, booted_s - instance.launched_s))
        for option, (num_running, num_stopping) in enumerate(
            zip(running.reshape(-1), stopping.reshape(-1), strict=True)
        ):
            self._match(option, int(num_running), int(num_stopping), now_s)
        for instance in [i for i in self.instances if i.killed_at_s <= now_s]:
            self._take_back(instance, now_s)
        for p in range(self._num_pools):
            if self.catalog.market[p] == SPOT and self.catalog.zone[p] >= 0:
                self._give_notice(p, now_s)

    def node_counts(self, alive: I64, failed: I64, now_s: float) -> None:
        """The owner's report: living nodes, and launches that failed, by pool (P,)."""
        self._alive = np.array(alive, np.int64)
        for p in np.flatnonzero(failed):
            booting = [i for i in self.instances if i.option % self._num_pools == p and i.phase is Phase.BOOTING]
            for instance in sorted(booting, key=lambda i: -i.launched_s)[: int(failed[p])]:
                self._release(instance, now_s)
                self.window.launch_failed[p] += 1
                self._unavailable_until_s[p] = now_s + self.retry_after_s

    def bind(self, options: Mapping[str, int]) -> None:
        """Tells which option's replica runs on each node, so that an instance is known by its node."""
        bind_nodes(self.instances, options)
        for node, killed_at_s in list(self.warned.items()):
            if self._doom_at(node, killed_at_s):
                del self.warned[node]

    def lose(self, node: str, pool: int, now_s: float) -> None:
        """A node is gone that nobody gave back: its instance is, or one of its pool that had not come to serve."""
        self.accrue(now_s)
        self.warned.pop(node, None)
        of_pool = [i for i in self.instances if i.option % self._num_pools == pool]
        starting = (i for i in of_pool if i.phase is Phase.LOADING)
        found = next((i for i in of_pool if i.node == node), None) or next(starting, None)
        if found is None:
            return
        found.node = ""  # there is nothing left to end
        if self.catalog.market[pool] == SPOT:
            self._take_back(found, now_s)
        else:
            # A machine that fails says nothing of whether another can be had.
            self.window.preempted[pool] += 1
            self._release(found, now_s)

    def doom(self, node: str, left_s: float, now_s: float) -> bool:
        """Somebody announces to take a node; unknown nodes and those under notice already are left as they are.

        Returns:
            Whether the notice was news of an instance that serves.
        """
        return self._doom_at(node, now_s + left_s)

    def warn(self, node: str, left_s: float, now_s: float) -> bool:
        """The same of a node that exists: where nothing serves on it yet, the notice is kept until something does.

        Returns:
            Whether the notice was news.
        """
        if node in self.warned or any(i.node == node and i.killed_at_s < np.inf for i in self.instances):
            return False
        if not self.doom(node, left_s, now_s):
            self.warned[node] = now_s + left_s
        return True

    def node_of(self, pool: int) -> str:
        """A node of a pool that serves without a notice, the newest; empty where there is none."""
        serving = [i for i in self.instances if i.option % self._num_pools == pool and i.phase is Phase.SERVING]
        return max((i for i in serving if i.node), key=lambda i: i.launched_s, default=_NO_INSTANCE).node

    def drains_due(self, now_s: float) -> list[tuple[str, float]]:
        """Nodes under notice whose time to be drained has come, with the seconds left; each is named once."""
        due: list[tuple[str, float]] = []
        for instance in self.instances:
            if instance.phase is Phase.DOOMED and instance.node and instance.killed_at_s - self.drain_lead_s <= now_s:
                self._enter(instance, Phase.DRAINING, now_s)
                due.append((instance.node, max(0.0, instance.killed_at_s - now_s)))
        return due

    def snapshot(self) -> dict[str, Any]:
        """All that `restore` needs, in values that JSON has words for."""
        window = self.window
        return {
            "instances": [i.as_json() for i in self.instances],
            "kills": sorted(self.kills.items()),
            "takes": list(self.takes),
            "warned": dict(self.warned),
            "window": [window.preempted.tolist(), window.launch_failed.tolist(), window.spend_usd.tolist()],
            "launches": self._launches,
            "billed_until_s": self._billed_until_s,
            "unavailable_until_s": self._unavailable_until_s.tolist(),
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Becomes what a ledger of the same setting was; KeyError, TypeError or ValueError for anything else."""
        self.instances = [Instance.of_json(value) for value in snapshot["instances"]]
        self.kills = {int(option): int(count) for option, count in snapshot["kills"]}
        self.takes = [str(node) for node in snapshot["takes"]]
        self.warned = {str(node): float(at_s) for node, at_s in snapshot["warned"].items()}
        preempted, launch_failed, spend_usd = snapshot["window"]
        self.window = Window(np.array(preempted, np.int64), np.array(launch_failed, np.int64), np.array(spend_usd), [])
        self._launches = int(snapshot["launches"])
        self._billed_until_s = float(snapshot["billed_until_s"])
        self._unavailable_until_s = np.array(snapshot["unavailable_until_s"], np.float64)

    def adopt(self, running: I64, now_s: float) -> None:
        """Takes replicas that exist for instances that serve, (V, P): where nothing is known of how they came about."""
        self.accrue(now_s)
        for option, count in enumerate(running.reshape(-1)):
            for _ in range(int(count) - len(self._of(option, Phase.LOADING, Phase.SERVING, Phase.DOOMED))):
                self.instances.append(Instance(option, now_s, Phase.SERVING, now_s, now_s))

    def restart_clock(self) -> None:
        """Second 0 is now: everything that exists was launched at 0, and nothing is booked before it."""
        for instance in self.instances:
            instance.launched_s = instance.phase_since_s = 0.0
        self._billed_until_s = 0.0
        self.open_window()

    def open_window(self) -> None:
        """Zeroes the window."""
        counts = np.zeros(self._num_pools, np.int64)
        self.window = Window(counts.copy(), counts.copy(), np.zeros(len(BILL_TERMS)), [])

    def accrue(self, now_s: float) -> None:
        """Books the rent up to now: start-up until an instance serves, then idle; `settle` splits off compute."""
        span_s = now_s - self._billed_until_s
        if span_s <= 0:
            return
        for instance in self.instances:
            term = START_UP if instance.phase in (Phase.BOOTING, Phase.LOADING) else IDLE
            self.window.spend_usd[term] += span_s * self._price(instance)
        self._billed_until_s = now_s

    def settle(self, busy_s: F64, lost_s: F64) -> None:
        """Moves the window's credit-seconds in service from idle to compute, and lost ones to waste.

        Args:
            busy_s: Credit-seconds in service, shape (V, P).
            lost_s: Of those, spent on batches that a preemption cut off, shape (V, P).
        """
        price = self.catalog.price_usd_per_s[None, :] / np.maximum(self.catalog.concurrency, 1)
        used, lost = float((busy_s * price).sum()), float((lost_s * price).sum())
        self.window.spend_usd[COMPUTE] += used - lost
        self.window.spend_usd[PREEMPTION_WASTE] += lost
        self.window.spend_usd[IDLE] -= used

    # Steps

    def _booted(self, now_s: float) -> list[Instance]:
        """Instances whose launch is over, oldest first; with nodes, no more than there are nodes for."""
        ready = [i for i in self.instances if i.phase is Phase.BOOTING and i.boots_until_s <= now_s]
        return housed(ready, self.instances, self._alive) if self.has_nodes else ready

    def _doom_at(self, node: str, killed_at_s: float) -> bool:
        for instance in self.instances:
            if instance.node == node and node and instance.phase is Phase.SERVING:
                self._enter(instance, Phase.DOOMED, instance.phase_since_s)
                instance.killed_at_s = killed_at_s
                p = instance.option % self._num_pools
                self._unavailable_until_s[p] = max(self._unavailable_until_s[p], killed_at_s + self.retry_after_s)
                return True
        return False

    def _price(self, instance: Instance) -> float:
        return float(self.catalog.price_usd_per_s[instance.option % self._num_pools])

    def _of(self, option: int, *phases: Phase) -> list[Instance]:
        return [i for i in self.instances if i.option == option and i.phase in phases]

    def _newest(self, option: int, phase: Phase) -> Instance | None:
        return max(self._of(option, phase), key=lambda i: i.launched_s, default=None)

    @staticmethod
    def _enter(instance: Instance, phase: Phase, now_s: float) -> None:
        instance.phase, instance.phase_since_s = phase, now_s

    def _release(self, instance: Instance, now_s: float) -> None:
        p = instance.option % self._num_pools
        minimum_s, lag_s = float(self.catalog.min_billing_s[p]), float(self.catalog.release_lag_s[p])
        extra_s = release_charge_s(now_s - instance.launched_s, minimum_s, lag_s)
        term = START_UP if instance.phase in (Phase.BOOTING, Phase.LOADING) else IDLE
        self.window.spend_usd[term] += extra_s * self._price(instance)
        self.instances.remove(instance)

    def _stop(self, option: int, now_s: float) -> None:
        instance = self._newest(option, Phase.BOOTING) or self._newest(option, Phase.LOADING)
        if instance is not None:
            self._release(instance, now_s)

    def _launch(self, option: int, now_s: float) -> None:
        p = option % self._num_pools
        draw = quantile_of(self.catalog.shapes[self.catalog.launch_shape[p]], uniform(self._key, self._launches, 0))
        self._launches += 1
        if self.market.capacity(self.catalog, p, now_s) <= len(self._undoomed(p)):
            self.window.launch_failed[p] += 1
            self._unavailable_until_s[p] = now_s + self.retry_after_s
            return
        boots_until_s = now_s + float(self.catalog.launch_s[p]) * draw
        self.instances.append(Instance(option, now_s, Phase.BOOTING, now_s, boots_until_s))

    def _match(self, option: int, num_running: int, num_stopping: int, now_s: float) -> None:
        """Follows what Serve reports of one deployment."""
        serving = sorted(self._of(option, Phase.SERVING, Phase.DOOMED), key=lambda i: i.launched_s)
        loading = sorted(self._of(option, Phase.LOADING), key=lambda i: i.launched_s)
        draining = sorted(self._of(option, Phase.DRAINING), key=lambda i: i.phase_since_s)
        # A replica that was told to go still runs until Serve acts on it: it must not pass for a new one.
        leaving = max(0, len(draining) - num_stopping)
        for instance in loading[: max(0, num_running - len(serving) - leaving)]:
            self._enter(instance, Phase.SERVING, now_s)
            if instance.loading is not None:
                self.window.spans.append(Span(instance.loading, option, now_s - instance.loading_since_s))
            instance.loading = None
        # A replica that crashed is started again by Serve: its instance loads once more.
        settled = [i for i in serving if now_s - i.phase_since_s > _STOP_GRACE_S]
        for instance in settled[::-1][: max(0, len(serving) - num_running)]:
            self._enter(instance, Phase.LOADING, now_s)
        # While a new replica is on its way, one that runs unexpectedly may be either: then only time tells.
        gone = [i for i in draining if not loading or now_s - i.phase_since_s > _STOP_GRACE_S]
        lingering = 0 if loading else max(0, num_running - len(serving))
        for instance in gone[: max(0, len(draining) - num_stopping - lingering)]:
            self._release(instance, now_s)

    def _undoomed(self, p: int) -> list[Instance]:
        return [i for i in self.instances if i.option % self._num_pools == p and i.phase is not Phase.DOOMED]

    def _give_notice(self, p: int, now_s: float) -> None:
        """Marks instances that the zone will not offer within the notice; those still starting are taken at once."""
        bin_s, notice_s = self.market.bin_s, float(self.catalog.notice_s[p])
        position_s = self.market.start_s + now_s
        for at in range(int(position_s / bin_s), int((position_s + notice_s) / bin_s) + 1):
            at_s = now_s + max(at * bin_s - position_s, 0.0)
            alive = self._undoomed(p)
            excess = len(alive) - self.market.capacity(self.catalog, p, at_s + 1e-6)
            for instance in sorted(alive, key=lambda i: -i.launched_s)[: max(0, excess)]:
                self._unavailable_until_s[p] = max(self._unavailable_until_s[p], at_s + self.retry_after_s)
                if at_s <= now_s or instance.phase in (Phase.BOOTING, Phase.LOADING):
                    self._take_back(instance, now_s)
                else:
                    self._enter(instance, Phase.DOOMED, instance.phase_since_s)
                    instance.killed_at_s = at_s

    def _take_back(self, instance: Instance, now_s: float) -> None:
        p = instance.option % self._num_pools
        self.window.preempted[p] += 1
        self._unavailable_until_s[p] = now_s + self.retry_after_s
        if instance.node:
            self.takes.append(instance.node)
        elif instance.phase is not Phase.BOOTING and not self.has_nodes:
            self.kills[instance.option] = self.kills.get(instance.option, 0) + 1
        self._release(instance, now_s)
