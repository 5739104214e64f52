"""Stating a tier costs a request next to nothing."""

from controller.compile import compile_scenario
from controller.scenario import load_scenario
from experiments.bench_tiers import DEADLINES_S, TOLERANCES, tier_lookup


def test_headers_are_read_and_the_class_is_found_in_less_than_50_microseconds():
    found = tier_lookup(compile_scenario(load_scenario("demo")))
    assert found["tiers"] == len(TOLERANCES) * 2 * 2 * len(DEADLINES_S)
    assert found["tier_headers_and_lookup_us"] < 50.0
