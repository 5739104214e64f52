"""The router deployment: an HTTP front, the queue behind it, and the asyncio shell between the two.

`RouterCore` decides; this module only turns its effects into Serve calls, timers and HTTP answers. Requests go to a
replica only on a free credit, so Serve's own queues stay empty and its back-off under overload cannot occur. torch
and numba are never imported here.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any

import ray
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from ray import serve
from ray.exceptions import RayError

from serving.attached_call import AttachedOption
from serving.aws.function_targets import FunctionTargets
from serving.bring_your_own import ModelSpec
from serving.constraints import ImpossibleError, InferAnswer, InferRequest, match_class
from serving.exposition import exposition, router_families
from serving.model_object import ModelAnswer
from serving.queueing import RouterCore
from serving.ray_compat import is_model_fault
from serving.requests import Cancel, Dispatch, Effect, Outcome, Reply, Request, Send
from serving.rules import RouterTables, Rules
from serving.serverless import NotCalledError, ServerlessPool, ServerlessTerms
from serving.tally import RouterStats

_STUCK_S = 3.0
# A batch this late waits inside Serve for a replica that is gone, or is on one that hangs: it is taken back and counted
# as lost, so that its requests are queued again while they have time left.
_STUCK_SHARE = 1.0
# And this share of its service time, for models that now and then take much longer than their profile says.
_RULES_TIMEOUT_S = 2.0
_HOP_WEIGHT = 0.05
_LONGEST_HOP_S = 0.05
# A hop that took longer was a stall of the machine, and must not make the next batches too short.

CONTROLLER_NAME, CONTROLLER_NAMESPACE = "ServingController", "provisor"
"""Name of the actor that decides."""

METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_REFUSALS = {
    Outcome.SHED: (503, "refused: the class already fills its queue"),
    Outcome.REFUSED: (503, "refused: the serverless pool is at its concurrency limit"),
    Outcome.EXPIRED: (504, "dropped: the deadline passed before a replica was free"),
    Outcome.LOST: (500, "lost: the replica went away and no retry fitted the deadline"),
}

app = FastAPI(title="Provisor", docs_url=None, redoc_url=None)


@serve.ingress(app)
class Router:
    """One router: owns the queues of every option and is the only sender to their replicas."""

    def __init__(
        self,
        tables: RouterTables,
        terms: Mapping[int, ServerlessTerms],
        specs: Mapping[str, ModelSpec],
        seed: int,
        options: Mapping[int, Any],
        serverless: Any,
    ) -> None:
        """Binds the router.

        Args:
            tables: Of the setting.
            terms: Serverless pools by row.
            specs: Models by variant, for checking inputs.
            seed: Keys the draws.
            options: By option, machine options only: Serve handles of our own replicas, or what is called of an
                application that is attached to.
            serverless: Serve handle of the host of emulated environments, or the functions that are called; None where
                there are none.
        """
        pools: Mapping[int, ServerlessPool]
        self._functions = None
        if isinstance(serverless, FunctionTargets):
            called = serverless.pools(tables, terms)
            self._functions, pools = serverless.connect(called, tables.num_pools), called
        else:
            pools = {p: ServerlessPool(t, len(tables.variant_names)) for p, t in terms.items()}
        self._tables = tables
        self._specs = [specs[name] for name in tables.variant_names]
        self._core = RouterCore(tables, pools, seed)
        self._attached = {o: found.connect() for o, found in options.items() if isinstance(found, AttachedOption)}
        self._handles = {o: found for o, found in options.items() if o not in self._attached}
        self._serverless = serverless
        self._began_s = time.monotonic()
        self._answers: dict[Request, asyncio.Future[Reply]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = float("inf")
        self._is_draining = False
        self._asking = asyncio.Lock()
        self._hop_s = 0.0

    # For callers

    @app.post("/v1/infer", response_model=InferAnswer)
    async def infer(self, asked: InferRequest) -> Response | InferAnswer:
        """Answers one request within its class's promise."""
        if self._is_draining:
            return JSONResponse({"detail": "refused: this service is going away"}, 503, {"Retry-After": "30"})
        try:
            c = match_class(asked, self._tables)
        except ImpossibleError as error:
            return JSONResponse({"detail": str(error)}, status_code=422)
        fault = next((f for f in (s.input_fault(asked.input) for s in self._specs) if f), "")
        if fault:
            return JSONResponse({"detail": f"input: {fault}"}, status_code=422)
        if self._core.rules.sequence < 0:
            await self._ask_for_rules()
        reply = await self._submit(c, asked.input, asked.id)
        request = reply.request
        if reply.outcome is not Outcome.ANSWERED:
            status, text = _REFUSALS[reply.outcome]
            headers = {"Retry-After": str(max(1, round(reply.retry_after_s)))} if status == 503 else None
            body = {"detail": text, "outcome": reply.outcome.name.lower()}
            return JSONResponse(body, status_code=status, headers=headers)
        variant, pool = divmod(reply.option, self._tables.num_pools)
        return InferAnswer(
            output=reply.output,
            request_class=self._tables.class_names[c],
            variant=self._tables.variant_names[variant],
            pool=self._tables.pool_names[pool],
            accuracy=float(self._tables.accuracy[variant]),
            latency_ms=(self._now_s() - request.arrival_s) * 1e3,
            attempts=request.attempts,
            confidence=reply.confidence,
            variants=[self._tables.variant_names[option // self._tables.num_pools] for option in reply.tried],
        )

    @app.get("/metrics")
    async def metrics(self) -> Response:
        """Prometheus text."""
        text = exposition(router_families(self._core.stats(self._now_s()), self._tables))
        return Response(text, media_type=METRICS_CONTENT_TYPE)

    @app.get("/healthz")
    async def health(self) -> dict[str, str]:
        """Answers while the router runs."""
        return {"status": "ok"}

    # For the controller

    async def stats(self) -> RouterStats:
        """A reading of the counters."""
        return self._core.stats(self._now_s())

    async def set_rules(self, rules: Rules) -> int:
        """Takes new rules; the answer is the sequence number in force."""
        self._carry_out(self._core.set_rules(rules, self._now_s()))
        return self._core.rules.sequence

    async def check_health(self) -> None:
        """Serve asks every few seconds; a router that was started anew gets its rules even where nobody calls."""
        if self._core.rules.sequence < 0:
            await self._ask_for_rules()

    async def _ask_for_rules(self) -> None:
        """Asks the controller, where one runs: a router that was started anew knows nothing of what is decided."""
        async with self._asking:
            if self._core.rules.sequence >= 0:
                return
            # No controller yet, or one that is restarting too: its next decision brings the rules.
            with contextlib.suppress(RayError, ValueError, asyncio.TimeoutError):
                controller: Any = ray.get_actor(CONTROLLER_NAME, namespace=CONTROLLER_NAMESPACE)
                rules = await asyncio.wait_for(controller.rules.remote(), _RULES_TIMEOUT_S)
                if rules is not None:
                    await self.set_rules(rules)

    async def drain(self, timeout_s: float) -> int:
        """Refuses new requests and waits for those accepted; returns how many are still held at the end.

        Calls that go on after their requests were given up are waited for, too: they are charged for.
        """
        self._is_draining = True
        waited_for: set[asyncio.Future[Any]] = {*self._answers.values(), *self._tasks.values()}
        if waited_for:
            await asyncio.wait(waited_for, timeout=timeout_s)
        return len(self._answers)

    # The shell

    def _now_s(self) -> float:
        return time.monotonic() - self._began_s

    async def _submit(self, c: int, payload: Any, identity: int | None) -> Reply:
        request, effects = self._core.arrive(c, payload, self._now_s(), identity)
        for effect in effects:
            if isinstance(effect, Reply) and effect.outcome in (Outcome.SHED, Outcome.REFUSED):
                return effect
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._answers[request] = future
        self._carry_out(effects)
        # A caller that hangs up does not stop the work: the request stays counted until it is answered or fails.
        return await asyncio.shield(future)

    def _carry_out(self, effects: list[Effect]) -> None:
        loop = asyncio.get_running_loop()
        for effect in effects:
            if isinstance(effect, Send):
                dispatch = effect.dispatch
                self._tasks[dispatch.identity] = loop.create_task(self._run(dispatch))
            elif isinstance(effect, Cancel):
                if self._functions is not None and effect.dispatch.environment is not None:
                    continue  # it runs and is charged for; how much is told with its answer
                task = self._tasks.pop(effect.dispatch.identity, None)
                if task is not None:
                    task.cancel()
            else:
                self._reply(effect, loop)
        self._set_timer(loop)

    def _reply(self, reply: Reply, loop: asyncio.AbstractEventLoop) -> None:
        future = self._answers.pop(reply.request, None)
        if future is None or future.done():
            return
        delay_s = reply.at_s - self._now_s()
        if delay_s > 1e-3:
            # The network between caller and pool is emulated here, once for both directions.
            loop.call_later(delay_s, lambda: None if future.done() else future.set_result(reply))
        else:
            future.set_result(reply)

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        at_s = self._core.next_event_s()
        if self._timer is not None and at_s == self._timer_at_s:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at_s = at_s
        self._timer = None if at_s == float("inf") else loop.call_later(max(0.0, at_s - self._now_s()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._carry_out(self._core.advance(self._now_s()))

    async def _run(self, dispatch: Dispatch) -> None:
        """One batch on a replica, or one call of a serverless environment."""
        try:
            answers = await self._send(dispatch)
        except asyncio.CancelledError:
            raise
        except NotCalledError:
            effects = self._core.not_called(dispatch, self._now_s())
        except Exception as error:  # noqa: BLE001 - whatever went wrong there, the credit must come back here
            fault = is_model_fault(error)
            effects = self._core.lost(dispatch, self._now_s(), may_run_again=not fault)
        else:
            effects = self._core.completed(dispatch, answers, self._now_s())
        self._tasks.pop(dispatch.identity, None)
        self._carry_out(effects)

    async def _send(self, dispatch: Dispatch) -> list[ModelAnswer]:
        attached = self._attached.get(dispatch.option)
        if attached is not None:
            # Late answers are still answers; what takes this long after the last deadline will not come.
            until_s = max(copy.request.deadline_s for copy in dispatch.copies)
            outputs = await attached.infer(dispatch.payloads, max(0.0, until_s - self._now_s()) + _STUCK_S)
            return [ModelAnswer(output) for output in outputs]
        if dispatch.environment is not None and self._functions is not None:
            return await self._functions.infer(dispatch, self._now_s)
        # The hop to the replica and back is part of the emulated service time, so that a credit is held for just that
        # time and waits are those of the profile. Without this every batch would take some milliseconds too long.
        wait_s = max(0.0, dispatch.service_s - self._hop_s)
        began_s = self._now_s()
        if dispatch.environment is not None:
            variant = self._tables.variant_names[dispatch.option // self._tables.num_pools]
            call = self._serverless.infer.remote(variant, dispatch.payloads, wait_s, dispatch.cold_s)
        else:
            call = self._handles[dispatch.option].infer.remote(dispatch.payloads, wait_s)
        stuck_s = _STUCK_S + _STUCK_SHARE * dispatch.service_s
        answers: list[ModelAnswer] = await asyncio.wait_for(call, wait_s + dispatch.cold_s + stuck_s)
        hop_s = self._now_s() - began_s - wait_s - dispatch.cold_s
        self._hop_s += _HOP_WEIGHT * (min(max(hop_s, 0.0), _LONGEST_HOP_S) - self._hop_s)
        return answers
