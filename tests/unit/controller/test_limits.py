"""What a scenario may say of limits, and what becomes of it."""

from typing import Any

import numpy as np
import pytest

from controller.compile import compile_scenario, limits_for
from controller.config import parse_config
from controller.errors import ConfigError, ScenarioError
from controller.limits import Limits, check_limits
from controller.plan import DEGRADE
from controller.scenario import Scenario
from tests.tiny import OD, SPOT_A, scenario_document, tiny_catalog, tiny_setting


def limits_of(**fields: Any) -> Limits:
    return parse_config(fields, Limits, "limits")


def contradicts(*parts: str, **fields: Any) -> None:
    with pytest.raises(ScenarioError) as error:
        check_limits(limits_of(**fields), tiny_catalog(), 256)
    for part in parts:
        assert part in str(error.value)


def test_a_daily_budget_pays_for_minima_and_floor_all_day() -> None:
    # 2 x 0.36 and 1 x 0.108 for 24 hours: 19.872
    fields = {"on_demand_floor": 2, "pools": {"spot-a": {"min": 1}}}
    contradicts("limits.budget_usd_per_day: expected at least 19.87", "got 19.8", budget_usd_per_day=19.8, **fields)
    check_limits(limits_of(budget_usd_per_day=19.9, **fields), tiny_catalog(), 256)


def test_reserved_environments_cost_money_too() -> None:
    # 10 x 1.5 GB x 4.1667e-6 x 3600 = 0.225
    contradicts(
        "limits.budget_usd_per_hour: expected at least 0.225",
        budget_usd_per_hour=0.2,
        pools={"fn": {"min": 10}},
    )


def test_a_degradation_needs_a_budget_to_degrade_for() -> None:
    contradicts("limits.degrade: expected limits.budget_usd_per_hour or limits.budget_usd_per_day", degrade=["shed"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"degrade": ["shed", "shed"]}, "degrade: expected each step once"),
        ({"degrade": ["pray"]}, "degrade"),
        ({"shed": "somebody"}, "shed"),
        ({"budget_usd_per_day": 0.0}, "budget_usd_per_day"),
        ({"cool_down_s": -1.0}, "cool_down_s"),
        ({"pools": {"od": {"max_launch_per_tick": 0}}}, "max_launch_per_tick"),
    ],
)
def test_values_out_of_range_are_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        limits_of(**fields)


def test_a_pools_ramps_and_cool_downs_go_before_those_of_all() -> None:
    setting = tiny_setting(
        limits={
            "max_launch_per_tick": 5,
            "cool_down_s": 60.0,
            "pools": {
                "od": {"max_launch_per_tick": 2, "cool_down_s": 0.0},
                "spot-a": {"max_drain_per_tick": 3, "launch_cool_down_s": 30.0},
            },
        }
    )
    assert setting.limits.max_launch.tolist() == [2, 5, 5, 5]
    assert setting.limits.max_drain[[OD, SPOT_A]].tolist() == [1000, 3]
    strict = setting.strict
    assert strict is not None
    assert strict.cool_down_s.tolist() == [0.0, 60.0, 60.0, 60.0]
    assert strict.launch_cool_down_s.tolist() == [0.0, 30.0, 0.0, 0.0]
    assert strict.degrade is None


@pytest.mark.parametrize(
    ("fields", "steps"),
    [
        ({}, None),
        ({"budget_usd_per_hour": 1.0}, None),
        ({"budget_usd_per_day": 9.0}, DEGRADE),
        ({"budget_usd_per_day": 9.0, "degrade": []}, ()),
        ({"budget_usd_per_hour": 1.0, "degrade": ["shed", "cheaper_pool"]}, ("shed", "cheaper_pool")),
    ],
)
def test_the_declared_order_is_in_force(fields: dict[str, Any], steps: tuple[str, ...] | None) -> None:
    assert limits_of(**fields).steps == steps
    strict = tiny_setting(limits=fields).strict
    found = None if strict is None or strict.degrade is None else tuple(DEGRADE[step] for step in strict.degrade)
    assert found == steps


def test_scenarios_without_strict_limits_are_written_as_before_and_pay_nothing() -> None:
    written = parse_config(scenario_document(), Scenario, "tiny").model_dump(mode="json")["limits"]
    assert set(written) == {
        "pools", "on_demand_floor", "max_launch_per_tick", "max_drain_per_tick", "budget_usd_per_hour"
    }  # fmt: skip
    assert limits_of(pools={"od": {"min": 1}}).model_dump()["pools"] == {"od": {"min": 1, "max": None}}
    setting = tiny_setting()
    assert limits_for(setting, 7) is setting.limits
    assert setting.limits.strict is None


def test_what_is_set_survives_a_journal_header() -> None:
    fields = {
        "cool_down_s": 30.0,
        "budget_usd_per_day": 9.0,
        "degrade": ["shed"],
        "pools": {"od": {"cool_down_s": 0.0, "max_drain_per_tick": 2}},
    }
    scenario = parse_config(scenario_document(limits=fields), Scenario, "tiny")
    again = parse_config(scenario.model_dump(mode="json"), Scenario, "journal header")
    assert again.limits == scenario.limits
    assert again.limits.pools["od"].cool_down_s == 0.0


def test_an_empty_degradation_survives_a_journal_header() -> None:
    limits = limits_of(budget_usd_per_day=9.0, degrade=[])
    assert parse_config(limits.model_dump(mode="json"), Limits, "journal header").steps == ()


def test_spans_and_money_per_hour_follow_the_speed_of_a_run() -> None:
    limits = {"cool_down_s": 60.0, "budget_usd_per_hour": 1.0, "budget_usd_per_day": 9.0}
    scenario = parse_config(scenario_document(limits=limits, speed=20.0), Scenario, "tiny")
    setting = compile_scenario(scenario, tiny_catalog())
    strict = setting.strict
    assert strict is not None
    np.testing.assert_allclose(strict.cool_down_s, 3.0)
    # prices per second grow by the speed, a day's seconds shrink by it
    assert setting.limits.budget_usd_per_hour == 20.0
    assert strict.budget_usd_per_day == 9.0


def test_memories_are_apart_for_every_env() -> None:
    setting = tiny_setting(limits={"cool_down_s": 60.0})
    first, second = limits_for(setting, 3), limits_for(setting, 3)
    assert first.strict is not None
    assert second.strict is not None
    assert first.strict.memory.alive.shape == (3, 4)
    assert first.strict.memory.alive is not second.strict.memory.alive


def test_shedding_by_value_is_declared_and_leaves_no_trace_where_it_is_not() -> None:
    assert tiny_setting(limits={"shed": "value_first"}).limits.sheds_by_value
    assert not tiny_setting().limits.sheds_by_value
    assert limits_of(shed="value_first").model_dump()["shed"] == "value_first"
    assert "shed" not in limits_of().model_dump()
