"""Values of the tiers' service: what is drawn, and what a fault or a missing library comes to."""

import sys

import pytest
from schemathesis import GenerationMode

from experiments.tiers import api


def test_every_operation_is_drawn_from_and_those_with_a_body_malformed_too():
    found = {one.name for one in api.drawn()}
    assert {"positive POST /v1/infer", "negative POST /v1/infer", "positive GET /v1/tiers"} <= found
    assert "negative GET /v1/tiers" not in found


def test_stating_a_tier_is_quick_and_the_api_as_told(monkeypatch):
    infer = [one for one in api.drawn() if one.label in ("POST /v1/infer", "GET /v1/tiers")]
    monkeypatch.setattr(api, "drawn", lambda: infer)
    quick, told = api.api_checks()
    assert quick.measured.endswith(" us")
    assert (told.measured, told.holds) == ("0", True)
    # Of three parts, one of which takes nothing: there is one such request.
    assert told.what.endswith(" of 5")


def test_an_answer_that_the_schema_does_not_tell_of_falls_short(monkeypatch):
    def found(one, operator, variant, most):
        if one.mode is GenerationMode.NEGATIVE:
            raise AssertionError("undocumented status code 500\nand more of it")
        return 3

    monkeypatch.setattr(api, "send_drawn", found)
    _, told = api.api_checks()
    assert not told.holds
    assert "negative POST /v1/infer: undocumented status code 500" in told.measured
    assert "and more" not in told.measured
    assert "positive" not in told.measured


def test_without_schemathesis_the_check_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "schemathesis", None)
    _, told = api.api_checks()
    assert (told.measured, told.holds) == ("not installed", False)
    assert "provisor[test]" in told.command


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(api, "DRAWN", 2)
