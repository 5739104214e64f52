"""Hears of a run's machines what EC2 announces, as long as the run goes on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from serving.aws.events import WARNING_S, Announced, EventQueue, Kind

_AFTER_ERROR_S = 2.0

_log = logging.getLogger("provisor.aws")

Doom = Callable[[str, float], object]
"""Told that a node is taken in so many seconds."""


async def hear(queue: EventQueue, warned: Callable[[str], str], heeds_advice: bool, doom: Doom) -> None:
    """Reads a queue until it is cancelled; what fails is tried again.

    Args:
        queue: Of the run; the whole account's events may be sent to it.
        warned: Told of a machine under notice; the living node that it is, empty for one on its way or of others.
        heeds_advice: Whether a rebalance recommendation counts as a notice.
        doom: Called in the loop's own thread.
    """
    while True:
        try:
            events = await asyncio.to_thread(queue.read)
        except Exception as error:  # noqa: BLE001 - a run that hears nothing goes on, and hears again later
            _log.warning("no events of EC2: %s: %s", type(error).__name__, error)
            await asyncio.sleep(_AFTER_ERROR_S)
            continue
        for event in events:
            left_s = _left_s(event, heeds_advice)
            if left_s is not None and (node := warned(event.instance_id)):
                doom(node, left_s)


def _left_s(event: Announced, heeds_advice: bool) -> float | None:
    if event.kind is Kind.REBALANCE:
        return WARNING_S if heeds_advice else None
    return event.left_s(time.time())
