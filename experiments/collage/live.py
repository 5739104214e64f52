"""The modes of redundancy on a local Ray Serve, whose workers straggle as those of the measured file.

Real networks classify real images: one image in each request, and the collages that the router makes of them. A replica
holds every answer until the service time has passed that the router drew from the measured latencies, stretched so that
what this machine takes to pass on a group is little beside them. The requests of a group are sent at once, and every
mode gets the same requests with the same draws, in turns, so that what else the machine does meets all modes alike.
Latencies are the client's.
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from controller.arrays import F64, PlanArrays, empty_actions, empty_observation
from controller.compile import Setting
from controller.errors import RunError
from controller.policies.static import RedundancySettings, StaticPolicy, StaticSettings
from experiments.collage.data import digits, split
from experiments.collage.live_rows import LiveFound, LiveRow, row_of
from experiments.collage.model import SINGLE as SINGLE_FORM
from experiments.collage.networks import Network, train_task
from experiments.collage.study import COLLAGE, COLLAGE_TWO, HEDGE, NONE, REPLICATE
from experiments.collage.workers import COLLAGE as COLLAGE_VARIANT
from experiments.collage.workers import POOL, SINGLE, Workers, workers_setting

if TYPE_CHECKING:
    from serving.tally import Tally

RESEND_REPLACING = "re-send at T, first withdrawn"
COLLAGE_AND_RESEND = "collage, late ones sent anew"
ONE_BY_ONE = ", one by one"
"""Added to the mode of requests that arrive one by one."""

_SIDE = 3
_MACHINES = {SINGLE: 3, COLLAGE_VARIANT: 2}
_CONCURRENCY = 16
# Room for every copy of several groups at once, so that no request waits for a credit.
_START_TIMEOUT_S = 90.0


@dataclass(frozen=True)
class LiveExtent:
    """How much is sent.

    Attributes:
        groups: Of each mode in a turn.
        turns: Of all modes.
        gap_s: Between groups.
        rate_rps: Of requests that arrive one by one.
        after_s: T, the age from which a request straggles, as measured.
        stretch: What the measured latencies, and T, are multiplied by.
    """

    groups: int = 25
    turns: int = 2
    gap_s: float = 0.6
    rate_rps: float = 15.0
    after_s: float = 0.25
    stretch: float = 3.0

    @property
    def late_s(self) -> float:
        """T as it is lived through."""
        return self.stretch * self.after_s


def live_modes(after_s: float, p95_s: float) -> dict[str, dict[str, Any]]:
    """Settings of the policy `static` by mode.

    Args:
        after_s: T.
        p95_s: Age that a request in twenty exceeds.
    """
    one = {"variant": COLLAGE_VARIANT, "after_s": after_s}
    return {
        NONE: {},
        RESEND_REPLACING: {"resend_after_s": after_s},
        HEDGE: {"hedge_after_s": p95_s},
        REPLICATE: {"hedge_after_s": 0.0},
        COLLAGE: {"collage": one},
        COLLAGE_TWO: {"collage": {**one, "passes": 2}},
        COLLAGE_AND_RESEND: {"collage": one, "resend_after_s": 1.5 * after_s},
    }


def run_live(latency_s: F64, extent: LiveExtent, say: Callable[[str], None], seed: int = 0) -> LiveFound:
    """Starts a private Ray, serves the networks and measures every mode.

    Args:
        latency_s: The measured latencies.
        extent: How much is sent.
        say: Prints a line of progress.
        seed: Of the emulation's draws.

    Raises:
        ClusterError: Ray does not start.
        RunError: The replicas do not come up.
    """
    from experiments.signals import signals_interrupt
    from serving.app import APP_NAME, slots_needed
    from serving.bring_your_own import model_specs
    from serving.cluster import start_cluster

    with tempfile.TemporaryDirectory(prefix="collage-") as folder:
        networks = train_task("digits", say, sides=(_SIDE,), seeds=1, out=Path(folder))
        files = {SINGLE: "digits-single.json", COLLAGE_VARIANT: f"digits-full-w{_SIDE}.json"}
        own = {variant: str(Path(folder) / name) for variant, name in files.items()}
        specs, _ = model_specs((SINGLE, COLLAGE_VARIANT), own)
    workers = _workers(networks, extent)
    stretched_s = extent.stretch * latency_s
    setting = workers_setting(stretched_s, workers)
    images, classes = _images()
    with signals_interrupt():
        say("starting Ray")
        cluster = start_cluster(slots_needed(setting), _free_port())
        try:
            session = LiveSession(cluster.url, setting, specs, extent, seed)
            modes = live_modes(extent.late_s, float(np.quantile(stretched_s, 0.95)))
            rows = asyncio.run(session.measure(modes, images, classes, workers.cells, say))
        finally:
            cluster.close(APP_NAME)
    return LiveFound(rows, workers.pass_ratio, workers.cells, extent.stretch)


def _workers(networks: Sequence[Network], extent: LiveExtent) -> Workers:
    single = next(one for one in networks if one.form == SINGLE_FORM)
    many = next(one for one in networks if one.form != SINGLE_FORM)
    # By work, which is the same at every measurement.
    ratio = many.pass_ratio(single)
    cells = _SIDE * _SIDE
    accuracy = (single.accuracy, many.accuracy)
    return Workers(cells / extent.gap_s, cells, ratio, accuracy=accuracy, concurrency=_CONCURRENCY, machines=8)


def _images() -> tuple[list[list[float]], list[int]]:
    """Held-out images of the networks' seed as callers send them, and what is on them."""
    data = split(digits(), 0)
    return (16.0 * data.held_pixels).flatten(1).tolist(), data.held_classes.tolist()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LiveSession:
    """A deployed application that is driven by hand, without a controller.

    Args:
        url: Of the cluster's HTTP.
        setting: Of `workers_setting`.
        specs: Models by variant.
        extent: How much is sent.
        seed: Of the emulation's draws.
    """

    def __init__(self, url: str, setting: Setting, specs: Mapping[str, Any], extent: LiveExtent, seed: int) -> None:
        self._url, self._setting, self._specs = url, setting, specs
        self._extent, self._seed = extent, seed
        self._world: Any = None

    async def measure(
        self,
        modes: Mapping[str, Mapping[str, Any]],
        images: Sequence[Any],
        classes: Sequence[int],
        cells: int,
        say: Callable[[str], None],
    ) -> tuple[LiveRow, ...]:
        """Deploys, and runs every mode.

        Args:
            modes: Settings of redundancy by mode.
            images: Inputs.
            classes: What is on them.
            cells: Of the collage.
            say: Prints a line of progress.
        """
        await self.deploy()
        extent = self._extent
        parts: dict[str, list[tuple[Any, Any]]] = {}
        warm = self.schedule(np.repeat(np.arange(3) * extent.gap_s, cells), 0)
        await self.send(modes[COLLAGE], warm, images, classes)
        for turn in range(extent.turns):
            groups = np.repeat(np.arange(extent.groups) * extent.gap_s, cells)
            for mode in list(modes)[:: 1 if turn % 2 == 0 else -1]:
                schedule = self.schedule(groups, turn * len(groups))
                parts.setdefault(mode, []).append(await self.send(modes[mode], schedule, images, classes))
            say(f"live: turn {turn + 1} of {extent.turns}")
        count = extent.groups * cells
        rng = np.random.default_rng(self._seed)
        one_by_one = np.cumsum(rng.exponential(1.0 / extent.rate_rps, count))
        for mode in (NONE, COLLAGE):
            schedule = self.schedule(one_by_one, extent.turns * count)
            parts[mode + ONE_BY_ONE] = [await self.send(modes[mode], schedule, images, classes)]
        order = [*modes, NONE + ONE_BY_ONE, COLLAGE + ONE_BY_ONE]
        return tuple(row_of(mode, parts[mode], extent.late_s) for mode in order)

    def schedule(self, arrival_s: F64, first: int) -> Any:
        """Requests at these times; `first` keys the first one's draws and image."""
        from serving.load import Schedule

        count = len(arrival_s)
        return Schedule(arrival_s, np.zeros(count, np.int64), np.arange(first, first + count))

    async def send(
        self, redundancy: Mapping[str, Any], schedule: Any, images: Sequence[Any], classes: Sequence[int]
    ) -> tuple[Any, Any]:
        """What the client saw under a mode, and what the router counted."""
        from serving.load import send_all
        from serving.tally import difference

        await self._apply(self._plan(redundancy))
        before = await self._tally()
        until = asyncio.Event()
        record = await send_all(
            self._url, schedule, self._setting.class_names, images, classes, time.monotonic(), until
        )
        return record, difference(await self._tally(), before)

    async def _tally(self) -> Tally:
        from serving import ray_compat
        from serving.app import APP_NAME, ROUTER

        reading = await ray_compat.deployment_handle(ROUTER, APP_NAME).stats.remote()
        found: Tally = reading.tally
        return found

    def _plan(self, redundancy: Mapping[str, Any]) -> PlanArrays:
        replicas = {f"{variant}@{POOL}": count for variant, count in _MACHINES.items()}
        chosen = {"all": RedundancySettings.model_validate(redundancy)} if redundancy else {}
        policy = StaticPolicy(self._setting, StaticSettings(replicas=replicas, redundancy=chosen))
        return policy.decide(empty_observation(1, self._setting.shape))

    async def deploy(self) -> None:
        """Deploys the application and waits for its replicas."""
        from ray import serve

        from serving.actuator import RayServe
        from serving.app import APP_NAME, build_application, layout_of
        from serving.fleet import Fleet
        from serving.market import calm_market
        from serving.metrics import ObservationBuilder

        setting, layout = self._setting, layout_of(self._setting)
        application = build_application(setting, self._specs, self._seed, layout)
        await asyncio.to_thread(serve.run, application, name=APP_NAME, route_prefix="/", external_scaler_enabled=True)
        began_s = time.monotonic()
        fleet = Fleet(setting.catalog, calm_market(len(setting.zones)), 0, setting.control.retry_after_s)
        builder = ObservationBuilder(setting)
        self._world = RayServe(setting, layout, APP_NAME, fleet, builder, lambda: time.monotonic() - began_s)
        await self._apply(self._plan({}), launch=list(_MACHINES.values()))

    async def _apply(self, plan: PlanArrays, launch: Sequence[int] = (0, 0)) -> None:
        """Puts a plan in force, and launches machines by variant."""
        actions = empty_actions(1, self._setting.shape)
        actions.launch[0, :, 0] = launch
        num_variants, num_pools, num_classes = self._setting.shape
        # All requests go to the one option, and all collages to theirs.
        self._world.apply(actions, plan, np.ones((1, num_classes, num_variants, num_pools)))
        end_s = time.monotonic() + _START_TIMEOUT_S
        while not (await self._world.follow() and self._world.serving().tolist() == list(_MACHINES.values())):
            if time.monotonic() > end_s:
                raise RunError(f"live: expected {_MACHINES} within {_START_TIMEOUT_S:g} s")
            await asyncio.sleep(0.1)
