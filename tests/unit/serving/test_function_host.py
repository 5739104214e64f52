"""Whatever becomes of a call, its environment is free again and the account is kept."""

import asyncio
from random import Random

import pytest

from serving.aws.breaker import Breaker
from serving.aws.function_calls import Answered, FunctionFaultError, FunctionHost
from serving.aws.function_pool import FunctionPool, Spend
from serving.model_object import ModelAnswer
from serving.requests import Dispatch
from serving.serverless import NotCalledError
from tests.unit.serving.test_function_pool import TERMS

OPTION, NUM_POOLS, ROW = 5, 3, 2


class Caller:
    """Answers, or raises, as told."""

    def __init__(self, outcome):
        self.outcome, self.names = outcome, []

    async def infer(self, name, batch):
        self.names.append(name)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def called(outcome):
    """The pool, the dispatch and what the call came to."""
    pool = FunctionPool(TERMS, 2, expected_s=(1.0, 1.0), spend=Spend(1.0, 1.0), breaker=Breaker(Random(0)))
    call = pool.call(OPTION // NUM_POOLS, 0.0)
    dispatch = Dispatch(1, OPTION, [], 1.0, 0.0, environment=call.environment)
    caller = Caller(outcome)
    host = FunctionHost(caller, {OPTION: "f"}, {ROW: pool}, NUM_POOLS)
    try:
        found = asyncio.run(host.infer(dispatch, lambda: 0.5))
    except Exception as error:  # noqa: BLE001 - what it is, the test says
        found = error
    assert caller.names == ["f"]
    pool.finish(call.environment, 1.0, 1.0)
    return pool, dispatch, found


@pytest.mark.parametrize("is_cold", [False, True])
def test_answer_is_charged_as_reported(is_cold):
    pool, dispatch, found = called(Answered([ModelAnswer(7, 0.9)], is_cold, 0.25, 0.4))
    assert found == [ModelAnswer(7, 0.9)]
    assert pool.usd == pytest.approx(0.0025)
    assert (pool.invocations, pool.cold_starts) == (1, int(is_cold))
    assert (dispatch.cold_s > 0) == is_cold


@pytest.mark.parametrize("must_wait", [False, True])
def test_refusal_costs_nothing(must_wait):
    pool, _, found = called(NotCalledError("no", must_wait=must_wait))
    assert isinstance(found, NotCalledError)
    assert (pool.usd, pool.invocations, pool.throttled) == (0.0, 0, int(must_wait))
    assert pool.spend.usd == pytest.approx(1.0)
    assert pool.breaker.is_open(0.6) == must_wait


@pytest.mark.parametrize(
    ("error", "usd"), [(FunctionFaultError("raised", 0.5), 0.005), (TimeoutError("no answer"), 0.01)]
)
def test_call_that_may_have_run_is_charged(error, usd):
    pool, _, found = called(error)
    assert found is error
    assert pool.usd == pytest.approx(usd)
    assert pool.invocations == 1
