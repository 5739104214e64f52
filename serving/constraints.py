"""What a caller may ask for: constraints, never a model, matched to the request class that promises them.

A caller names a request class, or a bound on latency and accuracy. The class chosen for bounds is the least demanding
one that keeps them: the most relaxed SLO within the latency bound, then the lowest floor that is high enough.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from serving.rules import RouterTables


class InferRequest(BaseModel):
    """Body of `POST /v1/infer`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input: Any = Field(description="one input; the image ladder takes 64 numbers in 0..16, 8 x 8 pixels row by row")
    task: str | None = Field(default=None, description="operator; needed only where the classes serve several")
    request_class: str | None = Field(default=None, description="name of a class, instead of the two bounds")
    max_latency_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    min_accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    id: Annotated[int, Field(ge=0, lt=1 << 62)] | None = Field(
        default=None, description="keys the emulation's draws, so that a replayed request meets the same ones"
    )


class TierAnswer(BaseModel):
    """The tier that an answer keeps."""

    tolerance: float
    is_relative: bool = Field(description="the tolerance is a share of the best version's error")
    objective: str
    bound: float = Field(description="degradation that is not exceeded, at the confidence")
    confidence: float
    is_demoted: bool = Field(description="the bound was found broken; the best version answers alone")


class InferAnswer(BaseModel):
    """Body of an answer."""

    output: Any
    request_class: str
    variant: str = Field(description="whose answer this is")
    pool: str
    accuracy: float = Field(description="of the variant, as the catalog states it")
    latency_ms: float = Field(description="arrival at the router to this answer")
    attempts: int = Field(
        description="copies made of the request; above 1 after a retry, a hedge or a further step of a cascade"
    )
    confidence: float | None = Field(default=None, description="of the answer, 0..1; null where the model tells none")
    variants: list[str] = Field(default=[], description="that answered, in order of time; several in a cascade alone")
    tier: TierAnswer | None = Field(default=None, description="null for a class without one")
    request_id: str | None = Field(default=None, description="names the request in POST /v1/feedback; tiers only")


class ImpossibleError(Exception):
    """No request class keeps what was asked for; the message names what is possible."""


def match_class(asked: InferRequest, tables: RouterTables) -> int:
    """Row of the request class that serves a request.

    Raises:
        ImpossibleError: Unknown class or task, contradictory fields, or bounds that no class keeps.
    """
    names = tables.class_names
    bounds = asked.max_latency_ms is not None or asked.min_accuracy is not None
    if asked.request_class is not None and bounds:
        raise ImpossibleError("request_class: expected a class or bounds (max_latency_ms, min_accuracy), got both")
    if asked.task is not None and asked.task not in tables.operators:
        raise ImpossibleError(f"task: expected one of {sorted(set(tables.operators))}, got '{asked.task}'")
    rows = [c for c in range(len(names)) if asked.task in (None, tables.operators[c])]
    if asked.request_class is not None:
        if asked.request_class not in names:
            raise ImpossibleError(f"request_class: expected one of {list(names)}, got '{asked.request_class[:64]}'")
        c = names.index(asked.request_class)
        if c not in rows:
            raise ImpossibleError(f"task: expected '{tables.operators[c]}' for '{names[c]}', got '{asked.task}'")
        return c
    if asked.task is None and len(set(tables.operators)) > 1:
        raise ImpossibleError(f"task: expected one of {sorted(set(tables.operators))}, got nothing")
    latency_s = float("inf") if asked.max_latency_ms is None else asked.max_latency_ms / 1e3
    floor = asked.min_accuracy or 0.0
    # Who states no tolerance gives up no accuracy: tiers are for those who ask for one.
    rows = [c for c in rows if tables.tiers[c] is None] or rows
    fitting = [c for c in rows if tables.slo_s[c] <= latency_s and tables.accuracy_floor[c] >= floor]
    if not fitting:
        raise ImpossibleError(
            f"expected max_latency_ms and min_accuracy that a class keeps ({possible(tables, rows)}), "
            f"got max_latency_ms {asked.max_latency_ms} and min_accuracy {asked.min_accuracy}"
        )
    return max(fitting, key=lambda c: (tables.slo_s[c], -tables.accuracy_floor[c]))


def possible(tables: RouterTables, rows: list[int]) -> str:
    """The promises on offer, readable."""
    return "; ".join(
        f"{tables.class_names[c]}: max_latency_ms >= {tables.slo_s[c] * 1e3:g}, "
        f"min_accuracy <= {tables.accuracy_floor[c]:g}"
        for c in rows
    )
