"""Scenarios of tiers: catalogs of what a calibration measured, classes of what callers ask for."""

import numpy as np
import pytest

from controller.catalog import load_catalog
from controller.compile import compile_scenario
from controller.errors import UsageError
from controller.scenario import load_scenario
from controller.tiers.generate import Objective, Tolerance, generate
from controller.tiers.rules import Form, outcome
from experiments.tiers.scenarios import Part, catalog_of, even_mix, floor_of, read_mix, scenario_of, write_scenario
from tests.unit.controller.tiers.synthetic import population

TABLE = population(1000)
TIERS = generate(TABLE, [Tolerance(0.0), Tolerance(0.05), Tolerance(0.1)], confidence=0.9)
# Version v4 takes 0.08 s on the mean of the table; network and other pools need room.
SLO_S = {Objective.RESPONSE_TIME: 1.0, Objective.COST: 4.0}


@pytest.fixture(scope="module")
def catalog():
    return catalog_of(TABLE, load_catalog("default"), "versions")


@pytest.fixture(scope="module")
def scenario(catalog):
    return scenario_of(TABLE, TIERS, even_mix(TIERS), load_scenario("default"), catalog, "versions", slo_s=SLO_S)


def test_versions_take_their_measured_time_on_the_home_pool_and_longer_on_slower_ones(catalog):
    mean_s = TABLE.latency_s[:, 2].mean()
    times = {p.pool: p.service_s(1) for p in catalog.profiles if p.variant == "v2"}
    assert times["c5-large"] == pytest.approx(mean_s)  # the cheapest core on demand
    # The base's first variant takes 0.011324 + 0.031765 s on m5-large and 0.010744 + 0.030073 s on c5-large.
    assert times["m5-large"] == pytest.approx(mean_s * 0.043089 / 0.040817)
    assert not any(pool.accelerator for pool in catalog.pools)


def test_every_figure_says_where_it_comes_from(catalog):
    profile = catalog.profiles[0]
    assert "mean of the calibration" in profile.service_slope_s.derived
    assert "over that on c5-large (catalog default)" in profile.service_slope_s.derived
    assert profile.load_s.derived == "as resnet18 there"
    assert catalog.variants[0].accuracy.measured == "1 - mean error, cut off at 1: synthetic"
    assert catalog.answers.measured == "synthetic"


def test_a_request_that_stands_for_many_takes_as_many_times_longer():
    thinned = catalog_of(TABLE, load_catalog("default"), "versions", ["c5-large"], 40.0)
    assert thinned.profiles[0].service_s(1) == pytest.approx(40.0 * TABLE.latency_s[:, 0].mean())
    assert "x 40: one request stands for so many" in thinned.profiles[0].service_slope_s.derived


def test_every_tier_is_a_class_with_its_rule_and_its_promise(scenario):
    names = [one.name for one in scenario.workload.classes]
    assert names == ["response-time-0", "response-time-5", "response-time-10", "cost-0", "cost-5", "cost-10"]
    last, tier = scenario.workload.classes[-1], TIERS[-1]
    assert last.tier.tolerance == 0.1
    assert last.tier.variants[0] == TABLE.versions[tier.rule.first]
    assert last.accuracy_floor == floor_of(TABLE, tier)
    assert last.slo_s == 4.0
    right = 1.0 - TABLE.error[:, TABLE.best].mean()
    assert last.accuracy_floor == pytest.approx(right - 0.1)


def test_the_rows_expect_of_a_cascade_what_the_rule_comes_to(scenario, catalog):
    tiers = compile_scenario(scenario, catalog).tiers
    cascades = [c for c, tier in enumerate(TIERS) if tier.rule.form is not Form.SINGLE]
    assert cascades
    for c in cascades:
        assert tiers.accuracy[c] == pytest.approx(1.0 - outcome(TIERS[c].rule, TABLE).error.mean())


def test_what_is_written_is_read_again(scenario, catalog, tmp_path):
    path = write_scenario(scenario, catalog, tmp_path / "mine")
    read = compile_scenario(load_scenario(str(path)))
    made = compile_scenario(scenario, catalog)
    for name in ("workload", "catalog", "answers", "tiers"):
        for found, expected in zip(getattr(read, name), getattr(made, name), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_a_mix_is_scaled_to_all_requests():
    mix = read_mix("cost:0.05=3,response_time:0=1", is_relative=False)
    assert mix == (
        Part(Tolerance(0.05), Objective.COST, 0.75),
        Part(Tolerance(0.0), Objective.RESPONSE_TIME, 0.25),
    )
    assert Part(Tolerance(0.05, is_relative=True), Objective.COST, 1.0).name == "cost-5-relative"


@pytest.mark.parametrize("text", ["", "cost", "cost:a=1", "speed:0=1", "cost:0=0", "cost:0=-1", "cost:0=inf"])
def test_a_mix_of_another_form_is_refused(text):
    with pytest.raises(UsageError, match="--mix: expected"):
        read_mix(text, is_relative=False)


def test_what_is_no_tier_or_pool_is_refused(catalog):
    mix = read_mix("cost:0.07=1", is_relative=False)
    with pytest.raises(UsageError, match=r"--mix: expected tiers of the file .*cost:0.05.*got 'cost-7'"):
        scenario_of(TABLE, TIERS, mix, load_scenario("default"), catalog, "versions")
    with pytest.raises(UsageError, match="--pool: expected one of"):
        catalog_of(TABLE, load_catalog("default"), "versions", ["moon"])
    with pytest.raises(UsageError, match="--pool: expected at least one on-demand pool"):
        catalog_of(TABLE, load_catalog("default"), "versions", ["c5-large-spot-f"])
