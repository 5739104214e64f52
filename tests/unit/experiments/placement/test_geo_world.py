"""A geo plan replayed request by request beside what its evaluator says, and on what requests turn out to be."""

import numpy as np
import pytest

from controller.planners.geo.compiled import compile_geo, evaluate_geo
from controller.planners.geo.plan import plan_of, variant_name
from controller.planners.geo.rounding import plan_rounded
from experiments.placement.geo_setting import setting_of
from experiments.placement.geo_study import study_problem
from experiments.placement.geo_world import as_confirmed, replay
from tests.unit.experiments.placement.test_geo_run import made_up


@pytest.fixture
def instance(data_dir, monkeypatch):
    monkeypatch.setenv("PROVISOR_DATA", str(data_dir))
    return compile_geo(study_problem(made_up(), 0.03))


def test_the_replay_bills_what_was_planned_and_keeps_what_was_promised(instance):
    plan = plan_rounded(instance).plan
    ran, cost = replay(instance, plan, seconds=20.0), evaluate_geo(instance, plan)
    # Some 10,000 requests a second: their number is within a percent of its mean.
    assert ran.total_usd_per_hour == pytest.approx(cost.total_usd_per_hour, rel=0.005)
    assert ran.egress_usd_per_hour == pytest.approx(cost.egress_usd_per_hour, rel=0.01)
    assert ran.requests == pytest.approx(20.0 * instance.rate_rps.sum(), rel=0.01)
    assert ran.answered > 0.99
    np.testing.assert_allclose(ran.accuracy, cost.accuracy, atol=0.002)
    # The evaluator's queue has one server; several wait less.
    assert (ran.latency_s < cost.latency_s * 1.07).all()
    # Below the last mile no request can be.
    assert (ran.latency_s > 0.01).all()


def test_what_is_booked_is_what_unseen_requests_turned_out_to_be(instance):
    table = made_up()
    half = len(table.sizes) // 2
    table.sizes[half:] *= 2
    table.right[len(table.right) // 2 :] = (np.arange(len(table.right) // 2) % 2 == 0)[:, None, None]
    seen = as_confirmed(instance, table)
    plan = plan_rounded(instance).plan
    ran = replay(seen, plan, seconds=10.0)
    np.testing.assert_allclose(ran.accuracy, 0.5)
    assert ran.egress_usd_per_hour == pytest.approx(2 * evaluate_geo(instance, plan).egress_usd_per_hour, rel=0.01)


def test_a_plan_has_the_replicas_of_each_variant_and_shares_of_each_region(instance):
    plan = plan_rounded(instance).plan
    setting = setting_of(instance)
    made = plan_of(instance, plan, setting)
    assert made.replicas.sum() == plan.instances.sum()
    np.testing.assert_allclose(made.shares[0].sum(axis=(1, 2)), 1.0, atol=1e-6)
    i, m = np.argwhere(plan.instances > 0)[0]
    row = setting.variant_names.index(variant_name(instance.problem.variants[m]))
    assert made.replicas[0, row, i] == plan.instances[i, m]
