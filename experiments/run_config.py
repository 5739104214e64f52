"""The file of a run: which policies on which scenarios, days and seeds, and how a policy for them is trained.

Paths are taken from the directory the command is started in. The days default to the scenario's test days.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from controller.catalog import Name
from controller.config import StrictModel, parse_config, read_yaml
from controller.errors import ConfigError, mismatch
from controller.policies.registry import DEFAULT_RULE, YAML_SUFFIXES, PolicySpec, read_spec
from controller.replay import FILE_SUFFIXES
from controller.scenario import DayRange
from controller.tiers.audit_config import AuditConfig
from controller.trust.config import TrustConfig
from envs.world import WorldChoice
from experiments.train_config import TrainConfig

_BASE_FROM = "base_from"

PolicyChoice = str | PolicySpec
"""What `make_policy` takes: a rule with or without settings, a file, a class, or a mapping with `kind:`."""


class RunConfig(StrictModel):
    """One run of `provisor evaluate`, and the settings shared with training and serving."""

    name: Name = "run"
    scenario: str = Field(default="default", description="name of a shipped scenario or path of one")
    more_scenarios: tuple[str, ...] = Field(default=(), description="evaluated too")
    trace: str | None = Field(default=None, description="FILE or FILE:ROW in place of the scenario's trace")
    scale: float | None = Field(default=None, gt=0, description="multiplies the trace's rate")
    spot: str | None = Field(default=None, description="npz in place of the scenario's market")
    spot_days: DayRange | None = None
    days: DayRange | None = None
    policies: tuple[PolicyChoice, ...] = ()
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0, 1, 2), min_length=1)
    out: str = Field(default="runs/evaluate", min_length=1)
    trust: TrustConfig = Field(default=TrustConfig(), description="when the named rule takes over from a live policy")
    audit: AuditConfig = Field(default=AuditConfig(), description="how the guarantees of live tiers are watched")
    train: TrainConfig = Field(default=TrainConfig(), description="how a policy is trained")

    @model_validator(mode="after")
    def _distinct(self) -> RunConfig:
        labels = policy_labels(self.policies)
        for what, values in (("policies", labels), ("seeds", self.seeds), ("scenarios", self.scenarios)):
            if len(set(values)) != len(values):
                raise ValueError(f"{what}: expected different ones, got {list(values)}")
        return self

    @property
    def scenarios(self) -> tuple[str, ...]:
        """All scenarios to evaluate on."""
        return (self.scenario, *self.more_scenarios)

    @property
    def choice(self) -> WorldChoice:
        """What replaces the scenarios' own trace and market."""
        return WorldChoice(trace=self.trace, days=self.days, scale=self.scale, spot=self.spot, spot_days=self.spot_days)


def load_run(path: str | Path) -> RunConfig:
    """Reads a run file.

    Raises:
        ConfigError: Naming every wrong field.
    """
    return parse_run(read_yaml(path), str(path))


def parse_run(value: Any, source: str) -> RunConfig:
    """A run from what its file holds; `train.base_from` names a file of the rule's settings that `base` goes over.

    Args:
        value: As YAML was read.
        source: For messages.

    Raises:
        ConfigError: Naming every wrong field.
    """
    return parse_config(_with_base(value, source), RunConfig, source)


def _with_base(value: Any, source: str) -> Any:
    train = value.get("train") if isinstance(value, dict) else None
    if not isinstance(train, dict) or _BASE_FROM not in train:
        return value
    where = f"{source}: train.{_BASE_FROM}"
    train, path, own = dict(train), train[_BASE_FROM], train.get("base") or {}
    del train[_BASE_FROM]
    if not isinstance(path, str) or not path.endswith(YAML_SUFFIXES):
        raise ConfigError(mismatch(where, "a YAML file with settings of mpc, such as tune writes", path))
    spec = read_spec(path)
    if spec.kind != DEFAULT_RULE:
        raise ConfigError(mismatch(f"{where}: kind in {path}", DEFAULT_RULE, spec.kind))
    if not isinstance(own, dict):
        raise ConfigError(mismatch(f"{source}: train.base", "a mapping", own))
    return {**value, "train": {**train, "base": {**spec.settings, **own}}}


def policy_labels(policies: Sequence[PolicyChoice]) -> list[str]:
    """Names of policies in tables: kind, name, or stem of the file; the whole path where stems are equal."""
    short = [_short(policy) for policy in policies]
    full = [policy if isinstance(policy, str) else one for policy, one in zip(policies, short, strict=True)]
    return [one if short.count(one) == 1 else other for one, other in zip(short, full, strict=True)]


def _short(policy: PolicyChoice) -> str:
    if isinstance(policy, PolicySpec):
        return policy.name or policy.kind
    return Path(policy).stem if policy.endswith(FILE_SUFFIXES) else policy
