from dataclasses import replace

import numpy as np
import pytest

from controller.arrays import COMPUTE, IDLE, PREEMPTION_WASTE, START_UP, empty_actions
from serving.fleet import Fleet
from serving.instances import Phase, reported
from serving.market import Market, calm_market
from tests.unit.serving.worlds import LARGE_OD, SMALL_OD, SMALL_SPOT, setting

SHAPE = (2, 3)
SMALL, LARGE = 0, 1
OD, SPOT = 0, 1
PRICE = 3.6 / 3600


def fleet(market=None):
    return Fleet(setting().catalog, market or calm_market(1), seed=0, retry_after_s=5.0)


def act(**counts):
    actions = empty_actions(1, (2, 3, 2))
    for name, entries in counts.items():
        for at, count in entries.items():
            getattr(actions, name)[(0, *at)] = count
    return actions


def counts(**by_option):
    found = np.zeros(6, np.int64)
    for name, count in by_option.items():
        found[{"small_od": SMALL_OD, "large_od": LARGE_OD, "small_spot": SMALL_SPOT}[name]] = count
    return found.reshape(SHAPE)


NONE = np.zeros(SHAPE, np.int64)


def test_launched_instance_boots_then_loads_then_serves():
    world = fleet()
    world.apply(act(launch={(SMALL, OD): 1}), 0.0)
    world.step(3.9, NONE, NONE)
    assert world.targets().sum() == 0
    world.step(4.0, NONE, NONE)  # launch takes 4 s
    assert world.targets()[SMALL, OD] == 1
    assert world.counts(Phase.LOADING)[SMALL, OD] == 1
    world.step(6.0, counts(small_od=1), NONE)
    assert world.counts(Phase.SERVING)[SMALL, OD] == 1


def test_applying_satisfied_actions_changes_nothing():
    world = fleet()
    world.apply(act(launch={(SMALL, OD): 2}), 0.0)
    before = [(i.option, i.phase, i.launched_s) for i in world.instances]
    world.apply(act(), 1.0)
    assert [(i.option, i.phase, i.launched_s) for i in world.instances] == before


def test_launch_beyond_the_quota_fails_and_marks_the_pool_unavailable_for_a_while():
    world = fleet()
    world.apply(act(launch={(SMALL, OD): 4}), 0.0)
    assert len(world.instances) == 3
    assert world.window.launch_failed[OD] == 1
    assert world.available(4.9).tolist() == [False, True, True]
    assert world.available(5.0).tolist() == [True, True, True]


def test_drained_instance_is_billed_until_serve_has_stopped_it():
    world = fleet()
    world.begin(counts(small_od=1), 0.0)
    world.step(0.0, counts(small_od=1), NONE)
    world.apply(act(drain={(SMALL, OD): 1}), 20.0)
    assert world.targets().sum() == 0
    world.step(20.5, counts(small_od=1), NONE)  # Serve has not acted yet
    world.step(20.7, NONE, counts(small_od=1))
    assert world.counts(Phase.DRAINING)[SMALL, OD] == 1
    world.step(20.9, NONE, NONE)
    assert world.instances == []
    # 20.9 s alive (idle: nothing was served) and 1 s release lag.
    assert world.window.spend_usd[IDLE] == pytest.approx(21.9 * PRICE)


def test_replica_that_still_runs_after_its_drain_does_not_pass_for_a_new_one():
    world = fleet()
    world.begin(counts(small_od=1), 0.0)
    world.step(0.0, counts(small_od=1), NONE)
    world.begin(counts(small_od=1), 10.0)
    world.apply(act(drain={(SMALL, OD): 1}), 10.0)
    world.step(10.1, counts(small_od=1), NONE)
    assert world.counts(Phase.LOADING)[SMALL, OD] == 1
    assert world.counts(Phase.SERVING)[SMALL, OD] == 0
    world.step(11.5, counts(small_od=1), NONE)  # Serve had time enough to stop the old one: this is the new one
    world.step(11.6, counts(small_od=1), NONE)
    assert world.counts(Phase.SERVING)[SMALL, OD] == 1
    assert world.counts(Phase.DRAINING)[SMALL, OD] == 0


def test_stop_gives_back_a_starting_instance_with_the_minimum_billed():
    world = fleet()
    world.apply(act(launch={(SMALL, OD): 1}), 0.0)
    world.apply(act(stop={(SMALL, OD): 1}), 2.0)
    assert world.instances == []
    # 2 s passed, 10 s are billed at least.
    assert world.window.spend_usd[START_UP] == pytest.approx(10 * PRICE)


def test_swap_keeps_the_instance_and_loads_the_other_variant():
    world = fleet()
    world.begin(counts(small_od=1), 0.0)
    world.step(0.0, counts(small_od=1), NONE)
    world.apply(act(swap={(OD, SMALL, LARGE): 1}), 5.0)
    assert world.targets()[LARGE, OD] == 1
    assert world.targets()[SMALL, OD] == 0
    world.step(7.0, counts(large_od=1), NONE)
    assert world.counts(Phase.SERVING)[LARGE, OD] == 1
    assert world.instances[0].launched_s == 0.0


def test_crashed_replica_counts_as_starting_until_serve_has_replaced_it():
    world = fleet()
    world.begin(counts(small_od=2), 0.0)
    world.step(0.0, counts(small_od=2), NONE)
    world.step(5.0, counts(small_od=1), NONE)
    assert world.counts(Phase.SERVING)[SMALL, OD] == 1
    assert world.counts(Phase.LOADING)[SMALL, OD] == 1
    assert world.targets()[SMALL, OD] == 2
    world.step(8.0, counts(small_od=2), NONE)
    assert world.counts(Phase.SERVING)[SMALL, OD] == 2


def market(*shares):
    return Market(np.array([shares]), bin_s=10.0)


def test_spot_instance_gets_notice_and_is_killed_when_its_zone_closes():
    world = fleet(market(1.0, 1.0, 0.34))
    world.begin(counts(small_spot=2), 0.0)
    world.step(16.9, counts(small_spot=2), NONE)
    assert world.counts(Phase.DOOMED).sum() == 0
    world.step(17.0, counts(small_spot=2), NONE)  # 3 s notice before second 20, where one of three places is left
    assert world.counts(Phase.DOOMED)[SMALL, SPOT] == 1
    assert world.counts(Phase.SERVING)[SMALL, SPOT] == 1
    assert world.targets()[SMALL, SPOT] == 2
    world.step(20.0, counts(small_spot=2), NONE)
    assert world.targets()[SMALL, SPOT] == 1
    assert world.kills == {SMALL_SPOT: 1}
    assert world.window.preempted[SPOT] == 1
    assert not world.available(20.0)[SPOT]
    assert world.available(25.0)[SPOT]


def test_closed_zone_refuses_launches():
    world = fleet(market(0.0))
    world.apply(act(launch={(SMALL, SPOT): 1}), 0.0)
    assert world.instances == []
    assert world.window.launch_failed[SPOT] == 1


def test_used_seconds_move_from_idle_to_compute_and_lost_ones_to_waste():
    world = fleet()
    world.begin(counts(small_od=1), 0.0)
    world.step(0.0, counts(small_od=1), NONE)
    world.accrue(10.0)
    busy, lost = np.zeros(SHAPE), np.zeros(SHAPE)
    busy[SMALL, OD], lost[SMALL, OD] = 4.0, 1.0
    world.settle(busy, lost)
    spend = world.window.spend_usd
    assert spend[COMPUTE] == pytest.approx(3 * PRICE)
    assert spend[PREEMPTION_WASTE] == pytest.approx(1 * PRICE)
    assert spend[IDLE] == pytest.approx(6 * PRICE)
    assert spend.sum() == pytest.approx(10 * PRICE)


def test_reported_counts_running_and_stopping_replicas():
    running, stopping = reported([(0, "RUNNING"), (0, "RUNNING"), (3, "STOPPING"), (1, "STARTING")], SHAPE)
    assert running.reshape(-1).tolist() == [2, 0, 0, 0, 0, 0]
    assert stopping.reshape(-1).tolist() == [0, 0, 0, 1, 0, 0]


def test_launch_delay_is_drawn_from_the_pools_distribution():
    of = setting()
    shapes = np.concatenate([of.catalog.shapes, np.linspace(0.5, 1.5, of.catalog.shapes.shape[1])[None]])
    rows = np.full(3, len(shapes) - 1)
    world = Fleet(of.catalog._replace(shapes=shapes, launch_shape=rows), calm_market(1), 0, 5.0)
    world.apply(act(launch={(SMALL, OD): 3}), 0.0)
    boots = [i.boots_until_s for i in world.instances]
    assert all(2.0 <= at <= 6.0 for at in boots)
    assert len(set(boots)) == 3
    again = replace(world, instances=[], kills={})
    again.apply(act(launch={(SMALL, OD): 3}), 0.0)
    assert [i.boots_until_s for i in again.instances] == boots


def test_replicas_that_serve_finds_again_after_its_restart_have_served_all_the_while():
    world = fleet()
    world.begin(counts(small_od=2), 0.0)
    world.step(0.0, *reported([(SMALL_OD, "RUNNING"), (SMALL_OD, "RUNNING")], SHAPE))
    world.step(9.0, *reported([(SMALL_OD, "RECOVERING"), (SMALL_OD, "RUNNING")], SHAPE))
    assert world.counts(Phase.SERVING)[SMALL, OD] == 2
