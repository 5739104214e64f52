"""Measured means of batch sizes take the place of the line, in the catalog and in what is compiled from it."""

import copy
from typing import Any

import numpy as np
import pytest

from controller.catalog import Catalog, Profile, load_catalog
from controller.compile import compile_scenario
from controller.config import parse_config
from controller.errors import ConfigError
from controller.scenario import load_scenario


def document(table: dict[Any, float] | None) -> dict[str, Any]:
    """The demo catalog with a table on its first profile, whose line is 0.010744 + 0.084494 x batch up to 4."""
    raw = copy.deepcopy(load_catalog("demo").model_dump(mode="json"))
    if table is not None:
        raw["profiles"][0]["service_by_batch_s"] = {
            size: {"value": value, "measured": "a stop watch"} for size, value in table.items()
        }
    return raw


def profile_with(table: dict[Any, float] | None) -> Profile:
    return parse_config(document(table), Catalog, "c.yaml").profiles[0]


def test_measured_sizes_are_taken_as_they_are_and_others_lie_between() -> None:
    profile = profile_with({1: 0.2, 3: 0.3, 4: 0.5})
    assert [profile.service_s(batch) for batch in (1, 2, 3, 4)] == pytest.approx([0.2, 0.25, 0.3, 0.5])


def test_beyond_the_measured_sizes_the_line_is_scaled() -> None:
    profile = profile_with({2: 2 * (0.010744 + 2 * 0.084494)})
    # Twice the line at the only size measured, so twice the line everywhere.
    expected = [2 * (0.010744 + batch * 0.084494) for batch in (1, 2, 3, 4)]
    assert [profile.service_s(batch) for batch in (1, 2, 3, 4)] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({5: 0.1}, "profiles[0]: service_by_batch_s: expected sizes in 1..4 (batch_max), got 5"),
        ({0: 0.1}, "got 0"),
        ({1: 0.0}, "expected a number > 0.0, got 0.0"),
        ({}, "profiles[0].service_by_batch_s"),
    ],
)
def test_a_wrong_table_is_refused(table: dict[int, float], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        profile_with(table)
    assert text in str(caught.value)


def test_both_worlds_get_the_measured_means() -> None:
    scenario = load_scenario("demo")
    plain = compile_scenario(scenario, parse_config(document(None), Catalog, "c.yaml"))
    changed = compile_scenario(scenario, parse_config(document({1: 0.2, 4: 0.8}), Catalog, "c.yaml"))
    np.testing.assert_allclose(changed.catalog.service_s[0, 0, 1:], [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_array_equal(changed.catalog.service_s[1:], plain.catalog.service_s[1:])


def test_a_catalog_without_a_table_is_written_as_before() -> None:
    assert "service_by_batch_s" not in load_catalog("demo").model_dump_json()
    again = parse_config(profile_with({1: 0.2}).model_dump(mode="json"), Profile, "p")
    assert again.service_s(1) == 0.2
