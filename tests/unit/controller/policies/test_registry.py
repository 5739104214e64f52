"""A policy is made from a text, a file or a class; its settings are checked before it decides."""

from pathlib import Path

import pytest

from controller.errors import ConfigError
from controller.policies.learned import LearnedPolicy
from controller.policies.predictive import MpcPolicy, MpcSettings
from controller.policies.registry import (
    SHIPPED,
    PolicySpec,
    make_policy,
    policy_file,
    read_spec,
    rule_behind,
    settings_model,
)
from controller.trust.store import PolicyStore
from tests.tiny import tiny_setting
from tests.tuned_policy import FleetSettings

FLEET = "tests.tuned_policy:Fleet"


def test_text_gives_kind_settings_and_name() -> None:
    assert read_spec(" mpc ") == PolicySpec(kind="mpc", name="mpc")
    told = read_spec("reactive:headroom=1.5,cooldown_s=60")
    assert (told.kind, told.settings) == ("reactive", {"headroom": 1.5, "cooldown_s": 60})
    assert read_spec(FLEET) == PolicySpec(kind=FLEET)


def test_file_without_a_name_is_named_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("kind: mpc\nsettings: {headroom: 1.1}\n")
    assert read_spec(str(path)) == PolicySpec(kind="mpc", settings={"headroom": 1.1}, name="mine")


def test_class_of_ones_own_takes_settings_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(f"kind: {FLEET}\nsettings: {{machines: 7}}\nname: seven\n")
    made = make_policy(str(path), tiny_setting())
    assert (made.name, made.settings) == ("seven", FleetSettings(machines=7))
    assert make_policy(FLEET, tiny_setting()).settings == FleetSettings(machines=3)


def test_wrong_settings_of_ones_own_class_are_named() -> None:
    with pytest.raises(ConfigError, match="machines: expected .* got 10"):
        make_policy(PolicySpec(kind=FLEET, settings={"machines": 10}), tiny_setting())


def test_class_that_decides_nothing_is_refused() -> None:
    for spec in (
        "tests.tuned_policy:NoPolicy",
        PolicySpec(kind="tests.tuned_policy:NoPolicy", settings={"machines": 2}),
    ):
        with pytest.raises(ConfigError, match="expected a class with name, reset, decide and raw_output"):
            make_policy(spec, tiny_setting())


def test_settings_model_is_that_of_the_kind_or_class() -> None:
    assert settings_model("mpc") is MpcSettings
    assert settings_model(FLEET) is FleetSettings
    with pytest.raises(ConfigError, match="expected a class whose `Settings` is a pydantic model"):
        settings_model("tests.tuned_policy:Bare")
    with pytest.raises(ConfigError, match="expected one of a2, exascale, hpa"):
        settings_model("mcp")


def test_unknown_text_names_the_nearest_kind() -> None:
    with pytest.raises(ConfigError, match="policy: expected one of generalist, mpc, .* got 'mcp'.*mpc"):
        read_spec("mcp")


def test_the_word_for_the_shipped_policy_is_its_file() -> None:
    assert policy_file("generalist") == (SHIPPED, {})
    assert policy_file(" generalist:headroom=1.2") == (SHIPPED, {"headroom": 1.2})
    assert policy_file("generalist.yaml") is None
    made = make_policy("generalist:headroom=1.2", tiny_setting())
    assert isinstance(made, LearnedPolicy)
    assert made.settings.headroom == 1.2
    assert made.content.manifest.catalog == "any"
    assert make_policy("generalist", tiny_setting()).name == "generalist"


def test_the_rule_behind_a_policy_file_is_the_one_its_knobs_turn() -> None:
    setting = tiny_setting()
    rule, policy = (make_policy(spec, setting) for spec in (rule_behind("generalist"), "generalist"))
    assert isinstance(rule, MpcPolicy)
    assert isinstance(policy, LearnedPolicy)
    assert rule.name == "rule of generalist"
    assert rule.settings == policy.settings != MpcSettings()
    replaced = make_policy(rule_behind("generalist:headroom=1.2"), setting)
    assert isinstance(replaced, MpcPolicy)
    assert replaced.settings == policy.settings.model_copy(update={"headroom": 1.2})
    assert rule_behind("reactive:headroom=1.2") == rule_behind(FLEET) == "mpc"


def test_a_run_keeps_the_shipped_policy_as_any_file(tmp_path: Path) -> None:
    store = PolicyStore(tmp_path)
    entry = store.entry("generalist:headroom=1.2")
    assert (entry.name, entry.settings) == ("generalist", "headroom=1.2")
    kept = store.path(entry)
    assert kept is not None
    assert kept.read_bytes() == SHIPPED.read_bytes()
    assert store.make(entry, tiny_setting()).settings.headroom == 1.2
