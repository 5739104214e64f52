"""The catalog: what can be bought and what can run on it.

Two ideas are needed to read it. Every figure says where it comes from: `measured` names a source, `derived` gives a
formula; one of the two, never both. And a `Profile` describes a variant on one *whole instance* of a pool, which is
what a replica is.

The compiled array form used by the decision path is built in `controller.compile`; how figures are fitted is not
decided here.
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from functools import cached_property
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from controller.answers import AnswerTable, read_rows
from controller.config import StrictModel, load_yaml
from controller.errors import CatalogError

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)]


class Market(StrEnum):
    """How capacity of a pool is bought."""

    ON_DEMAND = "on_demand"
    SPOT = "spot"
    SERVERLESS = "serverless"


class Figure(StrictModel):
    """One number with its provenance: exactly one of `measured` (source) and `derived` (formula) is given."""

    value: float = Field(allow_inf_nan=False)
    measured: str | None = Field(default=None, min_length=3)
    derived: str | None = Field(default=None, min_length=3)

    @model_validator(mode="after")
    def _one_provenance(self) -> Figure:
        if (self.measured is None) == (self.derived is None):
            raise ValueError("expected exactly one of 'measured' (a source) and 'derived' (a formula)")
        return self


class NonNegative(Figure):
    """A figure that cannot be negative."""

    value: float = Field(ge=0, allow_inf_nan=False)


class Positive(Figure):
    """A figure above zero."""

    value: float = Field(gt=0, allow_inf_nan=False)


class Distribution(StrictModel):
    """Shape of a duration relative to its mean, as quantiles; the mean itself is a separate figure.

    `quantiles` maps probability to value / mean. Between points the quantile function is linear; the ends are
    extended to 0 and 1 by the outermost values, so an honest table reaches far enough. The table is rescaled to mean 1
    when compiled.
    """

    quantiles: dict[float, float] = Field(min_length=1)
    measured: str | None = Field(default=None, min_length=3)
    derived: str | None = Field(default=None, min_length=3)

    @model_validator(mode="after")
    def _monotone(self) -> Distribution:
        if (self.measured is None) == (self.derived is None):
            raise ValueError("expected exactly one of 'measured' (a source) and 'derived' (a formula)")
        probabilities = sorted(self.quantiles)
        values = [self.quantiles[p] for p in probabilities]
        if probabilities[0] < 0 or probabilities[-1] > 1:
            raise ValueError("expected probabilities within 0..1")
        if values[0] <= 0 or any(b < a for a, b in pairwise(values)):
            raise ValueError("expected positive values that do not fall with the probability")
        return self

    def table(self, cells: int) -> NDArray[np.float64]:
        """Quantile function at `cells` + 1 even probabilities, scaled so that linear interpolation has mean 1."""
        probabilities = sorted(self.quantiles)
        values = np.interp(np.linspace(0.0, 1.0, cells + 1), probabilities, [self.quantiles[p] for p in probabilities])
        mean = float(np.mean((values[1:] + values[:-1]) / 2))
        return np.asarray(values / mean, dtype=np.float64)


CONSTANT = Distribution(quantiles={0.5: 1.0}, derived="a constant")


class Site(StrictModel):
    """A place that holds pools or sends requests."""

    name: Name
    kind: Literal["edge", "hub", "region"] = "region"


class Link(StrictModel):
    """Network from one site to another (one direction)."""

    source: Name
    target: Name
    delay_s: NonNegative
    bytes_per_s: Positive
    usd_per_gb: NonNegative


class ModelVariant(StrictModel):
    """One deployable form of a model. An input version (resolution, compression) is part of the variant."""

    name: Name
    operator: Name
    accuracy: Annotated[Figure, Field(description="share of right answers, 0..1")]
    weights_gb: NonNegative
    input_bytes: NonNegative
    output_bytes: NonNegative
    cells: int = Field(
        default=1,
        ge=1,
        le=64,
        description="requests that one pass answers as the cells of a collage; above 1 a variant answers nothing else",
    )

    @model_serializer(mode="wrap")
    def _without_a_single_cell(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # As for a profile's table of service times.
        fields: dict[str, Any] = serialize(self)
        return fields if self.cells > 1 else {k: v for k, v in fields.items() if k != "cells"}

    @model_validator(mode="after")
    def _accuracy_is_a_share(self) -> ModelVariant:
        if not 0 < self.accuracy.value <= 1:
            raise ValueError(f"accuracy: expected a share in (0, 1], got {self.accuracy.value}")
        return self


class ResourcePool(StrictModel):
    """Homogeneous capacity that can be bought: instance type, market, site and terms."""

    name: Name
    site: Name
    instance_type: str
    market: Market
    zone: str | None = Field(default=None, description="availability zone whose spot trace drives preemption")
    vcpus: Positive
    memory_gb: Positive
    accelerator: str | None = None
    price_usd_per_hour: NonNegative | None = None
    launch_s: NonNegative
    launch_shape: Distribution = CONSTANT
    min_billing_s: NonNegative | None = None
    release_lag_s: NonNegative | None = None
    quota: int = Field(ge=0)
    notice_s: NonNegative | None = None
    node_owner: Literal["provisor", "ray_autoscaler", "kuberay", "local"] = "provisor"
    slots: Literal[1] = 1
    usd_per_gb_s: NonNegative | None = None
    usd_per_request: NonNegative | None = None
    provisioned_usd_per_gb_s: NonNegative | None = None
    provisioned_compute_usd_per_gb_s: NonNegative | None = None
    billing_step_s: Positive | None = None
    keep_alive_s: NonNegative | None = None
    emulated_speed: float = Field(
        default=1.0, gt=0, description="service speed of a local stand-in against the profile"
    )

    @model_validator(mode="after")
    def _terms_fit_market(self) -> ResourcePool:
        serverless = ("usd_per_gb_s", "usd_per_request", "billing_step_s", "keep_alive_s")
        machines = ("price_usd_per_hour", "min_billing_s", "release_lag_s")
        needed = serverless if self.market is Market.SERVERLESS else machines
        if self.market is Market.SPOT:
            needed = (*needed, "notice_s", "zone")
        for field in needed:
            if getattr(self, field) is None:
                raise ValueError(f"{field}: expected a value for market {self.market.value}, got none")
        return self


class Profile(StrictModel):
    """Measured behaviour of a variant on one whole instance of a pool (serverless: one execution environment)."""

    variant: Name
    pool: Name
    service_intercept_s: NonNegative
    service_slope_s: Positive
    service_by_batch_s: dict[int, Positive] | None = Field(
        default=None, min_length=1, description="mean seconds of a batch by its size, where measured"
    )
    service_shape: Distribution = CONSTANT
    batch_max: int = Field(ge=1, le=64)
    concurrency: int = Field(ge=1, le=16)
    load_s: NonNegative
    swap_s: NonNegative | None = None
    cold_start_s: NonNegative | None = None
    cold_shape: Distribution = CONSTANT

    @model_validator(mode="after")
    def _sizes_can_be_sent(self) -> Profile:
        for size in self.service_by_batch_s or ():
            if not 1 <= size <= self.batch_max:
                raise ValueError(f"service_by_batch_s: expected sizes in 1..{self.batch_max} (batch_max), got {size}")
        return self

    @model_serializer(mode="wrap")
    def _without_an_empty_table(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Journals and run headers hold whole catalogs: those that use no table are the same as before there was one.
        fields: dict[str, Any] = serialize(self)
        return fields if self.service_by_batch_s else {k: v for k, v in fields.items() if k != "service_by_batch_s"}

    def service_s(self, batch: int) -> float:
        """Mean seconds of one batch of `batch` items.

        Intercept + slope x batch; where sizes were measured, their means instead: linear between two of them, beyond
        the outermost in proportion to the line.
        """
        line_s = self._line_s(batch)
        if not self.service_by_batch_s:
            return line_s
        sizes = sorted(self.service_by_batch_s)
        nearest = min(max(batch, sizes[0]), sizes[-1])
        mean_s = float(np.interp(nearest, sizes, [self.service_by_batch_s[size].value for size in sizes]))
        return mean_s if nearest == batch else mean_s * line_s / self._line_s(nearest)

    def _line_s(self, batch: int) -> float:
        return self.service_intercept_s.value + self.service_slope_s.value * batch


class Catalog(StrictModel):
    """Variants, pools, sites and profiles, validated as a whole."""

    schema_version: Literal[1] = 1
    name: Name
    sites: tuple[Site, ...] = Field(min_length=1)
    links: tuple[Link, ...] = ()
    variants: tuple[ModelVariant, ...] = Field(min_length=1)
    pools: tuple[ResourcePool, ...] = Field(min_length=1)
    profiles: tuple[Profile, ...] = Field(min_length=1)
    answers: AnswerTable | None = Field(default=None, description="measured request by request; cascades need it")

    @model_serializer(mode="wrap")
    def _without_absent_answers(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # As for a profile's table of service times.
        fields: dict[str, Any] = serialize(self)
        return fields if self.answers else {k: v for k, v in fields.items() if k != "answers"}

    @model_validator(mode="after")
    def _whole(self) -> Catalog:
        sites = _unique("sites", [s.name for s in self.sites])
        variants = _unique("variants", [v.name for v in self.variants])
        pools = {p.name: p for p in self.pools}
        _unique("pools", [p.name for p in self.pools])
        for pool in self.pools:
            if pool.site not in sites:
                raise ValueError(f"pools[{pool.name}].site: expected one of {sorted(sites)}, got '{pool.site}'")
        for link in self.links:
            for end in (link.source, link.target):
                if end not in sites:
                    raise ValueError(f"links: expected one of {sorted(sites)}, got '{end}'")
        _unique("links", [f"{link.source} to {link.target}" for link in self.links])
        _unique("profiles", [f"{p.variant} on {p.pool}" for p in self.profiles])
        for profile in self.profiles:
            where = f"profiles[{profile.variant} on {profile.pool}]"
            if profile.variant not in variants:
                raise ValueError(f"{where}.variant: expected one of {sorted(variants)}, got '{profile.variant}'")
            if profile.pool not in pools:
                raise ValueError(f"{where}.pool: expected one of {sorted(pools)}, got '{profile.pool}'")
            is_serverless = pools[profile.pool].market is Market.SERVERLESS
            if is_serverless and (profile.cold_start_s is None or profile.batch_max != 1 or profile.concurrency != 1):
                raise ValueError(f"{where}: a serverless profile needs cold_start_s, batch_max 1 and concurrency 1")
            if not is_serverless and profile.swap_s is None:
                raise ValueError(f"{where}.swap_s: expected a value for a machine pool, got none")
        for name in self.answers.variants if self.answers else ():
            if name not in variants:
                raise ValueError(f"answers.variants: expected names of {sorted(variants)}, got '{name}'")
        return self

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of structure and schema (names, markets, which profiles exist), not of prices or calibrations."""
        structure = {
            "schema": self.schema_version,
            "variants": [(v.name, v.operator) for v in self.variants],
            "pools": [(p.name, p.market.value, p.site) for p in self.pools],
            "profiles": sorted((p.variant, p.pool) for p in self.profiles),
        }
        return hashlib.sha256(json.dumps(structure, sort_keys=True).encode()).hexdigest()


def _unique(what: str, names: list[str]) -> set[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what}: expected distinct names, got '{name}' twice")
        seen.add(name)
    return seen


def load_catalog(name_or_path: str | Path) -> Catalog:
    """Loads a shipped catalog by name (`default`, `demo`) or any catalog file by path.

    Raises:
        CatalogError: No such catalog, or the file breaks the schema.
    """
    text = str(name_or_path)
    if "/" not in text and not text.endswith((".yaml", ".yml")):
        shipped = resources.files("controller") / "catalogs" / f"{text}.yaml"
        if not shipped.is_file():
            folder = resources.files("controller") / "catalogs"
            known = sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".yaml"))
            raise CatalogError(f"catalog: expected one of {known} or a path to a YAML file, got '{text}'")
        with resources.as_file(shipped) as path:
            return _load(path)
    return _load(Path(text))


def _load(path: Path) -> Catalog:
    catalog = load_yaml(path, Catalog)
    if catalog.answers is None or catalog.answers.file is None:
        return catalog
    return catalog.model_copy(update={"answers": read_rows(catalog.answers, path.parent)})
