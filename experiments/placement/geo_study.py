"""The study of joint model and data adaptation: five regions and five sites, measured variants, real prices."""

from __future__ import annotations

import csv
import gzip
import math
import os
from dataclasses import dataclass
from pathlib import Path

from controller.errors import ConfigError, UsageError, mismatch
from controller.planners.geo.problem import GeoProblem, GeoSite, Region, Route
from experiments.placement.table import VariantTable

DATA_VARIABLE = "PROVISOR_DATA"
PRICES = "prices/aws_ec2_us_east_1.csv.gz"

REAL_PRICES = {"between zones": 0.01, "between regions": 0.02, "between far regions": 0.08, "to the internet": 0.09}
"""EC2's, $ per GB, in 2026 (usage.ai/blogs/aws/networking-cost/data-transfer-costs; for 0.08 finopsforge.com)."""

EGRESS_PRICES = tuple(sorted({round(10.0 ** (-3.0 + step / 3.0), 6) for step in range(10)} | set(REAL_PRICES.values())))
"""$ per GB between sites, 0.001 to 1, with those of EC2 among them."""

_FIBRE_KM_PER_S = 2.0e5
_DETOUR = 1.5
_LAST_MILE_S = 0.01
_BYTES_PER_S = 12.5e6  # of a client, as the default catalog assumes
_HOME_SHARE = REAL_PRICES["between zones"] / REAL_PRICES["between regions"]
_UTILISATION = 0.8


@dataclass(frozen=True)
class _Place:
    """A city with a region of clients and a site of instances.

    Attributes:
        name: Of both.
        latitude: Degrees.
        longitude: Degrees.
        instance_type: Of its site: one virtual CPU, which is a core on these types.
        rate_rps: Of its clients.
        loss: Accuracy that its clients give up, over that of the best variant.
        latency_s: Mean that they are promised.
    """

    name: str
    latitude: float
    longitude: float
    instance_type: str
    rate_rps: float
    loss: float
    latency_s: float


PLACES = (
    _Place("virginia", 38.9, -77.5, "c6g.medium", 2_500.0, 0.01, 0.30),
    _Place("oregon", 45.8, -119.7, "c7g.medium", 1_900.0, 0.02, 0.20),
    _Place("frankfurt", 50.1, 8.7, "m6g.medium", 2_500.0, 0.03, 0.30),
    _Place("tokyo", 35.7, 139.7, "c8g.medium", 1_900.0, 0.05, 0.20),
    _Place("sao-paulo", -23.5, -46.6, "m7g.medium", 1_250.0, 0.08, 0.30),
)


def data_folder() -> Path:
    """The directory of shared data.

    Raises:
        UsageError: `$PROVISOR_DATA` is not set.
    """
    data = os.environ.get(DATA_VARIABLE)
    if not data:
        raise UsageError(mismatch(DATA_VARIABLE, f"the directory that holds {PRICES}", data))
    return Path(data)


def instance_prices(names: list[str]) -> dict[str, float]:
    """On-demand $ per hour of instance types in us-east-1, from the list in `$PROVISOR_DATA`.

    Raises:
        UsageError: `$PROVISOR_DATA` is not set.
        ConfigError: The list is missing, or lacks a type.
    """
    path = data_folder() / PRICES
    try:
        with gzip.open(path, "rt", newline="", encoding="utf-8") as stream:
            listed = {row["instance_type"]: row["ondemand_usd_h"] for row in csv.DictReader(stream)}
        return {name: float(listed[name]) for name in names}
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(f"{path}: expected on-demand prices of {', '.join(names)}, got: {error}") from error


def study_problem(table: VariantTable, usd_per_gb: float) -> GeoProblem:
    """The study at one egress price.

    Derived: a route's round trip is 10 ms and twice the great circle, with a detour of half as much, at the speed of
    light in fibre; traffic to the site at home costs half of that to others, as zones do to regions. Prices of
    instances are those of us-east-1 for five types, since the list has no other region; a core of each serves as fast
    as the one that was measured.

    Args:
        table: Measured variants.
        usd_per_gb: Of traffic to a site elsewhere.

    Raises:
        UsageError: `$PROVISOR_DATA` is not set.
        ConfigError: The prices are missing.
    """
    variants = table.variants()
    best = max(v.accuracy for v in variants)
    prices = instance_prices([place.instance_type for place in PLACES])
    return GeoProblem(
        name="five-cities",
        utilisation=_UTILISATION,
        instance_serves="variant",
        regions=tuple(
            Region(name=p.name, rate_rps=p.rate_rps, accuracy=best - p.loss, latency_s=p.latency_s) for p in PLACES
        ),
        sites=tuple(GeoSite(name=p.name, usd_per_hour=prices[p.instance_type]) for p in PLACES),
        routes=tuple(
            Route(
                region=a.name,
                site=b.name,
                rtt_s=_LAST_MILE_S + 2.0 * _DETOUR * _kilometres(a, b) / _FIBRE_KM_PER_S,
                bytes_per_s=_BYTES_PER_S,
                usd_per_gb=usd_per_gb * (_HOME_SHARE if a is b else 1.0),
            )
            for a in PLACES
            for b in PLACES
        ),
        variants=variants,
    )


def _kilometres(a: _Place, b: _Place) -> float:
    """Great circle between two places, by the haversine formula on a sphere of 6,371 km."""
    lat_a, lat_b = math.radians(a.latitude), math.radians(b.latitude)
    turn = math.sin((lat_b - lat_a) / 2) ** 2
    turn += math.cos(lat_a) * math.cos(lat_b) * math.sin(math.radians(b.longitude - a.longitude) / 2) ** 2
    return 2.0 * 6371.0 * math.asin(math.sqrt(turn))
