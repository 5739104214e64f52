"""A catalog with the prices and shapes of today: what AWS answers replaces a figure, else the last one stays."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from controller.catalog import Catalog, Market, ResourcePool
from controller.config import parse_config
from experiments.calibrated import document_of
from experiments.catalog_derivation import Entry, measured
from experiments.catalog_figures import to_yaml
from serving.aws.faults import AwsError
from serving.aws.price_list import Asked, PriceList

_DATE = re.compile(r"\b(20\d\d)-(\d\d)(?:-(\d\d))?\b")


@dataclass(frozen=True)
class Refreshed:
    """One figure of one pool."""

    pool: str
    field: str
    before: float
    after: float
    source: str  # of the figure that stands now
    trouble: str = ""  # why the last one was kept; empty where it is new

    @property
    def is_kept(self) -> bool:
        """Whether it is the last one, because there is no new one."""
        return bool(self.trouble)


def refreshed(catalog: Catalog, prices: PriceList, region: str, architecture: str) -> tuple[Entry, list[Refreshed]]:
    """The catalog as plain values, and what became of each figure that could be asked for.

    Args:
        catalog: To refresh.
        prices: Of the region.
        region: Pools at other sites are left alone.
        architecture: Of functions.

    Raises:
        ConfigError: The new figures make no valid catalog.
    """
    document: dict[str, Any] = document_of(catalog)
    rows: list[Refreshed] = []
    for pool, entry in zip(catalog.pools, document["pools"], strict=True):
        if pool.site != region:
            continue
        for fields, ask in _questions(pool, prices, architecture):
            try:
                answers, trouble = ask(), ""
            except AwsError as error:
                answers, trouble = {}, error.text
            for field in fields:
                last = entry.get(field)
                if last is None:
                    continue
                new = answers.get(field)
                if new is not None:
                    entry[field] = measured(new.value, new.source)
                now = entry[field]
                source = now.get("measured") or now.get("derived")
                rows.append(Refreshed(pool.name, field, last["value"], now["value"], source, trouble))
    parse_config(document, Catalog, "refreshed catalog")
    return document, rows


def refreshed_yaml(document: Entry, catalog: Catalog, region: str, day: str) -> str:
    """Text of the refreshed catalog.

    Args:
        document: As `refreshed` gives it.
        catalog: That it was.
        region: Asked for.
        day: ISO date of today.
    """
    head = f"# Written by `provisor catalog refresh` on {day} from catalog '{catalog.name}', for {region}.\n"
    return to_yaml(document, head + "# Figures that AWS was not asked for, or did not answer, are that catalog's.\n")


def age_days(source: str, day: date) -> int | None:
    """Days since the last date in a figure's provenance; None where there is none. A month counts from its first."""
    found = [date(int(y), int(m), int(d or 1)) for y, m, d in _DATE.findall(source) if 1 <= int(m) <= 12]
    return (day - max(found)).days if found else None


def _questions(
    pool: ResourcePool, prices: PriceList, architecture: str
) -> Iterator[tuple[tuple[str, ...], Callable[[], Mapping[str, Asked]]]]:
    """What can be asked for a pool: the fields, and who asks."""
    if pool.market is Market.SERVERLESS:
        fields = ("usd_per_gb_s", "usd_per_request", "provisioned_usd_per_gb_s", "provisioned_compute_usd_per_gb_s")
        yield fields, lambda: prices.functions(architecture)
        return
    if pool.market is Market.SPOT:
        zone = pool.zone or ""
        yield ("price_usd_per_hour",), lambda: {"price_usd_per_hour": prices.spot(pool.instance_type, zone)}
    else:
        yield ("price_usd_per_hour",), lambda: {"price_usd_per_hour": prices.on_demand(pool.instance_type)}
    yield (
        ("vcpus", "memory_gb"),
        lambda: dict(zip(("vcpus", "memory_gb"), prices.shape(pool.instance_type), strict=True)),
    )
