"""The experiment of joint adaptation from end to end, on a made-up table of variants and a few prices."""

import json

import numpy as np
import pytest

from controller import cli
from controller.errors import ConfigError
from controller.planners.geo.compiled import compile_geo, evaluate_geo
from controller.planners.geo.problem import load_geo_problem
from controller.planners.geo.rounding import plan_rounded
from experiments.placement import geo_run, geo_sweep
from experiments.placement.geo_run import run_geo
from experiments.placement.geo_study import PLACES, instance_prices, study_problem
from experiments.placement.geo_sweep import PriceRow, confirmed_accuracy, crossovers, savings
from experiments.placement.replanning import Ran
from experiments.placement.table import VariantTable, read_table, write_table

ROWS = 17
"""Of the check."""


def made_up(num_images: int = 4000) -> VariantTable:
    """Four models on five data versions whose accuracy rises with both, answers drawn by image."""
    rng = np.random.default_rng(4)
    accuracy = 0.7 + 0.05 * np.arange(4)[:, None] - 0.02 * np.arange(5)[None, :] + 0.05
    return VariantTable(
        source="made up",
        models=("m0", "m1", "m2", "m3"),
        data=("d0", "d1", "d2", "d3", "d4"),
        sizes=np.tile(np.array([8000, 5600, 4000, 2400, 1600]), (num_images // 16, 1)),
        encode_s=np.full(5, 1e-4),
        service_s=2e-3 * 2.0 ** np.arange(4)[:, None] * np.ones(5),
        right=rng.random((num_images, 1, 1)) < accuracy,
    )


@pytest.fixture
def data(data_dir, monkeypatch):
    monkeypatch.setenv("PROVISOR_DATA", str(data_dir))


@pytest.mark.slow
@pytest.mark.usefixtures("data")
def test_everything_is_measured_and_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(geo_run, "read_table", made_up)
    monkeypatch.setattr(geo_sweep, "EGRESS_PRICES", (0.03,))
    day = [Ran("held", 2.0, 1.0, 0.0, (0.9,)), Ran("anew", 1.5, 1.0, 0.0, (0.9,), 24, 9, 12, 0.02)]
    monkeypatch.setattr(geo_sweep, "measure_day", lambda table: day)
    told = []
    run_geo(tmp_path, 1, is_measured=False, say=told.append)
    checks = {check["what"]: check for check in json.loads((tmp_path / "checks.json").read_text())}
    assert len(checks) == ROWS
    for what, check in checks.items():
        if what.startswith(
            ("fast planner over", "rounding over", "accuracy on", "proved gap", "least", "replayed cost")
        ):
            assert check["holds"], check
    assert json.loads((tmp_path / "results.json").read_text())["prices"][0]["usd_per_gb"] == 0.03
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 1
    assert "http" not in page.replace("http://www.w3.org", "")
    assert (tmp_path / "crossover.png").stat().st_size > 10_000
    assert plan_rounded(compile_geo(load_geo_problem(tmp_path / "regions.yaml"))) is not None
    assert any("EC2's price between regions" in line for line in told)
    assert any("12 instances started for 0.0200 $" in line for line in told)


@pytest.mark.usefixtures("data")
def test_dear_traffic_sends_less_and_computes_more():
    sizes = np.array([v.bytes for v in study_problem(made_up(), 1.0).variants])
    seconds = np.array([v.service_s for v in study_problem(made_up(), 1.0).variants])
    served = []
    for price in (0.001, 1.0):
        instance = compile_geo(study_problem(made_up(), price))
        plan = plan_rounded(instance).plan
        assert evaluate_geo(instance, plan).faults == ()
        served.append(plan.served_rps.sum(axis=(0, 1)))
    cheap, dear = served
    assert dear @ sizes < cheap @ sizes
    assert dear @ seconds > cheap @ seconds


@pytest.mark.usefixtures("data")
def test_traffic_to_the_site_at_home_costs_half():
    problem = study_problem(made_up(), 0.02)
    price = {(route.region, route.site): route.usd_per_gb for route in problem.routes}
    assert price["tokyo", "tokyo"] == pytest.approx(0.01)
    assert price["tokyo", "oregon"] == pytest.approx(0.02)


@pytest.mark.usefixtures("data")
def test_prices_are_those_of_the_list():
    # As of the list's own rows.
    assert instance_prices(["c6g.medium"]) == {"c6g.medium": 0.034}
    with pytest.raises(ConfigError, match="expected on-demand prices of moon.medium"):
        instance_prices(["moon.medium"])


@pytest.mark.usefixtures("data")
def test_a_variant_that_is_worse_on_new_images_is_found_out():
    table = made_up()
    right = table.right.copy()
    right[len(right) // 2 :] &= np.random.default_rng(1).random((len(right) // 2, 4, 5)) < 0.9
    worse = VariantTable(**{**vars(table), "right": right})
    instance = compile_geo(study_problem(worse, 0.02))
    plan = plan_rounded(instance).plan
    assert confirmed_accuracy(table, instance, plan).min() > -2.0
    assert confirmed_accuracy(worse, instance, plan).max() < -2.0
    assert confirmed_accuracy(worse, instance, plan).shape == (len(PLACES),)


def row(usd_per_gb: float, fast: float, model_only: float | None, data_only: float | None) -> PriceRow:
    return PriceRow(
        usd_per_gb=usd_per_gb,
        fast=fast,
        bound=fast,
        greedy=None,
        baselines={"model only": model_only, "data only": data_only},
        replayed={"fast": fast, "none": 4.0 * fast, "model only": model_only, "data only": data_only},
        kilobytes=1.0,
        service_ms=1.0,
        data_shares={},
        confirmed=0.0,
        latency_share=0.5,
        answered=1.0,
        replay_off=0.0,
        solve_s=0.0,
    )


def test_saving_is_over_the_better_single_axis_and_over_none():
    better, none = savings([row(0.1, 1.0, 2.0, 4.0), row(0.1, 1.0, None, 1.25)])
    np.testing.assert_allclose(better, [0.5, 0.2])
    np.testing.assert_allclose(none, [0.75, 0.75])


def test_the_crossover_lies_where_the_single_axes_cost_the_same():
    # Their ratio is 1/2 at 0.01 and 2 at 1: equal in the middle of the logarithms.
    assert crossovers([row(0.01, 1.0, 1.0, 2.0), row(1.0, 1.0, 4.0, 2.0)]) == pytest.approx([0.1])
    assert crossovers([row(0.01, 1.0, 1.0, 2.0), row(1.0, 1.0, None, 2.0)]) == []


def test_a_table_reads_back_as_written(tmp_path):
    table = made_up(37)
    back = read_table(write_table(table, tmp_path / "tables" / "variants.npz"))
    assert (back.source, back.models, back.data) == (table.source, table.models, table.data)
    for name in ("sizes", "encode_s", "service_s", "right"):
        np.testing.assert_array_equal(getattr(back, name), getattr(table, name))
    with pytest.raises(ConfigError, match="expected a table of measured variants"):
        read_table(tmp_path / "none.npz")


def test_without_the_data_the_command_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("PROVISOR_DATA", raising=False)
    monkeypatch.setattr(geo_run, "read_table", made_up)
    assert cli.main(["experiment", "a2", "--check", "--out", str(tmp_path / "out")]) == 2
    assert "PROVISOR_DATA" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
