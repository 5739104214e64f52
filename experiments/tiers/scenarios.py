"""A scenario of tiers: the versions of a calibration on the pools of a catalog, and one request class for each tier.

A version's service time on a pool is its mean time in the calibration, times how much slower or faster the pool is than
the *home* pool by a reference variant of the base catalog: the calibration was measured on one machine, and its cost is
that of a core of the home pool. Answers are the calibration's rows, so what versions have in common is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from controller.catalog import Catalog, Market, ModelVariant, Profile, ResourcePool
from controller.catalog_changes import CatalogChanges
from controller.config import parse_config
from controller.errors import ConfigError, UsageError, mismatch
from controller.scenario import Scenario
from controller.tiers.calibration import Calibration
from controller.tiers.generate import Objective, Tier, Tolerance
from controller.tiers.rules import Form, outcome

SLO_TIMES: Mapping[Objective, float] = {Objective.RESPONSE_TIME: 4.0, Objective.COST: 12.0}
"""SLO of a tier's class, in mean service times of the best version on the home pool."""

_QUANTILES = (0.05, 0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Part:
    """Requests of one tier in a mix."""

    tolerance: Tolerance
    objective: Objective
    share: float  # of all requests

    @property
    def name(self) -> str:
        """Of its class: `cost-5` for five points of error, `cost-5-relative` for five percent of the best's."""
        kind = "-relative" if self.tolerance.is_relative else ""
        return f"{self.objective.value.replace('_', '-')}-{100 * self.tolerance.value:g}{kind}"


def even_mix(tiers: Sequence[Tier]) -> tuple[Part, ...]:
    """Every tier asked for equally often."""
    return tuple(Part(one.tolerance, one.objective, 1.0 / len(tiers)) for one in tiers)


def read_mix(text: str, is_relative: bool) -> tuple[Part, ...]:
    """A mix as the command line gives it, `OBJECTIVE:TOLERANCE=SHARE,...`, scaled to shares of sum 1.

    Raises:
        UsageError: The text has another form.
    """
    found = []
    for entry in text.split(","):
        contract, _, share = entry.partition("=")
        objective, _, tolerance = contract.partition(":")
        try:
            found.append(Part(Tolerance(float(tolerance), is_relative), Objective(objective.strip()), float(share)))
        except ValueError:
            expected = "OBJECTIVE:TOLERANCE=SHARE with commas between them, such as cost:0.01=0.3"
            raise UsageError(mismatch("--mix", expected, entry)) from None
    total = sum(part.share for part in found)
    if not all(0.0 < part.share < np.inf for part in found):
        raise UsageError(mismatch("--mix", "shares above 0", text))
    return tuple(Part(part.tolerance, part.objective, part.share / total) for part in found)


def catalog_of(
    table: Calibration, base: Catalog, name: str, pools: Sequence[str] = (), stands_for: float = 1.0
) -> Catalog:
    """The versions of a calibration on pools of a catalog.

    Args:
        table: What the versions did; its rows become the catalog's measured answers.
        base: Whose pools, sites and links are taken, and whose first variant says how fast a pool is.
        name: Of the catalog.
        pools: To take; none: all without an accelerator on which the base's first variant runs.
        stands_for: Requests that one request of the catalog stands for: it takes as many times longer.

    Raises:
        UsageError: A pool is not in the base, or its first variant does not run there.
    """
    reference = base.variants[0]
    profiles = {profile.pool: profile for profile in base.profiles if profile.variant == reference.name}
    usable = {pool.name: pool for pool in base.pools if pool.name in profiles}
    chosen = list(pools) or [name for name, pool in usable.items() if pool.accelerator is None]
    for pool in chosen:
        if pool not in usable:
            raise UsageError(mismatch("--pool", f"one of {', '.join(usable)}", pool))
    home = _home([usable[pool] for pool in chosen])
    home_s = profiles[home].service_s(1)
    found = []
    for v, version in enumerate(table.versions):
        mean_s = float(table.latency_s[:, v].mean())
        for pool in chosen:
            like = profiles[pool]
            times = like.service_s(1) / home_s
            said = f"mean of the calibration ({mean_s:.4g} s: {table.source}) x {times:.4g}, the time of "
            said += f"{reference.name} on {pool} over that on {home} (catalog {base.name})"
            if stands_for != 1.0:
                said += f"; x {stands_for:g}: one request stands for so many"
            figure = {"value": mean_s * times * stands_for, "derived": said}
            found.append(_profile(version, like, figure, _shape(table, v), f"as {reference.name} there"))
    variants = [_variant(table, v, reference) for v in range(len(table.versions))]
    return parse_config(
        {
            "name": name,
            "sites": [site.model_dump(mode="json") for site in base.sites],
            "links": [link.model_dump(mode="json") for link in base.links],
            "variants": variants,
            "pools": [usable[pool].model_dump(mode="json") for pool in chosen],
            "profiles": found,
            "answers": {
                "variants": list(table.versions),
                "confidence": table.confidence.tolist(),
                "right": _right(table).tolist(),
                "measured": table.source,
            },
        },
        Catalog,
        f"catalog of {name}",
    )


def scenario_of(
    table: Calibration,
    tiers: Sequence[Tier],
    mix: Sequence[Part],
    base: Scenario,
    catalog: Catalog,
    name: str,
    *,
    mean_rps: float | None = None,
    slo_s: Mapping[Objective, float] | None = None,
) -> Scenario:
    """One request class for each tier of a mix, with all else of a base scenario.

    A class's accuracy floor is what its tier promises: the best version's accuracy less the tolerance.

    Args:
        table: Whose rows are the catalog's answers.
        tiers: With versions as columns of the table.
        mix: Which of them are asked for, and how often.
        base: Whose trace, market, limits and control are taken; its first class says all else of a class.
        catalog: Of `catalog_of`, by whatever name the scenario finds it: that is for the caller to write.
        name: Of the scenario.
        mean_rps: In place of the base's.
        slo_s: Of the classes of each objective; None: `SLO_TIMES` of the best version's time.

    Raises:
        UsageError: A part of the mix is no tier.
    """
    by_contract = {(one.tolerance, one.objective): one for one in tiers}
    like, best = base.workload.classes[0], table.versions[table.best]
    workflow = next(one for one in base.workload.workflows if one.name == like.workflow)
    best_s = min(p.service_s(1) for p in catalog.profiles if p.variant == best)
    classes = []
    for part in mix:
        tier = by_contract.get((part.tolerance, part.objective))
        if tier is None:
            known = ", ".join(f"{one.objective.value}:{one.tolerance.value:g}" for one in tiers)
            raise UsageError(mismatch("--mix", f"tiers of the file ({known})", part.name))
        own_s = SLO_TIMES[part.objective] * best_s if slo_s is None else slo_s[part.objective]
        fields = like.model_dump(mode="json") | {"name": part.name, "share": part.share, "slo_s": own_s}
        fields |= {"accuracy_floor": floor_of(table, tier), "floor": "mean", "tier": _class_tier(table, tier)}
        classes.append(fields)
    operators = [catalog.variants[0].operator]
    document = base.model_dump(mode="json") | {
        "name": name,
        "description": f"Tiers of {table.source}",
        "catalog": name,
        "changes": CatalogChanges().model_dump(mode="json"),
        "workload": {"workflows": [{"name": workflow.name, "operators": operators}], "classes": classes},
        "mean_rps": base.mean_rps if mean_rps is None else mean_rps,
    }
    return parse_config(document, Scenario, f"scenario of {name}")


def floor_of(table: Calibration, tier: Tier) -> float:
    """What a tier promises on a table, or what its rule comes to there, where a promise is broken by chance."""
    right = _right(table)
    best = float(right[:, table.best].mean())
    allowed = tier.tolerance.value * ((1.0 - best) if tier.tolerance.is_relative else 1.0)
    expected = 1.0 - float(outcome(tier.rule, table).error.clip(0.0, 1.0).mean())
    return max(0.0, min(best - allowed, expected))


def write_scenario(scenario: Scenario, catalog: Catalog, folder: Path) -> Path:
    """Writes `scenario.yaml`, `catalog.yaml` and `answers.npz`; returns the scenario's path.

    Raises:
        ConfigError: The folder cannot be written.
    """
    answers = catalog.answers
    assert answers is not None  # a calibration has rows
    document = catalog.model_dump(mode="json")
    document["answers"] = {
        "variants": list(answers.variants),
        "file": "answers.npz",
        "measured": answers.measured,
    }
    named = scenario.model_copy(update={"catalog": "catalog.yaml"}).model_dump(mode="json")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        confidence, right = np.array(answers.confidence), np.array(answers.right)
        np.savez_compressed(folder / "answers.npz", confidence=confidence, right=right)
        for file, value in (("catalog.yaml", document), ("scenario.yaml", named)):
            (folder / file).write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder}: expected a writable folder, got: {error.strerror or error}") from error
    return folder / "scenario.yaml"


def _right(table: Calibration) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.asarray(1.0 - np.clip(table.error, 0.0, 1.0))


def _home(pools: Sequence[ResourcePool]) -> str:
    """The on-demand pool whose core costs least; of several, the first."""
    priced = [
        (pool.price_usd_per_hour.value / pool.vcpus.value, i)
        for i, pool in enumerate(pools)
        if pool.market is Market.ON_DEMAND and pool.price_usd_per_hour is not None
    ]
    if not priced:
        raise UsageError(mismatch("--pool", "at least one on-demand pool", ", ".join(pool.name for pool in pools)))
    return pools[min(priced)[1]].name


def _shape(table: Calibration, v: int) -> dict[str, Any]:
    latency_s = table.latency_s[:, v]
    found = np.quantile(latency_s, _QUANTILES) / latency_s.mean()
    quantiles = {q: round(float(value), 4) for q, value in zip(_QUANTILES, found, strict=True)}
    return {"quantiles": quantiles, "measured": f"quantile / mean over the calibration's requests: {table.source}"}


def _profile(
    version: str, like: Profile, service: dict[str, Any], shape: dict[str, Any], derived: str
) -> dict[str, Any]:
    """A profile without batches, which a calibration does not measure."""
    copied = {
        name: {"value": getattr(like, name).value, "derived": derived}
        for name in ("load_s", "swap_s", "cold_start_s")
        if getattr(like, name) is not None
    }
    return {
        "variant": version,
        "pool": like.pool,
        "service_intercept_s": {"value": 0.0, "derived": "one request at a time: all of it is in the slope"},
        "service_slope_s": service,
        "service_shape": shape,
        "batch_max": 1,
        "concurrency": like.concurrency,
        "cold_shape": like.cold_shape.model_dump(mode="json"),
        **copied,
    }


def _variant(table: Calibration, v: int, reference: ModelVariant) -> dict[str, Any]:
    right = float(_right(table)[:, v].mean())
    sizes = {
        name: {"value": getattr(reference, name).value, "derived": f"assumed: as {reference.name}, not measured"}
        for name in ("weights_gb", "input_bytes", "output_bytes")
    }
    measured = f"1 - mean error, cut off at 1: {table.source}"
    return {
        "name": table.versions[v],
        "operator": reference.operator,
        "accuracy": {"value": right, "measured": measured},
        **sizes,
    }


def _class_tier(table: Calibration, tier: Tier) -> dict[str, Any]:
    rule, names = tier.rule, table.versions
    is_single = rule.form is Form.SINGLE
    return {
        "tolerance": tier.tolerance.value,
        "is_relative": tier.tolerance.is_relative,
        "objective": tier.objective.value,
        "variants": [names[rule.first]] if is_single else [names[rule.first], names[rule.second]],
        "thresholds": [] if is_single else [min(1.0, rule.threshold)],
        "is_concurrent": rule.form is Form.CONCURRENT,
        "bound": tier.bound.upper,
        "confidence": tier.confidence,
    }
