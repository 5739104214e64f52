"""The solver-based rivals: optima worked out by hand, when they plan anew, and what becomes of a failed solve."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from controller.arrays import ObservationArrays
from controller.compile import Setting, compile_scenario
from controller.errors import ConfigError
from controller.forecast import persistence_forecast
from controller.linear_program import FAILED, INFEASIBLE, LIMIT, Program, Solution
from controller.loop import DecisionLoop
from controller.plan import Reason
from controller.policies.infadapter import InfAdapterPolicy
from controller.policies.registry import POLICIES, make_policy, settings_model
from controller.policies.rolling import RollingMilpPolicy
from controller.policies.solved import SolvedPolicy, mixed_better
from controller.policies.solver_settings import SolverSettings
from controller.scenario import load_scenario
from tests.flows import FAN_IN, flow_setting
from tests.tiny import LARGE, MEDIUM, OD, RELAXED, SMALL, SPOT_A, SPOT_B, steady_observation, tiny_setting

KINDS = ("infadapter", "rolling_milp")
NO_GROWTH = persistence_forecast((0.1, 0.5, 0.9), (-1e-12, 0.0, 1e-12))
PLAIN: dict[str, Any] = {
    "headroom": 1.0,
    "patient_headroom": 1.0,
    "over_provision": 1.0,
    "spot_share": 0.0,
    "on_demand_floor": 0.0,
    "accuracy_margin": 0.0,
    "scale_in_s": 0.0,
    "mip_gap": 0.0,
    "limit_s": 60.0,
    "overflow_fraction": 0.0,
}
ONLY = {"infadapter": {"accuracy_weight": 0.0}, "rolling_milp": {"whole_steps": 4, "steps": 4}}


def policy_of(kind: str, setting: Setting | None = None, forecast: Any = NO_GROWTH, **changes: Any) -> SolvedPolicy:
    cls = {"infadapter": InfAdapterPolicy, "rolling_milp": RollingMilpPolicy}[kind]
    settings = cls.Settings(**(PLAIN | ONLY[kind] | changes))
    return cls(setting or tiny_setting(), settings, forecast)


def replicas(policy: SolvedPolicy, obs: ObservationArrays) -> Any:
    return policy.decide(obs).replicas[0].copy()


def at(obs: ObservationArrays, seconds: float) -> ObservationArrays:
    obs.time_s[:] = seconds
    return obs


@pytest.mark.parametrize("kind", KINDS)
def test_a_solver_finds_the_fewest_machines_that_hold_load_and_floors(kind: str) -> None:
    # 24.5/s each. Relaxed needs a mean of 0.76: three medium (30/s) hold it and 5.5/s of strict, whose other 19 fit on
    # one small (20/s). No other four machines do (two small and two medium leave relaxed 4.5/s on small), no three.
    plan = replicas(policy_of(kind), steady_observation(tiny_setting(), 49.0))
    assert plan[:, OD].tolist() == [1, 3, 0]
    assert plan.sum() == 4


@pytest.mark.parametrize("kind", KINDS)
def test_spot_is_used_as_far_as_it_may_be(kind: str) -> None:
    # Both spot pools are cheaper than on demand. At most 60 % of 49/s may be on spot and at most 40 % on one pool.
    policy = policy_of(kind, spot_share=0.6, pool_share=0.4)
    plan = replicas(policy, steady_observation(tiny_setting(), 49.0))
    rps = np.array([20.0, 10.0, 5.0])
    assert rps @ plan[:, OD] >= 0.4 * 49.0 - 1e-6
    assert plan[:, SPOT_A].sum() > 0
    assert plan[:, SPOT_B].sum() > 0
    assert rps @ plan[:, :3].sum(axis=1) >= 49.0
    paid = np.array([0.36, 0.108, 0.126]) @ plan[:, :3].sum(axis=0)
    assert paid < 4 * 0.36


@pytest.mark.parametrize("kind", KINDS)
def test_a_debt_is_repaid_by_the_plan(kind: str) -> None:
    obs = steady_observation(tiny_setting(), 49.0, ticks=8640 - 60)  # ten minutes left of the day
    obs.day_answered[0, RELAXED] = 2_000_000
    obs.day_accuracy_sum[0, RELAXED] = 0.755 * 2_000_000
    plan = replicas(policy_of(kind), obs)
    assert 5.0 * plan[LARGE].sum() >= 24.5  # every answer of the class has to be large's


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_launched_in_a_pool_that_refuses(kind: str) -> None:
    obs = steady_observation(tiny_setting(), 49.0)
    obs.available[0, SPOT_A] = False
    obs.ready[0, SMALL, SPOT_A] = 1
    plan = replicas(policy_of(kind, spot_share=1.0, pool_share=1.0), obs)
    assert plan[:, SPOT_A].sum() <= 1
    assert plan[:, SPOT_B].sum() > 0


def test_capacity_that_takes_time_is_ordered_before_the_load_is_there() -> None:
    growing = persistence_forecast((0.1, 0.5, 0.9), (-0.1, 0.3, 0.6))
    slow = tiny_setting()
    zero = np.zeros_like(slow.catalog.launch_s)
    quick = replace(slow, catalog=slow.catalog._replace(launch_s=zero, load_s=np.zeros_like(slow.catalog.load_s)))
    obs = steady_observation(slow, 49.0)
    counts = [int(replicas(policy_of("rolling_milp", setting, growing), obs).sum()) for setting in (slow, quick)]
    assert counts[0] > counts[1]


def test_requests_that_nothing_covers_are_left_to_serverless_where_that_is_cheaper() -> None:
    # A call of small costs 2.7e-6 $, an on-demand machine 5e-6 $ per request at full use; relaxed needs better.
    obs = steady_observation(tiny_setting(), 49.0)
    alone = replicas(policy_of("rolling_milp"), obs)
    with_overflow = replicas(policy_of("rolling_milp", overflow_fraction=1.0), obs)
    assert with_overflow.sum() < alone.sum()


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_with_time_to_wait_has_its_own_part_of_overflow_and_queue(kind: str) -> None:
    slo_s = tiny_setting().workload.slo_s
    part = 0.25 ** (slo_s / (slo_s + 10.0))
    settings = {"overflow_fraction": 0.8, "shed_slack": 2.0, "patient_overflow": 0.25, "patient_shed": 0.25}
    plan = policy_of(kind, **settings).decide(at(steady_observation(tiny_setting(), 49.0), 600.0))
    whole = policy_of(kind, shed_slack=2.0, overflow_fraction=0.8 * float(part.max())).decide(
        at(steady_observation(tiny_setting(), 49.0), 600.0)
    )
    assert plan.overflow_fraction[0] == pytest.approx(0.8 * part)
    assert plan.shed_limit[0] == pytest.approx(whole.shed_limit[0] * part, rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_that_spent_its_misses_is_not_refused_before_serverless_could_take_it(kind: str) -> None:
    def shed_limit(missed: int, shed_slack: float) -> list[int]:
        obs = at(steady_observation(tiny_setting(), 49.0), 600.0)
        obs.day_missed[0] = [0, missed]
        policy = policy_of(kind, overflow_fraction=0.8, overflow_slack=0.6, shed_slack=shed_slack)
        found: list[int] = policy.decide(obs).shed_limit[0].tolist()
        return found

    within, spent, wide = shed_limit(0, 0.3), shed_limit(600, 0.3), shed_limit(0, 0.9)
    assert spent == [within[0], wide[1]]
    assert wide[1] > within[1]


@pytest.mark.parametrize("kind", KINDS)
def test_permitted_misses_are_let_happen_by_what_was_missed_so_far(kind: str) -> None:
    policy = policy_of(kind, overflow_fraction=0.8, miss_budget=0.5)
    obs = at(steady_observation(tiny_setting(), 40.0), 600.0)
    obs.ready[0, MEDIUM, OD] = 1
    assert policy.decide(obs).overflow_fraction[0] == pytest.approx([0.8 * (1 - 60 / 600)] * 2)
    obs.day_missed[0] = [30, 70]  # before the next solve
    assert policy.decide(at(obs, 610.0)).overflow_fraction[0] == pytest.approx([0.8 * (1 - 30 / 600), 0.8])


@pytest.mark.parametrize("kind", KINDS)
def test_the_plan_is_held_between_solves_and_made_anew_at_once_after_a_loss(kind: str) -> None:
    policy = policy_of(kind)
    obs = steady_observation(tiny_setting(), 49.0)
    first = replicas(policy, at(obs, 600.0))
    assert policy.counts().solves == 1
    policy.decide(at(obs, 610.0)).replicas[:] = 0  # as the guard may
    np.testing.assert_array_equal(replicas(policy, at(obs, 650.0)), first)
    assert policy.counts().solves == 1
    policy.decide(at(obs, 660.0))
    assert policy.counts().solves == 2
    lost = copy.deepcopy(at(obs, 670.0))
    lost.preempted[0, SPOT_A] = 1
    assert policy.decide(lost).need_rps[0] == pytest.approx(49.0)
    assert policy.counts().solves == 3
    noticed = copy.deepcopy(at(obs, 680.0))
    noticed.doomed[0, SMALL, SPOT_A] = 1
    assert policy.decide(noticed).reasons[0] & Reason.COVER_PREEMPTION
    policy.decide(at(noticed, 690.0))  # the same one is still under notice
    assert policy.counts().solves == 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [INFEASIBLE, FAILED])
def test_a_solve_without_a_plan_is_counted_and_keeps_the_last_plan(
    kind: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_of(kind)
    first = replicas(policy, at(steady_observation(tiny_setting(), 49.0), 600.0))
    monkeypatch.setattr(Program, "solve_mixed", lambda *_: Solution(status, None, None, float("nan"), 1.0, np.inf))
    kept = replicas(policy, at(steady_observation(tiny_setting(), 200.0), 660.0))
    np.testing.assert_array_equal(kept, first)
    assert (policy.counts().limit_hits, policy.counts().infeasible, policy.counts().failed) == (
        0,
        status == INFEASIBLE,
        status == FAILED,
    )
    policy.reset(1)
    assert (policy.counts().solves, policy.counts().infeasible, policy.counts().failed) == (0, 0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_limit_a_plan_far_from_the_best_gives_way_to_the_relaxation_rounded_up(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_of(kind)
    solve = Program.solve_mixed
    for gap, plan in ((0.04, [1, 3, 0]), (0.06, [2, 3, 0])):  # of 1.225 and 2.45 machines, on the cheapest options

        def at_the_limit(program: Program, *limits: float, gap: float = gap) -> Solution:
            return replace(solve(program, *limits), status=LIMIT, gap=gap)

        monkeypatch.setattr(Program, "solve_mixed", at_the_limit)
        obs = at(steady_observation(tiny_setting(), 49.0), 600.0 + 1000.0 * gap)
        policy.reset(1)
        assert replicas(policy, obs)[:, OD].tolist() == plan
        assert (policy.counts().limit_hits, policy.counts().rounded, policy.counts().failed) == (1, gap > 0.05, 0)


def test_an_ilp_beyond_its_pools_is_infeasible_and_keeps_what_exists() -> None:
    pools = {"od": {"max": 1}, "spot-a": {"max": 1}, "spot-b": {"max": 1}}
    setting = tiny_setting(limits={"pools": pools})
    policy = policy_of("infadapter", setting)
    obs = steady_observation(setting, 400.0)
    obs.ready[0, MEDIUM, OD] = 1
    plan = replicas(policy, obs)
    assert policy.counts().infeasible == 1
    assert plan[MEDIUM, OD] == 1


def test_accuracy_beyond_the_floor_is_bought_by_its_weight() -> None:
    # The most accurate fleet is large on spot-a: 9.8 machines at 0.108. On demand alone, medium for all costs one
    # machine more than the cheapest plan (0.34 of that rent) and adds 0.023; large costs five more (1.7), adds 0.06.
    obs = steady_observation(tiny_setting(), 49.0)
    plans = [
        replicas(policy_of("infadapter", accuracy_weight=weight, loading_weight=0.0), obs)[:, OD].tolist()
        for weight in (0.0, 20.0, 50.0)
    ]
    assert plans == [[1, 3, 0], [0, 5, 0], [0, 0, 10]]


def test_a_variant_off_the_hull_of_cost_and_accuracy_is_dropped() -> None:
    setting = tiny_setting()
    usd = np.full((3, 4), np.inf)
    usd[:, OD] = [1.0, 3.0, 4.0]  # half of small and half of large: 0.76 for 2.5
    assert mixed_better(setting, usd).sum() == 1
    assert mixed_better(setting, usd)[MEDIUM, OD]
    usd[MEDIUM, OD] = 2.4
    assert not mixed_better(setting, usd).any()


@pytest.mark.parametrize("kind", KINDS)
def test_envs_are_planned_apart(kind: str) -> None:
    both = steady_observation(tiny_setting(), 49.0, num_envs=2)
    both.history[1] *= 2.0
    policy = policy_of(kind)
    policy.reset(2)
    plan = policy.decide(both)
    assert plan.replicas[0].sum() == 4
    assert plan.replicas[1].sum() > 4
    assert policy.counts().solves == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scenario", ["default", "many-classes"])
def test_shipped_catalogs_are_planned_within_the_guard(kind: str, scenario: str) -> None:
    setting = compile_scenario(load_scenario(scenario))
    policy = make_policy(f"{kind}:limit_s=0.5", setting)
    loop = DecisionLoop(setting, policy)
    obs = steady_observation(setting, 50.0)
    for tick in range(3):
        plan = loop.decide(at(obs, 600.0 + 10.0 * tick)).plan
    assert isinstance(policy, SolvedPolicy)
    assert policy.counts().solves == 1
    assert policy.counts().infeasible == 0
    assert not plan.reasons[0] & Reason.INVALID_PLAN
    if not policy.counts().failed:
        batch = plan.batch_size[0]
        seconds = np.take_along_axis(setting.catalog.service_s, batch[:, :, None], axis=2)[:, :, 0]
        rps = setting.catalog.concurrency * batch / np.where(np.isfinite(seconds), seconds, np.inf)
        assert (plan.replicas[0] * rps).sum() >= 50.0


@pytest.mark.parametrize("kind", KINDS)
def test_workflows_of_several_operators_are_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match="of 3 operators"):
        make_policy(kind, flow_setting(FAN_IN))


def test_every_lever_has_a_range_and_a_description() -> None:
    for kind in KINDS:
        assert kind in POLICIES
        model = settings_model(kind)
        assert issubclass(model, SolverSettings)
        for name, lever in model.model_fields.items():
            assert lever.description, name
            assert len(lever.metadata) >= 2, name
