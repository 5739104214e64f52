"""What is asked of a geo planner: regions that send requests, sites that serve them, and model-and-data variants.

The same accuracy is reached by a large model on little data or by a small one on much; which is cheaper depends on the
prices of computing and of traffic, so models, data versions and sites are chosen together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from controller.config import StrictModel, load_yaml

Label = Annotated[str, Field(min_length=1, max_length=64)]


class Region(StrictModel):
    """Where requests come from."""

    name: Label
    rate_rps: float = Field(gt=0)
    accuracy: float = Field(ge=0, le=1, description="share of right answers that is promised")
    floor: Annotated[str, Field(pattern="^(mean|each)$")] = Field(
        default="mean", description="`mean`: over the region's requests; `each`: no variant below it is used"
    )
    latency_s: float = Field(gt=0, description="mean from the client's encoding to the answer, at most")


class GeoSite(StrictModel):
    """Where instances are rented, of one type."""

    name: Label
    usd_per_hour: float = Field(gt=0, description="of an instance")
    speed: float = Field(default=1.0, gt=0, description="over that of the machine service times are measured on")


class Route(StrictModel):
    """Network from a region to a site."""

    region: Label
    site: Label
    rtt_s: float = Field(ge=0)
    bytes_per_s: float = Field(gt=0)
    usd_per_gb: float = Field(ge=0, description="of traffic out of the region, per 10^9 bytes")


class GeoVariant(StrictModel):
    """A model version on a data version."""

    model: Label
    data: Label
    accuracy: float = Field(ge=0, le=1)
    bytes: float = Field(ge=0, description="of an encoded request, mean")
    service_s: float = Field(gt=0, description="of an instance per request: decoding and the model")
    encode_s: float = Field(default=0.0, ge=0, description="of the client per request")


class GeoProblem(StrictModel):
    """Regions, sites, routes and variants."""

    name: Label
    utilisation: float = Field(default=0.8, gt=0, lt=1, description="share of an instance's time that may be planned")
    instance_serves: Literal["model", "variant"] = Field(
        default="model",
        description="`model`: one model on whatever data is sent; `variant`: one model on one data version, as a "
        "replica of ours does",
    )
    regions: tuple[Region, ...] = Field(min_length=1)
    sites: tuple[GeoSite, ...] = Field(min_length=1)
    routes: tuple[Route, ...] = Field(min_length=1)
    variants: tuple[GeoVariant, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names(self) -> GeoProblem:
        regions, sites = [r.name for r in self.regions], [s.name for s in self.sites]
        for where, names in (
            ("regions", regions),
            ("sites", sites),
            ("routes", [f"{r.region} -> {r.site}" for r in self.routes]),
            ("variants", [f"{v.model} on {v.data}" for v in self.variants]),
        ):
            if len(set(names)) != len(names):
                raise ValueError(f"{where}: expected distinct ones, got {names}")
        for route in self.routes:
            if route.region not in regions:
                raise ValueError(f"routes.region: expected one of {regions}, got '{route.region}'")
            if route.site not in sites:
                raise ValueError(f"routes.site: expected one of {sites}, got '{route.site}'")
        return self


def load_geo_problem(path: Path | str) -> GeoProblem:
    """The problem of a YAML file.

    Raises:
        ConfigError: It is missing or has a wrong field.
    """
    return load_yaml(path, GeoProblem)
