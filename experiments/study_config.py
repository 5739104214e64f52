"""What is tuned, on which days, how: the whole configuration of a study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue, model_validator

from controller.config import StrictModel, parse_config
from controller.errors import UsageError, mismatch
from controller.policies.levers import FixedChoice, added_levers
from controller.policies.registry import PolicySpec, policy_file, read_spec, settings_model
from experiments.base_rule import FIXED
from experiments.clairvoyant import CLAIRVOYANT
from experiments.objective import ObjectiveConfig
from experiments.suite import split_of_day, suite_trace
from experiments.tuning import Range, ranges_of
from experiments.world_ref import WorldRef

LEFT_ALONE = {
    "mpc": FIXED,
    CLAIRVOYANT: (*FIXED, "quantile"),
    **dict.fromkeys(("ray_serve", "hpa", "spothedge"), ("patient_headroom",)),
}
"""Settings of a kind that are not searched unless that is asked for; for `mpc` the reason stands beside `FIXED`.

Autoscalers size groups of replicas, not classes, so a headroom by class changes nothing of theirs.
"""


class StudyConfig(StrictModel):
    """What is tuned on which days; two studies of equal configuration have equal trials."""

    kind: str = Field(description="policy kind, or module:Class")
    name: str = Field(min_length=1, pattern=r"^[\w.+-]+$", description="name of the tuned policy and of its files")
    start: dict[str, JsonValue] = Field(description="complete settings; the first trial, and the reference")
    more_starts: tuple[dict[str, JsonValue], ...] = Field(
        default=(), description="complete settings tried next; of these the searched ones count"
    )
    fixed: tuple[str, ...] = Field(default=(), description="settings left as they start")
    worlds: tuple[WorldRef, ...] = Field(min_length=1, description="in the order in which a trial meets them")
    references_usd: tuple[float, ...] | None = Field(
        default=None, description="cost of each world that counts as 1; default: what the start costs"
    )
    objective: ObjectiveConfig = ObjectiveConfig()
    seed: int = Field(default=0, ge=0, description="of the proposals")
    batch: int = Field(
        default=2, ge=1, le=1024, description="trials proposed together, the fewer the better; more workers would idle"
    )
    give_up_above: float | None = Field(
        default=0.05, ge=0, description="a trial is given up where it is this share worse than the best on its worlds"
    )

    @model_validator(mode="after")
    def _fits(self) -> StudyConfig:
        if len(set(self.worlds)) != len(self.worlds):
            raise ValueError("worlds: expected different ones")
        if self.references_usd is not None and (
            len(self.references_usd) != len(self.worlds) or min(self.references_usd) <= 0
        ):
            raise ValueError(f"references_usd: expected {len(self.worlds)} numbers > 0, got {self.references_usd}")
        return self

    @property
    def ranges(self) -> tuple[Range, ...]:
        """What is searched."""
        return ranges_of(settings_model(self.kind), self.fixed)


def study_config(
    policy: str,
    worlds: Sequence[WorldRef],
    *,
    name: str | None = None,
    starts: Sequence[str | Path] = (),
    borrowed: Sequence[str | Path] = (),
    fixed: Sequence[str] | None = None,
    is_as_published: bool = False,
    **others: Any,
) -> StudyConfig:
    """The configuration for a policy given as on a command line.

    Args:
        policy: Kind with or without settings, YAML file, or `module:Class`.
        worlds: Days to judge on.
        name: Of the result; default: the kind, or the class.
        starts: YAML files of the same kind, tried after the policy's own settings.
        borrowed: YAML files of any kind, tried after those: of each the settings that this kind has too, in place of
            those of the last of `starts`, or of the policy's own.
        fixed: Settings left as they start; None: `LEFT_ALONE` of the kind.
        is_as_published: So are those that were added to what was published.
        others: Fields of `StudyConfig`.

    Raises:
        ConfigError: The policy or its settings are wrong.
        UsageError: A policy file, another kind among the starts, nothing to search, or a test day of the suite.
    """
    for world in worlds:
        if world.suite_trace is not None and split_of_day(world.suite_trace, world.day) == "test":
            splits = suite_trace(world.suite_trace).splits
            wanted = f"training or validation days of {world.suite_trace}, {splits.train} and {splits.validation}"
            raise UsageError(mismatch("days", wanted, world.day))
    if policy_file(policy) is not None:
        raise UsageError(
            mismatch("--policy", "a kind, a YAML file or module:Class, whose settings can be tuned", policy)
        )
    spec = read_spec(policy)
    model = settings_model(spec.kind)
    fixed = LEFT_ALONE.get(spec.kind, ()) if fixed is None else tuple(fixed)
    if is_as_published:
        if not issubclass(model, FixedChoice):
            raise UsageError(mismatch("--as-published", "a published scheme, such as mark", spec.kind))
        fixed = tuple(dict.fromkeys((*added_levers(model), *fixed)))
    if not ranges_of(model, fixed):
        left = f" beside {', '.join(fixed)}" if fixed else ""
        raise UsageError(mismatch("--policy", f"a policy with settings that have ranges{left}", policy))
    more = []
    for path in starts:
        read = read_spec(str(path))
        if read.kind != spec.kind:
            raise UsageError(mismatch(f"--start {path}", f"settings of kind {spec.kind}", read.kind))
        more.append(_complete(read, f"--start {path}"))
    own = _complete(spec, "--policy")
    base = more[-1] if more else own
    more += [_borrowing(spec.kind, base, path) for path in borrowed]
    fields = {
        "kind": spec.kind,
        "name": name or spec.kind.rpartition(":")[2],
        "start": own,
        "more_starts": more,
        "fixed": list(fixed),
        "worlds": [world.model_dump(mode="json") for world in worlds],
        **others,
    }
    return parse_config(fields, StudyConfig, "tune")


def _borrowing(kind: str, base: dict[str, JsonValue], path: str | Path) -> dict[str, JsonValue]:
    """Settings with those replaced that another policy's file has by the same name."""
    source = f"--borrow {path}"
    found = read_spec(str(path))
    _complete(found, source)  # only to find out what is wrong with them: its defaults were not found by anyone
    shared = {name: value for name, value in found.settings.items() if name in base}
    if not shared:
        raise UsageError(mismatch(source, f"some of {', '.join(base)}, which {kind} has too", list(found.settings)))
    return _complete(PolicySpec(kind=kind, settings={**base, **shared}), source)


def _complete(spec: PolicySpec, source: str) -> dict[str, JsonValue]:
    """Settings with every default filled in."""
    complete: dict[str, JsonValue] = parse_config(spec.settings, settings_model(spec.kind), source).model_dump(
        mode="json"
    )
    return complete
