"""Levers that every rival scheme is offered besides its own settings; at their defaults a scheme is as published."""

from __future__ import annotations

from pydantic import BaseModel, Field

from controller.config import StrictModel


class FixedChoice(StrictModel):
    """What a fixed-variant scheme runs on."""

    variant: str | None = Field(
        default=None,
        description="variant of every class that may use it; default: per class the cheapest meeting its floor",
    )
    pool: str | None = Field(
        default=None, description="machine pool; default: on-demand pools of the variant, cheapest first"
    )
    spot_share: float = Field(
        default=0.0, ge=0.0, le=1.0, description="share of demand planned on spot pools, cheapest first"
    )


class Levers(FixedChoice):
    """What a tuner may turn to bring a scheme to its best, beyond what was published; ranges are those it searches.

    Spot is bought only where, over-provisioned, it is cheaper than the scheme's own machines. A pool that refused or
    was preempted takes no capacity until one replica, planned there to find out, is ready; what still stands in it
    counts.
    """

    over_provision: float = Field(
        default=1.0, ge=1.0, le=3.0, description="spot capacity per capacity wanted on spot, against preemption"
    )
    spot_spread: float = Field(
        default=0.0, ge=0.0, le=4.0, description="spot pools this much dearer than the cheapest share the load evenly"
    )
    on_demand_floor: float = Field(
        default=0.0, ge=0.0, le=1.0, description="share of demand planned on the scheme's own machines in any case"
    )
    adaptive_variant: bool = Field(
        default=False,
        description="the cheapest mix of variants whose mean accuracy is what the day still needs, in place of one",
    )
    replica_band: float = Field(
        default=1.5,
        ge=0.5,
        le=3.0,
        description="replicas that an option of a mix may have more than are wanted before any is given up",
    )
    accuracy_margin: float = Field(
        default=0.001, ge=0.0, le=0.05, description="a mix is aimed this far above the floor, share of right answers"
    )
    patient_headroom: float = Field(
        default=1.0,
        ge=0.3,
        le=1.5,
        description="capacity for a class with time to wait, relative to one in a hurry; autoscalers have none",
    )
    repay_s: float = Field(
        default=3600.0, ge=60.0, le=86400.0, description="a mix works an accuracy debt or credit off over this span"
    )
    overflow_fraction: float = Field(
        default=0.0, ge=0.0, le=1.0, description="share of requests that would wait too long sent to serverless"
    )
    patient_overflow: float = Field(
        default=1.0, ge=0.0, le=1.0, description="that share for a class with time to wait, relative to the others'"
    )
    miss_budget: float = Field(
        default=0.0, ge=0.0, le=1.0, description="share of the misses a day permits let happen in place of such calls"
    )
    overflow_slack: float = Field(
        default=0.6, ge=0.0, le=2.0, description="wait called too long, share of SLO - service - network"
    )
    batch_slack: float = Field(
        default=0.5, ge=0.05, le=1.0, description="largest share of an SLO that two batches in a row may take"
    )


ADDED_LEVERS = frozenset(Levers.model_fields) - frozenset((*FixedChoice.model_fields, "batch_slack"))
"""Settings that were added to what was published; a scheme that has one of its own sets its default.

Batches are no lever of a scheme: replicas form them, whoever decides how many there are.
"""


def added_levers(model: type[BaseModel]) -> tuple[str, ...]:
    """Settings of a scheme that were added to its publication, in their order; none where it is as published."""
    if not issubclass(model, Levers):
        return ()
    fields = model.model_fields
    own = {name for name in ADDED_LEVERS if fields[name].default != Levers.model_fields[name].default}
    if "overflow_fraction" in own:
        own.add("overflow_slack")  # which waits are too long is part of sending them to serverless
    return tuple(name for name in fields if name in ADDED_LEVERS - own)
