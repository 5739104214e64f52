"""Several routers, worked by hand: whose request is whose, what each knows, and what moves when credits come and go."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import pytest

from controller import latency
from controller.arrays import AnswerArrays, empty_observation
from controller.compile import Setting
from controller.keyed_random import ROUTER, stream_key, uniform
from envs.simulator import Simulator
from tests.simulated import World, arrival_times, one_request, one_tick, setting_with, supply_of
from tests.tiny import FN, LARGE, OD, SMALL, SPOT_A

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test compiles both kernels

FOREVER_S = 500.0
"""A service that lasts as long as any of these worlds."""

both_kernels = pytest.mark.parametrize("kernel", ["fast", "event"])


def setting_of(
    routers: int,
    service_s: float,
    kernel: str = "auto",
    small_s: float | None = None,
    answers: AnswerArrays | None = None,
    **changes: Any,
) -> Setting:
    """Every service takes `service_s`, launches are ready at the next edge, and nothing is late."""
    seconds = np.full_like(setting_with().catalog.service_s, service_s)
    seconds[SMALL] = service_s if small_s is None else small_s
    starts_at_once = {"launch_s": np.zeros(4), "load_s": np.zeros((3, 4)), "notice_s": np.zeros(4)}
    workload = {"slo_s": np.full(2, 1000.0), **changes}
    return setting_with(
        routers=routers,
        kernel=kernel,
        catalog={"service_s": seconds, **starts_at_once},
        workload=workload,
        answers=answers,
    )


def router_of(seed: int, identity: int, routers: int) -> int:
    return int(uniform(stream_key(seed, ROUTER), identity, 0) * routers)


def queued(simulator: Simulator, option: int, router: int, env: int = 0) -> list[int]:
    """Ids in a router's queue for an option, first one first."""
    state, found = simulator.state, []
    slot = state.queue.head[env, option * simulator.setting.scenario.control.routers + router]
    while slot >= 0:
        found.append(int(state.held.id[env, slot]))
        slot = state.held.next[env, slot]
    return found


def in_service(simulator: Simulator, instance: int) -> int:
    """Id of the request that an instance with one credit serves; -1 for none."""
    slot = simulator.state.fleet.credit_flight[0, instance, 0]
    return int(simulator.state.held.id[0, slot]) if slot >= 0 else -1


@both_kernels
@pytest.mark.parametrize(("routers", "replicas"), [(2, 2), (3, 3), (3, 5), (4, 2), (16, 3)])
def test_a_request_is_queued_and_served_by_its_router(kernel: str, routers: int, replicas: int) -> None:
    world = World(setting_of(routers, FOREVER_S, kernel), supply_of(one_tick(6.0))).start({(SMALL, OD): replicas}, [1])
    seen = world.route((SMALL, OD)).tick()
    lanes = min(routers, replicas)
    waiting = [queued(world.simulator, 0, lane) for lane in range(lanes)]
    served = [in_service(world.simulator, i) for i in range(replicas)]
    for lane, ids in enumerate(waiting):
        # Instances are dealt in turn, and router r stands in queue r modulo the number of queues.
        mine = served[lane::lanes]
        assert {router_of(1, i, routers) % lanes for i in (*ids, *mine)} == {lane}
        assert ids == sorted(ids)
        assert max(mine) < min(ids)
    assert seen.queue[0, SMALL, OD] == sum(map(len, waiting)) == seen.arrivals.sum() - replicas > 20


@both_kernels
def test_requests_move_in_order_of_arrival_when_the_credit_of_their_router_goes(kernel: str) -> None:
    """Two routers with an instance each serve requests 0 and 1; 2 waits at router 1 and 3 at router 0.

    Then instance 0 drains, so router 0 is dealt instance 1: there is one queue, in which 2 comes before 3. Request 1
    goes on where it is, and what follows starts when it ends.
    """
    for seed in count():
        times_s = arrival_times(seed, 0.4)
        if len(times_s) == 4 and times_s[1] < 8.0 and [router_of(seed, i, 2) for i in range(4)] == [0, 1, 1, 0]:
            break
    world = World(setting_of(2, 12.0, kernel), supply_of(one_tick(0.4))).start({(SMALL, OD): 2}, [seed])
    simulator = world.route((SMALL, OD)).simulator
    world.tick()
    assert [queued(simulator, 0, 0), queued(simulator, 0, 1)] == [[3], [2]]
    assert [in_service(simulator, 0), in_service(simulator, 1)] == [0, 1]
    seen = world.act(drain={(SMALL, OD): 1}).tick()
    assert seen.answered.sum() == 2
    assert [queued(simulator, 0, 0), queued(simulator, 0, 1)] == [[3], []]
    assert in_service(simulator, 1) == 2
    world.tick(3)
    second_s = times_s[1] + 12.0
    expected = [12.0, 12.0, second_s + 12.0 - times_s[2], second_s + 24.0 - times_s[3]]
    found = simulator.totals.latency[0].sum(axis=0)
    assert np.repeat(np.arange(len(found)), found).tolist() == sorted(latency.bucket_of(value) for value in expected)


@both_kernels
def test_requests_that_waited_for_an_instance_go_to_their_routers_when_there_is_one_for_each(kernel: str) -> None:
    world = World(setting_of(3, FOREVER_S, kernel), supply_of(one_tick(2.0))).start({}, [2]).route((SMALL, OD))
    seen = world.act(launch={(SMALL, OD): 3}).tick()
    together = queued(world.simulator, 0, 0)
    assert together == list(range(int(seen.arrivals.sum())))
    world.tick()
    for router in range(3):
        mine = [i for i in together if router_of(2, i, 3) == router]
        assert [in_service(world.simulator, router), *queued(world.simulator, 0, router)] == mine


@both_kernels
def test_a_request_that_lost_its_instance_goes_back_to_the_front_of_its_router(kernel: str) -> None:
    share = np.ones((2, 100))
    share[0, 1:] = 0.03  # of 100: one of the four instances goes, the second of router 1
    world = World(setting_of(2, FOREVER_S, kernel), supply_of(one_tick(2.0), share)).start({(SMALL, SPOT_A): 4}, [3])
    seen = world.route((SMALL, SPOT_A)).tick()
    assert seen.preempted[0, SPOT_A] == 1
    seen = world.tick()
    served = [in_service(world.simulator, i) for i in range(3)]
    for router in range(2):
        mine = [i for i in range(int(seen.queue.sum()) + 3) if router_of(3, i, 2) == router]
        assert [*served[router::2], *queued(world.simulator, SPOT_A, router)] == mine


@both_kernels
@pytest.mark.parametrize(
    ("queue_limit", "shed_limit", "each"), [(5, 1000, 3), (1000, 4, 2), (1, 1000, 1), (1000, 1, 1), (6, 6, 3)]
)
def test_a_limit_is_divided_over_the_routers_and_rounded_up(
    kernel: str, queue_limit: int, shed_limit: int, each: int
) -> None:
    setting = setting_of(2, FOREVER_S, kernel, queue_limit=np.full(2, queue_limit))
    world = World(setting, supply_of(one_tick(10.0))).start({(SMALL, OD): 2}).route((SMALL, OD))
    world.plan.shed_limit[:] = shed_limit
    seen = world.tick()
    assert seen.waiting[0].tolist() == [2 * each, 2 * each]
    assert [len(queued(world.simulator, 0, router)) for router in range(2)] == [2 * each, 2 * each]
    assert seen.shed.sum() == seen.arrivals.sum() - 4 * each - 2


@both_kernels
@pytest.mark.parametrize(
    ("routers", "drawn", "calls"), [(1, [0, 0], 0), (2, [0, 0], 1), (2, [1, 1], 1), (2, [0, 1], 0)]
)
def test_a_router_knows_no_free_credit_but_its_own(kernel: str, routers: int, drawn: list[int], calls: int) -> None:
    # Two instances of 4 s each: who comes second waits for 4 s where the first one was the same router's.
    for seed in count():
        times_s = arrival_times(seed, 0.5)
        if len(times_s) == 2 and times_s[1] - times_s[0] < 4.0 and [router_of(seed, i, 2) for i in range(2)] == drawn:
            break
    world = World(setting_of(routers, 4.0, kernel), supply_of(one_tick(0.5))).start({(SMALL, OD): 2}, [seed])
    world.plan.overflow_fraction[:] = 1.0
    world.plan.overflow_after_s[:] = 3.9
    assert world.route((SMALL, OD)).tick().invocations[0, FN] == calls


def test_a_duplicate_waits_at_the_router_of_its_request() -> None:
    seed, _, rates = one_request(5.0)
    for routers, busy_s in ((1, 2.0 + 1.5), (2, 2.0)):
        world = World(setting_of(routers, 2.0), supply_of(rates)).start({(SMALL, OD): 2}, [seed]).route((SMALL, OD))
        world.plan.hedge_after_s[:] = 0.5
        seen = world.tick()
        assert (seen.answered.sum(), seen.queue.sum()) == (1, 0)
        assert seen.busy_s[0, SMALL, OD] == pytest.approx(busy_s)


def test_a_later_step_of_a_cascade_is_the_same_routers() -> None:
    unsure = AnswerArrays(np.zeros((1, 3)), np.ones((1, 3)))
    world = World(setting_of(3, FOREVER_S, small_s=0.05, answers=unsure), supply_of(one_tick(2.0)))
    world.start({(SMALL, OD): 6, (LARGE, OD): 3}, [4]).route((SMALL, OD), (LARGE, OD))
    world.plan.cascade_variant[:] = [SMALL, LARGE, -1]
    world.plan.cascade_threshold[:] = 0.5
    seen = world.tick(2)
    assert seen.queue[0, LARGE, OD] == world.simulator.totals.arrivals.sum() - 3 > 10
    for router in range(3):
        ids = [in_service(world.simulator, 6 + router), *queued(world.simulator, LARGE * 4 + OD, router)]
        assert {router_of(4, i, 3) for i in ids} == {router}


@both_kernels
def test_one_router_draws_nothing(kernel: str) -> None:
    for routers in (1, 2):
        found = []
        for other_key in (False, True):
            world = World(setting_with(routers=routers, kernel=kernel), supply_of(50.0)).start({(SMALL, OD): 3}, [1])
            if other_key:
                world.simulator.state.clock.keys[:, ROUTER] = 7
            world.route((SMALL, OD)).tick(6)
            found.append(world.simulator.totals)
        is_same = all(np.array_equal(left, right) for left, right in zip(*found, strict=True))
        assert is_same == (routers == 1)


@pytest.mark.parametrize("hedge_after_s", [np.inf, 0.2])
def test_routers_that_share_single_credits_and_serverless_are_one(hedge_after_s: float) -> None:
    worlds = []
    for routers in (1, 5):
        setting = setting_with(routers=routers, workload={"queue_limit": np.array([7, 9])})
        world = World(setting, supply_of(40.0)).start({(SMALL, OD): 1, (LARGE, OD): 1, (SMALL, FN): 2}, [6])
        world.route((SMALL, OD), (LARGE, OD), (SMALL, FN))
        world.plan.overflow_after_s[:] = 0.3
        world.plan.overflow_fraction[:] = 0.5
        world.plan.hedge_after_s[:] = hedge_after_s
        world.tick(8)
        worlds.append(world.simulator)
    for left, right in zip(*[(*simulator.observation, *simulator.totals) for simulator in worlds], strict=True):
        np.testing.assert_array_equal(left, right)
    assert worlds[0].totals.shed.sum() > 0
    assert worlds[0].totals.invocations.sum() > 0


def test_what_was_seen_to_wait_is_given_to_the_routers_that_its_draws_name() -> None:
    setting = setting_of(3, FOREVER_S)
    seen = empty_observation(1, setting.shape)
    seen.ready[0, SMALL, OD], seen.queue[0, SMALL, OD], seen.waiting[0] = 3, 30, [12, 18]
    seeds = np.array([8, 9])
    simulator = Simulator(setting, supply_of(0.0), 2)
    np.testing.assert_array_equal(simulator.start_from(seen, seeds).queue[:, SMALL, OD], [30, 30])
    after = simulator.advance()
    np.testing.assert_array_equal(after.queue[:, SMALL, OD], [30, 30])
    for env, seed in enumerate(seeds.tolist()):
        for router in range(3):
            mine = [i for i in range(30) if router_of(seed, i, 3) == router]
            assert queued(simulator, 0, router, env) == mine
