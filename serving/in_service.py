"""What a router has in service: batches that run, the credits they hold, and the seconds they held them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from controller.keyed_random import COLD_START, SERVICE, stream_key, uniform
from serving.option_queue import OptionQueue
from serving.requests import Copy, Dispatch
from serving.rules import RouterTables
from serving.serverless import ServerlessPool
from serving.tally import Tally


class InService:
    """Batches in service.

    Args:
        tables: Of the router.
        queues: By option; their credits are taken and given back here.
        serverless: Pools by row.
        tally: Counts batches and credit-seconds.
        seed: Keys the draws of service times.
    """

    def __init__(
        self,
        tables: RouterTables,
        queues: Sequence[OptionQueue],
        serverless: Mapping[int, ServerlessPool],
        tally: Tally,
        seed: int,
    ) -> None:
        self._tables, self._queues, self._serverless, self._tally = tables, queues, serverless, tally
        self._keys = {stream: stream_key(seed, stream) for stream in (SERVICE, COLD_START)}
        self._sequence, self._busy_until_s = 0, 0.0
        self._running: dict[int, Dispatch] = {}

    def send(self, option: int, batch: list[Copy], now_s: float) -> Dispatch:
        """A batch begins; it takes a credit."""
        self.integrate(now_s)
        self._sequence += 1
        coin = uniform(self._keys[SERVICE], batch[0].request.identity, batch[0].attempt)
        seconds = self._tables.service_draw_s(option, len(batch), coin)
        dispatch = Dispatch(self._sequence, option, batch, seconds, now_s)
        self._running[dispatch.identity] = dispatch
        self._queues[option].credits_used += 1
        self._queues[option].in_service += len(batch)
        self._tally.batches[option] += 1
        return dispatch

    def call(self, copy: Copy, now_s: float) -> Dispatch | None:
        """One call to a serverless pool begins; None where the pool refuses it."""
        variant, pool = divmod(copy.option, self._tables.num_pools)
        call = self._serverless[pool].call(variant, now_s)
        if call is None:
            return None
        dispatch = self.send(copy.option, [copy], now_s)
        dispatch.environment = call.environment
        if call.is_cold:
            coin = uniform(self._keys[COLD_START], copy.request.identity, copy.attempt)
            dispatch.cold_s = self._tables.cold_draw_s(copy.option, coin)
        return dispatch

    def leave(self, dispatch: Dispatch, now_s: float) -> bool:
        """Frees the credit of a batch; False where that happened before (cancelled, or reported twice)."""
        if self._running.pop(dispatch.identity, None) is None:
            return False
        self.integrate(now_s)
        self._queues[dispatch.option].credits_used -= 1
        self._queues[dispatch.option].in_service -= len(dispatch.copies)
        if dispatch.environment is not None:
            pool = self._serverless[dispatch.option % self._tables.num_pools]
            pool.finish(dispatch.environment, now_s, dispatch.cold_s + dispatch.service_s)
        return True

    def integrate(self, now_s: float) -> None:
        """Counts credit-seconds in service up to now."""
        elapsed_s = now_s - self._busy_until_s
        if elapsed_s > 0:
            self._tally.busy_s += elapsed_s * np.array([q.credits_used for q in self._queues])
        self._busy_until_s = now_s
