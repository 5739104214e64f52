"""Schemes built around spot machines: SkyServe's SpotHedge and Tributary.

Their papers and SkyServe's documentation are known to us by what they state of the rules; what was filled in is our
reading, stated on the settings.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

from pydantic import Field

from controller.policies.levers import Levers
from controller.policies.scheme import NO_AUTOSCALER, Scheme

HOUR_S = 3600.0
DAY_S = 86400.0


class SpotHedgeSettings(Levers):
    """`spothedge`: over-provisioned spot spread over zones, covered on demand for as long as spot is missing.

    Source: "SkyServe: Serving AI Models across Regions and Clouds with Spot Instances" (arXiv 2411.01438) and the
    autoscalers and spot placer of SkyPilot's `sky/serve`. As published: the number of replicas follows the request rate
    after delays of 300 s up and 1200 s down; more spot than that is kept, each replica in the zone with fewest; zones
    that preempted or refused are avoided until they are proven or too few are left; on-demand replicas are launched at
    once for every spot replica that is not ready, and released when it is. Our reading: over-provision is a ratio
    instead of a number, an avoided zone is tried again after `avoid_s`, and zones are those of pools within
    `spot_spread` of the cheapest. Added: the rest of `Levers`.
    """

    spot_share: float = Field(default=1.0, ge=0.0, le=1.0, description="share of demand hedged on spot")
    over_provision: float = Field(
        default=1.25, ge=1.0, le=3.0, description="spot capacity per capacity wanted on spot, against preemption"
    )
    spot_spread: float = Field(
        default=1.0,
        ge=0.0,
        le=4.0,
        description="spot pools this much dearer than the cheapest are zones to choose from",
    )
    headroom: float = Field(
        default=1.2, ge=0.3, le=5.0, description="capacity (at full use) over the rate of the last minute"
    )
    upscale_delay_s: float = Field(default=300.0, ge=0.0, le=1800.0, description="more must be wanted this long")
    downscale_delay_s: float = Field(default=1200.0, ge=0.0, le=7200.0, description="fewer must be wanted this long")
    avoid_s: float = Field(
        default=3600.0, ge=0.0, le=86400.0, description="a zone that preempted or refused is avoided this long"
    )
    min_zones: int = Field(default=2, ge=0, le=8, description="with fewer zones left, avoided ones are tried again")
    min_replicas: int = Field(default=1, ge=0, le=50, description="fewest replicas of a class's variant")


class TributarySettings(Levers):
    """`tributary`: a portfolio of spot pools that survives its losses with some confidence, at least cost.

    Source: "Tributary: spot-dancing for elastic services with latency SLOs" (USENIX ATC 2018), by what its abstract
    states: it acquires spot from pools whose preemptions are little correlated, predicts their probability, and holds
    enough that the SLO is met after likely losses. Our reading: a pool's hazard is what was seen there against a prior;
    pools of one zone are lost together, zones apart; machines are bought one by one at the least rent per request of
    safe capacity (mean less deviations at the given confidence), on-demand machines being safe. Bids, and the refund of
    a preempted first hour, no longer exist. Added: the rest of `Levers`.
    """

    spot_share: float = Field(default=1.0, ge=0.0, le=1.0, description="share of demand given to the portfolio")
    headroom: float = Field(
        default=1.2, ge=0.3, le=5.0, description="capacity (at full use) over the rate of the last minute"
    )
    cooldown_s: float = Field(
        default=300.0, ge=0.0, le=7200.0, description="less must be wanted this long before scaling in"
    )
    confidence: float = Field(
        default=0.95, ge=0.5, le=0.9999, description="probability with which what survives meets the need"
    )
    loss_window_s: float = Field(
        default=180.0,
        ge=10.0,
        le=7200.0,
        description="losses within this span must be survived; a launch takes as long",
    )
    prior_losses_per_day: float = Field(
        default=1.0, ge=0.01, le=100.0, description="preemptions of a replica taken for granted before any was seen"
    )
    prior_hours: float = Field(
        default=24.0, ge=1.0, le=1000.0, description="weight of that against what was seen, replica-hours"
    )
    move_margin: float = Field(
        default=0.05, ge=0.0, le=1.0, description="a new machine must be this much cheaper than one that exists"
    )


class SpotHedgePolicy(Scheme[SpotHedgeSettings]):
    """`spothedge`; see `SpotHedgeSettings`."""

    kind = "spothedge"
    Settings = SpotHedgeSettings

    def numbers(self) -> dict[str, Any]:
        """Zones to avoid, and an autoscaler on the request rate."""
        given = self.settings
        speed = self.setting.scenario.speed
        scaler = NO_AUTOSCALER._replace(
            target=given.headroom,
            min_replicas=given.min_replicas,
            up_delay_s=given.upscale_delay_s / speed,
            down_delay_s=given.downscale_delay_s / speed,
            to_zero_delay_s=given.downscale_delay_s / speed,
        )
        return {"autoscaler": scaler, "avoid_s": given.avoid_s / speed, "min_zones": given.min_zones}


class TributaryPolicy(Scheme[TributarySettings]):
    """`tributary`; see `TributarySettings`."""

    kind = "tributary"
    Settings = TributarySettings

    def numbers(self) -> dict[str, Any]:
        """Confidence as deviations of the normal law, and the hazard's prior at the run's speed."""
        given = self.settings
        speed = self.setting.scenario.speed
        return {
            "headroom": given.headroom,
            "cooldown_ticks": self.ticks(given.cooldown_s),
            "confidence_z": NormalDist().inv_cdf(given.confidence),
            "loss_window_s": given.loss_window_s / speed,
            "prior_losses_per_s": given.prior_losses_per_day / DAY_S * speed,
            "prior_s": given.prior_hours * HOUR_S / speed,
            "launch_overhead": given.move_margin,
        }
