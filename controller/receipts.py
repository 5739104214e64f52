"""Receipts: what a decision was made for, what the policy wanted, what the guard took off and by which limit.

Two ideas are needed to read it. A *receipt* is written right after its decision, so a kill loses none; what the
decision is expected to lead to takes a world model some time, and follows as a *prediction* that names its tick. And
both are read back by name alone: whoever reads a journal needs neither catalog nor policy.

Alternatives and predictions are made in `controller.alternatives`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

import numpy as np
from pydantic import Field, JsonValue

from controller.arrays import I64, ON_DEMAND, ObservationArrays, PlanArrays
from controller.compile import Setting
from controller.config import StrictModel
from controller.loop import Decision, DecisionLoop
from controller.plan import Reason, replicas_of
from controller.ports import Explaining

RECEIPT: Final = "receipt"
PREDICTION: Final = "prediction"

MOST_LIMITED: Final = 24
"""Numbers that a limit changed and that a receipt names, the replicas first; further ones are only counted."""

_BY_CLASS = ("overflow_after_s", "overflow_fraction", "hedge_after_s", "shed_limit")
_BY_OPTION = ("batch_size", "batch_wait_s")


class Limit(StrictModel):
    """A limit of the guard by its name in the scenario, and its value where it has one."""

    name: str
    value: float | None = None


class Limited(StrictModel):
    """One number of a plan that the guard changed."""

    lever: str = Field(description="`replicas`, or the field of the plan")
    where: str = Field(description="`variant@pool`, or a request class")
    proposed: float | None = Field(description="none: no finite number, likewise below")
    applied: float | None
    limits: tuple[Limit, ...]


class Receipt(StrictModel):
    """Why one decision came out as it did."""

    tick: int = Field(ge=0, description="of the journal, from 0")
    driver: Literal["policy", "rule"]
    forecast: dict[str, float | None] = Field(description="by name, with units; what the policy's plan was made for")
    proposed: dict[str, int] | None = Field(description="replicas by option before the guard; none: not kept")
    limited: tuple[Limited, ...] = ()
    num_limited: int = Field(default=0, ge=0, description="also those beyond the ones named")


def receipt_of(
    setting: Setting, observation: ObservationArrays, decision: Decision, tick: int, loop: DecisionLoop | None = None
) -> Receipt:
    """The receipt of env 0's decision.

    Args:
        setting: What is decided for.
        observation: What was seen.
        decision: What was decided, with its proposal.
        tick: Of the journal.
        loop: What decided, to be asked for its forecast; None: nobody is.
    """
    plan, proposed = decision.plan, decision.proposed
    forecast = {"need_rps": _number(plan.need_rps[0])}
    if loop is not None and isinstance(loop.policy, Explaining):
        forecast |= {name: _number(value) for name, value in loop.policy.explain(observation).items()}
    limited = [] if proposed is None else list(limits_between(setting, observation, proposed, plan))
    return Receipt(
        tick=tick,
        driver="rule" if plan.reasons[0] & Reason.FALLBACK_RULE else "policy",
        forecast=forecast,
        proposed=None if proposed is None else replicas_of(proposed, 0, setting.variant_names, setting.pool_names),
        limited=tuple(limited[:MOST_LIMITED]),
        num_limited=len(limited),
    )


def limits_between(
    setting: Setting, observation: ObservationArrays, proposed: PlanArrays, applied: PlanArrays
) -> Iterator[Limited]:
    """Every number of env 0's plan that the guard changed, replicas first, with the limits that explain the change.

    A limit this function does not know is named by the reason that the guard gave.
    """
    new = Reason(int(applied.reasons[0]) & ~int(proposed.reasons[0]))
    variants, pools = setting.variant_names, setting.pool_names
    changed = proposed.replicas[0] != applied.replicas[0]
    for p in np.flatnonzero(changed.any(axis=0)).tolist():
        causes = tuple(_causes(setting, observation, proposed.replicas[0], applied.replicas[0], p, new))
        for v in np.flatnonzero(changed[:, p]).tolist():
            before, after = proposed.replicas[0, v, p], applied.replicas[0, v, p]
            where = f"{variants[v]}@{pools[p]}"
            yield Limited(
                lever="replicas", where=where, proposed=_number(before), applied=_number(after), limits=causes
            )
    rest = tuple(Limit(name=one) for one in _names(new & ~_KNOWN)) or tuple(Limit(name=one) for one in _names(new))
    for lever in (*_BY_CLASS, *_BY_OPTION):
        before, after = getattr(proposed, lever)[0], getattr(applied, lever)[0]
        for at in np.argwhere(~((before == after) | ((before != before) & (after != after)))):
            where = setting.class_names[at[0]] if lever in _BY_CLASS else f"{variants[at[0]]}@{pools[at[1]]}"
            values = _number(before[tuple(at)]), _number(after[tuple(at)])
            yield Limited(lever=lever, where=where, proposed=values[0], applied=values[1], limits=rest)


_KNOWN = Reason.POOL_MAX | Reason.RAMP | Reason.BUDGET | Reason.POOL_MIN | Reason.ON_DEMAND_FLOOR


def _causes(
    setting: Setting, observation: ObservationArrays, proposed: I64, applied: I64, p: int, new: Reason
) -> Iterator[Limit]:
    """Limits that explain how a pool came from the proposed (V, P) to the applied one; the guard's words for others."""
    limits, catalog = setting.limits, setting.catalog
    have = int((observation.ready[0, :, p] + observation.starting[0, :, p]).sum())
    wanted, got = int(proposed[:, p].clip(0).sum()), int(applied[:, p].sum())
    most, ramped = int(limits.pool_max[p]), have + int(limits.max_launch[p])
    found: list[Limit] = []
    if new & Reason.INVALID_PLAN and (proposed[:, p] < 0).any():
        found.append(Limit(name="invalid_plan"))
    if wanted > min(most, ramped):
        is_quota = most == int(catalog.quota[p])
        if most <= ramped:
            found.append(Limit(name="quota" if is_quota else "pools.max", value=most))
        if ramped <= most:
            found.append(Limit(name="max_launch_per_tick", value=float(limits.max_launch[p])))
    if new & Reason.BUDGET and got < min(wanted, most, ramped):
        found.append(Limit(name="budget_usd_per_hour", value=_number(limits.budget_usd_per_hour)))
    if got > wanted:
        if new & Reason.POOL_MIN and wanted < limits.pool_min[p]:
            found.append(Limit(name="pools.min", value=float(limits.pool_min[p])))
        if new & Reason.ON_DEMAND_FLOOR and catalog.market[p] == ON_DEMAND:
            found.append(Limit(name="on_demand_floor", value=float(limits.on_demand_floor)))
        if new & Reason.RAMP and wanted < have - int(limits.max_drain[p]):
            found.append(Limit(name="max_drain_per_tick", value=float(limits.max_drain[p])))
    yield from found
    if not found:
        yield from (Limit(name=name) for name in _names(new))


def _names(reasons: Reason) -> list[str]:
    return [reason.name.lower() for reason in Reason if reason & reasons and reason.name is not None]


def _number(value: Any) -> float | None:
    """Six digits: a receipt is for reading; JSON has no words for infinity and NaN."""
    number = float(value)
    return float(f"{number:.6g}") if np.isfinite(number) else None


def fields_of(record: StrictModel) -> dict[str, JsonValue]:
    """A receipt or prediction as the fields of its event."""
    fields: dict[str, JsonValue] = record.model_dump(mode="json", exclude_defaults=True)
    return fields
