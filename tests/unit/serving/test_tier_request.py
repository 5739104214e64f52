"""What a request states of its tier, and the class that it leads to."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from controller.workload import ClassTier
from serving.constraints import ImpossibleError
from serving.rules import router_tables
from serving.tier_request import TieredRequest, TierTable, asked_tier, match_request
from tests.unit.serving.worlds import setting


def tier(tolerance, objective="cost", *, is_relative=False):
    return ClassTier(
        tolerance=tolerance,
        is_relative=is_relative,
        objective=objective,
        variants=("small",),
        bound=tolerance,
        confidence=0.999,
    )


CLASSES = {
    "plain": (4.0, None),
    "one": (2.0, tier(0.01)),
    "five": (2.0, tier(0.05)),
    "five-slow": (4.0, tier(0.05)),
    "five-fast": (0.5, tier(0.05, "response_time")),
    "ten-fast": (0.5, tier(0.1, "response_time")),
    "share": (2.0, tier(0.05, is_relative=True)),
}
NAMES = tuple(CLASSES)


@pytest.fixture(scope="module")
def tables():
    return replace(
        router_tables(setting()),
        class_names=NAMES,
        operators=("classify",) * len(NAMES),
        slo_s=np.array([slo for slo, _ in CLASSES.values()]),
        tiers=tuple(found for _, found in CLASSES.values()),
        accuracy_floor=np.zeros(len(NAMES)),
    )


def matched(tables, *headers, **fields):
    body = TieredRequest(input=0, **fields)
    asked = asked_tier(body, *(list(headers) + [None] * 3)[:3])
    return NAMES[match_request(body, asked, TierTable(tables), tables)]


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        (("0.01",), "one"),
        (("0.049", "cost"), "one"),
        (("0.05", "cost"), "five-slow"),
        (("0.05",), "five-slow"),
        (("0.05", None, "3999"), "five"),
        (("0.05", None, "1000"), "five-fast"),
        (("0.1",), "ten-fast"),
        (("0.1", "cost"), "five-slow"),
        (("1", "response_time"), "ten-fast"),
        (("5%",), "share"),
        (("5.5%", "cost", "2000"), "share"),
        ((None, None, "4000"), "plain"),
        ((), "plain"),
    ],
)
def test_class_that_tolerates_most_within_what_is_asked_answers(tables, headers, name):
    assert matched(tables, *headers) == name


def test_percentage_is_the_number_that_its_digits_say(tables):
    shared = replace(tables, tiers=(*tables.tiers[:-1], tier(0.011, is_relative=True)))
    assert matched(shared, "1.1%") == "share"  # 1.1 / 100 is above 0.011


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"tolerance": 0.05}, "five-slow"),
        ({"tolerance": 0.05, "tolerance_is_relative": True}, "share"),
        ({"tolerance": 0.05, "objective": "response_time", "task": "classify"}, "five-fast"),
        ({"tolerance": 0.05, "deadline_ms": 2000}, "five"),
        ({"request_class": "ten-fast"}, "ten-fast"),
        ({"deadline_ms": 4000.0, "max_latency_ms": 4000}, "plain"),
    ],
)
def test_body_says_the_same(tables, fields, name):
    assert matched(tables, **fields) == name


def test_headers_and_body_may_agree(tables):
    assert matched(tables, "0.05", "cost", "2000", tolerance=0.05, objective="cost", deadline_ms=2000) == "five"


@pytest.mark.parametrize(
    ("headers", "fields", "text"),
    [
        (("0.05",), {"tolerance": 0.04}, "X-Tolerance: expected what the body says (0.04), got '0.05'"),
        (("5%",), {"tolerance": 0.05}, "X-Tolerance: expected what the body says (0.05), got '5%'"),
        (("0.05", "cost"), {"objective": "response_time"}, "X-Objective: expected what the body says"),
        (("0.05", None, "5"), {"deadline_ms": 6}, "X-Deadline-Ms: expected what the body says (6), got '5'"),
        ((None, "cost"), {}, "objective: expected a tolerance beside it, got 'cost'"),
        ((), {"tolerance_is_relative": True}, "tolerance_is_relative: expected a tolerance beside it"),
        (("0.05",), {"request_class": "five"}, "request_class: expected a tolerance or request_class, got both"),
        (("0.05",), {"min_accuracy": 0.9}, "min_accuracy: expected a tolerance or min_accuracy, got both"),
        ((None, None, "5"), {"max_latency_ms": 6}, "deadline_ms: expected what max_latency_ms says (6), got 5.0"),
    ],
)
def test_contradictions_are_named(tables, headers, fields, text):
    with pytest.raises(ImpossibleError) as caught:
        matched(tables, *headers, **fields)
    assert text in str(caught.value)


@pytest.mark.parametrize("value", ["", "a", "nan", "inf", "-0.1", "1.01", "101%", "%", "5 %", "1e-2", "0_0", "\u0660"])
def test_malformed_tolerance_is_named(tables, value):
    with pytest.raises(ImpossibleError) as caught:
        matched(tables, value)
    assert str(caught.value).startswith("X-Tolerance: expected points as a fraction of 1, such as 0.01")


@pytest.mark.parametrize("value", ["", "0", "-1", "soon", "1e3", "inf"])
def test_malformed_deadline_is_named(tables, value):
    with pytest.raises(ImpossibleError) as caught:
        matched(tables, "0.05", None, value)
    assert f"X-Deadline-Ms: expected milliseconds > 0, got '{value}'" in str(caught.value)


def test_malformed_objective_is_named(tables):
    with pytest.raises(ImpossibleError) as caught:
        matched(tables, "0.05", "speed")
    assert "X-Objective: expected one of ['response_time', 'cost'], got 'speed'" in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"tolerance": -0.1},
        {"tolerance": 1.1},
        {"tolerance": "0.1"},
        {"tolerance": True},
        {"objective": "speed"},
        {"deadline_ms": 0},
        {"deadline_ms": float("inf")},
    ],
)
def test_malformed_body_is_refused(fields):
    with pytest.raises(ValidationError):
        TieredRequest(input=0, **fields)


@pytest.mark.parametrize("headers", [("0.005",), ("0.05", "cost", "1999"), ("4%",)])
def test_impossible_tier_names_what_is_possible(tables, headers):
    with pytest.raises(ImpossibleError) as caught:
        matched(tables, *headers)
    assert "five: tolerance 0.05, objective cost, deadline_ms >= 2000" in str(caught.value)
    assert "share: tolerance 5%, objective cost, deadline_ms >= 2000" in str(caught.value)


def test_service_without_tiers_says_so():
    tables = router_tables(setting())
    with pytest.raises(ImpossibleError, match="none: no class has a tier"):
        matched(tables, "0.05")


def test_task_is_needed_where_there_are_several(tables):
    mixed = replace(tables, operators=("classify",) * 6 + ("translate",))
    assert matched(mixed, "0.05", task="classify") == "five-slow"
    for task in (None, "paint"):
        with pytest.raises(ImpossibleError, match="task: expected one of"):
            matched(mixed, "0.05", task=task)
    with pytest.raises(ImpossibleError, match="expected a tier that is kept"):
        matched(mixed, "5%", task="classify")


def test_bounds_lead_to_a_tier_only_where_every_class_has_one(tables):
    assert matched(tables, max_latency_ms=5000) == "plain"
    with_tiers = replace(tables, tiers=(tier(0.2), *tables.tiers[1:]))
    assert matched(with_tiers, max_latency_ms=600) == "five-fast"
