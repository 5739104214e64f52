"""The asyncio shell around a router's core: effects become Serve calls, timers and answers.

`AuditedCore` decides; what is asked over HTTP is in `serving.front`. Requests go to a replica only on a free credit, so
Serve's own queues stay empty and its back-off under overload cannot occur. torch and numba are never imported here.
"""

import asyncio
import contextlib
import time
from collections.abc import Collection, Mapping
from typing import Any

import ray
from ray.exceptions import RayError

from controller.tiers.audit_config import AuditConfig
from serving.attached_call import AttachedOption
from serving.audited import AuditedCore
from serving.aws.function_targets import FunctionTargets
from serving.bring_your_own import ModelSpec
from serving.model_object import Cells, ModelAnswer, paired
from serving.ray_compat import is_model_fault
from serving.requests import Cancel, Dispatch, Effect, Outcome, Reply, Request, Send
from serving.rules import Demotion, RouterTables, Rules
from serving.serverless import NotCalledError, ServerlessPool, ServerlessTerms
from serving.tally import RouterStats
from serving.tier_request import TierTable

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


class RouterShell:
    """One router: owns the queues of every option and is the only sender to their replicas.

    Attributes:
        tables: Of the setting.
        tiers: Which class keeps what a caller asks for.
        is_draining: Whether new requests are refused, because the service is going away.
    """

    def __init__(
        self,
        tables: RouterTables,
        terms: Mapping[int, ServerlessTerms],
        specs: Mapping[str, ModelSpec],
        seed: int,
        options: Mapping[int, Any],
        serverless: Any,
        audit: AuditConfig,
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
            audit: Of tiers.
        """
        pools: Mapping[int, ServerlessPool]
        self._functions = None
        if isinstance(serverless, FunctionTargets):
            called = serverless.pools(tables, terms)
            self._functions, pools = serverless.connect(called, tables.num_pools), called
        else:
            pools = {p: ServerlessPool(t, len(tables.variant_names)) for p, t in terms.items()}
        self.tables, self.tiers = tables, TierTable(tables)
        self._specs = [specs[name] for name in tables.variant_names]
        self._core = AuditedCore(tables, pools, seed, audit)
        self._attached = {o: found.connect() for o, found in options.items() if isinstance(found, AttachedOption)}
        self._handles = {o: found for o, found in options.items() if o not in self._attached}
        self._serverless = serverless
        self._began_s = time.monotonic()
        self._answers: dict[Request, asyncio.Future[Reply]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = float("inf")
        self.is_draining = False
        self._asking = asyncio.Lock()
        self._hop_s = 0.0

    # For callers

    def input_fault(self, value: Any) -> str:
        """Why a value cannot be an input of the models; empty where it can."""
        return next((fault for fault in (spec.input_fault(value) for spec in self._specs) if fault), "")

    @property
    def input_width(self) -> int | None:
        """Numbers that an input is a list of; None where that is not known."""
        widths = {spec.input_width for spec in self._specs}
        return next(iter(widths)) if len(widths) == 1 else None

    async def answered(self, request_class: int, payload: Any, identity: int | None = None) -> Reply:
        """What becomes of one request.

        Args:
            request_class: Row.
            payload: Handed to the model as it is.
            identity: Keys the request's draws.
        """
        if self._core.rules.sequence < 0:
            await self._ask_for_rules()
        return await self._submit(request_class, payload, identity)

    def told(self, token: str, label: Any) -> bool:
        """Takes the right answer of a request of a tier; returns whether it is of use."""
        is_used, effects = self._core.told(token, label, self.now_s())
        self._carry_out(effects)
        return is_used

    def now_s(self) -> float:
        """Seconds since the router began."""
        return time.monotonic() - self._began_s

    def reading(self) -> RouterStats:
        """A reading of the counters."""
        return self._core.stats(self.now_s())

    @property
    def rules(self) -> Rules:
        """In force."""
        return self._core.rules

    @property
    def demotions(self) -> Collection[Demotion]:
        """Of tiers, so far."""
        return self._core.auditor.demotions.values()

    # For the controller

    async def stats(self) -> RouterStats:
        """A reading of the counters."""
        return self.reading()

    async def set_rules(self, rules: Rules) -> int:
        """Takes new rules; the answer is the sequence number in force."""
        self._carry_out(self._core.set_rules(rules, self.now_s()))
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
        self.is_draining = True
        waited_for: set[asyncio.Future[Any]] = {*self._answers.values(), *self._tasks.values()}
        if waited_for:
            await asyncio.wait(waited_for, timeout=timeout_s)
        return len(self._answers)

    # The shell

    async def _submit(self, c: int, payload: Any, identity: int | None) -> Reply:
        request, effects = self._core.arrive(c, payload, self.now_s(), identity)
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
        delay_s = reply.at_s - self.now_s()
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
        self._timer = None if at_s == float("inf") else loop.call_later(max(0.0, at_s - self.now_s()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._carry_out(self._core.advance(self.now_s()))

    async def _run(self, dispatch: Dispatch) -> None:
        """One batch on a replica, or one call of a serverless environment."""
        try:
            answers = await self._send(dispatch)
        except asyncio.CancelledError:
            raise
        except NotCalledError:
            effects = self._core.not_called(dispatch, self.now_s())
        except Exception as error:  # noqa: BLE001 - whatever went wrong there, the credit must come back here
            fault = is_model_fault(error)
            effects = self._core.lost(dispatch, self.now_s(), may_run_again=not fault)
        else:
            effects = self._core.completed(dispatch, answers, self.now_s())
        self._tasks.pop(dispatch.identity, None)
        self._carry_out(effects)

    async def _send(self, dispatch: Dispatch) -> list[ModelAnswer]:
        attached = self._attached.get(dispatch.option)
        if attached is not None:
            # Late answers are still answers; what takes this long after the last deadline will not come.
            until_s = max(copy.request.deadline_s for copy in dispatch.copies)
            payloads = [p.inputs if isinstance(p, Cells) else p for p in dispatch.payloads]
            outputs = await attached.infer(payloads, max(0.0, until_s - self.now_s()) + _STUCK_S)
            pairs = zip(dispatch.payloads, outputs, strict=True)
            return [ModelAnswer(paired(out, None, len(p.inputs)) if isinstance(p, Cells) else out) for p, out in pairs]
        if dispatch.environment is not None and self._functions is not None:
            return await self._functions.infer(dispatch, self.now_s)
        # The hop to the replica and back is part of the emulated service time, so that a credit is held for just that
        # time and waits are those of the profile. Without this every batch would take some milliseconds too long.
        wait_s = max(0.0, dispatch.service_s - self._hop_s)
        began_s = self.now_s()
        if dispatch.environment is not None:
            variant = self.tables.variant_names[dispatch.option // self.tables.num_pools]
            call = self._serverless.infer.remote(variant, dispatch.payloads, wait_s, dispatch.cold_s)
        else:
            call = self._handles[dispatch.option].infer.remote(dispatch.payloads, wait_s)
        stuck_s = _STUCK_S + _STUCK_SHARE * dispatch.service_s
        answers: list[ModelAnswer] = await asyncio.wait_for(call, wait_s + dispatch.cold_s + stuck_s)
        hop_s = self.now_s() - began_s - wait_s - dispatch.cold_s
        self._hop_s += _HOP_WEIGHT * (min(max(hop_s, 0.0), _LONGEST_HOP_S) - self._hop_s)
        return answers
