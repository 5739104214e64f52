"""Collages as the router serves them: groups of requests whose stragglers one redundant pass answers.

Every request is sent on its own when it arrives. Besides, the unanswered requests of a class gather in a group, and one
pass of a cheap model over a collage of them is sent when the group is full, or when its oldest request straggles: a
lone request never waits for others. A request that is a straggler when the pass has ended, or becomes one later, is
answered from the collage, unless its own answer was there first. The rules are `controller.redundancy`'s, in both
worlds; what is sent and taken back, the core does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from controller.redundancy import COLLAGE_ATTEMPT, SECOND_PASS_ATTEMPT, collage_is_full, straggles_at_s
from serving.due import Due
from serving.model_object import Cells, ModelAnswer
from serving.requests import Answer, Group, Request
from serving.rules import RouterTables, Rules
from serving.split import Split


class Collages:
    """The groups of one router.

    Args:
        tables: Of the router.
        split: Draws where passes go.
    """

    def __init__(self, tables: RouterTables, split: Split) -> None:
        self._tables, self._split = tables, split
        self._open: dict[int, Group] = {}  # by class
        self._groups: dict[Group, None] = {}
        self._due = Due[Group]()
        self._rules: Rules | None = None

    def follow(self, rules: Rules) -> None:
        """Takes new rules; whoever is in a group may straggle at another age from now on."""
        self._rules = rules
        for group in self._groups:
            self._watch(group)

    @property
    def next_s(self) -> float:
        """When the next request of a group may straggle; infinite for never."""
        return self._due.next_s

    def join(self, request: Request, now_s: float) -> Group | None:
        """A request that was sent on its own joins the open group of its class, or opens one.

        Returns:
            The group, if its collage is to be sent now.
        """
        c, rules = request.request_class, self._rules
        if rules is None or rules.collage_variant[c] < 0 or self._split.collage(request.identity, c) < 0:
            return None
        group = self._open.get(c)
        if group is None:
            group = self._open[c] = Group(request, [])
            self._groups[group] = None
        group.requests.append(request)
        request.group = group
        if collage_is_full(len(group.requests), int(self._tables.cells[rules.collage_variant[c]])):
            return group
        if len(group.requests) == 1:
            self._watch(group)
        return None

    def due(self, due_s: float) -> Iterator[Group]:
        """Groups of which a request straggles by now: their collage is to be sent, or answers it if it is there."""
        for group in self._due.until(due_s):
            if group not in self._groups or (group.is_sent and not group.is_there):
                continue
            if self._next_straggler_s(group) <= due_s:
                yield group
            else:
                self._watch(group)

    def passes(self, group: Group) -> list[tuple[Request, int, int]]:
        """What is sent for a group that nobody joins from now on: request, option and attempt of each pass.

        None where its class has no collage any more: its requests go on alone.
        """
        c, identity, rules = group.first.request_class, group.first.identity, self._rules
        if self._open.get(c) is group:
            del self._open[c]
        option = self._split.collage(identity, c)
        if rules is None or option < 0:
            self._end(group)
            return []
        group.cells = tuple(group.requests)
        options = [(option, COLLAGE_ATTEMPT)]
        if rules.collage_passes[c] > 1:
            options.append((self._split.other_collage(identity, c, option), SECOND_PASS_ATTEMPT))
        cells = Cells([request.payload for request in group.cells])
        until_s = max(request.deadline_s for request in group.cells)
        group.passes = [
            Request(identity, c, group.first.arrival_s, until_s, cells, group=group, is_pass=True) for _ in options
        ]
        return [(request, *sent) for request, sent in zip(group.passes, options, strict=True)]

    def there(self, request: Request, option: int, answers: Sequence[ModelAnswer]) -> Group:
        """A pass has ended; those left in `passes` are needed no more.

        Args:
            request: The pass.
            option: That made it.
            answers: By cell.
        """
        group = request.group
        assert group is not None
        group.passes.remove(request)
        group.answers = {cell: Answer(option, *one) for cell, one in zip(group.cells, answers, strict=True)}
        return group

    def stragglers(self, group: Group, now_s: float) -> list[tuple[Request, Answer]]:
        """Whom a collage that is there answers by now, and how."""
        assert group.answers is not None
        found = [(request, group.answers[request]) for request in group.requests if self._straggles_s(request) <= now_s]
        if len(found) < len(group.requests):
            self._watch(group, after_s=now_s)
        return found

    def leave(self, request: Request) -> list[Request]:
        """A request is answered or given up; returns the passes that nobody needs any more."""
        group, request.group = request.group, None
        if group is None or request.is_pass:
            return []
        group.requests.remove(request)
        if group.requests:
            return []
        passes, group.passes = group.passes, []
        self._end(group)
        return passes

    def lost(self, request: Request) -> None:
        """A pass will not end; without another one the requests of its group go on alone."""
        group = request.group
        if group is None or request not in group.passes:
            return
        group.passes.remove(request)
        if not group.passes and not group.is_there:
            self._end(group)

    def _end(self, group: Group) -> None:
        for request in group.requests:
            request.group = None
        group.requests = []
        self._groups.pop(group, None)
        if self._open.get(group.first.request_class) is group:
            del self._open[group.first.request_class]

    def _straggles_s(self, request: Request) -> float:
        assert self._rules is not None
        return straggles_at_s(request.arrival_s, float(self._rules.collage_after_s[request.request_class]))

    def _next_straggler_s(self, group: Group) -> float:
        return self._straggles_s(group.requests[0])

    def _watch(self, group: Group, after_s: float = float("-inf")) -> None:
        """Notes when the oldest request of a group, of those that are not stragglers by `after_s`, becomes one."""
        times = [at for at in map(self._straggles_s, group.requests) if at > after_s]
        if times and times[0] < float("inf") and not (group.is_sent and not group.is_there):
            self._due.add(times[0], group)
