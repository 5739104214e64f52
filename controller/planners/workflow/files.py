"""Readers of workflow problems: our YAML, and the optimiser's input files that JellyBean's authors published.

Of the latter, the accuracy pickle is read as JSON, and communication cost factors are scaled as their configuration
says, which makes them $ per GiB.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from controller.config import load_yaml, parse_config, read_yaml
from controller.errors import ConfigError
from controller.planners.workflow.problem import WorkflowProblem

_EXECUTION = {"mean": "execution_profile.csv", **{q: f"execution_profile_{q}.csv" for q in ("p50", "p75", "p90")}}


def load_workflow_problem(path: Path | str) -> WorkflowProblem:
    """The problem of a YAML file, or of a folder of the files that JellyBean's authors published.

    Raises:
        ConfigError: A file is missing or has a wrong field.
    """
    return read_published(Path(path)) if Path(path).is_dir() else load_yaml(path, WorkflowProblem)


def read_published(folder: Path, latency: str = "mean") -> WorkflowProblem:
    """The problem that a folder of the authors' files states.

    Args:
        folder: With `workers_specs.csv` and the rest.
        latency: Statistic of the execution profile: `mean`, `p50`, `p75` or `p90`.

    Raises:
        ConfigError: A file is missing, or holds something else.
    """
    scaling = float(_mapping(read_yaml(folder / "config.yaml"), folder)["INPUT"]["COMM_COST_SCALING_FACTOR"])
    profile = _json(folder / "accuracy_profile.json")
    asked = _json(folder / "accuracy_requirement.json")
    sources = {name: float(rate) for name, rate in _rows(folder / "input_injection_rates.csv", 2)}
    edges = _rows(folder / "logical_graph.csv", 2)
    tiers = _json(folder / "workers_partition.json")
    tier_of = {worker: f"tier-{rank}" for rank, workers in enumerate(tiers) for worker in workers}
    seconds: dict[tuple[str, str], dict[str, float]] = {}
    for operator, worker, variant, latency_ms in _rows(folder / _EXECUTION[latency], 4):
        seconds.setdefault((operator, variant), {})[worker] = float(latency_ms) / 1000.0
    links = _rows(folder / "workers_workers_link.csv", 3) + _rows(folder / "sources_workers_link.csv", 3)
    document = {
        "name": folder.name,
        "accuracy_target": float(asked["threshold"]),
        "sources": [{"name": name, "rate_rps": rate} for name, rate in sources.items()],
        "operators": [_operator(one, edges, sources, seconds) for one in profile["per_operator_profiles"]],
        "messages": [
            {"source": u, "target": v, "source_variant": a, "target_variant": b, "kib": float(kib)}
            for u, v, a, b, kib in _rows(folder / "message_sizes.csv", 5)
        ],
        "selectivities": [
            {"source": u, "target": v, "ratio": float(ratio)}
            for u, v, ratio in _rows(folder / "throughput_normalization_ratios.csv", 3)
        ],
        "tiers": [f"tier-{rank}" for rank in range(len(tiers))],
        "workers": [
            {"name": name, "tier": tier_of[name], "usd_per_hour": float(price)}
            for name, price in _rows(folder / "workers_specs.csv", 2)
        ],
        "links": [{"source": u, "target": v, "usd_per_gib": scaling * float(cost)} for u, v, cost in links],
        "end_to_end": _end_to_end(profile.get("end_to_end_profile")),
    }
    return parse_config(document, WorkflowProblem, str(folder))


def _operator(
    profile: dict[str, Any],
    edges: list[list[str]],
    sources: dict[str, float],
    seconds: dict[tuple[str, str], dict[str, float]],
) -> dict[str, Any]:
    name = profile["op_name"]
    given = [u for u, v in edges if v == name]
    upstream = [u for u in given if u not in sources]
    # Samples list accuracies in the order of the profile's own inputs.
    order = [(profile["inputs"] or []).index(u) for u in upstream]
    return {
        "name": name,
        "inputs": given,
        "weight": profile["weight"],
        "variants": [
            {
                "name": variant,
                "selection_cost": profile["cost_profile"][variant],
                "accuracy": [{"inputs": [s["inputs"][i] for i in order], "accuracy": s["accuracy"]} for s in samples],
                "latency_s": seconds.get((name, variant), {}),
            }
            for variant, samples in profile["acc_profile"].items()
        ],
    }


def _end_to_end(profile: dict[str, Any] | None) -> list[dict[str, Any]]:
    if profile is None:
        return []
    return [
        {"variants": dict(zip(profile["operators"], key.split("|"), strict=True)), "accuracy": accuracy}
        for key, accuracy in profile["acc_profile"].items()
    ]


def _rows(path: Path, columns: int) -> list[list[str]]:
    """Rows of a file without a header; a trailing comma, as one of the published rows has, is dropped."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.reader(stream) if row]
    except OSError as error:
        raise ConfigError(f"{path}: expected a readable CSV file, got: {error.strerror or error}") from error
    for number, row in enumerate(rows, 1):
        if len(row) < columns or any(row[columns:]):
            raise ConfigError(f"{path} row {number}: expected {columns} columns, got {len(row)}")
    return [row[:columns] for row in rows]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: expected a readable JSON file, got: {error}") from error


def _mapping(value: object, folder: Path) -> dict[str, Any]:
    if not isinstance(value, dict) or "INPUT" not in value:
        raise ConfigError(f"{folder / 'config.yaml'}: expected a mapping with INPUT, got {type(value).__name__}")
    return value
