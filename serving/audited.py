"""The router's queue with audits of tiers on top: what runs when nothing else needs the replica.

An audit is a call of the best version with the input of a request that was answered already. It begins only on a free
credit of an option where nothing waits, alone in its batch, and is taken back for the next request that needs the
credit, to be tried again: callers never wait for it beyond what taking a call back takes. Audits run on machines, whose
rent is paid already, and are counted apart from all that requests use, so neither policies nor calibration see them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from controller.keyed_random import stream_key, uniform
from controller.tiers.audit_config import AuditConfig
from serving.auditor import AUDIT, Audited, Auditor
from serving.demotion import best_serving, without_tiers
from serving.model_object import ModelAnswer
from serving.queueing import RouterCore
from serving.requests import Answer, Cancel, Copy, Dispatch, Effect, Request, Send, Stage
from serving.rules import Demotion, RouterTables, Rules
from serving.serverless import ServerlessPool
from serving.tally import RouterStats

_MOST_TRIES = 8
# An audit that is taken back more often is dropped: its turn will not come.


class AuditedCore(RouterCore):
    """Queues, credits and counters of one router, with its audits and demotions.

    Args:
        tables: Of the router.
        serverless: Pools by row.
        seed: Keys all draws.
        config: Of the audits.
    """

    def __init__(
        self, tables: RouterTables, serverless: Mapping[int, ServerlessPool], seed: int, config: AuditConfig
    ) -> None:
        super().__init__(tables, serverless, seed)
        self.auditor = Auditor(tables, config, seed, self.tally.epoch[:12])
        self._given = self.rules  # as the controller decided
        self._waiting_audits: deque[tuple[Audited, int]] = deque()  # and how often each was tried
        self._running: dict[int, tuple[Audited, int, Dispatch]] = {}
        self._audit_number = 0
        self._service_key = stream_key(seed, AUDIT)

    # Events

    def completed(self, dispatch: Dispatch, answers: Sequence[ModelAnswer], now_s: float) -> list[Effect]:
        """A batch is answered, or an audit."""
        if dispatch.identity >= 0:
            effects = super().completed(dispatch, answers, now_s)
        else:
            found = self._stopped(dispatch, now_s)
            effects = [] if found is None else self._heard(self.auditor.answered(found[0], answers[0].output), now_s)
            self._pump(dispatch.option, now_s)
            effects += self._take()
        return effects + self._audit(now_s)

    def lost(self, dispatch: Dispatch, now_s: float, *, may_run_again: bool = True) -> list[Effect]:
        """A batch will never be answered, or an audit, which is dropped."""
        if dispatch.identity >= 0:
            return super().lost(dispatch, now_s, may_run_again=may_run_again) + self._audit(now_s)
        found = self._stopped(dispatch, now_s)
        if found is not None:
            self.auditor.drop(found[0])
        self._pump(dispatch.option, now_s)
        return self._take() + self._audit(now_s)

    def set_rules(self, rules: Rules, now_s: float) -> list[Effect]:
        """New rules; those older than what is in force are ignored, and demotions are kept."""
        if rules.sequence < self.rules.sequence:
            return []
        self._given = rules
        for demotion in rules.demotions:
            self.auditor.demotions.setdefault(demotion.request_class, demotion)
        return self._go_by(now_s)

    def told(self, token: str, label: Any, now_s: float) -> tuple[bool, list[Effect]]:
        """A caller tells the right answer of a request; returns whether it is of use."""
        is_used, demotion = self.auditor.told(token, label)
        return is_used, self._heard(demotion, now_s)

    # Readings

    def stats(self, now_s: float) -> RouterStats:
        """A reading of all counters and of what holds now."""
        return replace(super().stats(now_s), audits=self.auditor.reading())

    # Steps

    def _go_by(self, now_s: float) -> list[Effect]:
        effects = super().set_rules(without_tiers(self._given, self.tables, self.auditor.demotions), now_s)
        for option, queue in enumerate(self.queues):
            while queue.audits and queue.credits_used + queue.audits > queue.credits:
                self._give_way(option, now_s)
        return effects + self._take() + self._audit(now_s)

    def _heard(self, demotion: Demotion | None, now_s: float) -> list[Effect]:
        return [] if demotion is None else self._go_by(now_s)

    def _answer(self, copy: Copy, final: Answer, now_s: float) -> None:
        request = copy.request
        is_audited = self.auditor.is_drawn(request)
        super()._answer(copy, final, now_s)
        if not is_audited:
            return
        variant = final.option // self.tables.num_pools
        best = best_serving(self.rules, self.tables, request.request_class, has_machines=True)
        audited = Audited(request, final.output, best)
        if best < 0:
            self.auditor.drop(audited)
            return
        self.auditor.remember(audited)
        if variant == best:
            # The same version would say the same again.
            self.auditor.answered(audited, final.output)
            return
        self._waiting_audits.append((audited, 0))
        if len(self._waiting_audits) > self.auditor.config.backlog:
            self.auditor.drop(self._waiting_audits.popleft()[0])

    def _pump(self, option: int, now_s: float) -> None:
        super()._pump(option, now_s)
        queue = self.queues[option]
        while queue.waiting and queue.audits and not queue.has_room:
            self._give_way(option, now_s)
            super()._pump(option, now_s)

    def _audit(self, now_s: float) -> list[Effect]:
        """Begins the audits that disturb nobody."""
        busy: set[tuple[int, int]] = set()
        for _ in range(len(self._waiting_audits)):
            audited, tries = self._waiting_audits.popleft()
            place = (audited.request.request_class, audited.variant)
            option = -1 if place in busy else self._idle_option(audited)
            if option < 0:
                busy.add(place)
                self._waiting_audits.append((audited, tries))
            else:
                self._begin(audited, tries + 1, option, now_s)
        return self._take()

    def _idle_option(self, audited: Audited) -> int:
        """Where the best version has a credit that nobody waits for; -1 for nowhere."""
        num_pools, c = self.tables.num_pools, audited.request.request_class
        for option in range(audited.variant * num_pools, (audited.variant + 1) * num_pools):
            queue = self.queues[option]
            is_machine = not self.tables.is_serverless[option] and self.tables.may_answer[c, option]
            if is_machine and queue.has_room and not queue.waiting:
                return option
        return -1

    def _begin(self, audited: Audited, tries: int, option: int, now_s: float) -> None:
        self._audit_number += 1
        seconds = self.tables.service_draw_s(option, 1, uniform(self._service_key, self._audit_number, 1))
        # A request of its own, so that nothing of the audit touches the one that was answered.
        source = audited.request
        request = Request(source.identity, source.request_class, now_s, now_s + seconds, source.payload)
        copy = Copy(request, 0, option, now_s, Stage.IN_SERVICE)
        dispatch = Dispatch(-self._audit_number, option, [copy], seconds, now_s)
        self._running[dispatch.identity] = (audited, tries, dispatch)
        self.queues[option].audits += 1
        self._effects.append(Send(dispatch))

    def _give_way(self, option: int, now_s: float) -> None:
        """Takes the latest audit of an option back."""
        identity = min(identity for identity, (_, _, one) in self._running.items() if one.option == option)
        dispatch = self._running[identity][2]
        audited, tries = self._stopped(dispatch, now_s) or (None, 0)
        self._effects.append(Cancel(dispatch))
        if audited is None:
            return
        if tries < _MOST_TRIES:
            self._waiting_audits.append((audited, tries))
        else:
            self.auditor.drop(audited)

    def _stopped(self, dispatch: Dispatch, now_s: float) -> tuple[Audited, int] | None:
        """Frees the credit of an audit; None where that happened before."""
        found = self._running.pop(dispatch.identity, None)
        if found is None:
            return None
        self.queues[dispatch.option].audits -= 1
        self.auditor.seconds[dispatch.option] += now_s - dispatch.sent_at_s
        return found[:2]
