import pytest

from serving.serverless import ServerlessPool, ServerlessTerms

TERMS = ServerlessTerms(
    limit=2,
    keep_alive_s=5.0,
    memory_gb=2.0,
    usd_per_gb_s=0.01,
    usd_per_request=0.001,
    provisioned_usd_per_gb_s=0.002,
    provisioned_compute_usd_per_gb_s=0.005,
    billing_step_s=0.1,
)


def test_first_call_is_cold_and_the_next_one_warm():
    pool = ServerlessPool(TERMS, 1)
    call = pool.call(0, 0.0)
    pool.finish(call.environment, 1.0, 1.0)
    again = pool.call(0, 2.0)
    assert (call.is_cold, again.is_cold) == (True, False)
    assert again.environment is call.environment
    assert (pool.invocations, pool.cold_starts) == (2, 1)


def test_environment_idle_for_the_keep_alive_is_given_back():
    pool = ServerlessPool(TERMS, 1)
    pool.finish(pool.call(0, 0.0).environment, 1.0, 1.0)
    assert pool.num_warm(5.9) == 1
    assert pool.num_warm(6.0) == 0
    assert pool.call(0, 6.0).is_cold


def test_a_reserved_environment_is_used_before_one_that_was_used_later():
    pool = ServerlessPool(TERMS, 1)
    other = pool.call(0, 0.0)
    pool.provision([1], 0.5)
    pool.finish(other.environment, 1.0, 1.0)
    call = pool.call(0, 2.0)
    assert (call.environment.is_provisioned, call.is_cold) == (True, False)
    assert pool.finish(call.environment, 3.0, 1.0) == pytest.approx(0.001 + 2.0 * 0.005)


def test_environment_used_last_is_used_first():
    pool = ServerlessPool(TERMS, 1)
    early, late = pool.call(0, 0.0), pool.call(0, 0.0)
    pool.finish(late.environment, 1.0, 1.0)
    pool.finish(early.environment, 2.0, 2.0)
    assert pool.call(0, 3.0).environment is early.environment


def test_environment_serves_one_variant_only():
    pool = ServerlessPool(TERMS, 2)
    pool.finish(pool.call(0, 0.0).environment, 1.0, 1.0)
    assert pool.call(1, 1.5).is_cold


def test_calls_beyond_the_limit_of_their_function_are_throttled():
    pool = ServerlessPool(TERMS, 2)
    assert pool.call(0, 0.0) is not None
    assert pool.call(0, 0.0) is not None
    assert pool.call(0, 0.0) is None
    assert pool.call(1, 0.0) is not None
    assert pool.throttled == 1


def test_call_is_billed_by_rounded_duration_and_fee():
    pool = ServerlessPool(TERMS, 1)
    # 0.25 s rounds up to 0.3 s: 0.3 x 2 GB x 0.01 + 0.001.
    assert pool.finish(pool.call(0, 0.0).environment, 0.25, 0.25) == pytest.approx(0.007)
    assert pool.usd == pytest.approx(0.007)


def test_reserved_environments_are_warm_stay_and_are_billed_while_reserved():
    pool = ServerlessPool(TERMS, 1)
    pool.provision([1], 0.0)
    assert pool.ready(100.0).tolist() == [1]
    call = pool.call(0, 100.0)
    assert not call.is_cold
    # 0.1 s x 2 GB x 0.005 + 0.001 for the call, 100 s x 2 GB x 0.002 for the reservation.
    assert pool.finish(call.environment, 100.1, 0.1) == pytest.approx(0.002)
    pool.provision([0], 100.0)
    assert pool.usd == pytest.approx(0.402)
    assert pool.num_warm(104.0) == 1
    assert pool.num_warm(106.0) == 0
