"""What the shipped catalogs and scenarios promise: provenance, enough choice, fleets too large to be rounding."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linprog

from controller.catalog import Catalog, Distribution, Figure, Market, Profile, load_catalog
from controller.compile import Setting, compile_scenario
from controller.config import StrictModel, parse_config
from controller.scenario import FileSpot, FileTrace, load_scenario

NAMED = ("steady", "diurnal", "burst", "flash-crowd", "spot-storm", "many-classes")
SCENARIOS = ("default", "twitter", "demo", "tiny", *NAMED)
UTILISATION = 0.75
PEAK = 4.0
"""Of the mean: what the busiest minute in a thousand of the Twitter trace reaches."""


def sourced(model: object) -> Iterator[Figure | Distribution]:
    """All figures and distributions inside a model."""
    if isinstance(model, Figure | Distribution):
        yield model
    elif isinstance(model, StrictModel):
        for name in type(model).model_fields:
            yield from sourced(getattr(model, name))
    elif isinstance(model, tuple):
        for item in model:
            yield from sourced(item)


def capacity_rps(profile: Profile, slo_s: float, batch_max: int | None = None) -> float:
    """Requests/s of one replica at the largest batch that leaves half the SLO for waiting; one by one if none does."""
    largest = profile.batch_max if batch_max is None else min(batch_max, profile.batch_max)
    fitting = [b for b in range(1, largest + 1) if profile.service_s(b) <= slo_s / 2]
    batch = max(fitting, default=1 if profile.service_s(1) <= slo_s else 0)
    return profile.concurrency * batch / profile.service_s(batch) if batch else 0.0


def cheapest_mix(setting: Setting, rate_rps: float, without: tuple[str, ...] = ()) -> dict[tuple[str, str], float]:
    """Machines per (variant, pool) of the cheapest fleet that serves a steady rate and meets every mean floor.

    A linear program over requests/s per class and option and instances per option: each instance runs at `UTILISATION`,
    pools stay within their quota, the mean accuracy of each class reaches its floor. Spot is up unless left out.
    """
    catalog, classes = setting.source, setting.scenario.workload.classes
    pools = {p.name: p for p in catalog.pools if p.market is not Market.SERVERLESS and p.name not in without}
    options = [p for p in catalog.profiles if p.pool in pools]
    accuracy = {v.name: v.accuracy.value for v in catalog.variants}
    count = len(options)
    flows = len(classes) * count
    price = np.array([pools[o.pool].price_usd_per_hour.value for o in options])
    objective = np.concatenate([np.zeros(flows), price])
    upper, upper_limit, equal, equal_limit = [], [], [], []
    bounds = [(0.0, None)] * (flows + count)
    for c, request_class in enumerate(classes):
        own = slice(c * count, (c + 1) * count)
        everyone, floor = np.zeros(flows + count), np.zeros(flows + count)
        everyone[own] = 1
        floor[own] = [request_class.accuracy_floor - accuracy[o.variant] for o in options]
        equal.append(everyone)
        equal_limit.append(rate_rps * request_class.share)
        upper.append(floor)
        upper_limit.append(0.0)
    for o, option in enumerate(options):
        row = np.zeros(flows + count)
        row[flows + o] = -1
        for c, request_class in enumerate(classes):
            capacity = capacity_rps(option, request_class.slo_s)
            if capacity > 0:
                row[c * count + o] = 1 / (capacity * UTILISATION)
            else:
                bounds[c * count + o] = (0.0, 0.0)
        upper.append(row)
        upper_limit.append(0.0)
    for name, pool in pools.items():
        row = np.zeros(flows + count)
        row[flows:] = [o.pool == name for o in options]
        upper.append(row)
        upper_limit.append(pool.quota)
    found = linprog(objective, np.array(upper), upper_limit, np.array(equal), equal_limit, bounds)
    assert found.status == 0, found.message
    return {(o.variant, o.pool): n for o, n in zip(options, found.x[flows:], strict=True) if n > 1e-6}


@pytest.fixture(scope="module")
def default() -> Setting:
    return compile_scenario(load_scenario("default"))


@pytest.fixture(scope="module")
def demo() -> Setting:
    return compile_scenario(load_scenario("demo"))


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_shipped_scenario_compiles(name):
    setting = compile_scenario(load_scenario(name))
    assert setting.scenario.name == name
    assert setting.workload.share.sum() == pytest.approx(1)


@pytest.mark.parametrize("name", ["default", "demo", "tiny"])
def test_every_figure_has_one_provenance(name):
    figures = list(sourced(load_catalog(name)))
    assert len(figures) > 50
    for figure in figures:
        assert (figure.measured is None) != (figure.derived is None)


def test_the_default_catalog_offers_the_types_asked_for():
    catalog = load_catalog("default")
    by_market = {m: {p.instance_type for p in catalog.pools if p.market is m} for m in Market}
    assert by_market[Market.ON_DEMAND] == by_market[Market.SPOT]
    assert {t.split(".")[0] for t in by_market[Market.SPOT]} == {"m5", "c5", "r5", "g4dn"}
    assert len({p.memory_gb.value for p in catalog.pools if p.market is Market.SERVERLESS}) >= 3
    assert len({p.zone for p in catalog.pools if p.market is Market.SPOT}) >= 3


@pytest.mark.parametrize("name", ["default", "demo"])
def test_a_dearer_variant_is_more_accurate(name):
    catalog = load_catalog(name)
    accuracy = [v.accuracy.value for v in catalog.variants]
    assert accuracy == sorted(accuracy)
    for pool in catalog.pools:
        times = {p.variant: p.service_s(1) for p in catalog.profiles if p.pool == pool.name}
        ladder = [times[v.name] for v in catalog.variants if v.name in times]
        assert ladder == sorted(ladder), pool.name


def test_the_default_ladder_is_long():
    assert len(load_catalog("default").variants) >= 6


def test_spot_is_cheaper_than_on_demand_for_the_same_type():
    catalog = load_catalog("default")
    on_demand = {p.instance_type: p.price_usd_per_hour.value for p in catalog.pools if p.market is Market.ON_DEMAND}
    for pool in catalog.pools:
        if pool.market is Market.SPOT:
            assert pool.price_usd_per_hour.value < on_demand[pool.instance_type]


def test_a_cpu_instance_is_ready_in_one_to_one_and_a_half_minutes_and_a_gpu_later():
    catalog = load_catalog("default")
    launch = {p.name: (p.launch_s.value, p.accelerator) for p in catalog.pools if p.market is not Market.SERVERLESS}
    ready = [(launch[p.pool][0] + p.load_s.value, launch[p.pool][1]) for p in catalog.profiles if p.pool in launch]
    assert all(60 <= s <= 100 for s, accelerator in ready if accelerator is None)
    assert all(150 <= s <= 200 for s, accelerator in ready if accelerator is not None)


@pytest.mark.parametrize("name", ["default", "demo"])
def test_the_forecast_horizon_covers_the_slowest_start(name):
    setting = compile_scenario(load_scenario(name))
    start_s = (setting.catalog.launch_s + setting.catalog.load_s)[setting.catalog.usable]
    assert start_s.max() <= setting.control.horizon_s <= 1.25 * start_s.max()


@pytest.mark.parametrize("without", [(), ("g4dn-xlarge-spot",), ("g4dn-xlarge", "g4dn-xlarge-spot")])
def test_the_cheapest_default_fleet_is_ten_instances_steady_and_forty_at_peak(default, without):
    steady = cheapest_mix(default, default.scenario.mean_rps, without)
    peak = cheapest_mix(default, PEAK * default.scenario.mean_rps, without)
    assert sum(steady.values()) >= 10
    assert 40 <= sum(peak.values()) <= default.scenario.simulator.max_instances


def test_the_peak_is_served_even_when_every_spot_zone_is_closed(default):
    spot = tuple(p.name for p in default.source.pools if p.market is Market.SPOT)
    assert sum(cheapest_mix(default, PEAK * default.scenario.mean_rps, spot).values()) >= 40


def test_all_machines_of_the_quotas_fit_the_simulator(default, demo):
    for setting in (default, demo):
        machines = sum(p.quota for p in setting.source.pools if p.market is not Market.SERVERLESS)
        assert machines <= setting.scenario.simulator.max_instances


def test_warm_modern_lambda_meets_the_strict_slo_past_the_middle_of_the_ladder(default):
    strict = next(i for i, name in enumerate(default.class_names) if name == "strict")
    pool = default.pool_names.index("lambda-modern-3008")
    latency_s = default.catalog.service_s[:, pool, 1] + default.workload.network_s[strict, :, pool]
    meets = latency_s <= default.scenario.workload.classes[strict].slo_s
    middle = len(default.variant_names) // 2
    assert meets[: middle + 1].all()
    floor = default.scenario.workload.classes[strict].accuracy_floor
    assert default.catalog.accuracy[meets].max() >= floor


def test_a_cold_start_breaks_the_strict_slo_and_not_the_relaxed_one(default):
    serverless = [p for p in default.source.profiles if p.cold_start_s is not None]
    cold_s = [p.cold_start_s.value + p.service_s(1) for p in serverless if p.variant.startswith("resnet")]
    slo = {c.name: c.slo_s for c in default.scenario.workload.classes}
    assert slo["strict"] < min(cold_s)
    assert max(cold_s) < slo["relaxed"]


def test_both_floors_can_be_missed_and_met(default, demo):
    for setting in (default, demo):
        accuracy = setting.catalog.accuracy
        for c, request_class in enumerate(setting.scenario.workload.classes):
            usable = accuracy[setting.workload.allowed[c].any(axis=1)]
            assert usable.min() < request_class.accuracy_floor < usable.max()


def test_the_demo_fits_two_cores_live(demo):
    machines = [p for p in demo.source.pools if p.market is not Market.SERVERLESS]
    assert sum(p.quota for p in machines) <= 8
    # Serve adds 10 to 20 ms; a service time well above that keeps the two worlds comparable.
    assert min(p.service_s(1) for p in demo.source.profiles) >= 0.05
    assert len(demo.variant_names) == 3
    assert len(demo.pool_names) == 4


def test_the_demo_needs_several_instances_and_its_peak_more_than_are_busy_on_average(demo):
    steady = sum(cheapest_mix(demo, demo.scenario.mean_rps).values())
    peak = sum(cheapest_mix(demo, 2 * demo.scenario.mean_rps).values())
    assert 3 <= steady < peak <= 8


def test_the_demo_serves_at_the_speed_of_the_default_catalog(demo):
    stands_for = {"digits-small": "resnet50", "digits-medium": "resnet101", "digits-large": "resnet152"}
    pools = {"c5-large": "c5-large", "c5-large-spot": "c5-large", "c5-xlarge": "c5-large"}
    pools |= {"lambda-3008": "lambda-modern-3008"}
    real = {(p.variant, p.pool): p for p in load_catalog("default").profiles}
    for profile in demo.source.profiles:
        expected = real[stands_for[profile.variant], pools[profile.pool]]
        for batch in (1, profile.batch_max):
            assert profile.service_s(batch) == pytest.approx(expected.service_s(batch)), profile


def test_the_twitter_scenario_differs_from_the_default_one_in_its_files_alone():
    default, twitter = load_scenario("default"), load_scenario("twitter")
    assert isinstance(twitter.trace, FileTrace)
    assert isinstance(twitter.spot, FileSpot)
    own = {"name", "description", "trace", "spot"}
    assert default.model_dump(exclude=own) == twitter.model_dump(exclude=own)


def test_tiny_capacities_are_round():
    capacity = {(p.variant, p.pool): capacity_rps(p, 10.0, batch_max=1) for p in load_catalog("tiny").profiles}
    rates = {("small", "on-demand"): 10, ("large", "on-demand"): 2, ("small", "serverless"): 5}
    assert {key: capacity[key] for key in rates} == pytest.approx(rates)


@pytest.mark.data
def test_the_default_catalog_is_what_its_sources_give(data_dir: Path):
    from experiments.catalog_build import default_catalog
    from experiments.catalog_sources import read_sources

    derived = parse_config(default_catalog(read_sources(data_dir)), Catalog, source="derived")
    shipped = load_catalog("default")
    assert shipped.fingerprint == derived.fingerprint
    pairs = list(zip(sourced(shipped), sourced(derived), strict=True))
    for mine, theirs in pairs:
        assert (mine.measured, mine.derived) == (theirs.measured, theirs.derived)
        if isinstance(mine, Figure):
            assert mine.value == pytest.approx(theirs.value, rel=0.01)
        else:
            assert list(mine.quantiles) == list(theirs.quantiles)
            assert list(mine.quantiles.values()) == pytest.approx(list(theirs.quantiles.values()), rel=0.01)


@pytest.mark.data
def test_the_twitter_scenario_names_files_and_zones_that_exist(data_dir: Path):
    scenario = load_scenario("twitter")
    for reference in (scenario.trace.path, scenario.spot.path):
        assert Path(reference.replace("$PROVISOR_DATA", str(data_dir))).is_file()
    index = (data_dir / "spot/skypilot_spot_traces/index.csv").read_text(encoding="utf-8")
    zones = {p.zone for p in load_catalog("default").pools if p.zone is not None}
    assert [zone for zone in zones if f",{zone}," not in index] == []
