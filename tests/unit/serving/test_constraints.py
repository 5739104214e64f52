import pytest
from pydantic import ValidationError

from serving.constraints import ImpossibleError, InferRequest, match_class
from serving.rules import router_tables
from tests.unit.serving.worlds import setting

STRICT, RELAXED = 0, 1  # strict: 1 s and 0.7; relaxed: 4 s and 0.85


def match(**fields):
    return match_class(InferRequest(input=[0], **fields), router_tables(setting()))


@pytest.mark.parametrize(
    ("fields", "row"),
    [
        ({"request_class": "strict"}, STRICT),
        ({"request_class": "relaxed", "task": "classify"}, RELAXED),
        ({"max_latency_ms": 1000}, STRICT),
        ({"max_latency_ms": 3999}, STRICT),
        ({"max_latency_ms": 4000}, RELAXED),
        ({"min_accuracy": 0.8}, RELAXED),
        ({"max_latency_ms": 2000, "min_accuracy": 0.7}, STRICT),
        ({}, RELAXED),
    ],
)
def test_least_demanding_class_that_keeps_the_bounds_is_chosen(fields, row):
    assert match(**fields) == row


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"max_latency_ms": 999}, "strict: max_latency_ms >= 1000, min_accuracy <= 0.7"),
        ({"max_latency_ms": 1500, "min_accuracy": 0.8}, "relaxed: max_latency_ms >= 4000, min_accuracy <= 0.85"),
        ({"request_class": "gold"}, "expected one of ['strict', 'relaxed'], got 'gold'"),
        ({"task": "translate"}, "task: expected one of ['classify'], got 'translate'"),
        ({"request_class": "strict", "min_accuracy": 0.1}, "got both"),
    ],
)
def test_impossible_constraints_name_what_is_possible(fields, text):
    with pytest.raises(ImpossibleError) as caught:
        match(**fields)
    assert text in str(caught.value)


@pytest.mark.parametrize("fields", [{"model": "large"}, {"min_accuracy": 1.1}, {"max_latency_ms": 0}, {"id": -1}])
def test_body_with_other_fields_or_values_is_refused(fields):
    with pytest.raises(ValidationError):
        InferRequest(input=[0], **fields)
