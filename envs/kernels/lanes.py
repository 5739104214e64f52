"""Several routers: each keeps queues of its own and owns a part of every option's credits.

A request has one router, drawn by its id, for good: retries, duplicates and later steps of a cascade are the same
router's. What a router has of an option is a lane, option * R + router: a FIFO, and every R-th credit of the option in
the order of instances and of the credits of each. A router knows its own lane alone, so waits are predicted and
requests shed by what queues and runs there. Serverless environments start by themselves and are shared by all.

An option with fewer credits than routers has one lane per credit, and one where it has none; router r then uses lane r
modulo their number. So a request's lane follows from its id and the option's credits. Credits are dealt anew as
instances come and go, at the beginning of a tick; requests whose lane changes with that move, in order of arrival, and
batches in service go on where they are. With one router a lane is an option, and nothing is drawn.
"""

from __future__ import annotations

from controller.arrays import F64, I64, CatalogArrays
from controller.kernels.random import uniform
from controller.keyed_random import ROUTER
from envs.kernels.compiled import inlined, merged, unsigned
from envs.kernels.requests import enqueue, push
from envs.kernels.scratch import Scratch
from envs.kernels.state import SimState


@inlined
def num_routers(st: SimState) -> int:
    """Routers R, which the shapes tell."""
    return st.queue.head.shape[0] // st.rules.shares.shape[1]


@inlined
def limit_of_lane(limit: int, num_lanes: int) -> int:
    """Part of one lane in a limit of an option's queued requests: an even one, rounded up."""
    return limit if num_lanes == 1 else limit // num_lanes + (limit % num_lanes > 0)


@inlined
def load_credits(cat: CatalogArrays, st: SimState, sc: Scratch, lane: int, heap_s: F64, heap_credit: I64) -> int:
    """Fills an empty heap with the credits of a lane in use by the moment each is free; returns their number."""
    num_pools, credits_per_instance = cat.market.shape[0], st.fleet.credit_free_s.shape[1]
    option = sc.lane_option[lane]
    num_credits = cat.concurrency[option // num_pools, option % num_pools]
    size, ahead = 0, sc.lane_router[lane]  # credits of other lanes before the next of this one
    for m in range(sc.member_start[option], sc.member_start[option + 1]):
        i = sc.member[m]
        for k in range(num_credits):
            if ahead == 0:
                size = push(heap_s, heap_credit, size, st.fleet.credit_free_s[i, k], i * credits_per_instance + k)
                ahead = sc.num_lanes[option]
            ahead -= 1
    return size


@inlined
def router_of(st: SimState, identity: int) -> int:
    """Router of a request."""
    routers = num_routers(st)
    return 0 if routers == 1 else int(uniform(st.clock.keys[ROUTER], identity, 0) * routers)


@inlined
def lane_of(st: SimState, sc: Scratch, option: int, identity: int) -> int:
    """Lane of an option that a request uses."""
    if st.queue.head.shape[0] == st.rules.shares.shape[1]:
        return option
    return option * num_routers(st) + router_of(st, identity) % sc.num_lanes[option]


@merged
def deal_credits(cat: CatalogArrays, st: SimState, sc: Scratch) -> None:
    """Finds how many lanes of each option are in use and moves queued requests whose lane has changed. Needs `members`.

    Also gives those that stand in the first lane since the last edge to the routers whose they are.
    """
    routers, num_pools = num_routers(st), cat.market.shape[0]
    if routers == 1:
        return
    for option in range(sc.num_lanes.shape[0]):
        instances = sc.member_start[option + 1] - sc.member_start[option]
        num_credits = instances * cat.concurrency[option // num_pools, option % num_pools]
        sc.num_lanes[option] = min(max(num_credits, 1), routers)
    for lane in range(st.queue.head.shape[0]):
        before, slot = -1, st.queue.head[lane]
        while slot >= 0:
            following = st.held.next[slot]
            to = lane_of(st, sc, sc.lane_option[lane], st.held.id[slot])
            if to == lane:
                before = slot
            else:
                _unlink(st, lane, before, slot)
                enqueue(st, to, slot)
            slot = following


@inlined
def _unlink(st: SimState, lane: int, before: int, slot: int) -> None:
    """Takes a held request out of a lane's queue; `before` is the one ahead of it, -1 for none."""
    following = st.held.next[slot]
    if before < 0:
        st.queue.head[lane] = following
    else:
        st.held.next[before] = following
    if following < 0:
        st.queue.tail[lane] = before
    st.queue.length[lane] -= 1


@merged
def choose_lanes(st: SimState, sc: Scratch, count: int) -> None:
    """Draws the router of every arrival, whose option stands where its lane goes, and counts them by lane."""
    key, start, lanes, seg_fill = st.clock.keys[ROUTER], unsigned(sc.identity[0]), sc.lane, sc.seg_fill
    routers = num_routers(st)
    for lane in range(seg_fill.shape[0]):
        seg_fill[lane] = 0
    for i in range(unsigned(count)):
        option = lanes[i]
        if option >= 0:
            router = int(uniform(key, start + i, 0) * routers)
            lane = option * routers + router % sc.num_lanes[option]
            lanes[i] = lane
            seg_fill[lane] += 1
