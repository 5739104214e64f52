"""A catalog is validated whole: each wrong figure or name is refused with the field, the value and what it must be."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.catalog import CONSTANT, Catalog, Distribution, Market, load_catalog
from controller.config import parse_config, read_yaml
from controller.errors import CatalogError, ConfigError

TINY = Path(__file__).resolve().parents[3] / "controller" / "catalogs" / "tiny.yaml"


@pytest.fixture
def raw() -> Any:
    """The tiny catalog as plain values, free to be broken."""
    return copy.deepcopy(read_yaml(TINY))


def parse(raw: Any) -> Catalog:
    return parse_config(raw, Catalog, source="c.yaml")


def refused(raw: Any, *parts: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(raw)
    for part in ("c.yaml", *parts):
        assert part in str(caught.value)


def test_a_negative_price_is_refused_with_its_place(raw):
    raw["pools"][0]["price_usd_per_hour"]["value"] = -0.1
    refused(raw, "pools[0].price_usd_per_hour.value: expected a number >= 0.0, got -0.1")


@pytest.mark.parametrize("field", ["service_slope_s"])
def test_a_service_time_of_zero_is_refused(raw, field):
    raw["profiles"][1][field]["value"] = 0
    refused(raw, f"profiles[1].{field}.value: expected a number > 0.0, got 0")


def test_a_figure_names_one_provenance_not_two(raw):
    raw["pools"][0]["launch_s"]["measured"] = "a stop watch"
    refused(raw, "pools[0].launch_s", "exactly one of 'measured' (a source) and 'derived' (a formula)")


def test_a_figure_without_provenance_is_refused(raw):
    raw["variants"][0]["accuracy"] = {"value": 0.8}
    refused(raw, "variants[0].accuracy", "exactly one of 'measured'")


def test_a_bare_number_is_no_figure(raw):
    raw["variants"][0]["weights_gb"] = 0.1
    refused(raw, "variants[0].weights_gb: expected a mapping, got 0.1")


def test_infinity_is_no_figure(raw):
    raw["pools"][0]["launch_s"]["value"] = float("inf")
    refused(raw, "pools[0].launch_s.value")


@pytest.mark.parametrize("accuracy", [0.0, 1.01, 78.3])
def test_accuracy_is_a_share(raw, accuracy):
    raw["variants"][1]["accuracy"]["value"] = accuracy
    refused(raw, "variants[1]", f"accuracy: expected a share in (0, 1], got {accuracy}")


@pytest.mark.parametrize("section", ["sites", "variants", "pools"])
def test_names_are_distinct(raw, section):
    raw[section].append(copy.deepcopy(raw[section][0]))
    refused(raw, f"{section}: expected distinct names, got '{raw[section][0]['name']}' twice")


def test_a_pair_has_one_profile(raw):
    raw["profiles"].append(copy.deepcopy(raw["profiles"][0]))
    refused(raw, "profiles: expected distinct names, got 'small on on-demand' twice")


def test_a_profile_names_a_known_pool(raw):
    raw["profiles"][0]["pool"] = "moon"
    refused(raw, "profiles[small on moon].pool: expected one of ['on-demand', 'serverless', 'spot'], got 'moon'")


def test_a_profile_names_a_known_variant(raw):
    raw["profiles"][0]["variant"] = "huge"
    refused(raw, "profiles[huge on on-demand].variant: expected one of ['large', 'small'], got 'huge'")


def test_a_pool_stands_on_a_known_site(raw):
    raw["pools"][1]["site"] = "nowhere"
    refused(raw, "pools[spot].site: expected one of ['here'], got 'nowhere'")


def test_a_link_joins_known_sites(raw):
    figure = {"value": 1, "derived": "chosen"}
    raw["links"] = [
        {"source": "here", "target": "there", "delay_s": figure, "bytes_per_s": figure, "usd_per_gb": figure}
    ]
    refused(raw, "links: expected one of ['here'], got 'there'")


def test_two_links_of_the_same_direction_are_refused(raw):
    raw["sites"].append({"name": "there"})
    figure = {"value": 1, "derived": "chosen"}
    link = {"source": "here", "target": "there", "delay_s": figure, "bytes_per_s": figure, "usd_per_gb": figure}
    raw["links"] = [link, copy.deepcopy(link)]
    refused(raw, "links: expected distinct names, got 'here to there' twice")


@pytest.mark.parametrize(
    ("pool", "field"),
    [
        (0, "price_usd_per_hour"),
        (0, "min_billing_s"),
        (0, "release_lag_s"),
        (1, "notice_s"),
        (1, "zone"),
        (2, "usd_per_gb_s"),
        (2, "usd_per_request"),
        (2, "billing_step_s"),
        (2, "keep_alive_s"),
    ],
)
def test_a_pool_states_the_terms_of_its_market(raw, pool, field):
    del raw["pools"][pool][field]
    market = raw["pools"][pool]["market"]
    refused(raw, f"pools[{pool}]", f"{field}: expected a value for market {market}, got none")


def test_serverless_runs_one_request_at_a_time(raw):
    raw["profiles"][-1]["concurrency"] = 2
    refused(raw, "profiles[large on serverless]", "cold_start_s, batch_max 1 and concurrency 1")


def test_a_machine_profile_says_what_a_swap_takes(raw):
    del raw["profiles"][0]["swap_s"]
    refused(raw, "profiles[small on on-demand].swap_s: expected a value for a machine pool, got none")


def test_an_unknown_key_is_refused_with_the_nearest_known_one(raw):
    raw["pools"][0]["quotas"] = 3
    refused(raw, "pools[0].quotas: unknown key, did you mean 'quota'?")


def test_a_name_is_lower_case(raw):
    raw["variants"][0]["name"] = "Small Net"
    refused(raw, "variants[0].name: expected text matching", "'Small Net'")


@pytest.mark.parametrize("section", ["sites", "variants", "pools", "profiles"])
def test_a_catalog_without_a_section_is_refused(raw, section):
    raw[section] = []
    refused(raw, section)


def test_service_time_is_intercept_plus_slope_times_batch():
    profile = next(p for p in load_catalog("tiny").profiles if (p.variant, p.pool) == ("large", "spot"))
    assert profile.service_s(1) == pytest.approx(0.1 + 0.4)
    assert profile.service_s(4) == pytest.approx(0.1 + 1.6)


def test_a_quantile_table_has_mean_one_and_keeps_ratios():
    # Linear from 1 to 3: the mean is 2, so the table runs from 0.5 to 1.5.
    table = Distribution(quantiles={0.0: 1.0, 1.0: 3.0}, derived="a line").table(4)
    np.testing.assert_allclose(table, [0.5, 0.75, 1.0, 1.25, 1.5])


def test_the_outermost_quantiles_reach_to_the_ends():
    table = Distribution(quantiles={0.25: 1.0, 0.75: 3.0}, derived="a line").table(4)
    np.testing.assert_allclose(table, [0.5, 0.5, 1.0, 1.5, 1.5])


def test_a_constant_stays_one():
    np.testing.assert_array_equal(CONSTANT.table(8), np.ones(9))


@pytest.mark.parametrize(
    ("quantiles", "text"),
    [
        ({"0.5": 2.0, "0.9": 1.0}, "positive values that do not fall"),
        ({"0.5": 0.0}, "positive values"),
        ({"0.5": 1.0, "1.5": 2.0}, "probabilities within 0..1"),
    ],
)
def test_a_quantile_table_that_falls_or_leaves_the_unit_interval_is_refused(raw, quantiles, text):
    raw["profiles"][0]["service_shape"] = {"quantiles": quantiles, "derived": "wrong"}
    refused(raw, "profiles[0].service_shape", text)


def test_the_fingerprint_is_of_the_structure_alone(raw):
    before = parse(raw).fingerprint
    raw["pools"][0]["price_usd_per_hour"]["value"] = 9.0
    raw["profiles"][0]["service_slope_s"]["value"] = 9.0
    assert parse(raw).fingerprint == before
    raw["variants"][0]["name"] = "little"
    for profile in raw["profiles"]:
        profile["variant"] = profile["variant"].replace("small", "little")
    assert parse(raw).fingerprint != before


@pytest.mark.parametrize("change", ["market", "drop_profile"])
def test_the_fingerprint_covers_markets_and_which_profiles_exist(raw, change):
    before = parse(raw).fingerprint
    if change == "market":
        raw["pools"][1]["market"] = "on_demand"
    else:
        raw["profiles"].pop()
    assert parse(raw).fingerprint != before


def test_a_catalog_is_found_by_name_and_by_path():
    assert load_catalog("tiny") == load_catalog(TINY) == load_catalog(str(TINY))


def test_an_unknown_name_lists_the_shipped_catalogs():
    with pytest.raises(CatalogError, match=r"expected one of \['default', 'demo', 'tiny'\].*got 'nope'"):
        load_catalog("nope")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.yaml"):
        load_catalog(tmp_path / "gone.yaml")


def test_markets_are_named_as_in_the_file():
    assert [p.market for p in load_catalog("tiny").pools] == [Market.ON_DEMAND, Market.SPOT, Market.SERVERLESS]
