"""Cascades in the simulator: one request worked by hand, and what holds for any of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from controller import latency
from controller.arrays import EGRESS, F64, PREEMPTION_WASTE, AnswerArrays
from controller.errors import ScenarioError
from tests.simulated import (
    World,
    latencies,
    one_request,
    random_answers,
    random_decision,
    random_replicas,
    random_setting,
    random_supply,
    setting_with,
    supply_of,
)
from tests.tiny import ACCURACY, FN, LARGE, MEDIUM, OD, SMALL, SPOT_A, SPOT_B

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test compiles the kernels

STEPS = [SMALL, LARGE, -1]
SURE, UNSURE = 0.9, 0.2
NO_SPOT_A = np.ones((2, 100))
NO_SPOT_A[0, 1:] = 0.0  # zone a takes its machines back after the first tick


def rows(*confidence: tuple[float, float, float], right: Any = None) -> AnswerArrays:
    """Measured answers of small, medium and large; all right unless told."""
    table = np.array(confidence)
    return AnswerArrays(table, np.ones_like(table) if right is None else np.array(right, np.float64))


ALWAYS_SURE = rows((SURE, SURE, SURE))
SMALL_UNSURE = rows((UNSURE, SURE, SURE))


def lone_request(
    service_s: dict[tuple[int, int], float],
    answers: AnswerArrays,
    replicas: dict[tuple[int, int], int] | None = None,
    spot_share: F64 | None = None,
    latest_s: float = 5.0,
    **changes: Any,
) -> tuple[World, float]:
    """A world with one request and options of equal share, one replica each; returns it and the arrival."""
    seconds = setting_with().catalog.service_s.copy()
    for (v, p), value in service_s.items():
        seconds[v, p] = value
    catalog = {"service_s": seconds, "notice_s": np.zeros(4)}
    setting = setting_with(catalog=catalog, workload={"slo_s": np.full(2, 500.0), **changes}, answers=answers)
    seed, at_s, rates = one_request(latest_s)
    world = World(setting, supply_of(rates, spot_share))
    world.start(dict.fromkeys(service_s, 1) if replicas is None else replicas, [seed]).route(*service_s)
    world.plan.cascade_variant[:] = STEPS
    world.plan.cascade_threshold[:] = 0.5
    return world, at_s


def test_a_sure_answer_of_the_first_step_is_final() -> None:
    world, _ = lone_request({(SMALL, OD): 0.55, (LARGE, OD): 2.1}, ALWAYS_SURE)
    seen = world.tick()
    assert seen.answered.sum() == 1
    assert latencies(world) == [latency.bucket_of(0.55)]
    assert (seen.busy_s[0, SMALL, OD], seen.busy_s[0, LARGE, OD]) == (pytest.approx(0.55), 0.0)


def test_an_unsure_answer_goes_on_to_the_next_step() -> None:
    world, _ = lone_request({(SMALL, OD): 0.55, (LARGE, OD): 2.1}, SMALL_UNSURE)
    seen = world.tick()
    assert seen.answered.sum() == 1
    assert latencies(world) == [latency.bucket_of(2.65)]
    assert seen.busy_s[0, SMALL, OD] == pytest.approx(0.55)
    assert seen.busy_s[0, LARGE, OD] == pytest.approx(2.1)


def test_three_steps_are_taken_in_turn() -> None:
    world, _ = lone_request({(SMALL, OD): 0.55, (MEDIUM, OD): 1.0, (LARGE, OD): 2.1}, rows((UNSURE, UNSURE, UNSURE)))
    world.plan.cascade_variant[:] = [MEDIUM, SMALL, LARGE]
    seen = world.tick()
    assert seen.answered.sum() == 1
    assert latencies(world) == [latency.bucket_of(3.65)]


def test_a_confidence_on_the_threshold_is_enough() -> None:
    for confidence, answers_s in ((0.5, 0.55), (np.nextafter(0.5, 0.0), 2.65)):
        world, _ = lone_request({(SMALL, OD): 0.55, (LARGE, OD): 2.1}, rows((confidence, SURE, SURE)))
        world.tick()
        assert latencies(world) == [latency.bucket_of(answers_s)]


@pytest.mark.parametrize(
    ("threshold", "expected", "own"), [(0.0, 0.6, {0.0, 1.0}), (0.5, 0.5, {0.0, 0.5, 1.0}), (2.0, 0.3, {0.0, 0.5, 1.0})]
)
def test_accuracy_is_that_of_the_rows_which_take_the_same_way_and_right_is_the_rows_own(
    threshold: float, expected: float, own: set[float]
) -> None:
    # Sure and right, sure and wrong; unsure, of which large answers one right, one wrong and one half. At 0 all rows
    # end at small: (1 + 0 + 0 + 1 + 1) / 5; at 2 all at large: (0 + 0 + 1 + 0 + 0.5) / 5; at 0.5 two at small, 1 / 2,
    # and three at large, 1.5 / 3.
    right = [(1, 0, 0), (0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 0, 0.5)]
    answers = rows(*[(SURE, 0, 0)] * 2, *[(UNSURE, 0, 0)] * 3, right=right)
    found = set()
    for latest_s in np.linspace(0.2, 5.0, 25):  # other seeds, so other rows
        world, _ = lone_request({(SMALL, OD): 0.55, (LARGE, OD): 2.1}, answers, latest_s=float(latest_s))
        world.plan.cascade_threshold[:] = threshold
        assert world.tick().accuracy_sum.sum() == pytest.approx(expected)
        found.add(round(float(world.simulator.totals.right.sum()), 9))
    assert found <= own
    assert len(found) > 1


def test_each_step_crosses_the_network_and_pays_its_own_egress() -> None:
    network_s, egress_usd = np.zeros((2, 3, 4)), np.zeros((2, 3, 4))
    network_s[:, SMALL, OD], network_s[:, LARGE, OD] = 0.25, 0.5
    egress_usd[:, SMALL, OD], egress_usd[:, LARGE, OD] = 3e-6, 5e-6
    options = {(SMALL, OD): 0.55, (LARGE, OD): 2.1}
    world, _ = lone_request(options, SMALL_UNSURE, network_s=network_s, egress_usd=egress_usd)
    seen = world.tick()
    assert latencies(world) == [latency.bucket_of(0.55 + 0.25 + 2.1 + 0.5)]
    assert seen.spend_usd[0, EGRESS] == pytest.approx(8e-6)


def test_a_deadline_between_two_steps_fails_the_whole_request_once() -> None:
    # Large has one machine, which is yet to start: the request waits there from 0.55 s to its deadline.
    world, _ = lone_request(
        {(SMALL, OD): 0.55, (LARGE, OD): 2.1}, SMALL_UNSURE, replicas={(SMALL, OD): 1}, slo_s=np.full(2, 1.0)
    )
    seen = world.act(launch={(LARGE, OD): 1}).tick()
    assert (seen.failed.sum(), seen.missed.sum(), seen.answered.sum()) == (1, 1, 0)
    assert (seen.waiting.sum(), seen.queue.sum(), seen.busy_s[0, LARGE, OD]) == (0, 0, 0.0)


@pytest.mark.parametrize("drops", [True, False])
def test_a_deadline_within_a_step_is_missed_and_the_next_step_taken_only_by_who_keeps_waiting(drops: bool) -> None:
    options = {(SMALL, OD): 0.55, (LARGE, OD): 2.1}
    late = {"slo_s": np.full(2, 0.4), "drop_at_deadline": np.full(2, drops)}
    world, _ = lone_request(options, SMALL_UNSURE, **late)
    seen = world.tick()
    assert seen.missed.sum() == 1
    assert (seen.failed.sum(), seen.answered.sum()) == ((1, 0) if drops else (0, 1))
    assert seen.busy_s[0, LARGE, OD] == pytest.approx(0.0 if drops else 2.1)


def test_a_deadline_missed_in_an_earlier_tick_is_missed_once() -> None:
    world, _ = lone_request({(SMALL, OD): 14.0, (LARGE, OD): 2.1}, SMALL_UNSURE, slo_s=np.full(2, 4.0))
    assert world.tick().missed.sum() == 1
    seen = world.tick()
    assert (seen.missed.sum(), seen.failed.sum()) == (0, 1)


def test_a_step_lives_on_across_ticks() -> None:
    world, _ = lone_request({(SMALL, OD): 14.0, (LARGE, OD): 33.0}, SMALL_UNSURE)
    world.tick(3)
    held = world.simulator.state.held
    assert (held.taken[0], held.escalated[0], world.simulator.in_service().sum()) == (1, 1, 1)
    world.tick(4)
    assert latencies(world) == [latency.bucket_of(47.0)]
    assert (held.taken[0], held.escalated[0]) == (0, 0)


def test_loss_of_the_replica_in_the_second_step_retries_that_step() -> None:
    options = {(SMALL, OD): 0.55, (LARGE, SPOT_A): 24.0}
    world, _ = lone_request(options, SMALL_UNSURE, spot_share=NO_SPOT_A)
    seen = world.tick()
    assert seen.preempted[0, SPOT_A] == 1
    assert seen.spend_usd[0, PREEMPTION_WASTE] > 0
    assert (seen.waiting.sum(), world.simulator.state.held.escalated[0]) == (1, 1)
    world.route((SMALL, OD), (LARGE, OD)).act(launch={(LARGE, OD): 1})
    busy_s = sum(float(world.tick().busy_s[0, SMALL, OD]) for _ in range(9))
    assert world.simulator.totals.answered.sum() == 1
    assert busy_s == 0.0  # the first step is not taken again
    assert world.simulator.totals.accuracy_sum.sum() == pytest.approx(1.0)


def test_a_step_without_an_option_is_skipped() -> None:
    world, _ = lone_request({(SMALL, OD): 0.55, (LARGE, OD): 2.1}, rows((UNSURE, SURE, SURE)))
    world.plan.cascade_variant[:] = [SMALL, MEDIUM, LARGE]
    world.tick()
    assert latencies(world) == [latency.bucket_of(2.65)]
    world, _ = lone_request({(SMALL, OD): 0.55, (LARGE, OD): 2.1}, rows((UNSURE, SURE, SURE)))
    world.plan.cascade_variant[:] = [MEDIUM, LARGE, -1]
    world.tick()
    assert latencies(world) == [latency.bucket_of(2.1)]


def test_an_unsure_answer_stands_where_no_later_step_has_an_option() -> None:
    answers = rows((UNSURE, SURE, SURE), (UNSURE, SURE, SURE), right=[(0, 1, 1), (1, 1, 1)])
    world, _ = lone_request({(SMALL, OD): 0.55}, answers)
    seen = world.tick()
    assert latencies(world) == [latency.bucket_of(0.55)]
    assert seen.accuracy_sum.sum() == pytest.approx(0.5)


def test_where_no_step_has_an_option_a_class_is_answered_by_its_shares() -> None:
    world, _ = lone_request({(MEDIUM, OD): 1.0}, SMALL_UNSURE)
    seen = world.tick()
    assert latencies(world) == [latency.bucket_of(1.0)]
    assert seen.accuracy_sum.sum() == pytest.approx(ACCURACY[MEDIUM])


def test_steps_within_a_variant_follow_the_shares_of_their_options() -> None:
    setting = setting_with(answers=SMALL_UNSURE)
    world = World(setting, supply_of(20.0)).start({(SMALL, OD): 9, (LARGE, SPOT_A): 15, (LARGE, SPOT_B): 15}, [4])
    world.plan.cascade_variant[:], world.plan.cascade_threshold[:] = STEPS, 0.5
    world.shares[:, :, SMALL, OD] = 0.8
    world.shares[:, :, LARGE, SPOT_A], world.shares[:, :, LARGE, SPOT_B] = 0.15, 0.05
    busy_s = sum(world.tick().busy_s[0] for _ in range(10))
    large = busy_s[LARGE] / busy_s[LARGE].sum()
    count = world.simulator.totals.answered.sum()
    assert abs(large[SPOT_A] - 0.75) < 4 * np.sqrt(0.75 * 0.25 / count)
    # Every request takes both steps, and services of large are four times as long.
    assert busy_s[LARGE].sum() == pytest.approx(4 * busy_s[SMALL].sum(), rel=0.02)


def test_a_function_takes_a_step() -> None:
    world, _ = lone_request({(SMALL, OD): 0.55, (LARGE, FN): 2.1}, SMALL_UNSURE, {(SMALL, OD): 1}, latest_s=3.0)
    seen = world.tick()
    assert latencies(world) == [latency.bucket_of(0.55 + 3.0 + 2.1)]  # a cold start takes 3 s
    assert seen.invocations[0, FN] == 1


@pytest.mark.parametrize(("is_concurrent", "begins_s"), [(False, 0.55), (True, 0.0)])
@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_a_later_step_whose_queue_is_long_overflows_to_its_variants_function(
    is_concurrent: bool, begins_s: float, fraction: float
) -> None:
    takes = np.full((2, 3), -1)
    takes[:, LARGE] = LARGE * 4 + FN
    options = {(SMALL, OD): 0.55, (LARGE, OD): 2.1, (LARGE, FN): 2.1}
    changes = {"step_overflow": takes, "overflow_option": np.full(2, -1)}
    world, _ = lone_request(options, SMALL_UNSURE, {(SMALL, OD): 1}, latest_s=3.0, **changes)
    # The machine of large is yet to start, so the wait for it has no end.
    world.route((SMALL, OD), (LARGE, OD)).act(launch={(LARGE, OD): 1})
    world.plan.cascade_concurrent[:] = is_concurrent
    world.plan.overflow_fraction[:], world.plan.overflow_after_s[:] = fraction, 1.0
    seen = world.tick()
    assert seen.invocations[0, FN] == fraction
    if fraction:
        assert latencies(world) == [latency.bucket_of(begins_s + 3.0 + 2.1)]  # a cold start takes 3 s
    else:
        assert seen.waiting.sum() == 1


def test_a_later_step_without_a_function_waits_in_its_queue() -> None:
    options = {(SMALL, OD): 0.55, (LARGE, OD): 2.1}
    changes = {"step_overflow": np.full((2, 3), -1), "overflow_option": np.full(2, SMALL * 4 + FN)}
    world, _ = lone_request(options, SMALL_UNSURE, {(SMALL, OD): 1}, latest_s=3.0, **changes)
    world.act(launch={(LARGE, OD): 1})
    world.plan.overflow_fraction[:], world.plan.overflow_after_s[:] = 1.0, 1.0
    seen = world.tick()
    assert (seen.waiting.sum(), seen.invocations[0, FN]) == (1, 0)


def test_a_cascade_that_ends_lets_requests_under_way_be_answered_where_they_are() -> None:
    world, _ = lone_request({(SMALL, OD): 0.55, (LARGE, OD): 14.0}, SMALL_UNSURE)
    world.tick()
    world.plan.cascade_variant[:] = -1
    world.tick(2)
    totals = world.simulator.totals
    assert totals.answered.sum() == 1
    assert totals.accuracy_sum.sum() == pytest.approx(ACCURACY[LARGE])
    assert world.simulator.state.held.escalated[0] == 0


def test_a_duplicate_stays_within_the_step_and_the_first_answer_takes_the_next() -> None:
    options = {(SMALL, OD): 2.0, (SMALL, SPOT_A): 2.0, (LARGE, OD): 1.1}
    world, _ = lone_request(options, SMALL_UNSURE)
    world.plan.hedge_after_s[:] = 0.5
    seen = world.tick()
    # The first copy answers at 2 s and takes the second step; the duplicate ran for 1.5 s by then.
    assert latencies(world) == [latency.bucket_of(3.1)]
    assert sorted(seen.busy_s[0, SMALL, [OD, SPOT_A]]) == pytest.approx([1.5, 2.0])
    assert seen.busy_s[0, LARGE, OD] == pytest.approx(1.1)


def test_a_duplicate_that_answers_first_is_watched_to_its_deadline() -> None:
    options = {(SMALL, OD): 9.0, (SMALL, SPOT_A): 0.25, (LARGE, OD): 50.0}
    slo = {"slo_s": np.full(2, 4.0)}
    world, _ = lone_request(options, SMALL_UNSURE, replicas={(SMALL, OD): 1, (SMALL, SPOT_A): 1}, **slo)
    world.shares[:, :, SMALL, SPOT_A] = 1e-12  # the first copy goes to the slow one
    world.plan.hedge_after_s[:] = 0.5
    seen = world.act(launch={(LARGE, OD): 1}).tick()
    assert seen.busy_s[0, SMALL, SPOT_A] == pytest.approx(0.25)
    assert (seen.failed.sum(), seen.missed.sum(), seen.waiting.sum()) == (1, 1, 0)


def test_a_whole_batch_goes_on() -> None:
    setting = setting_with(batch_max=4, answers=SMALL_UNSURE, workload={"slo_s": np.full(2, 500.0)})
    world = World(setting, supply_of(np.array([[20.0, 0.0, 0.0, 0.0]]))).start({(SMALL, OD): 1, (LARGE, OD): 2}, [3])
    world.route((SMALL, OD), (LARGE, OD))
    world.plan.cascade_variant[:], world.plan.cascade_threshold[:] = STEPS, 0.5
    world.plan.batch_size[:] = 4
    world.tick(8)
    totals = world.simulator.totals
    assert totals.answered.sum() == totals.arrivals.sum() > 100
    assert totals.accuracy_sum.sum() == pytest.approx(totals.answered.sum())


def test_a_request_has_the_same_answers_under_every_policy() -> None:
    answers = random_answers(np.random.default_rng(5), num_rows=200)
    found = []
    for replicas, hedge_after_s in (
        ({(SMALL, OD): 15, (LARGE, OD): 30}, np.inf),
        ({(SMALL, OD): 2, (LARGE, SPOT_A): 9}, 0.1),
    ):
        setting = setting_with(answers=answers, workload={"slo_s": np.full(2, 1e6)})
        world = World(setting, supply_of(np.array([[20.0] * 5 + [0.0] * 40]))).start(replicas, [6]).route(*replicas)
        world.plan.cascade_variant[:], world.plan.cascade_threshold[:] = STEPS, 0.5
        world.plan.hedge_after_s[:] = hedge_after_s
        world.tick(45)
        totals = world.simulator.totals
        assert totals.answered.sum() == totals.arrivals.sum()
        found.append((totals.right[0], totals.accuracy_sum[0], totals.answered[0]))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-12)
    # What is expected and what was differ by chance: rows are 0 or 1, so by at most 0.5 per root of their number.
    right, expected, count = found[0]
    assert (np.abs(right - expected) < 4 * 0.5 * np.sqrt(count)).all()
    assert (right != expected).any()


def both_at_once(small_s: float, large_s: float, answers: AnswerArrays, **changes: Any) -> World:
    """One request whose two steps start at once."""
    world, _ = lone_request({(SMALL, OD): small_s, (LARGE, OD): large_s}, answers, **changes)
    world.plan.cascade_concurrent[:] = True
    return world


def test_of_two_steps_at_once_a_sure_first_answer_withdraws_the_second() -> None:
    world = both_at_once(0.55, 2.1, ALWAYS_SURE)
    seen = world.tick()
    assert seen.answered.sum() == 1
    assert latencies(world) == [latency.bucket_of(0.55)]
    assert seen.busy_s[0, LARGE, OD] == pytest.approx(0.55)  # what ran is billed


def test_of_two_steps_at_once_an_unsure_first_answer_waits_for_the_second() -> None:
    right = [(0, 0, 0.25), (1, 0, 0)]
    answers = rows((UNSURE, SURE, SURE), (SURE, SURE, SURE), right=right)
    ways = set()
    for latest_s in (0.3, 0.6, 1.0, 1.5, 2.0, 3.0):  # other seeds, so both rows
        world = both_at_once(0.55, 2.1, answers, latest_s=latest_s)
        seen = world.tick()
        ways.add((latencies(world)[0], float(seen.accuracy_sum.sum()), float(world.simulator.totals.right.sum())))
    assert ways == {(latency.bucket_of(0.55), 1.0, 1.0), (latency.bucket_of(2.1), 0.25, 0.25)}


@pytest.mark.parametrize(("answers", "accuracy"), [(ALWAYS_SURE, 0.5), (SMALL_UNSURE, 0.75)])
def test_of_two_steps_at_once_the_second_answer_waits_for_the_first(answers: AnswerArrays, accuracy: float) -> None:
    right = np.array([(0.5, 0.0, 0.75)])
    world = both_at_once(2.1, 0.55, answers._replace(right=right))
    seen = world.tick()
    assert latencies(world) == [latency.bucket_of(2.1)]
    assert seen.accuracy_sum.sum() == world.simulator.totals.right.sum() == pytest.approx(accuracy)
    assert seen.busy_s[0, LARGE, OD] == pytest.approx(0.55)


def test_two_steps_at_once_live_on_across_ticks() -> None:
    world = both_at_once(24.0, 14.0, SMALL_UNSURE)
    world.tick()
    held = world.simulator.state.held
    assert (held.taken[0], held.pairs[0], world.simulator.in_service().sum()) == (2, 1, 1)
    world.tick()
    assert (held.taken[0], held.pairs[0], held.escalated[0]) == (1, 0, 1)
    world.tick()
    assert latencies(world) == [latency.bucket_of(24.0)]
    assert (held.taken[0], held.pairs[0], held.escalated[0]) == (0, 0, 0)


def test_a_waiting_second_step_is_withdrawn_from_its_queue() -> None:
    world = both_at_once(0.55, 2.1, ALWAYS_SURE, replicas={(SMALL, OD): 1})
    seen = world.act(launch={(LARGE, OD): 1}).tick()
    assert (seen.answered.sum(), seen.waiting.sum(), seen.queue.sum()) == (1, 0, 0)


def test_of_two_steps_at_once_the_second_alone_answers_for_a_first_that_is_lost() -> None:
    options = {(SMALL, SPOT_A): 24.0, (LARGE, OD): 14.0}
    world, _ = lone_request(options, ALWAYS_SURE, spot_share=NO_SPOT_A)
    world.plan.cascade_concurrent[:] = True
    seen = world.tick()
    assert (seen.preempted[0, SPOT_A], seen.waiting.sum()) == (1, 0)
    world.tick(2)
    assert latencies(world) == [latency.bucket_of(14.0)]


def test_of_two_steps_at_once_a_lost_second_is_taken_again_only_if_the_first_is_unsure() -> None:
    for answers, large_s in ((ALWAYS_SURE, 0.0), (SMALL_UNSURE, 24.0)):
        options = {(SMALL, OD): 14.0, (LARGE, SPOT_A): 24.0, (LARGE, OD): 24.0}
        replicas = {(SMALL, OD): 1, (LARGE, SPOT_A): 1}
        world, _ = lone_request(options, answers, replicas, NO_SPOT_A)
        world.plan.cascade_concurrent[:] = True
        world.route((SMALL, OD), (LARGE, SPOT_A)).act(launch={(LARGE, OD): 1}).tick()
        busy_s = sum(float(world.route((SMALL, OD), (LARGE, OD)).tick().busy_s[0, LARGE, OD]) for _ in range(12))
        assert world.simulator.totals.answered.sum() == 1
        assert busy_s == pytest.approx(large_s)


def test_two_steps_at_once_fail_once_at_their_deadline() -> None:
    world = both_at_once(2.1, 0.55, SMALL_UNSURE, replicas={(MEDIUM, OD): 1}, slo_s=np.full(2, 1.0))
    seen = world.act(launch={(LARGE, OD): 1, (SMALL, OD): 1}).tick()
    assert (seen.failed.sum(), seen.missed.sum(), seen.waiting.sum(), seen.queue.sum()) == (1, 1, 0, 0)


def test_without_measured_answers_a_cascade_is_refused() -> None:
    world, _ = lone_request({(SMALL, OD): 0.55}, rows((SURE, SURE, SURE)))
    empty = AnswerArrays(np.zeros((0, 3)), np.zeros((0, 3)))
    partly = rows((SURE, SURE, np.nan))
    for answers, variant in ((empty, "small"), (partly, "large")):
        other = World(setting_with(answers=answers), supply_of(1.0)).start({(SMALL, OD): 1})
        other.plan.cascade_variant[:] = STEPS
        with pytest.raises(ScenarioError, match=rf"catalog\.answers: .* variant '{variant}', .* got none"):
            other.tick()
    world.tick()


def test_the_fast_kernel_refuses_a_plan_with_a_cascade() -> None:
    world = World(setting_with(kernel="fast", answers=ALWAYS_SURE), supply_of(1.0)).start({(SMALL, OD): 1})
    world.plan.cascade_variant[:] = STEPS
    with pytest.raises(ScenarioError, match=r"simulator\.kernel: expected 'auto' or 'event' .* a cascade, got 'fast'"):
        world.tick()


@pytest.mark.parametrize("block", range(4))
def test_requests_of_cascades_are_conserved_under_any_decisions(block: int) -> None:
    escalated = 0
    for seed in range(2000 + 12 * block, 2012 + 12 * block):
        rng = np.random.default_rng(seed)
        setting = random_setting(rng, answers=random_answers(rng))
        world = World(setting, random_supply(rng)).start(random_replicas(rng, setting), [seed])
        for tick in range(12):
            if tick % 3 == 0:
                random_decision(rng, world, hedges=seed % 2 == 0, cascades=True)
            world.tick()
            held = world.simulator.state.held
            escalated += int(held.escalated[0])
            assert held.taken[0] >= (held.steps[0][held_slots(world)] != 0).sum()
        totals = world.simulator.totals
        assert (totals.right <= totals.answered + 1e-9).all()
        assert (totals.right >= -1e-9).all()
    assert escalated > 0


def held_slots(world: World) -> list[int]:
    """Slots of the held table in use: all but those of the free list."""
    held = world.simulator.state.held
    free, slot = set(), int(held.free[0])
    while slot >= 0:
        free.add(slot)
        slot = int(held.next[0, slot])
    used = [slot for slot in range(held.next.shape[1]) if slot not in free]
    assert len(used) == held.taken[0]
    return used
