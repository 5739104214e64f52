"""The tiny catalog and scenario with a workflow of three operators, for tests of any package.

Small sees, medium hears, large fuses; zone a's machines stand at another site.
"""

from __future__ import annotations

from typing import Any

from controller.catalog import Catalog
from controller.compile import Setting, compile_scenario
from controller.config import parse_config
from controller.scenario import Scenario
from tests.tiny import SPOT_A, catalog_document, scenario_document

FAN_IN = [["see", "fuse", 1.0], ["hear", "fuse", 1.0]]
CHAIN = [["see", "hear", 1.0], ["hear", "fuse", 1.0]]
DIAMOND = [["see", "hear", 1.0], ["see", "fuse", 1.0], ["hear", "fuse", 1.0]]


def _link(source: str, target: str, delay_s: float, usd_per_gb: float) -> dict[str, Any]:
    figures = {"delay_s": delay_s, "bytes_per_s": 1e6, "usd_per_gb": usd_per_gb}
    return {"source": source, "target": target} | {
        name: {"value": value, "derived": "chosen for tests"} for name, value in figures.items()
    }


def documents(edges: list[Any], delay_s: float = 0.1, **of_class: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Catalog and scenario of three operators; zone a's machines stand at another site."""
    catalog = catalog_document()
    catalog["sites"].append({"name": "edge"})
    catalog["pools"][SPOT_A]["site"] = "edge"
    catalog["links"] = [_link("home", "edge", delay_s, 100.0), _link("edge", "home", 2 * delay_s, 90.0)]
    for variant, operator in zip(catalog["variants"], ("see", "hear", "fuse"), strict=True):
        variant["operator"] = operator
    size = {"max_instances": 48, "max_requests_held": 1024}
    scenario = scenario_document(simulator=size)
    scenario["workload"]["workflows"] = [{"name": "vision", "operators": ["see", "hear", "fuse"], "edges": edges}]
    for request_class in scenario["workload"]["classes"]:
        request_class |= {"accuracy_floor": 0.4, "slo_s": 500.0} | of_class
    return catalog, scenario


def flow_setting(edges: list[Any], delay_s: float = 0.1, **of_class: Any) -> Setting:
    """The compiled documents."""
    catalog, scenario = documents(edges, delay_s, **of_class)
    return compile_scenario(parse_config(scenario, Scenario, "flow"), parse_config(catalog, Catalog, "flow"))
