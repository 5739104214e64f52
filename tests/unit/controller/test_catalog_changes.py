"""A scenario changes prices, delays and quotas of a catalog and says so; what it cannot change is named."""

import pytest

from controller.catalog import Market, load_catalog
from controller.catalog_changes import CatalogChanges
from controller.compile import compile_scenario
from controller.errors import CatalogError, ConfigError
from controller.scenario import Scenario, load_scenario

TINY = load_catalog("tiny")


def pool(catalog, name):
    return next(p for p in catalog.pools if p.name == name)


def test_no_changes_leave_the_catalog_itself() -> None:
    assert CatalogChanges().applied_to(TINY) is TINY


def test_a_price_factor_multiplies_one_market_and_says_so() -> None:
    changed = CatalogChanges(price_factor={Market.SPOT: 1.5}).applied_to(TINY)
    for before, after in zip(TINY.pools, changed.pools, strict=True):
        if before.market is Market.SPOT:
            assert after.price_usd_per_hour.value == pytest.approx(1.5 * before.price_usd_per_hour.value)
            assert "x 1.5, changed by the scenario" in after.price_usd_per_hour.derived
            assert after.price_usd_per_hour.measured is None
        else:
            assert after == before


def test_delays_service_times_quotas_and_notice() -> None:
    variant, name = TINY.variants[0].name, next(p.name for p in TINY.pools if p.market is Market.SPOT)
    changes = CatalogChanges(
        launch_factor=2.0, load_factor=3.0, service_factor={variant: 0.5}, quota={name: 7}, notice_s=30.0
    )
    changed = changes.applied_to(TINY)
    assert pool(changed, name).launch_s.value == pytest.approx(2.0 * pool(TINY, name).launch_s.value)
    assert pool(changed, name).quota == 7
    assert pool(changed, name).notice_s.value == 30.0
    for before, after in zip(TINY.profiles, changed.profiles, strict=True):
        factor = 0.5 if before.variant == variant else 1.0
        assert after.service_s(2) == pytest.approx(factor * before.service_s(2))
        assert after.load_s.value == pytest.approx(3.0 * before.load_s.value)


def test_what_is_left_out_takes_its_profiles_along_and_changes_the_fingerprint() -> None:
    fingerprint = TINY.fingerprint
    name = TINY.pools[-1].name
    changed = CatalogChanges(without=(name,)).applied_to(TINY)
    assert name not in {p.name for p in changed.pools} | {p.pool for p in changed.profiles}
    assert changed.fingerprint != fingerprint


def test_a_scenario_applies_its_changes_in_both_forms() -> None:
    scenario = load_scenario("tiny").model_copy(update={"changes": CatalogChanges(launch_factor=2.0)})
    plain, changed = compile_scenario(load_scenario("tiny")), compile_scenario(scenario)
    assert (changed.catalog.launch_s == 2.0 * plain.catalog.launch_s).all()


def test_a_scenario_without_changes_is_written_as_before() -> None:
    assert "changes" not in load_scenario("tiny").model_dump(mode="json")
    scenario = load_scenario("tiny").model_copy(update={"changes": CatalogChanges(load_factor=2.0)})
    assert Scenario.model_validate_json(scenario.model_dump_json()) == scenario


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quota": {"nowhere": 1}}, "changes.quota"),
        ({"without": ("nothing",)}, "changes.without"),
        ({"service_factor": {"nobody": 2.0}}, "changes.service_factor"),
        ({"without": tuple(v.name for v in TINY.variants)}, "expected to leave a variant"),
    ],
)
def test_wrong_names_are_named(changes: dict, message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        CatalogChanges(**changes).applied_to(TINY)


def test_wrong_numbers_name_field_and_bound(tmp_path) -> None:
    text = "launch_factor: -1\n"
    path = tmp_path / "scenario.yaml"
    from importlib import resources

    shipped = (resources.files("controller") / "scenarios" / "tiny.yaml").read_text(encoding="utf-8")
    path.write_text(shipped + f"changes:\n  {text}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"changes\.launch_factor"):
        load_scenario(path)
