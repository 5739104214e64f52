"""A placement in the simulated world: what states it, and an hour of it beside what the evaluator says."""

import numpy as np
import pytest

from controller.errors import ScenarioError
from controller.planners.workflow.compiled import Placement, compile_problem, evaluate
from controller.planners.workflow.exact import plan_exact
from controller.planners.workflow.plan import plan_of, slug, variant_name
from controller.planners.workflow.problem import Selectivity
from experiments.placement.workflow_world import setting_of, simulate
from tests.unit.controller.planners.workflow.problems import chain


@pytest.fixture
def instance():
    return compile_problem(chain(accuracy_target=75.0))


@pytest.fixture
def placement(instance):
    """Large `detect` on both edge workers, `name` in the cloud."""
    return plan_exact(instance).placement


def test_names_are_as_catalogs_write_them(instance):
    assert slug("ExtractImageFeature (v2)") == "extractimagefeature-v2-"
    assert variant_name(instance, 0, 1) == "detect.large"


def test_a_plan_has_an_instance_of_each_worker_used_and_shares_as_loads(instance, placement):
    setting = setting_of(instance, placement)
    plan = plan_of(instance, placement, setting)
    detect, name = (setting.variant_names.index(n) for n in ("detect.large", "name.default"))
    pools = [setting.pool_names.index(n) for n in ("edge-1", "edge-2", "cloud")]
    assert plan.replicas[0][np.ix_([detect, name], pools)].tolist() == [[1, 1, 0], [0, 0, 1]]
    np.testing.assert_allclose(plan.shares[0, 0][np.ix_([detect, name], pools)], [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    assert plan.fixed_shares.all()


def test_the_setting_states_prices_rates_and_messages(instance, placement):
    setting = setting_of(instance, placement)
    detect = setting.variant_names.index("detect.large")
    edge, cloud = (setting.pool_names.index(n) for n in ("edge-1", "cloud"))
    assert setting.catalog.price_usd_per_s[edge] * 3600 == pytest.approx(0.5)
    assert setting.catalog.service_s[detect, edge, 1] == pytest.approx(0.2)
    # A tenth of a GiB an hour at 10 requests a second and $1 for a GiB.
    assert setting.workload.hop_usd[detect, edge, cloud] * 10 * 3600 == pytest.approx(0.1)
    assert setting.workload.egress_usd[0, detect, cloud] * 10 * 3600 == pytest.approx(1.0)
    assert setting.workload.egress_usd[0, detect, edge] == 0.0


def test_what_the_simulator_has_no_words_for_is_refused(placement):
    ratios = (Selectivity(source="detect", target="name", ratio=0.5),)
    other = compile_problem(chain(selectivities=ratios))
    with pytest.raises(ScenarioError, match="expected one rate of all operators"):
        setting_of(other, placement)


def test_a_catalog_without_a_worker_of_the_plan_is_refused(instance, placement):
    setting = setting_of(instance, placement)
    moved = Placement((0, 0), placement.load_rps)
    with pytest.raises(ScenarioError, match="expected 'detect.small' among them"):
        plan_of(instance, moved, setting)


@pytest.mark.slow
@pytest.mark.timeout(900)  # may be the first to compile the kernels
def test_an_hour_costs_what_the_evaluator_says_and_answers_the_rate(instance, placement):
    cost, ran = evaluate(instance, placement), simulate(instance, placement)
    assert ran.requests == pytest.approx(36_000, rel=0.001)
    assert ran.throughput >= 0.99
    assert ran.compute_usd_per_hour == pytest.approx(cost.compute_usd_per_hour, rel=0.01)
    assert ran.communication_usd_per_hour == pytest.approx(cost.communication_usd_per_hour, rel=0.01)
    utilisation = placement.load_rps * 1.0 / np.array([[5.0, 5.0, 20.0], [20.0, 10.0, 100.0]])
    np.testing.assert_allclose(ran.busy, utilisation, atol=0.02)
