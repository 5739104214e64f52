"""The catalog and scenario that state a geo problem: a class for every region, a pool for every site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from controller.catalog import Catalog
from controller.compile import Setting, compile_scenario
from controller.config import parse_config
from controller.planners.geo.compiled import GeoInstance
from controller.planners.geo.plan import variant_name
from controller.planners.geo.problem import GeoProblem, Region
from controller.planners.workflow.plan import slug
from controller.scenario import Scenario

TICK_S = 10.0
OPERATOR = "answer"
_MOST_HELD = 65_536
_SPARE = 64


@dataclass(frozen=True)
class Stream:
    """Requests of one class: a region's, or those of a region that come as one data version.

    Attributes:
        name: Of the class.
        region: Row of the problem's regions.
        rate_rps: Of them.
    """

    name: str
    region: int
    rate_rps: float


def regions_of(instance: GeoInstance) -> tuple[Stream, ...]:
    """A class for every region."""
    return tuple(
        Stream(slug(region.name), r, float(instance.rate_rps[r])) for r, region in enumerate(instance.problem.regions)
    )


def setting_of(
    instance: GeoInstance,
    launch_s: float = 0.0,
    most_instances: int = 256,
    streams: Sequence[Stream] | None = None,
) -> Setting:
    """A setting in which the problem's plans can run, at its mean rates.

    Args:
        instance: The problem.
        launch_s: From asking for an instance until it serves.
        most_instances: At a site.
        streams: Classes; a class for every region where none are given.
    """
    problem = instance.problem
    classes = regions_of(instance) if streams is None else streams
    scenario = parse_config(_scenario(problem, classes, most_instances), Scenario, "placement")
    catalog = parse_config(_catalog(problem, instance, launch_s, most_instances), Catalog, "placement")
    setting = compile_scenario(scenario, catalog)
    # Encoding takes the client's time whatever the site, which links have no words for.
    encode_s = np.array([v.encode_s for v in problem.variants])
    setting.workload.network_s[...] += encode_s[None, :, None]
    return setting


def region_site(name: str) -> str:
    """Site that a region's requests come from; a city may have both a region and a site of instances."""
    return slug(f"from.{name}")


def _derived(value: float) -> dict[str, Any]:
    return {"value": float(value), "derived": "from the geo problem"}


def _catalog(problem: GeoProblem, instance: GeoInstance, launch_s: float, most: int) -> dict[str, Any]:
    nothing = _derived(0.0)
    return {
        "name": "placement",
        "sites": [
            *({"name": region_site(r.name)} for r in problem.regions),
            *({"name": slug(s.name)} for s in problem.sites),
        ],
        "links": [
            {
                "source": region_site(route.region),
                "target": slug(route.site),
                "delay_s": _derived(route.rtt_s),
                "bytes_per_s": _derived(route.bytes_per_s),
                "usd_per_gb": _derived(route.usd_per_gb),
            }
            for route in problem.routes
        ],
        "variants": [
            {
                "name": variant_name(v),
                "operator": OPERATOR,
                "accuracy": _derived(v.accuracy),
                "weights_gb": nothing,
                "input_bytes": _derived(v.bytes),
                "output_bytes": nothing,
            }
            for v in problem.variants
        ],
        "pools": [
            {
                "name": slug(site.name),
                "site": slug(site.name),
                "instance_type": slug(site.name),
                "market": "on_demand",
                "vcpus": _derived(1.0),
                "memory_gb": _derived(1.0),
                "price_usd_per_hour": _derived(site.usd_per_hour),
                "launch_s": _derived(launch_s),
                "min_billing_s": nothing,
                "release_lag_s": nothing,
                "quota": most,
            }
            for site in problem.sites
        ],
        "profiles": [
            {
                "variant": variant_name(variant),
                "pool": slug(site.name),
                "service_intercept_s": nothing,
                "service_slope_s": _derived(instance.service_s[i, v]),
                "batch_max": 1,
                "concurrency": 1,
                "load_s": nothing,
                "swap_s": nothing,
            }
            for i, site in enumerate(problem.sites)
            for v, variant in enumerate(problem.variants)
        ],
    }


def _scenario(problem: GeoProblem, streams: Sequence[Stream], most: int) -> dict[str, Any]:
    total = sum(stream.rate_rps for stream in streams)
    return {
        "name": "placement",
        "catalog": "placement",
        "workload": {
            "workflows": [{"name": "one", "operators": [OPERATOR]}],
            "classes": [_class(problem.regions[one.region], one, total) for one in streams],
        },
        "mean_rps": total,
        "trace": {"kind": "generated", "preset": "steady", "days": 3},
        "splits": {"train": [1, 1], "validation": [2, 2], "test": [3, 3]},
        "control": {"tick_s": TICK_S},
        "simulator": {
            "max_instances": min(8192, most * len(problem.sites) + _SPARE),
            "max_requests_held": _MOST_HELD,
        },
    }


def _class(region: Region, stream: Stream, total_rps: float) -> dict[str, Any]:
    return {
        "name": stream.name,
        "source_site": region_site(region.name),
        "workflow": "one",
        "share": stream.rate_rps / total_rps,
        "slo_s": region.latency_s,
        "attainment_target": 0.99,
        # What is promised to a region holds for its data versions together, not for each.
        "accuracy_floor": region.accuracy if stream.name == slug(region.name) else 0.0,
        "floor": region.floor,
        "queue_limit": _MOST_HELD,
        "drop_at_deadline": False,
    }
