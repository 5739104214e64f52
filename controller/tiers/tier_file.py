"""Tiers as one JSON file: what a service promises, by which rules, and what they were proved on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from controller.config import StrictModel, parse_config
from controller.errors import ConfigError, mismatch
from controller.tiers.calibration import Calibration
from controller.tiers.generate import Objective, Tier, Tolerance
from controller.tiers.guarantee import Bound
from controller.tiers.rules import Form, Rule

Amount = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class TierEntry(StrictModel):
    """One contract, its rule and the proof."""

    tolerance: Amount
    is_relative: bool = False
    objective: Objective
    form: Form
    first: str = Field(min_length=1, description="version that answers first")
    second: str | None = Field(default=None, description="version that is asked where the first is not sure")
    threshold: float = Field(default=0.0, ge=0.0, le=1.0)
    degradation: float = Field(description="mean on the requests that the rule was proved on")
    bound: float = Field(description="not exceeded at the confidence")
    resamples: int = Field(ge=0)
    latency_s: Amount
    cost_usd: Amount

    @model_validator(mode="after")
    def _second_where_there_are_two(self) -> TierEntry:
        if (self.second is None) != (self.form is Form.SINGLE):
            raise ValueError(mismatch("second", "a version for a cascade, none for a single", self.second))
        return self


class TierFile(StrictModel):
    """All tiers of a service."""

    schema_version: Literal[1] = 1
    versions: tuple[str, ...] = Field(min_length=1)
    best: str
    confidence: float = Field(ge=0.5, lt=1.0)
    requests: int = Field(ge=4, description="of the calibration")
    calibration_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    source: str = Field(min_length=1)
    tiers: tuple[TierEntry, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_known(self) -> TierFile:
        for at, tier in enumerate(self.tiers):
            for name in (tier.first, tier.second):
                if name is not None and name not in self.versions:
                    raise ValueError(mismatch(f"tiers[{at}]", f"versions of {list(self.versions)}", name))
        if self.best not in self.versions:
            raise ValueError(mismatch("best", f"one of {list(self.versions)}", self.best))
        return self

    def named(self) -> list[Tier]:
        """The tiers, with versions as columns in the order of `versions`."""
        found = []
        for one in self.tiers:
            first = self.versions.index(one.first)
            second = first if one.second is None else self.versions.index(one.second)
            found.append(
                Tier(
                    Tolerance(one.tolerance, one.is_relative),
                    one.objective,
                    Rule(one.form, first, second, one.threshold),
                    Bound(one.degradation, one.bound, one.resamples),
                    one.latency_s,
                    one.cost_usd,
                    self.confidence,
                )
            )
        return found


def tier_file(table: Calibration, tiers: Sequence[Tier]) -> TierFile:
    """The file of tiers.

    Args:
        table: That they were generated from.
        tiers: At least one, all of one confidence.
    """
    names = table.versions
    entries = [
        TierEntry(
            tolerance=one.tolerance.value,
            is_relative=one.tolerance.is_relative,
            objective=one.objective,
            form=one.rule.form,
            first=names[one.rule.first],
            second=None if one.rule.form is Form.SINGLE else names[one.rule.second],
            threshold=min(1.0, one.rule.threshold),
            degradation=one.bound.mean,
            bound=one.bound.upper,
            resamples=one.bound.resamples,
            latency_s=one.latency_s,
            cost_usd=one.cost_usd,
        )
        for one in tiers
    ]
    return TierFile(
        versions=names,
        best=names[table.best],
        confidence=tiers[0].confidence,
        requests=len(table),
        calibration_sha256=table.digest(),
        source=table.source,
        tiers=tuple(entries),
    )


def save_tiers(found: TierFile, path: Path) -> None:
    """Writes the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")


def load_tiers(path: str | Path) -> TierFile:
    """Reads the file.

    Raises:
        ConfigError: It is unreadable or wrong.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: expected tiers as JSON, got {type(error).__name__}: {error}") from error
    return parse_config(value, TierFile, str(path))
