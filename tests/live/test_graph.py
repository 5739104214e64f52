"""A workflow's placement as a Serve graph on labelled nodes: real models, whole answers, loads as placed."""

import asyncio
import math

import httpx
import numpy as np
import pytest

from controller.planners.workflow.compiled import compile_problem, evaluate
from controller.planners.workflow.exact import plan_exact
from experiments.placement.graph_run import ask, deployed, graph_of
from experiments.placement.two_views import two_views_problem, unseen
from serving import ray_compat
from serving.cluster import child_processes
from serving.graph import GRAPH_APP
from serving.nodes import POOL_LABEL
from serving.two_views import as_input
from tests.live.conftest import free_port

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(280),
    # Nodes that have joined are known by their labels; the handle of the process that started one is let go.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

RATE_RPS = 6.0
"""Few enough for three or four nodes: each takes seconds to start."""

COUNT = 48


@pytest.fixture(scope="module")
def instance():
    return compile_problem(two_views_problem(RATE_RPS))


@pytest.fixture(scope="module")
def placement(instance):
    return plan_exact(instance).placement


@pytest.fixture(scope="module")
def cluster(instance, placement, tmp_path_factory):
    before = child_processes()
    with deployed(graph_of(instance, placement), free_port(), tmp_path_factory.mktemp("nodes")) as cluster:
        yield cluster
    assert child_processes() <= before


@pytest.fixture(scope="module")
def answers(cluster):
    images, digits = unseen()
    found = asyncio.run(ask(cluster.url, [as_input(image.tolist()) for image in images[:COUNT]], 0.8 * RATE_RPS))
    return found, digits[:COUNT]


def test_the_graph_is_as_accurate_on_unseen_images_as_the_placement_counts_on(instance, placement, answers):
    found, digits = answers
    planned = evaluate(instance, placement).accuracy / 100.0
    right = float((np.array(found.outputs) == digits).mean())
    # Three standard errors.
    assert right >= planned - 3 * math.sqrt(planned * (1 - planned) / COUNT)


def test_each_operator_is_served_by_its_workers_in_proportion_to_their_loads(instance, placement, answers):
    found, _ = answers
    for v, operator in enumerate(instance.operators):
        by_worker = found.served[operator.name]
        loads = {instance.problem.workers[w].name: placement.load_rps[v, w] for w in placement.workers_of(v)}
        assert set(by_worker) <= set(loads)
        for worker, load_rps in loads.items():
            assert by_worker.get(worker, 0) == pytest.approx(COUNT * load_rps / instance.rate_rps[v], abs=1)
        assert found.variants[operator.name] == operator.variants[placement.variants[v]].name


def test_replicas_run_on_nodes_with_their_workers_label(cluster, instance, placement):
    import ray

    labels = {node["NodeID"]: node["Labels"].get(POOL_LABEL) for node in ray.nodes()}
    states = asyncio.run(ray_compat.replica_states(ray_compat.serve_controller(), GRAPH_APP))
    placed = {(s.deployment, labels[s.node_id]) for s in states if "--" in s.deployment}
    assert placed == {
        (f"{operator.name}--{instance.problem.workers[w].name}", instance.problem.workers[w].name)
        for v, operator in enumerate(instance.operators)
        for w in placement.workers_of(v)
    }


def test_a_request_takes_what_its_slowest_way_takes(instance, placement, answers):
    found, _ = answers
    slowest_s = [
        min(1.0 / instance.capacity_rps[v][m][w] for w in placement.workers_of(v))
        for v, m in enumerate(placement.variants)
    ]
    # Both views side by side, then the fusion.
    assert min(found.latency_s) >= max(slowest_s[:2]) + slowest_s[2]


def test_a_request_without_one_of_the_views_is_refused(cluster):
    image = as_input(unseen()[0][0].tolist())
    response = httpx.post(cluster.url, json={"input": {"camera-upper": image["camera-upper"]}}, timeout=30)
    assert response.status_code == 422
    assert "camera-lower" in response.json()["detail"]
