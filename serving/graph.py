"""A workflow as a graph of Serve deployments, each on nodes of its own label.

An operator has a deployment on every worker that a placement gives it, and that deployment's one replica takes the
worker's slot on a node with its label. The graph's front starts all operators that read sources at once, joins what an
operator waits for, and divides an operator's requests over its workers exactly as the placement does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from ray import serve
from ray.serve.config import RequestRouterConfig

from serving.app import ON_HEAD
from serving.bring_your_own import ModelSpec
from serving.nodes import POOL_LABEL, slot_of
from serving.replica import Replica

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

GRAPH_APP = "workflow"
FRONT = "front"
_ONGOING = 1000
# As for models behind the router: a full replica is to be probed again soon.
_BACKOFF = RequestRouterConfig.model_validate(
    {"initial_backoff_s": 0.002, "backoff_multiplier": 2, "max_backoff_s": 0.02}
)


@dataclass(frozen=True)
class GraphWorker:
    """A worker's part of an operator.

    Attributes:
        name: Value of the nodes' label, and of the slot that they offer.
        share: Of the operator's requests; shares of all its workers sum to 1.
        service_s: That a request takes of it, held so that one machine can stand for several.
    """

    name: str
    share: float
    service_s: float


@dataclass(frozen=True)
class GraphOperator:
    """An operator with the variant that was chosen.

    Attributes:
        name: Of the operator.
        variant: That all its workers run.
        inputs: Sources and operators whose messages it waits for; the model gets them by name.
        model: Of the variant.
        workers: That serve it.
    """

    name: str
    variant: str
    inputs: tuple[str, ...]
    model: ModelSpec
    workers: tuple[GraphWorker, ...]


class FairDraw:
    """Divides requests over workers by their shares, each time to the one that lacks most: exact after every round.

    Args:
        shares: Of the workers.
    """

    def __init__(self, shares: Sequence[float]) -> None:
        total = sum(shares)
        self._shares = [share / total for share in shares]
        self._given = [0] * len(shares)

    def draw(self) -> int:
        """The next request's worker."""
        number = sum(self._given) + 1
        lack = [share * number - given for share, given in zip(self._shares, self._given, strict=True)]
        worker = lack.index(max(lack))
        self._given[worker] += 1
        return worker


class GraphFront:
    """Answers requests of the whole workflow.

    Args:
        operators: In topological order; the last one's output is the answer.
        handles: Of the deployments, by operator and worker.
    """

    def __init__(self, operators: Sequence[GraphOperator], handles: Mapping[str, Sequence[Any]]) -> None:
        self._operators = list(operators)
        self._handles = handles
        self._draws = {one.name: FairDraw([worker.share for worker in one.workers]) for one in operators}

    async def __call__(self, request: Request) -> Response:
        """`POST` of `{"input": {source: message}}`; answers output, and variant and worker of every operator."""
        from starlette.responses import JSONResponse

        try:
            sources = json.loads(await request.body())["input"]
            answer = await self.answer(dict(sources))
        except (ValueError, KeyError, TypeError) as error:
            detail = f'expected {{"input": {{source: message}}}} with every source of the workflow, got: {error!r}'
            return JSONResponse({"detail": detail[:400]}, status_code=422)
        return JSONResponse(answer)

    async def answer(self, sources: Mapping[str, Any]) -> dict[str, Any]:
        """The output for one message of every source, and who served.

        Raises:
            KeyError: A source is missing.
        """
        operators = {one.name for one in self._operators}
        missing = {i for one in self._operators for i in one.inputs if i not in operators} - set(sources)
        if missing:
            raise KeyError(", ".join(sorted(missing)))
        served: dict[str, dict[str, str]] = {}
        running: dict[str, asyncio.Task[Any]] = {}
        for one in self._operators:
            running[one.name] = asyncio.create_task(self._run(one, sources, running, served))
        # All are waited for, so that the failure of one leaves none behind.
        outcomes = await asyncio.gather(*running.values(), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return {"output": outcomes[-1], "served": served}

    async def _run(
        self,
        one: GraphOperator,
        sources: Mapping[str, Any],
        running: Mapping[str, asyncio.Task[Any]],
        served: dict[str, dict[str, str]],
    ) -> Any:
        message = {name: await running[name] if name in running else sources[name] for name in one.inputs}
        at = self._draws[one.name].draw()
        worker = one.workers[at]
        served[one.name] = {"variant": one.variant, "worker": worker.name}
        answers = await self._handles[one.name][at].infer.remote([message], worker.service_s)
        return answers[0].output


def build_graph(operators: Sequence[GraphOperator]) -> Any:
    """The bound application.

    Args:
        operators: In topological order, the sink last.
    """
    deploy: Any = serve.deployment  # its overloads hide what it returns for a class
    handles = {
        one.name: [
            deploy(Replica)
            .options(
                name=deployment_of(one.name, worker.name),
                num_replicas=1,
                max_ongoing_requests=_ONGOING,
                request_router_config=_BACKOFF,
                ray_actor_options={
                    "num_cpus": 0,
                    "resources": {slot_of(worker.name): 1},
                    "label_selector": {POOL_LABEL: worker.name},
                },
                graceful_shutdown_timeout_s=5,
                graceful_shutdown_wait_loop_s=0.1,
                health_check_period_s=1,
            )
            .bind(one.model, 1)
            for worker in one.workers
        ]
        for one in operators
    }
    front = deploy(GraphFront).options(
        name=FRONT, max_ongoing_requests=_ONGOING, ray_actor_options=ON_HEAD, graceful_shutdown_wait_loop_s=0.1
    )
    return front.bind(list(operators), cast("Any", handles))


def deployment_of(operator: str, worker: str) -> str:
    """Name of an operator's deployment on a worker."""
    return f"{operator}--{worker}"
