"""The router's queue, free of input and output: every event is a method call with a time, every consequence an effect.

A request is assigned to an option at arrival by the split of its class and waits in that option's FIFO, shared by all
classes. A batch leaves when a replica has a free credit and either the batch is full or its oldest request has waited
long enough. All choices at arrival (option, overflow, shedding), hedging and retries are functions of
`controller.routing` on draws keyed by the request, so the simulator makes the same ones. Requests are conserved:
arrived = answered + failed + shed + waiting + in service.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from controller.keyed_random import COLD_START, OVERFLOW, SERVICE, stream_key, uniform
from controller.routing import hedges_at_s, is_shed, may_retry, overflows, predicted_wait_s
from serving.due import Due
from serving.option_queue import OptionQueue
from serving.reading import reading
from serving.requests import Cancel, Copy, Dispatch, Effect, Outcome, Reply, Request, Send, Stage
from serving.rules import RouterTables, Rules, initial_rules
from serving.serverless import ServerlessPool
from serving.split import Split
from serving.tally import RouterStats, Tally

MAX_ATTEMPTS = 4
"""Retries of one request; a request that loses its replica more often than this is failed. The simulator's value."""

_TIME_SLACK_S = 1e-9
# A timer that fires a rounding error early must still find its deadline or batch due, or the shell would spin.


class RouterCore:
    """Queues, credits, deadlines and counters of one router."""

    def __init__(self, tables: RouterTables, serverless: Mapping[int, ServerlessPool], seed: int) -> None:
        self.tables = tables
        self.serverless = serverless
        self.rules: Rules = initial_rules(tables)
        self.tally = Tally((len(tables.class_names), tables.num_options, tables.num_pools), bin_s=tables.bin_s)
        self.waiting, self.in_service = ([0] * len(tables.class_names) for _ in range(2))
        self.queues = [OptionQueue() for _ in range(tables.num_options)]
        self._deadlines, self._hedges = Due(), Due()
        self._sequence, self._busy_until_s = 0, 0.0
        self._running: dict[int, Dispatch] = {}
        self._effects: list[Effect] = []
        self._keys = {stream: stream_key(seed, stream) for stream in (OVERFLOW, SERVICE, COLD_START)}
        self._split = Split(tables, seed)
        self._derive()

    # Events

    def arrive(
        self, request_class: int, payload: Any, now_s: float, identity: int | None = None
    ) -> tuple[Request, list[Effect]]:
        """A request arrives.

        Args:
            request_class: Row of the class.
            payload: Handed to the model as it is.
            now_s: Current time.
            identity: Keys the request's draws; without one, the count of arrivals so far.
        """
        tables, rules, c = self.tables, self.rules, request_class
        if identity is None:
            identity = int(self.tally.arrived.sum())
        self.tally.arrive(c, now_s)
        request = Request(identity, c, now_s, now_s + float(tables.slo_s[c]), payload)
        option = self._split.option(request.identity, c, 0)
        if option < 0 or self._is_full(option, c):
            self._refuse(request, Outcome.SHED, now_s)
            return request, self._take()
        overflow_option = int(tables.overflow_option[c])
        if overflow_option >= 0 and not tables.is_serverless[option]:
            after_s, fraction = float(rules.overflow_after_s[c]), float(rules.overflow_fraction[c])
            coin = uniform(self._keys[OVERFLOW], request.identity, 0)
            variant, pool = divmod(overflow_option, tables.num_pools)
            may_go = self.serverless[pool].admits(variant, now_s)
            if may_go and overflows(self.predicted_wait_s(option), after_s, fraction, coin):
                option = overflow_option
                self.tally.overflowed[c] += 1
        if tables.is_serverless[option]:
            self._call(request, option, now_s)
        else:
            self._watch(request, now_s)
            self._enqueue(request, option, request.arrival_s)
            self._pump(option, now_s)
        return request, self._take()

    def _is_full(self, option: int, request_class: int) -> bool:
        """Whether the class fills its share of the option's queue; serverless options have none."""
        if self.tables.is_serverless[option]:
            return False
        waiting = self.queues[option].waiting_of[request_class]
        return is_shed(waiting, int(self.rules.shed_limit[request_class]), int(self.tables.queue_limit[request_class]))

    def completed(self, dispatch: Dispatch, outputs: Sequence[Any], now_s: float) -> list[Effect]:
        """A batch is answered, with one output per copy in order."""
        if not self._leave_service(dispatch, now_s):
            return []
        self.tally.measured.served(dispatch, now_s)
        for copy, output in zip(dispatch.copies, outputs, strict=True):
            copy.stage = Stage.GONE
            if copy.request.outcome is None:
                self._answer(copy, output, now_s)
        self._pump(dispatch.option, now_s)
        return self._take()

    def lost(self, dispatch: Dispatch, now_s: float, *, may_run_again: bool = True) -> list[Effect]:
        """A batch will never be answered: its replica went away, or (`may_run_again` false) its model raised."""
        if not self._leave_service(dispatch, now_s):
            return []
        self.tally.lose(dispatch.option, now_s - dispatch.sent_at_s)
        return self._put_back(dispatch, now_s, may_run_again=may_run_again)

    def not_called(self, dispatch: Dispatch, now_s: float) -> list[Effect]:
        """A call of a serverless pool was refused there, so nothing ran: its request goes elsewhere."""
        if not self._leave_service(dispatch, now_s):
            return []
        return self._put_back(dispatch, now_s, may_run_again=True)

    def _put_back(self, dispatch: Dispatch, now_s: float, *, may_run_again: bool) -> list[Effect]:
        for copy in dispatch.copies:
            copy.stage = Stage.GONE
            request = copy.request
            if request.outcome is not None or request.is_in_service:
                continue
            self.in_service[request.request_class] -= 1
            if request.is_held:
                self.waiting[request.request_class] += 1
                continue
            until_s = request.deadline_s if self.tables.drop_at_deadline[request.request_class] else float("inf")
            if may_run_again and may_retry(now_s, until_s, copy.attempt, MAX_ATTEMPTS):
                self.tally.retried += 1
                self._again(request, dispatch.option, now_s)
            else:
                self._fail(request, Outcome.LOST, now_s)
        for option in {dispatch.option} | {copy.option for lost in dispatch.copies for copy in lost.request.copies}:
            self._pump(option, now_s)
        return self._take()

    def advance(self, now_s: float) -> list[Effect]:
        """Time has passed: deadlines, hedges and batch waits that are due take effect."""
        due_s = now_s + _TIME_SLACK_S
        for request in self._deadlines.until(due_s):
            self._deadline(request, now_s)
        for request in self._hedges.until(due_s):
            self._hedge(request, now_s)
        for option in range(self.tables.num_options):
            self._pump(option, now_s)
        return self._take()

    def set_rules(self, rules: Rules, now_s: float) -> list[Effect]:
        """New rules; those older than what is in force are ignored."""
        if rules.sequence < self.rules.sequence:
            return []
        self._integrate(now_s)
        self.rules = rules
        self._derive()
        num_pools = self.tables.num_pools
        for pool, emulation in self.serverless.items():
            emulation.provision([int(n) for n in rules.provisioned[pool::num_pools]], now_s)
        for option in range(self.tables.num_options):
            if self.queues[option].waiting and rules.serving[option] == 0:
                self._move_queue(option, now_s)
        return self.advance(now_s)

    # Readings

    def next_event_s(self) -> float:
        """Earliest time at which `advance` has something to do; infinite for never."""
        at_s = min(self._deadlines.next_s, self._hedges.next_s)
        for option, queue in enumerate(self.queues):
            head = queue.head() if queue.has_room else None
            if head is not None:
                at_s = min(at_s, head.queued_at_s + float(self.rules.batch_wait_s[option]))
        return at_s

    def predicted_wait_s(self, option: int) -> float:
        """Causal estimate of the wait of a request that joins an option now; 0 for serverless."""
        if self.tables.is_serverless[option]:
            return 0.0
        item_s = self.tables.item_s(option, int(self.rules.batch_size[option]))
        queue = self.queues[option]
        return predicted_wait_s(queue.waiting, queue.credits_used, queue.credits, item_s)

    def stats(self, now_s: float) -> RouterStats:
        """A reading of all counters and of what holds now."""
        self._integrate(now_s)
        held = (self.waiting, self.in_service)
        return reading(self.tally, self.serverless, self.queues, *held, self.rules.sequence, now_s)

    # Steps

    def _derive(self) -> None:
        rules, tables = self.rules, self.tables
        for queue, num_credits in zip(self.queues, rules.serving * tables.concurrency, strict=True):
            queue.credits = int(num_credits)
        self._split.follow(rules)

    def _again(self, request: Request, option: int, now_s: float) -> None:
        """A request that lost its replica is queued again: there, unless nothing serves there but elsewhere.

        One whose call was in vain goes to a machine if it can.
        """
        if self.tables.is_serverless[option] or not self._split.answers(option):
            other = self._split.option(request.identity, request.request_class, request.attempts)
            if other >= 0 and not self.tables.is_serverless[other] and self._split.answers(other):
                option = other
        if self.tables.is_serverless[option]:
            self._call(request, option, now_s)
        else:
            self._enqueue(request, option, request.arrival_s)

    def _watch(self, request: Request, now_s: float) -> None:
        self._deadlines.add(request.deadline_s, request)
        hedge_s = hedges_at_s(now_s, float(self.rules.hedge_after_s[request.request_class]), request.deadline_s)
        if hedge_s < float("inf"):
            self._hedges.add(hedge_s, request)

    def _enqueue(self, request: Request, option: int, since_s: float) -> None:
        """Queues a copy in order of arrival; `since_s` is when its wait for a batch began."""
        copy = Copy(request, request.attempts, option, since_s)
        request.attempts += 1
        if not request.is_held:
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
            if queue.waiting < size and now_s + _TIME_SLACK_S < due_s:
                return
            self._send(option, queue.take(size), now_s)

    def _send(self, option: int, batch: list[Copy], now_s: float) -> None:
        self._integrate(now_s)
        head = batch[0]
        seconds = self.tables.service_draw_s(
            option, len(batch), uniform(self._keys[SERVICE], head.request.identity, head.attempt)
        )
        dispatch = self._start(option, batch, seconds, now_s)
        for copy in batch:
            c = copy.request.request_class
            if not copy.request.is_in_service:
                self.waiting[c] -= 1
                self.in_service[c] += 1
            copy.stage, copy.dispatch = Stage.IN_SERVICE, dispatch

    def _call(self, request: Request, option: int, now_s: float) -> None:
        """One call to a serverless pool, or a refusal."""
        tables = self.tables
        variant, pool = divmod(option, tables.num_pools)
        call = self.serverless[pool].call(variant, now_s)
        if call is None:
            self._refuse(request, Outcome.REFUSED, now_s)
            return
        self._integrate(now_s)
        copy = Copy(request, request.attempts, option, now_s, Stage.IN_SERVICE)
        request.copies.append(copy)
        seconds = tables.service_draw_s(option, 1, uniform(self._keys[SERVICE], request.identity, copy.attempt))
        cold_coin = uniform(self._keys[COLD_START], request.identity, copy.attempt)
        cold_s = tables.cold_draw_s(option, cold_coin) if call.is_cold else 0.0
        request.attempts += 1
        copy.dispatch = self._start(option, [copy], seconds, now_s)
        copy.dispatch.cold_s, copy.dispatch.environment = cold_s, call.environment
        self.in_service[request.request_class] += 1
        self._watch(request, now_s)

    def _start(self, option: int, copies: list[Copy], seconds: float, now_s: float) -> Dispatch:
        self._sequence += 1
        dispatch = Dispatch(self._sequence, option, copies, seconds, now_s)
        self._running[dispatch.identity] = dispatch
        self.queues[option].credits_used += 1
        self.queues[option].in_service += len(copies)
        self.tally.batches[option] += 1
        self._effects.append(Send(dispatch))
        return dispatch

    def _leave_service(self, dispatch: Dispatch, now_s: float) -> bool:
        """Frees the credit of a batch; False where that happened before (cancelled, or reported twice)."""
        if self._running.pop(dispatch.identity, None) is None:
            return False
        self._integrate(now_s)
        self.queues[dispatch.option].credits_used -= 1
        self.queues[dispatch.option].in_service -= len(dispatch.copies)
        if dispatch.environment is not None:
            pool = self.serverless[dispatch.option % self.tables.num_pools]
            pool.finish(dispatch.environment, now_s, dispatch.cold_s + dispatch.service_s)
        return True

    def _answer(self, copy: Copy, output: Any, now_s: float) -> None:
        request, c = copy.request, copy.request.request_class
        at_s = now_s + float(self.tables.network_s[c, copy.option])
        request.outcome = Outcome.ANSWERED
        self.in_service[c] -= 1
        accuracy = float(self.tables.accuracy[copy.option // self.tables.num_pools])
        self.tally.answer(c, copy.option, accuracy, at_s - request.arrival_s)
        self.tally.egress_usd += float(self.tables.egress_usd[c, copy.option])
        if at_s > request.deadline_s:
            self._miss(request)
        self._withdraw(request, now_s)
        self._effects.append(Reply(request, Outcome.ANSWERED, at_s, copy.option, output))

    def _miss(self, request: Request) -> None:
        if not request.is_missed:
            request.is_missed = True
            self.tally.missed[request.request_class] += 1

    def _refuse(self, request: Request, outcome: Outcome, now_s: float) -> None:
        request.outcome = outcome
        self.tally.shed[request.request_class] += 1
        self._miss(request)
        options = np.flatnonzero(self.rules.shares[request.request_class])
        waits = [w for w in (self.predicted_wait_s(int(o)) for o in options) if w < float("inf")]
        self._effects.append(Reply(request, outcome, now_s, retry_after_s=min(waits, default=1.0)))

    def _fail(self, request: Request, outcome: Outcome, now_s: float) -> None:
        request.outcome = outcome
        self.tally.failed[request.request_class] += 1
        self._miss(request)
        self._effects.append(Reply(request, outcome, now_s))

    def _deadline(self, request: Request, now_s: float) -> None:
        if request.outcome is not None:
            return
        self._miss(request)
        in_service = request.is_in_service
        if not in_service and not self.tables.drop_at_deadline[request.request_class]:
            return
        for copy in request.copies:
            if copy.stage is Stage.QUEUED:
                self.queues[copy.option].withdraw(copy)
        if not in_service:
            self.waiting[request.request_class] -= 1
            self._fail(request, Outcome.EXPIRED, now_s)

    def _hedge(self, request: Request, now_s: float) -> None:
        """Queues a duplicate, at another option where the split has one."""
        if request.outcome is not None or request.is_hedged or request.attempts >= MAX_ATTEMPTS:
            return
        first = request.copies[0].option
        option = self._split.other(request.identity, request.request_class, first, request.attempts)
        if option < 0 or self.tables.is_serverless[option]:
            return
        request.is_hedged = True
        self.tally.hedged += 1
        self._enqueue(request, option, now_s)
        self._pump(option, now_s)

    def _withdraw(self, request: Request, now_s: float) -> None:
        """Takes back the other copies of an answered request; a batch that nobody needs any more is cancelled."""
        for copy in request.copies:
            if copy.stage is Stage.QUEUED:
                self.queues[copy.option].withdraw(copy)
            elif copy.stage is Stage.IN_SERVICE and copy.dispatch is not None:
                copy.stage = Stage.GONE
                if all(other.request.outcome is not None for other in copy.dispatch.copies):
                    self._leave_service(copy.dispatch, now_s)
                    self._effects.append(Cancel(copy.dispatch))
                    self._pump(copy.dispatch.option, now_s)

    def _move_queue(self, option: int, now_s: float) -> None:
        """Sends the queue of an option that serves no more to where the present split sends its requests.

        They stay where they are while nothing else serves and a replica is on its way there.
        """
        queue = self.queues[option]
        stays = self.rules.target[option] > 0
        for copy in queue.take(queue.waiting):
            request = copy.request
            target = self._split.option(request.identity, request.request_class, self.rules.sequence + 1)
            copy.option = option if target < 0 or (stays and not self._split.answers(target)) else target
            if not self.tables.is_serverless[copy.option]:
                self.queues[copy.option].push(copy)
                continue
            copy.stage = Stage.GONE
            if not copy.request.is_held:
                self.waiting[copy.request.request_class] -= 1
                self._call(copy.request, copy.option, now_s)

    def _integrate(self, now_s: float) -> None:
        """Counts credit-seconds in service up to now."""
        elapsed_s = now_s - self._busy_until_s
        if elapsed_s > 0:
            self.tally.busy_s += elapsed_s * np.array([q.credits_used for q in self.queues])
        self._busy_until_s = now_s

    def _take(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects
