"""The detached actor that drives a live application: one decision per tick, journalled, on a clock of its own.

Life: `prepare` brings up the fleet a run begins with, `begin` starts the clock, `stop` ends the loop and closes the
journal. Between two decisions the actor follows Serve several times a second, so a replica serves as soon as it runs
and a lost one is noticed at once. It outlives its creator until it is killed; a Serve controller or router that
restarts meanwhile is found again by name.
"""

import asyncio
import os
import pickle
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray

from controller.arrays import BILL_TERMS, F64, I64
from controller.compile import Setting
from controller.journal import JournalHeader
from controller.journal_writer import JournalWriter
from controller.loop import Decision, DecisionLoop
from controller.plan import actions_of
from serving.actuator import RayServe
from serving.app import Layout
from serving.exposition import MetricsServer, controller_families
from serving.fleet import Fleet
from serving.market import Market
from serving.metrics import ObservationBuilder
from serving.receipts import Receipts
from serving.rules import router_tables
from serving.supervisor import Supervisor
from serving.tasks import end_task

NAME, NAMESPACE = "ServingController", "provisor"

_FOLLOW_S = 0.2
_SETTLE_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class ControllerSpec:
    """All that a controller is built from; travels to its actor."""

    setting: Setting  # at the run's speed
    layout: Layout
    app: str
    policy: Any  # what `make_policy` takes
    policy_file: bytes | None  # content of the file that `policy` names, where it is one
    rule: Any  # drives when the policy cannot
    market: Market
    seed: int
    initial_replicas: I64  # (V, P)
    history: F64 | None  # (C, H)
    header: JournalHeader
    journal_path: str  # on the machine of the actor; empty for a temporary file
    metrics_port: int  # 0 for none
    is_dry_run: bool
    world_model: str | None = None  # "module:callable" of a setting; predicts what decisions lead to


class ServingController:
    """Observes, decides, applies and journals until it is stopped.

    Args:
        pickled: A `ControllerSpec`, made by `start_controller` in the same run.
    """

    def __init__(self, pickled: bytes) -> None:
        # Ray hands over arrays read-only, which to the compiler is another type: everything would be compiled again.
        spec: ControllerSpec = pickle.loads(pickled)
        self._spec = spec
        self._began_s = time.monotonic()
        self._fleet = Fleet(spec.setting.catalog, spec.market, spec.seed, spec.setting.control.retry_after_s)
        builder = ObservationBuilder(spec.setting, spec.history)
        self._world = RayServe(spec.setting, spec.layout, spec.app, self._fleet, builder, self._now_s, spec.is_dry_run)
        self._tables = router_tables(spec.setting)
        self._folder = tempfile.TemporaryDirectory(prefix="provisor-")
        self._journal_path = Path(spec.journal_path or Path(self._folder.name) / "journal.jsonl")
        self._supervisor = Supervisor(
            DecisionLoop(spec.setting, self._policy(spec.policy)), DecisionLoop(spec.setting, self._policy(spec.rule))
        )
        self._receipts = Receipts(
            spec.setting, lambda: {"policy": self._supervisor.policy, "rule": self._supervisor.rule}, spec.world_model
        )
        self._task: asyncio.Task[None] | None = None
        self._follower: asyncio.Task[None] | None = None
        self._journal: JournalWriter | None = None
        self._metrics = MetricsServer(spec.metrics_port)
        self._away = 0
        self._late_s = 0.0
        self._last: list[str] = []

    # Life

    async def prepare(self) -> float:
        """Brings up the fleet that the run begins with, and compiles the decision path.

        Returns:
            Seconds from asking for the replicas until the last of them ran.

        Raises:
            TimeoutError: The replicas do not come up.
        """
        began_s = time.monotonic()
        self._began_s = began_s
        self._fleet.begin(self._spec.initial_replicas, 0.0)
        self._receipts.warm_up(self._world.blank_observation())
        for loop in (self._supervisor.policy, self._supervisor.rule):
            loop.decide(self._world.blank_observation())
            loop.reset(1)
        while not (await self._world.follow(is_first=True) and self._world.is_settled()):
            if time.monotonic() - began_s > _SETTLE_TIMEOUT_S:
                raise TimeoutError(f"the first replicas did not come up within {_SETTLE_TIMEOUT_S:g} s")
            await asyncio.sleep(_FOLLOW_S)
        return time.monotonic() - began_s

    async def begin(self) -> float:
        """Starts the clock and decides for the first time.

        Returns:
            Wall-clock time (seconds since the epoch) of second 0.
        """
        self._began_s = time.monotonic()
        wall_s = time.time()
        self._fleet.restart_clock()
        self._journal = JournalWriter(self._journal_path, self._spec.header)
        observation = await self._world.first_observation()
        await self._decide(observation)
        self._task = asyncio.create_task(self._run())
        self._follower = asyncio.create_task(self._follow())
        return wall_s

    async def stop(self) -> dict[str, Any]:
        """Ends the loop and closes the journal; what is deployed stays as it is. Returns `status`."""
        for task in (self._task, self._follower):
            if task is not None:
                await end_task(task)
        self._receipts.close()
        if self._journal is not None:
            self._journal.close()
        self._metrics.close()
        return await self.status()

    # Readings

    async def status(self) -> dict[str, Any]:
        """What a person asks first."""
        supervisor, observation = self._supervisor, self._world.last_observation()
        return {
            "now_s": self._now_s(),
            "ticks": supervisor.ticks,
            "rule_ticks": supervisor.rule_ticks,
            "policy_fault": supervisor.fault,
            "stale_ticks": self._world.stale_ticks,
            "serve_away": self._away,
            "latest_tick_s": self._late_s,
            "is_dry_run": self._spec.is_dry_run,
            "last_actions": self._last,
            "serving": self._fleet_counts(),
            "decide_s": list(supervisor.decide_s),
            "day_spend_usd": dict(zip(BILL_TERMS, observation.day_spend_usd[0].tolist(), strict=True)),
            "loop_error": self._loop_error(),
            "receipts": self._receipts.status(),
        }

    async def journal_bytes(self) -> Mapping[str, bytes]:
        """The journal and its timings by file name, for a creator on another machine."""
        from controller.journal import timings_path

        files = (self._journal_path, timings_path(self._journal_path))
        return {file.name: file.read_bytes() for file in files if file.exists()}

    # The loop

    def _now_s(self) -> float:
        return time.monotonic() - self._began_s

    def _policy(self, policy: Any) -> Any:
        from controller.policies.registry import make_policy

        content = self._spec.policy_file
        if content is not None and policy == self._spec.policy:
            file = Path(self._folder.name) / Path(str(policy)).name
            file.write_bytes(content)
            policy = str(file)
        return make_policy(policy, self._spec.setting)

    async def _run(self) -> None:
        tick_s = self._spec.setting.control.tick_s
        tick = 0
        while True:
            tick += 1
            # Deadlines are counted from the start: a slow tick must not shift all later ones.
            await asyncio.sleep(max(0.0, tick * tick_s - self._now_s()))
            self._late_s = max(self._late_s, self._now_s() - tick * tick_s)
            await self._world.read()
            await self._decide(self._world.observe())

    async def _decide(self, observation: Any) -> None:
        began_s = time.perf_counter()
        decision = self._supervisor.decide(observation, self._world.stale_ticks)
        decided_s = time.perf_counter() - began_s
        if self._journal is not None:
            timings = {"decide_s": decided_s, "now_s": self._now_s()}
            self._journal.write(
                observation,
                decision.raw,
                decision.plan,
                decision.actions,
                decision.shares,
                timings_s=timings,
                measured=self._world.last_measurements(),
            )
        self._world.apply(decision.actions, decision.plan, decision.shares)
        if self._journal is not None:
            self._receipts.write(self._journal, observation, decision)
        self._publish(observation, decision)
        self._away += not await self._world.follow()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_FOLLOW_S)
            self._away += not await self._world.follow()

    def _publish(self, observation: Any, decision: Decision) -> None:
        setting = self._spec.setting
        actions = actions_of(decision.actions, 0, setting.variant_names, setting.pool_names)
        self._last = [str(action) for action in actions]
        facts = {
            "ticks": float(self._supervisor.ticks),
            "rule_ticks": float(self._supervisor.rule_ticks),
            "stale_ticks": float(self._world.stale_ticks),
            "is_dry_run": float(self._spec.is_dry_run),
            "decide_seconds": self._supervisor.decide_s[-1],
        }
        self._metrics.publish(controller_families(observation, decision.plan, decision.actions, self._tables, facts))

    def _fleet_counts(self) -> dict[str, int]:
        serving = self._world.serving()
        return {self._tables.option_name(int(o)): int(serving[o]) for o in np.flatnonzero(serving)}

    def _loop_error(self) -> str:
        for task in (self._task, self._follower):
            if task is not None and task.done() and not task.cancelled() and task.exception() is not None:
                return repr(task.exception())[:400]
        return ""


def start_controller(spec: ControllerSpec) -> Any:
    """Creates the detached actor and returns its handle.

    Raises:
        ValueError: A controller already runs on this cluster.
    """
    # One process of its own: a policy's imports and compilations never delay Serve's controller or a router.
    remote: Any = ray.remote(ServingController)
    handle: Any = remote.options(
        name=NAME,
        namespace=NAMESPACE,
        lifetime="detached",
        num_cpus=0,
        max_restarts=0,
        max_concurrency=64,
        runtime_env={"env_vars": {"OMP_NUM_THREADS": "1", **_passed_on()}},
    ).remote(pickle.dumps(spec))
    return handle


def _passed_on() -> dict[str, str]:
    """Environment of the creator that decides where caches are."""
    return {name: os.environ[name] for name in ("PROVISOR_CACHE", "XDG_CACHE_HOME") if name in os.environ}
