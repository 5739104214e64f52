"""One request from what was asked to an answer or a refusal, whatever the protocol that it came by."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from serving.constraints import ImpossibleError, InferAnswer, TierAnswer
from serving.requests import Outcome, Reply
from serving.rules import Demotion, RouterTables, Rules
from serving.tally import RouterStats
from serving.tier_request import TieredRequest, TierTable, asked_tier, match_request

_REFUSALS = {
    Outcome.SHED: (503, "refused: the class already fills its queue"),
    Outcome.REFUSED: (503, "refused: the serverless pool is at its concurrency limit"),
    Outcome.EXPIRED: (504, "dropped: the deadline passed before a replica was free"),
    Outcome.LOST: (500, "lost: the replica went away and no retry fitted the deadline"),
}
_LEAVING_S = 30


class Shell(Protocol):
    """The part of the router's shell that answers callers."""

    tables: RouterTables
    tiers: TierTable
    is_draining: bool

    @property
    def rules(self) -> Rules:
        """In force."""

    @property
    def demotions(self) -> Collection[Demotion]:
        """Of tiers, so far."""

    def input_fault(self, value: object) -> str:
        """Why a value cannot be an input of the models; empty where it can."""

    @property
    def input_width(self) -> int | None:
        """Numbers that an input is a list of; None where that is not known."""

    async def answered(self, request_class: int, payload: object, identity: int | None = None) -> Reply:
        """What becomes of one request."""

    def told(self, token: str, label: object) -> bool:
        """Takes the right answer of a request; returns whether it is of use."""

    def now_s(self) -> float:
        """Seconds since the router began."""

    def reading(self) -> RouterStats:
        """A reading of the counters."""


@dataclass(frozen=True)
class TierHeaders:
    """What the headers of a request say of its tier."""

    tolerance: str | None = None
    objective: str | None = None
    deadline_ms: str | None = None


@dataclass(frozen=True)
class Refusal:
    """Why a request has no answer."""

    status: int
    text: str
    outcome: str = ""  # of a request that was accepted or shed; empty for one that cannot be served at all
    retry_after_s: int | None = None


def class_of(shell: Shell, asked: TieredRequest, headers: TierHeaders) -> int | Refusal:
    """Row of the class that serves a request, where there is one."""
    if shell.is_draining:
        return Refusal(503, "refused: this service is going away", retry_after_s=_LEAVING_S)
    try:
        stated = asked_tier(asked, headers.tolerance, headers.objective, headers.deadline_ms)
        return match_request(asked, stated, shell.tiers, shell.tables)
    except ImpossibleError as error:
        return Refusal(422, str(error))


async def answer(shell: Shell, asked: TieredRequest, headers: TierHeaders) -> InferAnswer | Refusal:
    """Answers one request within its class's promise.

    Args:
        shell: Of the router.
        asked: Body.
        headers: Beside it.
    """
    c = class_of(shell, asked, headers)
    if isinstance(c, Refusal):
        return c
    fault = shell.input_fault(asked.input)
    if fault:
        return Refusal(422, f"input: {fault}")
    reply = await shell.answered(c, asked.input, asked.id)
    request, tables = reply.request, shell.tables
    if reply.outcome is not Outcome.ANSWERED:
        status, text = _REFUSALS[reply.outcome]
        retry_after_s = max(1, round(reply.retry_after_s)) if status == 503 else None
        return Refusal(status, text, reply.outcome.name.lower(), retry_after_s)
    variant, pool = divmod(reply.option, tables.num_pools)
    return InferAnswer(
        output=reply.output,
        request_class=tables.class_names[c],
        variant=tables.variant_names[variant],
        pool=tables.pool_names[pool],
        accuracy=float(tables.accuracy[variant]),
        latency_ms=(shell.now_s() - request.arrival_s) * 1e3,
        attempts=request.attempts,
        confidence=reply.confidence,
        variants=[tables.variant_names[option // tables.num_pools] for option in reply.tried],
        tier=tier_answer(shell, c),
        request_id=request.token or None,
    )


def tier_answer(shell: Shell, request_class: int) -> TierAnswer | None:
    """The tier of a class; None where it has none."""
    tier = shell.tables.tiers[request_class]
    if tier is None:
        return None
    return TierAnswer(
        tolerance=tier.tolerance,
        is_relative=tier.is_relative,
        objective=tier.objective,
        bound=tier.bound,
        confidence=tier.confidence,
        is_demoted=any(one.request_class == request_class for one in shell.demotions),
    )
