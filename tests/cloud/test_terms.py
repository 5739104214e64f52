"""Terms of an account: what they ask for, and that mistakes name field, value and expectation."""

from pathlib import Path

import pytest

import serving
from controller.catalog import load_catalog
from controller.config import parse_config
from controller.errors import ConfigError
from serving.aws.terms import AwsTerms, load_terms, purchases

ELSEWHERE = {"instance_type": "c5.large", "zone": "us-east-1c"}
EXAMPLE = Path(serving.__file__).parent / "deploy" / "aws-terms.yaml"


def terms(**changes):
    fields = {
        "region": "us-east-1",
        "image_id": "ami-1",
        "subnets": {"us-east-1a": "subnet-1", "us-east-1f": "subnet-2"},
        "security_groups": ["sg-1"],
        "join_address": "10.0.0.5:6379",
    }
    return parse_config({**fields, **changes}, AwsTerms, "aws.yaml")


def test_example_is_valid_and_buys_a_pool_in_its_order():
    buys = purchases(load_terms(EXAMPLE), load_catalog("demo"))
    assert [one.instance_type for one in buys["c5-large-spot"].order] == ["c5.large", "c5.large", "c5a.large"]
    assert buys["c5-large-spot"].is_spot
    assert not buys["c5-xlarge"].is_spot


def test_pool_is_bought_as_the_catalog_says_a_pool_without_a_zone_in_any():
    buys = purchases(terms(), load_catalog("demo"))
    assert set(buys) == {"c5-large", "c5-large-spot", "c5-xlarge"}
    assert [(one.instance_type, one.zone) for one in buys["c5-large-spot"].order] == [("c5.large", "us-east-1f")]
    assert [one.zone for one in buys["c5-xlarge"].order] == ["us-east-1a", "us-east-1f"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"region": "east"}, "region"),
        ({"image_id": "image"}, "image_id"),
        ({"join_address": "nowhere"}, "join_address"),
        ({"subnets": {}}, "subnets"),
        ({"secret_key": "x"}, "secret_key"),
        ({"tags": {"provisor:run": "x"}}, "tags"),
        ({"pools": {"c5-large": {"order": [ELSEWHERE]}}}, "pools.c5-large.order"),
    ],
)
def test_mistake_names_the_field(changes, named):
    with pytest.raises(ConfigError, match=named):
        terms(**changes)


def test_pool_that_the_catalog_lacks_is_named():
    order = [{"instance_type": "c5.large", "zone": "us-east-1a"}]
    with pytest.raises(ConfigError, match=r"aws\.pools: expected a machine pool .*c5-xlarge.*, got 'another'"):
        purchases(terms(pools={"another": {"order": order}}), load_catalog("demo"))


def test_zone_without_a_subnet_is_named():
    with pytest.raises(ConfigError, match=r"c5-large-spot.*us-east-1f"):
        purchases(terms(subnets={"us-east-1a": "subnet-1"}), load_catalog("demo"))
