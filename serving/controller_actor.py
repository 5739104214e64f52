"""The detached actor that drives a live application: one decision per tick, journalled, on a clock of its own.

Life: `prepare` brings up the fleet a run begins with, `begin` starts the clock, `stop` ends the loop, `finish` closes
the journal. Between two decisions the actor follows Serve several times a second, so a replica serves as soon as it
runs and a lost one is noticed at once. It outlives its creator until it is killed; a Serve controller or router that
restarts meanwhile is found again by name. If its own process dies, Ray starts it anew, and it goes on: ledger, counters
and clock come from its checkpoint, the policies' state from deciding the journal again.
"""

import asyncio
import logging
import pickle
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import ray
from pydantic import JsonValue

from controller.arrays import BILL_TERMS, I64
from controller.journal import Journal
from controller.journal_writer import JournalWriter
from controller.loop import Decision
from controller.plan import actions_of
from controller.trust.candidate import warm
from controller.trust.desk import ConflictError, files_of_run
from controller.trust.memory import Memory, load_memory, save_memory
from controller.trust.mode import Mode
from serving import ray_compat
from serving.actuator import RayServe
from serving.checkpoint import CheckpointError, RunClock, load_checkpoint, save_checkpoint
from serving.controller_spec import ControllerSpec, ledger_of
from serving.exposition import MetricsServer, controller_families
from serving.instances import Phase
from serving.metrics import ObservationBuilder
from serving.node_demand import NodeDemand
from serving.node_owners import node_owner, notices
from serving.notices import Notice, read_notice
from serving.receipts import Receipts
from serving.rehearsals import Rehearsals
from serving.rules import Rules, router_tables
from serving.tasks import call_oneself, end_task, first_error
from serving.trusted import Trusted

_FOLLOW_S = 0.2
_SETTLE_TIMEOUT_S = 120.0
_NODE_TIMEOUT_S = 30.0
# More for each node of the first fleet, since local ones start one after the other.
CHECKPOINT = "checkpoint.json"
MEMORY = "memory.pickle"
MEMORY_TICKS = 360
"""Ticks between two memories: an hour by default, which takes a quarter of a second to decide again."""

_NOTICE_TIMEOUT_S = 5.0

_log = logging.getLogger("provisor.controller")


class ServingController:
    """Observes, decides, applies and journals until it is stopped.

    Args:
        run: Under which `start_controller` has kept the `ControllerSpec`.
    """

    def __init__(self, run: str) -> None:
        # Ray hands over arrays read-only, which to the compiler is another type: everything would be compiled again.
        spec: ControllerSpec = pickle.loads(ray_compat.kept(run))
        self._spec = spec
        self._clock = RunClock.starting_now()
        # The same for the actor's next life, so that it finds what this one wrote.
        self._folder = Path(tempfile.gettempdir()) / f"provisor-{spec.run}"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._journal_path = Path(spec.journal_path or self._folder / "journal.jsonl")
        is_again = ray.get_runtime_context().was_current_actor_reconstructed
        self._nodes = node_owner(spec, self._folder, is_first=not is_again)
        self._notices = notices(spec.aws, self._nodes)
        needs = spec.node_needs
        self._demand = None if needs is None else NodeDemand(needs, ray_compat.request_nodes, time.monotonic)
        self._fleet = ledger_of(spec)
        self._builder = ObservationBuilder(spec.setting, spec.history)
        self._world = RayServe(
            spec.setting, spec.layout, spec.app, self._fleet, self._builder, self._now_s, self._nodes, self._demand
        )
        self._tables = router_tables(spec.setting)
        self._trusted = Trusted(
            spec.setting, self._journal_path.parent, spec.policy, spec.policy_file, spec.rule, spec.trust
        )
        self._supervisor = self._trusted.supervisor
        self._world.is_holding = spec.trust.mode is Mode.REPLAY
        self._rehearsals = Rehearsals() if spec.has_rehearsals else None
        if self._rehearsals is not None:
            rehearsals = self._rehearsals
            self._world.is_blind = lambda: rehearsals.is_blind
        self._receipts = Receipts(spec.setting, self._trusted.loops, spec.world_model)
        self._task: asyncio.Task[None] | None = None
        self._follower: asyncio.Task[None] | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._journal: JournalWriter | None = None
        self._metrics = MetricsServer(spec.metrics_port)
        self._away = 0
        self._late_s = 0.0
        self._last: list[str] = []
        self._restarts = 0
        self._is_again = is_again
        self._is_stopped = False
        self._resumed: asyncio.Task[bool] | None = None
        self._decided_at_s = 0.0
        self._planned: I64 | None = None
        if is_again:
            call_oneself("resume")  # nobody else calls an actor that Ray has started anew

    # Life

    async def prepare(self) -> float:
        """Brings up the fleet that the run begins with, and compiles the decision path.

        Returns:
            Seconds from asking for the replicas until the last of them ran.

        Raises:
            TimeoutError: The replicas do not come up.
        """
        began_s = time.monotonic()
        self._clock = RunClock.starting_now()
        self._fleet.begin(self._spec.initial_replicas, 0.0)
        timeout_s = _SETTLE_TIMEOUT_S
        if self._nodes is not None:
            # Machines of EC2 come up side by side.
            bought = self._spec.aws
            nodes = float(self._fleet.nodes_wanted().sum())
            timeout_s += _NODE_TIMEOUT_S * nodes if bought is None else bought.join_timeout_s
        self._receipts.warm_up(self._world.blank_observation())
        for loop in self._trusted.loops().values():
            warm(loop, self._world.blank_observation())
        while not (await self._world.follow(is_first=True) and self._world.is_settled()):
            if time.monotonic() - began_s > timeout_s:
                raise TimeoutError(f"the first replicas did not come up within {timeout_s:g} s")
            await asyncio.sleep(_FOLLOW_S)
        self._serve_admin()
        return time.monotonic() - began_s

    async def begin(self) -> float:
        """Starts the clock and decides for the first time.

        Returns:
            Wall-clock time (seconds since the epoch) of second 0.
        """
        self._clock = RunClock.starting_now()
        self._fleet.restart_clock()
        self._journal = JournalWriter(self._journal_path, self._spec.header)
        observation = await self._world.first_observation()
        await self._decide(observation)
        self._save()
        self._start_tasks()
        return self._clock.began_wall_s

    async def resume(self) -> bool:
        """Goes on after the actor's process died, once, however often it is called.

        Returns:
            False where there is nothing to go on with.
        """
        if self._resumed is None:
            self._resumed = asyncio.create_task(self._resume())
        return await self._resumed

    async def _resume(self) -> bool:
        # The first tick leaves a checkpoint. A journal alone may be that of an earlier run in the same folder.
        if not (self._folder / CHECKPOINT).exists():
            return False
        try:
            state = load_checkpoint(self._folder / CHECKPOINT, self._spec.run)
        except CheckpointError as error:
            _log.warning("%s; what Serve reports is taken for the fleet", error)
            state = {}
        self._clock = RunClock(**state["clock"]).resumed() if state else self._clock
        memory = load_memory(self._folder / MEMORY, self._spec.run, self._journal_path)
        last = self._trusted.resume(Journal(self._journal_path), state.get("trust"), memory, state.get("admin_port", 0))
        history = (self._builder.observation if last is None else last).history[0]
        self._journal = JournalWriter(
            self._journal_path, self._spec.header, is_continuing=True, after=None if memory is None else memory.place
        )
        if state:
            self._world.restore(state, history)
        else:
            await self._world.adopt()
        self._restarts = int(state.get("restarts", 0)) + 1
        self._is_stopped = bool(state.get("is_stopped", False))
        self._journal.event("restart", {"at_s": self._now_s(), "had_checkpoint": bool(state)})
        # Before the first tick of this life: one that ends sooner counts, too.
        self._save()
        if not self._is_stopped:
            self._start_tasks()
            self._trusted.serve_admin_again(self._serve_admin)
        return True

    async def _gone_on(self) -> None:
        """Returns once an actor that was started anew is where its last life was."""
        if self._is_again:
            with suppress(Exception):  # `status` tells of it
                await self.resume()

    async def stop(self) -> dict[str, Any]:
        """Ends the loop; what is deployed stays as it is, and the journal is open until `finish`. Returns `status`."""
        await self._gone_on()  # asked before it could go on, it would go on after it was stopped
        for task in (self._task, self._follower, self._hearing):
            if task is not None:
                await end_task(task)
        self._is_stopped = True
        if self._journal is not None:
            self._save()  # a process that dies from here on comes back to be finished, and not to decide
        self._trusted.close()
        self._receipts.close()
        if self._journal is not None:
            for event in self._supervisor.close():
                self._journal.event(*event)
        self._metrics.close()
        return await self.status()

    async def finish(self) -> None:
        """Writes down what was spent since the last tick, which no tick holds, and closes the journal; after `stop`."""
        await self._gone_on()
        if self._journal is None:
            return
        if await self._world.read():
            self._journal.end(self._now_s(), self._world.observe().spend_usd[0])
        self._journal.close()

    async def end(self) -> None:
        """Ends the nodes that were started, and removes what only the actor needed; after `stop`."""
        if self._nodes is not None:
            await self._nodes.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        ray_compat.forget(self._spec.run)

    # Readings

    async def status(self) -> dict[str, Any]:
        """What a person asks first, and the seconds of every decision."""
        return {**self._facts(), "decide_s": list(self._supervisor.decide_s)}

    async def admin_url(self) -> str:
        """Where the admin API listens; empty where there is none."""
        port, admin = self._trusted.admin_port, self._spec.trust.admin
        if admin is None or not port:
            return ""
        util: Any = ray.util  # its functions have no types
        host = util.get_node_ip_address() if admin.host in ("0.0.0.0", "::") else admin.host
        return f"http://{host}:{port}"

    async def rules(self) -> Rules | None:
        """What the routers go by; for a router that was started anew. None before the first decision."""
        return self._world.rules()

    async def targets(self) -> dict[str, Any]:
        """Replicas that every deployment is planned to have, and when that was decided (seconds since the epoch)."""
        layout = self._spec.layout
        planned = self._planned
        counts = {} if planned is None else {name: int(planned[option]) for option, name in layout.names.items()}
        return {"at_s": self._decided_at_s, "app": layout.app or self._spec.app, "targets": counts}

    async def journal_bytes(self) -> Mapping[str, bytes]:
        """The journal and its timings by file name, for a creator on another machine."""
        return {name: file.read_bytes() for name, file in files_of_run(self._journal_path).items()}

    # The loop

    def _now_s(self) -> float:
        return self._clock.now_s()

    def _serve_admin(self) -> None:
        loop = asyncio.get_running_loop()

        def notice(fields: dict[str, JsonValue]) -> Mapping[str, JsonValue]:
            # Asked in a thread of the admin API; the ledger belongs to the loop.
            given = read_notice(fields, self._spec.setting.pool_names)
            return asyncio.run_coroutine_threadsafe(self._notice(given), loop).result(_NOTICE_TIMEOUT_S)

        rehearse = None if self._rehearsals is None else self._rehearsals.begin
        self._trusted.serve_admin(self._facts, notice=notice, rehearse=rehearse)

    async def _notice(self, given: Notice) -> dict[str, JsonValue]:
        pools = self._spec.setting.pool_names
        node = given.node_id or self._fleet.node_of(pools.index(given.pool))
        if not self._doom(node, given.left_s):
            what = f"node {given.node_id}" if given.node_id else f"a node of pool {given.pool}"
            raise ConflictError(f"{what}: expected one that serves and is under no notice, got none")
        return {"node_id": node, "left_s": given.left_s}

    def _doom(self, node: str, left_s: float, *, is_kept: bool = False) -> bool:
        """A node is taken in a while; returns whether that is news of one that serves, or of any (`is_kept`)."""
        is_news = (self._fleet.warn if is_kept else self._fleet.doom)(node, left_s, self._now_s())
        if is_news and self._journal is not None:
            self._journal.event("notice", {"at_s": self._now_s(), "node": node, "left_s": left_s})
        return is_news

    def _start_tasks(self) -> None:
        self._task = asyncio.create_task(self._run())
        self._follower = asyncio.create_task(self._follow())
        if self._notices is not None:
            self._hearing = asyncio.create_task(self._notices(partial(self._doom, is_kept=True)))

    def _facts(self) -> dict[str, Any]:
        observation = self._world.last_observation()
        return {
            **self._supervisor.status(),
            "now_s": self._now_s(),
            "stale_ticks": self._world.stale_ticks,
            "serve_away": self._away,
            "restarts": self._restarts,
            "latest_tick_s": self._late_s,
            "last_actions": self._last,
            "serving": self._tables.named(self._world.serving()),
            "planned": {} if self._planned is None else self._tables.named(self._planned, self._spec.layout.names),
            "starting": self._tables.named(self._fleet.counts(Phase.BOOTING, Phase.LOADING).reshape(-1)),
            "day_spend_usd": dict(zip(BILL_TERMS, observation.day_spend_usd[0].tolist(), strict=True)),
            "loop_error": first_error(self._resumed, self._task, self._follower),
            "receipts": self._receipts.status(),
            "demoted_tiers": self._world.demotions.reasons,
        }

    async def _run(self) -> None:
        tick_s = self._spec.setting.control.tick_s
        tick = int(self._builder.observation.tick[0])
        while True:
            # Deadlines are counted from the start: a slow tick must not shift all later ones. Those that passed while
            # the actor was away are left out; deciding them in a row would help nobody.
            tick = max(tick + 1, int(self._now_s() / tick_s))
            await asyncio.sleep(max(0.0, tick * tick_s - self._now_s()))
            self._late_s = max(self._late_s, self._now_s() - tick * tick_s)
            await self._world.read()
            await self._decide(self._world.observe(tick))
            self._save()

    def _save(self) -> None:
        state = {
            "clock": vars(self._clock),
            **self._world.snapshot(),
            "restarts": self._restarts,
            "trust": self._trusted.desk.state(),
            "admin_port": self._trusted.admin_port,
            "is_stopped": self._is_stopped,
        }
        save_checkpoint(self._folder / CHECKPOINT, self._spec.run, state)
        if self._supervisor.ticks % MEMORY_TICKS == 0:
            self._remember()

    def _remember(self) -> None:
        journal, path, run = self._journal, self._folder / MEMORY, self._spec.run
        if journal is not None:
            last = self._world.last_observation()
            self._trusted.desk.write_down(last, lambda found: save_memory(path, run, Memory(journal.place, found)))

    async def _decide(self, observation: Any) -> None:
        began_s = time.perf_counter()
        verdict = self._supervisor.decide(observation, self._world.stale_ticks)
        decision = verdict.decision
        decided_s = time.perf_counter() - began_s
        if self._journal is not None:
            for event in (*verdict.events, *self._world.demotions.news()):
                self._journal.event(*event)
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
        self._world.is_holding = verdict.mode is Mode.REPLAY
        self._world.apply(decision.actions, decision.plan, decision.shares)
        if self._journal is not None:
            self._receipts.write(self._journal, observation, decision)
        self._decided_at_s = time.time()
        self._planned = decision.plan.replicas[0].reshape(-1).copy()
        self._publish(observation, decision)
        self._trusted.desk.after_tick()
        self._away += not await self._world.follow()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_FOLLOW_S)
            self._away += not await self._world.follow()

    def _publish(self, observation: Any, decision: Decision) -> None:
        setting = self._spec.setting
        actions = actions_of(decision.actions, 0, setting.variant_names, setting.pool_names)
        self._last = [str(action) for action in actions]
        facts = {**self._trusted.gauges(), "stale_ticks": float(self._world.stale_ticks)}
        self._metrics.publish(controller_families(observation, decision.plan, decision.actions, self._tables, facts))
