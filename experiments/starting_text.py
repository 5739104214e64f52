"""The starting files as text: YAML with a comment on every line that holds something unknown."""

from __future__ import annotations

from typing import Any

import yaml

from experiments.catalog_figures import to_yaml
from experiments.placeholders import MARK
from experiments.starting_files import StartingFiles

_SCENARIO_COMMENTS = {
    "slo_s:": "ask: the latency you promise, seconds",
    "attainment_target:": "ask: the share of requests that must keep it",
    "accuracy_floor:": "ask: the accuracy you promise, on the mean; 0 promises none",
    "mean_rps:": "measure: requests/s of your traffic",
    "kind: generated": "a recorded trace of yours: {kind: file, path: ..., source: ...}",
    "tick_s:": "seconds between decisions",
    "limits:": "budget_usd_per_hour, on_demand_floor, and min and max of each pool",
}
_MAPPING_COMMENTS = {
    "method:": "the method that takes an input; one that takes an HTTP request cannot be called",
    "input:": "batch, where the method takes a list of inputs and returns as many outputs",
}


def catalog_text(files: StartingFiles) -> str:
    """The catalog: each placeholder with what to do about it."""
    header = (
        f"# What application '{files.mapping['app']}' runs on, read from its cluster by `provisor init --from-serve`.\n"
        "# Figures that begin with 'placeholder' are not known: every line with '# measure' or '# ask' wants one.\n"
        "# Measure with: provisor profile --attach mapping.yaml --address HOST:PORT --input FILE.json --force\n"
    )
    return commented_catalog(files.catalog, header)


def commented_catalog(catalog: dict[str, Any], header: str) -> str:
    """A catalog as YAML, with a comment behind every placeholder."""
    lines = to_yaml(catalog, header).splitlines()
    return "".join(f"{line}  # {_remedy(line)}\n" if f'"{MARK}: ' in line else f"{line}\n" for line in lines)


def _remedy(line: str) -> str:
    if "provisor profile" in line:
        return "measure: provisor profile"
    return "ask: your provider" if "provider" in line else "ask: fill in"


def scenario_text(files: StartingFiles) -> str:
    """The scenario: promises and traffic are yours to say."""
    header = (
        "# Who asks for what, and what they are promised. Nothing here was read from a cluster: it is a form to be\n"
        "# filled in. Try it: provisor simulate ./scenario.yaml --policy mpc\n"
    )
    return header + _commented(files.scenario, _SCENARIO_COMMENTS)


def mapping_text(files: StartingFiles) -> str:
    """The mapping of deployments to options."""
    header = (
        "# Which deployments are which variants on which pools. Try it without acting:\n"
        "#   provisor serve --attach mapping.yaml --address HOST:PORT --dry-run\n"
        "# Further keys: `control: {LABEL: VALUE}`, where router and controller must run, such as on the head node.\n"
    )
    notes = "".join(f"# Note: {note}.\n" for note in files.notes)
    return header + notes + _commented(files.mapping, _MAPPING_COMMENTS)


def _commented(document: dict[str, Any], comments: dict[str, str]) -> str:
    """YAML in which the first line that holds a key is followed by its comment."""
    left = dict(comments)
    lines = []
    for line in yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120).splitlines():
        key = next((key for key in left if line.strip().removeprefix("- ").startswith(key)), None)
        lines.append(line if key is None else f"{line}  # {left.pop(key)}")
    return "\n".join(lines) + "\n"
