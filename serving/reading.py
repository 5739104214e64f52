"""Reads a router: its counters so far, and what holds at the moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy

import numpy as np

from serving.option_queue import OptionQueue
from serving.serverless import ServerlessPool
from serving.tally import RouterStats, Tally


def reading(
    tally: Tally,
    serverless: Mapping[int, ServerlessPool],
    queues: Sequence[OptionQueue],
    waiting: Sequence[int],
    in_service: Sequence[int],
    sequence: int,
    now_s: float,
) -> RouterStats:
    """All counters of a router, those of its serverless pools brought up to date, and what holds now.

    Args:
        tally: Counters so far; what the pools count is written into it.
        serverless: Pools by row.
        queues: By option.
        waiting: Requests by class.
        in_service: Requests by class.
        sequence: Of the rules in force.
        now_s: Current time.
    """
    num_pools = tally.shape[2]
    warm = np.zeros(num_pools, np.int64)
    provisioned = np.zeros(len(queues), np.int64)
    for pool, emulation in serverless.items():
        emulation.accrue(now_s)
        warm[pool] = emulation.num_warm(now_s)
        provisioned[pool::num_pools] = emulation.ready(now_s)
        tally.invocations[pool] = emulation.invocations
        tally.cold_starts[pool] = emulation.cold_starts
        tally.throttled[pool] = emulation.throttled
        tally.serverless_usd[pool] = emulation.usd
    return RouterStats(
        tally=deepcopy(tally),
        now_s=now_s,
        sequence=sequence,
        waiting=np.array(waiting, np.int64),
        in_service=np.array(in_service, np.int64),
        queue=np.array([q.waiting for q in queues], np.int64),
        credits_used=np.array([q.credits_used for q in queues], np.int64),
        warm=warm,
        provisioned=provisioned,
    )
