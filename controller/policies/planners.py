"""Schemes that choose hardware by load and price: MArk, INFaaS, and a static diverse pool in the manner of RIBBON.

Their papers are known to us by abstracts and, for MArk, by constants of the authors' public code; the rest is our
reading, stated on the settings.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from controller.policies.levers import Levers
from controller.policies.scheme import Scheme


class MarkSettings(Levers):
    """`mark`: MArk's greedy predictive planner, with serverless for what machines cannot serve in time.

    Source: "MArk: Exploiting Cloud Services for Cost-Effective, SLO-Aware Machine Learning Inference Serving" (USENIX
    ATC 2019) and constants of `marcoszh/MArk-Project`. As published: it plans every 60 s for 1.2 times the rate
    forecast over the launch delay, adds instances one by one, always the type of least cost per request of the demand
    left, and charges a launch as 180 s of its price; serverless takes what overflows. Our reading: the forecast (there
    an LSTM) is a line through the last minutes, never below the rate now, and the launch is spread over
    `amortised_s`. Added: the rest of `Levers`, and a cool-down.
    """

    headroom: float = Field(default=1.2, ge=0.3, le=5.0, description="capacity (at full use) over the forecast")
    interval_s: float = Field(default=60.0, ge=10.0, le=600.0, description="the demand is planned anew this often")
    window_s: float = Field(default=600.0, ge=30.0, le=3600.0, description="window of the forecast's line")
    launch_overhead_s: float = Field(
        default=180.0, ge=0.0, le=3600.0, description="rent for this long is charged for a launch"
    )
    amortised_s: float = Field(default=3600.0, ge=60.0, le=86400.0, description="use over which that charge is spread")
    cooldown_s: float = Field(
        default=0.0, ge=0.0, le=7200.0, description="less must be wanted this long before scaling in"
    )
    overflow_fraction: float = Field(
        default=1.0, ge=0.0, le=1.0, description="share of requests that would wait too long sent to serverless"
    )


class InfaasSettings(Levers):
    """`infaas`: per class the cheapest variant on the cheapest hardware at its present load.

    Source: "INFaaS: Automated Model-less Inference Serving" (USENIX ATC 2021), by its abstract and common description.
    As published: callers state accuracy and latency, never a model; a variant-and-hardware pair that meets both is
    replicated, or upgraded to a pair that serves the new load for less, when load passes a threshold of capacity, and
    downgraded or given up after some slots of less. Our reading: cost is the rent of whole machines at the present
    load, a slot is a tick, pairs are on-demand. With a mix of variants threshold and slots size the mix. Added:
    `Levers`.
    """

    load_threshold: float = Field(
        default=0.8, ge=0.2, le=1.4, description="load, as a share of capacity, above which it scales out"
    )
    idle_slots: int = Field(default=10, ge=0, le=360, description="ticks of less load before it scales in")


class RibbonSettings(Levers):
    """`ribbon`: one fixed pool of diverse machines, never resized.

    Source: "RIBBON: Cost-Effective and QoS-Aware Deep Learning Model Inference using a Diverse Pool of Cloud Computing
    Instances" (SC 2021). As published: one configuration of counts per instance type serves a stationary load, and
    Bayesian optimisation finds it. Here a tuner finds it, by numbers that mean the same in every catalog: capacity over
    the mean rate, and how much of it is on the second and third cheapest pool of a class's variant. Added: `Levers`;
    a mix of variants is fixed by the floors alone.
    """

    capacity: float = Field(default=2.0, ge=0.2, le=10.0, description="capacity (at full use) over the mean rate")
    second_share: float = Field(default=0.25, ge=0.0, le=1.0, description="share of it on the second cheapest pool")
    third_share: float = Field(
        default=0.0, ge=0.0, le=1.0, description="share on the third; shares above 1 in all are scaled down"
    )


class MarkPolicy(Scheme[MarkSettings]):
    """`mark`; see `MarkSettings`."""

    kind = "mark"
    Settings = MarkSettings

    def numbers(self) -> dict[str, Any]:
        """Spans in ticks, and the launch's charge as a share of rent."""
        given = self.settings
        return {
            "headroom": given.headroom,
            "cooldown_ticks": self.ticks(given.cooldown_s),
            "window_ticks": self.ticks(given.window_s, least=3),
            "interval_ticks": self.ticks(given.interval_s, least=1),
            "launch_overhead": given.launch_overhead_s / given.amortised_s,
        }


class InfaasPolicy(Scheme[InfaasSettings]):
    """`infaas`; see `InfaasSettings`."""

    kind = "infaas"
    Settings = InfaasSettings

    def numbers(self) -> dict[str, Any]:
        """Threshold and slots."""
        given = self.settings
        return {"high_utilisation": given.load_threshold, "cooldown_ticks": given.idle_slots}


class RibbonPolicy(Scheme[RibbonSettings]):
    """`ribbon`; see `RibbonSettings`."""

    kind = "ribbon"
    Settings = RibbonSettings
    ranks_by_batch = True

    def numbers(self) -> dict[str, Any]:
        """Capacity, and what each ranked pool has of it."""
        given = self.settings
        others = np.array([given.second_share, given.third_share])
        others = others / max(1.0, float(others.sum()))
        return {"headroom": given.capacity, "capacity_share": np.array([1.0 - others.sum(), *others])}
