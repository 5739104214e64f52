"""Prices and shapes by the calls' contracts, as botocore's stubs hold them; what is not answered stays as it was."""

import json
from datetime import UTC, date, datetime

import boto3
import pytest
from botocore.stub import ANY, Stubber
from click.testing import CliRunner

from controller.catalog import load_catalog
from experiments.catalog_commands import catalog
from experiments.catalog_refresh import age_days, refreshed, refreshed_yaml
from experiments.cloud.aws_stand_in import REGION
from serving.aws.faults import AwsError
from serving.aws.price_list import PriceList

NOWHERE = "http://127.0.0.1:9"
DAY = "2026-11-27"
GROUPS = {
    "AWS-Lambda-Duration": ("Lambda-GB-Second", 2e-5),
    "AWS-Lambda-Requests": ("Requests", 3e-7),
    "AWS-Lambda-Provisioned-Concurrency": ("Lambda-GB-Second", 5e-6),
    "AWS-Lambda-Duration-Provisioned": ("Lambda-GB-Second", 1e-5),
}


def own_client(service):
    credentials = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
    return boto3.client(service, region_name=REGION, endpoint_url=NOWHERE, **credentials)


def product(usd, unit, begin="0"):
    dimensions = {
        "a": {"beginRange": begin, "unit": unit, "pricePerUnit": {"USD": f"{usd:.10f}"}},
        "b": {"beginRange": "6000000000", "unit": unit, "pricePerUnit": {"USD": f"{usd / 2:.10f}"}},
    }
    offer = {"terms": {"OnDemand": {"o": {"priceDimensions": dimensions}}}, "publicationDate": "2026-11-20T00:00:00Z"}
    return json.dumps(offer)


class Aws:
    """Clients whose every call is a stub, in the order of the answers."""

    def __init__(self):
        self.pricing, self.ec2 = own_client("pricing"), own_client("ec2")
        self.stubs = {"pricing": Stubber(self.pricing), "ec2": Stubber(self.ec2)}
        for stub in self.stubs.values():
            stub.activate()
        self.prices = PriceList(self.pricing, self.ec2, "us-east-1", DAY)

    def machine(self, usd, kind):
        self.stubs["pricing"].add_response(
            "get_products",
            {"PriceList": [product(usd, "Hrs")]},
            {"ServiceCode": "AmazonEC2", "Filters": ANY, "FormatVersion": "aws_v1"},
        )
        return kind

    def shape(self, kind, vcpus, gib):
        told = {"InstanceType": kind, "VCpuInfo": {"DefaultVCpus": vcpus}, "MemoryInfo": {"SizeInMiB": gib * 1024}}
        self.stubs["ec2"].add_response("describe_instance_types", {"InstanceTypes": [told]}, {"InstanceTypes": [kind]})

    def spot(self, kind, zone, *usd):
        told = [
            {"SpotPrice": str(price), "Timestamp": datetime(2026, 11, 27, hour, tzinfo=UTC), "InstanceType": kind}
            for hour, price in enumerate(usd)
        ]
        asked = {"InstanceTypes": [kind], "AvailabilityZone": zone, "ProductDescriptions": ANY, "StartTime": ANY}
        self.stubs["ec2"].add_response("describe_spot_price_history", {"SpotPriceHistory": told}, asked)

    def functions(self):
        for unit, usd in GROUPS.values():
            asked = {"ServiceCode": "AWSLambda", "Filters": ANY, "FormatVersion": "aws_v1"}
            self.stubs["pricing"].add_response("get_products", {"PriceList": [product(usd, unit)]}, asked)


@pytest.fixture
def aws():
    return Aws()


def test_price_is_that_of_the_first_tier_with_its_source(aws):
    aws.machine(0.0857, "c5.large")
    asked = aws.prices.on_demand("c5.large")
    assert asked.value == pytest.approx(0.0857)
    assert asked.source == f"AWS Price List, on-demand c5.large, us-east-1, published 2026-11-20, {DAY}"


def test_last_spot_price_counts(aws):
    aws.spot("c5.large", "us-east-1f", 0.03, 0.04, 0.035)
    assert aws.prices.spot("c5.large", "us-east-1f").value == pytest.approx(0.035)


@pytest.mark.parametrize("prices", [[], [product(0.1, "Hrs"), product(0.2, "Hrs")], [product(0.1, "Quantity")]])
def test_none_or_several_prices_are_no_price(aws, prices):
    aws.stubs["pricing"].add_response("get_products", {"PriceList": prices})
    with pytest.raises(AwsError, match="price of on-demand c5.large in us-east-1: expected one, got"):
        aws.prices.on_demand("c5.large")


def test_catalog_gets_the_figures_of_today_and_keeps_the_rest(aws):
    before = load_catalog("demo")
    aws.machine(0.09, "c5.large")
    aws.shape("c5.large", 2, 4)
    aws.spot("c5.large", "us-east-1f", 0.04)
    aws.shape("c5.large", 2, 4)
    aws.stubs["pricing"].add_client_error("get_products", "ThrottlingException", "slow down")
    aws.shape("c5.xlarge", 4, 8)
    aws.functions()
    document, rows = refreshed(before, aws.prices, "us-east-1", "x86_64")
    pools = {pool["name"]: pool for pool in document["pools"]}
    assert pools["c5-large"]["price_usd_per_hour"]["value"] == pytest.approx(0.09)
    assert pools["c5-large-spot"]["price_usd_per_hour"]["value"] == pytest.approx(0.04)
    assert pools["lambda-3008"]["usd_per_gb_s"]["value"] == pytest.approx(2e-5)
    last = before.pools[2].price_usd_per_hour
    assert pools["c5-xlarge"]["price_usd_per_hour"] == {"value": last.value, "measured": last.measured}
    (kept,) = [row for row in rows if row.is_kept]
    assert (kept.pool, kept.field) == ("c5-xlarge", "price_usd_per_hour")
    assert "slow down" in kept.trouble
    assert document["profiles"] == before.model_dump(mode="json", exclude_unset=True)["profiles"]
    assert refreshed_yaml(document, before, "us-east-1", DAY).startswith("# Written by `provisor catalog refresh`")
    for stub in aws.stubs.values():
        stub.assert_no_pending_responses()


@pytest.mark.parametrize(
    ("source", "days"),
    [("generated 2026-11-20", 7), ("a 2025-06 and b 2026-11-01", 26), ("from memory", None), ("page 2026-11", 26)],
)
def test_age_is_that_of_the_last_date_in_the_provenance(source, days):
    assert age_days(source, date(2026, 11, 27)) == days


def test_without_an_answer_all_is_kept_and_its_age_told(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stand-in")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "stand-in")
    out = tmp_path / "today.yaml"
    words = ["refresh", "demo", "--out", str(out), "--endpoint-url", NOWHERE]
    result = CliRunner().invoke(catalog, words, standalone_mode=False)
    assert result.exception is None, result.output
    assert "0 figures of today" in result.output
    assert "days old: get_products" in result.output
    assert load_catalog(out).pools == load_catalog("demo").pools
