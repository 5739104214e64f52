"""Tick edges: what starts becomes ready, what is drained goes, and the spot market takes back what it lent."""

from __future__ import annotations

import numpy as np

from controller import routing
from controller.arrays import (
    COMPUTE,
    PREEMPTION_WASTE,
    SPOT,
    CatalogArrays,
    ObservationArrays,
    WorkloadArrays,
)
from controller.redundancy import STEP_ATTEMPTS
from envs.kernels.compiled import inlined, kernel, merged
from envs.kernels.fleet import drained_at_s, has_flight, num_alive, pool_capacity, release
from envs.kernels.lanes import num_routers
from envs.kernels.requests import enqueue, leave_held_group, let_go
from envs.kernels.state import (
    COLLAGE,
    DOOMED,
    DRAINING,
    FREE,
    GROUPED,
    MAX_ATTEMPTS,
    SERVED,
    SERVING,
    STARTING,
    SimState,
    SupplyArrays,
    TotalArrays,
)

_may_retry = inlined(routing.may_retry)


@kernel
def _lose(wl: WorkloadArrays, st: SimState, obs: ObservationArrays, slot: int, option: int) -> None:
    """A request in service loses its replica. Another copy of it goes on alone; else it is queued again or fails."""
    klass = st.held.klass[slot]
    if wl.num_operators[klass] > 1:
        _lose_message(wl, st, obs, slot, option)
        return
    twin, steps = st.held.twin[slot], st.held.steps[slot]
    if steps & COLLAGE:  # not sent again: its requests are under way on their own
        leave_held_group(st, slot)
        st.held.pairs[0] -= 1
        let_go(st, slot)
        return
    if twin >= 0 and steps & GROUPED == 0:
        st.held.twin[twin >> 1] = -1
        st.held.pairs[0] -= 1
        if twin & 1 == 0:  # what is left of it waits in a queue
            obs.waiting[klass] += 1
        let_go(st, slot)
        return
    now_s = st.clock.now_s[0]
    deadline_s = st.held.arrival_s[slot] + wl.slo_s[klass]
    until_s = deadline_s if wl.drop_at_deadline[klass] else np.inf
    if _may_retry(now_s, until_s, st.held.attempt[slot] % STEP_ATTEMPTS, MAX_ATTEMPTS):
        st.held.attempt[slot] += 1
        enqueue(st, option * num_routers(st), slot)  # the next tick gives it to its router's lane
        obs.waiting[klass] += 1
        return
    obs.failed[klass] += 1
    if deadline_s > now_s:
        obs.missed[klass] += 1
    if steps & GROUPED:
        leave_held_group(st, slot)
    let_go(st, slot)


@kernel
def _lose_message(wl: WorkloadArrays, st: SimState, obs: ObservationArrays, slot: int, option: int) -> None:
    """A message in service loses its replica: it is queued again, or its request fails whole.

    What else of such a request is under way is taken back when the next tick begins.
    """
    klass = st.held.klass[slot]
    if st.held.steps[slot] & GROUPED == 0:  # its request failed in this very moment
        let_go(st, slot)
        return
    st.held.steps[slot] &= ~SERVED
    now_s = st.clock.now_s[0]
    deadline_s = st.held.arrival_s[slot] + wl.slo_s[klass]
    until_s = deadline_s if wl.drop_at_deadline[klass] else np.inf
    if _may_retry(now_s, until_s, st.held.attempt[slot] % STEP_ATTEMPTS, MAX_ATTEMPTS):
        st.held.attempt[slot] += 1
        enqueue(st, option * num_routers(st), slot)
        is_served, at = False, st.held.twin[slot] >> 1
        while at != slot:
            is_served = is_served or st.held.steps[at] & SERVED != 0
            at = st.held.twin[at] >> 1
        obs.waiting[klass] += not is_served
        return
    obs.failed[klass] += 1
    if deadline_s > now_s:
        obs.missed[klass] += 1
    at = slot
    while st.held.steps[at] & GROUPED:
        following = st.held.twin[at] >> 1
        st.held.steps[at] &= ~GROUPED
        st.held.twin[at] = -1
        at = following
    let_go(st, slot)


@kernel
def _kill(
    cat: CatalogArrays, wl: WorkloadArrays, st: SimState, obs: ObservationArrays, tot: TotalArrays, i: int
) -> None:
    """Takes an instance back: its requests are queued again where time and attempts allow, its paid work is waste."""
    option = st.fleet.flight_option[i]
    num_pools = cat.market.shape[0]
    if option >= 0:
        v, p = option // num_pools, option % num_pools
        for k in range(cat.concurrency[v, p]):
            slot = st.fleet.credit_flight[i, k]
            if slot < 0:
                continue
            lost_usd = (
                (st.clock.now_s[0] - st.fleet.credit_start_s[i, k]) / cat.concurrency[v, p] * cat.price_usd_per_s[p]
            )
            obs.spend_usd[COMPUTE] -= lost_usd
            obs.spend_usd[PREEMPTION_WASTE] += lost_usd
            st.fleet.credit_flight[i, k] = -1
            while slot >= 0:
                following = st.held.next[slot]
                _lose(wl, st, obs, slot, option)
                slot = following
    p = st.fleet.option[i] % num_pools
    obs.preempted[p] += 1
    until_s = st.clock.now_s[0]
    if st.fleet.state[i] == DRAINING:
        until_s = min(until_s, drained_at_s(st.fleet.credit_free_s, i))
    release(cat, st, obs, tot, i, until_s)


@merged
def edge(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    supply: SupplyArrays,
    st: SimState,
    obs: ObservationArrays,
    tot: TotalArrays,
    retry_after_s: float,
) -> None:
    """Tick edge: drained instances go, starting ones become ready, notices are given and instances taken back."""
    num_pools = cat.market.shape[0]
    now_s = st.clock.now_s[0]
    for i in range(st.fleet.used[0]):
        state = st.fleet.state[i]
        if state == FREE:
            continue
        if st.fleet.flight_option[i] >= 0 and not has_flight(st.fleet.credit_flight, i):
            st.fleet.flight_option[i] = -1
        if state == DRAINING and st.fleet.flight_option[i] < 0:
            release(cat, st, obs, tot, i, min(drained_at_s(st.fleet.credit_free_s, i), now_s))
        elif state == STARTING and st.fleet.ready_s[i] <= now_s:
            st.fleet.state[i] = SERVING
            for k in range(st.fleet.credit_free_s.shape[1]):
                st.fleet.credit_free_s[i, k] = now_s
        elif st.fleet.kill_s[i] <= now_s:
            st.fleet.unavailable_until_s[st.fleet.option[i] % num_pools] = now_s + retry_after_s
            _kill(cat, wl, st, obs, tot, i)
    for p in range(num_pools):
        if cat.market[p] == SPOT and cat.zone[p] >= 0:
            _give_notice(cat, wl, supply, st, obs, tot, p, retry_after_s)


@kernel
def _give_notice(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    supply: SupplyArrays,
    st: SimState,
    obs: ObservationArrays,
    tot: TotalArrays,
    p: int,
    retry_after_s: float,
) -> None:
    """Marks or takes the instances that the zone will not offer within the notice span."""
    now_s = st.clock.now_s[0]
    position_s = st.clock.spot_start_s[0] + now_s
    tick = int(position_s / supply.spot_bin_s)
    last = int((position_s + cat.notice_s[p]) / supply.spot_bin_s)
    least = st.fleet.used[0]
    for at in range(tick, last + 1):
        at_s = now_s + max(at * supply.spot_bin_s - position_s, 0.0)
        least = min(least, pool_capacity(cat, supply, st, p, at_s + 1e-6))
    if least >= st.fleet.used[0]:  # room for more than there are: nobody needs to be counted
        return
    alive = num_alive(st.fleet, cat.market.shape[0], p)
    for at in range(tick, last + 1):
        at_s = now_s + max(at * supply.spot_bin_s - position_s, 0.0)
        excess = alive - pool_capacity(cat, supply, st, p, at_s + 1e-6)
        i = st.fleet.used[0] - 1
        while excess > 0 and i >= 0:
            state = st.fleet.state[i]
            is_noticed = st.fleet.kill_s[i] < np.inf
            if state != FREE and not is_noticed and st.fleet.option[i] % cat.market.shape[0] == p:
                excess -= 1
                alive -= 1
                st.fleet.unavailable_until_s[p] = max(st.fleet.unavailable_until_s[p], at_s + retry_after_s)
                if at_s <= now_s or state == STARTING:
                    _kill(cat, wl, st, obs, tot, i)
                else:
                    st.fleet.kill_s[i] = at_s
                    if state == SERVING:  # one that drains takes no more requests and goes when it is done
                        st.fleet.state[i] = DOOMED
            i -= 1
