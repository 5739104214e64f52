"""The files with which a placement runs in the control loop: catalog, scenario, problem and policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from controller.compile import Setting
from controller.planners.geo.problem import GeoProblem
from controller.planners.workflow.problem import WorkflowProblem

CATALOG, SCENARIO, PROBLEM, POLICY = "catalog.yaml", "scenario.yaml", "problem.yaml", "policy.yaml"


def write_loop_files(setting: Setting, problem: GeoProblem | WorkflowProblem, kind: str, directory: Path) -> list[Path]:
    """Writes what `--scenario` and `--policy` take; its requests are steady, at the problem's rates.

    Args:
        setting: That states the problem.
        problem: Of the policy.
        kind: Of the policy.
        directory: For the files.
    """
    scenario = setting.scenario.model_copy(update={"catalog": CATALOG})
    policy = {"kind": kind, "settings": {"problem": str(directory / PROBLEM)}}
    contents: dict[str, dict[str, Any]] = {
        CATALOG: setting.source.model_dump(mode="json"),
        SCENARIO: scenario.model_dump(mode="json"),
        PROBLEM: problem.model_dump(mode="json"),
        POLICY: policy,
    }
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (directory / name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return [directory / name for name in contents]
