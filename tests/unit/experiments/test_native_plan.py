"""What Ray Serve's own autoscaler gets to run, and its settings at the speed of a run."""

import json

import numpy as np
import pytest

from controller.compile import at_speed, compile_scenario
from controller.errors import ConfigError, UsageError
from controller.policies.autoscalers import RayServeSettings
from controller.scenario import load_scenario
from envs.world import build_world
from experiments.compared_run import Stretch
from experiments.evidence_files import Artefacts
from experiments.native_plan import autoscaling_config, first_replicas, native_plan, read_native_settings
from experiments.native_run import warmed_up
from serving.load import Schedule


@pytest.fixture(scope="module")
def setting():
    return compile_scenario(load_scenario("demo"))


@pytest.fixture(scope="module")
def plan(setting):
    return native_plan(setting)


def test_deployment_is_the_cheapest_that_keeps_every_floor_on_machines_that_stay(setting, plan):
    assert setting.variant_names[plan.variant] == "digits-large"  # 0.974; the medium one's 0.953 is below 0.965
    assert setting.pool_names[plan.pool] == "c5-large"
    # Three machines of one credit and two of two credits, at twice the price.
    assert plan.most == 3 + 2 * 2
    assert plan.price_usd_per_s == pytest.approx(0.085 / 3600)


def test_scenario_whose_floors_no_variant_keeps_is_refused(setting):
    workload = setting.workload._replace(accuracy_floor=np.array([0.94, 0.999]))
    with pytest.raises(ConfigError, match="a variant on on-demand machines for all classes"):
        native_plan(type(setting)(**{**vars(setting), "workload": workload}))


def test_costs_and_launches_are_those_at_speed(setting, plan):
    fast = native_plan(type(setting)(**{**vars(setting), "catalog": at_speed(setting.catalog, 20.0, 0.0, 0.0)}))
    assert fast.price_usd_per_s == pytest.approx(20 * plan.price_usd_per_s)
    assert fast.launch_s == pytest.approx(plan.launch_s / 20)
    assert (fast.min_billing_s, fast.release_lag_s) == pytest.approx((3.0, 0.25))
    assert fast.service_s == plan.service_s


def test_spans_are_divided_by_the_speed_and_counts_are_not(plan):
    settings = RayServeSettings(
        target_ongoing_requests=0.8, upscale_delay_s=40, downscale_delay_s=600, look_back_period_s=60, min_replicas=2
    )
    config = autoscaling_config(settings, plan, 20.0, 3)
    assert (config["upscale_delay_s"], config["downscale_delay_s"], config["look_back_period_s"]) == (2.0, 30.0, 3.0)
    assert config["metrics_interval_s"] == 0.5
    assert config["target_ongoing_requests"] == 0.8
    assert (config["min_replicas"], config["initial_replicas"], config["max_replicas"]) == (2, 3, 7)
    assert config["downscale_to_zero_delay_s"] is None


def test_reports_come_more_often_than_what_is_looked_back_on(plan):
    config = autoscaling_config(RayServeSettings(look_back_period_s=10), plan, 20.0, 1)
    assert config["metrics_interval_s"] == 0.25
    assert config["look_back_period_s"] == 0.5


@pytest.mark.parametrize(
    ("target", "rate_rps", "expected"),
    # 9 requests/s of 0.222 s keep two replicas busy.
    [(1.0, 8.9, 2), (0.5, 8.9, 4), (5.0, 8.9, 2), (1.0, 100.0, 7), (1.0, 0.0, 1)],
)
def test_run_begins_with_what_the_autoscaler_comes_to_at_a_steady_rate(plan, target, rate_rps, expected):
    assert first_replicas(RayServeSettings(target_ongoing_requests=target), plan, rate_rps) == expected


def test_more_replicas_than_machines_are_never_asked_for(plan):
    config = autoscaling_config(RayServeSettings(min_replicas=30), plan, 1.0, 7)
    assert (config["min_replicas"], config["max_replicas"]) == (7, 7)


def test_settings_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("kind: hpa\n")
    with pytest.raises(UsageError, match="expected ray_serve, got"):
        read_native_settings(path)
    path.write_text("kind: ray_serve\nsettings: {upscale_delay_s: 12}\n")
    assert read_native_settings(path).upscale_delay_s == 12


def test_warming_up_is_before_second_0_and_leaves_the_schedule_as_it_is():
    asked = Schedule(np.array([0.5, 1.0]), np.array([1, 0]), np.array([0, 1]))
    schedule, num = warmed_up(asked, 4.0, 2)
    assert num == 24  # six seconds
    assert (schedule.arrival_s[0], schedule.arrival_s[num - 1]) == (-6.0, -0.25)
    assert schedule.arrival_s[num:].tolist() == [0.5, 1.0]
    assert schedule.request_class[num:].tolist() == [1, 0]
    assert not set(schedule.identity[:num]) & {0, 1}


@pytest.mark.parametrize("kind", ["ray_serve", "mpc"])
def test_shipped_settings_are_those_of_a_study_on_a_day_nobody_is_judged_by(kind):
    scenario = Stretch().scenario
    path = Artefacts().settings(kind, scenario)
    assert Artefacts().settings_problem(kind, scenario, is_rival=False) is None
    worlds = json.loads(path.with_suffix(".json").read_text())["worlds"]
    splits = load_scenario(scenario).splits
    assert worlds
    assert all(splits.train[0] <= world["day"] <= splits.validation[1] for world in worlds)


def test_rate_of_the_stretch_never_exceeds_what_on_demand_machines_answer():
    scenario = load_scenario(Stretch().scenario)
    plan = native_plan(compile_scenario(scenario))
    assert build_world(scenario).rate_rps.max() < plan.most / plan.service_s
