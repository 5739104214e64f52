"""A scenario is one validated file; what contradicts its catalog or itself is refused before anything runs."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from controller.compile import compile_scenario
from controller.config import parse_config, read_yaml
from controller.errors import ConfigError, ScenarioError
from controller.scenario import FileTrace, Scenario, load_scenario

TINY = Path(__file__).resolve().parents[3] / "controller" / "scenarios" / "tiny.yaml"


@pytest.fixture
def raw() -> Any:
    """The tiny scenario as plain values, free to be broken."""
    return copy.deepcopy(read_yaml(TINY))


def parse(raw: Any) -> Scenario:
    return parse_config(raw, Scenario, source="s.yaml")


def refused(raw: Any, *parts: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(raw)
    for part in parts:
        assert part in str(caught.value)


def contradicts(raw: Any, *parts: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(raw).load_catalog()
    for part in parts:
        assert part in str(caught.value)


def test_a_scenario_is_found_by_name_and_by_path():
    assert load_scenario("tiny") == load_scenario(TINY)


def test_an_unknown_name_lists_the_shipped_scenarios():
    with pytest.raises(ScenarioError, match=r"'burst', 'default', 'demo'.*'twitter'.*got 'nope'"):
        load_scenario("nope")


def test_the_trace_is_chosen_by_kind(raw):
    raw["trace"] = {"kind": "file", "path": "$PROVISOR_DATA/x.npz", "source": "somewhere"}
    assert isinstance(parse(raw).trace, FileTrace)


def test_an_unknown_kind_of_trace_is_refused(raw):
    raw["trace"] = {"kind": "invented"}
    refused(raw, "trace.kind: expected one of 'generated', 'file', got 'invented'")


def test_a_file_says_where_it_is_published(raw):
    raw["trace"] = {"kind": "file", "path": "x.npz"}
    refused(raw, "trace.source: expected a value, got nothing")


@pytest.mark.parametrize(
    ("split", "days", "text"),
    [
        ("validation", [1, 2], "validation: expected days after 1 with first <= last, got 1:2"),
        ("test", [3, 2], "test: expected days after 2 with first <= last, got 3:2"),
        ("train", [0, 1], "train: expected days after 0 with first <= last, got 0:1"),
    ],
)
def test_splits_are_in_order_and_disjoint(raw, split, days, text):
    raw["splits"][split] = days
    refused(raw, text)


def test_splits_of_a_generated_trace_lie_within_it(raw):
    raw["splits"]["test"] = [3, 4]
    refused(raw, "splits.test: expected days up to 3 (trace.days), got 3:4")


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("mean_rps",), 0, "a number > 0.0"),
        (("mean_rps",), "50", "a number"),
        (("speed",), -1, "a number > 0.0"),
        (("control", "tick_s"), 0, "a number > 0.0"),
        (("control", "ticks_per_decision"), 0, "a number >= 1"),
        (("control", "routers"), 0, "a number >= 1"),
        (("control", "routers"), 17, "a number <= 16"),
        (("control", "routers"), 1.5, "a whole number"),
        (("simulator", "max_instances"), 9000, "a number <= 8192"),
        (("trace", "days"), 0, "a number >= 1"),
    ],
)
def test_a_number_outside_its_range_is_refused(raw, path, value, expected):
    inner = raw
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    refused(raw, f"{'.'.join(path)}: expected {expected}, got {value!r}")


def test_one_router_leaves_no_trace_in_a_journal_and_several_do(raw):
    for routers, dumped in ((1, {}), (3, {"routers": 3})):
        raw["control"] = {"routers": routers}
        scenario = parse(raw)
        found = scenario.model_dump(mode="json")["control"]
        assert {k: v for k, v in found.items() if k == "routers"} == dumped
        assert parse(scenario.model_dump(mode="json")).control.routers == routers


def test_poisson_arrivals_have_cv_one(raw):
    raw["arrivals"] = {"kind": "poisson", "cv": 2.0}
    refused(raw, "arrivals", "cv: expected 1 for Poisson arrivals, got 2.0")


def test_a_class_asks_from_a_known_site(raw):
    raw["workload"]["classes"][0]["source_site"] = "moon"
    contradicts(raw, "workload.classes[strict].source_site: expected one of ['here'], got 'moon'")


def test_an_operator_has_variants(raw):
    raw["workload"]["workflows"][0]["operators"] = ["translate"]
    contradicts(raw, "workload.workflows[classify].operators: expected one of ['classify'], got 'translate'")


def test_a_limit_names_a_known_pool(raw):
    raw["limits"] = {"pools": {"moon": {"max": 1}}}
    contradicts(raw, "limits.pools: expected one of", "got 'moon'")


@pytest.mark.parametrize("limit", [{"min": 3, "max": 2}, {"min": 21}])
def test_a_minimum_above_maximum_or_quota_is_refused(raw, limit):
    raw["limits"] = {"pools": {"spot": limit}}
    most = min(limit.get("max", 20), 20)
    contradicts(raw, f"limits.pools.spot: expected min <= max and quota ({most}), got min {limit['min']}")


def test_an_on_demand_floor_above_the_quota_is_refused(raw):
    raw["limits"] = {"on_demand_floor": 21}
    contradicts(raw, "limits.on_demand_floor: expected at most 20 (quota of on-demand pools), got 21")


def test_a_floor_the_budget_cannot_pay_is_refused(raw):
    # Five on-demand instances at 0.36 $/h cost 1.8 $/h.
    raw["limits"] = {"on_demand_floor": 5, "budget_usd_per_hour": 1.79}
    contradicts(raw, "limits.budget_usd_per_hour: expected at least 1.8", "got 1.79")
    raw["limits"]["budget_usd_per_hour"] = 1.81
    parse(raw).load_catalog()


def test_pool_minima_count_against_the_budget(raw):
    # Two on-demand (0.72) for the floor and ten spot (1.08) make 1.8 $/h.
    raw["limits"] = {"on_demand_floor": 2, "pools": {"spot": {"min": 10}}, "budget_usd_per_hour": 1.79}
    contradicts(raw, "limits.budget_usd_per_hour: expected at least 1.8", "got 1.79")


def test_an_on_demand_minimum_counts_against_the_budget(raw):
    # Six on-demand instances are asked for by the pool, two by the floor: the six already hold the two, 2.16 $/h.
    raw["limits"] = {"on_demand_floor": 2, "pools": {"on-demand": {"min": 6}}, "budget_usd_per_hour": 2.15}
    contradicts(raw, "limits.budget_usd_per_hour: expected at least 2.16", "got 2.15")
    raw["limits"]["budget_usd_per_hour"] = 2.17
    parse(raw).load_catalog()


def test_pool_minima_fit_the_simulator(raw):
    raw["simulator"]["max_instances"] = 8
    raw["limits"] = {"pools": {"spot": {"min": 9}}}
    contradicts(raw, "limits.pools: expected minima of at most 8 instances (simulator.max_instances), got 9")


def test_an_slo_that_no_option_meets_is_refused(raw):
    # The fastest single answer is small on a machine: 0.05 + 0.05 s.
    raw["workload"]["classes"][0]["slo_s"] = 0.09
    with pytest.raises(ScenarioError, match=r"classes\[strict\].slo_s: expected an option that answers within it"):
        compile_scenario(parse(raw))


def test_an_accuracy_no_variant_reaches_within_the_slo_is_refused(raw):
    # Within 0.4 s only the small variant (0.8) answers.
    raw["workload"]["classes"][0] |= {"slo_s": 0.4, "accuracy_floor": 0.85}
    with pytest.raises(ScenarioError, match=r"classes\[strict\].accuracy_floor: expected at most 0.8 .*got 0.85"):
        compile_scenario(parse(raw))


def test_a_catalog_file_is_looked_for_beside_the_scenario_first(tmp_path, monkeypatch):
    beside, here = tmp_path / "beside", tmp_path / "here"
    for folder in (beside, here):
        folder.mkdir()
        (folder / "own.yaml").touch()
    document = load_scenario("demo").model_dump(mode="json") | {"catalog": "own.yaml"}
    (beside / "scenario.yaml").write_text(json.dumps(document))
    monkeypatch.chdir(here)
    assert load_scenario(beside / "scenario.yaml").catalog == str(beside / "own.yaml")
    (beside / "own.yaml").unlink()
    assert load_scenario(beside / "scenario.yaml").catalog == "own.yaml"


def test_a_shipped_catalog_is_not_looked_for_beside_the_scenario(tmp_path):
    (tmp_path / "demo").touch()
    (tmp_path / "scenario.yaml").write_text(json.dumps(load_scenario("demo").model_dump(mode="json")))
    assert load_scenario(tmp_path / "scenario.yaml").catalog == "demo"


TIER = {
    "tolerance": 0.01,
    "objective": "cost",
    "variants": ["small", "large"],
    "thresholds": [0.8],
    "bound": 0.009,
    "confidence": 0.999,
}


def test_a_class_may_be_of_a_tier_and_classes_without_one_are_as_before(raw):
    assert "tier" not in parse(raw).model_dump()["workload"]["classes"][0]
    variants = [variant.name for variant in parse(raw).load_catalog().variants][:2]
    raw["workload"]["classes"][0]["tier"] = {**TIER, "variants": variants}
    scenario = parse(raw)
    scenario.load_catalog()
    tier = scenario.workload.classes[0].tier
    assert tier is not None
    assert list(tier.variants) == variants
    assert parse(scenario.model_dump(mode="json")) == scenario


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("thresholds", [], "thresholds: expected 1 (variants less one)"),
        ("variants", ["a", "a"], "variants: expected distinct names"),
        ("objective", "speed", "objective"),
        ("tolerance", -0.1, "tolerance"),
    ],
)
def test_a_tier_is_whole(raw, field, value, text):
    raw["workload"]["classes"][0]["tier"] = {**TIER, field: value}
    refused(raw, text)


def test_both_variants_of_two_begin_at_once_or_none(raw):
    raw["workload"]["classes"][0]["tier"] = {**TIER, "variants": ["small"], "thresholds": [], "is_concurrent": True}
    refused(raw, "is_concurrent: expected it of two variants")


def test_a_tier_is_of_variants_of_the_operator(raw):
    raw["workload"]["classes"][0]["tier"] = {**TIER, "variants": ["small", "no-such"]}
    contradicts(raw, "classes[", "tier.variants", "no-such")
