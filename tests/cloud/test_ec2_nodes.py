"""The owner of nodes by real calls: what is wanted is bought once, lost machines are replaced, nothing is left over."""

import asyncio
from random import Random

import pytest

from serving.aws.ec2_nodes import AGAIN_S, UNSEEN_S, Ec2Nodes
from tests.cloud.account import KINDS, POOLS, kind_of, machines_of

pytestmark = pytest.mark.slow

JOIN_TIMEOUT_S = 60.0
STEP_S = 5.0


class Owned:
    """An owner, a clock that moves by hand, and a cluster that machines join when they are told to."""

    def __init__(self, aws, settle_s=0.0):
        self.aws, self.now_s, self.cluster = aws, 0.0, {}
        self.wanted, self.occupied = dict.fromkeys(POOLS, 0), set()
        self.lost, self.failed = {}, {}
        self.restart(settle_s)

    def restart(self, settle_s=0.0, **more):
        """Another owner takes over."""
        self.owner = Ec2Nodes(
            machines_of(self.aws),
            POOLS,
            self.aws.run,
            self.joined,
            lambda: self.now_s,
            Random(0),
            join_timeout_s=JOIN_TIMEOUT_S,
            settle_s=settle_s,
            **more,
        )

    async def joined(self):
        return dict(self.cluster)

    def step(self, count=1, joins=True, **wanted):
        """Time passes, the owner is asked before and after a comparison; returns the last report."""
        self.wanted |= wanted
        for _ in range(count):
            self.now_s += STEP_S
            if joins:
                self.join(*self.aws.there())
            self.ask()
            report = self.ask()
        return report

    def ask(self):
        """Asks the owner once, and waits for its comparison."""

        async def asked():
            report = await self.owner.follow(self.wanted, frozenset(self.occupied))
            await self.owner.settled()
            return report

        report = asyncio.run(asked())
        self.lost |= report.lost
        for pool, number in report.failed.items():
            self.failed[pool] = self.failed.get(pool, 0) + number
        return report

    def join(self, *machines):
        self.cluster |= {f"node-{one}": one for one in machines}

    def leave(self, *machines):
        for one in machines:
            self.cluster.pop(f"node-{one}", None)

    def alive(self):
        """Living nodes by pool, after two more steps."""
        report = self.step(2)
        return {pool: len(nodes) for pool, nodes in report.alive.items()}

    def end(self, *machines):
        """The provider ends machines, and their nodes with them."""
        self.aws.client("ec2").terminate_instances(InstanceIds=list(machines))
        self.leave(*machines)


@pytest.fixture
def owned(aws):
    return Owned(aws)


def of_pool(owned, pool):
    return sorted(one.instance_id for one in machines_of(owned.aws).all() if one.is_here and one.pool == pool)


def test_what_is_wanted_is_bought_once_and_known_by_its_nodes(owned):
    owned.step(od=2, spot=3)
    assert owned.alive() == {"od": 2, "spot": 3}
    owned.step(5)
    assert len(owned.aws.behaviour.created) == 5
    assert (owned.lost, owned.failed) == ({}, {})


def test_too_many_are_given_back_those_that_have_not_joined_first_and_none_that_is_occupied(owned):
    owned.step(2, od=2)
    first = of_pool(owned, "od")
    owned.step(joins=False, od=3)
    (newest,) = set(of_pool(owned, "od")) - set(first)
    owned.occupied = {f"node-{one}" for one in first}
    owned.step(joins=False, od=0)
    assert of_pool(owned, "od") == first
    owned.occupied = {f"node-{first[0]}"}
    owned.step(2, od=0)
    assert of_pool(owned, "od") == [first[0]]
    assert newest not in owned.aws.there()


def test_machine_that_the_provider_takes_is_reported_lost_and_replaced(owned):
    owned.step(2, spot=4)
    taken = of_pool(owned, "spot")[:2]
    owned.end(*taken)
    owned.step()
    assert owned.lost == {f"node-{one}": "spot" for one in taken}
    assert owned.alive() == {"spot": 4}
    assert len(owned.aws.behaviour.created) == 6


def test_machine_that_is_lost_is_replaced_only_where_one_is_still_wanted_when_that_is_known(owned):
    owned.step(2, spot=2)
    owned.end(of_pool(owned, "spot")[0])
    owned.ask()
    owned.wanted["spot"] = 1  # of a pool that is taken from, no more is wanted for a while
    owned.step(3)
    assert owned.alive() == {"spot": 1}
    assert len(owned.aws.behaviour.created) == 2


def test_machine_whose_node_is_gone_is_lost_and_given_back(owned):
    owned.step(2, od=1)
    (machine,) = of_pool(owned, "od")
    owned.leave(machine)
    owned.step(2, joins=False)
    assert owned.lost == {f"node-{machine}": "od"}
    assert machine not in owned.aws.there()
    assert owned.alive() == {"od": 1}


def test_pool_without_capacity_fails_and_is_asked_less_and_less_often_for_one(owned):
    owned.aws.behaviour.capacity |= {kind_of(owned.aws, kind): 0 for kind in KINDS}
    owned.step(20, od=2)
    asked = [call for call in owned.aws.behaviour.calls if call["Action"] == "CreateFleet"]
    counts = [int(call["TargetCapacitySpecification.TotalTargetCapacity"]) for call in asked]
    assert counts[0] == 2
    assert set(counts[1:]) == {1}
    assert 3 <= len(counts) <= 6  # pauses of at least 2.5, 5, 10, 20 and 40 s in a hundred
    assert owned.failed["od"] == sum(counts)
    owned.aws.behaviour.capacity.clear()
    owned.step(30)
    assert owned.alive() == {"od": 2}


def test_part_of_a_launch_that_could_not_be_had_fails_and_follows(owned):
    owned.aws.behaviour.capacity |= {kind_of(owned.aws, KINDS[0]): 1, kind_of(owned.aws, KINDS[1]): 0}
    owned.step(od=3)
    assert owned.failed == {"od": 2}
    assert len(of_pool(owned, "od")) == 1
    owned.aws.behaviour.capacity.clear()
    owned.step(10)
    assert owned.alive() == {"od": 3}


@pytest.mark.parametrize("rule", ["throttle", "lose_before", "lose_after"])
@pytest.mark.parametrize("action", ["CreateFleet", "DescribeInstances", "TerminateInstances", "CreateLaunchTemplate"])
def test_calls_without_an_answer_are_made_again_and_nothing_twice(owned, rule, action):
    getattr(owned.aws.behaviour, rule)[action] = 2
    owned.step(3, od=2)
    assert owned.alive() == {"od": 2}
    owned.step(3, od=1)
    assert owned.alive() == {"od": 1}
    assert len(owned.aws.behaviour.created) == 2
    assert owned.failed == owned.lost == {}


def test_second_kind_whose_answer_is_lost_is_asked_for_again_and_bought_once(owned, monkeypatch):
    behaviour = owned.aws.behaviour
    monkeypatch.setattr(owned.owner._machines, "_has_fleets", False)
    behaviour.capacity[kind_of(owned.aws, KINDS[0])] = 1
    once = behaviour._once

    def lose_the_second(form, send):
        if form["Action"] == "RunInstances" and form["InstanceType"] == KINDS[1].instance_type and not lost:
            lost.append(form)
            behaviour.lose_after["RunInstances"] = 1
        return once(form, send)

    lost = []
    monkeypatch.setattr(behaviour, "_once", lose_the_second)
    behaviour.seen_late = 3
    owned.step(8, od=3)
    assert owned.alive() == {"od": 3}
    assert lost
    assert len(behaviour.created) == 3
    assert owned.failed == {}


def test_machine_that_is_listed_late_is_not_bought_again(owned):
    owned.aws.behaviour.seen_late = 6
    owned.step(4, joins=False, od=2)
    assert len(owned.aws.behaviour.created) == 2
    owned.step(4)
    assert owned.alive() == {"od": 2}


def test_machine_that_is_never_listed_is_given_up(owned):
    owned.aws.behaviour.seen_late = 1_000_000
    owned.step(joins=False, od=1)
    owned.now_s += UNSEEN_S
    owned.step(joins=False)
    assert owned.failed["od"] == 1


def test_machine_given_back_that_is_listed_on_is_not_counted_and_given_back_again(owned):
    owned.step(2, od=2)
    owned.aws.behaviour.gone_late = 50
    owned.step(2, od=1)
    assert len(of_pool(owned, "od")) == 2  # as listed
    owned.step(int(AGAIN_S / STEP_S) + 2)
    ended = [call for call in owned.aws.behaviour.calls if call["Action"] == "TerminateInstances"]
    assert len(ended) >= 2
    assert len(owned.aws.there()) == 1
    assert owned.alive() == {"od": 1}


def test_machine_that_does_not_join_is_given_back_and_fails(owned):
    owned.step(joins=False, od=1)
    (machine,) = owned.aws.there()
    owned.step(int(JOIN_TIMEOUT_S / STEP_S) + 2, joins=False)
    assert machine not in owned.aws.there()
    assert owned.failed == {"od": 1}


@pytest.mark.parametrize("seen_late", [0, 3])
def test_machine_under_notice_on_its_way_is_given_back_and_another_bought(owned, seen_late):
    owned.aws.behaviour.seen_late = seen_late
    owned.step(joins=False, od=2)
    warned, kept = owned.aws.there()
    assert owned.owner.warned(warned) == ""
    owned.step(6, joins=False)
    there = owned.aws.there()
    assert warned not in there
    assert kept in there
    assert len(there) == 2
    assert owned.failed == {"od": 1}


def test_machine_under_notice_that_has_joined_is_known_by_its_node_and_nothing_of_others_is_touched(owned):
    owned.step(2, od=1)
    (machine,) = owned.aws.there()
    stranger = machines_of(owned.aws, run="another").launch("od", 1, "theirs").ids[0]
    assert owned.owner.warned(machine) == f"node-{machine}"
    assert owned.owner.warned(stranger) == ""
    owned.step(3)
    assert sorted(owned.aws.there()) == sorted([machine, stranger])
    assert owned.failed == {}


def test_orphan_of_ours_is_given_back_and_nothing_of_others(owned):
    ec2 = owned.aws.client("ec2")
    stranger = machines_of(owned.aws, run="another").launch("od", 1, "theirs").ids[0]
    ours = machines_of(owned.aws).launch("od", 1, "token").ids[0]
    ec2.create_tags(Resources=[ours], Tags=[{"Key": "provisor:pool", "Value": "of-another-catalog"}])
    owned.step(2)
    assert owned.aws.there() == [stranger]


@pytest.mark.parametrize("lost", [False, True])
def test_owner_that_takes_over_buys_nothing_twice(owned, lost):
    owned.aws.behaviour.seen_late = 4
    owned.aws.behaviour.lose_after["CreateFleet"] = 1 if lost else 0
    owned.step(joins=False, od=3)
    owned.restart(settle_s=10 * STEP_S)
    owned.step(4, joins=False)
    assert len(owned.aws.behaviour.created) == 3
    owned.step(20)
    assert owned.alive() == {"od": 3}
    assert len(owned.aws.behaviour.created) == 3


def test_first_owner_of_a_run_buys_at_once(owned):
    owned.restart(settle_s=10 * STEP_S, is_first=True)
    owned.step(joins=False, od=1)
    assert len(owned.aws.behaviour.created) == 1


def test_owner_that_takes_over_at_once_gets_the_launch_that_is_not_listed_yet(owned):
    owned.aws.behaviour.seen_late = 4
    owned.step(joins=False, od=3)
    owned.restart()
    owned.step(2)
    assert len(owned.aws.behaviour.created) == 3  # by the token


def test_taken_node_is_given_back_at_once(owned):
    owned.step(2, od=1)
    (machine,) = owned.aws.there()
    asyncio.run(owned.owner.take(f"node-{machine}"))
    assert owned.aws.there() == []


def test_close_leaves_nothing(owned, monkeypatch):
    owned.step(2, od=2, spot=1)
    owned.aws.behaviour.throttle["DescribeInstances"] = 2

    async def sleep(seconds):
        owned.now_s += seconds

    monkeypatch.setattr("serving.aws.ec2_nodes.asyncio.sleep", sleep)
    asyncio.run(owned.owner.close())
    assert owned.aws.there() == []
    assert owned.aws.client("ec2").describe_launch_templates()["LaunchTemplates"] == []
