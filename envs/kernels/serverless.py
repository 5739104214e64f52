"""Calls to serverless pools, which start execution environments themselves."""

from __future__ import annotations

import numpy as np

from controller.arrays import CatalogArrays, ObservationArrays, WorkloadArrays
from controller.bill import serverless_usd
from controller.kernels.random import uniform
from controller.keyed_random import COLD_START, SERVICE
from envs.kernels.compiled import inlined, kernel
from envs.kernels.requests import answer, draw, hold, pop, push
from envs.kernels.scratch import Scratch
from envs.kernels.state import SimState

_serverless_usd = inlined(serverless_usd)


@inlined
def _remove(st: SimState, option: int, env: int) -> None:
    """Ends an environment that was idle too long."""
    st.containers.option[env] = -1
    while st.containers.used[0] > 0 and st.containers.option[st.containers.used[0] - 1] < 0:
        st.containers.used[0] -= 1
    st.containers.alive[option] -= 1


@inlined
def place_call(
    cat: CatalogArrays,
    st: SimState,
    obs: ObservationArrays,
    sc: Scratch,
    option: int,
    env: int,
    num_busy: int,
    now_s: float,
    identity: int,
    attempt: int,
    end_s: float,
) -> tuple[int, float]:
    """Makes one call; it is billed in full at once.

    Args:
        env: Idle environment to use, -2 for a new one, -1 where the pool's limit is reached.
        num_busy: Calls of the option that run now.

    Returns:
        The environment and when the call ends; (-1, inf) for a call that was refused.
    """
    num_pools = cat.market.shape[0]
    v, p = option // num_pools, option % num_pools
    duration_s = cat.service_s[v, p, 1] * draw(
        cat.shapes[cat.service_shape[v, p]], uniform(st.clock.keys[SERVICE], identity, attempt)
    )
    if env == -2:
        env = 0
        while env < st.containers.used[0] and st.containers.option[env] >= 0:
            env += 1
        if env == st.containers.option.shape[0]:
            env = -1
        else:
            st.containers.used[0] = max(st.containers.used[0], env + 1)
            st.containers.option[env] = option
            st.containers.alive[option] += 1
            duration_s += cat.cold_start_s[v, p] * draw(
                cat.shapes[cat.cold_shape[v, p]], uniform(st.clock.keys[COLD_START], identity, attempt)
            )
            obs.cold_starts[p] += 1
    if env < 0:
        obs.throttled[p] += 1
        return -1, np.inf
    rate = cat.usd_per_gb_s[p]
    if num_busy < st.containers.provisioned[option]:
        rate = cat.provisioned_compute_usd_per_gb_s[p]
    sc.call_usd[option] += _serverless_usd(
        duration_s, cat.billing_step_s[p], cat.memory_gb[p], rate, cat.usd_per_request[p]
    )
    obs.invocations[p] += 1
    finish_s = now_s + duration_s
    obs.busy_s[v, p] += min(finish_s, end_s) - now_s
    st.containers.free_s[env] = finish_s
    st.containers.flight[env] = -1
    return env, finish_s


@kernel
def refuse_call(wl: WorkloadArrays, obs: ObservationArrays, klass: int, arrival_s: float, start_s: float) -> None:
    """Books a request that no environment takes; a deadline that passed in an earlier tick was booked there."""
    obs.shed[klass] += 1
    if arrival_s + wl.slo_s[klass] > start_s:
        obs.missed[klass] += 1


@kernel
def find_environment(cat: CatalogArrays, st: SimState, option: int, now_s: float) -> tuple[int, int]:
    """Ends what was idle too long; returns the environment for a call as `place_call` takes it, and how many run."""
    p = option % cat.market.shape[0]
    while True:
        latest, oldest, num_busy = -1, -1, 0
        latest_s, oldest_s = -np.inf, np.inf
        for e in range(st.containers.used[0]):
            if st.containers.option[e] != option:
                continue
            free_s = st.containers.free_s[e]
            if free_s > now_s:
                num_busy += 1
                continue
            if free_s >= latest_s:
                latest, latest_s = e, free_s
            if free_s < oldest_s:
                oldest, oldest_s = e, free_s
        if (
            oldest < 0
            or st.containers.alive[option] <= st.containers.provisioned[option]
            or oldest_s + cat.keep_alive_s[p] > now_s
        ):
            break
        _remove(st, option, oldest)
    if latest >= 0:
        return latest, num_busy
    return (-2 if num_busy < cat.quota[p] else -1), num_busy


@kernel
def serve_serverless(
    cat: CatalogArrays,
    wl: WorkloadArrays,
    st: SimState,
    obs: ObservationArrays,
    sc: Scratch,
    option: int,
    start_s: float,
    end_s: float,
    num_over: int,
) -> None:
    """Serves the requests of the overflow arrays that name one serverless option, in order of `over_order`.

    An idle environment is reused most recent first; without one a new one starts cold, up to the pool's limit; beyond
    it the request is refused.
    """
    num_pools = cat.market.shape[0]
    v, p = option // num_pools, option % num_pools
    heap_s, heap_env = sc.heap_s, sc.heap_credit
    keep_alive_s = cat.keep_alive_s[p]
    num_envs = st.containers.option.shape[0]
    size, low, high = 0, 0, 0
    heap_s[1] = np.inf
    if st.containers.alive[option] > 0:
        for e in range(st.containers.used[0]):
            if st.containers.option[e] == option:
                if st.containers.free_s[e] > start_s:
                    size = push(heap_s, heap_env, size, st.containers.free_s[e], e)
                else:
                    at = high
                    while at > 0 and sc.idle_s[at - 1] > st.containers.free_s[e]:
                        sc.idle_s[at], sc.idle_env[at] = sc.idle_s[at - 1], sc.idle_env[at - 1]
                        at -= 1
                    sc.idle_s[at], sc.idle_env[at] = st.containers.free_s[e], e
                    high += 1
    for order in range(num_over + 1):
        is_last = order == num_over
        index = 0 if is_last else sc.over_order[order]
        if not is_last and sc.over_option[index] != option:
            continue
        now_s = end_s if is_last else max(sc.over_arrival_s[index], start_s)
        while size > 0 and heap_s[1] <= now_s:
            sc.idle_s[high], sc.idle_env[high] = heap_s[1], heap_env[1]
            high += 1
            size = pop(heap_s, heap_env, size)
            if high == num_envs:  # keep room at the top of the stack
                for at in range(low, high):
                    sc.idle_s[at - low], sc.idle_env[at - low] = sc.idle_s[at], sc.idle_env[at]
                low, high = 0, high - low
        while (
            low < high
            and high - low + size > st.containers.provisioned[option]
            and sc.idle_s[low] + keep_alive_s <= now_s
        ):
            _remove(st, option, sc.idle_env[low])
            low += 1
        if is_last:
            break
        klass, identity, attempt = sc.over_class[index], sc.over_id[index], sc.over_attempt[index]
        env = -1
        if low < high:
            high -= 1
            env = sc.idle_env[high]
        elif size < cat.quota[p]:
            env = -2
        env, finish_s = place_call(cat, st, obs, sc, option, env, size, now_s, identity, attempt, end_s)
        if env < 0:
            refuse_call(wl, obs, klass, sc.over_arrival_s[index], start_s)
            continue
        size = push(heap_s, heap_env, size, finish_s, env)
        if finish_s <= end_s:
            arrival_s = sc.over_arrival_s[index]
            latency_s = finish_s - arrival_s + wl.network_s[klass, v, p]
            slo_s = wl.slo_s[klass]
            answer(sc.answers[option], obs.latency, obs.missed, klass, latency_s, slo_s, arrival_s + slo_s, start_s)
        else:
            st.containers.flight[env] = hold(st, sc.over_arrival_s[index], identity, klass, attempt)
