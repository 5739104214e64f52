"""The whole life of a fleet on EC2 over HTTP: bought as a mix, half the spot lost, replaced, scaled in, given back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from experiments.cloud.aws_stand_in import REGION, StandIn, client
from serving.aws.ec2_nodes import Ec2Nodes
from serving.aws.giving_back import give_back
from serving.aws.machines import Machines
from serving.aws.terms import AwsTerms, Choice, Purchase

IMAGE = "ami-12c6146b"
KINDS = (
    Choice(instance_type="c5.large", zone=f"{REGION}a"),
    Choice(instance_type="c5.xlarge", zone=f"{REGION}b"),
)
POOLS = ("od", "spot")
_FIRST, _FEWER = {"od": 2, "spot": 6}, {"od": 1, "spot": 2}
_STEP_S, _STEPS = 5.0, 40


@dataclass(frozen=True)
class Lifecycle:
    """What came of it, as the stand-in holds it.

    Attributes:
        bought: Machines of the first mix, by pool.
        lost: Spot machines that were taken.
        reported: Of these, those that the owner reported lost.
        replaced: Machines bought for them.
        scaled_in: Machines there after the need fell, by pool.
        left: Machines and templates there after all was given back.
    """

    bought: Mapping[str, int]
    lost: int
    reported: int
    replaced: int
    scaled_in: Mapping[str, int]
    left: int

    @property
    def is_right(self) -> bool:
        """Whether every step came out as wanted."""
        is_whole = self.bought == _FIRST and self.scaled_in == _FEWER
        return is_whole and self.reported == self.replaced == self.lost and self.left == 0


def terms_of(url: str) -> AwsTerms:
    """Terms in the account of a stand-in.

    Args:
        url: Of the stand-in.
    """
    ec2 = client("ec2", url)
    return AwsTerms(
        region=REGION,
        image_id=IMAGE,
        subnets={one["AvailabilityZone"]: one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]},
        security_groups=(ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"],),
        join_address="10.0.0.1:6379",
    )


def buys_of(terms: AwsTerms) -> dict[str, Purchase]:
    """An on-demand and a spot pool, each of two kinds."""
    return {name: Purchase(pool=name, is_spot=name == "spot", image_id=terms.image_id, order=KINDS) for name in POOLS}


def run_lifecycle(aws: StandIn) -> Lifecycle:
    """Runs it against a stand-in, which is emptied first.

    Args:
        aws: The stand-in.
    """
    aws.empty()
    return asyncio.run(_Life(aws).all())


class _Life:
    def __init__(self, aws: StandIn) -> None:
        self._aws, self._now_s = aws, 0.0
        terms = terms_of(aws.plain_url)
        self._machines = Machines(aws.client("ec2"), "lifecycle", terms, buys_of(terms))
        self._owner = Ec2Nodes(
            self._machines,
            POOLS,
            "lifecycle",
            self._joined,
            lambda: self._now_s,
            Random(0),
            join_timeout_s=300.0,
            settle_s=0.0,
        )
        self._lost: set[str] = set()

    async def all(self) -> Lifecycle:
        await self._follow(_FIRST)
        bought, first = self._counts(), len(self._aws.behaviour.created)
        taken = self._of("spot")[::2]
        self._aws.client("ec2").terminate_instances(InstanceIds=taken)
        await self._follow(_FIRST)
        replaced = len(self._aws.behaviour.created) - first
        await self._follow(_FEWER)
        scaled_in = self._counts()
        give_back(self._machines, clock=lambda: self._now_s, sleep=self._pass)
        templates = client("ec2", self._aws.plain_url).describe_launch_templates()["LaunchTemplates"]
        left = len(self._aws.there()) + len(templates)
        return Lifecycle(bought, len(taken), len(self._lost), replaced, scaled_in, left)

    async def _follow(self, wanted: Mapping[str, int]) -> None:
        """Until what is wanted is there and known, or for so many steps."""
        for _ in range(_STEPS):
            self._pass(_STEP_S)
            report = await self._owner.follow(wanted, frozenset())
            self._lost |= set(report.lost)
            await self._owner.settled()
            alive = {pool: len(nodes) for pool, nodes in report.alive.items()}
            if alive == wanted and self._counts() == wanted:
                return

    async def _joined(self) -> Mapping[str, str]:
        return {f"node-{one}": one for one in self._aws.there()}

    def _of(self, pool: str) -> list[str]:
        return sorted(one.instance_id for one in self._machines.all() if one.is_here and one.pool == pool)

    def _counts(self) -> dict[str, int]:
        there = set(self._aws.there())
        return {pool: sum(one in there for one in self._of(pool)) for pool in POOLS}

    def _pass(self, seconds: float) -> None:
        self._now_s += seconds
