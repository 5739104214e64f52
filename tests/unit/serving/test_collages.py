"""Collages and re-sending in the router: one request worked by hand, what holds whatever comes, and the simulator."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.model_object import Cells, ModelAnswer, answers_of
from serving.requests import Outcome
from tests import tiny
from tests.simulated import World, collages_of, latencies, one_request, setting_with, supply_of
from tests.unit.serving.drivers import RELAXED, STRICT, Driver
from tests.unit.serving.worlds import SMALL_OD, SMALL_SPOT, setting

OWN, OTHER, PASS, OTHER_PASS = 0, 1, 8, 9  # options v * 4 + p: small and large on two machine pools
AFTER_S = 0.3
ONE_OF_EACH = {OWN: 1, PASS: 1}
WITHOUT_REPLICA = {"shares": np.eye(12)[[OWN, OWN]] + np.eye(12)[[PASS, PASS]]}  # of its own option


def collage_setting(own_s=5.0, pass_s=0.1, cells=2, other_s=0.2, other_pass_s=0.1, slo_s=500.0, drops=True):
    base = setting_with(batch_max=4)
    seconds = base.catalog.service_s.copy()
    for option, value in ((OWN, own_s), (OTHER, other_s), (PASS, pass_s), (OTHER_PASS, other_pass_s)):
        seconds[option // 4, option % 4] = value
    return setting_with(
        batch_max=4,
        catalog={"service_s": seconds, "cells": np.array([1, 1, cells])},
        workload=collages_of(base.workload, tiny.LARGE)
        | {"slo_s": np.full(2, slo_s), "drop_at_deadline": np.full(2, drops)},
    )


def collage_rules(after_s=AFTER_S, passes=1, variant=tiny.LARGE):
    by_class = {"collage_variant": variant, "collage_after_s": after_s, "collage_passes": passes}
    return {name: np.full(2, value) for name, value in by_class.items()}


def world_of(serving=None, changes=None, seed=1, **times):
    world = Driver(collage_setting(**times), seed, {tiny.SMALL: 0.9, tiny.LARGE: 0.7}, lambda_pool=tiny.FN)
    world.use(ONE_OF_EACH if serving is None else serving, **(collage_rules() if changes is None else changes))
    return world


def sent(world):
    return [(pytest.approx(at), dispatch.option) for at, dispatch in world.sent]


def replies(world):
    """When each answer came and from which option; nothing is left of any request or pass."""
    world.check_conserved()
    assert world.core.waiting == world.core.in_service == [0, 0]
    assert all(queue.credits_used == queue.waiting == 0 for queue in world.core.queues)
    assert len({id(reply.request) for _, reply in world.replies}) == len(world.replies)
    return [(pytest.approx(at), reply.option) for at, reply in world.replies]


def test_lone_straggler_is_answered_by_a_pass_of_its_own():
    world = world_of()
    request = world.arrive(RELAXED)
    world.until(10.0)
    assert sent(world) == [(0.0, OWN), (0.3, PASS)]
    assert replies(world) == [(0.4, PASS)]
    assert (request.answers[-1].output, world.replies[0][1].confidence) == (PASS, 0.7)
    tally = world.core.stats(10.0).tally
    assert tally.busy_s[[OWN, PASS]] == pytest.approx([0.4, 0.1])  # what ran is billed, the rest taken back
    assert (tally.passes, tally.from_collage, tally.answers[RELAXED, PASS]) == (1, 1, 1)
    assert tally.accuracy_sum[RELAXED] == pytest.approx(tiny.ACCURACY[tiny.LARGE])
    assert [dispatch.option for dispatch in world.cancelled] == [OWN]


def test_full_group_is_sent_at_once_and_answers_each_request_when_it_straggles():
    world = world_of({OWN: 2, PASS: 1})
    first = world.arrive(RELAXED)
    world.until(0.1)
    second = world.arrive(RELAXED)
    assert sent(world) == [(0.0, OWN), (0.1, OWN), (0.1, PASS)]
    assert world.sent[-1][1].payloads == [Cells([first.payload, second.payload])]
    world.until(10.0)
    assert replies(world) == [(0.3, PASS), (0.4, PASS)]
    assert world.core.tally.passes == 1


def test_own_answer_that_comes_first_stands_and_a_collage_that_nobody_needs_is_taken_back():
    world = world_of(own_s=0.5, pass_s=0.4)
    world.arrive(RELAXED)
    world.until(10.0)
    assert replies(world) == [(0.5, OWN)]
    assert world.core.stats(10.0).tally.busy_s[[OWN, PASS]] == pytest.approx([0.5, 0.2])
    assert [dispatch.option for dispatch in world.cancelled] == [PASS]
    assert world.core.tally.from_collage == 0


def test_request_that_is_answered_in_time_needs_no_collage():
    world = world_of(own_s=0.2)
    world.arrive(RELAXED)
    world.until(10.0)
    assert (sent(world), replies(world)) == ([(0.0, OWN)], [(0.2, OWN)])


def test_classes_have_groups_of_their_own():
    world = world_of({OWN: 2, PASS: 1})
    world.arrive(RELAXED)
    world.arrive(STRICT)
    assert sent(world) == [(0.0, OWN), (0.0, OWN)]
    world.until(10.0)
    assert len(replies(world)) == 2
    assert world.core.tally.passes == 2


def test_collage_answers_a_request_that_still_waits_for_a_replica():
    world = world_of({PASS: 1}, collage_rules() | WITHOUT_REPLICA)
    world.arrive(RELAXED)
    assert world.core.waiting[RELAXED] == 1
    world.until(10.0)
    assert replies(world) == [(0.4, PASS)]


def test_of_two_passes_the_first_counts_and_the_other_is_taken_back():
    world = world_of({OWN: 1, PASS: 1, OTHER_PASS: 1}, collage_rules(passes=2), pass_s=2.0)
    world.arrive(RELAXED)
    world.until(10.0)
    assert sorted(option for _, option in sent(world)) == [OWN, PASS, OTHER_PASS]
    assert replies(world) == [(0.4, OTHER_PASS)]
    assert world.core.tally.passes == 2
    assert {dispatch.option for dispatch in world.cancelled} == {OWN, PASS}


def test_request_whose_collage_straggles_too_is_sent_anew_in_place_of_its_first_copy():
    changes = collage_rules() | {"hedge_after_s": np.full(2, 0.5), "hedge_replaces": np.full(2, True)}
    for seed in range(20):
        world = world_of({OWN: 1, OTHER: 1, PASS: 1}, changes, seed, pass_s=9.0)
        world.arrive(RELAXED)
        if world.sent[0][1].option == OWN:
            break
    world.until(10.0)
    assert sent(world) == [(0.0, OWN), (0.3, PASS), (0.5, OTHER)]
    assert replies(world) == [(0.7, OTHER)]
    assert world.core.stats(10.0).tally.busy_s[[OWN, OTHER, PASS]] == pytest.approx([0.5, 0.2, 0.4])
    assert (world.core.tally.hedged, world.core.tally.from_collage) == (1, 0)


def test_request_that_waits_is_sent_anew_elsewhere():
    world = Driver(setting(), seed=3)
    world.use({SMALL_OD: 1, SMALL_SPOT: 1}, shares=np.array([[0.5, 0.5, 0, 0, 0, 0]] * 2))
    world.use({SMALL_OD: 1, SMALL_SPOT: 1}, hedge_after_s=np.full(2, 0.05), hedge_replaces=np.full(2, True))
    for _ in range(4):
        world.arrive(RELAXED)
    world.until(4.0)
    world.check_conserved()
    assert world.outcomes() == [Outcome.ANSWERED] * 4
    assert all(queue.credits_used == queue.waiting == 0 for queue in world.core.queues)
    # A copy that was in service is cancelled: the duplicate runs in its place.
    assert world.core.tally.hedged == len(world.replies)


def test_lost_collage_is_not_sent_again_and_its_requests_go_on():
    world = world_of(own_s=2.0, pass_s=0.5)
    world.arrive(RELAXED)
    world.until(0.4)
    world.lose(world.sent[-1][1])
    world.until(10.0)
    assert replies(world) == [(2.0, OWN)]
    assert world.core.tally.passes == 1


def test_request_that_lost_its_replica_is_queued_again_and_answered_by_its_collage():
    world = world_of()
    world.arrive(RELAXED)
    world.until(0.1)
    world.lose(world.sent[0][1])
    world.until(10.0)
    assert replies(world) == [(0.4, PASS)]


def test_collage_goes_with_requests_that_pass_their_deadline_in_the_queue():
    world = world_of(
        {PASS: 1}, collage_rules() | {"shares": np.eye(12)[[OWN, OWN]] + np.eye(12)[[PASS, PASS]]}, slo_s=0.35
    )
    world.arrive(RELAXED)
    world.until(10.0)
    assert world.outcomes() == [Outcome.EXPIRED]
    assert replies(world) == [(0.35, -1)]
    assert [dispatch.option for dispatch in world.cancelled] == [PASS]


def test_rules_without_a_collage_let_requests_go_on_alone():
    world = world_of(own_s=2.0)
    world.arrive(RELAXED)
    world.use(ONE_OF_EACH, sequence=1)
    world.until(10.0)
    assert (sent(world), replies(world)) == ([(0.0, OWN)], [(2.0, OWN)])


def test_queued_pass_moves_with_the_shares_or_is_dropped():
    for serving, answered in (({OWN: 2, OTHER_PASS: 1}, (0.4, OTHER_PASS)), ({OWN: 2}, (5.0, OWN))):
        world = world_of({OWN: 2, PASS: 1}, collage_rules(), pass_s=9.0)
        world.arrive(STRICT)
        world.until(0.3)
        world.arrive(RELAXED)
        world.until(0.6)
        assert world.core.queues[PASS].waiting == 1
        world.use(serving, sequence=1, **collage_rules())
        world.lose(world.sent[1][1])
        world.until(20.0)
        assert (pytest.approx(0.3 + answered[0], abs=0.31), answered[1]) in replies(world)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_nobody_is_lost_or_answered_twice_whatever_happens(seed):
    rng = np.random.default_rng(seed)
    times = rng.choice([0.05, 0.3, 1.0, 4.0], 4)
    of = collage_setting(*times[:2], int(rng.integers(1, 5)), *times[2:], slo_s=float(rng.choice([0.5, 3.0])))
    world = Driver(of, seed, lambda_pool=tiny.FN)
    arrived = 0
    for step in range(40):
        if step % 8 == 0:
            serving = {option: int(rng.integers(0, 3)) for option in (OWN, OTHER, PASS, OTHER_PASS)}
            changes = {"hedge_after_s": rng.choice([0.05, 0.4, np.inf], 2), "hedge_replaces": np.full(2, True)}
            if rng.random() < 0.8:
                changes |= collage_rules(float(rng.choice([0.0, 0.1, 0.3])), int(rng.integers(1, 3)))
            batch = {"batch_size": np.full(12, rng.integers(1, 3)), "batch_wait_s": np.full(12, 0.05)}
            world.use({o: n for o, n in serving.items() if n}, sequence=step, **changes, **batch)
        for _ in range(int(rng.integers(0, 4))):
            world.arrive(int(rng.integers(0, 2)))
            arrived += 1
        if world.running and rng.random() < 0.1:
            world.lose(world.running[int(rng.integers(len(world.running)))][1])
        world.until(world.now_s + float(rng.choice([0.01, 0.1, 0.5])))
        world.check_conserved()
    world.use({OWN: 2, OTHER: 2, PASS: 2}, sequence=100, **collage_rules())
    world.until(world.now_s + 60.0)
    assert len(replies(world)) == arrived


@pytest.mark.slow
@pytest.mark.timeout(900)  # the first case compiles the kernels
@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("resend_after_s", [np.inf, 0.45])
@pytest.mark.parametrize(
    "times",
    [(5.0, 0.1, 500.0, 2), (0.35, 0.3, 500.0, 1), (2.0, 3.0, 500.0, 1), (0.2, 0.1, 500.0, 2), (2.0, 0.4, 0.6, 2)],
)
def test_request_in_a_group_fares_in_the_router_as_in_the_simulator(passes, resend_after_s, times):
    own_s, pass_s, slo_s, cells = times
    of = collage_setting(own_s, pass_s, cells, slo_s=slo_s)
    options = [(tiny.SMALL, tiny.OD), (tiny.LARGE, tiny.OD)]
    seed, _, rates = one_request(5.0)
    simulated = World(of, supply_of(rates)).start(dict.fromkeys(options, 2), [seed]).route(*options)
    changes = collage_rules(passes=passes)
    changes |= {"hedge_after_s": np.full(2, resend_after_s), "hedge_replaces": np.full(2, True)}
    for name, value in changes.items():
        getattr(simulated.plan, name)[:] = value
    seen = simulated.tick()
    live = Driver(of, seed, lambda_pool=tiny.FN)
    live.use({OWN: 2, PASS: 2}, **changes)
    live.arrive(int(seen.arrivals[0].argmax()))
    live.until(10.0)
    tally = live.core.stats(10.0).tally
    for name in ("answered", "failed", "missed", "accuracy_sum"):
        assert getattr(tally, name).sum() == pytest.approx(getattr(seen, name).sum()), name
    assert np.flatnonzero(tally.latency.sum(axis=0)).tolist() == latencies(simulated)
    assert tally.busy_s == pytest.approx(seen.busy_s[0].reshape(-1))
    counted = simulated.simulator.state.held.redundant.sum(axis=(0, 1))
    assert [tally.hedged, tally.passes, tally.from_collage] == counted.tolist()


def test_model_with_cells_answers_each_input_of_each_pass():
    class Model:
        def __call__(self, batch):
            return [[x + 1 for x in inputs] for inputs in batch]

    assert answers_of(Model(), [Cells([1, 2]), Cells([3])]) == [
        ModelAnswer([ModelAnswer(2), ModelAnswer(3)]),
        ModelAnswer([ModelAnswer(4)]),
    ]
    Model.with_confidence = lambda self, batch: (self(batch), [[0.5] * len(inputs) for inputs in batch])
    assert answers_of(Model(), [Cells([1])]) == [ModelAnswer([ModelAnswer(2, 0.5)])]


@pytest.mark.parametrize("outputs", [[[1]], [[1, 2], [3], [4]], [[1, 2, 3], [3]]])
def test_model_with_cells_that_leaves_some_unanswered_is_at_fault(outputs):
    with pytest.raises(ValueError, match=r"model: expected \d outputs"):
        answers_of(lambda batch: outputs, [Cells([1, 2]), Cells([3])])
