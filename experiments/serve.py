"""The composition root of a live run: scenario, models, Ray, controller and load, and the simulated twin beside them.

Both worlds get one setting, one start and the same requests: the scenario at the run's speed, with the start and swap
of a replica as measured on this machine, the fleet the starting rule provisions, and arrivals drawn from the same
keys.
"""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from controller.compile import Setting
from controller.config import write_run_header
from controller.errors import RunError, shown
from controller.identity import require_own_packages
from controller.journal import JournalHeader
from controller.policies.registry import make_policy, plain_spec
from controller.replay import make_header
from controller.scenario import MeasuredSpans, Scenario
from controller.trust.store import policy_path
from envs.world import Cell, World
from experiments.arrivals import schedule_of
from experiments.live import (
    LiveOptions,
    LiveResult,
    live_world,
    require_bought,
    result_rows,
    setting_at_speed,
    speeded,
    write_arrivals,
)
from experiments.live_functions import functions_of
from experiments.live_requests import Requests, write_requests
from experiments.live_spans import first_nodes, measured_on, measured_spans
from experiments.live_trust import note_admin, trust_spec
from experiments.results import write_results
from experiments.rollout import Start, prepare
from experiments.run_config import policy_labels
from experiments.signals import signals_ignored, signals_interrupt
from serving.aws.function_targets import FunctionTargets
from serving.load import LoadRecord, Schedule
from serving.node_demand import ReplicaNeeds
from serving.nodes import POOL_LABEL

JOURNAL = "journal.jsonl"
_DRAIN_S = 15.0
_ANSWER_TIMEOUT_S = 30.0
_RESTART_TIMEOUT_S = 90.0
# A restart takes some 10 s: a process, its imports, and the journal decided again.
_AWAY_AGAIN_S = 1.0


def serve(options: LiveOptions, say: Callable[[str], None]) -> LiveResult:
    """Serves until the duration ends or a signal arrives, then drains and leaves no process behind.

    Args:
        options: What to do.
        say: Prints one line of progress.

    Raises:
        ProvisorError: Something that was named is wrong, a port is taken, or Ray cannot be reached.
    """
    require_own_packages()
    scenario = speeded(options)
    setting = setting_at_speed(scenario, None)
    for policy in (options.policy, options.named_rule):
        make_policy(policy, setting)
    if options.node_terms is not None:
        require_bought(options.node_terms, setting)
    world = live_world(scenario, options, setting)
    with signals_interrupt():
        # Compiles the decision path while Ctrl-C still ends everything at once; the controller finds the code stored.
        prepare(world, [Cell(world.days[0], options.seed)])
        return _on_cluster(options, scenario, world, say)


def _on_cluster(options: LiveOptions, scenario: Scenario, world: World, say: Callable[[str], None]) -> LiveResult:
    from serving import cluster as clusters
    from serving.app import APP_NAME, slots_needed
    from serving.bring_your_own import model_specs

    setting = world.setting
    slots = slots_needed(setting)
    if options.address is None:
        clusters.require_free_port(options.port, "--port")
        if options.has_admin and options.admin_port:
            clusters.require_free_port(options.admin_port, "--admin-port")
    specs, trained = model_specs(setting.variant_names, options.models)
    for one in trained:
        say(f"model {one.name}: {one.accuracy:.1%} of the held-out images right")
    if options.address is None:
        say("starting Ray")
        cluster = clusters.start_cluster(slots, options.port, has_local_nodes=options.has_nodes)
    else:
        say(f"joining Ray at {options.address}")
        offered = {} if options.has_nodes else slots  # else its nodes are there already
        cluster = clusters.join_cluster(options.address, offered, options.port, clusters.own_code())
        say(clusters.node_loss_text())
    live = LiveRun(options, scenario, world, cluster, specs, say)
    try:
        with functions_of(options.function_terms, live.run_id, world.setting, specs, say) as live.functions:
            result = asyncio.run(live.run())
    finally:
        with signals_ignored():
            say("stopping Ray" if cluster.is_own else "leaving Ray")
            cluster.close(APP_NAME)
    write_arrivals(result.journal)
    if result.record is not None and result.schedule is not None:
        write_requests(Requests.of(result.schedule, result.record), options.out)
    return live.compared(result)


class LiveRun:
    """One run on a cluster that is up; what an attached run does otherwise is in `experiments.attached_run`."""

    def __init__(
        self,
        options: LiveOptions,
        scenario: Scenario,
        world: World,
        cluster: Any,
        specs: Mapping[str, Any],
        say: Callable[[str], None],
    ) -> None:
        self._options, self._scenario, self._world = options, scenario, world
        self._cluster, self._specs, self._say = cluster, specs, say
        self._stop = asyncio.Event()
        self.run_id = uuid.uuid4().hex[:12]
        self.functions: FunctionTargets | None = None
        self._ran: tuple[World, Start] | None = None
        self._token_path: Path | None = None

    async def run(self) -> LiveResult:
        """Deploys, measures, serves, drains."""
        from serving.controller_start import start_controller

        options = self._options
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        application, layout = self._application()
        self._say("deploying")
        await self._deploy(application)
        spans = await self._spans(layout)
        setting = self._setting_with(spans)
        world = replace(self._world, setting=setting)
        start = self._start_of(world)
        header = self._header(setting, spans)
        write_run_header(options.out, self._resolved(), [options.seed])
        handle = await asyncio.to_thread(start_controller, self._spec(setting, layout, start, header))
        self._check_stop()
        took_s = await self._or_stop(handle.prepare.remote())
        note_admin(options.out, await handle.admin_url.remote(), self._token_path, self._say)
        self._say(f"{int(start.replicas.sum())} replicas serve after {took_s:.1f} s at {self._cluster.url}")
        return await self._serve(handle, world, start)

    async def _serve(self, handle: Any, world: World, start: Start) -> LiveResult:
        options = self._options
        tick_s = world.setting.control.tick_s
        num_ticks = None if options.duration_s is None else max(1, int(options.duration_s / tick_s + 1e-9))
        schedule = record = None
        if options.is_replaying and num_ticks is not None:
            schedule = schedule_of(world, self._cell, float(world.start_s([self._cell])[0]), num_ticks * tick_s)
            self._say(f"sending {len(schedule.arrival_s)} requests in {num_ticks * tick_s:.0f} s")
        wall_s = await handle.begin.remote()
        began_at = time.monotonic() - (time.time() - wall_s)
        if schedule is not None:
            record = await self._load(schedule, began_at)
        while not self._stop.is_set():
            status = await self._answer(handle.status)
            if status["loop_error"]:
                raise RunError(f"the controller stopped: {status['loop_error']}")
            if num_ticks is not None and status["ticks"] > num_ticks:
                break
            await self._pause(min(tick_s, 1.0))
        self._say("draining")
        status = await self._answer(handle.stop)
        await self._drain()
        await self._answer(handle.finish)
        journal = await self._fetch_journal(handle)
        await self._answer(handle.end)
        self._ran = world, start
        return LiveResult((), journal, status, record, schedule, self._stop.is_set())

    def compared(self, result: LiveResult) -> LiveResult:
        """The result with the live row and that of the simulated twin, which runs once Ray is gone."""
        if not self._options.is_replaying or self._ran is None:
            return result
        world, start = self._ran
        rows = result_rows(world, start, result, self._options)
        write_results(rows, self._options.out)
        return replace(result, rows=rows)

    # Steps

    @property
    def _cell(self) -> Cell:
        return Cell(self._world.days[0], self._options.seed)

    def _application(self) -> tuple[Any, Any]:
        from serving.app import build_application, layout_of

        layout = layout_of(self._world.setting, self._labels())
        application = build_application(
            self._world.setting, self._specs, self._cell.env_seed, layout, self.functions, self._options.audit
        )
        return application, layout

    async def _deploy(self, application: Any) -> None:
        from ray import serve as ray_serve

        from serving.app import APP_NAME

        prefix = self._cluster.route_prefix
        await asyncio.to_thread(
            ray_serve.run, application, name=APP_NAME, route_prefix=prefix, external_scaler_enabled=True
        )

    def _setting_with(self, spans: MeasuredSpans | None) -> Setting:
        return setting_at_speed(self._scenario, spans)

    def _start_of(self, world: World) -> Start:
        return prepare(world, [self._cell])

    async def _spans(self, layout: Any) -> MeasuredSpans | None:
        if self._options.node_terms is not None:
            return None  # the catalog's: a replica starts as fast as the machine that is bought for it
        options = measured_on(layout, self._world.setting)
        if not options:
            return None  # nothing but serverless
        if self._options.has_local_nodes:
            self._say("starting the first nodes")
            pools, folder = self._world.setting.pool_names, self._options.out / "nodes"
            await first_nodes(options, pools, self.run_id, folder, self._check_stop)
        spans = await measured_spans([layout.names[option] for option in options], self._check_stop)
        self._say(f"a replica starts in {spans.start_s:.1f} s, a swap takes {spans.swap_s:.1f} s")
        return spans

    def _labels(self) -> dict[str, dict[str, str]]:
        """Label selector by pool; none where one node stands for all."""
        if not self._options.has_nodes:
            return {}
        return {name: {POOL_LABEL: name} for name in self._world.setting.pool_names}

    def _spec(self, setting: Setting, layout: Any, start: Start, header: JournalHeader) -> Any:
        from serving.controller_spec import ControllerSpec
        from serving.market import Market

        options, world = self._options, self._world
        policy = options.policy
        named = policy_path(policy)
        trust, self._token_path = trust_spec(options, setting, self._cluster.is_own, self._say)
        journal = str((options.out / JOURNAL).resolve()) if self._cluster.is_own else ""
        return ControllerSpec(
            setting=setting,
            layout=layout,
            app="provisor",
            policy=policy,
            policy_file=None if named is None else named.read_bytes(),
            rule=options.named_rule,
            market=Market(world.spot_share, world.spot_gap_s, float(world.spot_start_s([self._cell])[0])),
            seed=self._cell.env_seed,
            initial_replicas=start.replicas[0],
            history=start.history[0],
            header=header,
            journal_path=journal,
            metrics_port=options.metrics_port,
            run=self.run_id,
            node_needs=self._node_needs(),
            has_local_nodes=options.has_local_nodes,
            aws=options.node_terms,
            trust=trust,
            has_rehearsals=options.has_rehearsals,
            world_model=options.world_model,
        )

    def _node_needs(self) -> Mapping[str, ReplicaNeeds] | None:
        return None

    def _header(self, setting: Setting, spans: MeasuredSpans | None) -> JournalHeader:
        options, world = self._options, self._world
        described = {"trace": world.trace_name, "scale": world.scale, "day": self._cell.day, "hour": options.start_hour}
        label = policy_labels([options.policy])[0]
        return make_header(setting, options.policy, label, (options.seed,), "live", described, spans)

    def _resolved(self) -> dict[str, Any]:
        options, rule = self._options, self._options.named_rule
        return {
            "scenario": self._scenario.model_dump(mode="json"),
            "policy": policy_labels([options.policy])[0],
            "rule": plain_spec(rule),
            "speed": options.speed,
            "duration_s": options.duration_s,
            "start_hour": options.start_hour,
            "scale": self._world.scale,
            "address": options.address,
            "mode": options.mode,
            "trust": options.trust.model_dump(mode="json"),
            "audit": options.audit.model_dump(mode="json"),
            "models": dict(options.models),
        }

    async def _load(self, schedule: Schedule, began_at: float) -> LoadRecord:
        from serving.load import send_all

        inputs, truths = self._inputs()
        names = self._world.setting.class_names
        return await send_all(self._cluster.url, schedule, names, inputs, truths, began_at, self._stop)

    def _inputs(self) -> tuple[list[Any], list[Any] | None]:
        from serving import zoo

        _, _, images, digits = zoo.images()
        return [row.tolist() for row in images], None if self._options.models else digits.tolist()

    async def _drain(self) -> None:
        from serving.actuator import AWAY
        from serving.app import APP_NAME, ROUTER
        from serving.ray_compat import deployment_handle

        try:
            router = deployment_handle(ROUTER, APP_NAME)
            held = await asyncio.wait_for(router.drain.remote(_DRAIN_S), _DRAIN_S + 5.0)
        except AWAY:
            held = 0
        if held:
            self._say(f"{held} requests were not answered within {_DRAIN_S:g} s")

    async def _fetch_journal(self, handle: Any) -> Path:
        path = self._options.out / JOURNAL
        if not self._cluster.is_own:
            for name, content in (await handle.journal_bytes.remote()).items():
                (path.parent / name).parent.mkdir(exist_ok=True)
                (path.parent / name).write_bytes(content)
        return path

    async def _or_stop(self, reference: Any) -> Any:
        """The result of an actor call, unless a signal comes first."""
        call = asyncio.ensure_future(reference)
        stop = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({call, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        self._check_stop()
        return await call

    async def _answer(self, method: Any) -> Any:
        """What a method of the controller returns; one whose process died is started anew by Ray, and is waited for."""
        from ray.exceptions import RayActorError

        end_s = time.monotonic() + _RESTART_TIMEOUT_S
        while True:
            try:
                return await asyncio.wait_for(method.remote(), _ANSWER_TIMEOUT_S)
            except TimeoutError as error:
                raise RunError(f"the controller did not answer within {_ANSWER_TIMEOUT_S:g} s") from error
            except RayActorError as error:
                if time.monotonic() > end_s:
                    raise RunError(f"the controller is gone: {shown(error)}") from error
            await asyncio.sleep(_AWAY_AGAIN_S)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise KeyboardInterrupt
