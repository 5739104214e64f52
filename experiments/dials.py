"""Dials: the settings by which a policy is swept over attainment and accuracy, and the points of such a sweep.

The dial of attainment is a setting that the policy has anyway: the one that the table names for its kind, else one of
the usual names. A class of one's own has it where it takes `Settings` that have that name. Values are relative to the
policy's own (a factor, or a step where the setting may be 0); those outside the range that the setting declares are
left out, and the own value is always among them.

The dial of accuracy is no setting of a policy: it is what the policy is asked for, the floors of the classes
(`FLOOR_OFFSET`), by which every policy that mixes variants can be had a little more accurate or less. Margins above a
floor are no such dial: policies give back before the day ends what they hold more than the floor, so that a large
margin costs much and changes the day's accuracy little.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import annotated_types
from pydantic import Field, JsonValue, model_validator

from controller.config import StrictModel, load_object
from controller.errors import ConfigError, mismatch
from controller.policies.policy_file import load_policy_file
from controller.policies.registry import PolicySpec, policy_file, read_spec, settings_model
from experiments.clairvoyant import CLAIRVOYANT

LEARNED_KIND = "mpc"
"""A policy file turns the knobs of this rule and has its dials."""


class Continuation(StrictModel):
    """Another setting that takes over where a dial ends."""

    setting: str
    factors: tuple[float, ...] = Field(min_length=1, description="of the policy's own value, in the order of the sweep")


class Dial(StrictModel):
    """One setting, and what it is swept over beside its own value."""

    setting: str = Field(description="of the policy's kind")
    factors: tuple[float, ...] = Field(default=(), description="of the policy's own value")
    steps: tuple[float, ...] = Field(default=(), description="added to the policy's own value")
    values: tuple[float, ...] = Field(default=(), description="in place of the policy's own value")
    is_inverse: bool = Field(default=False, description="a larger value attains less")
    then: Continuation | None = Field(default=None, description="goes on from the dial's largest value")

    def swept(self, own: float, low: float, high: float) -> list[float]:
        """All values within [low, high], rising, the own among them."""
        values = {own, *(own * f for f in self.factors), *(own + s for s in self.steps), *self.values}
        return sorted(value for value in values if value == own or low <= value <= high)


class Dials(StrictModel):
    """The dials of one policy; none: it is what it is."""

    attainment: Dial | None = None
    accuracy: Dial | None = None

    @model_validator(mode="after")
    def _two_settings(self) -> Dials:
        if self.attainment and self.accuracy and self.attainment.setting == self.accuracy.setting:
            raise ValueError(mismatch("accuracy.setting", "another setting than attainment's", self.accuracy.setting))
        return self


_CAPACITY = (0.8, 0.9, 1.15, 1.35, 1.6)
_LOAD = (0.62, 0.74, 0.87, 1.1, 1.25)  # the inverse: a smaller load per replica is more capacity

# The value of a miss ends where every request that would be late overflows; capacity alone does more.
_MPC = Dial(
    setting="miss_multiplier",
    factors=(0.1, 0.3, 3.0, 10.0),
    then=Continuation(setting="headroom", factors=(1.3, 1.8)),
)

ATTAINMENT: dict[str, Dial] = {
    "mpc": _MPC,
    CLAIRVOYANT: _MPC,
    "util_aware": Dial(setting="target_utilisation", factors=_LOAD, is_inverse=True),
    "infaas": Dial(setting="load_threshold", factors=_LOAD, is_inverse=True),
    "ribbon": Dial(setting="capacity", factors=_CAPACITY),
    "hpa": Dial(setting="target_utilisation", factors=_LOAD, is_inverse=True),
    "redundant": Dial(setting="miss_value", factors=(0.03, 0.1, 0.3, 3.0, 10.0, 30.0)),
    "ray_serve": Dial(setting="target_ongoing_requests", factors=_LOAD, is_inverse=True),
}
"""Kind to the dial of attainment; a kind that is not listed has `DEFAULT_ATTAINMENT`, where it has such a setting."""

DEFAULT_ATTAINMENT = Dial(setting="headroom", factors=_CAPACITY)

FLOOR_OFFSET = "floor_offset"
"""Name of the dial that is added to the accuracy floors (means over a day) that a policy is asked to keep."""

ACCURACY = Dial(setting=FLOOR_OFFSET, steps=(-0.01, 0.005, 0.015, 0.03, 0.048, 0.08))
"""Of every kind that aims at a floor by `AIMS`, unless it says by `ADAPTIVE` that it keeps to one variant.

Reaches what a scheme of one accurate variant delivers.
"""

AIMS = "accuracy_margin"

ADAPTIVE = "adaptive_variant"


@dataclass(frozen=True)
class Point:
    """One point of a sweep: which settings are replaced; none at the policy's own point."""

    attainment: int  # index of the attainment dial's value
    accuracy: int
    settings: dict[str, float]


@dataclass(frozen=True)
class Points:
    """A grid of points, attainment first."""

    shape: tuple[int, int]
    own: tuple[int, int]
    points: tuple[Point, ...]
    is_inverse: bool = False  # a larger value of the attainment dial attains less


def kind_of(policy: str | PolicySpec) -> str:
    """Kind whose settings a policy has, a class of one's own by its reference.

    Raises:
        ConfigError: The text has no form that `make_policy` takes.
    """
    if policy_file(policy) is not None:
        return LEARNED_KIND
    return policy.kind if isinstance(policy, PolicySpec) else read_spec(policy).kind


def default_dials(policy: str | PolicySpec) -> Dials:
    """The dials of a policy by the table.

    Raises:
        ConfigError: There is no such kind.
        PolicyFileError: The policy file is damaged.
    """
    found = _kind_and_settings(policy)
    if found is None:
        return Dials()
    kind, settings = found
    attainment = ATTAINMENT.get(kind, DEFAULT_ATTAINMENT)
    has_accuracy = AIMS in settings and settings.get(ADAPTIVE) is not False
    return Dials(
        attainment=attainment if attainment.setting in settings else None, accuracy=ACCURACY if has_accuracy else None
    )


def points_of(policy: str | PolicySpec, dials: Dials | None = None) -> Points:
    """The points a policy is run at.

    Args:
        policy: What `make_policy` takes; a class that takes no settings has no dials and one point.
        dials: In place of the table's.

    Raises:
        ConfigError: A dial names no number among the policy's settings, or the policy's own settings are wrong.
        PolicyFileError: The policy file is damaged.
    """
    found = _kind_and_settings(policy)
    if found is None:
        if dials is not None and dials != Dials():
            raise ConfigError(mismatch("dials", "none for a class that takes no settings", policy))
        return Points((1, 1), (0, 0), (Point(0, 0, {}),))
    kind, settings = found
    dials = default_dials(policy) if dials is None else dials
    attainment, own_attainment = _swept(kind, settings, dials.attainment)
    accuracy, own_accuracy = _swept(kind, settings, dials.accuracy)
    points = [Point(i, j, {**one, **other}) for i, one in enumerate(attainment) for j, other in enumerate(accuracy)]
    is_inverse = dials.attainment is not None and dials.attainment.is_inverse
    return Points((len(attainment), len(accuracy)), (own_attainment, own_accuracy), tuple(points), is_inverse)


def with_settings(policy: str | PolicySpec, settings: dict[str, float]) -> str | PolicySpec:
    """The policy with some settings replaced, as `make_policy` takes it; what it is asked for is none of them."""
    settings = {name: value for name, value in settings.items() if name != FLOOR_OFFSET}
    if not settings:
        return policy
    if (file := policy_file(policy)) is not None:
        path, replaced = file
        values = {**replaced, **settings}
        return f"{path}:" + ",".join(f"{name}={value!r}" for name, value in values.items())
    rule = policy if isinstance(policy, PolicySpec) else read_spec(policy)
    return rule.model_copy(update={"settings": {**rule.settings, **settings}})


def _kind_and_settings(policy: str | PolicySpec) -> tuple[str, dict[str, JsonValue]] | None:
    """Kind and settings, defaults included; None for a class of one's own that takes no settings."""
    kind = kind_of(policy)
    if (file := policy_file(policy)) is not None:
        path, replaced = file
        manifest = load_policy_file(path).manifest
        given: dict[str, JsonValue] = {**manifest.settings, "miss_multiplier": manifest.dial_default, **replaced}
    else:
        given = (policy if isinstance(policy, PolicySpec) else read_spec(policy)).settings
    if ":" in kind and not _takes_settings(kind):
        return None
    defaults = {name: field.default for name, field in settings_model(kind).model_fields.items()}
    return kind, {**defaults, **given}


def _takes_settings(reference: str) -> bool:
    """Whether a class of one's own can be made with settings, as the kinds are; an heir of theirs need not."""
    cls = load_object(reference, "policy")
    return hasattr(cls, "Settings") and {"settings", "name"} <= inspect.signature(cls).parameters.keys()


def _swept(kind: str, settings: dict[str, JsonValue], dial: Dial | None) -> tuple[list[dict[str, float]], int]:
    """Settings to replace at each value of a dial, nothing at the own value, and where that is."""
    if dial is None:
        return [{}], 0
    own, low, high = _own_and_bounds(kind, settings, dial.setting)
    values = dial.swept(own, low, high)
    points: list[dict[str, float]] = [{} if value == own else {dial.setting: value} for value in values]
    if dial.then is not None:
        also, low, high = _own_and_bounds(kind, settings, dial.then.setting)
        wanted = [also * factor for factor in dial.then.factors]
        points += [{**points[-1], dial.then.setting: value} for value in wanted if low <= value <= high]
    return points, values.index(own)


def _own_and_bounds(kind: str, settings: dict[str, JsonValue], name: str) -> tuple[float, float, float]:
    if name == FLOOR_OFFSET:
        return 0.0, -1.0, 1.0
    field, own = settings_model(kind).model_fields.get(name), settings.get(name)
    if field is None or isinstance(own, bool) or not isinstance(own, int | float):
        raise ConfigError(mismatch("dials: setting", f"a number among the settings of '{kind}'", name))
    return float(own), *_bounds(field.metadata)


def _bounds(metadata: Sequence[object]) -> tuple[float, float]:
    """Declared range; a bound that is itself excluded is kept away from by a thousandth."""
    low, high = float("-inf"), float("inf")
    for one in metadata:
        if isinstance(one, annotated_types.Ge):
            low = float(one.ge)  # type: ignore[arg-type] # bounds of numbers are numbers
        elif isinstance(one, annotated_types.Gt):
            low = float(one.gt) + 1e-3  # type: ignore[arg-type]  # bounds of settings are numbers
        elif isinstance(one, annotated_types.Le):
            high = float(one.le)  # type: ignore[arg-type]  # bounds of settings are numbers
        elif isinstance(one, annotated_types.Lt):
            high = float(one.lt) - 1e-3  # type: ignore[arg-type]  # bounds of settings are numbers
    return low, high
