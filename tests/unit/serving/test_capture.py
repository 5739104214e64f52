"""Arrivals are captured by class in bins of a tenth of a tick, each told of once, in memory that does not grow."""

from serving.measured import _KEPT_BINS, Measured
from serving.rules import router_tables
from tests.unit.serving.test_metrics import served
from tests.unit.serving.test_queueing import RELAXED, STRICT, Driver
from tests.unit.serving.worlds import setting


def test_router_counts_by_class_in_tenths_of_a_tick():
    assert router_tables(setting()).bin_s == 0.1  # of a tick of one second
    world = Driver()
    world.use({})
    for now_s, request_class in ((0.01, STRICT), (0.02, RELAXED), (0.03, RELAXED), (0.55, STRICT), (0.61, STRICT)):
        world.now_s = now_s
        world.arrive(request_class)
    read = world.core.tally.measured.summary(0.75).arrivals
    assert (read.bin_s, read.end, read.lost) == (0.1, 7, 0)
    # The last bin is still open until a later arrival.
    assert read.bins == ((0, 1, 2), (5, 1, 0))


def test_each_bin_is_read_once():
    measured = Measured(num_classes=1, bin_s=1.0)
    measured.arrived(0.5, 0)
    measured.arrived(1.5, 0)
    first = measured.since(Measured())
    measured.arrived(1.7, 0)
    measured.arrived(2.5, 0)
    assert first.summary(1.6).arrivals.bins == ((0, 1),)
    assert measured.since(first).summary(2.6).arrivals.bins == ((1, 2),)


def test_bins_that_nobody_read_in_time_are_counted_as_lost():
    measured = Measured(num_classes=1, bin_s=1.0)
    for second in range(_KEPT_BINS + 11):
        measured.arrived(second + 0.5, 0)
    read = measured.since(Measured()).summary(_KEPT_BINS + 11).arrivals
    assert len(read.bins) == _KEPT_BINS
    assert read.lost == 10  # one is still open


def test_reading_hands_the_bins_to_the_journal():
    _, _, builder, _ = served(3)
    # Three requests arrive at once each second; the last bin closes with the next arrival.
    assert [sum(counts) for _, *counts in builder.measurements.arrivals.bins] == [3]
