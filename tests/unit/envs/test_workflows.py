"""Workflows in the simulator: one request worked by hand, and what holds under any decisions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from controller import latency
from controller.arrays import EGRESS, F64, empty_actions
from controller.catalog import Catalog
from controller.compile import Setting, compile_scenario
from controller.config import parse_config
from controller.errors import ProvisorError, ScenarioError
from controller.kernels.split import split
from controller.scenario import Scenario
from envs.simulator import Simulator
from serving.rules import router_tables
from tests.flows import CHAIN, DIAMOND, FAN_IN, documents, flow_setting
from tests.simulated import (
    World,
    latencies,
    one_request,
    random_decision,
    random_replicas,
    random_setting,
    random_supply,
    supply_of,
)
from tests.strategies import random_observation
from tests.tiny import ACCURACY, FN, LARGE, MEDIUM, OD, SMALL, SPOT_A, SPOT_B

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test compiles the kernels

SEE, HEAR, FUSE = SMALL, MEDIUM, LARGE
"""Operators, each with one variant."""

NO_SPOT_A = np.ones((2, 100))
NO_SPOT_A[0, 1:] = 0.0  # zone a takes its machines back after the first tick

OPTIONS = ((SEE, OD), (HEAR, OD), (FUSE, OD))


def lone_request(
    edges: list[Any],
    service_s: dict[tuple[int, int], float],
    replicas: dict[tuple[int, int], int] | None = None,
    delay_s: float = 0.1,
    spot_share: F64 | None = None,
    **of_class: Any,
) -> World:
    """A world with one request and one replica of each option."""
    setting = flow_setting(edges, delay_s, **of_class)
    seconds = setting.catalog.service_s.copy()
    for at, value in service_s.items():
        seconds[at] = value
    setting = replace(setting, catalog=setting.catalog._replace(service_s=seconds, notice_s=np.zeros(4)))
    seed, _, rates = one_request(5.0)
    world = World(setting, supply_of(rates, spot_share))
    return world.start(dict.fromkeys(service_s, 1) if replicas is None else replicas, [seed]).route(*service_s)


def seconds(see: float, hear: float, fuse: float) -> dict[tuple[int, int], float]:
    return dict(zip(OPTIONS, (see, hear, fuse), strict=True))


def test_an_operator_with_two_inputs_begins_when_the_later_one_is_there() -> None:
    world = lone_request(FAN_IN, seconds(0.55, 2.1, 0.3))
    seen = world.tick()
    assert (latencies(world), seen.answered.sum()) == ([latency.bucket_of(2.4)], 1)
    assert seen.busy_s[0, [SEE, HEAR, FUSE], OD] == pytest.approx([0.55, 2.1, 0.3])
    assert seen.accuracy_sum.sum() == pytest.approx(np.prod(ACCURACY))
    assert world.simulator.state.held.taken[0] == 0


def test_operators_in_a_chain_follow_one_another() -> None:
    world = lone_request(CHAIN, seconds(0.55, 2.1, 0.3))
    world.tick()
    assert latencies(world) == [latency.bucket_of(2.95)]


def test_one_output_may_feed_two_operators() -> None:
    world = lone_request(DIAMOND, seconds(0.5, 1.0, 0.3))
    seen = world.tick()
    assert latencies(world) == [latency.bucket_of(1.8)]
    assert seen.busy_s[0, [SEE, HEAR, FUSE], OD] == pytest.approx([0.5, 1.0, 0.3])
    assert seen.accuracy_sum.sum() == pytest.approx(np.prod(ACCURACY))


@pytest.mark.parametrize(("hear_s", "answered_s"), [(0.55, 1.201), (2.0, 2.3)])
def test_messages_between_sites_take_their_time_and_cost_their_egress(hear_s: float, answered_s: float) -> None:
    # To the other site 0.1 s + 1e5 bytes at 1e6 bytes/s, back 0.2 s + 1e3 bytes: 0.2 + 0.5 + 0.201 s until fuse begins.
    options = {(SEE, SPOT_A): 0.5, (HEAR, OD): hear_s, (FUSE, OD): 0.3}
    world = lone_request(FAN_IN, options)
    seen = world.tick()
    assert latencies(world) == [latency.bucket_of(answered_s)]
    assert seen.spend_usd[0, EGRESS] == pytest.approx(1e5 / 1e9 * 100.0 + 1e3 / 1e9 * 90.0)


def test_a_message_that_waits_for_others_lives_on_across_ticks() -> None:
    world = lone_request(FAN_IN, seconds(0.5, 14.0, 0.4))
    seen = world.tick()
    held = world.simulator.state.held
    assert (held.taken[0], held.pairs[0], world.simulator.in_service().sum(), seen.waiting.sum()) == (2, 1, 1, 0)
    world.tick()
    assert latencies(world) == [latency.bucket_of(14.4)]
    assert (held.taken[0], held.loose[0]) == (0, -1)


def test_a_message_on_its_way_lives_on_across_ticks() -> None:
    options = {(SEE, SPOT_A): 0.5, (HEAR, OD): 0.5, (FUSE, OD): 0.5}
    world = lone_request(FAN_IN, options, delay_s=8.0)  # 8.1 s there, 16.001 s back
    seen = world.tick()
    assert seen.waiting.sum() + world.simulator.in_service().sum() == 1
    world.tick(3)
    assert latencies(world) == [latency.bucket_of(8.1 + 0.5 + 16.001 + 0.5)]
    assert world.simulator.state.held.taken[0] == 0


@pytest.mark.parametrize("drops", [True, False])
def test_a_deadline_before_the_last_operator_fails_the_request_once(drops: bool) -> None:
    world = lone_request(FAN_IN, seconds(0.4, 2.1, 0.3), slo_s=1.0, drop_at_deadline=drops)
    setting_fits = world.setting.workload.allowed[:, HEAR, OD].all()
    seen = world.tick()
    assert setting_fits
    assert seen.missed.sum() == 1
    assert (seen.failed.sum(), seen.answered.sum()) == ((1, 0) if drops else (0, 1))
    assert seen.busy_s[0, [SEE, HEAR, FUSE], OD] == pytest.approx([0.4, 2.1, 0.0 if drops else 0.3])
    assert world.simulator.state.held.taken[0] == 0


def test_a_deadline_in_a_queue_takes_back_what_else_is_there() -> None:
    world = lone_request(FAN_IN, seconds(0.4, 2.1, 0.3), replicas={(SEE, OD): 1}, slo_s=1.0)
    seen = world.act(launch={(HEAR, OD): 1, (FUSE, OD): 1}).tick()
    assert (seen.failed.sum(), seen.missed.sum(), seen.waiting.sum(), seen.queue.sum()) == (1, 1, 0, 0)
    assert world.simulator.state.held.taken[0] == 0


def test_the_last_operator_answers_late_what_it_had_begun() -> None:
    world = lone_request(CHAIN, seconds(0.4, 0.4, 14.0), slo_s=1.0)
    seen = world.tick()
    assert (seen.missed.sum(), seen.failed.sum(), world.simulator.in_service().sum()) == (1, 0, 1)
    seen = world.tick()
    assert (seen.missed.sum(), seen.answered.sum()) == (0, 1)


def test_loss_of_a_replica_takes_only_its_operator_again() -> None:
    options = {(SEE, OD): 0.5, (HEAR, SPOT_B): 0.5, (FUSE, SPOT_A): 24.0}
    world = lone_request(FAN_IN, options, spot_share=NO_SPOT_A)
    seen = world.tick()
    assert (seen.preempted[0, SPOT_A], seen.waiting.sum()) == (1, 1)
    world.route((SEE, OD), (HEAR, SPOT_B), (FUSE, OD)).act(launch={(FUSE, OD): 1})
    busy_s = sum(world.tick().busy_s[0, [SEE, HEAR], [OD, SPOT_B]] for _ in range(9))
    assert world.simulator.totals.answered.sum() == 1
    assert busy_s.sum() == 0.0


def test_loss_of_one_of_two_replicas_leaves_the_request_in_service() -> None:
    options = {(SEE, SPOT_A): 24.0, (HEAR, OD): 33.0, (FUSE, OD): 0.5}
    world = lone_request(FAN_IN, options, spot_share=NO_SPOT_A)
    seen = world.tick()
    assert (seen.preempted[0, SPOT_A], seen.waiting.sum(), world.simulator.in_service().sum()) == (1, 0, 1)


def test_a_request_that_loses_its_replica_after_its_deadline_fails_whole() -> None:
    options = {(SEE, SPOT_A): 24.0, (HEAR, OD): 33.0, (FUSE, OD): 0.5}
    world = lone_request(FAN_IN, options, spot_share=NO_SPOT_A, slo_s=4.0)
    seen = world.tick()
    assert (seen.failed.sum(), seen.missed.sum(), world.simulator.in_service().sum()) == (1, 1, 0)
    seen = world.tick()  # what else was under way is taken back
    assert (seen.busy_s[0, HEAR, OD], world.simulator.state.held.taken[0]) == (0.0, 0)


def test_a_full_queue_of_one_operator_refuses_the_request_whole() -> None:
    setting = flow_setting(FAN_IN, queue_limit=1)
    world = World(setting, supply_of(20.0)).start({(SEE, OD): 9, (FUSE, OD): 9}, [3]).route(*OPTIONS)
    seen = world.act(launch={(HEAR, OD): 1}).tick()
    assert seen.shed.sum() == seen.arrivals.sum() - 2  # one of each class waits for the operator that is to start
    assert seen.busy_s[0, SEE, OD] == pytest.approx(2 * setting.catalog.service_s[SEE, OD, 1])


def test_a_function_serves_an_operator_and_its_refusal_refuses_the_request() -> None:
    options = {(SEE, OD): 0.5, (HEAR, OD): 0.5, (FUSE, FN): 1.0}
    for quota, answered in ((50, 1), (0, 0)):
        world = lone_request(FAN_IN, options, {(SEE, OD): 1, (HEAR, OD): 1})
        world.setting.catalog.quota[FN] = quota
        seen = world.tick()
        assert (seen.answered.sum(), seen.shed.sum(), seen.missed.sum()) == (answered, 1 - answered, 1 - answered)
        assert world.simulator.state.held.taken[0] == 0


def test_accuracy_is_of_the_variants_that_took_part() -> None:
    catalog, scenario = documents([["see", "fuse", 1.0]])
    scenario["workload"]["workflows"][0]["operators"] = ["see", "fuse"]
    catalog["variants"][MEDIUM]["operator"] = "see"
    setting = compile_scenario(parse_config(scenario, Scenario, "flow"), parse_config(catalog, Catalog, "flow"))
    world = World(setting, supply_of(20.0)).start({(SMALL, OD): 9, (MEDIUM, OD): 9, (LARGE, OD): 9}, [3])
    world.shares[:, :, SMALL, OD], world.shares[:, :, MEDIUM, OD], world.shares[:, :, LARGE, OD] = 0.25, 0.75, 1.0
    world.tick(30)
    totals = world.simulator.totals
    count, expected = totals.answered.sum(), (0.25 * ACCURACY[SMALL] + 0.75 * ACCURACY[MEDIUM]) * ACCURACY[LARGE]
    spread = (ACCURACY[MEDIUM] - ACCURACY[SMALL]) * ACCURACY[LARGE] * np.sqrt(0.25 * 0.75 / count)
    assert abs(totals.accuracy_sum.sum() / count - expected) < 4 * spread
    np.testing.assert_allclose(totals.right, totals.accuracy_sum)


def random_flow(rng: np.random.Generator) -> Setting:
    """A random setting whose classes have workflows, of different forms."""
    setting, forms = random_setting(rng, routers=int(rng.integers(1, 4))), (FAN_IN, CHAIN, DIAMOND)
    flow = flow_setting(forms[rng.integers(0, 3)]).workload
    other = flow_setting(forms[rng.integers(0, 3)]).workload
    names = ("allowed", "num_operators", "operator", "feeds", "num_inputs", "rank_bits", "answer_accuracy")
    fields = {name: np.stack([getattr(flow, name)[0], getattr(other, name)[1]]) for name in names}
    fields["hop_s"] = rng.choice([0.0, 0.3, 12.0]) * rng.random(flow.hop_s.shape)
    fields["network_s"] = rng.choice([0.0, 0.2]) * rng.random(flow.network_s.shape)
    fields["hop_usd"] = rng.random(flow.hop_usd.shape) * 1e-6
    fields["overflow_option"] = np.full(2, -1)
    return replace(setting, workload=setting.workload._replace(**fields))


@pytest.mark.parametrize("block", range(3))
def test_requests_of_workflows_are_conserved_under_any_decisions(block: int) -> None:
    messages = 0
    for seed in range(7000 + 12 * block, 7012 + 12 * block):
        rng = np.random.default_rng(seed)
        setting = random_flow(rng)
        world = World(setting, random_supply(rng)).start(random_replicas(rng, setting), [seed])
        for tick in range(12):
            if tick % 3 == 0:
                random_decision(rng, world)
            world.tick()
            messages += int(world.simulator.state.held.pairs[0])
    assert messages > 0


def test_a_restored_snapshot_continues_in_the_same_way() -> None:
    for seed in range(6):
        found = []
        rng = np.random.default_rng(seed)
        setting, supply = random_flow(rng), random_supply(rng)
        world = World(setting, supply).start(random_replicas(rng, setting), [seed])
        random_decision(rng, world)
        world.tick(4)
        snapshot = world.simulator.snapshot()
        for _ in range(2):
            world.simulator.restore(snapshot)
            world.tick(4)
            found.append([array.copy() for array in (*world.simulator.totals, *world.simulator.observation)])
        for ours, theirs in zip(*found, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_the_split_of_each_operator_sums_to_one_and_follows_fixed_shares() -> None:
    setting = flow_setting(FAN_IN)
    for seed in range(20):
        world = World(setting, supply_of(1.0))
        observation = random_observation(setting, seed, 1)
        world.plan.replicas[:] = observation.ready
        if seed % 2:
            world.plan.fixed_shares[:] = True
            world.plan.shares[:] = np.random.default_rng(seed).random(world.plan.shares.shape)
        shares = np.zeros_like(world.shares)
        actions = empty_actions(1, setting.shape)
        split(setting.catalog, setting.workload, setting.control, observation, world.plan, actions, shares, 0, 1)
        np.testing.assert_allclose(shares.sum(axis=3), 1.0)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([["see", "hear", 1.0], ["hear", "see", 1.0]], r"edges: expected no cycle, got one among \['hear', 'see'\]"),
        ([["see", "hear", 1.0]], r"edges: expected one operator that passes nothing on, got \['hear', 'fuse'\]"),
        ([*FAN_IN, FAN_IN[0]], r"edges: expected distinct ones"),
        ([["see", "fuse", 0.5], ["hear", "fuse", 1.0]], r"edges\[see -> fuse\]: expected a selectivity of 1.*got 0.5"),
    ],
)
def test_a_graph_that_cannot_be_served_is_refused(edges: list[Any], message: str) -> None:
    with pytest.raises(ProvisorError, match=message):
        flow_setting(edges)


def test_what_cannot_deal_with_several_operators_says_so() -> None:
    setting = flow_setting(FAN_IN)
    with pytest.raises(ProvisorError, match=r"workload\.classes\[strict\]\.workflow: expected one operator in a live"):
        router_tables(setting)
    with pytest.raises(ScenarioError, match=r"classes\[strict\]\.floor: expected 'mean'"):
        flow_setting(FAN_IN, floor="each")
    with pytest.raises(ScenarioError, match=r"classes\[strict\]\.accuracy_floor: expected at most 0\.4362"):
        flow_setting(FAN_IN, accuracy_floor=0.5)
    fast = setting.scenario.simulator.model_copy(update={"kernel": "fast"})
    scenario = setting.scenario.model_copy(update={"simulator": fast})
    with pytest.raises(ScenarioError, match=r"simulator\.kernel: expected 'auto' or 'event' for a workflow"):
        Simulator(replace(setting, scenario=scenario), supply_of(1.0))
