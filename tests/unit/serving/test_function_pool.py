"""The ledger of functions: nothing over the budget, nothing while calls are refused, charged as reported."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.aws.breaker import Breaker
from serving.aws.function_pool import FunctionPool, Spend
from serving.serverless import ServerlessTerms

TERMS = ServerlessTerms(
    limit=3,
    keep_alive_s=300.0,
    memory_gb=1.0,
    usd_per_gb_s=0.01,
    usd_per_request=0.0,
    provisioned_usd_per_gb_s=0.0,
    provisioned_compute_usd_per_gb_s=0.0,
    billing_step_s=0.001,
)


def pool_of(usd_per_hour=3600.0, burst_usd=1.0, expected_s=1.0):
    spend = Spend(usd_per_hour, burst_usd)
    return FunctionPool(TERMS, 1, expected_s=(expected_s,), spend=spend, breaker=Breaker(Random(0), 1.0, 8.0))


def test_calls_are_charged_as_reported_and_as_expected_where_nothing_is():
    pool = pool_of()
    for billed_s, charge in ((0.2, 0.002), (None, 0.01)):
        call = pool.call(0, 0.0)
        pool.finish(call.environment, 1.0, 99.0)
        assert pool.answered(call.environment, billed_s, is_cold=False) == pytest.approx(charge)
    assert pool.usd == pytest.approx(0.012)
    assert (pool.invocations, pool.cold_starts) == (2, 0)


def test_call_that_is_needed_no_more_is_charged_when_it_is_over():
    pool = pool_of()
    call = pool.call(0, 0.0)
    pool.finish(call.environment, 0.1, 0.1)
    assert (pool.usd, pool.num_busy) == (0.0, 0)
    pool.answered(call.environment, 0.5, is_cold=True)
    assert pool.usd == pytest.approx(0.005)
    assert pool.cold_starts == 1


def test_no_more_at_a_time_than_the_limit():
    pool = pool_of()
    calls = [pool.call(0, 0.0) for _ in range(4)]
    assert [call is None for call in calls] == [False, False, False, True]
    assert not pool.admits(0, 0.0)
    pool.finish(calls[0].environment, 1.0, 1.0)
    assert pool.admits(0, 1.0)


def test_refused_call_costs_nothing_and_stops_the_next_until_one_is_tried():
    pool = pool_of()
    first, second = pool.call(0, 0.0), pool.call(0, 0.0)
    for call in (first, second):
        pool.finish(call.environment, 0.1, 0.1)
        pool.refused(call.environment, 0.1, must_wait=True)
    assert (pool.usd, pool.invocations, pool.throttled) == (0.0, 0, 2)
    assert pool.spend.usd == pytest.approx(1.0)
    assert pool.call(0, 0.2) is None
    later_s = 0.1 + 2.0  # two failures
    trial = pool.call(0, later_s)
    assert trial is not None
    assert pool.call(0, later_s) is None  # one at a time until it is known
    pool.finish(trial.environment, later_s, 0.1)
    pool.answered(trial.environment, 0.1, is_cold=False)
    assert pool.call(0, later_s) is not None


def test_body_that_was_too_large_stops_nothing():
    pool = pool_of()
    call = pool.call(0, 0.0)
    pool.finish(call.environment, 0.1, 0.1)
    pool.refused(call.environment, 0.1, must_wait=False)
    assert pool.admits(0, 0.1)


@given(
    st.lists(st.tuples(st.floats(0.0, 30.0), st.floats(0.001, 5.0)), max_size=60),
    st.floats(0.1, 50.0),
    st.floats(0.005, 0.5),
)
def test_spend_stays_in_the_budget_but_for_what_the_last_calls_cost_more_than_expected(steps, usd_per_hour, burst_usd):
    pool = pool_of(usd_per_hour, burst_usd)
    now_s = excess = 0.0
    for gap_s, billed_s in steps:
        now_s += gap_s
        call = pool.call(0, now_s)
        if call is not None:
            pool.finish(call.environment, now_s, billed_s)
            charge = pool.answered(call.environment, billed_s, is_cold=False)
            # A call may cost more than is held for it, once; the debt is paid before the next.
            excess = max(charge, 0.01)
        assert pool.usd <= burst_usd + now_s * usd_per_hour / 3600.0 + excess + 1e-9
