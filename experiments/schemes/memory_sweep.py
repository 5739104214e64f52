"""Cost and latency of serverless functions over their memory, simulated at a constant rate with cold starts.

Two sweeps. `measured`: seven models as published at five sizes. `derived`: the ResNets of the default catalog by its
own derivation (run time in inverse proportion to memory up to a plateau, overhead constant), at sizes that hold the
model. What the second cannot show is a cost that falls with memory: its overhead is billed at every size alike, so cost
can only rise, and a minimum inside the sweep is the smallest size that fits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from controller.catalog import Catalog
from controller.config import parse_config
from experiments.catalog_build import CLIENTS, REGION, cocktail_shape, default_catalog, serverless_pool
from experiments.catalog_derivation import NETWORKS, Derivation, Entry, derived, lambda_profile, measured
from experiments.catalog_sources import Sources
from experiments.schemes.constant_load import Load, constant_setting, measure
from experiments.schemes.lambda_memory import RUNS, SIZES_MB, SOURCE, footprint_gb

DERIVED_SIZES_MB = (512, 1024, 1536, 2048, 3008, 4096, 5120, 7076, 10240)
RATE_RPS = 2.0
"""Keeps a few environments warm at every size, so cold starts are neither the rule nor absent."""

SLO_S = 60.0
"""No size is left out for being slow."""

PLATEAU = 0.10
"""A latency has reached its plateau where the last step of memory shortens it by less than this share."""


@dataclass(frozen=True)
class Point:
    """One model at one memory size.

    Attributes:
        sweep: `measured` or `derived`.
        model: Name.
        memory_mb: Size.
        usd_per_million: Charges per million requests, cold starts included; None where the model does not run.
        latency_s: Mean latency, cold starts and network included; None likewise.
        p99_s: 99th percentile, in steps of an eighth of an octave.
        cold_share: Calls that started cold.
    """

    sweep: str
    model: str
    memory_mb: int
    usd_per_million: float | None
    latency_s: float | None
    p99_s: float | None
    cold_share: float | None


@dataclass(frozen=True)
class Verdict:
    """What one model's sweep shows.

    Attributes:
        sweep, model: Names.
        cheapest_mb: Size of least cost.
        below_mb: Next smaller size of the sweep; None where there is none.
        is_interior: Whether that is neither end of the sweep.
        why: What is to the left of it: `does not fit`, `slower`, or `end of the sweep`.
        last_step: Share by which the last step of memory shortens the mean latency.
    """

    sweep: str
    model: str
    cheapest_mb: int
    below_mb: int | None
    is_interior: bool
    why: str
    last_step: float

    @property
    def has_plateau(self) -> bool:
        """Whether the latency no longer falls at the largest size."""
        return self.last_step < PLATEAU


def verdict(points: Sequence[Point]) -> Verdict:
    """Reads one model's points, in rising order of memory.

    Raises:
        ValueError: Fewer than two sizes run.
    """
    runs = [point for point in points if point.usd_per_million is not None and point.latency_s is not None]
    if len(runs) < 2:
        raise ValueError(f"{points[0].model}: expected at least two sizes that run, got {len(runs)}")
    cheapest = min(runs, key=lambda point: point.usd_per_million or 0.0)
    at = points.index(cheapest)
    left = points[at - 1] if at > 0 else None
    why = "end of the sweep" if left is None else "does not fit" if left.usd_per_million is None else "slower"
    before, last = (point.latency_s or 0.0 for point in runs[-2:])
    return Verdict(
        sweep=points[0].sweep,
        model=points[0].model,
        cheapest_mb=cheapest.memory_mb,
        below_mb=None if left is None else left.memory_mb,
        is_interior=0 < at < len(points) - 1,
        why=why,
        last_step=1.0 - last / before,
    )


def measured_catalog(sources: Sources) -> Catalog:
    """The published models on one pool per memory size, at the default catalog's prices."""
    shape = cocktail_shape(sources)
    profiles: list[Entry] = [
        {
            "variant": run.model,
            "pool": _pool(run.memory_mb),
            "service_intercept_s": derived(0.0, "run times are of one request"),
            "service_slope_s": measured(run.run_s, SOURCE),
            "batch_max": 1,
            "concurrency": 1,
            "load_s": derived(0.0, "part of the cold start"),
            "cold_start_s": derived(run.cold_total_s - run.run_s, f"{SOURCE}: first call - warm run"),
            "cold_shape": shape,
        }
        for run in RUNS
    ]
    names = list(dict.fromkeys(run.model for run in RUNS))
    return _catalog(sources, "lambda-measured", [_variant(name) for name in names], SIZES_MB, profiles)


def derived_catalog(sources: Sources) -> Catalog:
    """The ResNets of the default catalog at every size that holds them, by its own derivation."""
    derivation, shape = Derivation(sources), cocktail_shape(sources)
    profiles: list[Entry] = []
    for network in NETWORKS:
        for memory_mb in DERIVED_SIZES_MB:
            if footprint_gb(derivation.weights_gb(network)) > memory_mb / 1024:
                continue
            profile = lambda_profile(derivation, network, _pool(memory_mb), float(memory_mb), shape)
            if profile is not None:
                profiles.append(profile)
    used = {str(profile["variant"]) for profile in profiles}
    variants = default_catalog(sources)["variants"]
    assert isinstance(variants, list)
    kept = [variant for variant in variants if variant["name"] in used]
    return _catalog(sources, "lambda-derived", kept, DERIVED_SIZES_MB, profiles)


def _pool(memory_mb: int) -> str:
    return f"lambda-{memory_mb}"


def _variant(name: str) -> Entry:
    return {
        "name": name,
        "operator": "classify",
        "accuracy": derived(1.0, "not compared here"),
        "weights_gb": derived(0.0, "not used here"),
        "input_bytes": derived(40e3, "assumed: a JPEG of 224 px at 0.8 byte a pixel"),
        "output_bytes": derived(1000, "assumed: five labels with scores as JSON"),
    }


def _catalog(
    sources: Sources, name: str, variants: Sequence[Entry], sizes_mb: Sequence[int], profiles: Sequence[Entry]
) -> Catalog:
    document = {
        "schema_version": 1,
        "name": name,
        "sites": [{"name": CLIENTS, "kind": "edge"}, {"name": REGION, "kind": "region"}],
        "links": default_catalog(sources)["links"],
        "variants": list(variants),
        "pools": [serverless_pool(sources, _pool(size), float(size)) for size in sizes_mb],
        "profiles": list(profiles),
    }
    return parse_config(document, Catalog, source=name)


def sweep(catalog: Catalog, name: str, hours: float, say: Callable[[str], None]) -> list[Point]:
    """Simulates every model of the catalog at every size, at `RATE_RPS`.

    Args:
        catalog: Serverless pools in rising order of memory.
        name: Name of the sweep.
        hours: Length of each run.
        say: Told what is done.
    """
    setting = constant_setting(catalog, SLO_S, max_instances=1)
    num_variants, num_pools, _ = setting.shape
    usable = setting.catalog.usable
    at = [(v, p) for v in range(num_variants) for p in range(num_pools) if usable[v, p]]
    outcomes = measure(setting, [Load(RATE_RPS, v, p) for v, p in at], hours, say=say, what=f"memory, {name}")
    by_option = dict(zip(at, outcomes, strict=True))
    points = []
    for v in range(num_variants):
        for p in range(num_pools):
            outcome = by_option.get((v, p))
            size = round(float(setting.catalog.memory_gb[p]) * 1024)
            if outcome is None:
                points.append(Point(name, setting.variant_names[v], size, None, None, None, None))
                continue
            cold = outcome.cold_starts / outcome.requests if outcome.requests else 0.0
            latency_s = outcome.service_s + float(setting.workload.network_s[0, v, p])
            came_to = outcome.usd_per_million, latency_s, outcome.p99_s, cold
            points.append(Point(name, setting.variant_names[v], size, *came_to))
    return points


def verdicts(points: Sequence[Point]) -> list[Verdict]:
    """One verdict per model and sweep, in order of appearance."""
    keys = dict.fromkeys((point.sweep, point.model) for point in points)
    return [verdict([point for point in points if (point.sweep, point.model) == key]) for key in keys]
