import numpy as np
import pytest

from controller.errors import UsageError
from controller.planners.workflow.baselines import BASELINES, all_edge, most_accurate
from controller.planners.workflow.compiled import Placement, checked, compile_problem, evaluate
from controller.planners.workflow.exact import MAX_WORKERS, plan_exact
from controller.planners.workflow.fast import plan_fast
from controller.planners.workflow.problem import Worker
from controller.planners.workflow.published import assign_workers, orders, plan_published
from controller.planners.workflow.selection import select_variants
from experiments.placement.random_workflows import brute_force, random_problem
from tests.unit.controller.planners.workflow.problems import chain

SEEDS = range(12)


@pytest.fixture(scope="module")
def instances():
    return [compile_problem(random_problem(seed)) for seed in SEEDS]


def test_the_cheapest_placement_of_the_chain_is_the_one_worked_by_hand():
    # `detect` needs edge-1 (10 requests/s, $0.5) and `name` then edge-2 (10 requests/s, $0.3), nothing leaves the edge.
    proved = plan_exact(compile_problem(chain()))
    assert proved.total_usd_per_hour == pytest.approx(0.8)
    assert proved.gap == 0.0
    assert proved.placement.load_rps.tolist() == [[10.0, 0.0, 0.0], [0.0, 10.0, 0.0]]


def test_a_higher_target_takes_the_larger_variant():
    # Large `detect` serves 5 requests/s on either edge worker: both, and `name` in the cloud with 0.1 GiB/h at $1.
    proved = plan_exact(compile_problem(chain(accuracy_target=75.0)))
    assert proved.placement.variants == (1, 0)
    assert proved.total_usd_per_hour == pytest.approx(0.5 + 0.3 + 2.0 + 0.1)


def test_selection_drops_what_falls_short_and_orders_by_cost():
    assert select_variants(compile_problem(chain())) == [(0, 0), (1, 0)]
    assert select_variants(compile_problem(chain(accuracy_target=75.0))) == [(1, 0)]
    assert select_variants(compile_problem(chain(accuracy_target=99.0))) == []


def test_nothing_feasible_is_said_so_by_every_planner():
    instance = compile_problem(chain(accuracy_target=99.0))
    proved = plan_exact(instance)
    assert proved.placement is None
    assert proved.gap == 0.0
    assert plan_published(instance) is None
    assert plan_fast(instance) is None
    assert all(baseline(instance) is None for baseline in BASELINES.values())


def test_exact_equals_brute_force(instances):
    # Larger ones take seconds each; `provisor experiment jellybean --check` tries fifty of all sizes.
    small = [i for i in instances if (i.num_operators + 1) ** len(i.tier) < 20_000]
    assert len(small) > 5
    for instance in small:
        least, _ = brute_force(instance)
        assert plan_exact(instance).total_usd_per_hour == pytest.approx(least, abs=1e-9)


def test_no_random_loads_beat_the_vertices(instances):
    # What the exact planner enumerates is argued from linearity: loads between vertices are tried here.
    rng = np.random.default_rng(3)
    tried = 0
    for instance in instances:
        proved = plan_exact(instance)
        if proved.placement is None:
            continue
        for _ in range(40):
            load = np.zeros_like(proved.placement.load_rps)
            for v, m in enumerate(proved.placement.variants):
                workers = proved.placement.workers_of(v)
                most = instance.capacity_rps[v][m][workers]
                drawn = most * rng.uniform(0.3, 1.0, len(workers))
                load[v, workers] = np.minimum(drawn * instance.rate_rps[v] / drawn.sum(), most)
            cost = evaluate(instance, Placement(proved.placement.variants, load))
            if not cost.faults:
                tried += 1
                assert cost.total_usd_per_hour >= proved.total_usd_per_hour - 1e-9
    assert tried > 100


def test_all_planners_place_feasibly_and_in_order_of_cost(instances):
    for instance in instances:
        exact, fast, published = plan_exact(instance).placement, plan_fast(instance), plan_published(instance)
        if fast is not None:
            assert checked(instance, exact).total_usd_per_hour <= checked(instance, fast).total_usd_per_hour + 1e-9
        if published is not None:
            assert checked(instance, fast).total_usd_per_hour <= checked(instance, published).total_usd_per_hour + 1e-9


def test_out_of_time_the_bound_still_holds(instances):
    instance = next(i for i in instances if plan_published(i) is not None)
    least = plan_exact(instance).total_usd_per_hour
    hurried = plan_exact(instance, limit_s=0.0, start=plan_published(instance))
    assert hurried.bound_usd_per_hour <= least + 1e-9
    assert hurried.total_usd_per_hour >= least - 1e-9


def test_the_exact_planner_refuses_more_workers_than_it_can_enumerate():
    many = tuple(Worker(name=n, tier="edge", usd_per_hour=1.0) for n in ("edge-1", "edge-2", "cloud"))
    more = tuple(Worker(name=f"w{i}", tier="edge", usd_per_hour=1.0) for i in range(MAX_WORKERS))
    with pytest.raises(UsageError, match=f"expected at most {MAX_WORKERS}"):
        plan_exact(compile_problem(chain(workers=(*many, *more))))


def test_baselines_leave_out_what_their_names_say():
    instance = compile_problem(chain())
    assert most_accurate(instance).variants == (1, 0)
    edge = all_edge(instance)
    assert edge.load_rps[:, 2].sum() == 0.0
    assert all_edge(compile_problem(chain(accuracy_target=75.0))) is None


def test_orders_are_all_those_that_the_edges_allow():
    assert list(orders(compile_problem(chain()))) == [(0, 1)]


def test_greedy_places_on_the_tiers_that_one_way_traffic_allows(instances):
    for instance in instances:
        for variants in select_variants(instance):
            for placement in assign_workers(instance, variants):
                assert evaluate(instance, placement).faults == ()
