"""What a policy sees: one float32 vector of fixed length, whatever the catalog and workload.

Numbers are ratios (to the rate now, to the need, to what a class was promised), so a policy trained on one catalog
reads another. All scales are fixed here and in `controller.kernels.encode`, the only encoder; every number is clipped
to +-5. There is no clock.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller.arrays import F64, ObservationArrays, PlanArrays
from controller.compile import Setting
from controller.forecast import FEATURES
from controller.rule_arrays import KNOB_RANGE, KNOBS, ForecastArrays, MpcArrays, MpcState

NAME = "serving-2"
"""Name of this layout; a change of any field, order or scale gets a new one."""

CLIP = 5.0


@dataclass(frozen=True)
class Field:
    """One group of numbers, each float32.

    Attributes:
        name: Short name.
        size: How many numbers.
        meaning: What they are and how they are scaled; D is the rate now in requests/s.
        unit: Of the numbers before they are scaled as `meaning` says; all are free of dimensions.
        low: Least value.
        high: Largest value.
    """

    name: str
    size: int
    meaning: str
    unit: str
    low: float = -CLIP
    high: float = CLIP

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the group in one env's observation."""
        return (self.size,)


FIELDS = (
    Field("arrivals", len(FEATURES), "the forecaster's features: " + "; ".join(FEATURES), "log ratio and ratio"),
    Field("level", 1, "log D / mean rate of the scenario", "log ratio"),
    Field(
        "growth",
        5,
        "forecast log growth over the horizon at 50, 80, 95, 99 % and the rule's own quantile, times 2",
        "log ratio",
    ),
    Field("misses", 2, "missed / arrived in this window, times 5: worst class, mean by arrivals", "share", low=0.0),
    Field(
        "day_misses",
        2,
        "missed / (arrived x allowed share) since the day began, minus 1, halved: worst class, mean",
        "ratio",
        low=-0.5,
    ),
    Field("waiting", 2, "queued / (rate x SLO): worst class, mean", "ratio", low=0.0),
    Field("shed", 1, "shed / arrived in this window, times 5", "share", low=0.0),
    Field("slack", 2, "1 - fastest service / SLO: tightest class, mean by share", "share", high=1.0),
    Field(
        "accuracy_needed",
        2,
        "(mean accuracy needed from now on - floor) / span of accuracies, times 2: worst class, mean",
        "ratio",
    ),
    Field("accuracy_debt", 2, "(floor - day's mean accuracy) / span, times 5: worst class, mean", "ratio"),
    Field("accuracy_served", 1, "(this window's mean accuracy - floor) / span, mean by answers", "ratio"),
    Field("floor_height", 1, "(floor - least) / span of accuracies, mean by share", "ratio"),
    Field("ready", 3, "log capacity ready / D: all machines, on demand, spot", "log ratio"),
    Field("starting", 1, "capacity starting / D", "ratio", low=0.0),
    Field("doomed", 1, "capacity under a preemption notice / D", "ratio", low=0.0),
    Field("draining", 1, "capacity draining / D", "ratio", low=0.0),
    Field("planned", 1, "log capacity of the last plan / D", "log ratio"),
    Field("busy", 1, "busy share of machine credits in this window, times 2, minus 1", "share", low=-1.0),
    Field(
        "serverless",
        4,
        "invoked / arrived, times 5; cold starts / invoked; throttled / arrived, times 5; warm capacity / D",
        "share and ratio",
        low=0.0,
    ),
    Field("available", 2, "share of pools available, minus 1: spot, on demand", "share", low=-1.0, high=0.0),
    Field("disturbed", 2, "preempted and refused instances in this window / machines, times 5", "ratio", low=0.0),
    Field(
        "prices",
        3,
        "log cheapest cost per request: spot / on demand, serverless / on demand; most / least accurate, halved",
        "log ratio",
    ),
    Field("delays", 2, "shortest launch + load, shortest swap / forecast horizon", "ratio", low=0.0),
    Field(
        "spend",
        2,
        "log spend of this window / cost of D on demand at the floors; share of it on serverless",
        "log ratio and share",
    ),
    Field(
        "accuracy_price",
        2,
        "log price of accuracy at the floors now / usually; accuracy owed at its usual price / spend of an hour of D "
        "on demand at the floors",
        "log ratio and ratio",
    ),
    Field(
        "proposal",
        2,
        "the untouched rule: log capacity it wants / ready; (accuracy it aims at - floor) / span, times 2",
        "log ratio and ratio",
    ),
    Field("held", 1, "machines held against scale-in / machines", "ratio", low=0.0),
    Field("knobs", len(KNOBS), "last knobs: " + ", ".join(KNOBS), "knob", *KNOB_RANGE),
    Field("dial", 1, "log value of a miss relative to the rule's own", "log ratio"),
)

OBSERVATION_SIZE = sum(field.size for field in FIELDS)


def field_start(name: str) -> int:
    """Where a group of numbers begins."""
    names = [field.name for field in FIELDS]
    return sum(field.size for field in FIELDS[: names.index(name)])


def input_index(name: str) -> int:
    """Where a number stands: that of a field, or with /I its I-th, counted from 0.

    Raises:
        ValueError: There is no such number.
    """
    field, _, at = name.partition("/")
    sizes = {one.name: one.size for one in FIELDS}
    if field not in sizes or (at and not (at.isdigit() and int(at) < sizes[field])):
        known = ", ".join(name if size == 1 else f"{name}/0..{size - 1}" for name, size in sizes.items())
        raise ValueError(f"input: expected one of {known}, got '{name}'")
    return field_start(field) + int(at or 0)


def observation_sha256() -> str:
    """Identity of the layout: names, sizes and meanings in order; units and ranges only describe it."""
    layout = [NAME, CLIP, [(field.name, field.size, field.meaning) for field in FIELDS]]
    return hashlib.sha256(json.dumps(layout).encode()).hexdigest()


def describe_observation() -> str:
    """The layout as a Markdown table."""
    lines = ["| at | shape | field | unit | range | meaning |", "|---|---|---|---|---|---|"]
    at = 0
    for field in FIELDS:
        shown = f"{field.low:g} to {field.high:g}"
        lines.append(f"| {at} | {field.shape} | {field.name} | {field.unit} | {shown} | {field.meaning} |")
        at += field.size
    return "\n".join(lines)


@dataclass(frozen=True)
class RuleView:
    """What the encoder reads of the rule around which a policy acts."""

    settings: MpcArrays
    forecast: ForecastArrays
    state: MpcState
    knobs: F64  # (N, K)
    dial: F64  # (N,)
    plan: PlanArrays  # the last plan; `empty_plan` before the first


def encode_observation(setting: Setting, rule: RuleView, observation: ObservationArrays) -> NDArray[np.float32]:
    """Encodes every env.

    Args:
        setting: What is decided for.
        rule: The rule, with its last knobs and plan.
        observation: Facts.

    Returns:
        (N, OBSERVATION_SIZE), finite, within +-`CLIP`.
    """
    from controller.kernels.encode import encode

    out = np.zeros((len(observation.tick), OBSERVATION_SIZE), np.float32)
    encode(
        setting.catalog,
        setting.workload,
        setting.control,
        rule.settings,
        rule.forecast,
        rule.knobs,
        rule.dial,
        rule.state,
        observation,
        rule.plan,
        out,
        0,
        len(out),
    )
    return out
