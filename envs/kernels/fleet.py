"""Instances: launch, swap, drain, stop, release and their rent; a decision's part in it at tick edges."""

from __future__ import annotations

import numpy as np

from controller.arrays import (
    COMPUTE,
    F64,
    IDLE,
    SERVERLESS,
    SERVERLESS_USE,
    SPOT,
    START_UP,
    ActionArrays,
    CatalogArrays,
    ObservationArrays,
    PlanArrays,
)
from controller.bill import release_charge_s
from controller.kernels.random import uniform
from controller.keyed_random import LAUNCH
from envs.kernels.compiled import inlined, kernel, merged, place, unsigned
from envs.kernels.lanes import num_routers
from envs.kernels.requests import draw
from envs.kernels.state import (
    DOOMED,
    DRAINING,
    FREE,
    I32,
    SERVING,
    STARTING,
    Fleet,
    SimState,
    SupplyArrays,
    TotalArrays,
)

_release_charge_s = inlined(release_charge_s)


@inlined
def pool_capacity(cat: CatalogArrays, supply: SupplyArrays, st: SimState, p: int, at_s: float) -> int:
    """Instances of a pool that can exist at env time `at_s`: the quota, for spot times what the zone offers."""
    if cat.market[p] != SPOT or cat.zone[p] < 0:
        return cat.quota[p]
    ticks = supply.spot_share.shape[1]
    tick = min(max(int((st.clock.spot_start_s[0] + at_s) / supply.spot_bin_s), 0), ticks - 1)
    return int(supply.spot_share[cat.zone[p], tick] * cat.quota[p] + 0.5)


@kernel
def release(cat: CatalogArrays, st: SimState, obs: ObservationArrays, tot: TotalArrays, i: int, until_s: float) -> None:
    """Gives an instance back and books what minimum and release lag add to the rent, which is paid until `until_s`."""
    p = st.fleet.option[i] % cat.market.shape[0]
    extra_s = _release_charge_s(until_s - st.fleet.launch_s[i], cat.min_billing_s[p], cat.release_lag_s[p])
    term = START_UP if st.fleet.state[i] == STARTING else IDLE
    obs.spend_usd[term] += extra_s * cat.price_usd_per_s[p]
    tot.instance_s[p] += extra_s
    st.fleet.state[i] = FREE
    st.fleet.option[i] = -1
    st.fleet.flight_option[i] = -1
    st.fleet.kill_s[i] = np.inf
    while st.fleet.used[0] > 0 and st.fleet.state[st.fleet.used[0] - 1] == FREE:
        st.fleet.used[0] -= 1


@inlined
def has_flight(credit_flight: I32, i: int) -> bool:
    """Whether a batch is in service on an instance."""
    found = False
    for k in range(credit_flight.shape[1]):
        found = found or credit_flight[i, k] >= 0
    return found


@kernel
def _free_at_s(st: SimState, i: int) -> float:
    """When the last batch in service on an instance ends."""
    latest_s = st.clock.now_s[0]
    for k in range(st.fleet.credit_flight.shape[1]):
        if st.fleet.credit_flight[i, k] >= 0:
            latest_s = max(latest_s, st.fleet.credit_free_s[i, k])
    return latest_s


@kernel
def _pick(st: SimState, option: int, state: int) -> int:
    """Instance of an option in a state that is free soonest, the latest launched among equals; -1 for none."""
    best, best_free_s, best_launch_s = -1, np.inf, -np.inf
    for i in range(st.fleet.used[0]):
        if st.fleet.option[i] == option and st.fleet.state[i] == state:
            free_s = _free_at_s(st, i)
            if free_s < best_free_s or (free_s == best_free_s and st.fleet.launch_s[i] > best_launch_s):
                best, best_free_s, best_launch_s = i, free_s, st.fleet.launch_s[i]
    return best


@merged
def num_alive(fleet: Fleet, num_pools: int, p: int) -> int:
    """Instances of a pool that exist and are not under notice."""
    count = 0
    for i in range(fleet.used[0]):
        if fleet.state[i] != FREE and fleet.kill_s[i] == np.inf:
            count += place(fleet.option[i], num_pools)[1] == unsigned(p)
    return count


@kernel
def add_instance(st: SimState, option: int, state: int, ready_s: float) -> int:
    """Fills a free slot; returns it, or -1 where the table is full."""
    for i in range(st.fleet.state.shape[0]):
        if st.fleet.state[i] == FREE:
            st.fleet.used[0] = max(st.fleet.used[0], i + 1)
            st.fleet.option[i] = option
            st.fleet.state[i] = state
            st.fleet.launch_s[i] = st.clock.now_s[0]
            st.fleet.ready_s[i] = ready_s
            st.fleet.kill_s[i] = np.inf
            st.fleet.flight_option[i] = -1
            for k in range(st.fleet.credit_flight.shape[1]):
                st.fleet.credit_flight[i, k] = -1
                st.fleet.credit_free_s[i, k] = st.clock.now_s[0]
            return i
    return -1


@kernel
def _launch(
    cat: CatalogArrays,
    supply: SupplyArrays,
    st: SimState,
    obs: ObservationArrays,
    tot: TotalArrays,
    v: int,
    p: int,
    count: int,
    retry_after_s: float,
) -> None:
    option = v * cat.market.shape[0] + p
    room = pool_capacity(cat, supply, st, p, st.clock.now_s[0]) - num_alive(st.fleet, cat.market.shape[0], p)
    for _ in range(count):
        start_s = cat.launch_s[p] * draw(
            cat.shapes[cat.launch_shape[p]], uniform(st.clock.keys[LAUNCH], st.clock.launches[0], 0)
        )
        st.clock.launches[0] += 1
        if room <= 0 or add_instance(st, option, STARTING, st.clock.now_s[0] + start_s + cat.load_s[v, p]) < 0:
            obs.launch_failed[p] += 1
            tot.launch_failed[p] += 1
            st.fleet.unavailable_until_s[p] = st.clock.now_s[0] + retry_after_s
            continue
        room -= 1


@kernel
def _provision(cat: CatalogArrays, st: SimState, option: int, v: int, p: int, change: int) -> None:
    """Raises or lowers the number of reserved serverless environments; new ones initialise before they serve."""
    st.containers.provisioned[option] = max(0, st.containers.provisioned[option] + change)
    e = 0
    while st.containers.alive[option] < st.containers.provisioned[option] and e < st.containers.option.shape[0]:
        if st.containers.option[e] < 0:
            st.containers.option[e] = option
            st.containers.used[0] = max(st.containers.used[0], e + 1)
            st.containers.alive[option] += 1
            st.containers.free_s[e] = st.clock.now_s[0] + cat.cold_start_s[v, p]
            st.containers.flight[e] = -1
        e += 1


@merged
def apply_one(
    cat: CatalogArrays,
    supply: SupplyArrays,
    st: SimState,
    obs: ObservationArrays,
    tot: TotalArrays,
    n: int,
    actions: ActionArrays,
    plan: PlanArrays,
    shares: F64,
    retry_after_s: float,
) -> None:
    """Starts the actions and puts plan and shares into force for the next tick."""
    num_variants, num_pools = cat.usable.shape
    if _is_any(actions, n):
        _start(cat, supply, st, obs, tot, n, actions, retry_after_s)
    for klass in range(shares.shape[1]):
        st.rules.overflow_after_s[klass] = plan.overflow_after_s[n, klass]
        st.rules.overflow_fraction[klass] = plan.overflow_fraction[n, klass]
        st.rules.hedge_after_s[klass] = plan.hedge_after_s[n, klass]
        st.rules.hedge_replaces[klass] = plan.hedge_replaces[n, klass]
        _take_cascade(st, plan, n, klass)
        st.rules.collage_variant[klass] = plan.collage_variant[n, klass]
        st.rules.collage_after_s[klass] = plan.collage_after_s[n, klass]
        st.rules.collage_passes[klass] = plan.collage_passes[n, klass]
        st.rules.shed_limit[klass] = plan.shed_limit[n, klass]
        for v in range(num_variants):
            for p in range(num_pools):
                st.rules.shares[klass, v * num_pools + p] = shares[n, klass, v, p]
    for v in range(num_variants):
        for p in range(num_pools):
            st.rules.batch_size[v * num_pools + p] = plan.batch_size[n, v, p]
            st.rules.batch_wait_s[v * num_pools + p] = plan.batch_wait_s[n, v, p]


@inlined
def _take_cascade(st: SimState, plan: PlanArrays, n: int, klass: int) -> None:
    """Puts a class's cascade into force; what its answers are worth is found again where it changes."""
    variant, threshold = st.rules.cascade_variant, st.rules.cascade_threshold
    changed = 0
    for step in range(variant.shape[1]):
        changed += variant[klass, step] != plan.cascade_variant[n, klass, step]
        variant[klass, step] = plan.cascade_variant[n, klass, step]
    for step in range(threshold.shape[1]):
        changed += threshold[klass, step] != plan.cascade_threshold[n, klass, step]
        threshold[klass, step] = plan.cascade_threshold[n, klass, step]
    st.rules.cascade_concurrent[klass] = plan.cascade_concurrent[n, klass]
    if changed > 0:
        st.rules.path_accuracy[klass, 0] = -1.0


@inlined
def _is_any(actions: ActionArrays, n: int) -> bool:
    """Whether there is any action; in most ticks there is none."""
    launch, drain, stop, swap = actions.launch[n], actions.drain[n], actions.stop[n], actions.swap[n]
    found = 0
    for v in range(launch.shape[0]):
        for p in range(launch.shape[1]):
            found |= launch[v, p] | drain[v, p] | stop[v, p]
    for p in range(swap.shape[0]):
        for v in range(swap.shape[1]):
            for to in range(swap.shape[2]):
                found |= swap[p, v, to]
    return found != 0


@kernel
def _start(
    cat: CatalogArrays,
    supply: SupplyArrays,
    st: SimState,
    obs: ObservationArrays,
    tot: TotalArrays,
    n: int,
    actions: ActionArrays,
    retry_after_s: float,
) -> None:
    """Starts the actions of env n."""
    num_variants, num_pools = cat.usable.shape
    for p in range(num_pools):
        for v in range(num_variants):
            option = v * num_pools + p
            if cat.market[p] == SERVERLESS:
                change = actions.launch[n, v, p] - actions.drain[n, v, p] - actions.stop[n, v, p]
                if change != 0:
                    _provision(cat, st, option, v, p, change)
                continue
            for _ in range(actions.stop[n, v, p]):
                i = _pick(st, option, STARTING)
                if i >= 0 and not has_flight(st.fleet.credit_flight, i):
                    release(cat, st, obs, tot, i, st.clock.now_s[0])
            for to in range(num_variants):
                for _ in range(actions.swap[n, p, v, to]):
                    i = _pick(st, option, SERVING)
                    if i >= 0:
                        st.fleet.ready_s[i] = _free_at_s(st, i) + cat.swap_s[to, p]
                        st.fleet.option[i] = to * num_pools + p
                        st.fleet.state[i] = STARTING
            for _ in range(actions.drain[n, v, p]):
                i = _pick(st, option, SERVING)
                if i >= 0:
                    st.fleet.state[i] = DRAINING
                    if not has_flight(st.fleet.credit_flight, i):
                        release(cat, st, obs, tot, i, st.clock.now_s[0])
    for p in range(num_pools):
        if cat.market[p] != SERVERLESS:
            for v in range(num_variants):
                if actions.launch[n, v, p] > 0:
                    _launch(cat, supply, st, obs, tot, v, p, actions.launch[n, v, p], retry_after_s)


@kernel
def rent(
    cat: CatalogArrays, st: SimState, obs: ObservationArrays, tot: TotalArrays, start_s: float, end_s: float
) -> None:
    """Books the rent of every instance for the tick, split into start-up, compute (credits in use) and idle."""
    num_variants, num_pools = cat.usable.shape
    span_s = end_s - start_s
    for p in range(num_pools):
        price = cat.price_usd_per_s[p]
        if cat.market[p] == SERVERLESS:
            for v in range(num_variants):
                reserved = st.containers.provisioned[v * num_pools + p]
                if reserved > 0:
                    gb_s = reserved * cat.memory_gb[p] * span_s
                    obs.spend_usd[SERVERLESS_USE] += gb_s * cat.provisioned_usd_per_gb_s[p]
            continue
        in_use_s = 0.0
        for v in range(num_variants):
            if cat.usable[v, p]:
                in_use_s += obs.busy_s[v, p] / cat.concurrency[v, p]
        obs.spend_usd[COMPUTE] += in_use_s * price
        obs.spend_usd[IDLE] -= in_use_s * price
    for i in range(st.fleet.used[0]):
        state = st.fleet.state[i]
        if state == FREE:
            continue
        _, p = place(st.fleet.option[i], num_pools)
        price = cat.price_usd_per_s[p]
        if state == STARTING and st.fleet.flight_option[i] < 0:
            obs.spend_usd[START_UP] += span_s * price
            tot.instance_s[p] += span_s
            continue
        lived_s = span_s
        if state == DRAINING:
            lived_s = min(max(drained_at_s(st.fleet.credit_free_s, i) - start_s, 0.0), span_s)
        obs.spend_usd[IDLE] += lived_s * price
        tot.instance_s[p] += lived_s


@inlined
def drained_at_s(credit_free_s: F64, i: int) -> float:
    """When the last batch of an instance ends, or ended."""
    latest_s = -np.inf
    for k in range(credit_free_s.shape[1]):
        latest_s = max(latest_s, credit_free_s[i, k])
    return latest_s


@merged
def count_fleet(cat: CatalogArrays, st: SimState, obs: ObservationArrays) -> None:
    """Writes the counts of the observation from the instance table and the queues."""
    num_variants, num_pools = cat.usable.shape
    routers, lane = num_routers(st), 0
    for v in range(num_variants):
        for p in range(num_pools):
            obs.ready[v, p] = 0
            obs.starting[v, p] = 0
            obs.draining[v, p] = 0
            obs.doomed[v, p] = 0
            queued = 0
            for _ in range(routers):
                queued += st.queue.length[lane]
                lane += 1
            obs.queue[v, p] = queued
    for p in range(num_pools):
        obs.warm[p] = 0
        obs.available[p] = st.clock.now_s[0] >= st.fleet.unavailable_until_s[p]
    for i in range(st.fleet.used[0]):
        state = st.fleet.state[i]
        if state == FREE:
            continue
        v, p = place(st.fleet.option[i], num_pools)
        if state == STARTING:
            obs.starting[v, p] += 1
        elif state == SERVING:
            obs.ready[v, p] += 1
        elif state == DOOMED:
            obs.doomed[v, p] += 1
        else:
            obs.draining[v, p] += 1
    for e in range(st.containers.used[0]):
        option = st.containers.option[e]
        if option >= 0:
            v, p = place(option, num_pools)
            obs.warm[p] += 1
            is_starting = st.containers.flight[e] < 0 and st.containers.free_s[e] > st.clock.now_s[0]
            if is_starting and obs.starting[v, p] < st.containers.provisioned[option]:
                obs.starting[v, p] += 1
    for v in range(num_variants):
        for p in range(num_pools):
            if cat.market[p] == SERVERLESS:
                obs.ready[v, p] = st.containers.provisioned[v * num_pools + p] - obs.starting[v, p]
