"""The catalog and scenario that fits lead to: fitted figures with their provenance, all others as they were."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from controller.catalog import Catalog
from controller.config import parse_config
from controller.errors import UsageError
from controller.scenario import Scenario
from experiments.calibration import GAP_CV, RATE, Fit
from experiments.catalog_derivation import Entry
from experiments.catalog_figures import to_yaml
from experiments.journal_samples import Source

_POISSON_SES = 2.0
# A CV this near to 1, in standard errors, is taken for that of Poisson arrivals.
_SECTIONS = {"profiles": ("variant", "pool"), "pools": ("name",), "variants": ("name",)}


def document_of(catalog: Catalog) -> Entry:
    """A catalog as plain values, without the defaults that its file left out."""
    document: Entry = catalog.model_dump(mode="json", exclude_unset=True)
    return document


def calibrated(catalog: Catalog, fits: Sequence[Fit]) -> Entry:
    """The catalog with every fitted figure in its place, as plain values.

    Raises:
        ConfigError: The figures make no valid catalog.
    """
    document: dict[str, Any] = document_of(catalog)
    for fit in fits:
        if fit.place is None or fit.entry is None:
            continue
        section, item, *path = fit.place
        where = next(one for one in document[section] if " on ".join(one[key] for key in _SECTIONS[section]) == item)
        for key in path[:-1]:
            where = where.setdefault(key, {})
        where[path[-1]] = fit.entry
    parse_config(document, Catalog, "calibrated catalog")
    return document


def calibrated_yaml(catalog: Catalog, fits: Sequence[Fit], sources: Sequence[Source]) -> str:
    """Text of the calibrated catalog."""
    lines = [f"# Written by `provisor calibrate` from catalog '{catalog.name}' and these live journals:"]
    lines += [f"#   {s.name}, {s.windows} windows, sha256 {s.sha256}" for s in sources]
    lines += [f"# {text}" for text in arrival_lines(fits)]
    lines += ["# Figures that the journals do not show are those of the catalog."]
    return to_yaml(calibrated(catalog, fits), "\n".join(lines) + "\n")


def arrival_lines(fits: Sequence[Fit]) -> list[str]:
    """The arrival model in words: it belongs to a scenario, not to a catalog."""
    lines = []
    for fit in fits:
        if fit.what in (RATE, GAP_CV) and fit.found is not None:
            unit = " requests/s" if fit.what == RATE else ""
            lines.append(f"Measured {fit.what}: {fit.found.value:.5g}{unit}, standard error {fit.found.se:.2g}.")
    return lines


def calibrated_scenario(fits: Sequence[Fit], sources: Sequence[Source], catalog_path: Path, path: Path) -> str:
    """Text of the first journal's scenario with the calibrated catalog and the measured arrivals, at speed 1.

    Raises:
        ConfigError: The arrivals are none that a scenario takes.
    """
    scenario: dict[str, Any] = sources[0].scenario.model_dump(mode="json", exclude_unset=True)
    beside = os.path.relpath(catalog_path.resolve(), path.resolve().parent)
    # With the folder it is a path whatever its ending; without, it might name a shipped catalog.
    scenario |= {"catalog": f"./{beside}", "speed": 1.0}
    scenario.pop("measured", None)  # at the run's speed
    for fit in fits:
        if fit.found is None:
            continue
        if fit.what == RATE:
            scenario["mean_rps"] = float(f"{fit.found.value:.5g}")
        elif fit.what == GAP_CV and fit.found.value > 0:
            is_poisson = abs(fit.found.value - 1) <= _POISSON_SES * fit.found.se
            arrivals = {"kind": "poisson"} if is_poisson else {"kind": "gamma", "cv": float(f"{fit.found.value:.5g}")}
            smooth = {k: v for k, v in scenario.get("arrivals", {}).items() if k == "smooth_s"}
            scenario["arrivals"] = arrivals | smooth
    parse_config(scenario, Scenario, "calibrated scenario")
    header = [f"# Written by `provisor calibrate` from the scenario of {sources[0].name}."]
    header += [f"# {text}" for text in arrival_lines(fits)]
    header += ["# mean_rps is the mean over the journals' windows: part of a day gives the rate of that part."]
    return "\n".join(header) + "\n" + yaml.safe_dump(scenario, sort_keys=False, allow_unicode=True, width=120)


def require_new(path: Path, option: str, is_forced: bool) -> None:
    """Refuses to write over a file.

    Raises:
        UsageError: It exists, and this was not asked for.
    """
    if path.is_dir() or (path.exists() and not is_forced):
        hint = "" if path.is_dir() else " (--force replaces it)"
        raise UsageError(f"{option}: expected a file that does not exist yet, got '{path}'{hint}")


def write_whole(path: Path, text: str) -> None:
    """Writes a file at once, or not at all.

    Raises:
        UsageError: The place cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise UsageError(f"{path}: expected a file that can be written, got: {error.strerror or error}") from error
