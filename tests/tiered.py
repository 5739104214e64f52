"""Classes with tiers on the tiny catalog, whose answers are few enough to count by hand.

Ten rows. `small` is sure (0.9) of six, all right, and unsure (0.2) of four, one of them right: 0.7. `medium` is right
in eight, `large` in nine and as sure of all as can be. So `small -> large` from 0.5 hands on 0.4 of the requests and is
right in nine of ten: as `large` alone.
"""

from __future__ import annotations

import functools
from typing import Any

from controller.catalog import Catalog
from controller.compile import Setting, compile_scenario
from controller.config import parse_config
from controller.scenario import Scenario
from tests.tiny import catalog_document, scenario_document

HANDED_ON = 0.4
RIGHT = 0.9
ROWS = {
    "variants": ["small", "medium", "large"],
    "confidence": [[0.9, 0.9, 1.0]] * 6 + [[0.2, 0.9, 1.0]] * 4,
    "right": [[1, 1, 1]] * 6 + [[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]],
    "derived": "chosen for tests",
}
CONTRACT = {"tolerance": 0.0, "objective": "cost", "bound": 0.0, "confidence": 0.999}
IN_TURN = CONTRACT | {"variants": ["small", "large"], "thresholds": [0.5]}
AT_ONCE = IN_TURN | {"is_concurrent": True}
ALONE = CONTRACT | {"variants": ["medium"], "tolerance": 0.1}


def request_class(name: str, share: float, tier: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A class as plain values; SLO of 1.5 s, floor of 0.7."""
    fields = {"name": name, "share": share, "source_site": "home", "workflow": "vision", "slo_s": 1.5}
    fields |= {"attainment_target": 0.95, "accuracy_floor": 0.7, **changes}
    return fields if tier is None else fields | {"tier": tier}


def tiered_setting(*classes: dict[str, Any], has_answers: bool = True, **changes: Any) -> Setting:
    """The tiny scenario at 50 requests/s with these classes; accuracies of the catalog are those of the rows."""
    document = scenario_document(simulator={"max_instances": 96, "max_requests_held": 2048}) | changes
    document["workload"]["classes"] = list(classes)
    catalog = catalog_document()
    for variant, accuracy in zip(catalog["variants"], (0.7, 0.8, 0.9), strict=True):
        variant["accuracy"] = {"value": accuracy, "derived": "share of right rows"}
    if has_answers:
        catalog["answers"] = ROWS
    scenario = parse_config(document, Scenario, "tiered scenario")
    return compile_scenario(scenario, parse_config(catalog, Catalog, "tiered catalog"))


@functools.cache
def mixed_setting() -> Setting:
    """A cascade in turn, one at once, one variant alone, and a plain class."""
    return tiered_setting(
        request_class("turn", 0.4, IN_TURN),
        request_class("once", 0.2, AT_ONCE),
        request_class("alone", 0.2, ALONE),
        request_class("plain", 0.2),
    )
