"""With nodes, an instance boots until its pool has a node for it, is known by that node, and is lost with it."""

import json

import numpy as np
import pytest

from serving.fleet import Fleet
from serving.instances import Phase
from serving.market import Market, calm_market
from serving.nodes import living_nodes, surplus
from tests.unit.serving.test_fleet import LARGE, NONE, OD, SMALL, SPOT, act, counts
from tests.unit.serving.worlds import LARGE_SPOT, SMALL_OD, SMALL_SPOT, setting


def ledger(market=None):
    return Fleet(setting().catalog, market or calm_market(1), 0, 5.0, has_nodes=True, drain_lead_s=1.0)


def alive(od=0, spot=0):
    return np.array([od, spot, 0])


NO_FAILURES = np.zeros(3, np.int64)


def serving_on(node, market=None):
    world = ledger(market)
    world.apply(act(launch={(SMALL, SPOT): 1}), 0.0)
    world.node_counts(alive(spot=1), NO_FAILURES, 4.0)
    world.step(4.0, NONE, NONE)
    world.step(5.0, counts(small_spot=1), NONE)
    world.bind({node: SMALL_SPOT})
    return world


def test_instance_waits_for_a_node_of_its_pool():
    world = ledger()
    world.apply(act(launch={(SMALL, OD): 2}), 0.0)
    assert world.nodes_wanted().tolist() == [2, 0, 0]
    world.node_counts(alive(spot=2), NO_FAILURES, 9.0)
    world.step(9.0, NONE, NONE)
    assert world.counts(Phase.BOOTING)[SMALL, OD] == 2
    world.node_counts(alive(od=1), NO_FAILURES, 10.0)
    world.step(10.0, NONE, NONE)
    assert world.counts(Phase.LOADING)[SMALL, OD] == 1
    assert [(s.kind, s.seconds) for s in world.window.spans] == [("launch", 10.0)]


def test_node_that_does_not_come_is_a_failed_launch():
    world = ledger()
    world.apply(act(launch={(SMALL, OD): 1}), 0.0)
    world.node_counts(alive(), np.array([1, 0, 0]), 3.0)
    assert world.instances == []
    assert world.window.launch_failed.tolist() == [1, 0, 0]
    assert world.available(3.0).tolist() == [False, True, True]
    assert world.nodes_wanted().sum() == 0


def test_lost_node_takes_its_instance_and_is_not_ended_again():
    world = serving_on("n1")
    world.lose("n1", SPOT, 6.0)
    assert world.instances == []
    assert world.takes == []
    assert world.window.preempted.tolist() == [0, 1, 0]
    assert not world.available(6.0)[SPOT]


def test_lost_node_without_a_replica_takes_an_instance_of_its_pool_that_was_loading():
    world = ledger()
    world.apply(act(launch={(SMALL, OD): 1}), 0.0)
    world.node_counts(alive(od=1), NO_FAILURES, 4.0)
    world.step(4.0, NONE, NONE)
    world.lose("n1", OD, 5.0)
    assert world.instances == []
    world.lose("n2", OD, 5.0)  # of an instance that was released meanwhile
    assert world.instances == []


def test_notice_lets_a_node_serve_until_it_is_drained_and_then_ends_it():
    # Second 20 on the zone offers nothing; the notice of 2 s comes at 18.
    world = serving_on("n1", Market(np.array([[1.0, 0.0]]), bin_s=20.0))
    world.node_counts(alive(spot=1), NO_FAILURES, 18.5)
    world.step(18.5, counts(small_spot=1), NONE)
    assert world.counts(Phase.DOOMED)[SMALL, SPOT] == 1
    assert world.drains_due(18.9) == []
    assert world.drains_due(19.0) == [("n1", pytest.approx(1.0))]
    assert world.drains_due(19.0) == []
    assert world.targets().sum() == 0
    assert world.nodes_wanted().tolist() == [0, 1, 0]
    world.step(20.0, counts(small_spot=1), NONE)
    assert world.takes == ["n1"]
    assert world.instances == []


def test_notice_from_outside_dooms_the_instance_on_that_node_alone():
    world = serving_on("n1")
    assert not world.doom("n2", 10.0, 6.0)
    assert world.counts(Phase.DOOMED).sum() == 0
    assert world.doom("n1", 10.0, 6.0)
    assert not world.doom("n1", 99.0, 7.0)
    assert [i.killed_at_s for i in world.instances] == [16.0]
    assert not world.available(20.0)[SPOT]


def test_notice_of_a_node_on_which_nothing_serves_yet_is_kept_until_something_does():
    world = serving_on("n1")
    world.apply(act(swap={(SPOT, SMALL, LARGE): 1}), 6.0)
    assert not world.doom("n1", 10.0, 6.5)
    assert world.warn("n1", 10.0, 6.5)
    assert not world.warn("n1", 99.0, 6.6)
    world.bind({})
    large = np.zeros((2, 3), np.int64)
    large[LARGE, SPOT] = 1
    other = ledger()
    other.restore(json.loads(json.dumps(world.snapshot())))
    for one in (world, other):
        one.step(8.0, large, NONE)
        assert one.counts(Phase.SERVING)[LARGE, SPOT] == 1
        one.bind({"n1": LARGE_SPOT})
        assert one.counts(Phase.DOOMED)[LARGE, SPOT] == 1
        assert [i.killed_at_s for i in one.instances] == [16.5]
        assert not one.warn("n1", 10.0, 9.0)
        assert one.warned == {}


def test_notice_of_a_node_that_goes_before_anything_serves_is_forgotten_with_it():
    world = serving_on("n1")
    assert world.warn("n2", 10.0, 6.0)
    world.lose("n2", SPOT, 7.0)
    assert world.warned == {}
    assert world.warn("n1", 10.0, 7.0)
    assert world.counts(Phase.DOOMED)[SMALL, SPOT] == 1


def test_instance_follows_its_replica_to_another_node():
    world = serving_on("n1")
    world.bind({"n2": SMALL_SPOT, "n3": SMALL_OD})
    assert [i.node for i in world.instances] == ["n2"]


def test_first_fleet_waits_for_its_nodes():
    world = ledger()
    world.begin(counts(small_od=1), 0.0)
    world.step(0.0, NONE, NONE)
    assert world.counts(Phase.BOOTING).sum() == 1
    world.node_counts(alive(od=1), NO_FAILURES, 1.0)
    world.step(1.0, NONE, NONE)
    assert world.targets()[SMALL, OD] == 1


def test_only_empty_nodes_are_given_back():
    assert surplus({"b", "a", "c"}, frozenset({"a"}), 1) == ["b"]
    assert surplus({"a"}, frozenset({"a"}), 3) == []
    assert surplus({"a", "b"}, frozenset(), -1) == []


def test_dead_nodes_are_none():
    raw = [{"NodeID": "x", "Alive": False}, {"NodeID": "y", "Alive": True, "Labels": {"a": "b"}}]
    assert [(n.node_id, n.labels) for n in living_nodes(raw)] == [("y", {"a": "b"})]


def test_node_of_a_pool_is_one_that_serves_without_a_notice():
    world = serving_on("n1")
    assert world.node_of(SPOT) == "n1"
    assert world.node_of(OD) == ""
    world.doom("n1", 10.0, 6.0)
    assert world.node_of(SPOT) == ""


def test_machine_that_fails_does_not_close_its_pool():
    world = ledger()
    world.apply(act(launch={(SMALL, OD): 1}), 0.0)
    world.node_counts(alive(od=1), NO_FAILURES, 4.0)
    world.step(4.0, NONE, NONE)
    world.lose("n1", OD, 5.0)
    assert world.window.preempted.tolist() == [1, 0, 0]
    assert world.available(5.0).all()
