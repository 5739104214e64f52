"""The router over HTTP, without Ray: tiers by header and body, their list, feedback and metrics."""

import pytest
from starlette.testclient import TestClient

from serving.constraints import InferAnswer
from serving.front import app
from tests.unit.serving.shells import InProcessShell, served, shell_of

GUARANTEE = {"tolerance": 0.05, "is_relative": False, "objective": "cost", "bound": 0.04, "confidence": 0.999}


@pytest.fixture
def client():
    with served(shell_of(share=1.0)) as client:
        yield client


def infer(client, value="sure", headers=None, **fields):
    return client.post("/v1/infer", json={"input": value, **fields}, headers=headers)


def test_header_leads_to_the_tier_and_the_answer_says_what_was_kept(client):
    answer = infer(client, headers={"X-Tolerance": "0.05", "X-Objective": "cost", "X-Deadline-Ms": "4000"})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["request_class"], body["variant"], body["variants"]) == ("relaxed", "small", ["small"])
    assert (body["confidence"], body["tier"]) == (0.75, GUARANTEE | {"is_demoted": False})
    assert body["request_id"]


def test_body_leads_to_the_tier_and_an_unsure_answer_goes_on(client):
    body = infer(client, 1, tolerance=0.05, objective="cost").json()
    assert (body["variant"], body["variants"], body["confidence"]) == ("large", ["small", "large"], 0.25)


def test_request_without_a_tier_is_answered_as_before(client):
    body = infer(client).json()
    assert (body["request_class"], body["tier"], body["request_id"]) == ("strict", None, None)


@pytest.mark.parametrize(
    ("headers", "fields", "text"),
    [
        ({"X-Tolerance": "lots"}, {}, "X-Tolerance: expected points as a fraction of 1"),
        ({"X-Tolerance": "0.05"}, {"tolerance": 0.04}, "X-Tolerance: expected what the body says (0.04)"),
        ({"X-Tolerance": "0.01"}, {}, "relaxed: tolerance 0.05, objective cost, deadline_ms >= 4000"),
    ],
)
def test_what_cannot_be_is_answered_422_with_the_reason(client, headers, fields, text):
    answer = infer(client, headers=headers, **fields)
    assert answer.status_code == 422
    assert text in answer.json()["detail"]


def test_wrong_body_is_answered_422_by_field(client):
    answer = infer(client, tolerance="0.05")
    assert answer.status_code == 422
    assert [fault["loc"] for fault in answer.json()["detail"]] == [["body", "tolerance"]]


def test_tiers_are_listed_with_rule_guarantee_and_what_audits_have_shown(client):
    for value in ("sure", 1, 3):
        infer(client, value, headers={"X-Tolerance": "0.05"})
    (tier,) = client.get("/v1/tiers").json()["tiers"]
    assert tier == GUARANTEE | {
        "request_class": "relaxed",
        "task": "classify",
        "variants": ["small", "large"],
        "thresholds": [0.5],
        "is_concurrent": False,
        "deadline_ms": 4000.0,
        "is_demoted": False,
        "demoted_because": None,
        "audited": 3,
        "differing": 1,
        "labelled": 0,
    }


def test_right_answer_of_an_audited_request_is_of_use_once(client):
    token = infer(client, headers={"X-Tolerance": "0.05"}).json()["request_id"]
    told = [client.post("/v1/feedback", json={"request_id": token, "output": "even"}).json() for _ in range(2)]
    assert told == [{"is_used": True}, {"is_used": False}]
    assert client.get("/v1/tiers").json()["tiers"][0]["labelled"] == 1


def test_broken_contract_is_told_and_the_best_version_answers(client):
    for _ in range(60):
        infer(client, 3, headers={"X-Tolerance": "0.05"})
    (tier,) = client.get("/v1/tiers").json()["tiers"]
    assert tier["is_demoted"]
    assert "audited answers differ from the best version's" in tier["demoted_because"]
    body = infer(client, 3, headers={"X-Tolerance": "0.05"}).json()
    assert (body["variant"], body["tier"]["is_demoted"]) == ("large", True)
    assert 'provisor_router_tier_demoted{request_class="relaxed"} 1.0' in client.get("/metrics").text


def test_metrics_count_audits_apart(client):
    infer(client, 3, headers={"X-Tolerance": "0.05"})
    text = client.get("/metrics").text
    assert 'provisor_router_audit_audited_total{request_class="relaxed"} 1.0' in text
    assert 'provisor_router_audit_differing_total{request_class="relaxed"} 1.0' in text
    assert 'provisor_router_answered_total{request_class="relaxed"} 1.0' in text


def test_router_that_goes_away_refuses_with_a_time_to_come_again():
    shell = shell_of()
    with served(shell) as client:
        shell.is_draining = True
        answer = infer(client)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")


class Broken(InProcessShell):
    def model(self, variant, payload):
        raise ValueError("no")


def test_answer_that_is_lost_says_its_outcome():
    with served(shell_of(kind=Broken)) as client:
        answer = infer(client, max_latency_ms=1000)
    assert answer.status_code in (500, 504)
    assert answer.json()["outcome"] in ("lost", "expired")


def test_schema_documents_headers_and_answers():
    with TestClient(app) as client:
        schema = client.get("/openapi.json").json()
    named = {one["name"] for one in schema["paths"]["/v1/infer"]["post"]["parameters"]}
    assert named == {"X-Tolerance", "X-Objective", "X-Deadline-Ms"}
    assert set(InferAnswer.model_fields) == set(schema["components"]["schemas"]["InferAnswer"]["properties"])
