"""What the stand-in's account holds from the start, as terms of a run."""

import itertools
from functools import cache

from experiments.cloud.aws_stand_in import client
from serving.aws.machines import Machines
from serving.aws.terms import AwsTerms, Choice, Purchase

_COUNT = itertools.count()
IMAGE = "ami-12c6146b"
ZONES = ("us-east-1a", "us-east-1b")
KINDS = (Choice(instance_type="c5.large", zone=ZONES[0]), Choice(instance_type="c5.xlarge", zone=ZONES[1]))
POOLS = ("od", "spot")


def terms_of(aws):
    return _terms_at(aws.plain_url)


@cache
def _terms_at(url):
    ec2 = client("ec2", url)
    subnets = {one["AvailabilityZone"]: one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]}
    return AwsTerms(
        region="us-east-1",
        image_id=IMAGE,
        subnets=subnets,
        security_groups=(ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"],),
        join_address="10.0.0.1:6379",
        tags={"team": "serving"},
    )


def buys_of(terms, order=KINDS):
    return {name: Purchase(pool=name, is_spot=name == "spot", image_id=terms.image_id, order=order) for name in POOLS}


def machines_of(aws, order=KINDS, run=None, **more):
    terms = terms_of(aws)
    return Machines(aws.client("ec2"), run or aws.run, terms, buys_of(terms, order), **more)


def kind_of(aws, choice):
    """A choice as the behaviour counts its capacity."""
    return choice.instance_type, terms_of(aws).subnets[choice.zone]


class Account:
    """The stand-in, emptied, and a run that no other test has used: what is terminated is listed for ever."""

    def __init__(self, running):
        running.empty()
        self.run = f"run-{next(_COUNT)}"
        self.url, self.plain_url, self.behaviour = running.url, running.plain_url, running.behaviour
        self.client, self.there = running.client, running.there
