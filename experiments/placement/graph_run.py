"""A workflow's placement deployed: a Ray Serve graph whose operators run on local nodes with their workers' labels."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from controller.config import StrictModel, load_yaml
from controller.errors import RunError, UsageError, mismatch
from controller.planners.workflow.compiled import Instance, Placement, evaluate
from controller.planners.workflow.plan import slug
from experiments.placement.two_views import reference, unseen
from serving.bring_your_own import ModelSpec
from serving.two_views import as_input

if TYPE_CHECKING:
    from serving.cluster import Cluster
    from serving.graph import GraphOperator

_NODES_S, _ANSWER_S = 120.0, 60.0
_POLL_S = 0.1
_LANES = 8

Reference = Callable[[str, str], str]
"""From operator and variant to `module:callable`."""


def graph_of(instance: Instance, placement: Placement, named: Reference = reference) -> list[GraphOperator]:
    """The operators of a placement with the workers that serve them, and how long a request takes of each.

    Args:
        instance: The problem.
        placement: Of it.
        named: The model of an operator's variant.
    """
    from serving.graph import GraphOperator, GraphWorker

    operators = []
    for v, m in enumerate(placement.variants):
        operator = instance.operators[v]
        variant = operator.variants[m].name
        operators.append(
            GraphOperator(
                name=slug(operator.name),
                variant=variant,
                inputs=tuple(slug(name) for name in operator.inputs),
                model=ModelSpec(slug(f"{operator.name}.{variant}"), reference=named(operator.name, variant)),
                workers=tuple(
                    GraphWorker(
                        name=slug(instance.problem.workers[w].name),
                        share=float(placement.load_rps[v, w] / instance.rate_rps[v]),
                        service_s=float(1.0 / instance.capacity_rps[v][m][w]),
                    )
                    for w in placement.workers_of(v)
                ),
            )
        )
    return operators


@contextmanager
def deployed(operators: list[GraphOperator], port: int, folder: Path) -> Iterator[Cluster]:
    """A private Ray with a labelled node for every worker, the graph on it; nothing is left behind.

    Args:
        operators: Of the placement.
        port: For HTTP.
        folder: For the nodes' output.

    Raises:
        RunError: A node does not join in time.
    """
    from ray import serve

    from serving.cluster import start_cluster
    from serving.graph import GRAPH_APP, build_graph

    cluster = start_cluster({}, port, has_local_nodes=True)
    try:
        asyncio.run(_nodes({worker.name for one in operators for worker in one.workers}, folder))
        serve.run(build_graph(operators), name=GRAPH_APP, route_prefix="/")
        yield cluster
    finally:
        # The nodes are children of this process, and end with its Ray.
        cluster.close(GRAPH_APP)


async def _nodes(workers: set[str], folder: Path) -> None:
    import ray

    from serving.local_nodes import LocalNodes

    owner = LocalNodes(ray.get_runtime_context().gcs_address, f"graph-{uuid.uuid4().hex[:8]}", folder)
    end_s = time.monotonic() + _NODES_S
    while True:
        report = await owner.follow(dict.fromkeys(workers, 1), frozenset())
        missing = sorted(name for name in workers if not report.alive.get(name))
        if not missing:
            return
        if time.monotonic() > end_s:
            raise RunError(f"no node of {missing} joined within {_NODES_S:g} s")
        await asyncio.sleep(_POLL_S)


class GraphModels(StrictModel):
    """Models of a graph."""

    models: dict[str, str] = Field(min_length=1, description="operator.variant to module:callable")


@dataclass(frozen=True)
class LiveAnswers:
    """What a graph answered.

    Attributes:
        outputs: In the order of the requests.
        latency_s: Of each.
        served: By operator and worker, requests.
        variants: By operator.
    """

    outputs: list[Any]
    latency_s: list[float]
    served: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    variants: Mapping[str, str] = field(default_factory=dict)


async def ask(url: str, inputs: list[Mapping[str, Any]], rate_rps: float) -> LiveAnswers:
    """Sends requests at an even rate and waits for all answers.

    Raises:
        RunError: One has no answer.
    """
    import httpx

    began_s = time.monotonic()
    lanes = asyncio.Semaphore(_LANES)

    async def one(client: httpx.AsyncClient, n: int) -> tuple[dict[str, Any], float]:
        await asyncio.sleep(max(0.0, began_s + n / rate_rps - time.monotonic()))
        async with lanes:
            sent_s = time.monotonic()
            response = await client.post("/", json={"input": inputs[n]})
        if response.status_code != 200:
            raise RunError(f"request {n}: expected an answer, got {response.status_code}: {response.text[:200]}")
        return response.json(), time.monotonic() - sent_s

    async with httpx.AsyncClient(base_url=url, timeout=_ANSWER_S) as client:
        answers = await asyncio.gather(*(one(client, n) for n in range(len(inputs))))
    served: dict[str, dict[str, int]] = {}
    variants: dict[str, str] = {}
    for body, _ in answers:
        for operator, by in body["served"].items():
            of_operator = served.setdefault(operator, {})
            of_operator[by["worker"]] = of_operator.get(by["worker"], 0) + 1
            variants[operator] = by["variant"]
    return LiveAnswers([body["output"] for body, _ in answers], [s for _, s in answers], served, variants)


def serve_placement(
    instance: Instance,
    placement: Placement,
    models: str | None,
    count: int | None,
    port: int,
    say: Callable[[str], None],
) -> None:
    """Serves a placement until it is interrupted, or until a number of requests of the mini-workflow is answered.

    Args:
        instance: The problem.
        placement: Of it.
        models: YAML file that names the model of every `operator.variant`; None for the mini-workflow, which has its
            own.
        count: Requests of the mini-workflow to send.
        port: For HTTP.
        say: Prints a line.

    Raises:
        UsageError: Models are missing.
    """
    named = reference if models is None else _named(models, instance, placement)
    with (
        TemporaryDirectory(prefix="pv-graph-") as folder,
        deployed(graph_of(instance, placement, named), port, Path(folder)) as cluster,
    ):
        say(f"serving {instance.problem.name} at {cluster.url}")
        if models is None and count is not None:
            accuracy = evaluate(instance, placement).accuracy
            show_two_views(cluster.url, count, float(instance.rate_rps.min()) / 2.0, accuracy, say)
            return
        while True:
            time.sleep(1.0)


def _named(models: str, instance: Instance, placement: Placement) -> Reference:
    """What a file says of models."""
    if not models:
        raise UsageError("--models: expected a YAML file with module:callable by operator.variant, got none")
    found = load_yaml(models, GraphModels).models
    for operator, m in zip(instance.operators, placement.variants, strict=True):
        key = f"{operator.name}.{operator.variants[m].name}"
        if key not in found:
            raise UsageError(mismatch("--models", f"'{key}' among models", sorted(found)))
    return lambda operator, variant: found[f"{operator}.{variant}"]


def show_two_views(url: str, count: int, rate_rps: float, accuracy: float, say: Callable[[str], None]) -> None:
    """Sends images that nothing was made from, and says how they were answered and by whom.

    Args:
        url: Of the graph.
        count: Requests.
        rate_rps: At which they are sent.
        accuracy: That the placement counts on, in %.
        say: Prints a line.
    """
    images, digits = unseen()
    chosen = np.arange(count) % len(images)
    found = asyncio.run(ask(url, [as_input(images[i].tolist()) for i in chosen], rate_rps))
    right = np.array(found.outputs) == digits[chosen]
    error = 100.0 * float(np.sqrt(max(right.mean() * (1 - right.mean()), 1e-4) / min(count, len(images))))
    say(
        f"{count} unseen images: {100 * right.mean():.2f} % right (standard error {error:.2f}), {accuracy:.2f} % "
        f"planned; median {1e3 * float(np.median(found.latency_s)):.0f} ms"
    )
    for operator, by_worker in found.served.items():
        told = ", ".join(f"{worker} {number}" for worker, number in sorted(by_worker.items()))
        say(f"  {operator} by {found.variants[operator]}: {told}")
