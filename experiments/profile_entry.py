"""The catalog entry of a model that was measured, each figure with machine, date, repeats and standard error."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from controller.catalog import Catalog, Market, Name
from controller.catalog_entry import CatalogEntry, with_entry
from controller.config import parse_config, versions
from controller.errors import UsageError, mismatch
from experiments.calibrated import document_of
from experiments.catalog_derivation import Entry, derived, measured
from experiments.catalog_figures import to_yaml
from experiments.fitting import Estimate, line_through, mean_of, shape_of
from experiments.profiling import Measured

THIS_MACHINE = "this-machine"
"""Name of the pool where none is given."""

_OPERATOR = "classify"
_NAME_CHARS = 64


@dataclass(frozen=True)
class Naming:
    """How the entry calls what was measured."""

    variant: str
    pool: str
    operator: str


def variant_name(reference: str) -> str:
    """Name of a variant made from `module:callable`."""
    text = re.sub(r"[^a-z0-9._-]+", "-", reference.partition(":")[2].lower().replace("_", "-"))
    return text.strip("-._")[:_NAME_CHARS] or "model"


def machine() -> str:
    """This machine in words: its name, processor and cores."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
        cores = sum(line.startswith("processor") for line in lines)
    except OSError:
        cores = 0
    return f"{platform.node() or 'a machine'} ({model}{f', {cores} cores' if cores else ''})"


def entry_of(found: Measured, naming: Naming, on: str | None = None, day: str | None = None) -> Entry:
    """The entry as plain values; without a variant where no accuracy was measured.

    Args:
        found: What was measured.
        naming: Variant, pool and operator.
        on: The machine in words; None: this one.
        day: Of the measurement; None: today.

    Raises:
        ConfigError: A name or figure is none that a catalog takes.
    """
    source = f"{on or machine()}, {day or datetime.now(UTC).date().isoformat()}, one thread"
    entry: Entry = {}
    if found.accuracy is not None:
        entry["variants"] = [_variant(found, found.accuracy, naming, source)]
    entry["profiles"] = [_profile(found, naming, source)]
    parse_config(entry, CatalogEntry, "catalog entry")
    return entry


def entry_yaml(entry: Entry, reference: str) -> str:
    """Text of an entry alone."""
    numbers = versions()
    lines = [
        f"# Measured by `provisor profile {reference}` with Python {numbers['python']}, torch {numbers['torch']}.",
        "# A part of a catalog: its items belong under those of a whole one, where `--into` puts them.",
    ]
    if "variants" not in entry:
        lines.append("# No variant: its accuracy is known only from labelled inputs (`--input FILE.npz`).")
    return to_yaml(entry, "\n".join(lines))


def catalog_yaml(entry: Entry, catalog: Catalog, reference: str) -> str:
    """Text of a whole catalog with the entry in it.

    Raises:
        ConfigError: The entry does not fit the catalog.
    """
    whole = with_entry(catalog, parse_config(entry, CatalogEntry, "catalog entry"))
    lines = f"# Catalog '{catalog.name}' with what `provisor profile {reference}` measured.\n"
    return to_yaml(document_of(whole), lines)


def naming_in(catalog: Catalog | None, reference: str, name: str | None, pool: str | None) -> Naming:
    """Names of the entry, which must fit the catalog that it is put into.

    Raises:
        UsageError: A name that no catalog takes, no such pool, or one of another kind.
    """
    variant = variant_name(reference) if name is None else _named("--name", name)
    if catalog is None:
        return Naming(variant, THIS_MACHINE if pool is None else _named("--pool", pool), _OPERATOR)
    machines = [p.name for p in catalog.pools if p.market is not Market.SERVERLESS]
    if pool not in machines:
        raise UsageError(mismatch("--pool", f"a machine pool of catalog '{catalog.name}', one of {machines}", pool))
    operators = {v.name: v.operator for v in catalog.variants}
    return Naming(variant, pool, operators.get(variant, catalog.variants[0].operator))


def require_known(naming: Naming, catalog: Catalog, *, is_labelled: bool) -> None:
    """Refuses an entry whose variant nobody describes.

    Args:
        naming: Of the entry.
        catalog: What the entry is put into.
        is_labelled: Whether the inputs tell the accuracy, so that the entry describes the variant.

    Raises:
        UsageError: Neither the catalog nor the entry has the variant.
    """
    known = [v.name for v in catalog.variants]
    if not is_labelled and naming.variant not in known:
        raise UsageError(
            f"--name: expected a variant of catalog '{catalog.name}', one of {known}, got '{naming.variant}' "
            "(a new one needs --input with labels, which tell its accuracy)"
        )


def _named(option: str, name: str) -> str:
    try:
        return TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        raise UsageError(mismatch(option, "a name of at most 64 small letters, digits and . _ -", name)) from error


def _variant(found: Measured, accuracy: Estimate, naming: Naming, source: str) -> Entry:
    inputs = found.inputs
    labelled = f"{accuracy.samples} labelled inputs of {inputs.source}, standard error {accuracy.se:.2g}; {source}"
    weights = found.loads.weights_bytes
    return {
        "name": naming.variant,
        "operator": naming.operator,
        "accuracy": measured(accuracy.value, labelled),
        "weights_gb": derived(0.0, "not measured: this system does not say what a process holds")
        if weights is None
        else measured(weights / 1e9, f"growth of a fresh process while it loads the model, {source}"),
        "input_bytes": measured(found.input_bytes.value, f"mean JSON of {found.input_bytes.samples} inputs"),
        "output_bytes": measured(found.output_bytes.value, f"mean JSON of {found.output_bytes.samples} outputs"),
    }


def _profile(found: Measured, naming: Naming, source: str) -> Entry:
    means = {size: mean_of(seconds) for size, seconds in found.services_s.items()}
    table = {
        str(size): measured(m.value, f"mean of {m.samples} repeats, standard error {m.se:.2g} s; {source}")
        for size, m in means.items()
    }
    intercept, slope = line_figures(means)
    ratios = np.concatenate([np.array(seconds) / means[size].value for size, seconds in found.services_s.items()])
    loads = found.loads.seconds
    loaded = (
        f"import and construction, mean of {loads.samples} fresh processes, standard error {loads.se:.2g} s; {source}"
    )
    return {
        "variant": naming.variant,
        "pool": naming.pool,
        "service_intercept_s": intercept,
        "service_slope_s": slope,
        "service_by_batch_s": table,
        "service_shape": {
            "quantiles": shape_of(ratios),
            "measured": f"repeat / mean of its batch size, {ratios.size} repeats; {source}",
        },
        "batch_max": max(means),
        "concurrency": 1,
        "load_s": measured(loads.value, loaded),
        "swap_s": derived(loads.value, "as load_s: a swap starts a fresh process on a running machine"),
    }


def line_figures(means: Mapping[int, Estimate]) -> tuple[Entry, Entry]:
    """Intercept and slope, which stand for the sizes that were not measured."""
    if len(means) == 1:
        ((size, mean),) = means.items()
        per_item = mean.value / size
        return derived(0.0, "only one batch size was measured"), derived(per_item, "mean / batch size")
    line = line_through(means)
    return derived(line.intercept_s, line.text), derived(line.slope_s, line.text)
