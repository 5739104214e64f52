"""The router's queue, free of input and output: every event is a method call with a time, every consequence an effect.

A request is assigned to an option at arrival by the split of its class and waits in that option's FIFO, shared by all
classes. A batch leaves when a replica has a free credit and either the batch is full or its oldest request has waited
long enough.
The choices (option, overflow, shedding), hedging and retries are functions of `controller.routing` on draws
keyed by the request, so the simulator makes the same ones; what an answer of a cascade leads to, `serving.cascade`
says; what becomes of a group that shares a collage, `serving.collages`. Requests are conserved: arrived = answered +
failed + shed + waiting + in service.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from controller.redundancy import COLLAGE_ATTEMPT, STEP_ATTEMPTS
from controller.routing import hedges_at_s, may_retry
from serving.admission import Admission
from serving.cascade import Worth, verdict
from serving.collages import Collages
from serving.copies import TIME_SLACK_S, CopyCore
from serving.due import Due
from serving.model_object import ModelAnswer
from serving.requests import Answer, Copy, Dispatch, Effect, Group, Outcome, Reply, Request, Stage
from serving.rules import RouterTables, Rules
from serving.serverless import ServerlessPool
from serving.split import Split

MAX_ATTEMPTS = 4
"""Retries of one request; a request that loses its replica more often than this is failed. The simulator's value."""


class RouterCore(CopyCore):
    """Queues, credits, deadlines and counters of one router."""

    def __init__(self, tables: RouterTables, serverless: Mapping[int, ServerlessPool], seed: int) -> None:
        super().__init__(tables, serverless, seed)
        self._deadlines, self._hedges = (Due[Request]() for _ in range(2))
        self._split = Split(tables, seed)
        self._collages = Collages(tables, self._split)
        self._admission = Admission(tables, self.queues, serverless, self._split, self.tally, seed)
        self._worth = Worth(tables.answers, tables.accuracy)
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
        c = request_class
        if identity is None:
            identity = int(self.tally.arrived.sum())
        self.tally.arrive(c, now_s)
        request = Request(identity, c, now_s, now_s + float(self.tables.slo_s[c]), payload)
        option = self._admission.option(request, self.rules, now_s)
        if option < 0:
            self._refuse(request, Outcome.SHED, now_s)
            return request, self._take()
        self._go_to(request, option, 0, now_s)
        if request.outcome is None:
            self._watch(request, now_s)
            self._start_second(request, now_s)
        if request.outcome is None:
            self._send_passes(self._collages.join(request, now_s), now_s)
        return request, self._take()

    def _start_second(self, request: Request, now_s: float) -> None:
        """Starts the second step of a request that has just begun the first, where both start at once.

        Not where no option of it has a share.
        """
        cascade = self._split.cascades[request.request_class]
        first = cascade.step_of(request.copies[0].option // self.tables.num_pools)
        if cascade.is_concurrent and first == 0 and cascade.from_step(1) == 1:
            option = self._admission.of_step(request, 1, self.rules, now_s)
            self._go_to(request, option, STEP_ATTEMPTS, now_s)

    def completed(self, dispatch: Dispatch, answers: Sequence[ModelAnswer], now_s: float) -> list[Effect]:
        """A batch is answered, with one answer per copy in order."""
        if not self._service.leave(dispatch, now_s):
            return []
        self.tally.measured.served(dispatch, now_s)
        onward: list[tuple[Request, int]] = []
        for copy, given in zip(dispatch.copies, answers, strict=True):
            if copy.stage is not Stage.IN_SERVICE:
                continue  # its request was answered, or went on to another step, by another copy
            copy.stage = Stage.GONE
            if copy.request.is_pass:
                self._passed(copy, given, now_s)
                continue
            copy.request.answers.append(Answer(copy.option, *given))
            step = self._judge(copy, now_s)
            if step >= 0:
                onward.append((copy.request, step))
        for request, step in onward:
            self._go_on(request, step, now_s)
        self._pump(dispatch.option, now_s)
        return self._take()

    def _judge(self, copy: Copy, now_s: float) -> int:
        """Answers the request of a copy where its answer, or an earlier one, is final.

        Returns:
            The step of its cascade that it goes on to; -1 where it goes nowhere.
        """
        request, c = copy.request, copy.request.request_class
        self.tally.egress_usd += float(self.tables.egress_usd[c, copy.option])
        found = verdict(self._split.cascades[c], request, self.tables.num_pools)
        if found.final is not None:
            self._answer(copy, found.final, now_s)
        elif found.step >= 0:
            self._withdraw(request, now_s)
            self.in_service[c] -= 1
        elif not request.is_in_service:
            self.in_service[c] -= 1
            self.waiting[c] += 1
        return found.step

    def _passed(self, copy: Copy, given: ModelAnswer, now_s: float) -> None:
        """A pass over a collage has ended; what another worker makes of the same one is taken back."""
        group = self._collages.there(copy.request, copy.option, given.output)
        for other in group.passes:
            self._withdraw(other, now_s)
        self._answer_stragglers(group, now_s)

    def _answer_stragglers(self, group: Group, now_s: float) -> None:
        """Answers from a collage who waits too long by now; what else of these requests is under way is taken back."""
        for request, answer in self._collages.stragglers(group, now_s + TIME_SLACK_S):
            c = request.request_class
            if not request.is_in_service:
                self.waiting[c] -= 1
                self.in_service[c] += 1
            self.tally.egress_usd += float(self.tables.egress_usd[c, answer.option])
            self.tally.from_collage += 1
            request.answers.append(answer)
            self._answer(Copy(request, COLLAGE_ATTEMPT, answer.option, now_s, Stage.GONE), answer, now_s)

    def _send_passes(self, group: Group | None, now_s: float) -> None:
        """Sends the collage of a group."""
        for request, option, attempt in [] if group is None else self._collages.passes(group):
            self.tally.passes += 1
            self._go_to(request, option, attempt, now_s)

    def _leave_group(self, request: Request, now_s: float) -> None:
        """A request that is answered or given up leaves its group, whose passes go with the last one."""
        for needless in self._collages.leave(request):
            self._withdraw(needless, now_s)

    def _go_on(self, request: Request, step: int, now_s: float) -> None:
        """A request goes to the next step of its cascade, unless its deadline has passed meanwhile."""
        c = request.request_class
        if request.deadline_s <= now_s and self.tables.drop_at_deadline[c]:
            self._fail(request, Outcome.EXPIRED, now_s)
        else:
            option = self._admission.of_step(request, step, self.rules, now_s)
            self._go_to(request, option, STEP_ATTEMPTS * step, now_s)

    def lost(self, dispatch: Dispatch, now_s: float, *, may_run_again: bool = True) -> list[Effect]:
        """A batch will never be answered: its replica went away, or (`may_run_again` false) its model raised."""
        if not self._service.leave(dispatch, now_s):
            return []
        self.tally.lose(dispatch.option, now_s - dispatch.sent_at_s)
        return self._put_back(dispatch, now_s, may_run_again=may_run_again)

    def not_called(self, dispatch: Dispatch, now_s: float) -> list[Effect]:
        """A call of a serverless pool was refused there, so nothing ran: its request goes elsewhere."""
        if not self._service.leave(dispatch, now_s):
            return []
        return self._put_back(dispatch, now_s, may_run_again=True)

    def _put_back(self, dispatch: Dispatch, now_s: float, *, may_run_again: bool) -> list[Effect]:
        for copy in dispatch.copies:
            if copy.stage is not Stage.IN_SERVICE:
                continue
            copy.stage = Stage.GONE
            request = copy.request
            if request.is_pass:  # not sent again: its requests are under way on their own
                self._collages.lost(request)
                continue
            if request.is_in_service:
                continue
            self.in_service[request.request_class] -= 1
            if request.is_held:
                self.waiting[request.request_class] += 1
                continue
            until_s = request.deadline_s if self.tables.drop_at_deadline[request.request_class] else float("inf")
            if may_run_again and may_retry(now_s, until_s, copy.attempt % STEP_ATTEMPTS, MAX_ATTEMPTS):
                self.tally.retried += 1
                self._again(copy, now_s)
            else:
                self._fail(request, Outcome.LOST, now_s)
        for option in {dispatch.option} | {copy.option for lost in dispatch.copies for copy in lost.request.copies}:
            self._pump(option, now_s)
        return self._take()

    def advance(self, now_s: float) -> list[Effect]:
        """Time has passed: deadlines, hedges, stragglers and batch waits that are due take effect."""
        due_s = now_s + TIME_SLACK_S
        for request in self._deadlines.until(due_s):
            self._deadline(request, now_s)
        for request in self._hedges.until(due_s):
            self._hedge(request, now_s)
        for group in self._collages.due(due_s):
            if group.is_there:
                self._answer_stragglers(group, now_s)
            else:
                self._send_passes(group, now_s)
        for option in range(self.tables.num_options):
            self._pump(option, now_s)
        return self._take()

    def set_rules(self, rules: Rules, now_s: float) -> list[Effect]:
        """New rules; those older than what is in force are ignored."""
        if rules.sequence < self.rules.sequence:
            return []
        self._service.integrate(now_s)
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
        at_s = min(self._deadlines.next_s, self._hedges.next_s, self._collages.next_s)
        for option, queue in enumerate(self.queues):
            head = queue.head() if queue.has_room else None
            if head is not None:
                at_s = min(at_s, head.queued_at_s + float(self.rules.batch_wait_s[option]))
        return at_s

    # Steps

    def _derive(self) -> None:
        rules, tables = self.rules, self.tables
        for queue, num_credits in zip(self.queues, rules.serving * tables.concurrency, strict=True):
            queue.credits = int(num_credits)
        self._split.follow(rules)
        self._collages.follow(rules)

    def _again(self, lost: Copy, now_s: float) -> None:
        """A request that lost its replica is queued again: there, unless nothing serves there but elsewhere.

        One whose call was in vain goes to a machine if it can.
        """
        request, option = lost.request, lost.option
        if self.tables.is_serverless[option] or not self._split.answers(option):
            other = self._split.again(request.identity, request.request_class, option, request.attempts)
            if other >= 0 and not self.tables.is_serverless[other] and self._split.answers(other):
                option = other
        attempt = request.next_attempt(lost)
        if self.tables.is_serverless[option]:
            self._watch(request, now_s)
            self._call(request, option, attempt, now_s)
        else:
            self._enqueue(request, option, attempt, request.arrival_s)

    def _watch(self, request: Request, now_s: float) -> None:
        self._deadlines.add(request.deadline_s, request)
        hedge_s = hedges_at_s(now_s, float(self.rules.hedge_after_s[request.request_class]), request.deadline_s)
        if hedge_s < float("inf"):
            self._hedges.add(hedge_s, request)

    def _go_to(self, request: Request, option: int, attempt: int, now_s: float) -> None:
        """A copy of a request is called at an option, or joins its queue."""
        if self.tables.is_serverless[option]:
            self._call(request, option, attempt, now_s)
        else:
            self._enqueue(request, option, attempt, now_s)
            self._pump(option, now_s)

    def _call(self, request: Request, option: int, attempt: int, now_s: float) -> None:
        """One call to a serverless pool; a request that is refused there fails, unless another copy of it goes on."""
        copy = Copy(request, attempt, option, now_s)
        dispatch = self._service.call(copy, now_s)
        if dispatch is not None:
            self._sent(dispatch)
            request.copies.append(copy)
        elif not request.is_held:
            self._refuse(request, Outcome.REFUSED, now_s)

    def _answer(self, copy: Copy, final: Answer, now_s: float) -> None:
        """A request is answered: its latest copy made an answer final, its own or an earlier one."""
        request, c = copy.request, copy.request.request_class
        cascade, num_pools = self._split.cascades[c], self.tables.num_pools
        crossed = [copy.option]
        if not cascade.is_concurrent:  # answers of earlier steps came over the network as well, one after the other
            crossed += [answer.option for answer in request.answers[:-1]]
        at_s = now_s + float(self.tables.network_s[c, crossed].sum())
        request.outcome = Outcome.ANSWERED
        self.in_service[c] -= 1
        accuracy = self._worth.of(cascade, request, final, num_pools)
        self.tally.answer(c, final.option, accuracy, at_s - request.arrival_s)
        if at_s > request.deadline_s:
            self._miss(request)
        self._withdraw(request, now_s)
        self._leave_group(request, now_s)
        tried = tuple(answer.option for answer in request.answers)
        outcome, told = Outcome.ANSWERED, (final.option, final.output)
        self._effects.append(Reply(request, outcome, at_s, *told, confidence=final.confidence, tried=tried))

    def _refuse(self, request: Request, outcome: Outcome, now_s: float) -> None:
        request.outcome = outcome
        self.tally.shed[request.request_class] += 1
        self._miss(request)
        self._leave_group(request, now_s)
        retry_after_s = self._admission.retry_after_s(request.request_class, self.rules)
        self._effects.append(Reply(request, outcome, now_s, retry_after_s=retry_after_s))

    def _fail(self, request: Request, outcome: Outcome, now_s: float) -> None:
        request.outcome = outcome
        self.tally.failed[request.request_class] += 1
        self._miss(request)
        self._leave_group(request, now_s)
        self._effects.append(Reply(request, outcome, now_s))

    def _deadline(self, request: Request, now_s: float) -> None:
        if request.outcome is not None:
            return
        self._miss(request)
        in_service = request.is_in_service
        if not in_service and not self.tables.drop_at_deadline[request.request_class]:
            return
        for copy in request.held:
            if copy.stage is Stage.QUEUED:
                self.queues[copy.option].withdraw(copy)
        if not in_service:
            self.waiting[request.request_class] -= 1
            self._fail(request, Outcome.EXPIRED, now_s)

    def _hedge(self, request: Request, now_s: float) -> None:
        """Queues a duplicate, at another option where the split has one; it may take the place of the first copy."""
        if request.outcome is not None or request.is_hedged or len(request.held) != 1:
            return
        (first,) = request.held
        attempt = request.next_attempt(first)
        if attempt % STEP_ATTEMPTS >= MAX_ATTEMPTS:
            return
        option = self._split.other(request.identity, request.request_class, first.option, attempt)
        if option < 0 or self.tables.is_serverless[option]:
            return
        request.is_hedged = True
        self.tally.hedged += 1
        if self.rules.hedge_replaces[request.request_class]:
            counts = self.in_service if request.is_in_service else self.waiting
            counts[request.request_class] -= 1
            self._withdraw(request, now_s)
        self._enqueue(request, option, attempt, now_s)
        self._pump(option, now_s)

    def _move_queue(self, option: int, now_s: float) -> None:
        """Sends the queue of an option that serves no more to where the present split sends its requests.

        They stay where they are while nothing else serves and a replica is on its way there.
        """
        queue = self.queues[option]
        stays = self.rules.target[option] > 0
        for copy in queue.take(queue.waiting):
            request = copy.request
            if request.is_pass:
                self._move_pass(copy)
                continue
            target = self._split.again(request.identity, request.request_class, option, self.rules.sequence + 1)
            copy.option = option if target < 0 or (stays and not self._split.answers(target)) else target
            if not self.tables.is_serverless[copy.option]:
                self.queues[copy.option].push(copy)
                continue
            copy.stage = Stage.GONE
            if not request.is_held:
                self.waiting[request.request_class] -= 1
                self._watch(request, now_s)
                self._call(request, copy.option, request.next_attempt(copy), now_s)

    def _move_pass(self, copy: Copy) -> None:
        """Sends a queued pass to where collages of its class go now; nobody waits for one that goes nowhere."""
        request, stays = copy.request, self.rules.target[copy.option] > 0
        target = self._split.collage(request.identity, request.request_class)
        if target >= 0 and (self._split.answers(target) or not stays):
            copy.option = target
        elif not stays:
            copy.stage = Stage.GONE
            self._collages.lost(request)
            return
        self.queues[copy.option].push(copy)
