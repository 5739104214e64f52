"""Who takes a request: the option that the split draws, serverless where its queue is long, or at arrival nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from controller.keyed_random import OVERFLOW, stream_key, uniform
from controller.routing import is_shed, overflows, predicted_wait_s
from serving.option_queue import OptionQueue
from serving.requests import Request
from serving.rules import RouterTables, Rules
from serving.serverless import ServerlessPool
from serving.split import Split
from serving.tally import Tally


class Admission:
    """Decides at arrival, and at each later step of a cascade.

    Args:
        tables: Of the router.
        queues: By option; read only.
        serverless: Pools by row.
        split: Draws the option.
        tally: Counts what overflows.
        seed: Keys the draws.
    """

    def __init__(
        self,
        tables: RouterTables,
        queues: Sequence[OptionQueue],
        serverless: Mapping[int, ServerlessPool],
        split: Split,
        tally: Tally,
        seed: int,
    ) -> None:
        self._tables, self._queues, self._serverless = tables, queues, serverless
        self._split, self._tally = split, tally
        self._key = stream_key(seed, OVERFLOW)

    def option(self, request: Request, rules: Rules, now_s: float) -> int:
        """Option of an arriving request; -1 where it is shed."""
        tables, c = self._tables, request.request_class
        option = self._split.first(request.identity, c)
        if option < 0 or self._is_full(option, c, rules):
            return -1
        return self._or_overflow(request, option, int(tables.overflow_option[c]), 0, rules, now_s)

    def of_step(self, request: Request, step: int, rules: Rules, now_s: float) -> int:
        """Option of a request for a later step of its cascade, which has some; its queue refuses nobody."""
        c = request.request_class
        option = self._split.of_step(request.identity, c, step)
        takes = int(self._tables.step_overflow[c, option // self._tables.num_pools])
        return self._or_overflow(request, option, takes, step, rules, now_s)

    def _or_overflow(
        self, request: Request, option: int, overflow_option: int, step: int, rules: Rules, now_s: float
    ) -> int:
        """The option, or where its queue is long the serverless one that takes overflow."""
        tables, c = self._tables, request.request_class
        if overflow_option < 0 or tables.is_serverless[option]:
            return option
        after_s, fraction = float(rules.overflow_after_s[c]), float(rules.overflow_fraction[c])
        coin = uniform(self._key, request.identity, step)
        variant, pool = divmod(overflow_option, tables.num_pools)
        may_go = self._serverless[pool].admits(variant, now_s)
        if may_go and overflows(self._predicted_wait_s(option, rules), after_s, fraction, coin):
            self._tally.overflowed[c] += 1
            return overflow_option
        return option

    def retry_after_s(self, request_class: int, rules: Rules) -> float:
        """When a refused caller may come again: after the shortest predicted wait of its class."""
        is_own = ~self._tables.collage[request_class]
        options = np.flatnonzero(rules.shares[request_class] * is_own)
        waits = [w for w in (self._predicted_wait_s(int(o), rules) for o in options) if w < float("inf")]
        return min(waits, default=1.0)

    def _is_full(self, option: int, request_class: int, rules: Rules) -> bool:
        """Whether the class fills its share of the option's queue; serverless options have none."""
        if self._tables.is_serverless[option]:
            return False
        waiting = self._queues[option].waiting_of[request_class]
        return is_shed(waiting, int(rules.shed_limit[request_class]), int(self._tables.queue_limit[request_class]))

    def _predicted_wait_s(self, option: int, rules: Rules) -> float:
        """Causal estimate of the wait of a request that joins an option now; 0 for serverless."""
        if self._tables.is_serverless[option]:
            return 0.0
        item_s = self._tables.item_s(option, int(rules.batch_size[option]))
        queue = self._queues[option]
        return predicted_wait_s(queue.waiting, queue.credits_used, queue.credits, item_s)
