"""What is asked of a workflow planner: a DAG of operators with variants, and workers on tiers to run it on.

Two ideas are needed to read it. An operator's accuracy follows from those of its inputs by a measured table, so the
sink's accuracy depends on the variants of all. And traffic goes one way, from lower tiers to higher ones; sources stand
on the lowest. The arrays that planners work on are in `controller.planners.workflow.compiled`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from controller.config import StrictModel

DEFAULT = "default"
"""Variant of an operator that has but one, and of a message whose size no variant changes."""

MAX_OPERATORS = 16
"""Orders and combinations of operators are enumerated."""

Label = Annotated[str, Field(min_length=1, max_length=64)]


class Source(StrictModel):
    """Where requests begin; it stands on the lowest tier."""

    name: Label
    rate_rps: float = Field(gt=0)


class AccuracySample(StrictModel):
    """Accuracy of an operator's output, measured at accuracies of its inputs, in the order of its `inputs`.

    Inputs that come from sources have no accuracy and are left out.
    """

    inputs: tuple[float, ...] = ()
    accuracy: float


class Variant(StrictModel):
    """One deployable form of an operator's model."""

    name: Label = DEFAULT
    accuracy: tuple[AccuracySample, ...] = Field(min_length=1)
    selection_cost: float = Field(
        default=0.0, ge=0, description="what model selection weighs, before any worker is known"
    )
    latency_s: dict[str, float] = Field(
        min_length=1, description="seconds per request on a worker, by its name; where it does not run, nothing"
    )


class Operator(StrictModel):
    """A step of the workflow."""

    name: Label
    inputs: tuple[str, ...] = Field(min_length=1, description="sources and operators that it waits for")
    variants: tuple[Variant, ...] = Field(min_length=1)
    weight: float = Field(default=1.0, ge=0, description="of its `selection_cost`")


class Message(StrictModel):
    """Size of what passes along an edge per request of its receiver."""

    source: Label
    target: Label
    source_variant: Label = DEFAULT
    target_variant: Label = DEFAULT
    kib: float = Field(ge=0)


class Selectivity(StrictModel):
    """Requests that an edge's receiver gets per one of its sender; 1 where none is given."""

    source: Label
    target: Label
    ratio: float = Field(gt=0)


class Worker(StrictModel):
    """A machine that can be rented whole, for one operator."""

    name: Label
    tier: Label
    usd_per_hour: float = Field(ge=0)


class WorkerLink(StrictModel):
    """Price of traffic between tiers; either end may be a tier, a worker or (as a sender) a source.

    Where several fit, one that names both ends itself wins over one that names an end, and that over two tiers.
    """

    source: Label
    target: Label
    usd_per_gib: float = Field(ge=0)


class EndToEnd(StrictModel):
    """Measured accuracy of the whole workflow under a choice of variants."""

    variants: dict[str, str]
    accuracy: float


class WorkflowProblem(StrictModel):
    """A workflow, its workers, and the accuracy that its sink must reach."""

    name: Label
    accuracy_target: float
    sources: tuple[Source, ...] = Field(min_length=1)
    operators: tuple[Operator, ...] = Field(min_length=1, max_length=MAX_OPERATORS)
    messages: tuple[Message, ...] = ()
    selectivities: tuple[Selectivity, ...] = ()
    tiers: tuple[Label, ...] = Field(min_length=1, description="from the sources' to the highest")
    workers: tuple[Worker, ...] = Field(min_length=1)
    links: tuple[WorkerLink, ...] = ()
    end_to_end: tuple[EndToEnd, ...] = Field(
        default=(), description="in place of the operators' tables, where measured"
    )

    @model_validator(mode="after")
    def _names(self) -> WorkflowProblem:
        nodes = [*(s.name for s in self.sources), *(o.name for o in self.operators)]
        for where, names in (
            ("sources and operators", nodes),
            ("tiers", list(self.tiers)),
            ("workers", [w.name for w in self.workers]),
        ):
            if len(set(names)) != len(names):
                raise ValueError(f"{where}: expected distinct names, got {names}")
        for worker in self.workers:
            if worker.tier not in self.tiers:
                raise ValueError(
                    f"workers[{worker.name}].tier: expected one of {list(self.tiers)}, got '{worker.tier}'"
                )
        workers, places = {w.name for w in self.workers}, {*self.tiers, *(w.name for w in self.workers)}
        for operator in self.operators:
            for given in operator.inputs:
                if given not in nodes:
                    raise ValueError(f"operators[{operator.name}].inputs: expected one of {nodes}, got '{given}'")
            for variant in operator.variants:
                self._check_variant(operator, variant, workers)
        for link in self.links:
            if link.source not in places | {s.name for s in self.sources}:
                raise ValueError(f"links.source: expected a tier, worker or source, got '{link.source}'")
            if link.target not in places:
                raise ValueError(f"links.target: expected a tier or worker, got '{link.target}'")
        return self

    def _check_variant(self, operator: Operator, variant: Variant, workers: set[str]) -> None:
        where = f"operators[{operator.name}].variants[{variant.name}]"
        upstream = [i for i in operator.inputs if all(i != s.name for s in self.sources)]
        for sample in variant.accuracy:
            if len(sample.inputs) != len(upstream):
                raise ValueError(f"{where}.accuracy: expected {len(upstream)} inputs, got {len(sample.inputs)}")
        for name, latency_s in variant.latency_s.items():
            if name not in workers:
                raise ValueError(f"{where}.latency_s: expected one of {sorted(workers)}, got '{name}'")
            if latency_s <= 0:
                raise ValueError(f"{where}.latency_s[{name}]: expected seconds above 0, got {latency_s:g}")

    @model_validator(mode="after")
    def _graph(self) -> WorkflowProblem:
        edges = {(given, operator.name) for operator in self.operators for given in operator.inputs}
        for field, ends in (("messages", self.messages), ("selectivities", self.selectivities)):
            for one in ends:
                if (one.source, one.target) not in edges:
                    raise ValueError(f"{field}: expected an edge of the workflow, got {one.source} -> {one.target}")
        names = {o.name for o in self.operators}
        sinks = [name for name in names if all(source != name for source, _ in edges)]
        if len(sinks) != 1:
            raise ValueError(f"operators: expected one that passes nothing on, got {sorted(sinks)}")
        left = set(names)
        while free := {n for n in left if all(t != n or s not in left for s, t in edges)}:
            left -= free
        if left:
            raise ValueError(f"operators: expected no cycle, got one among {sorted(left)}")
        return self
