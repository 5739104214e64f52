"""Requests drawn from the router's own OpenAPI schema: no answer is one that the schema does not tell of."""

import asyncio

import pytest

from experiments.tiers.api import drawn, send_drawn
from serving.front import app
from serving.given import the_shell
from tests.unit.serving.shells import RELAXED, cascade_of, shell_of, tiered_setting
from tests.unit.serving.worlds import LARGE_OD, SMALL_OD, rules


@pytest.fixture(scope="module", autouse=True)
def _router():
    shell = shell_of(share=1.0)
    decided = rules(tiered_setting(), {SMALL_OD: 50, LARGE_OD: 50}, **cascade_of(RELAXED))
    asyncio.run(shell.set_rules(decided))
    app.dependency_overrides[the_shell] = lambda: shell
    yield
    app.dependency_overrides.clear()


@pytest.mark.parametrize("one", drawn(), ids=lambda one: one.name)
def test_no_request_leads_to_what_the_schema_does_not_tell_of(one):
    assert send_drawn(one, "classify", "large", most=15) > 0
