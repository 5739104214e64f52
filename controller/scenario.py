"""A scenario: trace + catalog + classes + market + limits, in one validated file.

Both worlds read the same scenario; only the composition root (in `experiments`) turns its trace and spot references
into arrays, so nothing here opens a trace. `speed` compresses control time for a live run and its simulated twin; the
transform is `controller.compile.at_speed`.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from controller.catalog import Catalog, Name, load_catalog
from controller.catalog_changes import CatalogChanges
from controller.config import StrictModel, load_yaml
from controller.errors import ScenarioError
from controller.limits import Limits, check_limits
from controller.workload import RequestClass, Workload

DayRange = Annotated[tuple[int, int], Field(description="1-based days of the file, both ends included")]


class GeneratedTrace(StrictModel):
    """Requests from the seeded generator."""

    kind: Literal["generated"] = "generated"
    preset: str = "twitter_like"
    days: int = Field(default=17, ge=1, le=400)
    seed: int = Field(default=0, ge=0)


class FileTrace(StrictModel):
    """Requests from a file; `path` may start with `$PROVISOR_DATA`, `FILE:ROW` picks one row of a 2-D file."""

    kind: Literal["file"] = "file"
    path: str
    source: str = Field(description="where the file is published")
    rows: Literal["equal_mean", "as_recorded"] = Field(
        default="equal_mean",
        description="how the rows of a file are added up: each scaled to the same mean over the training days, so that "
        "all shapes count, or as they are",
    )


class ArrivalModel(StrictModel):
    """How arrivals fall inside a bin: a renewal process with the given CV of gaps, time-changed by the rate."""

    kind: Literal["poisson", "gamma"] = "poisson"
    cv: float = Field(default=1.0, gt=0, le=20)
    smooth_s: float = Field(default=5.0, gt=0)

    @model_validator(mode="after")
    def _poisson_has_cv_one(self) -> ArrivalModel:
        if self.kind == "poisson" and self.cv != 1.0:
            raise ValueError(f"cv: expected 1 for Poisson arrivals, got {self.cv}")
        return self


class GeneratedSpot(StrictModel):
    """Spot availability from the seeded generator, correlated within a region."""

    kind: Literal["generated"] = "generated"
    days: int = Field(default=45, ge=1)
    seed: int = Field(default=0, ge=0)


class StormSpot(StrictModel):
    """A seeded spot market whose zones close together, many times a day: what a fleet on spot must survive."""

    kind: Literal["storm"] = "storm"
    days: int = Field(default=14, ge=1)
    seed: int = Field(default=0, ge=0)


class FileSpot(StrictModel):
    """Spot availability from an npz with `index.csv` beside it."""

    kind: Literal["file"] = "file"
    path: str
    source: str
    days: DayRange | None = None


class Splits(StrictModel):
    """Days of the trace for training, validation and test, disjoint and in order."""

    train: DayRange
    validation: DayRange
    test: DayRange

    @model_validator(mode="after")
    def _ordered(self) -> Splits:
        edge = 0
        for name, (first, last) in (("train", self.train), ("validation", self.validation), ("test", self.test)):
            if not edge < first <= last:
                raise ValueError(f"{name}: expected days after {edge} with first <= last, got {first}:{last}")
            edge = last
        return self


class Control(StrictModel):
    """Spans of the control loop, and the routers that carry out what it decides."""

    tick_s: float = Field(default=10.0, gt=0)
    ticks_per_decision: int = Field(default=6, ge=1)
    horizon_s: float = Field(default=120.0, gt=0)
    retry_after_s: float = Field(default=120.0, ge=0)
    routers: int = Field(
        default=1,
        ge=1,
        le=16,
        description="each request is one router's, drawn at random; each router keeps a queue of its own for every "
        "option and owns an even part of the option's credits (with fewer credits than routers there is one queue per "
        "credit, at least one), on which it predicts waits; limits of queued requests are divided over the queues, "
        "rounded up; serverless calls are shared by all",
    )

    @model_serializer(mode="wrap")
    def _without_a_lone_router(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Journals and run headers hold whole scenarios: those with one router are the same as before there were more.
        fields: dict[str, Any] = serialize(self)
        return fields if self.routers > 1 else {k: v for k, v in fields.items() if k != "routers"}


class SimulatorSize(StrictModel):
    """Fixed capacity of the simulator's state."""

    max_instances: int = Field(default=256, ge=1, le=8192)
    max_requests_held: int = Field(
        default=6144,
        ge=64,
        le=1 << 20,
        description="waiting and in service; room for what the fleet in use can have in service is kept free, and what "
        "does not fit beside it is shed",
    )
    kernel: Literal["auto", "fast", "event"] = "auto"


class MeasuredSpans(StrictModel):
    """What a live run measured about its replicas, in place of the catalog's load and swap times."""

    start_s: float = Field(ge=0)
    swap_s: float = Field(ge=0)


class Scenario(StrictModel):
    """Everything that defines a world, except the seed."""

    name: Name
    description: str = ""
    catalog: str = "default"
    changes: CatalogChanges = Field(default=CatalogChanges(), description="what differs from the catalog")
    workload: Workload
    mean_rps: float = Field(
        gt=0, description="the trace is scaled by one constant so that its training days have this mean"
    )
    trace: Annotated[GeneratedTrace | FileTrace, Field(discriminator="kind")]
    splits: Splits
    arrivals: ArrivalModel = ArrivalModel()
    spot: Annotated[GeneratedSpot | StormSpot | FileSpot, Field(discriminator="kind")] = GeneratedSpot()
    control: Control = Control()
    limits: Limits = Limits()
    simulator: SimulatorSize = SimulatorSize()
    speed: float = Field(default=1.0, gt=0, description="control time runs this many times faster than service time")
    measured: MeasuredSpans | None = Field(
        default=None,
        description="as live runs at `speed` measured them: with them the scenario is simulated, trained in and tuned "
        "in as such a run sees it; the run itself measures anew",
    )

    @model_serializer(mode="wrap")
    def _without_what_is_not_used(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # As for a lone router: scenarios that use neither are the same as before they could.
        fields: dict[str, Any] = serialize(self)
        unused = {"changes": self.changes == CatalogChanges(), "measured": self.measured is None}
        return {name: value for name, value in fields.items() if not unused.get(name, False)}

    @model_validator(mode="after")
    def _splits_within_generated_days(self) -> Scenario:
        if isinstance(self.trace, GeneratedTrace) and self.splits.test[1] > self.trace.days:
            first, last = self.splits.test
            raise ValueError(f"splits.test: expected days up to {self.trace.days} (trace.days), got {first}:{last}")
        return self

    def load_catalog(self) -> Catalog:
        """Loads the catalog and checks that workload and limits fit it.

        Raises:
            ScenarioError: A class names an unknown site or operator, a limit an unknown pool, or the limits contradict
                each other.
        """
        catalog = self.changes.applied_to(load_catalog(self.catalog))
        sites = {s.name for s in catalog.sites}
        operators = {v.operator for v in catalog.variants}
        for request_class in self.workload.classes:
            if request_class.source_site not in sites:
                raise ScenarioError(
                    f"workload.classes[{request_class.name}].source_site: expected one of {sorted(sites)}, "
                    f"got '{request_class.source_site}'"
                )
            _check_tier(request_class, self.workload, catalog)
        for workflow in self.workload.workflows:
            for operator in workflow.operators:
                if operator not in operators:
                    raise ScenarioError(
                        f"workload.workflows[{workflow.name}].operators: expected one of {sorted(operators)}, "
                        f"got '{operator}'"
                    )
        check_limits(self.limits, catalog, self.simulator.max_instances)
        return catalog


def _check_tier(request_class: RequestClass, workload: Workload, catalog: Catalog) -> None:
    """Refuses a tier whose variants do not answer the class's only operator."""
    if request_class.tier is None:
        return
    where = f"workload.classes[{request_class.name}].tier"
    operators = next(flow.operators for flow in workload.workflows if flow.name == request_class.workflow)
    if len(operators) > 1:
        raise ScenarioError(f"{where}: expected a workflow of one operator, got {list(operators)}")
    able = [variant.name for variant in catalog.variants if variant.operator == operators[0]]
    for name in request_class.tier.variants:
        if name not in able:
            raise ScenarioError(f"{where}.variants: expected variants of '{operators[0]}' ({able}), got '{name}'")


def load_scenario(name_or_path: str | Path) -> Scenario:
    """Loads a shipped scenario by name (`default`, `demo`, ...) or a scenario file by path.

    The catalog file that a scenario file names is looked for beside it first, then in the current directory.

    Raises:
        ScenarioError: No such scenario.
        ConfigError: The file breaks the schema.
    """
    text = str(name_or_path)
    if "/" not in text and not text.endswith((".yaml", ".yml")):
        folder = resources.files("controller") / "scenarios"
        shipped = folder / f"{text}.yaml"
        if not shipped.is_file():
            known = sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".yaml"))
            raise ScenarioError(f"scenario: expected one of {known} or a path to a YAML file, got '{text}'")
        with resources.as_file(shipped) as path:
            return load_yaml(path, Scenario)
    scenario = load_yaml(Path(text), Scenario)
    beside = Path(text).parent / scenario.catalog
    is_path = "/" in scenario.catalog or scenario.catalog.endswith((".yaml", ".yml"))
    return scenario.model_copy(update={"catalog": str(beside)}) if is_path and beside.is_file() else scenario
