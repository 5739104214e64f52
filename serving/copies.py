"""Copies of requests in a router: what waits, what is sent on a free credit, and what is taken back.

A pass over the collage of a group is a copy like any other, of a request that nobody waits for by itself; it is counted
neither as waiting nor as in service.
"""

from __future__ import annotations

from collections.abc import Mapping

from serving.in_service import InService
from serving.option_queue import OptionQueue
from serving.reading import reading
from serving.requests import Cancel, Copy, Dispatch, Effect, Request, Send, Stage
from serving.rules import RouterTables, Rules, initial_rules
from serving.serverless import ServerlessPool
from serving.tally import RouterStats, Tally

TIME_SLACK_S = 1e-9
"""A timer that fires a rounding error early must still find its deadline or batch due, or the shell would spin."""


class CopyCore:
    """Queues and credits of one router.

    Args:
        tables: Of the router.
        serverless: Pools by row.
        seed: Keys all draws.
    """

    def __init__(self, tables: RouterTables, serverless: Mapping[int, ServerlessPool], seed: int) -> None:
        self.tables = tables
        self.serverless = serverless
        self.rules: Rules = initial_rules(tables)
        self.tally = Tally((len(tables.class_names), tables.num_options, tables.num_pools), bin_s=tables.bin_s)
        self.waiting, self.in_service = ([0] * len(tables.class_names) for _ in range(2))
        self.queues = [OptionQueue() for _ in range(tables.num_options)]
        self._service = InService(tables, self.queues, serverless, self.tally, seed)
        self._effects: list[Effect] = []

    def stats(self, now_s: float) -> RouterStats:
        """A reading of all counters and of what holds now."""
        self._service.integrate(now_s)
        held = (self.waiting, self.in_service)
        return reading(self.tally, self.serverless, self.queues, *held, self.rules.sequence, now_s)

    def _enqueue(self, request: Request, option: int, attempt: int, since_s: float) -> None:
        """Queues a copy in order of arrival; `since_s` is when its wait for a batch began."""
        copy = Copy(request, attempt, option, since_s)
        if not request.is_held and not request.is_pass:
            self.waiting[request.request_class] += 1
        request.copies.append(copy)
        self.queues[option].push(copy)

    def _pump(self, option: int, now_s: float) -> None:
        """Sends what may leave an option's queue now."""
        queue = self.queues[option]
        size = int(self.rules.batch_size[option])
        while queue.has_room:
            head = queue.head()
            if head is None:
                return
            due_s = head.queued_at_s + float(self.rules.batch_wait_s[option])
            if queue.waiting < size and now_s + TIME_SLACK_S < due_s:
                return
            self._sent(self._service.send(option, queue.take(size), now_s))

    def _sent(self, dispatch: Dispatch) -> None:
        for copy in dispatch.copies:
            request, c = copy.request, copy.request.request_class
            if not request.is_in_service and not request.is_pass:
                self.waiting[c] -= request.is_held
                self.in_service[c] += 1
            copy.stage, copy.dispatch = Stage.IN_SERVICE, dispatch
        self._effects.append(Send(dispatch))

    def _withdraw(self, request: Request, now_s: float) -> None:
        """Takes back the other copies of a request; a batch that nobody needs any more is cancelled."""
        for copy in request.held:
            dispatch = copy.dispatch
            if dispatch is None:
                self.queues[copy.option].withdraw(copy)
                continue
            copy.stage = Stage.GONE
            is_needed = any(other.stage is Stage.IN_SERVICE for other in dispatch.copies)
            if not is_needed and self._service.leave(dispatch, now_s):
                self._effects.append(Cancel(dispatch))
                self._pump(dispatch.option, now_s)

    def _miss(self, request: Request) -> None:
        if not request.is_missed:
            request.is_missed = True
            self.tally.missed[request.request_class] += 1

    def _take(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects
