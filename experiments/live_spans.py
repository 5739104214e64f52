"""Start and swap of a replica as this machine does them, measured before a live run begins."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from controller.compile import Setting
from controller.errors import RunError
from controller.scenario import MeasuredSpans

if TYPE_CHECKING:
    from serving.app import Layout

_POLL_S = 0.1
_SCALE_TIMEOUT_S = 90.0


def measured_on(layout: Layout, setting: Setting) -> list[int]:
    """The first two options whose pools may hold a replica; fewer where there are fewer."""
    num_pools = len(setting.pool_names)
    return [option for option in layout.names if setting.limits.pool_max[option % num_pools] > 0][:2]


async def first_nodes(
    options: Sequence[int], pools: Sequence[str], run: str, folder: Path, check_stop: Callable[[], None]
) -> None:
    """A node for each pool that is measured on; the controller takes them over, since they are of the same run.

    Args:
        options: That are measured on.
        pools: Names, in catalog order.
        run: Identity of the run.
        folder: For the nodes' output.
        check_stop: Raises where the run is to end.

    Raises:
        RunError: A node does not join in time.
    """
    import ray

    from serving.local_nodes import LocalNodes

    owner = LocalNodes(ray.get_runtime_context().gcs_address, run, folder)
    wanted = {pools[option % len(pools)]: 1 for option in options}
    end_s = time.monotonic() + _SCALE_TIMEOUT_S
    while True:
        report = await owner.follow(wanted, frozenset())
        if all(report.alive.get(name) for name in wanted):
            return
        check_stop()
        if time.monotonic() > end_s:
            raise RunError(f"no node of {sorted(wanted)} joined within {_SCALE_TIMEOUT_S:g} s")
        await asyncio.sleep(_POLL_S)


async def measured_spans(names: Sequence[str], check_stop: Callable[[], None]) -> MeasuredSpans:
    """From asking for a replica until Serve reports it running, and from asking for another in its place.

    Args:
        names: One or two deployments of the application, none of whose replicas runs.
        check_stop: Raises where the run is to end.

    Raises:
        RunError: No replica runs in time.
    """
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
            check_stop()
            if time.monotonic() - began_s > _SCALE_TIMEOUT_S:
                raise RunError(f"no replica of {sorted(targets)} ran within {_SCALE_TIMEOUT_S:g} s")
            await asyncio.sleep(_POLL_S)

    first, second = (list(names) * 2)[:2]
    start_s = await until_running({first: 1})
    swap_s = await until_running({first: 0, second: 1}) if second != first else start_s
    await until_running({second: 0})
    return MeasuredSpans(start_s=round(start_s, 3), swap_s=round(swap_s, 3))
