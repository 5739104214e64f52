"""Requests drawn from the router's own OpenAPI schema: no answer is one that the schema does not tell of.

What is possible follows from the scenario, so a well-formed request may be refused with 422: `positive_data_acceptance`
is the one check that is left out.
"""

import asyncio

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from serving.front import app
from serving.given import the_shell
from tests.unit.serving.shells import RELAXED, cascade_of, shell_of, tiered_setting
from tests.unit.serving.worlds import LARGE_OD, SMALL_OD, rules

SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", app)
OPERATIONS = {found.ok().label: found.ok() for found in SCHEMA.get_all_operations()}
CASES = [(label, GenerationMode.POSITIVE, 15 if label.startswith("POST") else 3) for label in OPERATIONS]
CASES += [(label, GenerationMode.NEGATIVE, 15) for label, found in OPERATIONS.items() if found.body]
"""Where nothing but a path is sent, nothing can be malformed."""


@pytest.fixture(scope="module", autouse=True)
def _router():
    shell = shell_of(share=1.0)
    decided = rules(tiered_setting(), {SMALL_OD: 50, LARGE_OD: 50}, **cascade_of(RELAXED))
    asyncio.run(shell.set_rules(decided))
    app.dependency_overrides[the_shell] = lambda: shell
    yield
    app.dependency_overrides.clear()


@pytest.mark.parametrize(("label", "mode", "count"), CASES, ids=lambda value: getattr(value, "value", value))
def test_no_request_leads_to_what_the_schema_does_not_tell_of(label, mode, count):
    operation = OPERATIONS[label]

    @settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def holds(case):
        if "name" in case.path_parameters:
            case.path_parameters["name"] = "classify"
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    holds()
