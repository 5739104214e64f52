"""A live run measures each batch, gap and start of a replica once, and tells them apart."""

import copy
import json

import numpy as np
import pytest

from controller.arrays import empty_actions
from controller.measurements import MOST_GAPS, MOST_SERVICES, Span, read_measurements
from serving.fleet import Fleet
from serving.market import calm_market
from serving.metrics import ObservationBuilder
from tests.unit.serving.test_fleet import LARGE, NONE, OD, SMALL, act, counts, fleet
from tests.unit.serving.test_metrics import served
from tests.unit.serving.test_queueing import RELAXED, STRICT, Driver
from tests.unit.serving.worlds import LARGE_OD, SMALL_LAMBDA, SMALL_OD


def test_a_batch_is_measured_from_its_sending_to_its_answer_under_its_size():
    world = Driver()
    world.use({SMALL_OD: 1}, batch_size=np.full(6, 4))
    for _ in range(4):
        world.arrive(RELAXED)
    world.until(5.0)
    # The first leaves alone (0.1 s); the three that came meanwhile together: 0.1 s for each.
    first, second = world.core.tally.measured.summary().services
    assert (first.option, first.batch, first.num_batches, first.is_cold) == (SMALL_OD, 1, 1, False)
    assert first.single_s == pytest.approx([0.1])
    assert (second.batch, second.num_batches) == (3, 1)
    assert second.single_s == pytest.approx([0.3])


def test_a_cold_call_is_measured_with_its_cold_start_and_kept_apart_from_a_warm_one():
    world = Driver()
    shares = np.zeros((2, 6))
    shares[:, SMALL_LAMBDA] = 1.0
    world.use({}, shares=shares)
    world.arrive(RELAXED)
    world.until(1.0)
    world.arrive(RELAXED)
    world.until(2.0)
    warm, cold = world.core.tally.measured.summary().services
    assert (warm.is_cold, cold.is_cold) == (False, True)
    assert warm.single_s == pytest.approx([0.1])
    assert cold.single_s == pytest.approx([0.6])


def test_a_lost_batch_is_not_measured():
    world = Driver()
    world.use({SMALL_OD: 1})
    world.arrive(STRICT)
    world.lose(world.sent[0][1])
    assert world.core.tally.measured.num_services == 0


def test_gaps_are_those_between_arrivals_of_any_class():
    world = Driver()
    world.use({SMALL_OD: 3})
    for now_s, request_class in ((0.5, STRICT), (0.75, RELAXED), (1.75, STRICT)):
        world.now_s = now_s
        world.arrive(request_class)
    measured = world.core.tally.measured.summary()
    assert measured.num_gaps == 2
    assert measured.gaps_s == pytest.approx([0.25, 1.0])


def test_a_window_holds_what_came_after_the_reading_before_it():
    _, _, builder, _ = served(3)
    # Three requests arrive at once each second; one replica of 0.1 s answers them one by one.
    assert builder.measurements.num_gaps == 3
    assert builder.measurements.gaps_s == pytest.approx([1.0, 0.0, 0.0])
    (sample,) = builder.measurements.services
    assert sample.num_batches == 3


def test_a_window_that_could_not_be_read_has_no_measurements():
    _, fleet_, builder, _ = served(1)
    builder.repeat(fleet_, 2.0)
    assert builder.measurements is None


def test_a_reading_does_not_change_with_what_is_measured_later():
    world = Driver()
    world.use({SMALL_OD: 1})
    world.arrive()
    reading = copy.deepcopy(world.core.tally)
    world.until(1.0)
    world.arrive()
    assert (reading.measured.num_services, reading.measured.num_gaps) == (0, 0)
    assert (world.core.tally.measured.num_services, world.core.tally.measured.num_gaps) == (1, 1)


def test_a_busy_window_is_thinned_evenly_and_says_how_many_there_were():
    world = Driver()
    world.use({SMALL_OD: 3})
    for i in range(400):
        world.now_s = i * 0.01
        world.arrive(RELAXED)
        world.until(world.now_s)
    world.until(20.0)
    measured = world.core.tally.measured.summary()
    (sample,) = measured.services
    assert sample.num_batches > MOST_SERVICES == len(sample.single_s)
    assert measured.num_gaps == 399
    assert len(measured.gaps_s) == MOST_GAPS


def test_what_is_journalled_reads_back_as_it_was():
    world = Driver()
    world.use({SMALL_OD: 1})
    for _ in range(3):
        world.now_s += 0.25
        world.arrive(RELAXED)
        world.until(world.now_s)
    world.until(5.0)
    measured = world.core.tally.measured.summary()._replace(spans=(Span("launch", SMALL_OD, 4.0),))
    back = read_measurements(json.loads(json.dumps(measured.as_json())), 6)
    assert back.services[0].num_batches == 3
    assert back == measured._replace(services=back.services)
    assert back.services[0].single_s == pytest.approx(measured.services[0].single_s, abs=1e-6)


def test_a_launch_and_the_load_after_it_are_spans_of_their_own():
    world = fleet()
    world.apply(act(launch={(SMALL, OD): 1}), 1.0)
    world.step(5.25, NONE, NONE)  # booted at 5.0, 4 s after it was asked for; seen a little later
    world.step(7.5, counts(small_od=1), NONE)
    assert world.window.spans == [Span("launch", SMALL_OD, 4.0), Span("load", SMALL_OD, 2.5)]


def test_a_swap_is_measured_at_the_variant_that_comes():
    world = fleet()
    world.begin(counts(small_od=1), 0.0)
    world.step(0.0, counts(small_od=1), NONE)
    world.apply(act(swap={(OD, SMALL, LARGE): 1}), 5.0)
    world.step(7.0, counts(large_od=1), NONE)
    assert world.window.spans == [Span("swap", LARGE_OD, 2.0)]


def test_neither_the_first_fleet_nor_a_crash_is_measured():
    world = fleet()
    world.begin(counts(small_od=1), 0.0)
    world.step(3.0, counts(small_od=1), NONE)
    world.step(8.0, NONE, NONE)
    world.step(9.0, counts(small_od=1), NONE)
    assert world.window.spans == []


def test_spans_reach_the_window_in_which_they_end_and_no_other():
    world = Driver()
    ledger = Fleet(world.setting.catalog, calm_market(1), 0, 5.0)
    builder = ObservationBuilder(world.setting)
    builder.first(ledger, world.core.stats(0.0), 0.0)
    actions = empty_actions(1, (2, 3, 2))
    actions.launch[0, SMALL, OD] = 1
    ledger.apply(actions, 0.0)
    ended = []
    for tick in range(1, 7):
        ledger.step(float(tick), counts(small_od=1) if tick == 6 else NONE, NONE)
        builder.close(ledger, world.core.stats(float(tick)), float(tick))
        ended.append([span.kind for span in builder.measurements.spans])
    assert ended == [[], [], [], ["launch"], [], ["load"]]
