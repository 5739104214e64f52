import numpy as np
import pytest

from controller.planners.geo.compiled import GeoPlan, compile_geo, evaluate_geo
from controller.planners.geo.problem import GeoProblem, Region, load_geo_problem
from tests.unit.controller.planners.geo.problems import GB_PER_HOUR_BYTES, two_sites


def plan_of(served: dict[tuple[int, int], float], instances: list[list[int]]) -> GeoPlan:
    rates = np.zeros((1, 2, 4))
    for (i, v), rate in served.items():
        rates[0, i, v] = rate
    return GeoPlan(rates, np.array(instances))


def test_cost_is_rent_and_traffic_out_of_the_region():
    cost = evaluate_geo(compile_geo(two_sites(0.01)), plan_of({(1, 0): 100.0}, [[0, 0], [10, 0]]))
    assert cost.compute_usd_per_hour == pytest.approx(10 * 0.5)
    # 100 requests a second are 100 GB an hour.
    assert cost.egress_usd_per_hour == pytest.approx(1.0)
    assert cost.accuracy.tolist() == pytest.approx([0.9])
    assert cost.faults == ()


def test_latency_is_network_transfer_and_service_with_its_wait():
    instance = compile_geo(two_sites())
    # At utilisation 1/2 an M/D/1 queue holds a request for half a service before its own.
    assert instance.latency_s[0, 1, 0] == pytest.approx(0.2 + GB_PER_HOUR_BYTES / 1e7 + 1.5 * 0.05)


@pytest.mark.parametrize(
    ("served", "instances", "fault"),
    [
        ({(1, 0): 90.0}, [[0, 0], [10, 0]], "expected 100 requests/s served, got 90"),
        ({(1, 1): 100.0}, [[0, 0], [10, 0]], "expected a mean accuracy of 0.9, got 0.8"),
        ({(1, 0): 100.0}, [[0, 0], [9, 0]], "small at far: expected 10.000 instances or more, got 9"),
    ],
)
def test_a_plan_that_breaks_a_promise_is_told(served, instances, fault):
    assert fault in evaluate_geo(compile_geo(two_sites()), plan_of(served, instances)).faults[0]


def test_what_is_late_or_below_a_floor_on_each_answer_may_not_be_used():
    hurried = (Region(name="home", rate_rps=100.0, accuracy=0.9, latency_s=0.18, floor="each"),)
    instance = compile_geo(two_sites(regions=hurried))
    assert not instance.usable[0, 1].any()
    assert instance.usable[0, 0].tolist() == [True, False, False, True]
    cost = evaluate_geo(instance, plan_of({(1, 0): 100.0}, [[0, 0], [10, 0]]))
    assert "home at far: expected a variant in time" in cost.faults[0]


def test_without_a_route_nothing_is_sent():
    instance = compile_geo(two_sites(routes=two_sites().routes[:1]))
    assert not instance.usable[0, 1].any()


def test_a_faster_site_serves_in_less_time():
    sites = (two_sites().sites[0].model_copy(update={"speed": 2.0}), two_sites().sites[1])
    instance = compile_geo(two_sites(sites=sites))
    assert instance.service_s[:, 0].tolist() == [0.025, 0.05]


def test_a_route_to_nowhere_is_named():
    problem = two_sites().model_dump()
    problem["routes"][0]["site"] = "moon"
    with pytest.raises(ValueError, match="expected one of .*'far'.*, got 'moon'"):
        GeoProblem.model_validate(problem, strict=False)


def test_a_problem_reads_back_from_yaml(tmp_path):
    import yaml

    path = tmp_path / "geo.yaml"
    path.write_text(yaml.safe_dump(two_sites().model_dump(mode="json")), encoding="utf-8")
    assert load_geo_problem(path) == two_sites()
