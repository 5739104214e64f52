"""Collages in the simulator: one request worked by hand, a peer for many, and what holds under any decisions."""

from __future__ import annotations

import heapq
import math
from typing import Any

import numpy as np
import pytest

from controller import latency
from controller.arrays import EGRESS, F64, PREEMPTION_WASTE, SHAPE_CELLS
from controller.compile import Setting
from controller.errors import ScenarioError
from controller.kernels.guard import guard
from controller.keyed_random import OPTION, stream_key, uniform
from controller.plan import Reason
from tests.simulated import (
    TICK_S,
    World,
    collages_of,
    latencies,
    one_request,
    random_answers,
    random_decision,
    random_replicas,
    random_setting,
    random_supply,
    setting_with,
    supply_of,
)
from tests.strategies import random_observation
from tests.tiny import ACCURACY, LARGE, MEDIUM, OD, SMALL, SPOT_A, SPOT_B

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test compiles the kernels

EDGES_S = (0.046875, 0.125, 0.25)  # begins of buckets
NO_SPOT_A = np.ones((2, 100))
NO_SPOT_A[0, 1:] = 0.0  # zone a takes its machines back after the first tick


def lone_request(
    own_s: float,
    pass_s: float,
    after_s: float,
    cells: int = 2,
    own_at: tuple[int, int] = (SMALL, OD),
    pool: int = OD,
    replicas: dict[tuple[int, int], int] | None = None,
    spot_share: F64 | None = None,
    **changes: Any,
) -> World:
    """A world with one request, which takes `own_s`, and a large variant whose passes answer collages."""
    base = setting_with()
    seconds = base.catalog.service_s.copy()
    seconds[own_at], seconds[LARGE, pool] = own_s, pass_s
    workload = {"slo_s": np.full(2, 500.0), **collages_of(base.workload, LARGE), **changes}
    catalog = {"service_s": seconds, "notice_s": np.zeros(4), "cells": np.array([1, 1, cells])}
    setting = setting_with(catalog=catalog, workload=workload)
    seed, _, rates = one_request(5.0)
    world = World(setting, supply_of(rates, spot_share))
    world.start({own_at: 1, (LARGE, pool): 1} if replicas is None else replicas, [seed])
    world.route(own_at, (LARGE, pool))
    world.plan.collage_variant[:], world.plan.collage_after_s[:] = LARGE, after_s
    return world


def test_a_request_that_answers_in_time_needs_no_collage() -> None:
    world = lone_request(own_s=0.55, pass_s=0.3, after_s=1.0)
    seen = world.tick()
    assert latencies(world) == [latency.bucket_of(0.55)]
    assert (seen.busy_s[0, LARGE, OD], seen.accuracy_sum.sum()) == (0.0, pytest.approx(ACCURACY[SMALL]))
    assert world.simulator.state.held.taken[0] == 0


def test_a_straggler_in_a_group_that_did_not_fill_up_is_answered_by_a_pass_of_its_own() -> None:
    egress_usd = np.zeros((2, 3, 4))
    egress_usd[:, SMALL, OD], egress_usd[:, LARGE, OD] = 3e-6, 5e-6
    world = lone_request(own_s=5.0, pass_s=0.3, after_s=1.0, egress_usd=egress_usd)
    seen = world.tick()
    assert (latencies(world), seen.answered.sum()) == ([latency.bucket_of(1.3)], 1)
    assert seen.busy_s[0, [SMALL, LARGE], OD] == pytest.approx([1.3, 0.3])  # what ran is billed, the rest taken back
    assert seen.accuracy_sum.sum() == pytest.approx(ACCURACY[LARGE])
    assert seen.spend_usd[0, EGRESS] == pytest.approx(5e-6)  # only the answer that is given crosses the network


def test_a_full_group_is_sent_at_once_and_its_answer_kept_for_stragglers() -> None:
    world = lone_request(own_s=5.0, pass_s=0.3, after_s=1.0, cells=1)
    seen = world.tick()
    assert latencies(world) == [latency.bucket_of(1.0)]
    assert seen.busy_s[0, [SMALL, LARGE], OD] == pytest.approx([1.0, 0.3])


def test_an_own_answer_before_the_straggler_age_stands_although_the_collage_was_quicker() -> None:
    world = lone_request(own_s=0.55, pass_s=0.3, after_s=1.0, cells=1)
    seen = world.tick()
    assert latencies(world) == [latency.bucket_of(0.55)]
    assert seen.accuracy_sum.sum() == pytest.approx(ACCURACY[SMALL])
    assert seen.busy_s[0, [SMALL, LARGE], OD] == pytest.approx([0.55, 0.3])


def test_a_collage_that_straggles_itself_is_withdrawn_when_its_last_request_is_answered() -> None:
    world = lone_request(own_s=2.0, pass_s=3.0, after_s=1.0, cells=1)
    seen = world.tick()
    assert latencies(world) == [latency.bucket_of(2.0)]
    assert seen.busy_s[0, [SMALL, LARGE], OD] == pytest.approx([2.0, 2.0])


def two_workers(after_s: float, pass_s: float, other_s: float, own_s: float = 5.0, **changes: Any) -> World:
    """The same with passes at two options, of different speed; which one is drawn first does not matter."""
    world = lone_request(own_s, pass_s, after_s, cells=1, **changes)
    world.setting.catalog.service_s[LARGE, SPOT_A] = other_s
    world.start({(SMALL, OD): 1, (LARGE, OD): 1, (LARGE, SPOT_A): 1}, [one_request(5.0)[0]])
    world.shares[:, :, LARGE, [OD, SPOT_A]] = 0.25
    world.plan.collage_passes[:] = 2
    return world


@pytest.mark.parametrize(("pass_s", "other_s"), [(3.0, 0.6), (0.6, 3.0)])
def test_of_two_passes_the_first_counts_and_the_other_is_withdrawn(pass_s: float, other_s: float) -> None:
    world = two_workers(0.3, pass_s, other_s)
    seen = world.tick()
    assert (latencies(world), seen.answered.sum()) == ([latency.bucket_of(0.6)], 1)
    assert seen.busy_s[0, LARGE, [OD, SPOT_A]] == pytest.approx([0.6, 0.6])
    held = world.simulator.state.held
    assert (held.taken[0], held.pairs[0], seen.accuracy_sum.sum()) == (0, 0, pytest.approx(ACCURACY[LARGE]))
    assert held.redundant.sum(axis=(0, 1)).tolist() == [0, 2, 1]


def test_both_passes_are_withdrawn_with_the_last_request_of_their_group() -> None:
    world = two_workers(1.0, 3.0, 4.0, own_s=2.0)
    seen = world.tick()
    assert latencies(world) == [latency.bucket_of(2.0)]
    assert seen.busy_s[0, LARGE, [OD, SPOT_A]] == pytest.approx([2.0, 2.0])
    assert world.simulator.state.held.taken[0] == 0


def test_two_passes_live_on_across_ticks_and_one_goes_on_where_the_other_is_lost() -> None:
    world = two_workers(1.0, 24.0, 34.0, own_s=60.0)
    world.tick()
    assert (world.simulator.state.held.pairs[0], world.simulator.in_service().sum()) == (2, 1)
    world.tick(2)
    assert latencies(world) == [latency.bucket_of(24.0)]
    assert world.simulator.state.held.taken[0] == 0
    lost = lone_request(60.0, 24.0, 1.0, cells=1, spot_share=NO_SPOT_A)
    lost.setting.catalog.service_s[LARGE, SPOT_A] = 12.0
    lost.start({(SMALL, OD): 1, (LARGE, OD): 1, (LARGE, SPOT_A): 1}, [one_request(5.0)[0]])
    lost.shares[:, :, LARGE, [OD, SPOT_A]] = 0.25
    lost.plan.collage_passes[:] = 2
    seen = lost.tick()
    assert (seen.preempted[0, SPOT_A], lost.simulator.state.held.pairs[0]) == (1, 1)
    lost.tick(2)
    assert latencies(lost) == [latency.bucket_of(24.0)]


@pytest.mark.parametrize("cells", [1, 2])
def test_a_request_whose_collage_straggles_too_is_sent_anew_and_its_first_copy_withdrawn(cells: int) -> None:
    world = lone_request(own_s=8.0, pass_s=9.0, after_s=0.5, cells=cells)
    world.setting.catalog.service_s[SMALL, SPOT_A] = 0.4
    seed = first_at(world, (SMALL, OD), (SMALL, SPOT_A))
    world.plan.hedge_after_s[:], world.plan.hedge_replaces[:] = 1.0, True
    world.start({(SMALL, OD): 1, (SMALL, SPOT_A): 1, (LARGE, OD): 1}, [seed])
    seen = world.tick()
    assert latencies(world) == [latency.bucket_of(1.4)]
    assert seen.busy_s[0, SMALL, [OD, SPOT_A]] == pytest.approx([1.0, 0.4])
    assert seen.busy_s[0, LARGE, OD] == pytest.approx(1.4 if cells == 1 else 0.9)
    assert (seen.accuracy_sum.sum(), world.simulator.state.held.taken[0]) == (pytest.approx(ACCURACY[SMALL]), 0)
    assert world.simulator.state.held.redundant.sum(axis=(0, 1)).tolist() == [1, 1, 0]


def first_at(world: World, first: tuple[int, int], other: tuple[int, int]) -> int:
    """Seed of one request that is sent to `first` at arrival; both options share the traffic, and collages the rest."""
    world.shares[:] = 0.0
    world.shares[:, :, [first[0], other[0]], [first[1], other[1]]] = 0.25
    world.shares[:, :, LARGE, OD] = 0.5
    for latest_s in (5.0, 4.0, 3.0, 2.0, 1.0):
        seed = one_request(latest_s)[0]
        if uniform(stream_key(seed, OPTION), 0, 0) < 0.5:
            return seed
    raise AssertionError


def test_an_open_group_lives_on_across_ticks() -> None:
    world = lone_request(own_s=40.0, pass_s=3.0, after_s=14.0)
    world.tick()
    held = world.simulator.state.held
    assert (held.taken[0], held.pairs[0], world.simulator.in_service().sum()) == (2, 1, 1)
    world.tick(2)
    assert latencies(world) == [latency.bucket_of(17.0)]
    assert (held.taken[0], held.pairs[0], held.loose[0]) == (0, 0, -1)


def test_a_finished_collage_lives_on_across_ticks() -> None:
    world = lone_request(own_s=40.0, pass_s=1.0, after_s=14.0, cells=1)
    seen = world.tick()
    assert seen.busy_s[0, LARGE, OD] == pytest.approx(1.0)
    seen = world.tick()
    assert (seen.busy_s[0, LARGE, OD], latencies(world)) == (0.0, [latency.bucket_of(14.0)])


def test_a_collage_in_service_lives_on_across_ticks() -> None:
    world = lone_request(own_s=40.0, pass_s=14.0, after_s=1.0, cells=1)
    world.tick()
    assert world.simulator.in_service().sum() == 1
    world.tick()
    assert latencies(world) == [latency.bucket_of(14.0)]


def test_a_request_whose_replica_is_lost_waits_again_and_is_answered_by_its_collage() -> None:
    world = lone_request(own_s=40.0, pass_s=3.0, after_s=14.0, own_at=(SMALL, SPOT_A), spot_share=NO_SPOT_A)
    seen = world.tick()
    assert (seen.preempted[0, SPOT_A], seen.waiting.sum()) == (1, 1)
    world.tick(2)
    assert latencies(world) == [latency.bucket_of(17.0)]
    assert world.simulator.state.held.taken[0] == 0


def test_a_collage_whose_replica_is_lost_is_not_sent_again() -> None:
    world = lone_request(own_s=40.0, pass_s=24.0, after_s=1.0, cells=1, pool=SPOT_A, spot_share=NO_SPOT_A)
    seen = world.tick()
    assert seen.spend_usd[0, PREEMPTION_WASTE] > 0
    held = world.simulator.state.held
    assert (held.taken[0], held.pairs[0], seen.waiting.sum()) == (1, 0, 0)
    world.tick(4)
    assert latencies(world) == [latency.bucket_of(40.0)]


def test_the_last_request_of_a_group_whose_collage_was_lost_may_be_sent_anew() -> None:
    world = lone_request(own_s=40.0, pass_s=24.0, after_s=1.0, cells=1, pool=SPOT_A, spot_share=NO_SPOT_A)
    world.setting.catalog.service_s[SMALL, SPOT_B] = 0.4
    seed = first_at(world, (SMALL, OD), (SMALL, SPOT_B))
    world.shares[:, :, LARGE, [OD, SPOT_A]] = 0.0, 0.5
    world.plan.hedge_after_s[:], world.plan.hedge_replaces[:] = 12.0, True
    world.start({(SMALL, OD): 1, (SMALL, SPOT_B): 1, (LARGE, SPOT_A): 1}, [seed])
    world.tick(2)
    assert latencies(world) == [latency.bucket_of(12.4)]
    assert world.simulator.state.held.taken[0] == 0


@pytest.mark.parametrize(("pass_s", "answered"), [(0.3, 1), (0.8, 0)])
def test_a_waiting_request_is_answered_by_its_collage_until_its_deadline(pass_s: float, answered: int) -> None:
    world = lone_request(1.0, pass_s, after_s=0.4, replicas={(LARGE, OD): 1}, slo_s=np.full(2, 1.0))
    seen = world.act(launch={(SMALL, OD): 1}).tick()
    assert (seen.answered.sum(), seen.failed.sum(), seen.missed.sum()) == (answered, 1 - answered, 1 - answered)
    assert seen.busy_s[0, LARGE, OD] == pytest.approx(0.3 if answered else 0.6)
    assert (seen.waiting.sum(), seen.queue.sum(), world.simulator.state.held.taken[0]) == (0, 0, 0)


def test_collages_that_end_let_requests_go_on_alone() -> None:
    world = lone_request(own_s=24.0, pass_s=3.0, after_s=14.0)
    world.tick()
    world.plan.collage_variant[:], world.plan.collage_after_s[:] = -1, np.inf
    world.tick(2)
    assert latencies(world) == [latency.bucket_of(24.0)]
    assert world.simulator.state.held.taken[0] == 0


def test_without_an_option_for_the_collage_nothing_is_grouped() -> None:
    world = lone_request(own_s=4.9, pass_s=0.3, after_s=1.0).route((SMALL, OD))
    world.tick()
    assert latencies(world) == [latency.bucket_of(4.9)]


def test_the_fast_kernel_refuses_a_plan_with_collages() -> None:
    world = World(setting_with(kernel="fast"), supply_of(1.0)).start({(SMALL, OD): 1})
    world.plan.collage_variant[:] = LARGE
    with pytest.raises(ScenarioError, match=r"simulator\.kernel: expected 'auto' or 'event' .* collages, got 'fast'"):
        world.tick()


def peer_latencies(arrivals_s: F64, own_s: F64, pass_s: F64, cells: int, after_s: float) -> tuple[F64, float, int]:
    """Latencies, credit-seconds of passes and answers by collage where nobody waits for a replica, by another program.

    The rules once more, request by request, on plain lists: a group is a list of requests not yet answered.
    """
    events = [(at, 0, i) for i, at in enumerate(arrivals_s)]
    heapq.heapify(events)
    answered_s = np.full(len(arrivals_s), np.inf)
    group_of: dict[int, int] = {}
    members: list[set[int]] = []
    sent_s: list[float] = []
    done_s: list[float] = []
    ended_s: list[float] = []
    opened, by_collage = -1, 0
    while events:
        now_s, kind, what = heapq.heappop(events)
        if kind == 0:
            heapq.heappush(events, (now_s + own_s[what], 1, what))
            if opened < 0:
                opened = len(members)
                members.append(set())
                sent_s.append(math.inf)
                done_s.append(math.inf)
                ended_s.append(math.inf)
            group_of[what] = opened
            members[opened].add(what)
            heapq.heappush(events, (now_s + after_s, 2, what))
            closes = opened if len(members[opened]) == cells else -1
        elif kind == 1:
            if answered_s[what] < math.inf:
                continue
            answered_s[what] = now_s
            closes = -1
        else:
            closes = -1
            group = group_of[what] if kind == 2 else what
            if kind == 2 and answered_s[what] == math.inf and sent_s[group] == math.inf:
                closes = group
            if kind == 3:
                done_s[group] = now_s
            if done_s[group] <= now_s:
                for member in sorted(members[group]):
                    if arrivals_s[member] + after_s <= now_s and answered_s[member] == math.inf:
                        answered_s[member] = now_s
                        by_collage += 1
        for group in {group_of[what] if kind < 3 else what}:
            members[group] = {m for m in members[group] if answered_s[m] == math.inf}
            if not members[group] and ended_s[group] == math.inf and closes < 0:
                ended_s[group] = now_s
                if group == opened:
                    opened = -1
        if closes >= 0 and members[closes]:
            sent_s[closes] = now_s
            heapq.heappush(events, (now_s + pass_s[closes], 3, closes))
            if closes == opened:
                opened = -1
    spent_s = sum(
        min(done, ended) - sent for sent, done, ended in zip(sent_s, done_s, ended_s, strict=True) if sent < math.inf
    )
    return answered_s - arrivals_s, spent_s, by_collage


@pytest.mark.parametrize(("cells", "after_s", "rate_rps"), [(4, 0.2, 20.0), (9, 0.12, 30.0), (3, 0.3, 4.0)])
def test_many_requests_fare_as_in_a_program_of_its_own(cells: int, after_s: float, rate_rps: float) -> None:
    """Means and shares within four standard errors; 5 % of the services take seven times as long as the others."""
    cut = 0.95
    grid = np.linspace(0.0, 1.0, SHAPE_CELLS + 1)
    table = np.where(grid <= cut, 0.6 + 0.4 * grid, 7.0)
    table /= ((table[1:] + table[:-1]) / 2).mean()
    setting = collage_setting(cells, table)
    num_envs, ticks = 16, 40
    world = World(setting, supply_of(rate_rps), num_envs)
    world.start({(SMALL, OD): 24, (LARGE, OD): 24}).route((SMALL, OD), (LARGE, OD))
    world.plan.collage_variant[:], world.plan.collage_after_s[:] = LARGE, after_s
    busy_s = sum(world.tick().busy_s for _ in range(ticks))
    totals = world.simulator.totals
    count = totals.answered.sum(axis=1)
    share = (totals.accuracy_sum.sum(axis=1) / count - ACCURACY[SMALL]) / (ACCURACY[LARGE] - ACCURACY[SMALL])
    ours = {"answered by collage": share, "pass seconds": busy_s[:, LARGE, OD] / count}
    ours |= {f"later than {edge:g} s": late_share(totals.latency.sum(axis=1), edge) for edge in EDGES_S}
    theirs: dict[str, list[float]] = {name: [] for name in ours}
    mean_s = float(setting.catalog.service_s[SMALL, OD, 1])
    rng = np.random.default_rng(7)
    for _ in range(num_envs):
        num = rng.poisson(rate_rps * ticks * TICK_S)
        arrivals_s = np.sort(rng.random(num) * ticks * TICK_S)
        own_s, pass_s = (mean_s * np.interp(rng.random(num), grid, table) for _ in range(2))
        latency_s, spent_s, by_collage = peer_latencies(arrivals_s, own_s, pass_s, cells, after_s)
        theirs["answered by collage"].append(by_collage / num)
        theirs["pass seconds"].append(spent_s / num)
        for edge in EDGES_S:
            theirs[f"later than {edge:g} s"].append(float((latency_s > edge).mean()))
    for name, values in ours.items():
        others = np.array(theirs[name])
        error = math.sqrt((values.var(ddof=1) + others.var(ddof=1)) / num_envs)
        assert abs(values.mean() - others.mean()) < 4 * error + 1e-4, name


def late_share(histogram: Any, edge_s: float) -> F64:
    """Share of the answers in buckets above that of `edge_s`, where the bucket ends at it."""
    first = latency.bucket_of(edge_s)
    return np.asarray(histogram[:, first:].sum(axis=1) / histogram.sum(axis=1))


def collage_setting(cells: int, table: F64) -> Setting:
    """Small requests of one class and large collages, of equal mean service and the given shape."""
    base = setting_with()
    seconds = base.catalog.service_s.copy()
    seconds[LARGE] = seconds[SMALL]
    catalog = {
        "service_s": seconds,
        "cells": np.array([1, 1, cells]),
        "shapes": np.stack([base.catalog.shapes[0], table]),
        "service_shape": np.ones_like(base.catalog.service_shape),
    }
    workload = collages_of(base.workload, LARGE) | {"slo_s": np.full(2, 100.0), "share": np.array([1.0, 0.0])}
    return setting_with(catalog=catalog, workload=workload)


@pytest.mark.parametrize("block", range(3))
def test_requests_in_groups_are_conserved_under_any_decisions(block: int) -> None:
    groups = 0
    for seed in range(5000 + 12 * block, 5012 + 12 * block):
        rng = np.random.default_rng(seed)
        setting = random_setting(rng, answers=random_answers(rng), collages=True, routers=1 + seed % 3)
        world = World(setting, random_supply(rng)).start(random_replicas(rng, setting), [seed])
        for tick in range(12):
            if tick % 3 == 0:
                random_decision(rng, world, hedges=seed % 2 == 0, cascades=seed % 3 == 0, collages=True)
            world.tick()
            groups += int(world.simulator.state.held.pairs[0])
    assert groups > 0


def test_the_guard_leaves_a_valid_collage_and_clears_what_cannot_be_followed() -> None:
    base = setting_with()
    setting = setting_with(workload=collages_of(base.workload, LARGE), catalog={"cells": np.array([1, 1, 4])})
    cases = [
        ({}, True),
        ({"collage_variant": MEDIUM}, False),
        ({"collage_variant": 7}, False),
        ({"collage_after_s": 50.0}, False),
        ({"collage_after_s": np.nan}, False),
        ({"collage_after_s": -1.0}, False),
        ({"hedge_after_s": 0.2}, False),
        ({"hedge_after_s": 0.2, "hedge_replaces": True}, True),
        ({"collage_passes": 2}, True),
        ({"collage_passes": 3}, False),
        ({"collage_passes": 0}, False),
        ({"cascade_variant": np.array([SMALL, MEDIUM, -1])}, False),
        ({"collage_variant": -1}, False),
    ]
    for changes, is_valid in cases:
        world = World(setting, supply_of(1.0))
        plan = world.plan
        plan.collage_variant[:], plan.collage_after_s[:] = LARGE, 0.3
        for name, value in changes.items():
            getattr(plan, name)[:] = value
        guard(setting.catalog, setting.workload, setting.limits, random_observation(setting, 1, 1), plan, 0, 1)
        assert (plan.collage_variant[0] == (LARGE if is_valid else -1)).all(), changes
        assert bool(plan.reasons[0] & Reason.INVALID_PLAN) != is_valid, changes
