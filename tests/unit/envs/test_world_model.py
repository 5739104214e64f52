"""The simulator starts from an observation, and predicts from there what plans cost and promise."""

from __future__ import annotations

import numpy as np
import pytest

from controller.arrays import HISTORY_TICKS, ObservationArrays, PlanArrays, empty_observation, empty_plan
from controller.errors import ScenarioError, UsageError
from controller.ports import WorldModel
from controller.rule_arrays import NUM_KNOBS
from envs.kernels.state import DOOMED, DRAINING, SERVING, STARTING
from envs.serving_env import ServingEnv
from envs.simulator import Simulator
from envs.world_model import SimulatedWorldModel
from tests.simulated import TICK_S, World, setting_with, supply_of
from tests.tiny import FN, LARGE, MEDIUM, OD, RELAXED, SMALL, SPOT_A, SPOT_B, STRICT

RPS = 40.0
"""Two replicas of small on demand answer as much; one answers half."""

SETTING = setting_with(workload={"overflow_option": np.array([-1, -1])})


def observed(rps: float = RPS, ticks: int = 60, **counts: dict[tuple[int, ...], int]) -> ObservationArrays:
    """After `ticks` ticks at a constant rate; `counts` set fields, (indices) -> value."""
    seen = empty_observation(1, SETTING.shape)
    seen.tick[:] = ticks
    seen.time_s[:] = ticks * TICK_S
    seen.history[:] = rps * TICK_S * SETTING.workload.share[None, :, None]
    for name, values in counts.items():
        for at, value in values.items():
            getattr(seen, name)[(0, *at)] = value
    return seen


def plans_of(*replicas: dict[tuple[int, int], int]) -> PlanArrays:
    plans = empty_plan(len(replicas), SETTING.shape)
    for plan, counts in zip(plans.replicas, replicas, strict=True):
        for at, count in counts.items():
            plan[at] = count
    plans.need_rps[:] = RPS
    return plans


def model(**changes: object) -> SimulatedWorldModel:
    return SimulatedWorldModel(SETTING, **{"num_replications": 8, **changes})


def started(seen: ObservationArrays, num_envs: int = 2) -> Simulator:
    simulator = Simulator(SETTING, supply_of(RPS), num_envs)
    simulator.start_from(seen, np.arange(num_envs))
    return simulator


def full_of_states() -> ObservationArrays:
    return observed(
        ready={(SMALL, OD): 3, (MEDIUM, SPOT_A): 2, (LARGE, FN): 2},
        starting={(SMALL, SPOT_B): 2},
        draining={(LARGE, OD): 1},
        doomed={(MEDIUM, SPOT_A): 1},
        queue={(SMALL, OD): 5, (MEDIUM, SPOT_A): 2},
        waiting={(STRICT,): 3, (RELAXED,): 4},
        warm={(FN,): 3},
    )


def test_started_fleet_and_queues_are_those_observed() -> None:
    seen = full_of_states()
    simulator = started(seen)
    fleet, num_pools = simulator.state.fleet, SETTING.shape[1]
    for env in range(2):
        for state, counts in (
            (SERVING, np.where(SETTING.catalog.market == 2, 0, seen.ready[0])),
            (STARTING, seen.starting[0]), (DRAINING, seen.draining[0]), (DOOMED, seen.doomed[0]),
        ):  # fmt: skip
            found = np.bincount(fleet.option[env][fleet.state[env] == state], minlength=counts.size)
            np.testing.assert_array_equal(found.reshape(counts.shape), counts)
        np.testing.assert_array_equal(simulator.state.queue.length[env].reshape(seen.queue[0].shape), seen.queue[0])
        held = simulator.state.held
        assert np.bincount(held.klass[env][: held.taken[env]]).tolist() == [3, 4]
        assert simulator.state.containers.provisioned[env][LARGE * num_pools + FN] == 2
        assert simulator.state.containers.used[env] == 2  # the third has no call to tell its variant by
    for told, given in zip(simulator.observation, seen, strict=True):
        np.testing.assert_array_equal(told, np.repeat(given, 2, axis=0))


def test_no_request_is_lost_after_a_start() -> None:
    simulator = started(full_of_states())
    world = World(SETTING, supply_of(RPS), 2)
    world.simulator = simulator
    world.route((SMALL, OD))
    for _ in range(12):
        simulator.apply(world.actions, world.plan, world.shares)
        seen = simulator.advance()
        totals = simulator.totals
        accounted = totals.answered + totals.failed + totals.shed + seen.waiting + simulator.in_service()
        np.testing.assert_array_equal(totals.arrivals + np.array([3, 4]), accounted)


def test_time_history_and_day_go_on() -> None:
    seen = observed(ticks=8639, ready={(SMALL, OD): 3}, day_arrivals={(STRICT,): 1000})
    simulator = started(seen)
    plan, actions = empty_plan(2, SETTING.shape), World(SETTING, supply_of(RPS), 2).actions
    shares = World(SETTING, supply_of(RPS), 2).route((SMALL, OD)).shares
    sums = []
    for _ in range(2):
        simulator.apply(actions, plan, shares)
        after = simulator.advance()
        assert after.history[0, 0, (after.tick[0] - 1) % HISTORY_TICKS] == after.arrivals[0, 0]
        sums.append(int(after.day_arrivals[0, STRICT]))
    assert after.time_s[0] == 8641 * TICK_S
    assert sums[0] > 1000 > sums[1]  # tick 8640 ends the day


def test_launches_become_ready_in_turn_and_doomed_machines_go() -> None:
    seen = observed(ready={(SMALL, OD): 2}, starting={(SMALL, OD): 7}, doomed={(SMALL, SPOT_A): 1})
    simulator = started(seen, 1)
    world = World(SETTING, supply_of(RPS), 1).route((SMALL, OD))
    ready, doomed = [], []
    for _ in range(8):
        simulator.apply(world.actions, world.plan, world.shares)
        after = simulator.advance()
        ready.append(int(after.ready[0, SMALL, OD]))
        doomed.append(int(after.doomed[0].sum()))
    # Launch 60 s and load 10 s, spread over seven launches: one is ready at the end of each tick.
    assert ready == [3, 4, 5, 6, 7, 8, 9, 9]
    # Half of the notice of 30 s is left: it is taken back at the second edge.
    assert doomed == [1, 0, 0, 0, 0, 0, 0, 0]


def test_more_than_fits_is_refused_by_name() -> None:
    with pytest.raises(ScenarioError, match="max_instances: expected at least 60 for the observed fleet, got 48"):
        started(observed(ready={(SMALL, OD): 60}))
    with pytest.raises(ScenarioError, match="max_requests_held: expected at least 5000 for the queue seen, got 1024"):
        started(observed(queue={(SMALL, OD): 5000}))


def test_start_from_its_own_observation_is_allowed() -> None:
    world = World(SETTING, supply_of(RPS)).start({(SMALL, OD): 3}).route((SMALL, OD))
    seen = world.tick(5)
    ready = seen.ready.copy()
    assert np.array_equal(world.simulator.start_from(seen, np.array([1])).ready, ready)
    assert world.simulator.observation.tick[0] == 5


def test_it_is_a_world_model() -> None:
    assert isinstance(model(), WorldModel)


def test_too_few_replicas_cost_less_and_miss_more() -> None:
    seen = observed(ready={(SMALL, OD): 1})
    few, ample = {(SMALL, OD): 1}, {(SMALL, OD): 4}
    outcome = model().rollout(seen, plans_of(few, ample), 300.0)
    assert outcome.cost_usd[0] < outcome.cost_usd[1]
    # One replica answers 20 of 40 requests a second; of the others the relaxed wait up to 10 s before they are missed.
    assert 0.4 < outcome.attainment[0] < 0.65
    assert outcome.attainment[1] > outcome.attainment[0] + 10 * outcome.attainment_error.max()
    # Four machines for 300 s at $0.36 an hour, and one for as long; launches are billed from their start.
    np.testing.assert_allclose(outcome.cost_usd, [0.03, 0.12], rtol=0.02)
    np.testing.assert_allclose(outcome.accuracy, SETTING.catalog.accuracy[SMALL])


def test_a_backlog_is_missed_more_than_none() -> None:
    busy = {"queue": {(SMALL, OD): 300}, "waiting": {(STRICT,): 150, (RELAXED,): 150}}
    plans = plans_of({(SMALL, OD): 3})
    empty, backlog = (model().rollout(observed(ready={(SMALL, OD): 3}, **extra), plans, 60.0) for extra in ({}, busy))
    assert backlog.attainment[0] < empty.attainment[0] - 0.02


def test_prediction_is_close_to_what_then_happens() -> None:
    plans = plans_of({(SMALL, OD): 3})
    world = World(SETTING, supply_of(RPS), 16).start({(SMALL, OD): 3}).route((SMALL, OD))
    seen = world.tick(30)
    one = ObservationArrays._make(array[:1].copy() for array in seen)
    before = world.simulator.snapshot().totals
    world.tick(30)
    totals = world.simulator.totals
    cost = (totals.spend_usd - before.spend_usd).sum(axis=1).mean()
    arrived = (totals.arrivals - before.arrivals).sum(axis=1)
    attained = 1.0 - (totals.missed - before.missed).sum(axis=1) / arrived
    outcome = model(forecast=lambda *_: np.array([RPS]), num_replications=16).rollout(one, plans, 300.0)
    assert outcome.cost_usd[0] == pytest.approx(cost, rel=1e-6)  # rent, all three machines, all the time
    error = np.hypot(attained.std(ddof=1) / 4, outcome.attainment_error[0])
    assert abs(outcome.attainment[0] - attained.mean()) < 4 * error + 1e-4


def test_equal_seeds_predict_equally_whatever_the_threads() -> None:
    seen, plans = observed(ready={(SMALL, OD): 2}), plans_of({(SMALL, OD): 2}, {(MEDIUM, OD): 4})
    first, again, threaded, other = (
        model(**changes).rollout(seen, plans, 60.0) for changes in ({}, {}, {"threads": 2}, {"seed": 1})
    )
    for one, two, three in zip(first, again, threaded, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)
    assert first.attainment[0] != other.attainment[0]


def test_plans_meet_the_same_requests() -> None:
    plan = {(SMALL, OD): 2}
    outcome = model().rollout(observed(ready={(SMALL, OD): 2}), plans_of(plan, plan, {(SMALL, OD): 5}), 60.0)
    for values in outcome:
        assert values[0] == values[1]
    alone = model().rollout(observed(ready={(SMALL, OD): 2}), plans_of(plan), 60.0)
    assert alone.attainment.shape == (1,)
    assert alone.attainment[0] == outcome.attainment[0]


def test_rollout_leaves_observation_and_plans_alone() -> None:
    seen, plans = full_of_states(), plans_of({(SMALL, OD): 500})  # more than the guard allows
    before = [array.copy() for array in (*seen, *plans)]
    model().rollout(seen, plans, 30.0)
    for array, copy in zip((*seen, *plans), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_closed_spot_pools_give_nothing_and_take_nothing() -> None:
    seen = observed(ready={(SMALL, SPOT_A): 3})
    wanted = plans_of({(SMALL, SPOT_A): 3}, {(SMALL, SPOT_A): 10})
    is_open = model().rollout(seen, wanted, 200.0)
    seen.available[0, SPOT_A] = False
    closed = model().rollout(seen, wanted, 200.0)
    assert is_open.cost_usd[1] > 2 * is_open.cost_usd[0]
    assert closed.cost_usd[0] == closed.cost_usd[1] == pytest.approx(is_open.cost_usd[0])


def test_a_forecast_replaces_the_rate_now() -> None:
    seen, plans = observed(ready={(SMALL, OD): 3}), plans_of({(SMALL, OD): 3})
    steady, doubled, rising = (
        model(forecast=forecast).rollout(seen, plans, 60.0).attainment[0]
        for forecast in (None, lambda *_: np.array([2 * RPS]), lambda *_: np.array([RPS, RPS, RPS, 2 * RPS]))
    )
    assert steady > rising > doubled


@pytest.mark.parametrize("horizon_s", [5.0, 0.0, -1.0, float("nan"), float("inf")])
def test_a_horizon_below_a_tick_is_refused_by_name(horizon_s: float) -> None:
    with pytest.raises(UsageError, match=rf"^horizon_s: expected at least one tick \(10 s\), got {horizon_s}$"):
        model().rollout(observed(), plans_of({}), horizon_s)


def test_wrong_arguments_are_refused_by_name() -> None:
    two = ObservationArrays._make(np.repeat(array, 2, axis=0) for array in observed())
    with pytest.raises(UsageError, match="observation: expected one env, got '2 envs'"):
        model().rollout(two, plans_of({}), 60.0)
    with pytest.raises(UsageError, match="plans: expected at least one plan, got 0"):
        model().rollout(observed(), empty_plan(0, SETTING.shape), 60.0)
    with pytest.raises(UsageError, match="forecast: expected at least one rate"):
        model(forecast=lambda *_: np.zeros(0)).rollout(observed(), plans_of({}), 60.0)
    with pytest.raises(UsageError, match="num_replications: expected a number >= 1, got 0"):
        model(num_replications=0)
    with pytest.raises(UsageError, match="plan of policy 'held': replicas: expected int64 of shape"):
        model().rollout(observed(), empty_plan(1, (1, 1, 1)), 60.0)


def test_one_replication_has_no_error_and_silence_no_accuracy() -> None:
    outcome = model(num_replications=1).rollout(observed(ready={(SMALL, OD): 3}), plans_of({(SMALL, OD): 3}), 60.0)
    assert np.isnan(outcome.cost_usd_error).all()
    assert np.isfinite(outcome.cost_usd).all()
    silent = model().rollout(observed(rps=0.0), plans_of({}), 60.0)
    assert np.isnan(silent.accuracy).all()
    assert silent.attainment.tolist() == [1.0]
    assert silent.cost_usd.tolist() == [0.0]


def test_an_environment_hands_out_what_a_rollout_takes() -> None:
    env = ServingEnv("tiny")
    env.reset(seed=0)
    env.step(np.zeros(NUM_KNOBS, np.float32))
    seen, plan = env.observe(), env.planned()
    assert plan.replicas.sum() > 0
    outcome = SimulatedWorldModel(env.setting, num_replications=4).rollout(seen, plan, 60.0)
    assert outcome.cost_usd[0] > 0
    before = [array.copy() for array in (*seen, *plan)]
    env.step(np.ones(NUM_KNOBS, np.float32))
    for array, copy in zip((*seen, *plan), before, strict=True):
        np.testing.assert_array_equal(array, copy)
