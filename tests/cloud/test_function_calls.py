"""Calls by the router: answered, refused or failed, and charged as Lambda reports, cent for cent."""

import asyncio

import pytest

from controller.bill import serverless_usd
from experiments.cloud.function_service import Limits
from serving.aws.function_calls import FunctionCaller, FunctionFaultError
from serving.model_object import ModelAnswer
from serving.serverless import NotCalledError

pytestmark = pytest.mark.slow

OWN = "tests.cloud.own_models"


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stand-in")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "stand-in")


def infer(account, one, batch):
    return asyncio.run(FunctionCaller(account.terms, 4).infer(one.name, batch))


def test_answer_says_what_it_cost_and_whether_it_was_cold(account):
    one = account.of(f"{OWN}:Parity")
    first, second = (infer(account, one, [[1, 2]]) for _ in range(2))
    assert (first.answers, first.is_cold) == ([ModelAnswer(1)], True)
    assert (second.answers, second.is_cold) == ([ModelAnswer(1)], False)
    billed = [call.billed_ms / 1000 for call in account.service.invocations]
    assert [first.billed_s, second.billed_s] == billed
    assert second.took_s < first.took_s


@pytest.mark.parametrize(
    ("limits", "batch", "must_wait"),
    [(Limits(refuse_next=1), [[1]], True), (Limits(), ["x" * (6 * 1024 * 1024)], False)],
)
def test_refused_call_says_whether_to_wait(account, limits, batch, must_wait):
    one = account.of(f"{OWN}:Parity")
    account.service.limits = limits
    with pytest.raises(NotCalledError) as raised:
        infer(account, one, batch)
    assert raised.value.must_wait == must_wait
    assert account.service.invocations == []


def test_function_that_is_gone_is_not_called_again_at_once(account):
    with pytest.raises(NotCalledError) as raised:
        infer(account, account.wanted(), [[1]])
    assert raised.value.must_wait


def test_model_that_raises_is_charged(account):
    one = account.of(f"{OWN}:failing")
    with pytest.raises(FunctionFaultError, match="no answer to 1") as raised:
        infer(account, one, [[1]])
    assert raised.value.billed_s == account.service.invocations[0].billed_ms / 1000
    assert serverless_usd(raised.value.billed_s, 0.001, 0.25, 1.6667e-05, 2e-7) > 0
