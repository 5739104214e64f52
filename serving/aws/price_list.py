"""What AWS asks for machines and functions now, and what machines are, by its own services.

Source:
    AWS Price List query API (`GetProducts`), EC2 `DescribeSpotPriceHistory` and `DescribeInstanceTypes`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from serving.aws.faults import AwsError, Fault, call

HOME_REGION = "us-east-1"
"""Of the price list's service, which answers for all regions."""

_PRODUCT = "Linux/UNIX"


@dataclass(frozen=True)
class Asked:
    """One figure and where it is from."""

    value: float
    source: str


class PriceList:
    """Prices and shapes in one region.

    Args:
        pricing: Client of the price list.
        ec2: Client of EC2.
        region: Whose prices are asked for.
        day: ISO date of today, which is told with each figure.
    """

    def __init__(self, pricing: Any, ec2: Any, region: str, day: str) -> None:
        self._pricing, self._ec2, self._region, self._day = pricing, ec2, region, day

    def on_demand(self, instance_type: str) -> Asked:
        """USD an hour of a Linux machine.

        Raises:
            AwsError: No answer, a refusal, or no such price.
        """
        wanted = {
            "instanceType": instance_type,
            "regionCode": self._region,
            "operatingSystem": "Linux",
            "tenancy": "Shared",
            "preInstalledSw": "NA",
            "capacitystatus": "Used",
            "licenseModel": "No License required",
        }
        return self._price("AmazonEC2", wanted, "Hrs", f"on-demand {instance_type}")

    def spot(self, instance_type: str, zone: str) -> Asked:
        """USD an hour of a Linux spot machine, the last that was paid in a zone.

        Raises:
            AwsError: As `on_demand`.
        """
        found = call(
            self._ec2,
            "describe_spot_price_history",
            InstanceTypes=[instance_type],
            AvailabilityZone=zone,
            ProductDescriptions=[_PRODUCT],
            StartTime=datetime.now(UTC),
        )["SpotPriceHistory"]
        if not found:
            raise AwsError(Fault.REFUSED, f"no spot price of {instance_type} in {zone}")
        last = max(found, key=lambda one: one["Timestamp"])
        at = last["Timestamp"].strftime("%Y-%m-%d %H:%M")
        return Asked(float(last["SpotPrice"]), f"EC2 spot price of {instance_type} in {zone} since {at}, {self._day}")

    def shape(self, instance_type: str) -> tuple[Asked, Asked]:
        """VCPUs and memory (GiB) of a machine.

        Raises:
            AwsError: As `on_demand`.
        """
        found = call(self._ec2, "describe_instance_types", InstanceTypes=[instance_type])["InstanceTypes"]
        if not found:
            raise AwsError(Fault.REFUSED, f"no instance type {instance_type}")
        source = f"EC2 instance type {instance_type}, {self._region}, {self._day}"
        vcpus, memory_mib = found[0]["VCpuInfo"]["DefaultVCpus"], found[0]["MemoryInfo"]["SizeInMiB"]
        return Asked(float(vcpus), source), Asked(float(memory_mib) / 1024.0, source)

    def functions(self, architecture: str) -> Mapping[str, Asked]:
        """USD of Lambda, by the catalog's fields; the first tier where there are several.

        Args:
            architecture: `x86_64` or `arm64`.

        Raises:
            AwsError: As `on_demand`.
        """
        end = "-ARM" if architecture == "arm64" else ""
        groups = {
            "usd_per_gb_s": (f"AWS-Lambda-Duration{end}", "Lambda-GB-Second"),
            "usd_per_request": (f"AWS-Lambda-Requests{end}", "Requests"),
            "provisioned_usd_per_gb_s": (f"AWS-Lambda-Provisioned-Concurrency{end}", "Lambda-GB-Second"),
            "provisioned_compute_usd_per_gb_s": (f"AWS-Lambda-Duration-Provisioned{end}", "Lambda-GB-Second"),
        }
        return {
            field: self._price("AWSLambda", {"regionCode": self._region, "group": group}, unit, group)
            for field, (group, unit) in groups.items()
        }

    def _price(self, service: str, wanted: Mapping[str, str], unit: str, what: str) -> Asked:
        """The one price of what is wanted; several of one size are none."""
        filters = [{"Type": "TERM_MATCH", "Field": key, "Value": value} for key, value in wanted.items()]
        answer = call(self._pricing, "get_products", ServiceCode=service, Filters=filters, FormatVersion="aws_v1")
        prices, published = set(), ""
        for text in answer["PriceList"]:
            product = json.loads(text)
            published = str(product.get("publicationDate", ""))[:10]
            prices |= {usd for usd, its in _first_tier(product) if its.lower() == unit.lower() and usd > 0.0}
        if len(prices) != 1:
            raise AwsError(Fault.REFUSED, f"price of {what} in {self._region}: expected one, got {sorted(prices)}")
        since = f", published {published}" if published else ""
        return Asked(prices.pop(), f"AWS Price List, {what}, {self._region}{since}, {self._day}")


def _first_tier(product: Mapping[str, Any]) -> Iterator[tuple[float, str]]:
    for offer in product["terms"].get("OnDemand", {}).values():
        for one in offer["priceDimensions"].values():
            if str(one.get("beginRange", "0")) in ("0", "0.0"):
                yield float(one["pricePerUnit"]["USD"]), str(one["unit"])
