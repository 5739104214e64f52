"""The application that Ray Serve scales by itself: a thin ingress in front of one deployment. It needs Ray."""

import asyncio
import time
import warnings
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from ray import serve
from ray.serve.config import RequestRouterConfig
from ray.serve.exceptions import RequestCancelledError

from controller.keyed_random import SERVICE, stream_key, uniform
from experiments.native_plan import NativePlan
from serving.bring_your_own import ModelSpec
from serving.constraints import ImpossibleError, InferRequest, match_class
from serving.replica import loaded, run_for
from serving.rules import RouterTables

APP_NAME, MODEL = "native", "model"

_REQUESTS = 2000
_AT_A_REPLICA = 2
# One in service and one that takes its place at once: with one, a replica would idle for the way there and back.
_BACKOFF = RequestRouterConfig.model_validate(
    {"initial_backoff_s": 0.002, "backoff_multiplier": 2, "max_backoff_s": 0.02}
)
# As ours: by Serve's default (up to 0.5 s) its throughput would fall under overload.

front = FastAPI()


class OneCredit:
    """A replica that serves one request at a time, on a machine that has to be launched first."""

    def __init__(self, spec: ModelSpec, tables: RouterTables, plan: NativePlan, seed: int) -> None:
        time.sleep(plan.launch_s)  # Serve calls it starting meanwhile, as it would while it waits for a machine
        self._model = loaded(spec)
        self._tables, self._option = tables, plan.variant * tables.num_pools + plan.pool
        self._key = stream_key(seed, SERVICE)
        self._credit = asyncio.Semaphore(1)

    async def infer(self, value: Any, identity: int) -> Any:
        """The model's output, after the service time that this request has in our runs too."""
        async with self._credit:
            service_s = self._tables.service_draw_s(self._option, 1, uniform(self._key, identity, 0))
            answers = await run_for(self._model, [value], service_s)
            return answers[0].output


@serve.ingress(front)
class NativeIngress:
    """Hands each request on, and gives it up at its deadline where its class says so."""

    def __init__(self, model: Any, tables: RouterTables, variant: int) -> None:
        self._model, self._tables = model, tables
        self._variant = tables.variant_names[variant]

    @front.post("/v1/infer")
    async def infer(self, asked: InferRequest) -> Response:
        """The model's output."""
        try:
            c = match_class(asked, self._tables)
        except ImpossibleError as error:
            return JSONResponse({"detail": str(error)}, status_code=422)
        answer = self._model.infer.remote(asked.input, asked.id or 0)
        until_s = float(self._tables.slo_s[c]) if self._tables.drop_at_deadline[c] else None
        try:
            output = await asyncio.wait_for(answer, until_s)
        except (TimeoutError, RequestCancelledError):  # giving up cancels the call, which may say so itself
            answer.cancel()
            return JSONResponse({"detail": "the deadline passed"}, status_code=504)
        return JSONResponse({"output": output, "variant": self._variant})


def native_application(
    spec: ModelSpec, tables: RouterTables, plan: NativePlan, autoscaling: dict[str, Any], seed: int
) -> Any:
    """The bound application.

    Args:
        spec: Model of the plan's variant.
        tables: Of the setting.
        plan: Of the same.
        autoscaling: `autoscaling_config` of the model's deployment.
        seed: Keys the draws of service times.
    """
    deploy: Any = serve.deployment
    with warnings.catch_warnings():
        # `metrics_interval_s` is said to be deprecated; the variables that shall replace it are read by nothing yet.
        warnings.simplefilter("ignore", DeprecationWarning)
        model = deploy(OneCredit).options(
            name=MODEL,
            max_ongoing_requests=_AT_A_REPLICA,
            max_queued_requests=-1,
            request_router_config=_BACKOFF,
            autoscaling_config=autoscaling,
            ray_actor_options={"num_cpus": 0},
            graceful_shutdown_timeout_s=30,
            graceful_shutdown_wait_loop_s=0.1,
            health_check_period_s=1,
        )
    ingress = deploy(NativeIngress).options(
        name="ingress", max_ongoing_requests=_REQUESTS, ray_actor_options={"num_cpus": 0}
    )
    return ingress.bind(model.bind(spec, tables, plan, seed), tables, plan.variant)
