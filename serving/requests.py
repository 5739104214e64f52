"""A request on its way through a router, and what the router tells its shell to do.

`RouterCore` (in `serving.queueing`) does no input or output itself: it returns effects, values of the types below,
and the asyncio shell in `serving.router` carries them out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from controller.redundancy import STEP_ATTEMPTS
from serving.serverless import Environment


class Outcome(Enum):
    """How a request left the system."""

    ANSWERED = auto()
    SHED = auto()  # refused at arrival: its class fills its queue
    REFUSED = auto()  # refused at arrival: the serverless pool is at its limit
    EXPIRED = auto()  # dropped at its deadline
    LOST = auto()  # its replica went away and no retry fitted


class Stage(Enum):
    """Where one copy of a request stands."""

    QUEUED = auto()
    IN_SERVICE = auto()
    GONE = auto()


@dataclass(frozen=True)
class Answer:
    """What one step of a cascade, or the only one there is, answered; or a cell of a collage."""

    option: int
    output: Any
    confidence: float | None = None  # 0..1; None where the model tells none


@dataclass(eq=False)
class Copy:
    """One copy of a request at one option; hedging, and two steps of a cascade at once, make a second one."""

    request: Request
    attempt: int
    option: int
    queued_at_s: float
    stage: Stage = Stage.QUEUED
    dispatch: Dispatch | None = None


@dataclass(eq=False)
class Request:
    """One request; `identity` keys all its draws, in both worlds."""

    identity: int
    request_class: int
    arrival_s: float
    deadline_s: float
    payload: Any
    is_missed: bool = False
    is_hedged: bool = False
    group: Group | None = None  # that shares a collage
    is_pass: bool = False  # over the collage of its group: no caller waits for it by itself
    token: str = ""  # by which a caller tells the right answer of a request of a tier; empty for others
    outcome: Outcome | None = None
    copies: list[Copy] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)  # in order of time; more than one in a cascade alone

    @property
    def attempts(self) -> int:
        """Copies made of it."""
        return len(self.copies)

    def next_attempt(self, earlier: Copy) -> int:
        """Attempt of a further copy in the step of an earlier one; each step has its own, so that draws differ."""
        step = earlier.attempt // STEP_ATTEMPTS
        return 1 + max(copy.attempt for copy in self.copies if copy.attempt // STEP_ATTEMPTS == step)

    @property
    def held(self) -> list[Copy]:
        """Its copies that are queued or in service."""
        return [copy for copy in self.copies if copy.stage is not Stage.GONE]

    @property
    def is_held(self) -> bool:
        """Whether a copy of it is queued or in service."""
        return bool(self.held)

    @property
    def is_in_service(self) -> bool:
        """Whether a copy of it is in service."""
        return any(copy.stage is Stage.IN_SERVICE for copy in self.copies)


@dataclass(eq=False)
class Group:
    """Requests that share a collage.

    Attributes:
        first: The request that opened it.
        requests: Those not answered or given up, in order of arrival.
        cells: Those in the collage, once it is sent.
        passes: Over it, on their way.
        answers: By request, once a pass has ended.
    """

    first: Request
    requests: list[Request]
    cells: tuple[Request, ...] = ()
    passes: list[Request] = field(default_factory=list)
    answers: dict[Request, Answer] | None = None

    @property
    def is_there(self) -> bool:
        """Whether a pass has ended."""
        return self.answers is not None

    @property
    def is_sent(self) -> bool:
        """Whether nobody joins any more."""
        return bool(self.cells)


@dataclass(eq=False)
class Dispatch:
    """A batch sent to one replica, or one call to a serverless environment."""

    identity: int
    option: int
    copies: list[Copy]
    service_s: float
    sent_at_s: float
    cold_s: float = 0.0
    environment: Environment | None = None

    @property
    def payloads(self) -> list[Any]:
        """What the model gets, in queue order."""
        return [c.request.payload for c in self.copies]


@dataclass(frozen=True)
class Send:
    """Effect: run a batch."""

    dispatch: Dispatch


@dataclass(frozen=True)
class Cancel:
    """Effect: stop a batch whose answer nobody needs any more."""

    dispatch: Dispatch


@dataclass(frozen=True)
class Reply:
    """Effect: answer the caller at `at_s`."""

    request: Request
    outcome: Outcome
    at_s: float
    option: int = -1  # whose answer counts
    output: Any = None
    retry_after_s: float = 0.0
    confidence: float | None = None  # of the answer that counts
    tried: tuple[int, ...] = ()  # options that answered, in order of time


Effect = Send | Cancel | Reply
