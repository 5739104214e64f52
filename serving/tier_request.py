"""Which tolerance tier a request asks for, in headers or in its body, and which request class keeps it.

- `X-Tolerance`, or `tolerance` and `tolerance_is_relative`: how much more error than the best version's is borne.
  `0.01` is one point, as a fraction of 1; `5%` is a share of the best version's error.
- `X-Objective`, or `objective`: `response_time` or `cost`, what is saved.
- `X-Deadline-Ms`, or `deadline_ms`: milliseconds within which the answer is wanted.

Tables are made once, so that a request costs a few comparisons.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from controller.errors import mismatch
from serving.constraints import ImpossibleError, InferRequest, match_class
from serving.rules import RouterTables

ObjectiveName = Literal["response_time", "cost"]
OBJECTIVES: tuple[ObjectiveName, ...] = ("response_time", "cost")
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,12})?|\.[0-9]{1,12}")
_ROUNDING = 1e-12
# 1.1 % is 0.011 to a caller, and 0.011000000000000001 after a division.


class TieredRequest(InferRequest):
    """Body of `POST /v1/infer`."""

    tolerance: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="error beyond the best version's, at most; header X-Tolerance"
    )
    tolerance_is_relative: bool = Field(
        default=False, description="the tolerance is a share of the best version's error: 0.05 is 5%"
    )
    objective: Literal["response_time", "cost"] | None = Field(
        default=None, description="what the tier saves; header X-Objective"
    )
    deadline_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="the same as max_latency_ms; header X-Deadline-Ms"
    )


@dataclass(frozen=True, slots=True)
class TierAsked:
    """What a request states."""

    tolerance: float | None = None
    is_relative: bool = False
    objective: str | None = None
    deadline_ms: float | None = None


class TierTable:
    """Finds the class of a tier.

    Args:
        tables: Of the router.
    """

    def __init__(self, tables: RouterTables) -> None:
        self._tables = tables
        tiers = [(c, tier) for c, tier in enumerate(tables.tiers) if tier is not None]
        tasks = {None, *tables.operators} if len(set(tables.operators)) == 1 else set(tables.operators)
        self._found: dict[tuple[str | None, bool, str | None], tuple[list[float], list[tuple[float, int]]]] = {}
        for task in tasks:
            for is_relative in (False, True):
                for objective in (None, *OBJECTIVES):
                    # Best last: of one tolerance cost before response time, then the most relaxed promise.
                    rows = sorted(
                        (tier.tolerance, tier.objective == "cost", float(tables.slo_s[c]), -c)
                        for c, tier in tiers
                        if task in (None, tables.operators[c])
                        and tier.is_relative == is_relative
                        and objective in (None, tier.objective)
                    )
                    key = (task, is_relative, objective)
                    self._found[key] = ([row[0] for row in rows], [(row[2], -row[3]) for row in rows])

    def match(self, asked: TierAsked, task: str | None) -> int:
        """Row of the class: of those within the tolerance and the deadline, the one that tolerates most.

        Raises:
            ImpossibleError: No class is, or the task is missing or unknown.
        """
        key = (task, asked.is_relative, asked.objective)
        if key not in self._found:
            raise ImpossibleError(mismatch("task", f"one of {sorted(set(self._tables.operators))}", task))
        tolerance = asked.tolerance or 0.0
        deadline_s = float("inf") if asked.deadline_ms is None else asked.deadline_ms / 1e3
        tolerances, rows = self._found[key]
        for at in range(bisect_right(tolerances, tolerance * (1.0 + _ROUNDING)) - 1, -1, -1):
            slo_s, c = rows[at]
            if slo_s <= deadline_s:
                return c
        raise ImpossibleError(f"expected a tier that is kept ({self._possible(task)}), got {_text(asked)}")

    def _possible(self, task: str | None) -> str:
        told = [
            f"{self._tables.class_names[c]}: tolerance {shown_tolerance(tier.tolerance, tier.is_relative)}, "
            f"objective {tier.objective}, deadline_ms >= {self._tables.slo_s[c] * 1e3:g}"
            for c, tier in enumerate(self._tables.tiers)
            if tier is not None and task in (None, self._tables.operators[c])
        ]
        return "; ".join(told) or "none: no class has a tier"


def asked_tier(body: TieredRequest, tolerance: str | None, objective: str | None, deadline_ms: str | None) -> TierAsked:
    """What headers and body state together.

    Args:
        body: Of the request.
        tolerance: Header; None where it is not sent, likewise below.
        objective: Header.
        deadline_ms: Header.

    Raises:
        ImpossibleError: A header is malformed, or says otherwise than the body.
    """
    stated = (None, False) if body.tolerance is None else (body.tolerance, body.tolerance_is_relative)
    if body.tolerance is None and body.tolerance_is_relative:
        raise ImpossibleError(mismatch("tolerance_is_relative", "a tolerance beside it", None))
    if tolerance is not None:
        read = read_tolerance(tolerance)
        if body.tolerance is not None and (abs(read[0] - body.tolerance) > _ROUNDING or read[1] != stated[1]):
            told = shown_tolerance(body.tolerance, stated[1])
            raise ImpossibleError(mismatch("X-Tolerance", f"what the body says ({told})", tolerance))
        stated = read
    wanted: str | None = body.objective
    if objective is not None:
        if objective not in OBJECTIVES:
            raise ImpossibleError(mismatch("X-Objective", f"one of {list(OBJECTIVES)}", objective))
        if wanted not in (None, objective):
            raise ImpossibleError(mismatch("X-Objective", f"what the body says ('{wanted}')", objective))
        wanted = objective
    within_ms = body.deadline_ms
    if deadline_ms is not None:
        read_ms = _deadline_ms(deadline_ms)
        if within_ms not in (None, read_ms):
            raise ImpossibleError(mismatch("X-Deadline-Ms", f"what the body says ({within_ms:g})", deadline_ms))
        within_ms = read_ms
    if wanted is not None and stated[0] is None:
        raise ImpossibleError(mismatch("objective", "a tolerance beside it", wanted))
    return TierAsked(stated[0], stated[1], wanted, within_ms)


def match_request(body: TieredRequest, asked: TierAsked, tiers: TierTable, tables: RouterTables) -> int:
    """Row of the class that serves a request: of its tier where it states one, else by name or bounds.

    A deadline without a tolerance is a bound on latency. Bounds alone lead to no class with a tier, since who states no
    tolerance gives up no accuracy, unless every class of the task has one.

    Raises:
        ImpossibleError: What is asked for contradicts itself, or nothing keeps it.
    """
    if asked.tolerance is None:
        if asked.deadline_ms is None:
            return match_class(body, tables)
        if body.max_latency_ms not in (None, asked.deadline_ms):
            wanted = f"what max_latency_ms says ({body.max_latency_ms:g})"
            raise ImpossibleError(mismatch("deadline_ms", wanted, asked.deadline_ms))
        return match_class(body.model_copy(update={"max_latency_ms": asked.deadline_ms}), tables)
    for name in ("request_class", "max_latency_ms", "min_accuracy"):
        if getattr(body, name) is not None:
            raise ImpossibleError(f"{name}: expected a tolerance or {name}, got both")
    return tiers.match(asked, body.task)


def shown_tolerance(tolerance: float, is_relative: bool) -> str:
    """As a caller writes it."""
    return f"{tolerance * 100:g}%" if is_relative else f"{tolerance:g}"


def read_tolerance(text: str) -> tuple[float, bool]:
    """A tolerance as a caller writes it, and whether it is relative.

    Raises:
        ImpossibleError: It is malformed or out of range.
    """
    number, percent = (text[:-1], True) if text.endswith("%") else (text, False)
    value = float(number) if _NUMBER.fullmatch(number) else -1.0
    value = value / 100.0 if percent else value
    if not 0.0 <= value <= 1.0:
        wanted = "points as a fraction of 1, such as 0.01, or a share of the best version's error, such as 5%"
        raise ImpossibleError(mismatch("X-Tolerance", wanted, text))
    return value, percent


def _deadline_ms(text: str) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else 0.0
    if value <= 0.0:
        raise ImpossibleError(mismatch("X-Deadline-Ms", "milliseconds > 0", text))
    return value


def _text(asked: TierAsked) -> str:
    parts = [f"tolerance {shown_tolerance(asked.tolerance or 0.0, asked.is_relative)}"]
    if asked.objective is not None:
        parts.append(f"objective {asked.objective}")
    if asked.deadline_ms is not None:
        parts.append(f"deadline_ms {asked.deadline_ms:g}")
    return ", ".join(parts)
