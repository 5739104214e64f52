import numpy as np
import pytest

from controller.errors import ConfigError
from controller.planners.workflow.compiled import compile_problem, evaluate
from controller.planners.workflow.exact import plan_exact
from controller.planners.workflow.files import read_published
from controller.planners.workflow.published import plan_published
from experiments.placement.jellybean import authors_placement


@pytest.fixture(scope="module")
def instance(data_dir):
    return compile_problem(read_published(data_dir / "jellybean_vqa"))


def test_the_authors_assignment_costs_what_they_say(instance):
    cost = evaluate(instance, authors_placement(instance))
    assert cost.compute_usd_per_hour == pytest.approx(6.242, abs=1e-9)
    assert cost.communication_usd_per_hour == pytest.approx(1.2667783071018048, abs=1e-9)
    assert cost.accuracy == 56.59
    assert cost.faults == ()


def test_the_published_algorithm_finds_the_authors_assignment(instance):
    np.testing.assert_allclose(plan_published(instance).load_rps, authors_placement(instance).load_rps)


def test_the_exact_planner_is_cheaper_and_proves_it(instance):
    proved = plan_exact(instance)
    assert proved.gap == 0.0
    assert proved.total_usd_per_hour < evaluate(instance, plan_published(instance)).total_usd_per_hour


def test_quantiles_of_the_profile_are_slower_than_its_mean(data_dir, instance):
    slow = compile_problem(read_published(data_dir / "jellybean_vqa", latency="p90"))
    both = (slow.capacity_rps[0] > 0) & (instance.capacity_rps[0] > 0)
    assert (slow.capacity_rps[0][both] < instance.capacity_rps[0][both]).all()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"config.yaml: expected a readable YAML file"):
        read_published(tmp_path)
