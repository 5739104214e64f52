"""Policies by name: rules, policy files, settings in YAML, and a user's own class."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, JsonValue

from controller.compile import Setting
from controller.config import StrictModel, load_object, load_yaml, parse_config, resolve_kind
from controller.errors import ConfigError, mismatch
from controller.policies.policy_file import SUFFIX, load_policy_file
from controller.ports import Policy
from controller.validation import did_you_mean

POLICIES = {
    "mpc": "controller.policies.predictive:MpcPolicy",
    "redundant": "controller.policies.redundant:RedundantPolicy",
    "static": "controller.policies.static:StaticPolicy",
    "reactive": "controller.policies.rules:ReactivePolicy",
    "util_aware": "controller.policies.rules:UtilAwarePolicy",
    "exascale": "controller.policies.rules:ExascalePolicy",
    "mixed": "controller.policies.rules:MixedPolicy",
    "paragon": "controller.policies.rules:ParagonPolicy",
    "paragon_plus": "controller.policies.rules:ParagonPlusPolicy",
    "mark": "controller.policies.planners:MarkPolicy",
    "infaas": "controller.policies.planners:InfaasPolicy",
    "ribbon": "controller.policies.planners:RibbonPolicy",
    "ray_serve": "controller.policies.autoscalers:RayServePolicy",
    "hpa": "controller.policies.autoscalers:HpaPolicy",
    "spothedge": "controller.policies.spot_rules:SpotHedgePolicy",
    "tributary": "controller.policies.spot_rules:TributaryPolicy",
    "infadapter": "controller.policies.infadapter:InfAdapterPolicy",
    "rolling_milp": "controller.policies.rolling:RollingMilpPolicy",
}
"""Kind to class. A class takes (setting, settings, name=...) and names its settings model `Settings`."""

PLACING = {
    "jellybean": "controller.policies.workflow_placing:WorkflowPlacingPolicy",
    "a2": "controller.policies.geo_placing:GeoPlacingPolicy",
}
"""Kinds whose settings must name a problem file, of which the scenario is: its regions or workers, by name."""

LEARNED = "controller.policies.learned:LearnedPolicy"
"""What reads a policy file; it takes (setting, path, name=...)."""

DEFAULT_RULE = "mpc"
"""Kind that is handed back to where a policy has no rule of its own."""

GENERALIST = "generalist"
"""Word for the learned policy that comes with the package, made for any catalog."""

SHIPPED = Path(__file__).with_name(GENERALIST + SUFFIX)
YAML_SUFFIXES = (".yaml", ".yml")


class PolicySpec(StrictModel):
    """A rule with settings, as a YAML file holds it."""

    kind: str = Field(description="one of the table, or a class of your own, 'module:Class'")
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    name: str | None = Field(default=None, description="name in tables; default: the kind")


def make_policy(spec: str | PolicySpec, setting: Setting) -> Policy:
    """Makes a policy.

    Args:
        spec: One of
            a kind, `mpc`; with settings, `reactive:headroom=1.2,cooldown_s=300`;
            a YAML file with `kind`, `settings` and an optional `name`;
            `generalist`, the policy file that comes with the package;
            a policy file, `*.provisor`, or one with settings of its rule replaced, `FILE.provisor:miss_multiplier=2`;
            a class of your own, `module:Class`, called with the setting alone; where a YAML file gives it
            settings, as the kinds are, with (setting, settings, name=...).
        setting: What it decides for. Where a class has a tier, the policy is made for the steps of the tiers' cascades
            instead, and its plans are made to carry the cascades (`controller.policies.tiered`).

    Returns:
        The policy, named by kind, file or class.

    Raises:
        ConfigError: Nothing of that name, or wrong settings.
        PolicyFileError: A policy file that is damaged or does not fit.
    """
    if setting.tiers is not None:
        # Imports the learned policy, which few settings need.
        from controller.policies.tiered import with_tiers

        return with_tiers(setting, lambda expanded: _bare(spec, expanded))
    return _bare(spec, setting)


def _bare(spec: str | PolicySpec, setting: Setting) -> Policy:
    if isinstance(spec, PolicySpec):
        return _rule(spec, setting, f"policy '{spec.kind}'")
    text = spec.strip()
    if (file := policy_file(text)) is not None:
        path, replaced = file
        made: Policy = load_object(LEARNED)(setting, path, name=text if replaced else path.stem, replaced=replaced)
        return made
    return _rule(read_spec(text), setting, text if text.endswith(YAML_SUFFIXES) else f"policy '{text}'")


def read_spec(text: str) -> PolicySpec:
    """What a text says of a rule: kind, settings, and the name that it has in tables.

    Args:
        text: As for `make_policy`, but no policy file, whose settings are learned.

    Raises:
        ConfigError: The text has another form.
    """
    text = text.strip()
    if text.endswith(YAML_SUFFIXES):
        read = load_yaml(Path(text), PolicySpec)
        return read.model_copy(update={"name": read.name or Path(text).stem})
    kind, separator, rest = text.partition(":")
    if kind in POLICIES or kind in PLACING:
        return PolicySpec(kind=kind, settings=_parse_settings(rest, text) if separator else {}, name=text)
    if not separator:
        known = f"one of {', '.join([GENERALIST, *POLICIES, *PLACING])}, a .yaml or {SUFFIX} file, or 'module:Class'"
        raise ConfigError(mismatch("policy", known, text) + did_you_mean(text, [GENERALIST, *POLICIES]))
    return PolicySpec(kind=text)


def policy_file(spec: str | PolicySpec) -> tuple[Path, dict[str, JsonValue]] | None:
    """Path and replaced settings of a policy file that `make_policy` takes; None for anything else.

    Raises:
        ConfigError: The settings are written in another form.
    """
    if isinstance(spec, PolicySpec):
        return None
    path, separator, rest = written_out(spec).partition(f"{SUFFIX}:")
    if separator:
        return Path(path + SUFFIX), _parse_settings(rest, spec)
    return (Path(path), {}) if path.endswith(SUFFIX) else None


def rule_behind(spec: str | PolicySpec) -> str | PolicySpec:
    """The rule to hand back to where none is named: the one whose knobs a policy file turns, else `mpc`.

    It is written out, so that it does not need the file, with the forecaster of the package in place of the file's.

    Args:
        spec: Of the policy, as for `make_policy`.

    Raises:
        ConfigError: The settings are written in another form.
        PolicyFileError: The policy file is damaged.
    """
    if (file := policy_file(spec)) is None:
        return DEFAULT_RULE
    path, replaced = file
    manifest = load_policy_file(path).manifest
    settings = {**manifest.settings, "miss_multiplier": manifest.dial_default, **replaced}
    return PolicySpec(kind=manifest.base_rule, settings=settings, name=f"rule of {path.stem}")


def plain_spec(spec: str | PolicySpec) -> JsonValue:
    """As journals and run headers hold it, which `make_policy` takes again once it is parsed."""
    return spec if isinstance(spec, str) else spec.model_dump(mode="json")


def written_out(spec: str) -> str:
    """The same policy with the path of its file in place of the word for the package's own."""
    text = spec.strip()
    word, separator, rest = text.partition(":")
    return f"{SHIPPED}{separator}{rest}" if word == GENERALIST else text


def settings_model(kind: str) -> type[BaseModel]:
    """Settings model of a kind or of a class of your own, for tuners and documentation.

    Raises:
        ConfigError: Nothing of that name, or a class without such a model.
    """
    model: Any = getattr(_policy_class(kind), "Settings", None)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise ConfigError(mismatch("policy", "a class whose `Settings` is a pydantic model", kind))
    return model


def _policy_class(kind: str) -> Any:
    return load_object(kind, "policy") if ":" in kind else resolve_kind(kind, POLICIES | PLACING)


def _rule(spec: PolicySpec, setting: Setting, source: str) -> Policy:
    if ":" in spec.kind and not spec.settings:
        return _checked(_policy_class(spec.kind)(setting), spec.kind)
    settings = parse_config(spec.settings, settings_model(spec.kind), source=source)
    made: Any = _policy_class(spec.kind)(setting, settings, name=spec.name or spec.kind)
    return _checked(made, spec.kind)


def _parse_settings(text: str, spec: str) -> dict[str, JsonValue]:
    settings: dict[str, JsonValue] = {}
    for part in filter(None, text.split(",")):
        name, separator, value = part.partition("=")
        if not separator or not name.strip() or not value.strip():
            raise ConfigError(mismatch("policy", "settings written name=value,name=value", spec))
        settings[name.strip()] = _number_or_text(value.strip())
    return settings


def _number_or_text(value: str) -> JsonValue:
    if value in ("true", "false"):
        return value == "true"
    if re.fullmatch(r"[-+]?\d+", value):
        return int(value)
    if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value):
        return float(value)
    return value


def _checked(made: Any, reference: str) -> Policy:
    if not isinstance(made, Policy):
        missing = [name for name in ("name", "reset", "decide", "raw_output") if not hasattr(made, name)]
        raise ConfigError(
            mismatch("policy", f"a class with name, reset, decide and raw_output (lacks {missing})", reference)
        )
    return made
