"""`provisor plan`, as a user calls it."""

import json

import pytest
import yaml

from controller import cli
from controller.arrays import empty_observation
from controller.compile import compile_scenario
from controller.policies.registry import make_policy
from controller.scenario import load_scenario
from tests.unit.controller.planners.geo.problems import two_sites
from tests.unit.controller.planners.workflow.problems import chain


@pytest.fixture
def workflow(tmp_path):
    path = tmp_path / "workflow.yaml"
    path.write_text(yaml.safe_dump(chain().model_dump(mode="json")), encoding="utf-8")
    return str(path)


@pytest.fixture
def regions(tmp_path):
    path = tmp_path / "regions.yaml"
    path.write_text(yaml.safe_dump(two_sites(0.2).model_dump(mode="json")), encoding="utf-8")
    return str(path)


def values(capsys, *arguments):
    assert cli.main(["plan", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("planner", ["exact", "fast", "published"])
def test_a_workflow_is_placed_and_priced_by_term(capsys, workflow, planner):
    plan = values(capsys, "jellybean", workflow, "--planner", planner)
    assert plan["planner"] == planner
    assert plan["total_usd_per_hour"] == pytest.approx(
        plan["compute_usd_per_hour"] + plan["communication_usd_per_hour"]
    )
    assert [one["operator"] for one in plan["operators"]] == ["detect", "name"]
    loads = [sum(worker["load_rps"] for worker in one["workers"]) for one in plan["operators"]]
    assert loads == pytest.approx([10.0, 10.0])
    assert (plan["bound_usd_per_hour"] is not None) == (planner == "exact")


def test_why_tells_what_other_choices_would_cost(capsys, workflow):
    plan = values(capsys, "jellybean", workflow)
    why = {one["instead"]: one["total_usd_per_hour"] for one in plan["why"]}
    # Large `detect` needs both edge workers, and `name` then runs in the cloud: as in the planners' own tests.
    assert why["detect by large"] == pytest.approx(2.9)
    assert why["all cloud"] is None
    assert why["most accurate"] >= plan["total_usd_per_hour"]


def test_a_workflow_is_shown_as_text(capsys, workflow):
    assert cli.main(["plan", "jellybean", workflow, "--target", "75"]) == 0
    told = capsys.readouterr().out
    assert "detect by large, 10 requests/s" in told
    assert "compute 2.80000 + communication 0.10000 = 2.90000 $/h" in told
    assert "within 0.0000 % of the least possible" in told
    assert "detect by small" in told


def test_a_target_out_of_reach_is_a_failure_that_says_so(capsys, workflow):
    assert cli.main(["plan", "jellybean", workflow, "--target", "99"]) == 1
    assert "expected a placement of accuracy 99 or more, found none" in capsys.readouterr().err


@pytest.mark.parametrize("planner", ["fast", "exact", "greedy"])
def test_regions_are_planned_and_priced_by_term(capsys, regions, planner):
    plan = values(capsys, "a2", regions, "--planner", planner)
    assert plan["total_usd_per_hour"] == pytest.approx(15.0)
    assert plan["compute_usd_per_hour"] == pytest.approx(10.0)
    assert plan["regions"][0]["served"] == [{"site": "far", "model": "large", "data": "little", "share": 1.0}]
    assert plan["instances"] == [
        {"site": "far", "model": "large", "count": 20, "busy": pytest.approx(20.0), "usd_per_hour": 10.0}
    ]
    # Small on full data: 10 instances at $0.5 and 100 GB at $0.2.
    assert {one["instead"]: one["total_usd_per_hour"] for one in plan["why"]}["model only"] == pytest.approx(25.0)


def test_regions_are_shown_as_text(capsys, regions):
    assert cli.main(["plan", "a2", regions]) == 0
    told = capsys.readouterr().out
    assert "100.00 %  little to large at far" in told
    assert "compute 10.00000 + egress 5.00000 = 15.00000 $/h" in told
    assert "rounding proved to cost below" in told


def test_a_missing_config_is_named(capsys, tmp_path):
    assert cli.main(["plan", "a2", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml: expected a readable YAML file" in capsys.readouterr().err


def test_a_plan_is_deployed_only_with_a_model_for_each_variant(capsys, workflow, tmp_path):
    assert cli.main(["plan", "jellybean", workflow, "--deploy"]) == 2
    assert "--models: expected a YAML file" in capsys.readouterr().err
    models = tmp_path / "models.yaml"
    models.write_text("models: {detect.small: 'my:model'}\n")
    assert cli.main(["plan", "jellybean", workflow, "--deploy", "--models", str(models)]) == 2
    assert "expected 'name.default' among models" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["jellybean", "a2"])
def test_a_plan_comes_with_the_files_of_its_control_loop(kind, workflow, regions, tmp_path):
    folder = tmp_path / "loop"
    config = workflow if kind == "jellybean" else regions
    assert cli.main(["plan", kind, config, "--scenario-out", str(folder)]) == 0
    setting = compile_scenario(load_scenario(folder / "scenario.yaml"))
    policy = make_policy(str(folder / "policy.yaml"), setting)
    plan = policy.decide(empty_observation(1, setting.shape))
    assert plan.replicas.sum() > 0
    assert plan.fixed_shares.all()
