"""Cascades in the router: one request worked by hand, and the same requests in the simulator."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.arrays import CASCADE_STEPS, AnswerArrays
from controller.redundancy import next_step
from serving.cascade import Cascade, Worth
from serving.requests import Outcome
from tests import tiny
from tests.simulated import World, latencies, one_request, random_answers, setting_with, supply_of
from tests.unit.serving.drivers import RELAXED, STRICT, Driver
from tests.unit.serving.worlds import (
    LARGE,
    LARGE_LAMBDA,
    LARGE_OD,
    LARGE_SPOT,
    SMALL,
    SMALL_LAMBDA,
    SMALL_OD,
    SMALL_SPOT,
    cascade,
    setting,
)

SURE, UNSURE = 0.9, 0.2
ONE_OF_EACH = {SMALL_OD: 1, LARGE_OD: 1}


def world_of(small, serving=None, of=None, **changes):
    """A world whose small model is as sure as told, with one replica of each variant unless told."""
    world = Driver(of, confidence={SMALL: small, LARGE: SURE})
    world.use(ONE_OF_EACH if serving is None else serving, **changes)
    return world


def sent(world):
    """What was sent: time and option."""
    return [(pytest.approx(at), dispatch.option) for at, dispatch in world.sent]


def the_reply(world):
    """The only reply, and when it came."""
    ((at_s, reply),) = world.replies
    world.check_conserved()
    assert world.core.waiting == world.core.in_service == [0, 0]
    assert all(queue.credits_used == queue.waiting == 0 for queue in world.core.queues)
    return at_s, reply


def test_sure_answer_of_the_first_step_is_final():
    world = world_of(SURE, **cascade())
    world.arrive(RELAXED)
    world.until(2.0)
    at_s, reply = the_reply(world)
    assert (at_s, reply.option, reply.output) == (pytest.approx(0.1), SMALL_OD, SMALL_OD)
    assert (reply.confidence, reply.tried) == (SURE, (SMALL_OD,))
    assert world.core.tally.accuracy_sum[RELAXED] == pytest.approx(0.8)


@pytest.mark.parametrize("confidence", [UNSURE, None, np.nextafter(0.5, 0.0)])
def test_answer_that_is_not_sure_or_tells_no_confidence_goes_on_to_the_next_step(confidence):
    world = world_of(confidence, **cascade())
    request = world.arrive(RELAXED)
    world.until(2.0)
    at_s, reply = the_reply(world)
    assert sent(world) == [(0.0, SMALL_OD), (0.1, LARGE_OD)]
    assert (at_s, reply.option, reply.output) == (pytest.approx(0.3), LARGE_OD, LARGE_OD)
    assert (reply.confidence, reply.tried, request.attempts) == (SURE, (SMALL_OD, LARGE_OD), 2)
    tally = world.core.stats(2.0).tally
    assert (tally.answered.sum(), tally.answers[RELAXED, LARGE_OD]) == (1, 1)
    assert tally.accuracy_sum[RELAXED] == pytest.approx(0.9)
    assert tally.busy_s[[SMALL_OD, LARGE_OD]] == pytest.approx([0.1, 0.2])


def test_confidence_on_the_threshold_is_enough():
    world = world_of(0.5, **cascade())
    world.arrive(RELAXED)
    world.until(2.0)
    assert the_reply(world)[1].option == SMALL_OD


def test_answer_of_the_last_step_is_final_whatever_its_confidence():
    world = Driver(confidence={SMALL: UNSURE, LARGE: None})
    world.use(ONE_OF_EACH, **cascade())
    world.arrive(RELAXED)
    world.until(2.0)
    reply = the_reply(world)[1]
    assert (reply.option, reply.confidence) == (LARGE_OD, None)


def test_unsure_answer_stands_where_no_later_step_has_an_option():
    world = world_of(UNSURE, {SMALL_OD: 1}, **cascade())
    world.arrive(RELAXED)
    world.until(2.0)
    assert the_reply(world)[1].option == SMALL_OD


def test_first_step_without_an_option_is_skipped():
    world = world_of(UNSURE, {LARGE_OD: 1}, **cascade())
    world.arrive(RELAXED)
    world.until(2.0)
    assert sent(world) == [(0.0, LARGE_OD)]
    assert the_reply(world)[1].tried == (LARGE_OD,)


def test_class_is_answered_by_its_shares_where_no_step_has_an_option():
    world = world_of(UNSURE, {SMALL_OD: 1}, **cascade(LARGE))
    world.arrive(RELAXED)
    world.until(2.0)
    assert the_reply(world)[1].option == SMALL_OD


def shared(*options):
    shares = np.zeros((2, 6))
    shares[:, list(options)] = 1.0 / len(options)
    return shares


def test_first_step_that_lost_its_replicas_is_skipped_and_the_last_is_waited_for():
    coming = np.zeros(6, np.int64)
    coming[[SMALL_OD, LARGE_OD]] = 1
    world = world_of(UNSURE, {LARGE_OD: 1}, shares=shared(SMALL_OD, LARGE_OD), target=coming, **cascade())
    world.arrive(RELAXED)
    assert sent(world) == [(0.0, LARGE_OD)]
    world = world_of(UNSURE, {SMALL_OD: 1}, shares=shared(SMALL_OD, LARGE_OD), target=coming, **cascade())
    world.arrive(RELAXED)
    world.until(1.0)
    assert world.core.queues[LARGE_OD].waiting == world.core.waiting[RELAXED] == 1
    world.use(ONE_OF_EACH, sequence=1, **cascade())
    world.until(2.0)
    assert (the_reply(world)[1].option, world.replies[0][0]) == (LARGE_OD, pytest.approx(1.2))


def test_step_without_a_replica_gives_what_waits_for_it_to_the_next():
    world = world_of(SURE, ONE_OF_EACH, **cascade())
    for _ in range(2):
        world.arrive(RELAXED)
    assert world.core.queues[SMALL_OD].waiting == 1
    world.use({LARGE_OD: 1}, sequence=1, **cascade())
    assert sent(world)[-1] == (0.0, LARGE_OD)
    world.until(1.0)
    assert world.outcomes() == [Outcome.ANSWERED] * 2
    world.check_conserved()


def test_next_step_is_not_shed_though_its_queue_is_full():
    world = world_of(UNSURE, **cascade())
    world.core.queues[LARGE_OD].waiting_of[STRICT] = 1000
    world.arrive(STRICT)
    world.until(1.0)
    assert world.outcomes() == [Outcome.ANSWERED]


def test_whole_batch_goes_on_when_all_of_it_is_seen():
    world = world_of(UNSURE, batch_size=np.full(6, 2), batch_wait_s=np.full(6, 0.5), **cascade())
    for _ in range(2):
        world.arrive(RELAXED)
    world.until(2.0)
    # Two at 0.1 s each, then two at 0.2 s each, sent together.
    assert [(at, len(d.copies)) for at, d in world.sent] == [(0.0, 2), (pytest.approx(0.2), 2)]
    assert [at for at, _ in world.replies] == pytest.approx([0.6, 0.6])


def test_function_takes_a_step_and_may_refuse_it():
    world = world_of(UNSURE, {SMALL_OD: 3}, shares=shared(SMALL_OD, LARGE_LAMBDA), **cascade())
    for _ in range(3):
        world.arrive(RELAXED)
    world.until(2.0)
    # Two at a time is the pool's limit. Cold start 0.5 s and service 0.2 s after the first step's 0.1 s.
    assert sorted(world.outcomes(), key=lambda o: o.name) == [Outcome.ANSWERED] * 2 + [Outcome.REFUSED]
    assert [at for at, r in world.replies if r.outcome is Outcome.ANSWERED] == pytest.approx([0.8, 0.8])
    world.check_conserved()
    assert world.core.in_service == [0, 0]


@pytest.mark.parametrize(("is_concurrent", "begins_s"), [(False, 0.1), (True, 0.0)])
def test_later_step_whose_queue_is_long_overflows_to_its_variants_function(is_concurrent, begins_s):
    coming = np.zeros(6, np.int64)
    coming[[SMALL_OD, LARGE_OD]] = 1
    told = {"shares": shared(SMALL_OD, LARGE_OD), "target": coming} | cascade(concurrent=is_concurrent)
    overflow = {"overflow_after_s": np.full(2, 1.0), "overflow_fraction": np.ones(2)}
    world = world_of(UNSURE, {SMALL_OD: 1}, **told, **overflow)
    world.arrive(RELAXED)
    world.until(2.0)
    # A cold start takes 0.5 s and the service 0.2 s.
    at_s, reply = the_reply(world)
    assert (at_s, reply.option, reply.tried) == (pytest.approx(begins_s + 0.7), LARGE_LAMBDA, (SMALL_OD, LARGE_LAMBDA))
    assert world.core.tally.overflowed[RELAXED] == 1
    never = world_of(UNSURE, {SMALL_OD: 1}, **told, **(overflow | {"overflow_fraction": np.zeros(2)}))
    never.arrive(RELAXED)
    never.until(2.0)
    assert (never.core.queues[LARGE_OD].waiting, never.replies) == (1, [])


def test_later_step_with_a_free_replica_does_not_overflow():
    world = world_of(UNSURE, overflow_after_s=np.zeros(2), overflow_fraction=np.ones(2), **cascade())
    world.arrive(RELAXED)
    world.until(2.0)
    assert the_reply(world)[1].tried == (SMALL_OD, LARGE_OD)
    assert world.core.tally.overflowed.sum() == 0


@pytest.mark.parametrize("drops", [True, False])
def test_deadline_within_a_step_ends_the_request_there_unless_its_class_keeps_waiting(drops):
    world = world_of(UNSURE, of=setting(strict={"slo_s": 0.35, "drop_at_deadline": drops}), **cascade())
    for _ in range(2):
        world.arrive(RELAXED)
    world.until(0.1)
    world.arrive(STRICT)  # begins at 0.2, is answered at 0.3, waits for large until 0.5; its deadline is at 0.45
    world.until(2.0)
    reply = next(reply for _, reply in world.replies if reply.request.request_class == STRICT)
    assert reply.outcome is (Outcome.EXPIRED if drops else Outcome.ANSWERED)
    tally = world.core.tally
    assert (tally.missed[STRICT], tally.failed[STRICT], tally.answered[STRICT]) == ((1, 1, 0) if drops else (1, 0, 1))
    world.check_conserved()


def test_answer_of_a_step_after_the_deadline_takes_no_further_step():
    world = world_of(UNSURE, of=setting(strict={"slo_s": 0.15}), **cascade())
    world.arrive(RELAXED)
    world.until(0.04)
    world.arrive(STRICT)  # begins at 0.1 and is answered at 0.2; its deadline is at 0.19
    world.until(0.195)
    assert (world.core.tally.missed[STRICT], world.outcomes()) == (1, [])
    world.until(0.25)
    assert world.outcomes() == [Outcome.EXPIRED]
    assert (world.core.tally.missed[STRICT], world.core.tally.failed[STRICT]) == (1, 1)
    world.check_conserved()


def test_lost_replica_in_the_first_step_is_retried_there():
    world = world_of(UNSURE, **cascade())
    world.arrive(RELAXED)
    world.until(0.05)
    world.lose(world.sent[0][1])
    world.until(2.0)
    assert sent(world) == [(0.0, SMALL_OD), (0.05, SMALL_OD), (0.15, LARGE_OD)]
    assert the_reply(world)[1].tried == (SMALL_OD, LARGE_OD)
    assert [d.copies[0].attempt for _, d in world.sent] == [0, 1, 16]


def test_lost_replica_in_the_second_step_retries_that_step_alone():
    world = world_of(UNSURE, **cascade())
    world.arrive(RELAXED)
    world.until(0.2)
    world.lose(world.sent[1][1])
    world.until(2.0)
    assert sent(world) == [(0.0, SMALL_OD), (0.1, LARGE_OD), (0.2, LARGE_OD)]
    assert [d.copies[0].attempt for _, d in world.sent] == [0, 16, 17]
    assert the_reply(world)[0] == pytest.approx(0.4)
    assert world.core.tally.lost_s[LARGE_OD] == pytest.approx(0.1)


def test_each_step_has_its_own_retries():
    world = world_of(UNSURE, **cascade())
    world.arrive(RELAXED)
    for _ in range(4):
        world.lose(world.sent[-1][1])
    world.until(0.15)
    assert world.sent[-1][1].option == LARGE_OD
    for _ in range(5):
        assert world.replies == []
        world.lose(world.sent[-1][1])
    assert the_reply(world)[1].outcome is Outcome.LOST


def test_retry_of_a_step_that_serves_no_more_stays_within_its_variant():
    world = world_of(UNSURE, {SMALL_OD: 1, LARGE_SPOT: 1}, **cascade())
    world.arrive(RELAXED)
    world.until(0.2)
    dispatch = world.sent[1][1]
    world.use({SMALL_OD: 1, LARGE_OD: 1}, sequence=1, **cascade())
    world.lose(dispatch)
    assert sent(world)[-1] == (0.2, LARGE_OD)
    world.until(2.0)
    assert the_reply(world)[1].option == LARGE_OD


def test_duplicate_stays_within_the_step_and_the_first_unsure_answer_takes_the_next():
    world = world_of(UNSURE, {SMALL_OD: 1, SMALL_SPOT: 1, LARGE_OD: 1}, hedge_after_s=np.full(2, 0.04), **cascade())
    world.arrive(RELAXED)
    world.until(2.0)
    small = {SMALL_OD, SMALL_SPOT}
    assert {d.option for _, d in world.sent[:2]} == small
    assert sent(world)[2] == (0.1, LARGE_OD)
    assert world.cancelled == [world.sent[1][1]]
    assert the_reply(world)[1].tried[1:] == (LARGE_OD,)


def test_late_answer_of_a_withdrawn_duplicate_changes_nothing():
    shares = shared(SMALL_OD, SMALL_SPOT, LARGE_OD)
    world = world_of(
        UNSURE, {SMALL_OD: 1, SMALL_SPOT: 1, LARGE_OD: 1}, shares=shares, hedge_after_s=np.full(2, 0.04), **cascade()
    )
    world.arrive(RELAXED)
    world.until(0.15)
    withdrawn = world.cancelled[0]
    assert world.core.completed(withdrawn, world.answers(withdrawn), 0.15) == []
    world.until(2.0)
    assert the_reply(world)[0] == pytest.approx(0.3)


def test_cascade_that_ends_lets_requests_under_way_be_answered_where_they_are():
    world = world_of(UNSURE, **cascade())
    world.arrive(RELAXED)
    world.until(0.05)
    world.use(ONE_OF_EACH, sequence=1)
    world.until(2.0)
    assert the_reply(world)[1].option == SMALL_OD


def at_once(small, **changes):
    return world_of(small, **cascade(concurrent=True), **changes)


def test_of_two_steps_at_once_a_sure_first_answer_cancels_the_second_and_what_ran_is_counted():
    world = at_once(SURE)
    world.arrive(RELAXED)
    assert sent(world) == [(0.0, SMALL_OD), (0.0, LARGE_OD)]
    assert [d.copies[0].attempt for _, d in world.sent] == [0, 16]
    world.until(2.0)
    at_s, reply = the_reply(world)
    assert (at_s, reply.option, reply.tried) == (pytest.approx(0.1), SMALL_OD, (SMALL_OD,))
    assert world.cancelled == [world.sent[1][1]]
    assert world.core.stats(2.0).tally.busy_s[LARGE_OD] == pytest.approx(0.1)


def test_of_two_steps_at_once_a_sure_first_answer_takes_the_second_out_of_its_queue():
    world = at_once(SURE)
    world.arrive(RELAXED)
    world.now_s = 0.01
    world.arrive(RELAXED)  # small at 0.1 and large when the first one's is cancelled, at 0.1
    assert world.core.queues[LARGE_OD].waiting == 1
    world.until(0.15)
    assert len(world.cancelled) == 1
    world.until(2.0)
    assert world.outcomes() == [Outcome.ANSWERED] * 2
    assert len(world.cancelled) == 2
    world = world_of(
        SURE, {SMALL_OD: 1}, shares=shared(SMALL_OD, LARGE_OD), target=np.ones(6, np.int64), **cascade(concurrent=True)
    )
    world.arrive(RELAXED)
    assert world.core.queues[LARGE_OD].waiting == 1
    world.until(1.0)
    assert world.cancelled == []
    assert the_reply(world)[1].option == SMALL_OD


def test_of_two_steps_at_once_an_unsure_first_answer_waits_for_the_second():
    world = at_once(UNSURE)
    world.arrive(RELAXED)
    world.until(2.0)
    at_s, reply = the_reply(world)
    assert (at_s, reply.option, reply.tried) == (pytest.approx(0.2), LARGE_OD, (SMALL_OD, LARGE_OD))
    assert world.cancelled == []


def test_of_two_steps_at_once_an_unsure_first_answer_leaves_the_request_waiting_with_the_second():
    shares, coming = shared(SMALL_OD, LARGE_OD), np.ones(6, np.int64)
    world = world_of(UNSURE, {SMALL_OD: 1}, shares=shares, target=coming, **cascade(concurrent=True))
    world.arrive(RELAXED)
    assert (world.core.waiting[RELAXED], world.core.in_service[RELAXED]) == (0, 1)
    world.until(1.0)
    assert (world.core.waiting[RELAXED], world.core.in_service[RELAXED]) == (1, 0)
    world.until(5.0)
    assert the_reply(world)[1].outcome is Outcome.EXPIRED


@pytest.mark.parametrize(("large", "option"), [(SURE, LARGE_OD), (UNSURE, SMALL_OD)])
def test_of_two_steps_at_once_the_second_answer_waits_for_the_first_and_counts_if_that_is_unsure(large, option):
    world = Driver(confidence={LARGE: large, SMALL: SURE})
    world.use(ONE_OF_EACH, **cascade(LARGE, SMALL, concurrent=True))
    world.arrive(RELAXED)
    world.until(2.0)
    at_s, reply = the_reply(world)
    assert (at_s, reply.option, reply.output, reply.confidence) == (pytest.approx(0.2), option, option, SURE)
    assert reply.tried == (SMALL_OD, LARGE_OD)
    assert world.core.tally.answers[RELAXED, option] == 1


def test_of_two_steps_at_once_the_second_answer_is_kept_while_a_lost_first_is_retried():
    world = Driver(confidence={LARGE: UNSURE, SMALL: SURE})
    world.use(ONE_OF_EACH, **cascade(LARGE, SMALL, concurrent=True))
    world.arrive(RELAXED)
    world.until(0.15)
    world.lose(world.sent[0][1])
    world.until(2.0)
    at_s, reply = the_reply(world)
    assert (at_s, reply.option) == (pytest.approx(0.35), SMALL_OD)
    assert [d.option for _, d in world.sent] == [LARGE_OD, SMALL_OD, LARGE_OD]


@pytest.mark.parametrize(("small", "large_again"), [(SURE, 0), (UNSURE, 1)])
def test_of_two_steps_at_once_a_lost_second_is_taken_again_only_if_the_first_is_unsure(small, large_again):
    world = at_once(small)
    world.arrive(RELAXED)
    world.until(0.05)
    world.lose(world.sent[1][1])
    assert world.replies == []
    world.until(2.0)
    assert len(world.sent) == 2 + large_again
    assert the_reply(world)[1].option == (LARGE_OD if large_again else SMALL_OD)


def test_of_two_steps_at_once_the_second_alone_answers_for_a_first_that_is_lost():
    world = at_once(SURE)
    world.arrive(RELAXED)
    world.until(0.05)
    world.lose(world.sent[0][1])
    world.until(2.0)
    at_s, reply = the_reply(world)
    assert (at_s, reply.option, reply.tried) == (pytest.approx(0.2), LARGE_OD, (LARGE_OD,))


def test_of_two_steps_at_once_a_refused_second_leaves_the_first_alone():
    world = Driver(confidence={SMALL: SURE, LARGE: SURE})
    world.use({SMALL_OD: 3}, shares=shared(SMALL_OD, LARGE_LAMBDA), **cascade(concurrent=True))
    for _ in range(3):  # the pool takes two
        world.arrive(RELAXED)
    world.until(2.0)
    assert world.outcomes() == [Outcome.ANSWERED] * 3
    world.check_conserved()


def test_only_the_first_step_of_two_at_once_may_be_refused_at_arrival():
    world = Driver(confidence={SMALL: SURE})
    world.use({LARGE_OD: 1}, shares=shared(SMALL_LAMBDA, LARGE_OD), **cascade(concurrent=True))
    for _ in range(3):
        world.arrive(RELAXED)
    assert world.outcomes() == [Outcome.REFUSED]
    world.until(2.0)
    world.check_conserved()
    assert len(world.replies) == 3


@pytest.mark.slow
@pytest.mark.timeout(900)  # the first case compiles the kernels
@pytest.mark.parametrize("is_concurrent", [False, True])
@pytest.mark.parametrize("confidence", [SURE, UNSURE])
@pytest.mark.parametrize(
    ("small_s", "large_s", "slo_s", "drops"),
    [(0.55, 2.1, 500.0, True), (2.1, 0.55, 500.0, True), (0.55, 2.1, 0.4, True), (2.1, 0.55, 1.0, False)],
)
def test_request_fares_in_the_router_as_in_the_simulator(is_concurrent, confidence, small_s, large_s, slo_s, drops):
    options = [(tiny.SMALL, tiny.OD), (tiny.LARGE, tiny.OD)]
    seconds = setting_with().catalog.service_s.copy()
    for option, value in zip(options, (small_s, large_s), strict=True):
        seconds[option] = value
    of = setting_with(
        catalog={"service_s": seconds},
        workload={"slo_s": np.full(2, slo_s), "drop_at_deadline": np.full(2, drops)},
        answers=AnswerArrays(np.array([[confidence, SURE, SURE]]), np.array([[0.25, 0.0, 0.75]])),
    )
    seed, _, rates = one_request(5.0)
    simulated = World(of, supply_of(rates)).start(dict.fromkeys(options, 1), [seed]).route(*options)
    steps = cascade(tiny.SMALL, tiny.LARGE, concurrent=is_concurrent)
    simulated.plan.cascade_variant[:] = steps["cascade_variant"]
    simulated.plan.cascade_threshold[:] = steps["cascade_threshold"]
    simulated.plan.cascade_concurrent[:] = is_concurrent
    seen = simulated.tick()
    live = Driver(of, seed, {tiny.SMALL: confidence, tiny.LARGE: SURE}, lambda_pool=tiny.FN)
    flat = [v * 4 + p for v, p in options]
    live.use(dict.fromkeys(flat, 1), **steps)
    live.arrive(int(seen.arrivals[0].argmax()))
    live.until(10.0)
    tally = live.core.stats(10.0).tally
    for name in ("answered", "failed", "missed", "accuracy_sum"):
        assert getattr(tally, name).sum() == pytest.approx(getattr(seen, name).sum()), name
    assert np.flatnonzero(tally.latency.sum(axis=0)).tolist() == latencies(simulated)
    assert tally.busy_s == pytest.approx(seen.busy_s[0].reshape(-1))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_answers_are_worth_what_the_simulator_books():
    answers = random_answers(np.random.default_rng(3), num_rows=50)
    of = setting_with(answers=answers)
    simulated = World(of, supply_of(5.0)).start({(tiny.SMALL, tiny.OD): 1})
    variants, thresholds = (tiny.SMALL, tiny.MEDIUM, tiny.LARGE), (0.6, 0.4)
    simulated.plan.cascade_variant[:] = variants
    simulated.plan.cascade_threshold[:] = thresholds
    simulated.tick()
    booked = simulated.simulator.state.rules.path_accuracy[0, 0]
    worth = Worth(answers, of.catalog.accuracy)
    followed = Cascade(variants, thresholds, is_concurrent=False, num_options=np.ones(3, np.int64))
    for taken in range(1, 1 << CASCADE_STEPS):
        last = taken.bit_length() - 1
        for stands in (False, True) if last < CASCADE_STEPS - 1 else (False,):
            path = taken | stands << CASCADE_STEPS
            assert worth.of_way(followed, taken, last, stands) == pytest.approx(booked[path]), (taken, stands)


def test_answers_are_worth_the_variants_accuracy_where_none_were_measured():
    for table in (np.zeros((0, 2)), np.array([[0.9, np.nan]])):
        world = world_of(SURE)
        followed = Cascade((SMALL, LARGE), (0.5,), is_concurrent=False, num_options=np.ones(2, np.int64))
        request = world.arrive(RELAXED)
        world.until(1.0)
        found = Worth(AnswerArrays(table, table), np.array([0.8, 0.9]))
        assert found.of(followed, request, request.answers[-1], 3) == 0.8 + 0.1 * (request.answers[-1].option >= 3)


@given(st.integers(-1, 1), st.floats(0, 1), st.floats(0, 1), st.lists(st.integers(0, 2), min_size=3, max_size=3))
def test_next_step_is_that_of_the_simulators_rule(step, confidence, threshold, options):
    followed = Cascade((2, 0, 1), (threshold, threshold), is_concurrent=False, num_options=np.array(options))
    if step < 0:
        assert followed.from_step(0) == next_step(-1, 0.0, np.inf, np.array(options))
    else:
        assert followed.after(step, confidence) == next_step(step, confidence, threshold, np.array(options))
        assert followed.is_sure(step, confidence) == (confidence >= threshold)
