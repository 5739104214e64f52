import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.requests import Outcome
from serving.serverless import ServerlessPool
from tests.unit.serving.drivers import LAMBDA_POOL, RELAXED, STRICT, Driver
from tests.unit.serving.worlds import (
    LARGE,
    LARGE_OD,
    LARGE_SPOT,
    SMALL,
    SMALL_LAMBDA,
    SMALL_OD,
    SMALL_SPOT,
    cascade,
    setting,
)


def test_requests_of_all_classes_leave_an_option_in_order_of_arrival():
    world = Driver()
    world.use({SMALL_OD: 1})
    requests = []
    for i in range(4):
        world.now_s = i * 0.01
        requests.append(world.arrive(RELAXED if i % 2 else STRICT))
    world.until(1.0)
    assert [d.copies[0].request for _, d in world.sent] == requests
    # One replica at 0.1 s each: 0, 0.1, 0.2, 0.3.
    assert [at for at, _ in world.sent] == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_no_more_batches_run_than_there_are_credits():
    world = Driver()
    world.use({SMALL_OD: 2})
    for _ in range(4):
        world.arrive(RELAXED)
    assert len(world.running) == 2
    assert world.core.queues[SMALL_OD].waiting == 2


def test_batch_leaves_when_full_or_when_its_oldest_has_waited_long_enough():
    world = Driver()
    batch = np.full(6, 2)
    world.use({SMALL_OD: 1}, batch_size=batch, batch_wait_s=np.full(6, 0.3))
    world.arrive(RELAXED)
    world.until(0.2)
    assert world.sent == []
    world.until(0.4)
    # Alone it waits 0.3 s; a batch of one takes 0.1 s.
    assert [(at, len(d.copies)) for at, d in world.sent] == [(pytest.approx(0.3), 1)]
    world.until(1.0)
    world.arrive(RELAXED)
    world.arrive(RELAXED)
    assert [(at, len(d.copies)) for at, d in world.sent[1:]] == [(1.0, 2)]
    world.until(2.0)
    # A batch of two takes 2 x 0.1 s.
    assert world.sent[1][1].service_s == pytest.approx(0.2)


def test_queued_request_is_dropped_at_its_deadline_and_one_in_service_is_answered_late():
    # Batches of one at 0.2 s, deadline 0.95 s: the fifth starts at 0.8 s, the sixth would start at 1.0 s.
    world = Driver(setting(strict={"queue_limit": 100, "slo_s": 0.95}))
    world.use({LARGE_OD: 1})
    for _ in range(7):
        world.arrive(STRICT)
    world.until(1.5)
    assert world.outcomes() == [Outcome.ANSWERED] * 4 + [Outcome.EXPIRED] * 2 + [Outcome.ANSWERED]
    assert [at for at, _ in world.replies[4:]] == pytest.approx([0.95, 0.95, 1.0])
    assert world.core.tally.failed[STRICT] == 2
    assert world.core.tally.missed[STRICT] == 3


def test_late_answer_is_counted_as_a_miss_once_when_its_deadline_passes():
    world = Driver(setting(strict={"slo_s": 0.15}))
    world.use({SMALL_OD: 1})
    world.arrive(RELAXED)
    world.now_s = 0.01
    world.arrive(STRICT)  # starts at 0.1, due at 0.16, answered at 0.2
    world.until(0.17)
    assert world.core.tally.missed[STRICT] == 1
    world.until(0.3)
    assert world.core.tally.answered[STRICT] == 1
    assert world.core.tally.missed[STRICT] == 1


def test_class_that_keeps_its_late_requests_answers_them():
    world = Driver(setting(strict={"slo_s": 0.15, "drop_at_deadline": False}))
    world.use({SMALL_OD: 1})
    for _ in range(3):
        world.arrive(STRICT)
    world.until(1.0)
    assert world.outcomes() == [Outcome.ANSWERED] * 3
    # Answered at 0.1, 0.2 and 0.3 s against 0.15 s.
    assert world.core.tally.missed[STRICT] == 2
    assert world.core.tally.failed[STRICT] == 0


def test_class_that_fills_its_queue_is_shed_and_the_other_is_not():
    world = Driver()
    world.use({SMALL_OD: 1})
    for _ in range(5):  # one in service, three queued (the limit), one refused
        world.arrive(STRICT)
    world.arrive(RELAXED)
    assert world.outcomes() == [Outcome.SHED]
    assert world.core.waiting == [3, 1]
    reply = world.replies[0][1]
    # Three queued and one in service before one replica at 0.1 s each: (3 + 1 - 1 + 1) x 0.1.
    assert reply.retry_after_s == pytest.approx(0.4)


def test_plan_may_shed_before_the_queue_limit():
    world = Driver()
    world.use({SMALL_OD: 1}, shed_limit=np.array([1, 1000]))
    for _ in range(3):
        world.arrive(STRICT)
    assert world.outcomes() == [Outcome.SHED]


def test_overflow_goes_to_serverless_only_when_the_predicted_wait_is_too_long():
    world = Driver()
    world.use({SMALL_OD: 1}, overflow_after_s=np.full(2, 0.15), overflow_fraction=np.ones(2))
    first, second, third = (world.arrive(RELAXED) for _ in range(3))
    # Predicted waits: 0 s, 0.1 s and 0.2 s.
    assert [r.copies[0].option for r in (first, second)] == [SMALL_OD, SMALL_OD]
    assert third.copies[0].option == int(world.setting.workload.overflow_option[RELAXED])
    assert world.core.tally.overflowed[RELAXED] == 1


def test_overflow_fraction_zero_never_overflows():
    world = Driver()
    world.use({SMALL_OD: 1}, overflow_after_s=np.zeros(2), overflow_fraction=np.zeros(2))
    for _ in range(6):
        world.arrive(RELAXED)
    assert world.core.tally.overflowed.sum() == 0


def test_serverless_pool_at_its_limit_refuses():
    world = Driver()
    shares = np.zeros((2, 6))
    shares[:, SMALL_LAMBDA] = 1.0
    world.use({}, shares=shares)
    for _ in range(3):
        world.arrive(RELAXED)
    assert world.outcomes() == [Outcome.REFUSED]
    assert world.core.tally.shed[RELAXED] == world.core.tally.missed[RELAXED] == 1
    world.until(1.0)
    # Cold start 0.5 s and service 0.1 s.
    assert [at for at, r in world.replies if r.outcome is Outcome.ANSWERED] == pytest.approx([0.6, 0.6])


def test_request_that_lost_its_replica_is_retried_in_front_of_later_ones():
    world = Driver()
    world.use({SMALL_OD: 1})
    first = world.arrive(RELAXED)
    world.now_s = 0.02
    world.arrive(RELAXED)
    world.now_s = 0.05
    world.lose(world.sent[0][1])
    assert world.sent[1][1].copies[0].request is first
    world.until(1.0)
    assert world.outcomes() == [Outcome.ANSWERED, Outcome.ANSWERED]
    assert world.core.tally.retried == 1
    assert world.core.tally.lost_s[SMALL_OD] == pytest.approx(0.05)


def test_request_lost_after_its_deadline_is_failed():
    world = Driver(setting(strict={"slo_s": 0.3}))
    world.use({LARGE_OD: 1})
    world.arrive(STRICT)
    world.arrive(STRICT)  # starts at 0.2, due at 0.3
    world.until(0.35)
    world.lose(world.sent[1][1])
    assert world.outcomes() == [Outcome.ANSWERED, Outcome.LOST]
    assert world.core.tally.failed[STRICT] == world.core.tally.missed[STRICT] == 1


def test_request_is_failed_when_it_loses_its_replica_again_and_again():
    world = Driver()
    world.use({SMALL_OD: 1})
    world.arrive(RELAXED)
    for _ in range(5):  # the first and four retries
        world.lose(world.sent[-1][1])
    assert world.outcomes() == [Outcome.LOST]
    assert len(world.sent) == 5


def test_batch_whose_model_raised_is_not_retried():
    world = Driver()
    world.use({SMALL_OD: 1})
    world.arrive(RELAXED)
    dispatch = world.sent[0][1]
    world.take(world.core.lost(dispatch, 0.01, may_run_again=False))
    assert world.outcomes() == [Outcome.LOST]
    assert world.core.queues[SMALL_OD].credits_used == 0


def test_hedge_is_sent_after_its_delay_and_the_slower_copy_is_cancelled():
    world = Driver()
    shares = np.zeros((2, 6))
    shares[:, LARGE_OD] = 1.0
    world.use({LARGE_OD: 1, SMALL_SPOT: 1}, shares=shares, hedge_after_s=np.full(2, 0.05))
    request = world.arrive(RELAXED)
    # The duplicate is drawn from the split in force when it is sent.
    shares = np.zeros((2, 6))
    shares[:, SMALL_SPOT] = 1.0
    world.use({LARGE_OD: 1, SMALL_SPOT: 1}, shares=shares, hedge_after_s=np.full(2, 0.05), sequence=1)
    world.until(1.0)
    assert [(at, d.option) for at, d in world.sent] == [(0.0, LARGE_OD), (pytest.approx(0.05), SMALL_SPOT)]
    # 0.05 + 0.1 s comes before 0.2 s.
    assert [(at, r.option) for at, r in world.replies] == [(pytest.approx(0.15), SMALL_SPOT)]
    assert world.cancelled == [world.sent[0][1]]
    assert world.core.queues[LARGE_OD].credits_used == 0
    assert request.attempts == 2
    assert world.core.tally.answered[RELAXED] == 1


def test_hedge_of_a_request_still_queued_is_withdrawn_when_the_other_answers():
    world = Driver()
    shares = np.zeros((2, 6))
    shares[:, SMALL_OD] = 1.0
    world.use({SMALL_OD: 1}, shares=shares, hedge_after_s=np.full(2, 0.05))
    world.arrive(RELAXED)
    world.arrive(RELAXED)
    world.until(2.0)
    assert world.outcomes() == [Outcome.ANSWERED, Outcome.ANSWERED]
    assert world.core.queues[SMALL_OD].waiting == 0
    world.check_conserved()


def test_queue_of_an_option_that_is_gone_moves_to_those_that_serve():
    world = Driver()
    world.use({SMALL_OD: 1})
    for _ in range(3):
        world.arrive(RELAXED)
    world.use({LARGE_SPOT: 1}, sequence=1)
    assert world.core.queues[SMALL_OD].waiting == 0
    assert world.core.queues[LARGE_SPOT].waiting + len(world.running) == 3
    world.until(3.0)
    assert world.outcomes() == [Outcome.ANSWERED] * 3


def test_queue_waits_where_a_replica_is_starting():
    world = Driver()
    target = np.zeros(6, np.int64)
    target[SMALL_OD] = 1
    shares = np.zeros((2, 6))
    shares[:, SMALL_OD] = 1.0
    world.use({}, shares=shares, target=target)
    world.arrive(RELAXED)
    world.until(0.5)
    assert world.core.queues[SMALL_OD].waiting == 1
    world.use({SMALL_OD: 1}, shares=shares, target=target)
    world.until(1.0)
    assert world.outcomes() == [Outcome.ANSWERED]


def test_rules_older_than_those_in_force_are_ignored():
    world = Driver()
    world.use({SMALL_OD: 1}, sequence=5)
    world.use({LARGE_OD: 1}, sequence=4)
    assert world.core.rules.serving[SMALL_OD] == 1


def test_busy_seconds_are_those_of_credits_in_use():
    world = Driver()
    world.use({SMALL_OD: 1})
    for _ in range(3):
        world.arrive(RELAXED)
    world.until(1.0)
    assert world.core.stats(1.0).tally.busy_s[SMALL_OD] == pytest.approx(0.3)


def test_draws_depend_on_the_request_alone():
    first, second = Driver(), Driver()
    for world, before in ((first, 0), (second, 3)):
        world.use({SMALL_OD: 1, LARGE_SPOT: 1})
        for i in range(before):
            world.arrive(RELAXED, identity=100 + i)
        world.until(2.0)
        world.arrive(RELAXED, identity=7)
    assert first.sent[-1][1].option == second.sent[-1][1].option
    assert first.sent[-1][1].service_s == second.sent[-1][1].service_s


steps = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.integers(0, 1)),
        st.tuples(st.just("wait"), st.floats(0.0, 0.6)),
        st.tuples(st.just("lose"), st.integers(0, 5)),
        st.tuples(st.just("serve"), st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 1))),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(
    steps,
    st.integers(1, 3),
    st.sampled_from([0.0, 0.05, np.inf]),
    st.floats(0, 1),
    st.sampled_from([{}, cascade(), cascade(concurrent=True), cascade(LARGE, SMALL)]),
)
def test_requests_are_conserved(events, batch, hedge_after_s, fraction, in_steps):
    world = Driver(confidence={SMALL: lambda request: request.identity * 0.37 % 1.0})
    changes = in_steps | {
        "batch_size": np.full(6, batch),
        "batch_wait_s": np.full(6, 0.02),
        "hedge_after_s": np.full(2, hedge_after_s),
        "overflow_after_s": np.full(2, 0.1),
        "overflow_fraction": np.full(2, fraction),
    }
    world.use({SMALL_OD: 1, LARGE_SPOT: 1}, **changes)
    sequence = 0
    for kind, value in events:
        if kind == "arrive":
            world.arrive(value)
        elif kind == "wait":
            world.until(world.now_s + value)
        elif kind == "lose" and value < len(world.running):
            world.lose(world.running[value][1])
        elif kind == "serve":
            sequence += 1
            counts = {o: n for o, n in zip((SMALL_OD, SMALL_SPOT, LARGE_OD), value, strict=True) if n}
            world.use(counts, sequence=sequence, **changes)
        world.check_conserved()
    world.use({SMALL_OD: 3, LARGE_OD: 3}, sequence=sequence + 1, **changes)
    world.until(world.now_s + 20.0)
    assert not world.running
    world.check_conserved()
    assert world.core.waiting == [0, 0]
    assert world.core.in_service == [0, 0]
    assert len(world.replies) == world.core.tally.arrived.sum()
    assert len({id(reply.request) for _, reply in world.replies}) == len(world.replies)


def test_retry_after_is_given_without_any_serving_option():
    world = Driver()
    world.use({})
    world.arrive(STRICT)
    assert world.outcomes() == [Outcome.SHED]
    assert world.replies[0][1].retry_after_s == 1.0


def shared_between(world, *options):
    """Shares in equal parts over the options, whatever serves."""
    shares = np.zeros((2, world.core.tables.num_options))
    shares[:, list(options)] = 1.0 / len(options)
    return shares


def test_option_that_lost_its_last_replica_gets_nothing_while_another_serves():
    world = Driver()
    world.use({SMALL_OD: 2}, shares=shared_between(world, SMALL_OD, SMALL_SPOT))
    for _ in range(12):
        world.arrive(RELAXED)
    assert world.core.queues[SMALL_SPOT].waiting == 0
    world.until(2.0)
    assert world.outcomes() == [Outcome.ANSWERED] * 12


def test_requests_wait_where_a_replica_is_coming_while_nothing_serves():
    world = Driver()
    target = np.zeros(6, np.int64)
    target[SMALL_SPOT] = 1
    world.use({}, shares=shared_between(world, SMALL_SPOT), target=target)
    world.arrive(RELAXED)
    assert world.core.queues[SMALL_SPOT].waiting == 1
    world.until(1.0)
    world.use({SMALL_SPOT: 1}, sequence=1)
    world.until(2.0)
    assert world.outcomes() == [Outcome.ANSWERED]


def test_request_that_lost_its_replica_is_queued_where_one_serves():
    world = Driver()
    world.use({SMALL_SPOT: 1})
    request = world.arrive(RELAXED)
    dispatch = world.sent[0][1]
    target = np.zeros(6, np.int64)
    target[[SMALL_SPOT, SMALL_OD]] = 1
    world.use({SMALL_OD: 1}, shares=shared_between(world, SMALL_SPOT, SMALL_OD), target=target, sequence=1)
    world.lose(dispatch)
    assert request.copies[-1].option == SMALL_OD
    world.until(1.0)
    assert world.outcomes() == [Outcome.ANSWERED]
    world.check_conserved()


def test_queue_of_an_option_that_serves_no_more_moves_to_those_that_do():
    world = Driver()
    world.use({SMALL_SPOT: 1})
    for _ in range(5):
        world.arrive(RELAXED)
    target = np.zeros(6, np.int64)
    target[[SMALL_SPOT, SMALL_OD]] = 1  # a replacement is on its way, but another option answers now
    world.use({SMALL_OD: 1}, shares=shared_between(world, SMALL_SPOT, SMALL_OD), target=target, sequence=1)
    assert world.core.queues[SMALL_SPOT].waiting == 0
    assert world.core.queues[SMALL_OD].waiting == 3  # one of four is sent at once
    world.until(1.0)
    assert world.outcomes() == [Outcome.ANSWERED] * 5
    world.check_conserved()


class Closed(ServerlessPool):
    """A pool that takes nothing now."""

    def admits(self, variant, now_s):
        return False


def test_nothing_overflows_to_a_pool_that_takes_nothing():
    world = Driver()
    pool = world.core.serverless[LAMBDA_POOL]
    world.core.serverless[LAMBDA_POOL] = Closed(pool.terms, 2)
    world.use({SMALL_OD: 1}, overflow_after_s=np.full(2, 0.15), overflow_fraction=np.ones(2))
    requests = [world.arrive(RELAXED) for _ in range(4)]
    assert {r.copies[0].option for r in requests} == {SMALL_OD}
    assert world.core.tally.overflowed.sum() == 0


@pytest.mark.parametrize("how", ["lost", "not_called"])
def test_request_whose_call_was_in_vain_goes_to_a_machine(how):
    world = Driver()
    world.use({SMALL_OD: 1}, overflow_after_s=np.full(2, 0.15), overflow_fraction=np.ones(2))
    _, _, third = (world.arrive(RELAXED) for _ in range(3))
    dispatch = third.copies[0].dispatch
    world.running = [(at, d) for at, d in world.running if d is not dispatch]
    world.take(getattr(world.core, how)(dispatch, world.now_s))
    assert third.copies[-1].option == SMALL_OD
    world.until(2.0)
    assert world.outcomes() == [Outcome.ANSWERED] * 3
    assert world.core.tally.lost.sum() == (how == "lost")
    world.check_conserved()


def test_request_whose_call_was_in_vain_and_that_has_no_machine_is_called_again():
    world = Driver()
    shares = np.zeros((2, 6))
    shares[:, SMALL_LAMBDA] = 1.0
    world.use({}, shares=shares)
    request = world.arrive(RELAXED)
    world.lose(request.copies[0].dispatch)
    assert request.copies[-1].dispatch.environment is not None
    world.until(2.0)
    assert world.outcomes() == [Outcome.ANSWERED]
    world.check_conserved()
