"""The composition root of a live run: scenario, models, Ray, controller and load, and the simulated twin beside them.

Both worlds get one setting, one start and the same requests: the scenario at the run's speed, with the start and swap
of a replica as measured on this machine, the fleet the starting rule provisions, and arrivals drawn from the same
keys.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from controller.compile import Setting
from controller.config import write_run_header
from controller.errors import RunError
from controller.identity import require_own_packages
from controller.journal import JournalHeader, MeasuredSpans
from controller.policies.registry import make_policy
from controller.replay import FILE_SUFFIXES, make_header
from controller.scenario import Scenario
from envs.world import Cell, World
from experiments.arrivals import schedule_of
from experiments.live import (
    LiveOptions,
    LiveResult,
    live_world,
    result_rows,
    setting_at_speed,
    speeded,
    write_arrivals,
)
from experiments.results import write_results
from experiments.rollout import Start, prepare
from experiments.run_config import policy_labels
from serving.load import LoadRecord, Schedule

JOURNAL = "journal.jsonl"
_DRAIN_S = 15.0
_POLL_S = 0.1
_SCALE_TIMEOUT_S = 90.0
_ANSWER_TIMEOUT_S = 30.0


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
    for policy in (options.policy, options.rule):
        make_policy(policy, setting)
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
    specs, trained = model_specs(setting.variant_names, options.models)
    for one in trained:
        say(f"model {one.name}: {one.accuracy:.1%} of the held-out images right")
    if options.address is None:
        say("starting Ray")
        cluster = clusters.start_cluster(slots, options.port)
    else:
        say(f"joining Ray at {options.address}")
        cluster = clusters.join_cluster(options.address, slots, options.port, clusters.own_code())
    live = _Live(options, scenario, world, cluster, specs, say)
    try:
        result = asyncio.run(live.run())
    finally:
        with _signals_ignored():
            say("stopping Ray" if cluster.is_own else "leaving Ray")
            cluster.close(APP_NAME)
    write_arrivals(result.journal)
    return live.compared(result)


class _Live:
    """One run on a cluster that is up."""

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
        self._ran: tuple[World, Start] | None = None

    async def run(self) -> LiveResult:
        """Deploys, measures, serves, drains."""
        from ray import serve as ray_serve

        from serving.app import APP_NAME, build_application, layout_of
        from serving.controller_actor import start_controller

        options = self._options
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        layout = layout_of(self._world.setting)
        application = build_application(self._world.setting, self._specs, self._cell.env_seed, layout)
        self._say("deploying")
        prefix = self._cluster.route_prefix
        await asyncio.to_thread(
            ray_serve.run, application, name=APP_NAME, route_prefix=prefix, external_scaler_enabled=True
        )
        spans = await self._measure(layout)
        self._say(f"a replica starts in {spans.start_s:.1f} s, a swap takes {spans.swap_s:.1f} s")
        setting = setting_at_speed(self._scenario, spans)
        world = replace(self._world, setting=setting)
        start = prepare(world, [self._cell])
        header = self._header(setting, spans)
        write_run_header(options.out, self._resolved(), [options.seed])
        handle = await asyncio.to_thread(start_controller, self._spec(setting, layout, start, header))
        self._check_stop()
        took_s = await self._or_stop(handle.prepare.remote())
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
            status = await self._answer(handle.status.remote())
            if status["loop_error"]:
                raise RunError(f"the controller stopped: {status['loop_error']}")
            if num_ticks is not None and status["ticks"] > num_ticks:
                break
            await self._pause(min(tick_s, 1.0))
        self._say("draining")
        status = await self._answer(handle.stop.remote())
        await self._drain()
        journal = await self._fetch_journal(handle)
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

    async def _measure(self, layout: Any) -> MeasuredSpans:
        """Start and swap of a replica as this machine does them, from asking until Serve reports it running."""
        from serving import ray_compat
        from serving.app import APP_NAME

        controller = ray_compat.serve_controller()

        async def until_running(targets: dict[str, int]) -> float:
            began_s = time.monotonic()
            await ray_compat.set_targets(controller, APP_NAME, targets)
            while True:
                states = await ray_compat.replica_states(controller, APP_NAME)
                running = {s.deployment for s in states if s.state == "RUNNING"}
                present = {s.deployment for s in states}
                if all((name in running) if count else (name not in present) for name, count in targets.items()):
                    return time.monotonic() - began_s
                self._check_stop()
                if time.monotonic() - began_s > _SCALE_TIMEOUT_S:
                    raise RunError(f"no replica of {sorted(targets)} ran within {_SCALE_TIMEOUT_S:g} s")
                await asyncio.sleep(_POLL_S)

        first, second = (list(layout.names.values()) * 2)[:2]
        start_s = await until_running({first: 1})
        swap_s = await until_running({first: 0, second: 1}) if second != first else start_s
        await until_running({second: 0})
        return MeasuredSpans(start_s=round(start_s, 3), swap_s=round(swap_s, 3))

    def _spec(self, setting: Setting, layout: Any, start: Start, header: JournalHeader) -> Any:
        from serving.controller_actor import ControllerSpec
        from serving.market import Market

        options, world = self._options, self._world
        policy = options.policy
        is_file = isinstance(policy, str) and policy.endswith(FILE_SUFFIXES)
        journal = str((options.out / JOURNAL).resolve()) if self._cluster.is_own else ""
        return ControllerSpec(
            setting=setting,
            layout=layout,
            app="provisor",
            policy=policy,
            policy_file=Path(str(policy)).read_bytes() if is_file else None,
            rule=options.rule,
            market=Market(world.spot_share, world.spot_gap_s, float(world.spot_start_s([self._cell])[0])),
            seed=self._cell.env_seed,
            initial_replicas=start.replicas[0],
            history=start.history[0],
            header=header,
            journal_path=journal,
            metrics_port=options.metrics_port,
            is_dry_run=options.is_dry_run,
            world_model=options.world_model,
        )

    def _header(self, setting: Setting, spans: MeasuredSpans) -> JournalHeader:
        options, world = self._options, self._world
        described = {"trace": world.trace_name, "scale": world.scale, "day": self._cell.day, "hour": options.start_hour}
        label = policy_labels([options.policy])[0]
        return make_header(setting, options.policy, label, (options.seed,), "live", described, spans)

    def _resolved(self) -> dict[str, Any]:
        options = self._options
        return {
            "scenario": self._scenario.model_dump(mode="json"),
            "policy": policy_labels([options.policy])[0],
            "rule": options.rule,
            "speed": options.speed,
            "duration_s": options.duration_s,
            "start_hour": options.start_hour,
            "scale": self._world.scale,
            "address": options.address,
            "is_dry_run": options.is_dry_run,
            "models": dict(options.models),
        }

    async def _load(self, schedule: Schedule, began_at: float) -> LoadRecord:
        from serving import zoo
        from serving.load import send_all

        _, _, images, digits = zoo.images()
        inputs = [row.tolist() for row in images]
        truths = None if self._options.models else digits.tolist()
        names = self._world.setting.class_names
        return await send_all(self._cluster.url, schedule, names, inputs, truths, began_at, self._stop)

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

    async def _answer(self, reference: Any) -> Any:
        """The result of a call of the controller, which may be gone with its node."""
        try:
            return await asyncio.wait_for(reference, _ANSWER_TIMEOUT_S)
        except TimeoutError as error:
            raise RunError(f"the controller did not answer within {_ANSWER_TIMEOUT_S:g} s") from error

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise KeyboardInterrupt


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """SIGTERM ends the process as Ctrl-C does, so that what was started is always ended."""

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _signals_ignored() -> Iterator[None]:
    """A second Ctrl-C must not stop the cleaning up, which ends by itself within seconds."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
