"""A geo plan on a live Serve deployment: what each region's clients send, and the classes that answer it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from controller.compile import Setting
from controller.planners.geo.compiled import ROUNDING, GeoInstance, GeoPlan
from controller.planners.geo.plan import class_name
from experiments.placement.geo_setting import Stream, setting_of
from serving.data_version import DataVersion, Sent


def streams_of(instance: GeoInstance, plan: GeoPlan) -> tuple[Stream, ...]:
    """A class for every data version that a region sends: the router answers it where the plan has it answered."""
    return tuple(
        Stream(class_name(region.name, data), r, rate_rps)
        for r, region in enumerate(instance.problem.regions)
        for data, rate_rps in _sent_rps(instance, plan, r).items()
    )


def live_setting(instance: GeoInstance, plan: GeoPlan, most_instances: int) -> Setting:
    """The setting that the router and the replicas of a plan are made for.

    Args:
        instance: The problem.
        plan: Of it.
        most_instances: At a site; the plan's and those that a later one may want.
    """
    return setting_of(instance, most_instances=most_instances, streams=streams_of(instance, plan))


def mix_of(instance: GeoInstance, plan: GeoPlan, region: str, versions: Mapping[str, DataVersion]) -> tuple[Sent, ...]:
    """What a region's clients send.

    Args:
        instance: The problem.
        plan: Of it.
        region: Its name.
        versions: Encoders by the name of the data version.
    """
    r = [one.name for one in instance.problem.regions].index(region)
    return tuple(
        Sent(versions[data], class_name(region, data), rate_rps / float(instance.rate_rps[r]))
        for data, rate_rps in _sent_rps(instance, plan, r).items()
    )


def _sent_rps(instance: GeoInstance, plan: GeoPlan, r: int) -> dict[str, float]:
    """Requests a second of a region by the data version that they are sent as."""
    by_variant = plan.served_rps[r].sum(axis=0)
    found: dict[str, float] = {}
    for v in np.flatnonzero(by_variant > ROUNDING * instance.rate_rps[r]):
        data = instance.problem.variants[v].data
        found[data] = found.get(data, 0.0) + float(by_variant[v])
    return found
