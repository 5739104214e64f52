"""What was measured becomes a catalog entry, each figure with its source, and a catalog with the entry in it loads."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.catalog import Catalog, Profile, load_catalog
from controller.catalog_entry import CatalogEntry, with_entry
from controller.config import load_yaml, parse_config
from controller.errors import ConfigError, UsageError
from experiments.fitting import Estimate
from experiments.profile_entry import (
    Naming,
    catalog_yaml,
    entry_of,
    entry_yaml,
    naming_in,
    require_known,
    variant_name,
)
from experiments.profiling import Inputs, Loads, Measured
from tests.tiny import catalog_document, tiny_catalog

ON, DAY = "toy (1 core)", "2026-11-25"
SMALL_ON_OD = Naming("small", "od", "classify")


def found(accuracy: float | None = None, **services_s: list[float]) -> Measured:
    """A model of 0.03 s, and 0.02 s more for each further input, that loads in 2 s."""
    times = services_s or {"b1": [0.02, 0.04], "b2": [0.04, 0.06], "b4": [0.08, 0.10]}
    return Measured(
        services_s={int(size[1:]): tuple(seconds) for size, seconds in times.items()},
        loads=Loads(Estimate(2.0, 0.1, 3), 5e7),
        accuracy=None if accuracy is None else Estimate(accuracy, 0.01, 400),
        input_bytes=Estimate(300.0, 0.0, 10),
        output_bytes=Estimate(7.0, 0.0, 10),
        inputs=Inputs([0], None, "test.npz"),
    )


def entry(measured: Measured, naming: Naming = SMALL_ON_OD) -> dict[str, Any]:
    return entry_of(measured, naming, ON, DAY)


def profile_in(catalog: Catalog, variant: str, pool: str) -> Profile:
    (profile,) = [p for p in catalog.profiles if (p.variant, p.pool) == (variant, pool)]
    return profile


# Names


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("my_models:resnet", "resnet"),
        ("a.b:ResNet_50", "resnet-50"),
        ("m:__call__", "call"),
        ("m:_", "model"),
        ("m:" + "x" * 99, "x" * 64),
    ],
)
def test_a_variant_is_named_after_the_callable(reference: str, name: str) -> None:
    assert variant_name(reference) == name


def test_without_a_catalog_the_pool_is_this_machine() -> None:
    assert naming_in(None, "m:f", None, None) == Naming("f", "this-machine", "classify")
    assert naming_in(None, "m:f", "mine", "box") == Naming("mine", "box", "classify")


def test_a_variant_of_the_catalog_keeps_its_operator() -> None:
    document = catalog_document()
    document["variants"][1]["operator"] = "detect"
    catalog = parse_config(document, Catalog, "c")
    assert naming_in(catalog, "m:f", "medium", "od").operator == "detect"
    assert naming_in(catalog, "m:f", "new", "od").operator == "classify"


@pytest.mark.parametrize("pool", ["nowhere", "fn", None])
def test_the_pool_is_a_machine_pool_of_the_catalog(pool: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        naming_in(tiny_catalog(), "m:f", None, pool)
    expected = "--pool: expected a machine pool of catalog 'tiny', one of ['od', 'spot-a', 'spot-b'], got "
    assert str(caught.value) == expected + repr(pool)


@pytest.mark.parametrize(("option", "name", "pool"), [("--name", "My Model", "box"), ("--pool", "mine", "a/b")])
def test_a_name_that_no_catalog_takes_is_refused(option: str, name: str, pool: str) -> None:
    with pytest.raises(UsageError, match=f"^{option}: expected a name of "):
        naming_in(None, "m:f", name, pool)


def test_a_new_variant_needs_labels_which_tell_its_accuracy() -> None:
    catalog = tiny_catalog()
    new = Naming("new", "od", "classify")
    require_known(new, catalog, is_labelled=True)
    require_known(SMALL_ON_OD, catalog, is_labelled=False)
    with pytest.raises(UsageError, match=r"--name: expected a variant of catalog 'tiny'.*got 'new' \(a new one needs"):
        require_known(new, catalog, is_labelled=False)


# The entry


def test_the_profile_holds_the_mean_of_each_size_with_its_source() -> None:
    table = entry(found())["profiles"][0]["service_by_batch_s"]
    # Two repeats 0.01 off their mean: standard error 0.01.
    source = "mean of 2 repeats, standard error 0.01 s; toy (1 core), 2026-11-25, one thread"
    assert table == {
        size: {"value": mean, "measured": source} for size, mean in (("1", 0.03), ("2", 0.05), ("4", 0.09))
    }


def test_the_line_of_the_profile_goes_through_the_means() -> None:
    profile = parse_config(entry(found())["profiles"][0], Profile, "p")
    assert profile.service_intercept_s.value == pytest.approx(0.01)
    assert profile.service_slope_s.value == pytest.approx(0.02)
    assert profile.service_intercept_s.derived.startswith("least-squares line")


def test_one_size_alone_is_shared_out_by_its_inputs() -> None:
    profile = parse_config(entry(found(b4=[0.08, 0.10]))["profiles"][0], Profile, "p")
    assert [profile.service_s(b) for b in (1, 2, 4)] == pytest.approx([0.0225, 0.045, 0.09])


def test_the_shape_is_that_of_repeats_over_the_mean_of_their_size() -> None:
    shape = entry(found(b1=[0.02, 0.04] * 5, b2=[0.04, 0.06] * 5))["profiles"][0]["service_shape"]
    # Ratios 2/3 and 4/3, 0.8 and 1.2, five of each: the median is between 0.8 and 1.2.
    assert shape["quantiles"][0.5] == pytest.approx(1.0)
    assert shape["quantiles"][0.0] == pytest.approx(2 / 3, rel=1e-4)
    assert shape["measured"].startswith("repeat / mean of its batch size, 20 repeats")


def test_the_profile_sends_no_larger_batch_than_was_measured() -> None:
    assert entry(found())["profiles"][0]["batch_max"] == 4


def test_a_swap_takes_what_loading_takes() -> None:
    profile = entry(found())["profiles"][0]
    assert profile["load_s"]["value"] == profile["swap_s"]["value"] == 2.0


def test_the_variant_is_left_out_where_its_accuracy_is_unknown() -> None:
    assert "variants" not in entry(found())
    text = entry_yaml(entry(found()), "m:f")
    assert "# No variant: its accuracy is known only from labelled inputs" in text


def test_the_variant_holds_accuracy_weights_and_sizes() -> None:
    (variant,) = entry(found(accuracy=0.9))["variants"]
    assert variant["accuracy"]["value"] == 0.9
    assert "400 labelled inputs of test.npz, standard error 0.01" in variant["accuracy"]["measured"]
    assert variant["weights_gb"]["value"] == 0.05
    assert (variant["input_bytes"]["value"], variant["output_bytes"]["value"]) == (300.0, 7.0)


def test_an_entry_reads_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "entry.yaml"
    made = entry(found(accuracy=0.9), Naming("null", "this-machine", "classify"))
    path.write_text(entry_yaml(made, "m:f"))
    assert load_yaml(path, CatalogEntry) == parse_config(made, CatalogEntry, "entry")


# Into a catalog


def written(tmp_path: Path, made: dict[str, Any], catalog: Catalog) -> Catalog:
    path = tmp_path / "whole.yaml"
    path.write_text(catalog_yaml(made, catalog, "m:f"))
    return load_catalog(path)


def test_the_written_catalog_answers_with_the_measured_means(tmp_path: Path) -> None:
    profile = profile_in(written(tmp_path, entry(found()), tiny_catalog()), "small", "od")
    assert [profile.service_s(b) for b in (1, 2, 4)] == [0.03, 0.05, 0.09]
    assert profile.service_s(3) == pytest.approx(0.07)


def test_an_entry_changes_nothing_else_of_the_catalog(tmp_path: Path) -> None:
    before = tiny_catalog()
    after = written(tmp_path, entry(found(), Naming("medium", "spot-a", "classify")), before)
    assert after.fingerprint == before.fingerprint
    changed = [(a.variant, a.pool) for a, b in zip(after.profiles, before.profiles, strict=True) if a != b]
    assert changed == [("medium", "spot-a")]
    assert (after.variants, after.pools, after.sites) == (before.variants, before.pools, before.sites)


def test_a_new_variant_follows_those_of_the_catalog(tmp_path: Path) -> None:
    after = written(tmp_path, entry(found(accuracy=0.9), Naming("mine", "od", "classify")), tiny_catalog())
    assert [v.name for v in after.variants] == ["small", "medium", "large", "mine"]
    assert (after.profiles[-1].variant, after.profiles[-1].pool) == ("mine", "od")


def test_a_measured_accuracy_takes_the_place_of_the_catalogs(tmp_path: Path) -> None:
    after = written(tmp_path, entry(found(accuracy=0.9)), tiny_catalog())
    assert [v.accuracy.value for v in after.variants] == [0.9, 0.76, 0.82]


@pytest.mark.parametrize("name", ["default", "demo"])
def test_shipped_catalogs_are_written_as_they_are_read(tmp_path: Path, name: str) -> None:
    before = load_catalog(name)
    pair = before.profiles[0]
    after = written(tmp_path, entry(found(), Naming(pair.variant, pair.pool, "x")), before)
    assert after.profiles[1:] == before.profiles[1:]
    assert (after.pools, after.links) == (before.pools, before.links)


def test_an_empty_list_of_a_catalog_is_written_as_one(tmp_path: Path) -> None:
    catalog = parse_config({**catalog_document(), "links": []}, Catalog, "c")
    assert written(tmp_path, entry(found()), catalog).links == ()


def test_an_entry_for_an_unknown_pool_is_refused() -> None:
    lost = parse_config(entry(found(), Naming("small", "nowhere", "classify")), CatalogEntry, "entry")
    with pytest.raises(ConfigError, match="catalog 'tiny' with the entry") as caught:
        with_entry(tiny_catalog(), lost)
    assert "expected one of ['fn', 'od', 'spot-a', 'spot-b'], got 'nowhere'" in str(caught.value)


def test_weights_that_the_system_does_not_tell_are_said_to_be_unknown() -> None:
    unknown = replace(found(accuracy=0.9), loads=Loads(Estimate(2.0, 0.1, 3), None))
    weights = entry(unknown)["variants"][0]["weights_gb"]
    assert weights == {"value": 0.0, "derived": "not measured: this system does not say what a process holds"}
