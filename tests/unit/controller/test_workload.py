"""Who asks for what: shares sum to one, classes and workflows refer to each other, wrong promises are refused."""

import copy
from typing import Any

import pytest

from controller.config import parse_config
from controller.errors import ConfigError
from controller.workload import Workload

CLASSES = [
    {
        "name": name,
        "source_site": "here",
        "workflow": "classify",
        "share": share,
        "slo_s": 1.0,
        "attainment_target": 0.99,
        "accuracy_floor": 0.8,
    }
    for name, share in (("strict", 0.25), ("relaxed", 0.75))
]


@pytest.fixture
def raw() -> Any:
    """A valid workload as plain values, free to be broken."""
    return copy.deepcopy({"workflows": [{"name": "classify", "operators": ["classify"]}], "classes": CLASSES})


def refused(raw: Any, *parts: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(raw, Workload, source="w.yaml")
    for part in parts:
        assert part in str(caught.value)


def test_a_class_says_the_least_and_gets_documented_defaults(raw):
    strict = parse_config(raw, Workload, source="w.yaml").classes[0]
    assert (strict.floor, strict.value_usd, strict.queue_limit, strict.drop_at_deadline) == ("mean", 0.0, 2000, True)


def test_shares_that_do_not_sum_to_one_are_refused_with_their_sum(raw):
    raw["classes"][0]["share"] = 0.5
    refused(raw, "classes: expected shares that sum to 1, got 1.25")


def test_class_names_are_distinct(raw):
    raw["classes"][1]["name"] = "strict"
    refused(raw, "classes: expected distinct names, got ['strict', 'strict']")


def test_a_class_runs_a_known_workflow(raw):
    raw["classes"][0]["workflow"] = "translate"
    refused(raw, "classes[strict].workflow: expected one of ['classify'], got 'translate'")


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("slo_s", 0, "a number > 0.0"),
        ("slo_s", -1.5, "a number > 0.0"),
        ("attainment_target", 1, "a number < 1.0"),
        ("attainment_target", 0, "a number > 0.0"),
        ("accuracy_floor", 1.2, "a number <= 1.0"),
        ("share", 0, "a number > 0.0"),
        ("value_usd", -0.01, "a number >= 0.0"),
        ("queue_limit", 0, "a number >= 1"),
        ("floor", "median", "text matching ^(mean|each)$"),
        ("slo_s", "fast", "a number"),
    ],
)
def test_a_promise_outside_its_range_is_refused(raw, field, value, expected):
    raw["classes"][0][field] = value
    refused(raw, f"classes[0].{field}: expected {expected}, got {value!r}")


def test_edges_join_operators_of_the_workflow(raw):
    raw["workflows"][0]["edges"] = [["classify", "describe", 1.0]]
    refused(raw, "workflows[0]", "edges: expected one of ['classify'], got 'describe'")


def test_an_edge_passes_something_on(raw):
    raw["workflows"][0] = {"name": "classify", "operators": ["a", "b"], "edges": [["a", "b", 0.0]]}
    refused(raw, "edges[a -> b]: expected a selectivity above 0, got 0.0")


def test_workflow_names_are_distinct(raw):
    raw["workflows"].append(copy.deepcopy(raw["workflows"][0]))
    refused(raw, "workflows: expected distinct names, got ['classify', 'classify']")


def test_a_workload_has_classes(raw):
    raw["classes"] = []
    refused(raw, "classes")
