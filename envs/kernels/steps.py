"""Steps of cascades: where a request goes for each, which answer is final, and what an answer is worth."""

from __future__ import annotations

import numpy as np

from controller import redundancy, routing
from controller.arrays import (
    CASCADE_STEPS,
    EGRESS,
    AnswerArrays,
    CatalogArrays,
    ObservationArrays,
    WorkloadArrays,
)
from controller.kernels.random import uniform
from controller.keyed_random import ANSWER
from controller.redundancy import STEP_ATTEMPTS
from envs.kernels.compiled import inlined, kernel, merged
from envs.kernels.lanes import lane_of
from envs.kernels.requests import answer
from envs.kernels.scratch import UNSEEN, Events, Scratch
from envs.kernels.state import PATHS, SimState

_pick_option = inlined(routing.pick_option)
_next_step = inlined(redundancy.next_step)
_answer_row = inlined(redundancy.answer_row)

STANDS = 1 << CASCADE_STEPS
"""Bit of a path whose answer was not sure enough, and no later step had an option."""


@kernel
def step_routes(wl: WorkloadArrays, st: SimState, sc: Scratch, klass: int, length: int) -> None:
    """Finds the options of each step of a cascade in the route of its class, where a variant's stand together."""
    num_pools = wl.allowed.shape[2]
    for step in range(CASCADE_STEPS):
        first, count, total, network_s = 0, 0, 0.0, 0.0
        for index in range(length):
            option = sc.route_option[klass, index]
            v, p = option // num_pools, option % num_pools
            if v != st.rules.cascade_variant[klass, step]:
                continue
            if count == 0:
                first = index
            count += 1
            share = st.rules.shares[klass, option]
            total += share
            sc.step_share[klass, index] = total
            network_s += share * wl.network_s[klass, v, p]
        sc.step_first[klass, step], sc.step_options[klass, step] = first, count
        sc.step_network_s[klass, step] = network_s / total if count > 0 else 0.0


@inlined
def step_of(st: SimState, klass: int, v: int) -> int:
    """Step of a variant in the cascade of a class; -1 where it is none."""
    found = -1
    for step in range(CASCADE_STEPS):
        if st.rules.cascade_variant[klass, step] == v:
            found = step
    return found


@kernel
def step_route(st: SimState, sc: Scratch, klass: int, step: int, identity: int) -> int:
    """Option that the shares draw for a request at a step, which has some."""
    first = sc.step_first[klass, step]
    coin = uniform(st.clock.keys[ANSWER], identity, 1 + step)
    picked = _pick_option(sc.step_share[klass, first : first + sc.step_options[klass, step]], coin)
    return sc.route_option[klass, first + picked]


@kernel
def first_option(st: SimState, sc: Scratch, klass: int, identity: int, option: int) -> int:
    """Option in which a request begins the cascade of its class; the one drawn where no step has any."""
    step = _next_step(-1, 0.0, np.inf, sc.step_options[klass])
    return step_route(st, sc, klass, step, identity) if step >= 0 else option


@kernel
def begin_steps(cat: CatalogArrays, st: SimState, an: AnswerArrays, sc: Scratch) -> None:
    """Begins the tick's counts and finds what answers of new cascades are worth."""
    for klass in range(sc.paths.shape[1]):
        for path in range(sc.paths.shape[0]):
            sc.paths[path, klass] = 0
        if st.rules.cascade_variant[klass, 0] >= 0 and st.rules.path_accuracy[klass, 0] < 0.0:
            for path in range(PATHS):
                st.rules.path_accuracy[klass, path] = _path_accuracy(cat, st, an, klass, path)


@kernel
def _path_accuracy(cat: CatalogArrays, st: SimState, an: AnswerArrays, klass: int, path: int) -> float:
    """Mean of `right` over the rows whose answers take a path; the catalog's accuracy where none does."""
    last = -1
    for step in range(CASCADE_STEPS):
        if path & (1 << step) and st.rules.cascade_variant[klass, step] >= 0:
            last = step
    if last < 0:
        return 0.0
    v = st.rules.cascade_variant[klass, last]
    has_more = last + 1 < CASCADE_STEPS and st.rules.cascade_variant[klass, last + 1] >= 0
    count, total = 0, 0.0
    for row in range(an.right.shape[0]):
        takes = True
        for step in range(last + has_more):
            if path & (1 << step):
                confidence = an.confidence[row, st.rules.cascade_variant[klass, step]]
                is_sure = confidence >= st.rules.cascade_threshold[klass, step]
                takes = takes and is_sure == (step == last and not path & STANDS)
        if takes:
            count += 1
            total += an.right[row, v]
    return total / count if count > 0 else cat.accuracy[v]


@merged
def hands_over(
    wl: WorkloadArrays,
    st: SimState,
    obs: ObservationArrays,
    an: AnswerArrays,
    ev: Events,
    copy: int,
    twin: int,
    step: int,
    v: int,
    p: int,
) -> bool:
    """Whether a copy that is answered leaves the request to its twin in another step, and does so.

    The later of the two steps always does: its answer is kept for the earlier one, which may be sure enough. The
    earlier one does where it is not.
    """
    klass = ev.klass[copy]
    other = step_of(st, klass, ev.option[twin] // wl.allowed.shape[2])
    if other < 0 or other == step:
        return False
    if step < other:
        row = _answer_row(uniform(st.clock.keys[ANSWER], ev.identity[copy], 0), an.right.shape[0])
        if an.confidence[row, v] >= st.rules.cascade_threshold[klass, step]:
            return False
    obs.spend_usd[EGRESS] += wl.egress_usd[klass, v, p]
    ev.steps[twin] |= ev.steps[copy] | (1 << step)
    ev.twin[copy] = ev.twin[twin] = -1
    ev.order[ev.place[copy]] = twin
    return True


@merged
def finish_step(
    wl: WorkloadArrays,
    st: SimState,
    obs: ObservationArrays,
    an: AnswerArrays,
    sc: Scratch,
    ev: Events,
    copy: int,
    step: int,
    v: int,
    p: int,
    now_s: float,
    start_s: float,
) -> bool:
    """A step of a cascade is answered: counts the answer where it is final, else says where the copy goes next.

    Every step pays its own egress. The answers of earlier steps crossed the network as well, unless both started at
    once: each counts as long as its variant's options take by share. Where a later step was answered already, its
    answer is what an unsure one leads to.

    Returns:
        Whether the copy goes on; it is UNSEEN until it does.
    """
    klass, identity = ev.klass[copy], ev.identity[copy]
    obs.spend_usd[EGRESS] += wl.egress_usd[klass, v, p]
    row = _answer_row(uniform(st.clock.keys[ANSWER], identity, 0), an.right.shape[0])
    has_more = step + 1 < CASCADE_STEPS and st.rules.cascade_variant[klass, step + 1] >= 0
    threshold = st.rules.cascade_threshold[klass, step] if has_more else -np.inf
    confidence = an.confidence[row, v]
    before, last = ev.steps[copy] & ((1 << step) - 1), step
    is_sure = confidence >= threshold
    if not is_sure:
        for later in range(step + 1, CASCADE_STEPS):
            if ev.steps[copy] & (1 << later):
                last = later
    following = _next_step(step, confidence, threshold, sc.step_options[klass]) if last == step else -1
    if following >= 0:
        ev.stage[copy] = UNSEEN
        ev.steps[copy] |= 1 << step
        ev.attempt[copy] = STEP_ATTEMPTS * following
        ev.option[copy] = step_route(st, sc, klass, following, identity)
        ev.lane[copy] = lane_of(st, sc, ev.option[copy], identity)
        ev.order[ev.place[copy]] = copy
        return True
    path = before | (1 << step) | (1 << last)
    if last == step and not is_sure:
        path |= STANDS
    latency_s = now_s - ev.arrival_s[copy] + wl.network_s[klass, v, p]
    for earlier in range(step):
        if before & (1 << earlier) and not st.rules.cascade_concurrent[klass]:
            latency_s += sc.step_network_s[klass, earlier]
    slo_s = wl.slo_s[klass]
    answer(sc.paths[path], obs.latency, obs.missed, klass, latency_s, slo_s, ev.arrival_s[copy] + slo_s, start_s)
    sc.surplus[klass] += an.right[row, st.rules.cascade_variant[klass, last]] - st.rules.path_accuracy[klass, path]
    return False


@kernel
def book_paths(wl: WorkloadArrays, st: SimState, obs: ObservationArrays, sc: Scratch) -> None:
    """Books the tick's answers of cascades and workflows, path by path: sums do not depend on the order in time."""
    for klass in range(sc.paths.shape[1]):
        accuracy = wl.answer_accuracy[klass] if wl.num_operators[klass] > 1 else st.rules.path_accuracy[klass]
        for path in range(accuracy.shape[0]):
            count = sc.paths[path, klass]
            if count > 0:
                obs.answered[klass] += count
                obs.accuracy_sum[klass] += count * accuracy[path]
