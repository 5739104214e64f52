"""The stand-in of Lambda does what Lambda's guide says, with processes that run the code: a row for each rule."""

import base64
import json
import threading

import pytest
from botocore.exceptions import ClientError

from experiments.cloud.function_service import Limits

pytestmark = pytest.mark.slow

OWN = "tests.cloud.own_models"


def invoke(account, one, inputs, client=None):
    answer = (client or account.client()).invoke(
        FunctionName=one.name, LogType="Tail", Payload=json.dumps({"inputs": inputs}).encode()
    )
    return answer, json.loads(answer["Payload"].read())


def code_of(raised):
    error = raised.value.response
    return error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Code"]


def side_by_side(count, call):
    """What so many calls at the same time came to: an answer, or the error's code."""
    found = [None] * count

    def one(i):
        try:
            found[i] = call()
        except ClientError as error:
            found[i] = error.response["Error"]["Code"]

    threads = [threading.Thread(target=one, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_environment_answers_call_after_call_and_is_cold_once(account):
    one = account.of(f"{OWN}:Parity")
    answers = [invoke(account, one, [[1, 2], [3, 5]])[1] for _ in range(3)]
    assert [answer["outputs"] for answer in answers] == [[1, 0]] * 3
    assert [answer["is_first"] for answer in answers] == [True, False, False]
    assert [call.is_cold for call in account.service.invocations] == [True, False, False]
    assert account.service.running == 1


def test_charge_of_a_call_comes_with_it(account):
    one = account.of(f"{OWN}:slow")
    answer, _ = invoke(account, one, [[1]])
    (call,) = account.service.invocations
    assert call.billed_ms >= 300
    assert f"Billed Duration: {call.billed_ms} ms" in base64.b64decode(answer["LogResult"]).decode()


def test_calls_at_a_time_have_an_environment_each(account):
    one = account.of(f"{OWN}:slow")
    client = account.client()
    found = side_by_side(3, lambda: invoke(account, one, [[1]], client)[1])
    assert all(answer["outputs"] == [[1]] for answer in found)
    assert account.service.running == 3


def test_more_calls_at_a_time_than_the_account_may_are_refused(account):
    one = account.of(f"{OWN}:slow")
    account.service.limits = Limits(concurrency=1)
    client = account.client()
    found = side_by_side(3, lambda: invoke(account, one, [[1]], client)[1])
    assert sorted(str(answer)[:8] for answer in found).count("TooManyR") >= 1
    assert any(isinstance(answer, dict) for answer in found)
    assert account.service.running == 1


def test_more_new_environments_than_a_burst_are_refused_and_warm_ones_go_on(account):
    one = account.of(f"{OWN}:slow")
    account.service.limits = Limits(burst=1)
    client = account.client()
    invoke(account, one, [[1]], client)
    found = side_by_side(2, lambda: invoke(account, one, [[1]], client)[1])
    assert sum(isinstance(answer, dict) for answer in found) == 1
    assert "TooManyRequestsException" in found


def test_body_that_is_too_large_is_refused(account):
    one = account.of(f"{OWN}:Parity")
    with pytest.raises(ClientError) as raised:
        invoke(account, one, ["x" * (6 * 1024 * 1024)])
    assert code_of(raised) == (413, "RequestTooLargeException")
    assert account.service.invocations == []


def test_idle_environment_is_given_back(account):
    one = account.of(f"{OWN}:Parity")
    invoke(account, one, [[1]])
    account.service.limits = Limits(keep_alive_s=0.0)
    account.service.expire()
    assert account.service.running == 0
    assert invoke(account, one, [[1]])[1]["is_first"]


@pytest.mark.parametrize(("name", "text"), [("failing", "no answer to 1"), ("short", "expected 1 outputs, got 0")])
def test_code_that_raises_is_told_as_a_function_error_and_charged(account, name, text):
    one = account.of(f"{OWN}:{name}")
    answer, payload = invoke(account, one, [[1]])
    assert answer["FunctionError"] == "Unhandled"
    assert text in payload["errorMessage"]
    assert account.service.invocations[0].has_failed


def test_function_that_is_not_there_is_told_as_such(account):
    with pytest.raises(ClientError) as raised:
        invoke(account, account.wanted(), [[1]])
    assert code_of(raised) == (404, "ResourceNotFoundException")
