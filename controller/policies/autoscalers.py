"""Autoscalers that platforms ship: Ray Serve's and Kubernetes', by their published arithmetic.

Both scale a deployment by what they measure of it. Here a deployment is the replicas of a class's fixed variant, and
its requests go to it alone; with `adaptive_variant` all replicas are one deployment, counted by capacity, whose size
the cheapest mix of variants then fills. Either starts with what the scenario's mean rate needs at full use, as every
scheme here starts from the mean rate.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field

from controller.policies.levers import Levers
from controller.policies.scheme import NO_AUTOSCALER, Scheme
from controller.rival_arrays import AGGREGATIONS


class RayServeSettings(Levers):
    """`ray_serve`: Ray Serve's default autoscaler (`autoscaling_policy.py` and `config.py` of Ray 2.60).

    As published: replicas = ongoing requests / target, once more (or fewer) have been wanted for a delay. What it
    measures is what is in service and queued in the router, averaged over the look-back period; it decides every tick
    instead of every 0.1 s. Defaults are those of `AutoscalingConfig.default()`. Added: `Levers`.
    """

    target_ongoing_requests: float = Field(
        default=2.0, ge=0.05, le=20.0, description="requests in service and queued per replica"
    )
    upscale_delay_s: float = Field(default=30.0, ge=0.0, le=600.0, description="more must be wanted this long")
    downscale_delay_s: float = Field(default=600.0, ge=0.0, le=7200.0, description="fewer must be wanted this long")
    downscale_to_zero_delay_s: float | None = Field(
        default=None, ge=0.0, le=7200.0, description="the same for the last replica; default: downscale_delay_s"
    )
    upscaling_factor: float = Field(default=1.0, ge=0.1, le=5.0, description="part of a step up that is made")
    downscaling_factor: float = Field(default=1.0, ge=0.1, le=5.0, description="part of a step down that is made")
    look_back_period_s: float = Field(
        default=30.0, ge=10.0, le=600.0, description="ongoing requests are summed up over this span"
    )
    aggregation_function: Literal["mean", "max", "min"] = Field(default="mean", description="and in this way")
    min_replicas: int = Field(default=1, ge=0, le=50, description="fewest replicas of a deployment")
    max_replicas: int = Field(default=100, ge=1, le=1000, description="most replicas; the fewest win over it")


class HpaSettings(Levers):
    """`hpa`: the Kubernetes HorizontalPodAutoscaler (autoscaling/v2, its documented algorithm and default behaviour).

    As published: replicas = ceil(ready x utilisation / target) outside a tolerance; replicas that start count as idle
    where more are wanted. Then the least of what was wanted over a window up, the most over a window down, and per
    period no more than the larger of a percentage and a number. Utilisation is the busy share of credits in the last
    tick, and it decides every tick instead of every 15 s; the most replicas, which a user must name, are Ray's 100.
    Added: `Levers`.
    """

    target_utilisation: float = Field(
        default=0.8, ge=0.05, le=1.0, description="busy share aimed at; 80 % where a user names none"
    )
    tolerance: float = Field(default=0.1, ge=0.0, le=0.5, description="a ratio to the target this near to 1 is kept")
    scale_up_window_s: float = Field(default=0.0, ge=0.0, le=1800.0, description="the least wanted over it counts")
    scale_down_window_s: float = Field(default=300.0, ge=0.0, le=3600.0, description="the most wanted over it counts")
    scale_up_percent: float = Field(default=100.0, ge=0.0, le=900.0, description="most growth per period, %")
    scale_up_replicas: int = Field(default=4, ge=0, le=100, description="or this many replicas, if that is more")
    scale_up_period_s: float = Field(default=15.0, ge=10.0, le=1800.0, description="period of growth")
    scale_down_percent: float = Field(default=100.0, ge=0.0, le=100.0, description="most reduction per period, %")
    scale_down_replicas: int = Field(default=0, ge=0, le=100, description="or this many replicas, if that is more")
    scale_down_period_s: float = Field(default=15.0, ge=10.0, le=1800.0, description="period of reduction")
    min_replicas: int = Field(default=1, ge=0, le=50, description="fewest replicas of a deployment")
    max_replicas: int = Field(default=100, ge=1, le=1000, description="most replicas; the fewest win over it")


class RayServePolicy(Scheme[RayServeSettings]):
    """`ray_serve`; see `RayServeSettings`."""

    kind = "ray_serve"
    Settings = RayServeSettings

    def numbers(self) -> dict[str, Any]:
        """The autoscaler."""
        given = self.settings
        speed = self.setting.scenario.speed
        to_zero_s = (
            given.downscale_delay_s if given.downscale_to_zero_delay_s is None else given.downscale_to_zero_delay_s
        )
        scaler = NO_AUTOSCALER._replace(
            target=given.target_ongoing_requests,
            min_replicas=given.min_replicas,
            max_replicas=given.max_replicas,
            up_delay_s=given.upscale_delay_s / speed,
            down_delay_s=given.downscale_delay_s / speed,
            to_zero_delay_s=to_zero_s / speed,
            up_factor=given.upscaling_factor,
            down_factor=given.downscaling_factor,
            look_back_ticks=self.ticks(given.look_back_period_s, least=1),
            aggregation=AGGREGATIONS.index(given.aggregation_function),
        )
        return {"autoscaler": scaler}


class HpaPolicy(Scheme[HpaSettings]):
    """`hpa`; see `HpaSettings`."""

    kind = "hpa"
    Settings = HpaSettings

    def numbers(self) -> dict[str, Any]:
        """The autoscaler."""
        given = self.settings
        tick_s = self.setting.scenario.control.tick_s
        scaler = NO_AUTOSCALER._replace(
            target=given.target_utilisation,
            min_replicas=given.min_replicas,
            max_replicas=given.max_replicas,
            tolerance=given.tolerance,
            up_window_ticks=self.ticks(given.scale_up_window_s),
            down_window_ticks=self.ticks(given.scale_down_window_s),
            up_percent=given.scale_up_percent,
            up_replicas=given.scale_up_replicas,
            up_period_ticks=math.ceil(given.scale_up_period_s / tick_s),
            down_percent=given.scale_down_percent,
            down_replicas=given.scale_down_replicas,
            down_period_ticks=math.ceil(given.scale_down_period_s / tick_s),
        )
        return {"autoscaler": scaler}
