"""What replicas cost that nobody keeps a ledger of, and how often their number changes."""

import numpy as np
import pytest

from controller.arrays import empty_actions
from controller.compile import at_speed, compile_scenario
from controller.errors import RunError
from controller.flaps import flap_index
from controller.scenario import load_scenario
from experiments.replica_log import ReplicaLog, read_replicas
from serving.fleet import Fleet
from serving.market import calm_market


def log(*looks):
    """Looks as (time, {replica: state})."""
    made = ReplicaLog()
    for at_s, states in looks:
        made.saw(at_s, states)
    return made


UP, STARTS, GOES = "RUNNING", "STARTING", "STOPPING"


def test_replica_is_paid_for_from_its_start_until_it_is_gone():
    seen = log(
        (-3.0, {"a": UP}),
        (2.0, {"a": UP, "b": STARTS}),
        (4.0, {"a": UP, "b": UP}),
        (7.0, {"a": UP, "b": GOES}),
        (8.0, {"a": UP}),
        (10.0, {"a": UP}),
    )
    # a: second 0 to 10, and it is still there; b: 2 to 8, and a second of lag.
    assert seen.cost_usd(10.0, 0.5, 3.0, 1.0) == pytest.approx(0.5 * (10 + 6 + 1))


def test_short_life_is_billed_for_the_least_time():
    seen = log((0.0, {}), (1.0, {"a": STARTS}), (2.0, {}))
    assert seen.cost_usd(10.0, 1.0, 3.0, 0.25) == pytest.approx(3.0)


def test_what_lies_outside_the_stretch_costs_nothing():
    seen = log((-5.0, {"early": UP}), (-1.0, {}), (12.0, {"late": UP}), (13.0, {}))
    assert seen.cost_usd(10.0, 1.0, 3.0, 1.0) == 0.0
    # One that goes after the end is paid for until then, without what its release costs.
    assert log((4.0, {"a": UP}), (11.0, {})).cost_usd(10.0, 1.0, 30.0, 1.0) == pytest.approx(6.0)


def test_bill_is_that_of_the_ledger_of_our_runs():
    setting = compile_scenario(load_scenario("demo"))
    catalog = at_speed(setting.catalog, 20.0, 2.0, 2.0)
    fleet = Fleet(catalog, calm_market(len(setting.zones)), 0, setting.control.retry_after_s)
    first = np.zeros(setting.shape[:2], np.int64)
    first[2, 0] = 2  # two replicas of the large variant on the smallest machine
    nobody = np.zeros_like(first)
    fleet.begin(first, 0.0)
    fleet.step(0.0, first, nobody)
    fleet.restart_clock()
    drain = empty_actions(1, setting.shape)
    drain.drain[0, 2, 0] = 1
    fleet.apply(drain, 5.0)
    fleet.step(6.0, first // 2, first // 2)
    fleet.step(7.5, first // 2, nobody)
    fleet.accrue(20.0)
    seen = log((0.0, {"a": UP, "b": UP}), (5.0, {"a": UP, "b": GOES}), (7.5, {"a": UP}), (20.0, {"a": UP}))
    price, least_s, lag_s = (
        float(x[0]) for x in (catalog.price_usd_per_s, catalog.min_billing_s, catalog.release_lag_s)
    )
    assert seen.cost_usd(20.0, price, least_s, lag_s) == pytest.approx(float(fleet.window.spend_usd.sum()))
    assert seen.cost_usd(20.0, price, least_s, lag_s) == pytest.approx(price * (20 + 7.5 + 0.25))


def test_number_at_a_tick_is_that_of_the_last_look_and_counts_what_starts():
    seen = log((-0.5, {"a": UP}), (0.9, {"a": UP, "b": STARTS}), (1.9, {"a": GOES, "b": UP}), (3.0, {"b": UP}))
    counts = seen.counts_at([0.0, 1.0, 2.0, 3.0])
    assert counts.reshape(-1).tolist() == [1, 2, 1, 1]
    index = flap_index(counts, 600.0)
    # Up at the first of three steps of ten minutes, down at the second.
    assert (index.changes_per_hour, index.reversals_per_hour) == pytest.approx((4.0, 2.0))


def test_number_before_the_first_look_is_not_made_up():
    with pytest.raises(RunError, match="expected a look before second 0, got 'none'"):
        log((0.5, {"a": UP})).counts_at([0.0, 1.0])


def test_log_is_read_as_it_was_written(tmp_path):
    seen = log((0.0, {"a": UP}), (1.0, {}))
    seen.write(tmp_path)
    assert read_replicas(tmp_path) == seen
    with pytest.raises(RunError, match="the replicas of a run"):
        read_replicas(tmp_path / "none")
