import numpy as np
import pytest

from controller.planners.geo.compiled import compile_geo, evaluate_geo
from controller.planners.geo.problem import Region
from controller.planners.geo.program import GeoProgram
from controller.planners.geo.rivals import plan_greedy, restrictions
from controller.planners.geo.rounding import plan_rounded
from experiments.placement.random_regions import LEAST_INSTANCES, random_regions
from tests.unit.controller.planners.geo.problems import two_sites

SEEDS = (0, 5, 9)


@pytest.fixture(scope="module")
def instances():
    return [compile_geo(random_regions(seed)) for seed in SEEDS]


@pytest.fixture(scope="module")
def optima(instances):
    return [GeoProgram(instance).solve_whole() for instance in instances]


@pytest.mark.parametrize(
    ("usd_per_gb", "model", "data", "total"),
    [
        # Small on full: 10 instances at $0.5 and 100 GB; large on little: 20 instances and 25 GB. Equal at $0.0667.
        (0.01, "small", "full", 5.0 + 1.0),
        (0.2, "large", "little", 10.0 + 5.0),
    ],
)
def test_dear_traffic_turns_to_a_large_model_on_little_data(usd_per_gb, model, data, total):
    instance = compile_geo(two_sites(usd_per_gb))
    solved = GeoProgram(instance).solve_whole()
    assert solved.total_usd_per_hour == pytest.approx(total)
    assert solved.gap == pytest.approx(0.0, abs=1e-6)
    v = int(solved.plan.served_rps.sum(axis=(0, 1)).argmax())
    assert (instance.problem.variants[v].model, instance.problem.variants[v].data) == (model, data)
    assert plan_rounded(instance).total_usd_per_hour == pytest.approx(total)


def test_restrictions_leave_one_choice_out():
    allowed = restrictions(compile_geo(two_sites()))
    assert allowed["none"][0, 0].tolist() == [False, False, True, False]
    assert allowed["model only"][0, 0].tolist() == [True, False, True, False]
    assert allowed["data only"][0, 0].tolist() == [False, False, True, True]
    assert allowed["nearest"][0].all(axis=1).tolist() == [True, False]
    assert allowed["cheapest"][0].all(axis=1).tolist() == [False, True]


def test_a_restricted_plan_uses_what_is_allowed_and_costs_no_less(instances, optima):
    for instance, whole in zip(instances, optima, strict=True):
        for name in ("none", "data only", "nearest"):
            allowed = restrictions(instance)[name]
            rounded = plan_rounded(instance, allowed)
            if rounded is not None:
                assert not (rounded.plan.served_rps > 0)[~allowed].any()
                assert rounded.total_usd_per_hour >= whole.bound_usd_per_hour - 1e-6


def test_rounding_stays_within_its_proved_ratio_and_near_the_optimum(instances, optima):
    for instance, whole in zip(instances, optima, strict=True):
        rounded = plan_rounded(instance)
        assert evaluate_geo(instance, rounded.plan).faults == ()
        assert 1.0 <= rounded.ratio <= rounded.proved_ratio
        assert rounded.total_usd_per_hour >= whole.bound_usd_per_hour - 1e-6
        assert rounded.total_usd_per_hour <= 1.3 * whole.total_usd_per_hour
        _, count, _ = GeoProgram(instance).solve_relaxed()
        prices = instance.usd_per_hour[count.sum(axis=1) > 1e-6]
        # The form that is stated in numbers of instances and of regions.
        assert rounded.num_open <= 2 * len(instance.rate_rps)
        assert rounded.proved_ratio <= 1.0 + rounded.num_open / count.sum() * prices.max() / prices.min()


@pytest.mark.parametrize("seed", SEEDS)
def test_rounding_up_alone_keeps_every_promise_within_one_instance_per_open_pair(seed):
    # The step that the ratio is proved of, by itself.
    instance = compile_geo(random_regions(seed))
    bound, count, rates = GeoProgram(instance).solve_relaxed()
    up = np.ceil(count - 1e-9)
    cost = float((up * instance.usd_per_hour[:, None]).sum() + (rates * instance.egress_usd_per_hour).sum())
    assert cost < bound + float(((count > 1e-9) * instance.usd_per_hour[:, None]).sum())
    assert (rates > 1e-9).sum() <= 2 * len(instance.rate_rps)


def test_random_problems_have_ten_instances_at_every_site_used(instances):
    for instance in instances:
        by_site = GeoProgram(instance).solve_relaxed()[1].sum(axis=1)
        assert by_site[by_site > 1e-6].min() >= LEAST_INSTANCES - 1e-6


def test_greedy_is_feasible_and_never_below_the_optimum(instances, optima):
    for instance, whole in zip(instances, optima, strict=True):
        plan = plan_greedy(instance)
        cost = evaluate_geo(instance, plan)
        assert cost.faults == ()
        assert cost.total_usd_per_hour >= whole.bound_usd_per_hour - 1e-6


def test_what_cannot_be_promised_has_no_plan():
    better = (Region(name="home", rate_rps=100.0, accuracy=0.99, latency_s=1.0),)
    instance = compile_geo(two_sites(regions=better))
    assert GeoProgram(instance).solve_whole().plan is None
    assert GeoProgram(instance).solve_whole().gap == 0.0
    assert plan_rounded(instance) is None
    assert plan_greedy(instance) is None
    late = (Region(name="home", rate_rps=100.0, accuracy=0.9, latency_s=0.001),)
    assert GeoProgram(compile_geo(two_sites(regions=late))).solve_whole().plan is None
