"""The levers and limits that every solver-based rival has."""

from __future__ import annotations

from pydantic import Field

from controller.config import StrictModel


class SolverSettings(StrictModel):
    """Settings of every solver-based rival; spans are divided by the scenario's speed, the solver's limit is not."""

    replan_s: float = Field(default=60.0, ge=10.0, le=600.0, description="seconds between solves")
    mip_gap: float = Field(default=0.01, ge=0.0, le=0.2, description="relative gap at which a solve may stop")
    limit_s: float = Field(default=1.0, ge=0.01, le=60.0, description="wall-clock limit of one solve, seconds")
    quantile: float = Field(
        default=0.9, ge=0.05, le=0.999, description="quantile of the largest rate over the horizon planned for"
    )
    headroom: float = Field(
        default=1.25, ge=0.7, le=3.0, description="capacity over that demand; leaves room for queueing"
    )
    patient_headroom: float = Field(
        default=1.0, ge=0.3, le=1.5, description="headroom of a class with time to wait, relative to `headroom`"
    )
    backlog_s: float = Field(
        default=60.0, ge=5.0, le=1200.0, description="seconds in which queued requests are worked off"
    )
    accuracy_margin: float = Field(
        default=0.001, ge=0.0, le=0.05, description="aimed this far above a floor, share of right answers"
    )
    repay_s: float = Field(
        default=3600.0, ge=60.0, le=86400.0, description="an accuracy debt or credit is worked off over this span"
    )
    spot_share: float = Field(
        default=0.8, ge=0.0, le=1.0, description="largest share of load above the on-demand part planned on spot"
    )
    pool_share: float = Field(
        default=0.5, ge=0.1, le=1.0, description="largest share of the load planned on one spot pool"
    )
    over_provision: float = Field(
        default=1.2, ge=1.0, le=3.0, description="spot capacity per capacity wanted, against preemption"
    )
    on_demand_floor: float = Field(
        default=0.1, ge=0.0, le=1.0, description="share of the load planned on demand in any case"
    )
    scale_in_s: float = Field(
        default=300.0, ge=0.0, le=7200.0, description="time constant with which machines too many are given up"
    )
    overflow_fraction: float = Field(
        default=0.9, ge=0.0, le=1.0, description="share of requests that would wait too long sent to serverless"
    )
    patient_overflow: float = Field(
        default=1.0, ge=0.0, le=1.0, description="that share for a class with time to wait, relative to the others'"
    )
    miss_budget: float = Field(
        default=0.0, ge=0.0, le=1.0, description="share of the misses a day permits let happen in place of such calls"
    )
    overflow_slack: float = Field(
        default=0.6, ge=0.0, le=2.0, description="wait called too long, as a share of SLO - service - network"
    )
    batch_slack: float = Field(
        default=0.5, ge=0.05, le=1.0, description="largest share of an SLO that two batches in a row may take"
    )
    shed_slack: float = Field(
        default=1.0,
        ge=0.1,
        le=10.0,
        description="a class's queue limit, in slacks of work at the capacity it has; more, so that serverless can be "
        "asked, on a day that has spent its permitted misses",
    )
    patient_shed: float = Field(
        default=1.0,
        ge=0.05,
        le=2.0,
        description="queue limit of a class with time to wait, relative to `shed_slack`",
    )

    @property
    def most_on_spot(self) -> float:
        """Largest share of the load on spot."""
        return (1.0 - self.on_demand_floor) * self.spot_share
