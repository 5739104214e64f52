import numpy as np
import pytest

from controller.errors import ConfigError
from controller.planners.workflow.compiled import Placement, checked, compile_problem, evaluate
from controller.planners.workflow.files import load_workflow_problem
from controller.planners.workflow.problem import EndToEnd, Selectivity, WorkerLink, WorkflowProblem
from tests.unit.controller.planners.workflow.problems import chain

# Axes in the order of compiled operators (detect, name) and of workers (edge-1, edge-2, cloud).
EDGE_THEN_CLOUD = np.array([[10.0, 0.0, 0.0], [0.0, 0.0, 10.0]])


def test_operators_come_after_their_inputs():
    assert [o.name for o in compile_problem(chain()).operators] == ["detect", "name"]


def test_cost_is_rent_and_traffic_to_a_higher_tier():
    cost = evaluate(compile_problem(chain()), Placement((0, 0), EDGE_THEN_CLOUD))
    assert cost.compute_usd_per_hour == pytest.approx(0.5 + 2.0)
    # A tenth of a GiB an hour from the edge to the cloud at $1.
    assert cost.communication_usd_per_hour == pytest.approx(0.1)
    assert cost.faults == ()


def test_messages_are_split_in_proportion_to_loads():
    load = np.array([[0.0, 4.0, 6.0], [0.0, 0.0, 10.0]])
    cost = evaluate(compile_problem(chain()), Placement((0, 0), load))
    # 6 of 10 images go from the source to the cloud; of what `detect` passes on, 4 of 10 parts do.
    assert cost.communication_usd_per_hour == pytest.approx(0.6 + 0.04)
    assert any("cloud: expected one operator" in fault for fault in cost.faults)


def test_traffic_to_a_lower_tier_is_a_fault():
    load = np.array([[0.0, 0.0, 10.0], [10.0, 0.0, 0.0]])
    assert "no traffic to a lower tier" in evaluate(compile_problem(chain()), Placement((0, 0), load)).faults[0]


@pytest.mark.parametrize(
    ("variants", "load", "fault"),
    [
        ((1, 0), EDGE_THEN_CLOUD, "detect on edge-1: expected at most 5"),
        ((0, 0), EDGE_THEN_CLOUD * 0.9, "detect: expected 10 requests/s in all, got 9"),
    ],
)
def test_a_placement_that_cannot_serve_is_refused(variants, load, fault):
    with pytest.raises(ConfigError, match=fault):
        checked(compile_problem(chain()), Placement(variants, load))


def test_accuracy_follows_the_tables_from_the_sources_on():
    instance = compile_problem(chain(accuracy_target=61.0))
    assert instance.accuracy((0, 0)) == 60.0
    assert instance.accuracy((1, 0)) == 75.0
    assert instance.combinations() == [(1, 0)]


def test_accuracy_between_samples_is_what_the_lower_one_promises():
    problem = chain().model_dump()
    problem["operators"][1]["variants"][1]["accuracy"][0]["accuracy"] = 79.0
    problem["operators"][1]["variants"][0]["accuracy"][0]["accuracy"] = 69.0
    instance = compile_problem(WorkflowProblem.model_validate(problem, strict=False))
    assert instance.accuracy((1, 0)) == 60.0
    assert instance.accuracy((0, 0)) == -np.inf


def test_measured_accuracy_of_the_whole_wins_over_tables():
    measured = (EndToEnd(variants={"detect": "large"}, accuracy=74.5),)
    instance = compile_problem(chain(end_to_end=measured))
    assert instance.accuracy((1, 0)) == 74.5
    assert instance.accuracy((0, 0)) == 60.0


def test_rate_is_the_least_that_the_inputs_pass_on():
    ratios = (Selectivity(source="detect", target="name", ratio=0.25),)
    assert compile_problem(chain(selectivities=ratios)).rate_rps.tolist() == [10.0, 2.5]


def test_the_link_that_names_both_ends_wins():
    links = (
        WorkerLink(source="edge", target="cloud", usd_per_gib=1.0),
        WorkerLink(source="edge-1", target="cloud", usd_per_gib=3.0),
        WorkerLink(source="camera", target="cloud", usd_per_gib=5.0),
    )
    instance = compile_problem(chain(links=links))
    assert instance.link_usd_per_gib[:, 2].tolist() == [3.0, 1.0, 0.0]
    assert instance.source_usd_per_gib.tolist() == [[0.0, 0.0, 5.0]]
    assert np.isinf(instance.link_usd_per_gib[2, 0])


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("workers", 0, "tier"), "fog", "expected one of .*'edge', 'cloud'.*, got 'fog'"),
        (("operators", 1, "inputs", 0), "microphone", "got 'microphone'"),
        (("operators", 0, "variants", 0, "latency_s", "edge-1"), 0.0, "expected seconds above 0, got 0"),
        (("messages", 0, "target"), "name", "expected an edge of the workflow, got camera -> name"),
        (("links", 0, "target"), "moon", "expected a tier or worker, got 'moon'"),
    ],
)
def test_a_wrong_field_is_named(path, value, message):
    problem = chain().model_dump()
    inner = problem
    for key in path[:-1]:
        if isinstance(inner[key], tuple):
            inner[key] = list(inner[key])
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(ValueError, match=message):
        WorkflowProblem.model_validate(problem, strict=False)


def test_a_problem_reads_back_from_yaml(tmp_path):
    import yaml

    path = tmp_path / "chain.yaml"
    path.write_text(yaml.safe_dump(chain().model_dump(mode="json")), encoding="utf-8")
    assert load_workflow_problem(path) == chain()
