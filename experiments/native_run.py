"""One run of Ray Serve's own autoscaler on a stretch of a trace, in a process of its own.

A second Ray in one process does not start reliably, so this is started as `provisor serve` is: `command` gives the
words, and what the run saw lies in its folder when it ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from envs.world import Cell, World
from experiments.arrivals import schedule_of
from experiments.live import LiveOptions, live_world, setting_at_speed, speeded
from experiments.live_models import Echo
from experiments.live_requests import Requests, write_requests
from experiments.native_plan import NativePlan, autoscaling_config, first_replicas, native_plan, read_native_settings
from experiments.replica_log import ReplicaLog
from serving.load import Schedule

_LOOK_S = 0.2
_WARM_S = 6.0
"""Requests at the first rate are sent this long before the stretch, so that Serve begins with something measured."""

_FIRST_WARM_IDENTITY = 1 << 40


def command(settings: Path, asked: dict[str, Any], out: Path) -> list[str]:
    """Words that start a run.

    Args:
        settings: YAML file of the kind `ray_serve`.
        asked: Fields of `LiveOptions` that choose the stretch, in JSON's types.
        out: Folder of the run.
    """
    words = json.dumps({"settings": str(settings), "out": str(out), "options": asked})
    return [sys.executable, "-c", "from experiments.native_run import main; main()", words]


def main() -> None:
    """What the words of `command` start."""
    asked = json.loads(sys.argv[1])
    options = LiveOptions(**asked["options"], is_replaying=True, out=Path(asked["out"]))
    run_native(options, Path(asked["settings"]))


def run_native(options: LiveOptions, settings_file: Path) -> None:
    """Serves the stretch; leaves requests and replicas in the folder of the options.

    Raises:
        ProvisorError: Options or settings are wrong, or Ray does not start.
    """
    from experiments.native_application import APP_NAME
    from experiments.signals import signals_ignored, signals_interrupt
    from serving.cluster import start_cluster

    settings = read_native_settings(settings_file)
    scenario = speeded(options)
    setting = setting_at_speed(scenario, None)
    world = live_world(scenario, options, setting)
    plan = native_plan(setting)
    cell = Cell(world.days[0], options.seed)
    first_rps = float(world.rate_rps[0, int(float(world.start_s([cell])[0]) / world.bin_s + 1e-9)])
    config = autoscaling_config(settings, plan, scenario.speed, first_replicas(settings, plan, first_rps))
    options.out.mkdir(parents=True, exist_ok=True)
    with signals_interrupt():
        cluster = start_cluster({}, options.port)
        try:
            requests, log = asyncio.run(_serve(cluster, world, cell, plan, config, options, first_rps))
        finally:
            with signals_ignored():
                cluster.close(APP_NAME)
    write_requests(requests, options.out)
    log.write(options.out)


async def _serve(
    cluster: Any,
    world: World,
    cell: Cell,
    plan: NativePlan,
    config: dict[str, Any],
    options: LiveOptions,
    first_rps: float,
) -> tuple[Requests, ReplicaLog]:
    from ray import serve

    from experiments.native_application import APP_NAME, native_application
    from serving import ray_compat
    from serving.bring_your_own import ModelSpec
    from serving.load import send_all
    from serving.rules import router_tables

    setting = world.setting
    name = setting.variant_names[plan.variant]
    spec = ModelSpec(name, reference=f"{Echo.__module__}:{Echo.__name__}")
    application = native_application(spec, router_tables(setting), plan, config, cell.env_seed)
    await asyncio.to_thread(serve.run, application, name=APP_NAME, route_prefix="/")
    tick_s = setting.control.tick_s
    span_s = max(1, int((options.duration_s or 0.0) / tick_s + 1e-9)) * tick_s
    asked = schedule_of(world, cell, float(world.start_s([cell])[0]), span_s)
    schedule, num_warm = warmed_up(asked, first_rps, len(setting.class_names))
    began_at = time.monotonic() + _WARM_S
    log, until = ReplicaLog(), asyncio.Event()
    look = asyncio.create_task(_look(ray_compat.serve_controller(), log, began_at, until))
    record = await send_all(cluster.url, schedule, setting.class_names, [[0] * 64], None, began_at, asyncio.Event())
    await asyncio.sleep(max(0.0, began_at + span_s - time.monotonic()) + 2 * _LOOK_S)
    until.set()
    await look
    return Requests.of(schedule, record, skipped=num_warm), log


def warmed_up(schedule: Schedule, rate_rps: float, num_classes: int) -> tuple[Schedule, int]:
    """The schedule after requests at an even rate before second 0, and the number of those."""
    num = int(rate_rps * _WARM_S)
    before_s = np.arange(num) / rate_rps - _WARM_S if num else np.zeros(0)
    return replace(
        schedule,
        arrival_s=np.concatenate([before_s, schedule.arrival_s]),
        request_class=np.concatenate([np.arange(num) % num_classes, schedule.request_class]),
        identity=np.concatenate([np.arange(num) + _FIRST_WARM_IDENTITY, schedule.identity]),
    ), num


async def _look(controller: Any, log: ReplicaLog, began_at: float, until: asyncio.Event) -> None:
    """Notes the replicas a few times a second."""
    from experiments.native_application import APP_NAME, MODEL
    from serving import ray_compat

    while not until.is_set():
        states = await ray_compat.replica_states(controller, APP_NAME)
        log.saw(time.monotonic() - began_at, {s.actor_name: s.state for s in states if s.deployment == MODEL})
        await asyncio.sleep(_LOOK_S)
