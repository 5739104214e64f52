"""The service that tiers are asked of, by itself: what stating a tier costs a request, and whether its API is as told.

Requests are drawn from the router's own OpenAPI schema, well-formed and malformed ones, and sent to the application in
this process, whose models answer at once: no answer may be one that the schema does not tell of. What is possible
follows from the scenario, so a well-formed request may be refused with 422: `positive_data_acceptance` is the one check
that is left out.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from controller.compile import Setting, compile_scenario
from controller.scenario import load_scenario
from controller.tiers.audit_config import AuditConfig
from controller.workload import ClassTier
from experiments.bench_tiers import tier_lookup
from experiments.checks import Check, at_most
from serving.bring_your_own import ModelSpec
from serving.front import app
from serving.given import the_shell
from serving.model_object import ModelAnswer
from serving.requests import Dispatch
from serving.rules import RouterTables, Rules, initial_rules, router_tables
from serving.serverless import ServerlessTerms
from serving.shell import RouterShell

if TYPE_CHECKING:
    from schemathesis import GenerationMode

MOST_US = 50.0
"""Microseconds that reading the headers and finding the tier may take."""

DRAWN = 100
"""Requests drawn of an operation, at most: of one that takes next to nothing there are fewer."""


@dataclass(frozen=True)
class Drawn:
    """Requests that are drawn of one operation."""

    label: str  # method and path
    mode: GenerationMode

    @property
    def name(self) -> str:
        """For a person."""
        return f"{self.mode.value} {self.label}"


class SureShell(RouterShell):
    """A router without replicas: its models answer at once, in this process, and are sure."""

    async def _send(self, dispatch: Dispatch) -> list[ModelAnswer]:
        await asyncio.sleep(0)
        return [ModelAnswer("an answer", 1.0) for _ in dispatch.payloads]


def drawn() -> tuple[Drawn, ...]:
    """What is drawn: where nothing but a path is sent, nothing can be malformed.

    Raises:
        ImportError: schemathesis is not installed.
    """
    from schemathesis import GenerationMode

    found = _operations()
    well = [Drawn(label, GenerationMode.POSITIVE) for label in found]
    malformed = [Drawn(label, GenerationMode.NEGATIVE) for label, operation in found.items() if operation.body]
    return (*well, *malformed)


def send_drawn(one: Drawn, operator: str, variant: str, most: int = DRAWN) -> int:
    """Draws requests of one operation, always the same ones, and sends them.

    Args:
        one: What is drawn.
        operator: Of the scenario; what a path names.
        variant: Of the operator; what a path of a well-formed request names.
        most: Requests.

    Returns:
        How many were sent.

    Raises:
        Exception: An answer is one that the schema does not tell of; schemathesis says which.
    """
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis import GenerationMode
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    sent, is_well_formed = [0], one.mode is GenerationMode.POSITIVE

    @settings(
        max_examples=most,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=_operations()[one.label].as_strategy(generation_mode=one.mode))
    def holds(case: Any) -> None:
        if "name" in case.path_parameters:
            case.path_parameters["name"] = operator
        if is_well_formed and "variant" in case.path_parameters:
            case.path_parameters["variant"] = variant
        if is_well_formed and sent[0] % 2 and isinstance(case.body, dict) and "inputs" in case.body:
            # Drawn tensors hardly ever have as many values as their shape says, so every other one is put right.
            case.body["inputs"] = [{"name": "input", "shape": [1], "datatype": "FP64", "data": [1.0]}]
        case.call_and_validate(excluded_checks=[positive_data_acceptance])
        sent[0] += 1

    holds()
    return sent[0]


def api_checks() -> Iterator[Check]:
    """Values of the service beside their bars."""
    setting = _tiered_setting()
    found = tier_lookup(setting)
    what = f"headers read and tier found, of {found['tiers']}: a request"
    yield at_most(what, found["tier_headers_and_lookup_us"], MOST_US, " us")
    what = "requests drawn by schemathesis whose answer the OpenAPI schema does not tell of"
    try:
        parts = drawn()
    except ImportError:
        yield Check(what, "not installed", "<= 0", holds=False, command="pip install 'provisor[test]'")
        return
    sent, faults = 0, []
    for part in parts:
        count, fault = _judged(part, setting)
        sent += count
        faults += [f"{part.name}: {fault}"] if fault else []
    yield Check(f"{what}, of {sent}", "; ".join(faults) or "0", "<= 0", not faults)


def _judged(one: Drawn, setting: Setting) -> tuple[int, str]:
    """How many requests were sent, and the first line of what schemathesis finds; empty for nothing."""
    tables = router_tables(setting)
    terms = {p: ServerlessTerms.of(setting.catalog, p) for p in range(tables.num_pools) if tables.is_serverless[p]}
    specs = {name: ModelSpec(name, reference="of:this") for name in tables.variant_names}
    shell = SureShell(tables, terms, specs, 1, {}, None, AuditConfig())
    asyncio.run(shell.set_rules(_rules(setting, tables)))
    app.dependency_overrides[the_shell] = lambda: shell
    try:
        return send_drawn(one, tables.operators[0], tables.variant_names[0], DRAWN), ""
    except Exception as error:  # noqa: BLE001  # whatever is found is what the check is for
        return 0, (str(error) or type(error).__name__).strip().splitlines()[0]
    finally:
        app.dependency_overrides.clear()


def _rules(setting: Setting, tables: RouterTables) -> Rules:
    """Many replicas of every machine option, which share the traffic evenly."""
    may = tables.allowed & ~tables.is_serverless
    serving = np.where(may.any(axis=0), 50, 0)
    return replace(
        initial_rules(tables),
        sequence=0,
        shares=may / may.sum(axis=1, keepdims=True),
        serving=serving,
        target=serving,
        shed_limit=setting.workload.queue_limit.copy(),
    )


def _tiered_setting() -> Setting:
    """The demo's, whose relaxed class has a tier."""
    scenario = load_scenario("demo")
    catalog = scenario.load_catalog()
    best = max(catalog.variants, key=lambda variant: variant.accuracy.value).name
    tier = ClassTier(tolerance=0.01, objective="cost", variants=(best,), bound=0.0, confidence=0.999, disagreement=0.0)
    strict, relaxed = scenario.workload.classes
    classes = (strict, relaxed.model_copy(update={"tier": tier}))
    workload = scenario.workload.model_copy(update={"classes": classes})
    return compile_scenario(scenario.model_copy(update={"workload": workload}), catalog)


@functools.cache
def _operations() -> dict[str, Any]:
    """Operations of the schema by method and path."""
    import schemathesis

    schema: Any = schemathesis.openapi.from_asgi("/openapi.json", app)
    return {found.ok().label: found.ok() for found in schema.get_all_operations()}
