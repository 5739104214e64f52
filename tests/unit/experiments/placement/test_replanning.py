"""Placements in the control loop: when they are planned anew, when they move, and what moving costs."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from controller.errors import ConfigError
from controller.loop import DecisionLoop
from controller.planners.geo.compiled import compile_geo
from controller.policies import geo_placing
from controller.policies.geo_placing import GeoPlacingPolicy, GeoPlacingSettings
from controller.policies.placing import Wanted
from controller.policies.policy_file import save_policy_file
from controller.policies.registry import PolicySpec, make_policy
from controller.policies.workflow_placing import WorkflowPlacingSettings
from experiments.placement.geo_setting import setting_of
from experiments.placement.replanning import GIVEN, LAUNCH_S, Drift, run_regions, run_workflow
from tests.networks import make_content
from tests.unit.controller.planners.geo.problems import two_sites
from tests.unit.controller.planners.workflow.problems import chain

TICKS = 60  # of 10 s


def steps(*rates):
    """Equal spans at given rates of one region, (ticks, 1)."""
    return np.repeat(np.array(rates, np.float64), TICKS // len(rates))[:, None]


def regions(rate_rps, **settings):
    given = {"problem": GIVEN, "rest_s": 60.0, "window_s": 60.0, **settings}
    return run_regions(two_sites(), rate_rps, [GeoPlacingSettings(**given)], ["anew"])


def test_a_steady_rate_is_planned_once():
    _, anew = regions(steps(100.0))
    assert (anew.plannings, anew.moves, anew.switched, anew.switching_usd) == (1, 1, 0, 0.0)


def test_a_rate_that_falls_is_followed_for_less_money_than_a_plan_for_the_peak():
    held, anew = regions(steps(100.0, 40.0, 40.0), horizon_s=600.0)
    assert anew.moves >= 2
    assert anew.usd < 0.85 * held.usd
    assert anew.answered > 0.99
    assert anew.accuracy[0] >= 0.9 - 0.01


def test_a_rate_that_rises_beyond_what_stands_moves_whatever_it_costs_and_counts_it():
    _, anew = regions(steps(40.0, 40.0, 100.0), horizon_s=0.0)
    assert anew.moves >= 2
    assert anew.switched > 0
    # At the cheap site an instance costs $0.5 an hour, at the near one twice that.
    assert anew.switched * 0.5 * LAUNCH_S / 3600 <= anew.switching_usd + 1e-9
    assert anew.switching_usd <= anew.switched * 1.0 * LAUNCH_S / 3600 + 1e-9
    assert anew.answered > 0.97


def test_a_move_that_does_not_pay_for_its_switching_is_not_made():
    held, anew = regions(steps(100.0, 85.0, 100.0, 85.0), horizon_s=0.0, rate_bound=0.05)
    assert anew.plannings >= 3
    assert anew.moves == 1
    assert anew.usd <= held.usd * 1.2


def observed(setting):
    from envs.simulator import Simulator
    from envs.supply import Supply

    return Simulator(setting, Supply(np.full((1, 1), 100.0), 1e9, np.ones((1, 1)), 1e9), 1).reset(np.array([0]))


def first_plan(setting, policy):
    plan = DecisionLoop(setting, policy, 1).decide(observed(setting)).plan
    return type(plan)._make(array.copy() for array in plan)


@pytest.mark.parametrize(
    ("room", "ready", "expected"),
    [(5, [3, 0], [3, 4]), (5, [3, 3], [3, 4]), (5, [3, 4], None), (3, [3, 0], None)],
    ids=["nothing new is ready", "one is missing", "all are ready", "no room for both"],
)
def test_a_move_leaves_what_serves_until_what_follows_it_is_ready(room, ready, expected):
    setting = setting_of(compile_geo(two_sites()))
    limits = setting.limits._replace(pool_max=np.full_like(setting.limits.pool_max, room))
    policy = GeoPlacingPolicy(replace(setting, limits=limits), GeoPlacingSettings(problem=GIVEN), problem=two_sites())
    old, new = np.zeros((2, *setting.shape[:2]), np.int64)
    old[0, 0], new[0, 1] = 3, 4  # the same variant at the other site
    shares = np.zeros((setting.shape[2], *setting.shape[:2]))
    before, wanted = Wanted(old, shares, 3.0), Wanted(new, shares + 1.0, 2.0)
    seen = observed(setting)
    seen.ready[0, 0, :2] = ready
    way = policy.on_the_way(seen, 0, before, wanted)
    if expected is None:
        assert way is None
    else:
        assert way.replicas[0, :2].tolist() == expected
        assert way.shares is before.shares


def test_nothing_waits_for_a_move_whose_two_fleets_the_budget_does_not_allow():
    setting = setting_of(compile_geo(two_sites()))
    usd_per_hour = setting.catalog.price_usd_per_s[:2] * 3600.0
    old, new = np.zeros((2, *setting.shape[:2]), np.int64)
    old[0, 0], new[0, 1] = 3, 4
    seen = observed(setting)
    for budget, waits in ((1.01 * (3 * usd_per_hour[0] + 4 * usd_per_hour[1]), True), (4 * usd_per_hour[1], False)):
        limits = setting.limits._replace(budget_usd_per_hour=float(budget))
        policy = GeoPlacingPolicy(
            replace(setting, limits=limits), GeoPlacingSettings(problem=GIVEN), problem=two_sites()
        )
        shares = np.zeros((setting.shape[2], *setting.shape[:2]))
        way = policy.on_the_way(seen, 0, Wanted(old, shares, 3.0), Wanted(new, shares, 2.0))
        assert (way is not None) == waits


def test_another_policy_can_propose_how_much_to_plan_for():
    setting = setting_of(compile_geo(two_sites()))
    policies = [
        GeoPlacingPolicy(setting, GeoPlacingSettings(problem=GIVEN, proposer=proposer), problem=two_sites())
        for proposer in ("mpc:headroom=1.0", "mpc:headroom=2.0")
    ]
    less, more = (first_plan(setting, policy) for policy in policies)
    assert more.replicas.sum() > less.replicas.sum()
    np.testing.assert_allclose(less.shares.sum(), 1.0, atol=1e-6)


def test_a_learned_policy_proposes_and_the_planner_places(tmp_path, monkeypatch):
    # The forecaster of the test's files is made up, and far above any rate.
    monkeypatch.setattr(geo_placing, "_MOST", 1e6)
    setting = setting_of(compile_geo(two_sites()))
    plans = []
    for name, scale in (("rule", 0.0), ("network", 1.0)):
        path = tmp_path / f"{name}.provisor"
        save_policy_file(path, make_content(setting, scale))
        policy = GeoPlacingPolicy(setting, GeoPlacingSettings(problem=GIVEN, proposer=str(path)), problem=two_sites())
        plans.append(first_plan(setting, policy))
    # The planner's choice of sites and variants at the network's need: other knobs, other counts.
    assert plans[0].need_rps[0] != pytest.approx(plans[1].need_rps[0], rel=0.01)
    for plan in plans:
        assert plan.replicas.sum() > 0
        np.testing.assert_allclose(plan.shares.sum(), 1.0, atol=1e-6)


def test_policies_are_made_by_name_from_problem_files(tmp_path):
    import yaml

    path = tmp_path / "regions.yaml"
    path.write_text(yaml.safe_dump(two_sites().model_dump(mode="json")))
    setting = setting_of(compile_geo(two_sites()))
    assert make_policy(PolicySpec(kind="a2", settings={"problem": str(path)}), setting).name == "a2"
    with pytest.raises((ConfigError, ValidationError), match="problem"):
        make_policy("a2", setting)


def workflow(factors, drifts=(), **settings):
    given = {"problem": GIVEN, "headroom": 1.05, "rest_s": 60.0, "window_s": 60.0, **settings}
    return run_workflow(chain(), np.asarray(factors, np.float64), drifts, WorkflowPlacingSettings(**given))


def test_a_workflow_is_placed_anew_when_its_rate_rises_beyond_what_its_workers_serve():
    # One edge worker serves 10 requests a second of `detect`, two serve 15.
    held, anew = workflow([0.5] * 20 + [1.4] * 40)
    assert 2 <= anew.moves <= 4
    assert anew.answered > 0.9
    assert anew.answered > held.answered + 0.1
    assert anew.switched >= 1
    assert anew.switching_usd > 0


def test_a_workflow_is_placed_anew_when_a_worker_slows_down():
    held, anew = workflow([0.9] * TICKS, [Drift(15, "edge-1", 1.5)])
    assert anew.plannings >= 2
    assert anew.answered > 0.97
    assert anew.answered > held.answered + 0.03


def test_a_steady_workflow_stays_where_it_is():
    _, anew = workflow([1.0] * TICKS)
    assert (anew.plannings, anew.moves, anew.switched) == (1, 1, 0)
    assert anew.answered > 0.99


def test_a_workflow_costs_in_the_loop_what_it_reaches_by_its_tables():
    _, anew = workflow([0.9] * 12)
    assert anew.accuracy[0] in (pytest.approx(0.6), pytest.approx(0.75))
