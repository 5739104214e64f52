"""The workload: who asks for what, and what was promised to them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from controller.arrays import CASCADE_STEPS
from controller.catalog import Name
from controller.config import StrictModel

MAX_OPERATORS = 8


class Workflow(StrictModel):
    """A DAG of operators with one sink, whose answer is the request's.

    An operator without inputs begins with the request; any other one when the messages of all its inputs are there.
    `edges` are (from, to, selectivity): messages passed on per message received.
    """

    name: Name
    operators: tuple[Name, ...] = Field(min_length=1, max_length=MAX_OPERATORS)
    edges: tuple[tuple[Name, Name, float], ...] = ()

    @model_validator(mode="after")
    def _edges_name_operators(self) -> Workflow:
        for source, target, selectivity in self.edges:
            for end in (source, target):
                if end not in self.operators:
                    raise ValueError(f"edges: expected one of {list(self.operators)}, got '{end}'")
            if selectivity <= 0:
                raise ValueError(f"edges[{source} -> {target}]: expected a selectivity above 0, got {selectivity}")
        ends = [(source, target) for source, target, _ in self.edges]
        for name, found in (("operators", self.operators), ("edges", ends)):
            if len(set(found)) != len(found):
                raise ValueError(f"{name}: expected distinct ones, got {list(found)}")
        sinks = [name for name in self.operators if all(source != name for source, _ in ends)]
        left = set(self.operators)
        while free := {name for name in left if all(target != name or source not in left for source, target in ends)}:
            left -= free
        if left:
            raise ValueError(f"edges: expected no cycle, got one among {sorted(left)}")
        if len(sinks) != 1:
            raise ValueError(f"edges: expected one operator that passes nothing on, got {sinks}")
        return self


class ClassTier(StrictModel):
    """What the callers of a class bear and want, and the rule that was proved to give it them.

    `provisor tiers generate` proves rules. One variant answers alone; several are a cascade, asked in this order.
    """

    tolerance: float = Field(ge=0, allow_inf_nan=False, description="more error than the best variant's, at most")
    is_relative: bool = Field(default=False, description="the tolerance is a share of the best variant's error")
    objective: Literal["response_time", "cost"]
    variants: tuple[Name, ...] = Field(min_length=1, max_length=CASCADE_STEPS)
    thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        default=(), description="confidence from which the answer of each variant but the last is final"
    )
    is_concurrent: bool = Field(default=False, description="both of two variants begin at once")
    bound: float = Field(allow_inf_nan=False, description="degradation that is not exceeded at the confidence")
    confidence: float = Field(ge=0.5, lt=1)
    disagreement: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share of answers other than the best variant's, at most; null: by the catalog's measured answers",
    )

    @model_validator(mode="after")
    def _rule_is_whole(self) -> ClassTier:
        if len(set(self.variants)) != len(self.variants):
            raise ValueError(f"variants: expected distinct names, got {list(self.variants)}")
        if len(self.thresholds) != len(self.variants) - 1:
            raise ValueError(
                f"thresholds: expected {len(self.variants) - 1} (variants less one), got {self.thresholds}"
            )
        if self.is_concurrent and len(self.variants) != 2:
            raise ValueError(f"is_concurrent: expected it of two variants, got {list(self.variants)}")
        return self


class RequestClass(StrictModel):
    """Requests with one SLO, accuracy floor and value."""

    name: Name
    source_site: Name
    workflow: Name
    share: float = Field(gt=0, le=1, description="share of arrivals; shares of all classes sum to 1")
    slo_s: float = Field(gt=0, description="latency promise, arrival to last byte, seconds")
    attainment_target: float = Field(gt=0, lt=1)
    accuracy_floor: float = Field(
        ge=0, le=1, description="on the mean over the class's answered requests of a trace day"
    )
    floor: Annotated[str, Field(pattern="^(mean|each)$")] = "mean"
    value_usd: float = Field(
        default=0.0, ge=0, description="worth of an answered request; the least valuable is shed first"
    )
    queue_limit: int = Field(default=2000, ge=1)
    drop_at_deadline: bool = True
    tier: ClassTier | None = None

    @model_serializer(mode="wrap")
    def _without_no_tier(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Journals and run headers hold whole scenarios: classes without a tier are the same as before there were any.
        fields: dict[str, Any] = serialize(self)
        return fields if self.tier is not None else {k: v for k, v in fields.items() if k != "tier"}


class Workload(StrictModel):
    """All request classes and the workflows they run."""

    workflows: tuple[Workflow, ...] = Field(min_length=1)
    classes: tuple[RequestClass, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _whole(self) -> Workload:
        names = [c.name for c in self.classes]
        if len(set(names)) != len(names):
            raise ValueError(f"classes: expected distinct names, got {names}")
        workflows = {w.name for w in self.workflows}
        if len(workflows) != len(self.workflows):
            raise ValueError(f"workflows: expected distinct names, got {[w.name for w in self.workflows]}")
        for request_class in self.classes:
            if request_class.workflow not in workflows:
                raise ValueError(
                    f"classes[{request_class.name}].workflow: expected one of {sorted(workflows)}, "
                    f"got '{request_class.workflow}'"
                )
        total = sum(c.share for c in self.classes)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"classes: expected shares that sum to 1, got {total:.6g}")
        return self
