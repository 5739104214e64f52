import numpy as np
import pytest

from controller.arrays import HISTORY_TICKS, SERVERLESS_USE
from serving.fleet import Fleet
from serving.market import calm_market
from serving.metrics import ObservationBuilder
from serving.tally import Tally, difference
from tests.unit.serving.test_queueing import RELAXED, STRICT, Driver
from tests.unit.serving.worlds import SMALL_LAMBDA, SMALL_OD

SMALL, OD, LAMBDA = 0, 0, 2


def served(ticks):
    """A router with one small replica and its observations after each tick of 1 s, with 3 arrivals per tick."""
    world = Driver()
    world.use({SMALL_OD: 1})
    fleet = Fleet(world.setting.catalog, calm_market(1), 0, 5.0)
    counts = np.zeros((2, 3), np.int64)
    counts[SMALL, OD] = 1
    fleet.begin(counts, 0.0)
    fleet.step(0.0, counts, np.zeros((2, 3), np.int64))
    builder = ObservationBuilder(world.setting)
    builder.first(fleet, world.core.stats(0.0), 0.0)
    for tick in range(ticks):
        for request_class in (STRICT, RELAXED, RELAXED):
            world.arrive(request_class)
        world.until(tick + 1.0)
        fleet.step(tick + 1.0, counts, np.zeros((2, 3), np.int64))
        observation = builder.close(fleet, world.core.stats(tick + 1.0), tick + 1.0)
    return world, fleet, builder, observation


def test_window_holds_what_happened_since_the_last_reading():
    _, _, _, seen = served(2)
    assert seen.tick[0] == 2
    assert seen.time_s[0] == 2.0
    assert seen.arrivals[0].tolist() == [1, 2]
    assert seen.answered[0].tolist() == [1, 2]
    assert seen.busy_s[0, SMALL, OD] == pytest.approx(0.3)
    assert seen.latency[0].sum() == 3
    assert seen.accuracy_sum[0] == pytest.approx([0.8, 1.6])
    assert seen.ready[0, SMALL, OD] == 1


def test_day_sums_and_history_grow_tick_by_tick():
    _, _, _, seen = served(3)
    assert seen.day_arrivals[0].tolist() == [3, 6]
    assert seen.day_answered[0].tolist() == [3, 6]
    assert seen.history[0, RELAXED, :4].tolist() == [2, 2, 2, 0]
    # 3 s of one instance at 3.6 $ per hour.
    assert seen.day_spend_usd[0].sum() == pytest.approx(3 * 0.001)


def test_history_is_a_ring():
    _, fleet, builder, seen = served(1)
    seen.tick[0] = HISTORY_TICKS
    repeated = builder.repeat(fleet, 2.0)
    assert repeated.history[0, RELAXED, 0] == 2
    assert repeated.tick[0] == HISTORY_TICKS + 1


def test_serverless_spend_is_taken_from_the_router():
    world, fleet, builder, _ = served(1)
    shares = np.zeros((2, 6))
    shares[:, SMALL_LAMBDA] = 1.0
    world.use({}, shares=shares, sequence=1)
    world.arrive(RELAXED)
    world.until(2.0)
    seen = builder.close(fleet, world.core.stats(2.0), 2.0)
    # 0.5 s cold start and 0.1 s, 2 GB at 0.01 $, and 0.001 $ per request.
    assert seen.spend_usd[0, SERVERLESS_USE] == pytest.approx(0.013)
    assert seen.cold_starts[0, LAMBDA] == seen.invocations[0, LAMBDA] == seen.warm[0, LAMBDA] == 1


def test_counters_of_a_router_that_started_anew_count_from_zero():
    old, new = Tally((2, 6, 3)), Tally((2, 6, 3))
    old.arrived[:] = 100
    new.arrived[:] = 3
    assert difference(new, old).arrived.tolist() == [3, 3]


def test_difference_of_two_readings_is_the_window():
    first = Tally((2, 6, 3))
    later = Tally((2, 6, 3), first.epoch)
    first.answered[:], later.answered[:] = 2, 5
    first.egress_usd, later.egress_usd = 0.25, 1.0
    window = difference(later, first)
    assert window.answered.tolist() == [3, 3]
    assert window.egress_usd == 0.75
